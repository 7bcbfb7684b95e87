/* A fuzz target's input as several pieces: each stands behind two bytes of its length, the last one may be shorter than they say. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/base/slice.h"

/* The next piece, in memory of its own size, which is the caller's to free. */
static inline struct slice fuzz_piece_take(struct slice *rest, uint8_t **out_copy)
{
    size_t len = 0;

    if (rest->len >= 2) {
        len = (size_t)rest->at[0] << 8 | rest->at[1];
        *rest = slice_make(rest->at + 2, rest->len - 2);
    }
    len = size_min(len, rest->len);
    *out_copy = malloc(len + 1);
    ASSERT(*out_copy != NULL);
    if (len > 0)
        memcpy(*out_copy, rest->at, len);
    *rest = slice_make(rest->at + len, rest->len - len);
    return slice_make(*out_copy, len);
}
