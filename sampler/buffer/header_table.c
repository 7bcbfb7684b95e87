#include "sampler/buffer/header_table.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "sampler/buffer/hash_index.h"

#define IDLE_COUNT 1024u
#define IDLE_BYTES (1 * MIB)
#define SLOTS_FIRST 64u

/* A place of the table by index: a header, or the next free place. */
union place {
    struct header *header;
    uint32_t next_free; /* + 1; 0: the last */
};

struct header_table {
    struct hash_index index;
    union place *places;
    uint32_t places_count, places_used; /* room; handed out at least once */
    uint32_t first_free;                /* + 1; 0: none */
    struct list idle;                   /* first: unused longest */
    uint64_t idle_count, idle_bytes;
    uint64_t count, bytes;
    uint8_t *scratch; /* a part in many fragments, laid out to be compared */
    size_t scratch_bytes;
};

struct header_table *header_table_new(void)
{
    struct header_table *table = calloc(1, sizeof(*table));

    if (!table)
        return NULL;
    if (hash_index_init(&table->index)) {
        free(table);
        return NULL;
    }
    list_init(&table->idle);
    return table;
}

static uint64_t header_bytes(const struct header *header)
{
    return sizeof(*header) + header->bytes_len + metadata_set_bytes(header->metadata);
}

static uint64_t index_hash(const struct span_header *view, const struct metadata_set *metadata)
{
    return metadata ? view->hash ^ metadata->hash : view->hash;
}

/* Takes an unused header out of the table and frees it. */
static void header_free(struct header_table *table, struct header *header)
{
    struct hash_probe probe = hash_index_probe(&table->index, index_hash(&header->view, header->metadata));
    uint64_t value;

    do {
        value = hash_probe_next(&probe);
        ASSERT(value != 0);
    } while (value != (uintptr_t)header);
    hash_index_remove(&table->index, &probe);

    list_del(&header->idle);
    table->idle_count--;
    table->idle_bytes -= header_bytes(header);
    table->count--;
    table->bytes -= header_bytes(header);
    table->places[header->index].next_free = table->first_free;
    table->first_free = header->index + 1;
    metadata_set_unref(header->metadata);
    free(header);
}

void header_table_free(struct header_table *table)
{
    struct list *node;

    if (!table)
        return;
    while ((node = list_first(&table->idle)))
        header_free(table, container_of(node, struct header, idle));
    ASSERT(table->count == 0);
    hash_index_deinit(&table->index);
    free(table->places);
    free(table->scratch);
    free(table);
}

static bool scratch_room(struct header_table *table, size_t bytes)
{
    uint8_t *scratch;

    if (bytes <= table->scratch_bytes)
        return true;
    scratch = realloc(table->scratch, bytes);
    if (!scratch)
        return false;
    table->scratch = scratch;
    table->scratch_bytes = bytes;
    return true;
}

/* ours: one fragment or none, as header_part_of made it. 1: equal, 0: not, -1: no memory to tell. */
static int part_equal(struct header_table *table, const struct header_part *ours, const struct header_part *theirs)
{
    const uint8_t *at;

    if (ours->hash != theirs->hash || ours->len != theirs->len)
        return 0;
    if (ours->len == 0)
        return 1;
    at = ours->fragments[0].at;
    if (theirs->fragment_count > HEADER_FRAGMENTS) {
        if (!scratch_room(table, theirs->len))
            return -1;
        header_part_write(theirs, table->scratch);
        return memcmp(at, table->scratch, ours->len) == 0;
    }
    for (uint32_t i = 0; i < theirs->fragment_count; i++) {
        struct slice fragment = theirs->fragments[i];

        if (memcmp(at, fragment.at, fragment.len) != 0)
            return 0;
        at += fragment.len;
    }
    return 1;
}

/* Room for one more place. */
static bool place_room(struct header_table *table)
{
    uint32_t count = table->places_count ? table->places_count * 2 : SLOTS_FIRST;
    union place *places;

    if (table->first_free != 0 || table->places_used < table->places_count)
        return true;
    if (table->places_count > UINT32_MAX / 4)
        return false;
    places = realloc(table->places, count * sizeof(*places));
    if (!places)
        return false;
    table->places = places;
    table->places_count = count;
    return true;
}

static uint32_t place_take(struct header_table *table, struct header *header)
{
    uint32_t index;

    if (table->first_free != 0) {
        index = table->first_free - 1;
        table->first_free = table->places[index].next_free;
    } else {
        index = table->places_used++;
    }
    table->places[index].header = header;
    return index;
}

static struct header *header_copy(struct header_table *table, const struct span_header *from, const struct metadata_set *metadata)
{
    size_t len = (size_t)from->resource.len + from->scope.len;
    struct header *header;
    uint8_t *scope_at;

    if (len > UINT32_MAX || !place_room(table))
        return NULL;
    header = calloc(1, sizeof(*header) + len);
    if (!header)
        return NULL;
    if (!hash_index_add(&table->index, index_hash(from, metadata), (uintptr_t)header)) {
        free(header);
        return NULL;
    }
    scope_at = header_part_write(&from->resource, header->bytes);
    header_part_write(&from->scope, scope_at);
    header->view.resource =
        header_part_of(slice_make(header->bytes, from->resource.len), from->resource.hash);
    header->view.scope = header_part_of(slice_make(scope_at, from->scope.len), from->scope.hash);
    header->view.hash = from->hash;
    header->metadata = metadata_set_ref(metadata);
    header->bytes_len = (uint32_t)len;
    header->refs = 1;
    header->index = place_take(table, header);
    table->count++;
    table->bytes += header_bytes(header);
    return header;
}

void header_ref(struct header_table *table, struct header *header)
{
    if (header->refs++ == 0) {
        list_del(&header->idle);
        table->idle_count--;
        table->idle_bytes -= header_bytes(header);
    }
}

struct header *header_table_get(struct header_table *table, const struct span_header *header, const struct metadata_set *metadata)
{
    struct hash_probe probe = hash_index_probe(&table->index, index_hash(header, metadata));
    uint64_t value;

    while ((value = hash_probe_next(&probe)) != 0) {
        struct header *found = (struct header *)(uintptr_t)value;
        int resource = metadata_set_equal(found->metadata, metadata) ? part_equal(table, &found->view.resource, &header->resource) : 0;
        int scope = resource > 0 ? part_equal(table, &found->view.scope, &header->scope) : 0;

        if (resource < 0 || scope < 0)
            return NULL;
        if (resource > 0 && scope > 0) {
            header_ref(table, found);
            return found;
        }
    }
    return header_copy(table, header, metadata);
}

void header_unref(struct header_table *table, struct header *header, uint32_t count)
{
    ASSERT(header->refs >= count);
    header->refs -= count;
    if (header->refs > 0 || count == 0)
        return;
    list_add_tail(&table->idle, &header->idle);
    table->idle_count++;
    table->idle_bytes += header_bytes(header);
    while (table->idle_count > IDLE_COUNT || table->idle_bytes > IDLE_BYTES)
        header_free(table, container_of(table->idle.next, struct header, idle));
}

struct header *header_at(const struct header_table *table, uint32_t index)
{
    ASSERT(index < table->places_used);
    return table->places[index].header;
}

uint64_t header_table_count(const struct header_table *table)
{
    return table->count;
}

uint64_t header_table_bytes(const struct header_table *table)
{
    return sizeof(*table) + table->index.bytes + table->places_count * sizeof(*table->places) +
           table->scratch_bytes + table->bytes;
}
