/* Blocks grow by doubling from one page; a reset keeps the newest, which is the largest. */
#include "common/ottl/arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_FIRST_BYTES 4096
/* What a reset may keep: one odd evaluation must not cost its memory for ever. */
#define ARENA_KEEP_BYTES (256 << 10)

struct arena_block {
    struct arena_block *next;
    size_t size;
    alignas(max_align_t) uint8_t bytes[];
};

void arena_init(struct arena *arena, size_t most)
{
    *arena = (struct arena){.most = most};
}

static void blocks_free(struct arena_block *block)
{
    while (block) {
        struct arena_block *next = block->next;

        free(block);
        block = next;
    }
}

void arena_deinit(struct arena *arena)
{
    blocks_free(arena->blocks);
    *arena = (struct arena){.most = arena->most};
}

void arena_reset(struct arena *arena)
{
    struct arena_block *newest = arena->blocks;

    if (!newest)
        return;
    if (newest->size > ARENA_KEEP_BYTES) {
        arena_deinit(arena);
        return;
    }
    blocks_free(newest->next);
    newest->next = NULL;
    arena->at = newest->bytes;
    arena->end = newest->bytes + newest->size;
    arena->used = 0;
}

static bool arena_grow(struct arena *arena, size_t bytes)
{
    size_t size = arena->blocks ? arena->blocks->size * 2 : ARENA_FIRST_BYTES;
    struct arena_block *block;

    while (size < bytes)
        size *= 2;
    block = malloc(sizeof(*block) + size);
    if (!block)
        return false;
    block->next = arena->blocks;
    block->size = size;
    arena->blocks = block;
    arena->at = block->bytes;
    arena->end = block->bytes + size;
    return true;
}

uint8_t *arena_bytes(struct arena *arena, size_t bytes)
{
    uint8_t *at;

    if (bytes > arena->most || arena->used > arena->most - bytes)
        return NULL;
    if (!arena->at || bytes > (size_t)(arena->end - arena->at))
        if (!arena_grow(arena, bytes))
            return NULL;
    at = arena->at;
    arena->at += bytes;
    arena->used += bytes;
    return at;
}

bool arena_extend(struct arena *arena, const uint8_t *end, size_t bytes)
{
    if (end != arena->at || bytes > (size_t)(arena->end - arena->at) || bytes > arena->most - arena->used)
        return false;
    arena->at += bytes;
    arena->used += bytes;
    return true;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    size_t skip = arena->at ? (size_t)(-(uintptr_t)arena->at & (alignof(max_align_t) - 1)) : 0;
    uint8_t *at;

    if (bytes > arena->most)
        return NULL;
    if (arena->at && (size_t)(arena->end - arena->at) >= skip)
        arena->at += skip;
    bytes = (bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    at = arena_bytes(arena, bytes);
    return at ? memset(at, 0, bytes) : NULL;
}

bool arena_copy(struct arena *arena, struct slice bytes, struct slice *out_copy)
{
    uint8_t *copy = arena_bytes(arena, bytes.len + 1);

    if (!copy)
        return false;
    if (bytes.len > 0)
        memcpy(copy, bytes.at, bytes.len);
    copy[bytes.len] = 0;
    *out_copy = slice_make(copy, bytes.len);
    return true;
}
