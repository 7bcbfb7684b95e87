/* Records stand in a pool, found by an index of their ID and linked by number into one of three lists.
 *
 * Hashes of spans are written one trace after the other into chunks; the oldest chunk goes as a whole. A
 * record knows its newest entry, an entry the one before it. A position names chunk and offset by numbers
 * that are never used again, so one into a chunk that is gone is recognised, and nobody has to clear it.
 * Entries of many hashes are laid out as small hash tables, and those for late spans double in size, so
 * that a resend of a huge trace is recognised without reading all of it for each span.
 */
#include "sampler/decide/decision_cache.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/hash.h"
#include "common/base/num.h"
#include "common/base/plant.h"
#include "sampler/buffer/hash_index.h"

enum kind { KIND_SAMPLED, KIND_NON_SAMPLED, KIND_UNCACHED, KINDS };

struct record {
    struct trace_id id;
    uint64_t decided_ns;
    uint64_t evidence_or_threshold; /* has_threshold says which */
    uint64_t hashes_at;          /* newest entry; 0: none */
    uint32_t newer, older;       /* in its list; the free ones by older. 0: none */
    uint32_t generation;
    uint32_t span_count;
    uint16_t policy;
    uint16_t evidence_bit;
    uint8_t decision;
    uint8_t kind;
    bool too_large : 1;
    bool has_threshold : 1;
};

static_assert(sizeof(struct record) == 64, "a record is at most 64 bytes");

/* A record and its share of the index, whose segments are at least three eighths full. */
#define RECORD_COST_BYTES (sizeof(struct record) + sizeof(struct hash_slot) * 8 / 3)
#define POOL_CHUNK 1024u  /* records: 64 KiB at a time, so that growing copies nothing */
#define PUT_EVICTIONS 2u  /* more than a put adds: what is over the sizes shrinks */
#define TEND_EVICTIONS 256u

#define FOREIGN_MOST 1024u /* policies of other nodes' sets: as many as a few sets may have */

struct record_list {
    uint32_t newest, oldest;
    uint64_t count;
};

#define HASH_CHUNK_WORDS 8192u /* 64 KiB */
#define LINEAR_MOST 32u        /* hashes of an entry compared one by one */
#define LATE_FIRST 8u          /* room of the first entry for late spans */

/* Hashes of one trace, in a chunk. */
struct hash_entry {
    uint64_t before; /* position of the trace's entry before this one; 0: none */
    uint64_t at_ns;  /* when the last hash came in */
    uint32_t count;
    uint32_t room : 31; /* slots; up to LINEAR_MOST in order, else open addressing, 0 empty */
    uint32_t late : 1;
    uint64_t slots[];
};

#define ENTRY_WORDS (sizeof(struct hash_entry) / sizeof(uint64_t))

struct hash_chunk {
    uint64_t last_ns; /* of any of its entries */
    uint64_t hashes;
    uint32_t words_count, words_used;
    uint64_t words[];
};

struct hash_log {
    struct hash_chunk **chunks; /* a ring: number & mask */
    uint32_t mask;
    uint32_t first, end; /* numbers; the one being filled is end - 1 */
    uint32_t chunk_words;
    uint64_t bytes, hashes;
};

struct decision_cache {
    struct decision_cache_options options;
    struct hash_index index;
    struct record **pool; /* chunks of POOL_CHUNK; records are numbered from 1 */
    uint32_t pool_used, records_most;
    uint32_t first_free;
    struct record_list lists[KINDS];
    uint64_t held_traces; /* as of the last tend */
    uint64_t evicted_young, newest_ns;
    bool keep_all;
    char **foreign; /* names of policies */
    uint16_t foreign_count;
    struct hash_log log;
};

/* -- span hashes ------------------------------------------------------------------------------------ */

static size_t chunk_bytes(uint32_t words)
{
    return sizeof(struct hash_chunk) + words * sizeof(uint64_t);
}

