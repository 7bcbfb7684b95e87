/* Whatever a file holds: reading it ends, and what is handed out lies in memory that can be read. */
#include "sampler/replay/replay_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/otlp/span_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct slice request)
{
    struct span_walk walk;
    struct span_ref span;

    span_walk_init(&walk, request);
    while (span_walk_next(&walk, &span))
        ;
}

/* Each record takes at least a byte, so there are no more records than bytes. */
static void read_all(const char *path, size_t size)
{
    struct replay_source *source = NULL;
    struct slice request;
    size_t records = 0;
    int r = replay_source_open(path, &source);

    while (r != REPLAY_E_FAILED && (r = replay_source_next(source, &request)) != REPLAY_E_END) {
        if (r == 0)
            walk(request);
        else if (*replay_source_error(source) == '\0')
            abort();
        if (++records > size * 1032 + 1) /* gzip's most */
            abort();
    }
    replay_source_close(source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("replay", MFD_CLOEXEC);
    char path[64];

    if (fd < 0 || (size > 0 && write(fd, data, size) != (ssize_t)size))
        abort();
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    read_all(path, size);
    (void)close(fd);
    return 0;
}
