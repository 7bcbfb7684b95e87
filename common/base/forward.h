/* Which of a client's headers are carried on: a user's allow-list (tailrace.forward_headers and what other keys name). A receiver has one
 * of all that anybody after it wants, a link one of what its own backend is sent. Few names, so a list is searched. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/base/slice.h"

struct forward {
    const char *const *names; /* in any case; borrowed */
    size_t count;
};

/* name: in any case. forward: NULL names nothing. */
bool forward_wants(const struct forward *forward, struct slice name);