static int log_init(struct hash_log *log, uint64_t hash_bytes)
{
    uint64_t words = hash_bytes / sizeof(uint64_t) / 8; /* at least a few chunks, or all goes at once */
    uint64_t chunks_most, ring = 4;

    log->chunk_words = (uint32_t)u64_max(u64_min(words, HASH_CHUNK_WORDS), 2 * LINEAR_MOST);
    chunks_most = hash_bytes / chunk_bytes(log->chunk_words) + 1;
    while (ring < chunks_most)
        ring *= 2;
    if (ring > UINT32_MAX / 2)
        return error_raise(-EINVAL);
    log->mask = (uint32_t)ring - 1;
    log->first = log->end = 1;
    log->chunks = calloc(ring, sizeof(struct hash_chunk *));
    return log->chunks ? 0 : error_raise(-ENOMEM);
}

static struct hash_chunk *log_drop_oldest(struct hash_log *log)
{
    struct hash_chunk *chunk = log->chunks[log->first & log->mask];

    log->chunks[log->first & log->mask] = NULL;
    log->first++;
    log->bytes -= chunk_bytes(chunk->words_count);
    log->hashes -= chunk->hashes;
    return chunk;
}

static void log_deinit(struct hash_log *log)
{
    while (log->first != log->end)
        free(log_drop_oldest(log));
    free(log->chunks);
}

static void log_expire(struct hash_log *log, uint64_t window_ns, uint64_t now_ns)
{
    for (unsigned i = 0; i < 4 && log->first != log->end; i++) {
        if (u64_sub_floor(now_ns, log->chunks[log->first & log->mask]->last_ns) <= window_ns)
            return;
        free(log_drop_oldest(log));
    }
}

static struct hash_chunk *log_chunk(const struct hash_log *log, uint64_t position)
{
    uint32_t number = (uint32_t)(position >> 32);

    if (number - log->first >= log->end - log->first)
        return NULL;
    return log->chunks[number & log->mask];
}

/* NULL: none, or gone. */
static struct hash_entry *log_entry(const struct hash_log *log, uint64_t position)
{
    struct hash_chunk *chunk = position ? log_chunk(log, position) : NULL;

    return chunk ? (struct hash_entry *)(void *)&chunk->words[(uint32_t)position] : NULL;
}

/* A chunk to go on in with room for so many words; NULL: none to be had. */
static struct hash_chunk *log_room(struct hash_log *log, uint32_t words, uint64_t hash_bytes)
{
    struct hash_chunk *chunk = log->first != log->end ? log->chunks[(log->end - 1) & log->mask] : NULL;
    struct hash_chunk *reused = NULL;
    uint32_t size = words > log->chunk_words ? words : log->chunk_words;

    if (chunk && chunk->words_count - chunk->words_used >= words)
        return chunk;
    if (chunk_bytes(size) > hash_bytes)
        return NULL;
    while (log->bytes + chunk_bytes(size) > hash_bytes) {
        free(reused);
        reused = log_drop_oldest(log);
    }
    if (reused && reused->words_count == size) {
        chunk = reused;
    } else {
        free(reused);
        chunk = malloc(chunk_bytes(size));
        if (!chunk)
            return NULL;
    }
    *chunk = (struct hash_chunk){.words_count = size};
    if (log->end == UINT32_MAX) { /* after 2^32 chunks numbers start anew; positions before are lost */
        while (log->first != log->end)
            free(log_drop_oldest(log));
        log->first = log->end = 1;
    }
    log->chunks[log->end & log->mask] = chunk;
    log->end++;
    log->bytes += chunk_bytes(size);
    return chunk;
}

static struct hash_entry *log_append(
    struct hash_log *log, uint32_t room, uint64_t hash_bytes, uint64_t *out_position)
{
    uint32_t words = (uint32_t)ENTRY_WORDS + room;
    struct hash_chunk *chunk = log_room(log, words, hash_bytes);
    struct hash_entry *entry;

    if (!chunk)
        return NULL;
    *out_position = (uint64_t)(log->end - 1) << 32 | chunk->words_used;
    entry = (struct hash_entry *)(void *)&chunk->words[chunk->words_used];
    chunk->words_used += words;
    memset(entry, 0, words * sizeof(uint64_t));
    entry->room = room & INT32_MAX;
    return entry;
}

