/* What buffering costs: ns a span to find its trace, compare its hash and copy it in; ns a trace to free; and the
 * memory committed for each byte of spans held.
 *
 * usage: micro_buffer [--traces N] [--spans N]
 *
 * --traces: held at once (100000). --spans: of a trace; without it 15, 3 and 60 are measured one after the other.
 * Spans are 365 to 1095 bytes long, 730 on average, and come in random order over all traces, so that nearly every one
 * finds its trace out of the caches. `batched` hints ahead over 64 spans, as a request's spans can.
 *
 * Memory is measured in a steady state: a tenth of the traces is still growing, the others wait, whole, and as each
 * one ends another begins. They leave in the order they came (`in order`), or any of them next (`at random`), which is
 * the worst for a store that wants to give memory back.
 *
 * `with a journal` each span has a place there; `spilled` the bytes of those that wait are only there. Then what counts is
 * the memory a span, bytes or not.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/base/num.h"
#include "sampler/buffer/trace_table.h"

#define LEN_LEAST 365
#define LEN_RANGE 731
#define HEADERS 16
#define BATCH 64
#define SOURCE_BYTES (64 * KIB) /* stays in the caches, as a request being walked does */

struct work {
    struct extent_pool *pool;
    struct extent_store *store;
    struct header_table *headers_table;
    struct header *headers[HEADERS];
    struct trace_table *table;
    uint8_t *source;
    uint64_t random, spans_made;
};

/* CPU time: what else the machine does does not count. */
static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint32_t draw(struct work *work, uint64_t below)
{
    work->random ^= work->random << 13;
    work->random ^= work->random >> 7;
    work->random ^= work->random << 17;
    return (uint32_t)(((work->random >> 32) * below) >> 32);
}

static void work_init(struct work *work, uint64_t bytes)
{
    *work = (struct work){.random = 88172645463325252ull};
    ASSERT(extent_pool_new(bytes, &work->pool) == 0);
    ASSERT(extent_store_new(work->pool, &work->store) == 0);
    work->headers_table = header_table_new();
    ASSERT(work->headers_table != NULL);
    for (unsigned i = 0; i < HEADERS; i++) {
        static char names[HEADERS][32];
        struct span_header header = {.hash = i};
        int len = snprintf(names[i], sizeof(names[i]), "service-%u", i);

        header.resource = header_part_of(slice_make(names[i], (size_t)len), i);
        work->headers[i] = header_table_get(work->headers_table, &header, NULL);
        ASSERT(work->headers[i] != NULL);
    }
    ASSERT(trace_table_new(work->store, work->headers_table, 0, &work->table) == 0);
    work->source = malloc(SOURCE_BYTES);
    ASSERT(work->source != NULL);
    memset(work->source, 0x5a, SOURCE_BYTES);
}

static void work_deinit(struct work *work)
{
    trace_table_free(work->table);
    ASSERT(extent_store_used_bytes(work->store) == 0);
    for (unsigned i = 0; i < HEADERS; i++)
        header_unref(work->headers_table, work->headers[i], 1);
    header_table_free(work->headers_table);
    extent_store_free(work->store);
    extent_pool_free(work->pool);
    free(work->source);
}

static struct trace_id id_of(uint64_t n)
{
    struct trace_id id;
    uint64_t words[2] = {(n + 1) * 0x9e3779b97f4a7c15ull, n};

    memcpy(id.bytes, words, sizeof(words));
    return id;
}

/* Adds one span to the trace of this number, making it first if need be. */
static struct trace *insert(struct work *work, const struct trace_id *id, uint64_t id_hash)
{
    size_t len = LEN_LEAST + draw(work, LEN_RANGE);
    struct slice span = slice_make(work->source + draw(work, SOURCE_BYTES - LEN_LEAST - LEN_RANGE), len);
    uint64_t span_hash = ++work->spans_made * 0xd6e8feb86659fd93ull;
    struct trace *trace = trace_table_find(work->table, id, id_hash);

