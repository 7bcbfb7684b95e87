/* A trace costs what the Collector would encode for it, whatever the order of its spans. Figures are that encoder's own. */
#include "sampler/decide/cost.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "tests/kit/otlp_build.h"

#define START_UNIX_NS 1700000000000000000ull

static struct otlp_span plain_span(uint64_t number)
{
    return (struct otlp_span){.trace_id = otlp_trace_id(1), .span_id = otlp_span_id(number), .name = "op", .kind = 1,
        .start_unix_ns = START_UNIX_NS, .end_unix_ns = START_UNIX_NS + 1};
}

static void put_scope(struct otlp_build *build, const struct otlp_span *spans, size_t count)
{
    otlp_scope_spans(build);
    otlp_scope(build, "lib", "1.0");
    for (size_t i = 0; i < count; i++)
        otlp_span(build, &spans[i]);
    otlp_end(build);
}

static void put(struct otlp_build *build, const struct otlp_attribute *resource, const struct otlp_span *spans, size_t count)
{
    otlp_resource_spans(build);
    otlp_resource(build, resource ? 1 : 0, resource);
    put_scope(build, spans, count);
    otlp_end(build);
}

/* From the first span to the last, or back. */
static uint64_t cost_of(const struct otlp_build *build, bool backward)
{
    struct span_header headers[256];
    struct slice spans[256];
    struct cost *cost = NULL;
    struct span_walk walk;
    struct span_ref span;
    size_t count = 0;
    uint64_t bytes;

    span_walk_init(&walk, otlp_slice(build));
    while (span_walk_next(&walk, &span)) {
        assert_true(count < ARRAY_COUNT(spans) && span.fault == SPAN_OK);
        headers[count] = *span.header;
        spans[count++] = span.bytes;
    }
    assert_false(walk.bad);
    assert_int_equal(cost_bytes(cost), 0);
    assert_int_equal(cost_memory(cost), 0);
    for (size_t i = 0; i < count; i++)
        cost_add(&cost, &headers[backward ? count - 1 - i : i], spans[backward ? count - 1 - i : i]);
    assert_true(cost_memory(cost) > 0 && cost_memory(cost) <= 64 + COST_HEADERS_MAX * 64);
    bytes = cost_bytes(cost);
    cost_free(cost);
    return bytes;
}

static void assert_cost(struct otlp_build *build, uint64_t want)
{
    assert_int_equal(cost_of(build, false), want);
    assert_int_equal(cost_of(build, true), want);
    otlp_build_deinit(build);
}

/* Each measured at the Collector, as the smallest burst_capacity that lets the trace pass. */
static void test_measured(void **state)
{
    const struct otlp_attribute service = OTLP_TEXT("service.name", "svc");
    struct otlp_span spans[2] = {plain_span(1), plain_span(2)};
    struct otlp_build build = {0};

    (void)state;
    put(&build, NULL, spans, 1);
    assert_cost(&build, 76);

    spans[1].parent_span_id = otlp_span_id(1);
    put(&build, NULL, spans, 2);
    assert_cost(&build, 144);

    put(&build, &service, spans, 1);
    assert_cost(&build, 99);

    spans[0].status = 2;
    spans[0].status_message = "m2";
    put(&build, NULL, spans, 1);
    assert_cost(&build, 82);
}

/* There, two ResourceSpans of equal resource and scope cost 152: here they are one, and so it is over requests. */
static void test_equal_headers(void **state)
{
    struct otlp_span spans[2] = {plain_span(1), plain_span(2)};
    struct otlp_build build = {0};

    (void)state;
    put(&build, NULL, &spans[0], 1);
    put(&build, NULL, &spans[1], 1);
    assert_cost(&build, 136);
    put(&build, NULL, spans, 2);
    assert_cost(&build, 136);
}