/* 0 means empty in a table; two hashes of 2^64 becoming one loses no more than any collision. */
static uint64_t stored(uint64_t hash)
{
    return hash ? hash : 0x9e3779b97f4a7c15ull;
}

static uint32_t entry_home(const struct hash_entry *entry, uint64_t hash)
{
    return (uint32_t)(((hash_index_mix(hash) >> 32) * entry->room) >> 32);
}

static bool entry_has(const struct hash_entry *entry, uint64_t hash)
{
    uint32_t at;

    hash = stored(hash);
    if (entry->room <= LINEAR_MOST) {
        for (uint32_t i = 0; i < entry->count; i++) {
            if (entry->slots[i] == hash)
                return true;
        }
        return false;
    }
    for (at = entry_home(entry, hash); entry->slots[at] != 0; at = at + 1 == entry->room ? 0 : at + 1) {
        if (entry->slots[at] == hash)
            return true;
    }
    return false;
}

static bool entry_has_room(const struct hash_entry *entry)
{
    return entry->count < (entry->room <= LINEAR_MOST ? entry->room : entry->room / 4 * 3);
}

static void entry_add(struct hash_entry *entry, uint64_t hash)
{
    uint32_t at;

    hash = stored(hash);
    if (entry->room <= LINEAR_MOST) {
        entry->slots[entry->count++] = hash;
        return;
    }
    for (at = entry_home(entry, hash); entry->slots[at] != 0; at = at + 1 == entry->room ? 0 : at + 1) {
        if (entry->slots[at] == hash)
            return;
    }
    entry->slots[at] = hash;
    entry->count++;
}

/* Marks that hashes came into the entry at `position`. */
static void log_added(
    struct hash_log *log, struct hash_entry *entry, uint64_t position, uint64_t count, uint64_t now_ns)
{
    struct hash_chunk *chunk = log_chunk(log, position);

    entry->at_ns = now_ns;
    chunk->last_ns = u64_max(chunk->last_ns, now_ns);
    chunk->hashes += count;
    log->hashes += count;
}

/* -- records and their lists ----------------------------------------------------------------------- */

static struct record *record_at(const struct decision_cache *cache, uint32_t number)
{
    return &cache->pool[(number - 1) / POOL_CHUNK][(number - 1) % POOL_CHUNK];
}

static void record_unlink(struct decision_cache *cache, uint32_t number)
{
    struct record *record = record_at(cache, number);
    struct record_list *list = &cache->lists[record->kind];

    if (record->newer)
        record_at(cache, record->newer)->older = record->older;
    else
        list->newest = record->older;
    if (record->older)
        record_at(cache, record->older)->newer = record->newer;
    else
        list->oldest = record->newer;
    list->count--;
}

static void record_link(struct decision_cache *cache, uint32_t number, enum kind kind)
{
    struct record *record = record_at(cache, number);
    struct record_list *list = &cache->lists[kind];

    record->kind = (uint8_t)kind;
    record->newer = 0;
    record->older = list->newest;
    if (list->newest)
        record_at(cache, list->newest)->newer = number;
    else
        list->oldest = number;
    list->newest = number;
    list->count++;
}

/* 0: none. */
static uint32_t record_find(
    const struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, struct hash_probe *out_probe)
{
    struct hash_probe probe = hash_index_probe(&cache->index, id_hash);
    uint32_t number;

    while ((number = (uint32_t)hash_probe_next(&probe)) != 0) {
        if (trace_id_equal(&record_at(cache, number)->id, id)) {
            *out_probe = probe;
            break;
        }
    }
    return number;
}

static bool record_young(const struct decision_cache *cache, uint32_t number, uint64_t now_ns)
{
    uint64_t age_ns = u64_sub_floor(now_ns, record_at(cache, number)->decided_ns);

    return age_ns < cache->options.verdict_keep_ns;
}