    if (!trace)
        trace = trace_table_add(work->table, id, id_hash, NULL, 0, 10 * NS_PER_S);
    ASSERT(trace != NULL);
    ASSERT(trace_add_span(work->table, trace, span, span_hash, work->headers[span_hash >> 60], (struct journal_pos){1, 1}) == TRACE_SPAN_ADDED);
    return trace;
}

/* Every trace's spans in one random order. */
static uint32_t *shuffled(struct work *work, uint32_t traces, uint32_t spans)
{
    size_t count = (size_t)traces * spans;
    uint32_t *order = malloc(count * sizeof(*order));

    ASSERT(order != NULL);
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)(i % traces);
    for (size_t i = count - 1; i > 0; i--) {
        size_t j = draw(work, i + 1);
        uint32_t swapped = order[i];

        order[i] = order[j];
        order[j] = swapped;
    }
    return order;
}

static void measure_time(uint32_t traces, uint32_t spans, bool batched)
{
    struct work work;
    uint64_t bytes = (uint64_t)traces * spans * 1000 + (uint64_t)traces * 1024 + 64 * MIB;
    size_t count = (size_t)traces * spans;
    struct trace_id ids[BATCH];
    uint64_t hashes[BATCH];
    uint32_t *order;
    uint64_t start_ns, insert_ns, free_ns;

    work_init(&work, bytes);
    order = shuffled(&work, traces, spans);
    /* Page faults are the control thread's: extents are populated ahead. */
    extent_pool_tend(work.pool, (unsigned)(bytes / EXTENT_BYTES), 1);

    start_ns = now_ns();
    for (size_t at = 0; at < count; at += BATCH) {
        size_t n = size_min(BATCH, count - at);

        for (size_t i = 0; i < n; i++) {
            ids[i] = id_of(order[at + i]);
            hashes[i] = hash_trace(&ids[i]);
            if (batched)
                trace_table_prefetch(work.table, hashes[i]);
        }
        for (size_t i = 0; i < n && batched; i++)
            trace_table_prefetch_trace(work.table, hashes[i]);
        for (size_t i = 0; i < n; i++)
            insert(&work, &ids[i], hashes[i]);
    }
    insert_ns = now_ns() - start_ns;

    start_ns = now_ns();
    for (struct trace *trace; (trace = trace_table_due(work.table, 11 * NS_PER_S));) {
        trace_table_take(work.table, trace);
        trace_free(work.table, trace);
    }
    free_ns = now_ns() - start_ns;
    printf("%3u spans a trace  %-8s insert %6.1f ns a span   free %7.1f ns a trace, %5.1f ns a span\n", spans,
        batched ? "batched" : "one", (double)insert_ns / (double)count, (double)free_ns / (double)traces,
        (double)free_ns / (double)count);
    free(order);
    work_deinit(&work);
}

struct held {
    uint64_t number;
    struct trace *trace;
};

static void let_go(void *context, uint32_t segment, uint64_t bytes)
{
    (void)context;
    (void)segment;
    (void)bytes;
}

/* Everything waits, whole. */
static void measure_spilled(uint32_t traces, uint32_t spans)
{
    struct work work;
    uint64_t count = (uint64_t)traces * spans, whole, start_ns, spill_ns, bytes = count * 1000 + (uint64_t)traces * 1024 + 64 * MIB;
    struct trace *trace;

    work_init(&work, bytes);
    trace_table_journal(work.table, let_go, NULL);
    for (uint64_t i = 0; i < count; i++) {
        struct trace_id id = id_of(i % traces);

        insert(&work, &id, hash_trace(&id));
    }
    whole = extent_store_used_bytes(work.store) + trace_table_index_bytes(work.table);
    start_ns = now_ns();
    while ((trace = trace_table_spillable(work.table)))
        ASSERT(trace_spill(work.table, trace));
    extent_store_settle(work.store);
    spill_ns = now_ns() - start_ns;
    printf("%3u spans a trace  with a journal %.1f bytes a span, spilled %.1f (committed %.1f); to spill %.1f ns a span\n", spans,
        (double)whole / (double)count, (double)(extent_store_used_bytes(work.store) + trace_table_index_bytes(work.table)) / (double)count,
        (double)(extent_pool_committed_bytes(work.pool) - extent_pool_idle_bytes(work.pool) + trace_table_index_bytes(work.table)) / (double)count,
        (double)spill_ns / (double)count);
    work_deinit(&work);
}

