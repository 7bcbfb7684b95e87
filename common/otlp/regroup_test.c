/* What was walked and regrouped is walked again as the same spans with equal headers; equal headers are merged,
 * groups stand in order of first appearance, and the size is known before a byte is written. */
#include "common/otlp/regroup.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/otlp_trace.pb-c.h"
#include "tests/kit/otlp_build.h"
#include "tests/kit/otlp_oracle.h"

static void add_request(struct regroup *regroup, struct slice request)
{
    uint32_t header_index = 0, number = 0;
    struct span_walk walk;
    struct span_ref span;

    span_walk_init(&walk, request);
    while (span_walk_next(&walk, &span)) {
        if (span.header_index != header_index) {
            header_index = span.header_index;
            number = regroup_header(regroup, span.header);
        }
        assert_int_equal(regroup_span(regroup, number, rope_of(span.bytes.at, span.bytes.len)), 0);
    }
    assert_false(walk.bad);
}

/* Writes into memory of exactly the size. The caller frees. */
static struct slice write_all(struct regroup *regroup)
{
    size_t bound = regroup_size_bound(regroup), size = regroup_size(regroup);
    uint8_t *out = malloc(size > 0 ? size : 1);

    assert_non_null(out);
    assert_true(size <= bound);
    assert_true(regroup_write(regroup, out) == out + size);
    return slice_make(out, size);
}

static void slice_free(struct slice slice)
{
    free((void *)(uintptr_t)slice.at);
}

static Otlp__ExportTraceServiceRequest *decode(struct slice bytes)
{
    Otlp__ExportTraceServiceRequest *request =
        otlp__export_trace_service_request__unpack(NULL, bytes.len, bytes.at);

    assert_non_null(request);
    return request;
}

static void span(struct otlp_build *b, uint64_t number)
{
    otlp_span(b, &(struct otlp_span){
                     .trace_id = otlp_trace_id(number), .span_id = otlp_span_id(number), .start_unix_ns = number});
}

/* One span under a resource and a scope, with an unknown field that belongs to the resource spans. */
static void request(struct otlp_build *b, const char *service, const char *scope, const char *schema, uint64_t number)
{
    otlp_resource_spans(b);
    otlp_resource(b, 1, (struct otlp_attribute[]){OTLP_TEXT("service.name", service)});
    otlp_scope_spans(b);
    otlp_scope(b, scope, NULL);
    span(b, number);
    if (schema)
        otlp_schema_url(b, schema);
    otlp_end(b);
    otlp_text(b, 1000, "carried through");
    otlp_end(b);
}

static void expect_span(const Otlp__ScopeSpans *scope, size_t at, uint64_t number)
{
    assert_true(at < scope->n_spans);
    assert_true(scope->spans[at]->start_time_unix_nano == number);
}

static bool text_equal(ProtobufCBinaryData data, const char *text)
{
    return slice_equal(slice_make(data.data, data.len), slice_text(text));
}

static void test_merge(void **state)
{
    struct otlp_build first = {0}, second = {0};
    struct regroup *regroup = regroup_new();
    Otlp__ExportTraceServiceRequest *out;
    struct slice bytes;

    (void)state;
    request(&first, "cart", "http", NULL, 1);
    request(&first, "orders", "http", NULL, 2);
    request(&first, "cart", "db", NULL, 3);
    request(&second, "cart", "db", NULL, 4);
    request(&second, "cart", "http", "schema", 5);
    request(&second, "orders", "http", NULL, 6);
    request(&second, "cart", "http", NULL, 7);
    add_request(regroup, otlp_slice(&first));
    add_request(regroup, otlp_slice(&second));
    assert_int_equal(regroup_span_count(regroup), 7);
    bytes = write_all(regroup);
    out = decode(bytes);

    assert_int_equal(out->n_resource_spans, 2);
    assert_int_equal(out->resource_spans[0]->n_scope_spans, 3);
    assert_true(text_equal(out->resource_spans[0]->resource->attributes[0]->value->string_value, "cart"));
    assert_true(text_equal(out->resource_spans[0]->scope_spans[0]->scope->name, "http"));
    assert_int_equal(out->resource_spans[0]->scope_spans[0]->n_spans, 2);
    expect_span(out->resource_spans[0]->scope_spans[0], 0, 1);
    expect_span(out->resource_spans[0]->scope_spans[0], 1, 7);
    assert_true(text_equal(out->resource_spans[0]->scope_spans[1]->scope->name, "db"));
    assert_int_equal(out->resource_spans[0]->scope_spans[1]->n_spans, 2);
    expect_span(out->resource_spans[0]->scope_spans[1], 0, 3);
    expect_span(out->resource_spans[0]->scope_spans[1], 1, 4);
    assert_true(text_equal(out->resource_spans[0]->scope_spans[2]->scope->name, "http"));
    assert_true(text_equal(out->resource_spans[0]->scope_spans[2]->schema_url, "schema"));
    assert_int_equal(out->resource_spans[0]->scope_spans[2]->n_spans, 1);
    expect_span(out->resource_spans[0]->scope_spans[2], 0, 5);
    assert_true(text_equal(out->resource_spans[1]->resource->attributes[0]->value->string_value, "orders"));
    assert_int_equal(out->resource_spans[1]->n_scope_spans, 1);
    expect_span(out->resource_spans[1]->scope_spans[0], 0, 2);
    expect_span(out->resource_spans[1]->scope_spans[0], 1, 6);
    assert_int_equal(out->resource_spans[0]->base.n_unknown_fields, 1);
    assert_int_equal(out->resource_spans[0]->base.unknown_fields[0].tag, 1000);

    otlp__export_trace_service_request__free_unpacked(out, NULL);
    slice_free(bytes);
    otlp_build_deinit(&first);
    otlp_build_deinit(&second);
    regroup_free(regroup);
}