/* One resource with two scopes is one ResourceSpans; two resources are two. */
static void test_shapes(void **state)
{
    const struct otlp_attribute a = OTLP_TEXT("r", "a"), b = OTLP_TEXT("r", "b");
    struct otlp_span spans[2] = {plain_span(1), plain_span(2)};
    struct otlp_build build = {0};

    (void)state;
    put(&build, &a, &spans[0], 1); /* 76 and the attribute: tag, length, 8 bytes of KeyValue */
    put(&build, &b, &spans[1], 1);
    assert_cost(&build, 2 * (76 + 10));

    otlp_resource_spans(&build);
    otlp_resource(&build, 1, &a);
    put_scope(&build, &spans[0], 1);
    otlp_scope_spans(&build);
    otlp_span(&build, &spans[1]); /* a scope is written though there is none */
    otlp_end(&build);
    otlp_end(&build);
    assert_cost(&build, 76 + 10 + 2 + 2 + 58 + 1); /* the second ScopeSpans; and a length that takes two bytes now */
}

/* What is not the shortest form, unknown or a default costs what the Collector makes of it. */
static void test_forms(void **state)
{
    static const uint8_t zeros[16] = {0};
    struct otlp_build build = {0};

    (void)state;
    otlp_bytes(&build, 1, zeros, 16); /* an ID of zeros is an empty one: 2 */
    otlp_bytes(&build, 4, zeros, 8);  /* 2; with the absent span ID 2, and the absent status 2 */
    otlp_varint(&build, 6, 0);        /* nothing */
    otlp_fixed64(&build, 7, 0);       /* nothing */
    otlp_text(&build, 5, "");         /* nothing */
    otlp_text(&build, 5, "ab");       /* 4: of two the last */
    otlp_varint(&build, 10, 300);     /* 3 */
    otlp_varint(&build, 10, 5);       /* of two the last: 2 */
    otlp_varint(&build, 6, UINT64_MAX); /* a kind of -1: 11 */
    otlp_text(&build, 99, "unknown"); /* nothing */
    otlp_fixed32(&build, 16, 1);      /* 6 */
    assert_int_equal(cost_of_span(otlp_slice(&build)), 2 + 2 + 2 + 2 + 4 + 2 + 11 + 6);
    otlp_build_deinit(&build);
    assert_int_equal(cost_of_span(slice_make("", 0)), 8);
}

static void test_values(void **state)
{
    static const struct otlp_attribute item = OTLP_INT("", 0), pair = OTLP_TEXT("a", "");
    static const struct {
        struct otlp_attribute attribute;
        uint64_t want; /* of the KeyValue's value, with tag and length */
    } cases[] = {
        {OTLP_ABSENT("k"), 2},
        {OTLP_EMPTY("k"), 2},
        {OTLP_TEXT("k", ""), 4},
        {OTLP_TEXT("k", "abc"), 7},
        {OTLP_BOOL("k", 0), 4},
        {OTLP_INT("k", 0), 4},
        {OTLP_INT("k", 300), 5},
        {OTLP_INT("k", -1), 13},
        {OTLP_DOUBLE("k", 0), 11},
        {OTLP_ARRAY("k", NULL, 0), 4},
        {OTLP_ARRAY("k", &item, 1), 8},
        {OTLP_KVLIST("k", &pair, 1), 13},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct otlp_build build = {0};
        uint64_t cost;

        otlp_attribute(&build, 9, &cases[i].attribute);
        cost = cost_of_span(otlp_slice(&build));
        if (cost != 8 + 2 + 3 + cases[i].want)
            fail_msg("case %zu: %llu", i, (unsigned long long)cost);
        otlp_build_deinit(&build);
    }
}

/* Past the bound memory grows no more, and what came there costs more rather than less. */
static void test_many_headers(void **state)
{
    struct otlp_build build = {0};
    uint64_t cost;

    (void)state;
    for (uint64_t i = 0; i < 2 * COST_HEADERS_MAX; i++) {
        struct otlp_attribute resource = OTLP_INT("r", (int64_t)i);
        struct otlp_span span = plain_span(i + 1);

        put(&build, &resource, &span, 1);
    }
    cost = cost_of(&build, false);
    assert_int_equal(cost, 2 * COST_HEADERS_MAX * (76 + 9)); /* each a batch by itself anyway */
    otlp_build_deinit(&build);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measured),
        cmocka_unit_test(test_equal_headers),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_many_headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
