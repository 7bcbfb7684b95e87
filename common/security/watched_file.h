/* Small files that are read whole, and again when they change: certificates, keys, tokens, password files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/security/reload.h"

#define WATCHED_FILE_BYTES_MAX (4u << 20) /* every system's bundle of authorities is far smaller */

/* A number that is another one when the file, its content or its place changed; also for a file that is missing. NULL: 0. */
uint64_t file_mark(const char *path);
/* The whole file with a NUL after it. 0, or 1 with path and reason in out_error. Free with secret_free. */
int file_read(const char *path, char **out_text, size_t *out_len, char *out_error, size_t error_size);
/* Wipes and frees; accepts NULL. */
void secret_free(char *text);

/* When to read again. A reading that fails is tried once more at the next look before it is called a failure: files may be half
 * written, or one of a pair not replaced yet. Later it is tried again now and then in silence: time heals a certificate that is
 * not valid yet. */
struct file_watch {
    uint64_t good_mark, bad_mark;
    unsigned bad_looks; /* at bad_mark */
};
/* mark: of all files together, taken before they are read. True: read them now, then tell file_watch_result. */
bool file_watch_due(struct file_watch *watch, uint64_t mark);
enum reload_outcome file_watch_result(struct file_watch *watch, uint64_t mark, bool good);