/* A realistic request comes out as the same bytes, but for where the schema URLs stand; once more, as the very same. */
static void test_law(void **state)
{
    struct regroup *regroup = regroup_new();
    struct otlp_build b = {0};
    struct oracle_verdict verdict;
    struct slice once, twice;

    (void)state;
    for (unsigned round = 0; round < 3; round++) { /* the scratch is used again */
        otlp_build_reset(&b);
        otlp_realistic(&b, round, 200 + round * 300, 15, 3 + round);
        regroup_reset(regroup);
        add_request(regroup, otlp_slice(&b));
        once = write_all(regroup);
        assert_int_equal(once.len, otlp_slice(&b).len);
        verdict = oracle_walk(once);
        assert_true(verdict.ours && verdict.theirs && !verdict.difference);
        assert_int_equal(verdict.spans, 200 + round * 300);
        regroup_reset(regroup);
        add_request(regroup, once);
        twice = write_all(regroup);
        assert_true(slice_equal(once, twice));
        slice_free(once);
        slice_free(twice);
    }
    otlp_build_deinit(&b);
    regroup_free(regroup);
}

static void test_empty(void **state)
{
    struct regroup *regroup = regroup_new();
    struct otlp_build b = {0};
    struct span_walk walk;
    struct span_ref ref;
    struct slice bytes;
    uint32_t number;

    (void)state;
    assert_int_equal(regroup_size(regroup), 0);
    /* Headers without spans leave nothing; a span of no bytes is a span. */
    request(&b, "cart", "http", NULL, 1);
    span_walk_init(&walk, otlp_slice(&b));
    assert_true(span_walk_next(&walk, &ref));
    number = regroup_header(regroup, ref.header);
    assert_int_equal(regroup_header(regroup, ref.header), number);
    assert_int_equal(regroup_size(regroup), 0);
    assert_int_equal(regroup_span(regroup, number, rope_of(NULL, 0)), 0);
    bytes = write_all(regroup);
    span_walk_init(&walk, bytes);
    assert_true(span_walk_next(&walk, &ref));
    assert_int_equal(ref.bytes.len, 0);
    assert_false(span_walk_next(&walk, &ref) || walk.bad);
    slice_free(bytes);

    assert_int_equal(regroup_span(regroup, REGROUP_NO_HEADER, rope_of("", 0)), -ENOMEM);
    regroup_reset(regroup);
    assert_int_equal(regroup_span_count(regroup), 0);
    assert_int_equal(regroup_size_bound(regroup), 0);
    assert_int_equal(regroup_size(regroup), 0);
    otlp_build_deinit(&b);
    regroup_free(regroup);
}

/* Equal hashes are not yet equal headers. */
static void test_collision(void **state)
{
    static const char *const urls[] = {"\x1a\x01x", "\x1a\x01y", "\x1a\x02zz", ""};
    struct regroup *regroup = regroup_new();
    uint32_t numbers[4][4];

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 4; i++) {
            for (uint32_t k = 0; k < 4; k++) {
                struct span_header header = {
                    .resource = header_part_of(slice_text(urls[i]), 7),
                    .scope = header_part_of(slice_text(urls[k]), 7),
                    .hash = 7,
                };
                uint32_t number = regroup_header(regroup, &header);

                if (round == 0)
                    numbers[i][k] = number;
                assert_int_equal(number, numbers[i][k]);
                assert_int_equal(number, i * 4 + k);
                assert_int_equal(regroup_span(regroup, number, rope_of("", 0)), 0);
            }
        }
    }
    regroup_free(regroup);
}