static void record_evict(struct decision_cache *cache, uint32_t number)
{
    struct record *record = record_at(cache, number);
    struct hash_probe probe;
    uint32_t found = record_find(cache, &record->id, hash_trace(&record->id), &probe);

    ASSERT(found == number);
    hash_index_remove(&cache->index, &probe);
    record_unlink(cache, number);
    record->older = cache->first_free;
    cache->first_free = number;
}

static enum kind kind_of(const struct decision_cache *cache, enum decision decision)
{
    if (decision == DECISION_SAMPLED)
        return cache->options.sampled_cache_size > 0 ? KIND_SAMPLED : KIND_UNCACHED;
    return cache->options.non_sampled_cache_size > 0 ? KIND_NON_SAMPLED : KIND_UNCACHED;
}

static bool list_over(const struct decision_cache *cache, enum kind kind)
{
    uint64_t count = cache->lists[kind].count;

    switch (kind) {
    case KIND_SAMPLED:
        return count > 0 && count > (uint64_t)cache->options.sampled_cache_size;
    case KIND_NON_SAMPLED:
        return count > 0 && count > (uint64_t)cache->options.non_sampled_cache_size;
    case KIND_UNCACHED:
        return count > 0 && cache->options.num_traces > 0 &&
               count + cache->held_traces > cache->options.num_traces;
    case KINDS:
        break;
    }
    return false;
}

/* Evicts from each list what is over its size and old enough. */
static void trim(struct decision_cache *cache, uint32_t most, uint64_t now_ns)
{
    if (cache->keep_all)
        return;
    for (enum kind kind = KIND_SAMPLED; kind < KINDS; kind++) {
        for (uint32_t i = 0; i < most && list_over(cache, kind); i++) {
            uint32_t oldest = cache->lists[kind].oldest;

            if (record_young(cache, oldest, now_ns))
                break;
            record_evict(cache, oldest);
        }
    }
}

/* The list whose last record was decided first. 0: no records. */
static uint32_t oldest_record(const struct decision_cache *cache)
{
    uint32_t found = 0;

    for (enum kind kind = KIND_SAMPLED; kind < KINDS; kind++) {
        uint32_t oldest = cache->lists[kind].oldest;

        if (oldest && (!found || record_at(cache, oldest)->decided_ns < record_at(cache, found)->decided_ns))
            found = oldest;
    }
    return found;
}

/* A free record, if need be by evicting one; 0: no memory and nothing to evict. */
static uint32_t record_take(struct decision_cache *cache, uint64_t now_ns)
{
    uint32_t number;

    if (cache->first_free == 0 && cache->pool_used < cache->records_most) {
        struct record **chunk = &cache->pool[cache->pool_used / POOL_CHUNK];

        if (!*chunk) {
            uint64_t count = u64_min(POOL_CHUNK, cache->records_most - cache->pool_used);

            *chunk = calloc(count, sizeof(struct record));
        }
        if (*chunk)
            return ++cache->pool_used;
    }
    if (cache->first_free == 0) {
        number = oldest_record(cache);
        if (number == 0)
            return 0;
        if (cache->keep_all || record_young(cache, number, now_ns))
            cache->evicted_young++;
        record_evict(cache, number);
    }
    number = cache->first_free;
    cache->first_free = record_at(cache, number)->older;
    return number;
}

/* -- the cache -------------------------------------------------------------------------------------- */

int decision_cache_new(const struct decision_cache_options *options, struct decision_cache **out_cache)
{
    struct decision_cache *cache = calloc(1, sizeof(*cache));
    uint64_t records_most = options->max_bytes / RECORD_COST_BYTES;
    int r;

    if (!cache)
        return error_raise(-ENOMEM);
    cache->options = *options;
    cache->records_most = (uint32_t)u64_max(1, u64_min(records_most, UINT32_MAX - 1));
    cache->pool = calloc(cache->records_most / POOL_CHUNK + 1, sizeof(struct record *));
    r = cache->pool ? 0 : error_raise(-ENOMEM);
    if (!r)
        r = hash_index_init(&cache->index);
    if (!r)
        r = log_init(&cache->log, options->hash_bytes);
    if (r) {
        decision_cache_free(cache);
        return error_pass(r);
    }
    *out_cache = cache;
    return 0;
}

