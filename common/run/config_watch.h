/* Tells when a configuration file may have changed, on the control thread.
 *
 * Watched   the folder of each file, not the file: a ConfigMap's volume is changed by moving `..data` onto another folder, an editor
 *           writes beside the file and renames. Where a file is a link, the folder of what it leads to as well.
 * Together  what comes within 100 ms is one change, told at the latest a second after its first event; and every 30 s the files'
 *           status is looked at too, because some file systems tell nothing.
 * Judged    by nobody here: who is told reads the files and compares their content.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct control;
struct config_watch;

struct config_watch_options {
    const char *const *files; /* borrowed, as --config takes them */
    size_t count;
    uint64_t poll_ns;         /* 0: 30 s */
    void (*changed)(void *context);
    void *context;
};

/* 0 or a negative. What cannot be watched is looked at by the poll alone. */
int config_watch_new(struct control *control, const struct config_watch_options *options, struct config_watch **out_watch);
/* Accepts NULL. */
void config_watch_free(struct config_watch *watch);
/* As if something had changed. */
void config_watch_ask(struct config_watch *watch);
/* A file without the `file:` that the Collector's --config takes before it. */
const char *config_file_path(const char *file);
