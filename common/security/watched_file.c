/* Changes are seen by stat(2): of the file a path leads to in the end, so that a swapped symbolic link is a change too. The change
 * time is part of the mark: it moves even when a tool keeps the modification time. */
#include "common/security/watched_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/hash.h"

#define LOOKS_BETWEEN_TRIES 30 /* at one look a second: half a minute */

uint64_t file_mark(const char *path)
{
    struct stat st;
    uint64_t facts[6];

    if (!path)
        return 0;
    if (stat(path, &st) != 0)
        return (uint64_t)errno;
    facts[0] = (uint64_t)st.st_dev;
    facts[1] = (uint64_t)st.st_ino;
    facts[2] = (uint64_t)st.st_size;
    facts[3] = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    facts[4] = (uint64_t)st.st_ctim.tv_sec * 1000000000u + (uint64_t)st.st_ctim.tv_nsec;
    facts[5] = (uint64_t)st.st_mode;
    return hash_bytes(facts, sizeof(facts));
}

static int fail(const char *path, const char *reason, char *out_error, size_t error_size)
{
    (void)snprintf(out_error, error_size, "%s: %s", path, reason);
    return 1;
}

static int read_all(int fd, char *text, size_t len)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = read(fd, text + got, len - got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return ESTALE; /* it shrank under our hands; the next look reads it anew */
        got += (size_t)n;
    }
    return 0;
}

static int read_open(int fd, const char *path, char **out_text, size_t *out_len, char *out_error, size_t error_size)
{
    struct stat st;
    char *text;
    size_t len;
    int r;

    if (fstat(fd, &st) != 0)
        return fail(path, strerror(errno), out_error, error_size);
    if (S_ISDIR(st.st_mode))
        return fail(path, "is a directory, not a file", out_error, error_size);
    if (!S_ISREG(st.st_mode))
        return fail(path, "is not a regular file", out_error, error_size);
    if (st.st_size > (off_t)WATCHED_FILE_BYTES_MAX)
        return fail(path, "is larger than 4 MiB", out_error, error_size);
    len = (size_t)st.st_size;
    text = calloc(1, len + 1);
    if (!text)
        return fail(path, "out of memory", out_error, error_size);
    r = read_all(fd, text, len);
    if (r) {
        secret_free(text);
        return fail(path, strerror(r), out_error, error_size);
    }
    *out_text = text;
    *out_len = len;
    return 0;
}

int file_read(const char *path, char **out_text, size_t *out_len, char *out_error, size_t error_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* no waiting for the other end of a pipe */
    int r;

    if (fd < 0)
        return fail(path, strerror(errno), out_error, error_size);
    r = read_open(fd, path, out_text, out_len, out_error, error_size);
    (void)close(fd);
    return r;
}

void secret_free(char *text)
{
    if (!text)
        return;
    explicit_bzero(text, strlen(text));
    free(text);
}

bool file_watch_due(struct file_watch *watch, uint64_t mark)
{
    if (mark == watch->good_mark) {
        watch->bad_looks = 0;
        return false;
    }
    if (mark != watch->bad_mark)
        watch->bad_looks = 0;
    watch->bad_mark = mark;
    watch->bad_looks++;
    return watch->bad_looks <= 2 || watch->bad_looks % LOOKS_BETWEEN_TRIES == 0;
}

enum reload_outcome file_watch_result(struct file_watch *watch, uint64_t mark, bool good)
{
    if (good) {
        *watch = (struct file_watch){.good_mark = mark};
        return RELOAD_NEW;
    }
    return watch->bad_looks == 2 ? RELOAD_FAILED : RELOAD_SAME;
}