void decision_cache_change(struct decision_cache *cache, const struct decision_cache_options *options)
{
    uint64_t max_bytes = cache->options.max_bytes, hash_bytes = cache->options.hash_bytes;

    cache->options = *options;
    cache->options.max_bytes = max_bytes;
    cache->options.hash_bytes = hash_bytes;
}

void decision_cache_free(struct decision_cache *cache)
{
    if (!cache)
        return;
    log_deinit(&cache->log);
    hash_index_deinit(&cache->index);
    for (uint32_t i = 0; cache->pool && i <= cache->records_most / POOL_CHUNK; i++)
        free(cache->pool[i]);
    free(cache->pool);
    for (uint16_t i = 0; i < cache->foreign_count; i++)
        free(cache->foreign[i]);
    free(cache->foreign);
    free(cache);
}

static uint32_t room_for(size_t count)
{
    return (uint32_t)(count <= LINEAR_MOST ? count : count / 3 * 4 + 8);
}

/* An entry of the record for so many hashes, or as many as fit the log at all; *out_count: how many. NULL: none. */
static struct hash_entry *record_entry(struct decision_cache *cache, struct record *record, size_t count, size_t *out_count)
{
    uint64_t words = u64_sub_floor(cache->options.hash_bytes, chunk_bytes(0)) / sizeof(uint64_t);
    uint64_t most = u64_min(u64_sub_floor(words, ENTRY_WORDS + 8) / 4 * 3, INT32_MAX / 2);
    struct hash_entry *entry;
    uint64_t position;

    *out_count = (size_t)u64_min(count, most);
    if (*out_count == 0)
        return NULL;
    entry = log_append(&cache->log, room_for(*out_count), cache->options.hash_bytes, &position);
    if (!entry)
        return NULL;
    entry->before = record->hashes_at;
    record->hashes_at = position;
    return entry;
}

/* Keeps the hashes of a sampled trace. */
static void keep_hashes(struct decision_cache *cache, struct record *record, const uint64_t *hashes,
    size_t count, uint64_t now_ns)
{
    struct hash_entry *entry = record_entry(cache, record, count, &count);

    if (!entry)
        return;
    for (size_t i = 0; i < count; i++)
        entry_add(entry, hashes[i]);
    log_added(&cache->log, entry, record->hashes_at, entry->count, now_ns);
}

void decision_cache_put(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash,
    const struct decision_record *record, const uint64_t *hashes, size_t hash_count, uint64_t now_ns)
{
    struct hash_probe probe;
    uint32_t number = record_find(cache, id, id_hash, &probe);
    uint64_t hashes_at = 0;
    struct record *at;

    ASSERT(record->decision != DECISION_PENDING);
    ASSERT_SLOW(id_hash == hash_trace(id));
    if (number) {
        /* Of a trace that was and stays sampled, what went out before is not sent again. */
        if (record_at(cache, number)->decision == DECISION_SAMPLED)
            hashes_at = record_at(cache, number)->hashes_at;
        record_unlink(cache, number);
    } else {
        number = record_take(cache, now_ns);
        if (number && !hash_index_add(&cache->index, id_hash, number)) {
            record_at(cache, number)->older = cache->first_free;
            cache->first_free = number;
            number = 0;
        }
        if (!number) { /* the machine has no memory: this record left before it came */
            cache->evicted_young++;
            return;
        }
    }

    cache->newest_ns = u64_max(cache->newest_ns, record->decided_ns);
    at = record_at(cache, number);
    *at = (struct record){
        .id = *id,
        .decided_ns = record->decided_ns,
        .evidence_or_threshold = record->threshold > 0 ? record->threshold : record->evidence_span_id,
        .generation = record->generation,
        .span_count = record->span_count,
        .policy = record->policy,
        .evidence_bit = record->evidence_bit,
        .decision = (uint8_t)record->decision,
        .too_large = record->too_large,
        .has_threshold = record->threshold > 0,
    };
    record_link(cache, number, kind_of(cache, record->decision));
    if (record->decision == DECISION_SAMPLED) {
        at->hashes_at = hashes_at;
        keep_hashes(cache, at, hashes, hash_count, now_ns);
    }
    trim(cache, PUT_EVICTIONS, now_ns);
}

