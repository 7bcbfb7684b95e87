/* Reading the configuration again while the program runs: when a file changed, on SIGHUP, and by POST /reload.
 *
 * All of it is read and checked again, as at the start. Invalid: nothing changes, and why is logged and shown. Valid: the tier
 * puts in force what can change while it runs; keys that cannot keep their value, and are named until the program is started again.
 *
 * Generation  counts what was put in force, from 1 at the start. Hash: of the files' content, the same on all who read the same.
 * Owner       the control thread.
 * Logs        here is the boundary: config_reloaded, config_unchanged, config_refused.
 */
#pragma once

#include <stdint.h>

#include "common/config/config.h"
#include "common/metrics/metrics.h"

struct control;
struct config_reload;

/* Where a running program's configuration came from. */
struct config_source {
    const struct config_command_line *line; /* lives as long as the program */
    const struct config_node *root;         /* what it started with, likewise */
    uint64_t hash;                          /* of the files, taken before they were read */
};
uint64_t config_files_hash(const struct config_command_line *line); /* 0: one cannot be read */

struct config_paths {
    char **items;
    size_t count;
};
bool config_paths_have(const struct config_paths *paths, const char *pattern);

/* A configuration that was read and is to be put in force. */
struct config_try {
    struct config_context *context; /* apply takes it over when it returns 0, with root */
    const struct config_node *root;
    void *config;                   /* read's */
    uint64_t generation;
    struct config_paths changed;       /* live keys that are not as they are in force */
    struct config_paths needs_restart; /* others that are not as they were at the start; apply may add some */
};
void config_try_needs_restart(struct config_try *try, const char *path);

struct config_reload_tier {
    void *tier;
    const char *const *live; /* patterns of config_diff.h */
    /* Reads and checks as at the start. What it made in *out_config is given back by apply or release, whatever it returned. */
    int (*read)(void *tier, struct config_context *context, const struct config_node *root, uint64_t generation, void **out_config);
    /* Everything that can fail comes first: 0, and the new configuration is in force with context and config taken over; or
     * CONFIG_E_INVALID with the reasons in the context, and nothing was changed or taken. */
    int (*apply)(void *tier, struct config_try *try);
    void (*release)(void *tier, void *config);
};

/* source is borrowed. cell: the control thread's. */
int config_reload_new(struct control *control, const struct config_source *source, const struct config_reload_tier *tier,
    struct metrics_cell *cell, struct config_reload **out_reload);
/* Accepts NULL. */
void config_reload_free(struct config_reload *reload);
/* SIGHUP. */
void config_reload_on_hangup(struct config_reload *reload);
/* POST /reload: JSON in out. True: it was taken, or is in force already. */
bool config_reload_serve(struct config_reload *reload, struct text *out);
/* A JSON object for /status. Accepts NULL. */
void config_reload_status(const struct config_reload *reload, struct text *out);
