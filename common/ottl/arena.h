/* Memory that is given back all at once: for a program's parts, and for what one evaluation makes.
 *
 * Bound   `most` bytes; past it, and when memory is out, an allocation fails and the caller says so.
 * Life    reset keeps one block for the next evaluation, so that the common path never allocates.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* the newest first */
    uint8_t *at, *end;          /* free bytes of the newest */
    size_t used, most;
};

void arena_init(struct arena *arena, size_t most);
void arena_deinit(struct arena *arena);
/* Everything is given back. */
void arena_reset(struct arena *arena);
/* Zeroed, for any type. NULL: no room. */
void *arena_alloc(struct arena *arena, size_t bytes);
/* Not zeroed, for bytes only. NULL: no room. */
uint8_t *arena_bytes(struct arena *arena, size_t bytes);
/* More bytes behind `end`, which is where the last allocation ended. False: something stands there, or no room. */
bool arena_extend(struct arena *arena, const uint8_t *end, size_t bytes);
/* A copy, with a zero behind it that does not count. False: no room. */
bool arena_copy(struct arena *arena, struct slice bytes, struct slice *out_copy);