static struct decision_record record_shown(const struct record *record)
{
    return (struct decision_record){
        .decision = (enum decision)record->decision,
        .cached = record->kind != KIND_UNCACHED,
        .too_large = record->too_large,
        .policy = record->policy,
        .generation = record->generation,
        .span_count = record->span_count,
        .evidence_span_id = record->has_threshold ? 0 : record->evidence_or_threshold,
        .threshold = record->has_threshold ? record->evidence_or_threshold : 0,
        .evidence_bit = record->evidence_bit,
        .decided_ns = record->decided_ns,
    };
}

bool decision_cache_find(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, bool refresh,
    uint64_t now_ns, struct decision_record *out_record)
{
    struct hash_probe probe;
    uint32_t number = record_find(cache, id, id_hash, &probe);
    const struct record *record;

    (void)now_ns; /* records leave by size, not by time */
    if (!number)
        return false;
    record = record_at(cache, number);
    if (refresh && record->kind != KIND_UNCACHED) {
        record_unlink(cache, number);
        record_link(cache, number, (enum kind)record->kind);
    }
    *out_record = record_shown(record);
    return true;
}

bool decision_cache_seen(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash,
    uint64_t span_hash, uint64_t now_ns)
{
    struct hash_log *log = &cache->log;
    struct hash_probe probe;
    uint32_t number = record_find(cache, id, id_hash, &probe);
    struct hash_entry *newest, *entry;
    struct record *record;
    uint64_t position;
    uint32_t room = LATE_FIRST;

    if (planted(PLANT_DEDUPE_OFF) || !number)
        return false;
    record = record_at(cache, number);
    if (record->decision != DECISION_SAMPLED)
        return false;

    position = record->hashes_at;
    newest = log_entry(log, position);
    for (entry = newest; entry; entry = log_entry(log, entry->before)) {
        if (!cache->keep_all && u64_sub_floor(now_ns, entry->at_ns) > cache->options.resend_window_ns)
            break; /* those before are older still */
        if (entry_has(entry, span_hash))
            return true;
    }

    if (newest && newest->late && !entry_has_room(newest))
        room = (uint32_t)u64_min(newest->room * 2ull, cache->options.hash_bytes / sizeof(uint64_t) / 8);
    if (!newest || !newest->late || !entry_has_room(newest)) {
        uint64_t before = newest ? position : 0;

        newest = log_append(log, (uint32_t)u64_max(room, LATE_FIRST), cache->options.hash_bytes, &position);
        if (!newest)
            return false;
        newest->before = before;
        newest->late = 1;
        record->hashes_at = position;
    }
    entry_add(newest, span_hash);
    log_added(log, newest, position, 1, now_ns);
    return false;
}

void decision_cache_tend(struct decision_cache *cache, uint64_t held_traces, uint64_t now_ns)
{
    cache->held_traces = held_traces;
    trim(cache, TEND_EVICTIONS, now_ns);
    if (!cache->keep_all)
        log_expire(&cache->log, cache->options.resend_window_ns, now_ns);
}

/* -- verdicts that travel ----------------------------------------------------------------------------- */

struct stepping {
    const struct decision_cache *cache;
    void (*visit)(void *context, const struct trace_id *id, uint64_t id_hash, const struct decision_record *record);
    void *context;
};

static void step_visit(void *context, uint64_t hash, uint64_t value)
{
    const struct stepping *stepping = context;
    const struct record *record = record_at(stepping->cache, (uint32_t)value);
    const struct decision_record shown = record_shown(record);

    stepping->visit(stepping->context, &record->id, hash, &shown);
}

bool decision_cache_step(struct decision_cache *cache, uint64_t *cursor,
    void (*visit)(void *context, const struct trace_id *id, uint64_t id_hash, const struct decision_record *record), void *context)
{
    struct stepping stepping = {cache, visit, context};

    return hash_index_step(&cache->index, cursor, step_visit, &stepping);
}

