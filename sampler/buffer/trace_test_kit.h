/* For the tests of traces: a table with a few headers, and spans whose bytes follow from a number.
 * Included after cmocka.h. */
#pragma once

#include "sampler/buffer/trace_table.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"

#define HEADERS 5
#define SEGMENTS 7

/* Whether fixtures have a journal: what holds without one holds with one. */
static bool with_journal;

struct fixture {
    struct extent_pool *pool;
    struct extent_store *store;
    struct header_table *headers_table;
    struct header *headers[HEADERS];
    struct trace_table *table;
    uint64_t random;
    uint64_t journal_held[SEGMENTS]; /* bytes of spans that are held, by segment */
};

static inline uint64_t draw(struct fixture *fixture)
{
    fixture->random = fixture->random * 6364136223846793005ull + 1442695040888963407ull;
    return fixture->random >> 32;
}

static inline struct header_part part_of(const char *text)
{
    return (struct header_part){
        .body = slice_text(text),
        .fragments = {slice_text(text)},
        .fragment_count = 1,
        .len = (uint32_t)strlen(text),
        .hash = hash_bytes(text, strlen(text)),
    };
}

static inline void fixture_let_go(void *context, uint32_t segment, uint64_t bytes)
{
    struct fixture *fixture = context;

    assert_in_range(segment, 1, SEGMENTS - 1);
    assert_true(fixture->journal_held[segment] >= bytes);
    fixture->journal_held[segment] -= bytes;
}

static inline void fixture_init(struct fixture *fixture, uint64_t limit_bytes)
{
    *fixture = (struct fixture){.random = 2024};
    assert_int_equal(extent_pool_new(limit_bytes, &fixture->pool), 0);
    assert_int_equal(extent_store_new(fixture->pool, &fixture->store), 0);
    fixture->headers_table = header_table_new();
    assert_non_null(fixture->headers_table);
    for (unsigned i = 0; i < HEADERS; i++) {
        struct span_header header = {.hash = i};
        char text[32];

        snprintf(text, sizeof(text), "service %u", i);
        header.resource = part_of(text);
        header.scope = part_of("scope");
        fixture->headers[i] = header_table_get(fixture->headers_table, &header, NULL);
        assert_non_null(fixture->headers[i]);
    }
    assert_int_equal(
        trace_table_new(fixture->store, fixture->headers_table, 0, &fixture->table), 0);
    if (with_journal)
        trace_table_journal(fixture->table, fixture_let_go, fixture);
}

/* Every block and every reference came back. */
static inline void fixture_deinit(struct fixture *fixture)
{
    trace_table_free(fixture->table);
    for (unsigned i = 0; i < SEGMENTS; i++)
        assert_int_equal(fixture->journal_held[i], 0);
    assert_int_equal(extent_store_used_bytes(fixture->store), 0);
    for (unsigned i = 0; i < HEADERS; i++) {
        assert_int_equal(fixture->headers[i]->refs, 1);
        header_unref(fixture->headers_table, fixture->headers[i], 1);
    }
    header_table_free(fixture->headers_table);
    extent_store_free(fixture->store);
    extent_pool_tend(fixture->pool, 0, 1);
    extent_pool_tend(fixture->pool, 0, 11 * NS_PER_S);
    assert_int_equal(extent_pool_committed_bytes(fixture->pool), 0);
    extent_pool_free(fixture->pool);
}

static inline struct trace_id id_of(uint64_t n)
{
    struct trace_id id;
    uint64_t words[2] = {n * 0x9e3779b97f4a7c15ull + 1, n};

    memcpy(id.bytes, words, sizeof(words));
    return id;
}

/* Span `seed` has these bytes, whoever asks. */
static inline struct slice span_of(uint32_t seed, uint32_t len, uint8_t *out)
{
    uint64_t random = seed * 0xbf58476d1ce4e5b9ull + 7;

    for (uint32_t i = 0; i < len; i++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        out[i] = (uint8_t)(random >> 56);
    }
    return slice_make(out, len);
}

struct span_seed {
    uint32_t seed, len;
    uint8_t header;
};

static inline uint64_t hash_of(struct span_seed span)
{
    uint64_t parts[2] = {span.seed, span.len};

    return hash_bytes(parts, sizeof(parts));
}

/* A span lies at the same place whoever asks. */
static inline struct journal_pos place_of(struct span_seed span)
{
    return with_journal ? (struct journal_pos){1 + span.seed / 4 % (SEGMENTS - 1), span.seed} : (struct journal_pos){0, 0};
}

static inline enum trace_span_result add_seed(struct fixture *fixture, struct trace *trace, struct span_seed span)
{
    uint8_t *bytes = malloc(span.len + 1);
    enum trace_span_result result = trace_add_span(fixture->table, trace, span_of(span.seed, span.len, bytes),
        hash_of(span), fixture->headers[span.header], place_of(span));

    if (result == TRACE_SPAN_ADDED && with_journal)
        fixture->journal_held[place_of(span).segment] += span.len;
    free(bytes);
    return result;
}

struct expected {
    const struct fixture *fixture;
    const struct span_seed *spans;
    size_t at, stop_at;
};

static inline int check_span(void *context, struct header *header, struct rope bytes)
{
    struct expected *expected = context;
    const struct span_seed *span = &expected->spans[expected->at];
    uint8_t *want = malloc(span->len + 1), *got = malloc(span->len + 1);

    span_of(span->seed, span->len, want);
    assert_int_equal(bytes.len, span->len);
    assert_true(bytes.at_len == bytes.len || bytes.more);
    rope_copy(&bytes, got);
    assert_memory_equal(got, want, span->len);
    assert_ptr_equal(header, expected->fixture->headers[span->header]);
    free(want);
    free(got);
    return ++expected->at == expected->stop_at ? 17 : 0;
}

struct placed {
    const struct span_seed *spans;
    size_t at;
};

static inline void check_place(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    struct placed *placed = context;
    const struct span_seed span = placed->spans[placed->at++];

    assert_int_equal(span_hash, hash_of(span));
    assert_int_equal(len, span.len);
    assert_int_equal(at->segment, place_of(span).segment);
    assert_int_equal(at->offset, place_of(span).offset);
}

static inline void check_trace(
    const struct fixture *fixture, const struct trace *trace, const struct span_seed *spans, size_t count)
{
    struct expected expected = {fixture, spans, 0, SIZE_MAX};
    uint64_t *hashes = calloc(count + 1, sizeof(*hashes));
    struct placed placed = {spans, 0};
    struct trace_info info = trace_info(trace);
    uint64_t bytes = 0;

    assert_int_equal(trace_spans(trace, check_span, &expected), 0);
    assert_int_equal(expected.at, count);
    trace_hashes(trace, hashes);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(hashes[i], hash_of(spans[i]));
        bytes += spans[i].len;
    }
    assert_int_equal(info.span_count, count);
    if (with_journal) {
        trace_places((struct trace *)(uintptr_t)trace, check_place, &placed);
        assert_int_equal(placed.at, count);
    }
    assert_int_equal(info.bytes, bytes);
    free(hashes);
}
