#include "sampler/handoff/recovery_gone.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/hash.h"
#include "common/base/num.h"

#define CAPACITY_LEAST 1024u
#define BACKENDS_SEED 0x6261636b656e6473ull
#define VERDICT_SEED 0x7665726469637473ull /* apart from any span's hash, as far as 64 bits go */
#define EXPORTER_SEED 0x6578706f72746572ull
#define TRACE_SEED 0x64726f7070656421ull

void gone_deinit(struct gone_table *table)
{
    free(table->entries);
    memset(table, 0, sizeof(*table));
}

static uint64_t key_of(const struct trace_id *id, uint64_t seed)
{
    uint64_t key = hash_seeded(id->bytes, sizeof(id->bytes), seed);

    return key ? key : 1;
}

uint64_t gone_span(const struct trace_id *id, uint64_t span_hash)
{
    return key_of(id, span_hash);
}

uint64_t gone_verdict(const struct trace_id *id)
{
    return key_of(id, VERDICT_SEED);
}

uint64_t gone_to_backends(const struct trace_id *id)
{
    return key_of(id, BACKENDS_SEED);
}

uint64_t gone_from_exporter(const struct trace_id *id, uint64_t span_hash, unsigned exporter)
{
    return key_of(id, hash_seeded(&span_hash, sizeof(span_hash), EXPORTER_SEED + exporter));
}

uint64_t gone_trace(const struct trace_id *id)
{
    return key_of(id, TRACE_SEED);
}

static struct gone_entry *entry_for(const struct gone_table *table, uint64_t key)
{
    size_t i = key & (table->capacity - 1);

    while (table->entries[i].key != 0 && table->entries[i].key != key)
        i = (i + 1) & (table->capacity - 1);
    return &table->entries[i];
}

static void grow(struct gone_table *table)
{
    struct gone_table larger = {.capacity = size_max(CAPACITY_LEAST, 2 * table->capacity), .count = table->count};

    larger.entries = calloc(larger.capacity, sizeof(larger.entries[0]));
    ASSERT(larger.entries != NULL);
    for (size_t i = 0; i < table->capacity; i++)
        if (table->entries[i].key != 0)
            *entry_for(&larger, table->entries[i].key) = table->entries[i];
    free(table->entries);
    *table = larger;
}

void gone_add(struct gone_table *table, uint64_t key, uint64_t sequence)
{
    struct gone_entry *entry;

    if (4 * (table->count + 1) > 3 * table->capacity)
        grow(table);
    entry = entry_for(table, key);
    table->count += entry->key == 0;
    entry->key = key;
    entry->sequence = u64_max(entry->sequence, sequence);
}

uint64_t gone_sequence(const struct gone_table *table, uint64_t key)
{
    return table->count == 0 ? 0 : entry_for(table, key)->sequence;
}