/* Spans that cross blocks come out whole, wherever the cuts are. */
static void test_ropes(void **state)
{
    struct extent_pool *pool = NULL;
    struct extent_store *store = NULL;
    struct regroup *regroup = regroup_new();
    uint8_t content[2000];
    struct span_header header = {.hash = 1};
    struct block *blocks[20];
    size_t block_count = 0, at;
    struct span_walk walk;
    struct span_ref ref;
    struct slice bytes;
    uint32_t number;

    (void)state;
    assert_int_equal(extent_pool_new(64 * EXTENT_BYTES, &pool), 0);
    assert_int_equal(extent_store_new(pool, &store), 0);
    for (size_t i = 0; i < sizeof(content); i++)
        content[i] = (uint8_t)(i * 31 + i / 256);
    for (at = 0; at < sizeof(content); block_count++) {
        struct block *block = block_new_class(store, BLOCK_CLASS_256);
        size_t take = block_capacity(block);

        assert_true(block_count < ARRAY_COUNT(blocks));
        if (take > sizeof(content) - at)
            take = sizeof(content) - at;
        memcpy(block->bytes, content + at, take);
        block->next = NULL;
        blocks[block_count] = block;
        if (block_count > 0)
            blocks[block_count - 1]->next = block;
        at += take;
    }
    number = regroup_header(regroup, &header);
    for (size_t from = 0; from < 250; from += 7) {
        size_t capacity = block_capacity(blocks[0]);

        if (from >= capacity)
            break;
        for (size_t len = 1; from + len <= sizeof(content); len += 83) {
            size_t here = capacity - from < len ? capacity - from : len;
            struct rope rope = {blocks[0]->bytes + from, (uint32_t)here, (uint32_t)len, blocks[1]};

            assert_int_equal(regroup_span(regroup, number, rope), 0);
        }
    }
    bytes = write_all(regroup);
    span_walk_init(&walk, bytes);
    for (size_t from = 0; from < 250 && from < block_capacity(blocks[0]); from += 7) {
        for (size_t len = 1; from + len <= sizeof(content); len += 83) {
            assert_true(span_walk_next(&walk, &ref));
            assert_true(slice_equal(ref.bytes, slice_make(content + from, len)));
        }
    }
    assert_false(span_walk_next(&walk, &ref) || walk.bad);
    slice_free(bytes);
    regroup_free(regroup);
    block_free_chain(store, blocks[0]);
    extent_store_free(store);
    extent_pool_free(pool);
}

/* A hundred thousand spans under thousands of headers, as they come: nothing lost, each under its own. */
static void test_many(void **state)
{
    enum { SPANS = 100000, HEADERS = 5000 };
    struct regroup *regroup = regroup_new();
    struct otlp_build *urls = calloc(HEADERS, sizeof(*urls));
    uint64_t *ids = calloc(SPANS, sizeof(*ids));
    uint8_t *seen = calloc(SPANS, 1);
    struct span_walk walk;
    struct span_ref ref;
    struct slice bytes;
    size_t count = 0;

    (void)state;
    assert_true(urls && ids && seen);
    for (size_t i = 0; i < HEADERS; i++) {
        char text[32];

        (void)snprintf(text, sizeof(text), "header %zu", i);
        otlp_schema_url(&urls[i], text);
    }
    for (size_t i = 0; i < SPANS; i++) {
        size_t pick = i * 2654435761u % HEADERS;
        struct slice resource = otlp_slice(&urls[pick % 100]), scope = otlp_slice(&urls[pick]);
        struct span_header header = {
            .resource = header_part_of(resource, header_part_hash(resource)),
            .scope = header_part_of(scope, header_part_hash(scope)),
        };

        header.hash = span_header_hash(&header.resource, &header.scope);
        ids[i] = i << 32 | pick;
        assert_int_equal(regroup_span(regroup, regroup_header(regroup, &header), rope_of(&ids[i], 8)), 0);
    }
    bytes = write_all(regroup);
    span_walk_init(&walk, bytes);
    while (span_walk_next(&walk, &ref)) {
        struct slice scope;
        uint64_t id;

        assert_int_equal(ref.bytes.len, 8);
        memcpy(&id, ref.bytes.at, 8);
        assert_true(id >> 32 < SPANS && !seen[id >> 32]);
        seen[id >> 32] = 1;
        scope = otlp_slice(&urls[id & UINT32_MAX]);
        assert_true(ref.header->scope.hash == header_part_hash(scope));
        assert_true(slice_equal(ref.header->scope.fragments[0], scope));
        count++;
    }
    assert_false(walk.bad);
    assert_int_equal(count, SPANS);
    assert_int_equal(walk.header_index, HEADERS);
    slice_free(bytes);
    for (size_t i = 0; i < HEADERS; i++)
        otlp_build_deinit(&urls[i]);
    free(urls);
    free(ids);
    free(seen);
    regroup_free(regroup);
}

/* What was lent stays as it was written while more is lent, and is there again after a reset. */
static void test_lend(void **state)
{
    static const size_t sizes[] = {1, 65535, 1, 100000, 0, 300, 65536};
    uint8_t *lent[7];
    struct regroup *regroup = regroup_new();

    (void)state;
    assert_non_null(regroup);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 7; i++) {
            lent[i] = regroup_lend(regroup, sizes[i]);
            assert_non_null(lent[i]);
            memset(lent[i], (int)i + 1, sizes[i]);
        }
        for (unsigned i = 0; i < 7; i++)
            for (size_t at = 0; at < sizes[i]; at++)
                assert_int_equal(lent[i][at], i + 1);
        regroup_reset(regroup);
    }
    regroup_free(regroup);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_law),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_collision),
        cmocka_unit_test(test_ropes),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_lend),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