static void measure_memory(uint32_t traces, uint32_t spans, bool at_random)
{
    uint32_t growing_count = traces / 10, waiting_most = traces - growing_count;
    struct held *growing = calloc(growing_count, sizeof(*growing));
    struct held *waiting = calloc(waiting_most, sizeof(*waiting)); /* a ring */
    uint32_t waiting_count = 0, waiting_first = 0;
    uint64_t numbers = 0, span_bytes = 0, ended = 0, in_use;
    struct work work;

    work_init(&work, (uint64_t)traces * spans * 2000 + 256 * MIB);
    ASSERT(growing && waiting);
    for (uint32_t i = 0; i < growing_count; i++)
        growing[i].number = numbers++;
    while (ended < 3ull * traces) {
        struct held *held = &growing[draw(&work, growing_count)];
        struct trace_id id = id_of(held->number);
        struct held *leaving;
        uint32_t at;

        held->trace = insert(&work, &id, hash_trace(&id));
        if (trace_info(held->trace).span_count < spans)
            continue;
        at = at_random ? draw(&work, waiting_most) : waiting_first;
        leaving = &waiting[waiting_count < waiting_most ? waiting_count : at];
        if (waiting_count < waiting_most) {
            waiting_count++;
        } else {
            waiting_first = (waiting_first + 1) % waiting_most;
            trace_free(work.table, leaving->trace);
            ended++;
        }
        *leaving = *held;
        *held = (struct held){.number = numbers++};
    }
    for (uint32_t i = 0; i < growing_count; i++)
        span_bytes += growing[i].trace ? trace_info(growing[i].trace).bytes : 0;
    for (uint32_t i = 0; i < waiting_count; i++)
        span_bytes += trace_info(waiting[i].trace).bytes;
    in_use = extent_pool_committed_bytes(work.pool) - extent_pool_idle_bytes(work.pool);
    printf("%3u spans a trace  %-9s committed %.3f of the spans' %" PRIu64 " MiB (blocks %.3f); index %" PRIu64
           " bytes a trace\n",
        spans, at_random ? "at random" : "in order", (double)in_use / (double)span_bytes, (uint64_t)(span_bytes / MIB),
        (double)extent_store_used_bytes(work.store) / (double)span_bytes,
        trace_table_index_bytes(work.table) / trace_table_count(work.table));
    free(growing);
    free(waiting);
    work_deinit(&work);
}

int main(int argc, char **argv)
{
    static const uint32_t usual[] = {15, 3, 60};
    uint32_t traces = 100000, spans = 0;

    for (int i = 1; i < argc; i++) {
        if (i + 1 < argc && strcmp(argv[i], "--traces") == 0) {
            traces = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--spans") == 0) {
            spans = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else {
            fprintf(stderr, "usage: micro_buffer [--traces N] [--spans N]\n");
            return 1;
        }
    }
    if (traces < 10) {
        fprintf(stderr, "micro_buffer: --traces is at least 10\n");
        return 1;
    }
    for (size_t i = 0; i < ARRAY_COUNT(usual); i++) {
        uint32_t now = spans ? spans : usual[i];

        measure_time(traces, now, false);
        measure_time(traces, now, true);
        measure_memory(traces, now, false);
        measure_memory(traces, now, true);
        measure_spilled(traces, now);
        if (spans)
            break;
    }
    return 0;
}
