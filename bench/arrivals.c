#include "bench/arrivals.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/hash.h"
#include "common/base/num.h"

#define ARRIVALS_MAGIC 0x31565252414c5254ull /* "TRLARRV1" */
#define SLOTS_AT_FIRST 65536                 /* 4 MiB: small enough to start, doubled as needed */

static_assert(sizeof(struct arrival) == 64, "one cache line");

struct arrivals_header {
    uint64_t magic, used_count, malformed_requests, invalid_spans;
    uint32_t node_count, spare;
    char nodes[ARRIVALS_NODES_MOST][ARRIVALS_NAME_SIZE];
};

static struct arrival *slots_new(uint64_t count)
{
    struct arrival *slots = aligned_alloc(64, count * sizeof(*slots));

    ASSERT(slots);
    memset(slots, 0, count * sizeof(*slots));
    return slots;
}

void arrivals_init(struct arrivals *arrivals)
{
    memset(arrivals, 0, sizeof(*arrivals));
    arrivals->slot_count = SLOTS_AT_FIRST;
    arrivals->slots = slots_new(SLOTS_AT_FIRST);
    arrivals->node_count = 1; /* nobody */
}

void arrivals_deinit(struct arrivals *arrivals)
{
    free(arrivals->slots);
    memset(arrivals, 0, sizeof(*arrivals));
}

uint32_t arrivals_node(struct arrivals *arrivals, struct slice name)
{
    char text[ARRIVALS_NAME_SIZE] = {0};
    uint32_t i;

    if (name.len == 0)
        return 0;
    memcpy(text, name.at, size_min(name.len, sizeof(text) - 1));
    for (i = 1; i < arrivals->node_count; i++) {
        if (strcmp(arrivals->nodes[i], text) == 0)
            return i;
    }
    if (i == ARRIVALS_NODES_MOST)
        return i - 1;
    memcpy(arrivals->nodes[i], text, sizeof(text));
    arrivals->node_count++;
    return i;
}

/* The slot where (id, group) is or belongs. */
static struct arrival *slot_find(const struct arrivals *arrivals, const struct trace_id *id, uint32_t group)
{
    uint64_t at = (hash_trace(id) + group * 0x9e3779b97f4a7c15ull) & (arrivals->slot_count - 1);

    for (;;) {
        struct arrival *slot = &arrivals->slots[at];

        if (!slot->used || (slot->group == group && trace_id_equal(&slot->id, id)))
            return slot;
        at = (at + 1) & (arrivals->slot_count - 1);
    }
}

static void grow(struct arrivals *arrivals)
{
    struct arrival *old = arrivals->slots;
    uint64_t old_count = arrivals->slot_count;

    arrivals->slot_count *= 2;
    arrivals->slots = slots_new(arrivals->slot_count);
    for (uint64_t i = 0; i < old_count; i++) {
        if (old[i].used)
            *slot_find(arrivals, &old[i].id, old[i].group) = old[i];
    }
    free(old);
}

static struct arrival *slot_get(struct arrivals *arrivals, const struct trace_id *id, uint32_t group)
{
    struct arrival *slot = slot_find(arrivals, id, group);

    if (slot->used)
        return slot;
    if (arrivals->used_count * 8 >= arrivals->slot_count * 5) {
        grow(arrivals);
        slot = slot_find(arrivals, id, group);
    }
    slot->id = *id;
    slot->group = group;
    slot->used = 1;
    arrivals->used_count++;
    arrivals->traces += group == 0;
    return slot;
}

void arrivals_add(struct arrivals *arrivals, const struct trace_id *id, int index, uint32_t node, uint64_t content)
{
    struct arrival *slot = slot_get(arrivals, id, index < 0 ? 0 : (uint32_t)index / 64);
    uint64_t bit = 1ull << ((unsigned)index % 64), nodes = slot->nodes | 1ull << node;

    arrivals->spans++;
    if (nodes != slot->nodes) {
        if (slot->nodes && !(slot->nodes & (slot->nodes - 1)))
            arrivals->traces_of_two_nodes++;
        slot->nodes = nodes;
    }
    if (index < 0) {
        slot->strangers++;
        arrivals->strangers++;
    } else if (slot->arrived & bit) {
        slot->doubled |= bit;
        slot->repeats++;
        arrivals->repeats++;
    } else {
        slot->arrived |= bit;
        slot->content += content;
    }
}

const struct arrival *arrivals_find(const struct arrivals *arrivals, const struct trace_id *id, uint32_t group)
{
    const struct arrival *slot = slot_find(arrivals, id, group);

    return slot->used ? slot : NULL;
}

int arrivals_write(const struct arrivals *arrivals, const char *path)
{
    static struct arrivals_header header;
    FILE *file = fopen(path, "wb");
    int r = 0;

    if (!file)
        return -errno;
    header = (struct arrivals_header){.magic = ARRIVALS_MAGIC, .used_count = arrivals->used_count,
        .malformed_requests = arrivals->malformed_requests, .invalid_spans = arrivals->invalid_spans,
        .node_count = arrivals->node_count};
    memcpy(header.nodes, arrivals->nodes, sizeof(header.nodes));
    (void)fwrite(&header, sizeof(header), 1, file);
    for (uint64_t i = 0; i < arrivals->slot_count; i++) {
        if (arrivals->slots[i].used)
            (void)fwrite(&arrivals->slots[i], sizeof(struct arrival), 1, file);
    }
    if (ferror(file))
        r = -EIO;
    if (fclose(file) != 0 && r == 0)
        r = -errno;
    return r;
}

/* Merges one group that another sink saw; nodes: its node bits in our numbering. */
static void merge(struct arrivals *arrivals, const struct arrival *from, uint64_t nodes)
{
    struct arrival *slot = slot_get(arrivals, &from->id, from->group);
    uint64_t both = slot->arrived & from->arrived;

    if (both && slot->arrived != from->arrived)
        slot->content_open = 1; /* a sum cannot be taken apart */
    else if (!both || slot->content != from->content)
        slot->content += from->content;
    slot->content_open |= from->content_open;
    slot->doubled |= from->doubled | both;
    slot->repeats += from->repeats + (uint32_t)__builtin_popcountll(both);
    slot->arrived |= from->arrived;
    slot->nodes |= nodes;
    slot->strangers += from->strangers;
}

int arrivals_read(struct arrivals *arrivals, const char *path)
{
    static struct arrivals_header header;
    uint32_t numbers[ARRIVALS_NODES_MOST] = {0};
    struct arrival one;
    FILE *file = fopen(path, "rb");
    int r = 0;

    if (!file)
        return -errno;
    if (fread(&header, sizeof(header), 1, file) != 1 || header.magic != ARRIVALS_MAGIC ||
        header.node_count > ARRIVALS_NODES_MOST) {
        fclose(file);
        return -EINVAL;
    }
    for (uint32_t i = 1; i < header.node_count; i++) {
        header.nodes[i][ARRIVALS_NAME_SIZE - 1] = '\0';
        numbers[i] = arrivals_node(arrivals, slice_text(header.nodes[i]));
    }
    arrivals->malformed_requests += header.malformed_requests;
    arrivals->invalid_spans += header.invalid_spans;
    for (uint64_t i = 0; i < header.used_count; i++) {
        uint64_t nodes = 0;

        if (fread(&one, sizeof(one), 1, file) != 1) {
            r = -EINVAL;
            break;
        }
        for (uint32_t node = 0; node < header.node_count; node++) {
            if (one.nodes >> node & 1)
                nodes |= 1ull << numbers[node];
        }
        merge(arrivals, &one, nodes);
    }
    fclose(file);
    return r;
}