size_t decision_cache_hashes(
    const struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, uint64_t *out_hashes, size_t capacity)
{
    struct hash_probe probe;
    uint32_t number = record_find(cache, id, id_hash, &probe);
    const struct hash_entry *entry = number ? log_entry(&cache->log, record_at(cache, number)->hashes_at) : NULL;
    size_t count = 0;

    for (; entry; entry = log_entry(&cache->log, entry->before)) {
        uint32_t slots = entry->room <= LINEAR_MOST ? entry->count : entry->room;

        for (uint32_t i = 0; i < slots; i++) {
            if (entry->slots[i] == 0)
                continue;
            if (count < capacity)
                out_hashes[count] = entry->slots[i];
            count++;
        }
    }
    return count;
}

static bool record_knows(const struct decision_cache *cache, const struct record *record, uint64_t hash)
{
    const struct hash_entry *entry = log_entry(&cache->log, record->hashes_at);

    for (; entry; entry = log_entry(&cache->log, entry->before)) {
        if (entry_has(entry, hash))
            return true;
    }
    return false;
}

void decision_cache_join(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, const uint64_t *hashes,
    size_t count, uint64_t now_ns)
{
    struct hash_probe probe;
    uint32_t number = record_find(cache, id, id_hash, &probe);
    struct record *record = number ? record_at(cache, number) : NULL;
    size_t unknown = 0, room;
    struct hash_entry *entry;

    if (!record || record->decision != DECISION_SAMPLED)
        return;
    for (size_t i = 0; i < count; i++)
        unknown += !record_knows(cache, record, hashes[i]);
    entry = record_entry(cache, record, unknown, &room);
    if (!entry)
        return;
    for (size_t i = 0; i < count && entry->count < room; i++) { /* making room may have made some of them unknown */
        if (!record_knows(cache, record, hashes[i]))
            entry_add(entry, hashes[i]);
    }
    log_added(&cache->log, entry, record->hashes_at, entry->count, now_ns);
}

bool decision_cache_remove(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash)
{
    struct hash_probe probe;
    uint32_t number = record_find(cache, id, id_hash, &probe);

    if (number)
        record_evict(cache, number);
    return number != 0;
}

void decision_cache_keep_all(struct decision_cache *cache, bool keep)
{
    cache->keep_all = keep;
}

uint16_t decision_cache_policy(struct decision_cache *cache, struct slice name)
{
    char *copy;

    for (uint16_t i = 0; i < cache->foreign_count; i++) {
        if (slice_equal(slice_text(cache->foreign[i]), name))
            return (uint16_t)(DECISION_POLICY_FOREIGN + i);
    }
    if (cache->foreign_count == FOREIGN_MOST)
        return UINT16_MAX;
    if (!cache->foreign)
        cache->foreign = calloc(FOREIGN_MOST, sizeof(char *));
    copy = cache->foreign ? malloc(name.len + 1) : NULL;
    if (!copy)
        return UINT16_MAX;
    if (name.len > 0)
        memcpy(copy, name.at, name.len); /* nothing ends it: strndup is not for it */
    copy[name.len] = '\0';
    cache->foreign[cache->foreign_count] = copy;
    return (uint16_t)(DECISION_POLICY_FOREIGN + cache->foreign_count++);
}

const char *decision_cache_policy_name(const struct decision_cache *cache, uint16_t policy)
{
    ASSERT(decision_policy_is_foreign(policy));
    ASSERT(policy - DECISION_POLICY_FOREIGN < cache->foreign_count);
    return cache->foreign[policy - DECISION_POLICY_FOREIGN];
}

struct decision_cache_stats decision_cache_stats(const struct decision_cache *cache)
{
    uint32_t oldest = oldest_record(cache);

    return (struct decision_cache_stats){
        .records = cache->index.count,
        .evicted_young = cache->evicted_young,
        .hashes = cache->log.hashes,
        .oldest_ns = oldest ? record_at(cache, oldest)->decided_ns : 0,
        .newest_ns = cache->newest_ns,
    };
}
