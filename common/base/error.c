#include "common/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TRAIL_MAX 8

struct place {
    const char *file, *function;
    int line;
};

static _Thread_local struct {
    int error;
    unsigned count;
    struct place places[TRAIL_MAX];
} trail;

static void trail_add(const char *file, int line, const char *function)
{
    if (trail.count < TRAIL_MAX)
        trail.places[trail.count++] = (struct place){file, function, line};
}

int error_raise_at(int error, const char *file, int line, const char *function)
{
    trail.error = error;
    trail.count = 0;
    trail_add(file, line, function);
    return error;
}

int error_pass_at(int error, const char *file, int line, const char *function)
{
    if (error < 0)
        trail_add(file, line, function);
    return error;
}

int error_fold_at(int error, const char *file, int line, const char *function)
{
    if (error > 0)
        return error_raise_at(-EPROTO, file, line, function);
    return error_pass_at(error, file, line, function);
}

const char *error_trail(char *text, size_t size)
{
    size_t used = 0;
    int n;

    n = snprintf(text, size, "%s", trail.error ? strerror(-trail.error) : "no error");
    used = n > 0 ? (size_t)n : 0;
    for (unsigned i = 0; i < trail.count && used < size; i++) {
        n = snprintf(text + used, size - used, "%s%s:%d %s", i ? " < " : " at ",
            trail.places[i].file, trail.places[i].line, trail.places[i].function);
        used += n > 0 ? (size_t)n : 0;
    }
    return text;
}
