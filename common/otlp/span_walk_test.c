/* The walk yields the spans that a decoder finds, in order, with all that their headers hold; faults of a span stay
 * the span's, broken framing is the request's. */
#include "common/otlp/span_walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/kit/otlp_build.h"
#include "tests/kit/otlp_oracle.h"

static void expect_equal(const char *what, struct slice request, size_t spans)
{
    struct oracle_verdict verdict = oracle_walk(request);

    if (!verdict.ours || !verdict.theirs)
        fail_msg("%s: refused by %s", what, verdict.ours ? "protobuf-c" : "the walk");
    if (verdict.difference)
        fail_msg("%s: not equal: %s", what, verdict.difference);
    if (verdict.spans != spans)
        fail_msg("%s: %zu spans, not %zu", what, verdict.spans, spans);
}

/* -- shapes that are legal ---------------------------------------------------------------------------- */

static void span(struct otlp_build *b, uint64_t number)
{
    otlp_span(b, &(struct otlp_span){
                     .trace_id = otlp_trace_id(number / 3), .span_id = otlp_span_id(number), .name = "GET"});
}

static void resource(struct otlp_build *b, const char *service)
{
    otlp_resource(b, 1, (struct otlp_attribute[]){OTLP_TEXT("service.name", service)});
}

static void build_nothing(struct otlp_build *b)
{
    (void)b;
}

static void build_plain(struct otlp_build *b)
{
    otlp_request_of(b, "cart",
        &(struct otlp_span){.trace_id = otlp_trace_id(1), .span_id = otlp_span_id(1), .flags = 257});
}

static void build_no_header(struct otlp_build *b)
{
    otlp_resource_spans(b);
    otlp_scope_spans(b);
    span(b, 1);
    span(b, 2);
    otlp_end(b);
    otlp_end(b);
}

static void build_fields_last(struct otlp_build *b)
{
    otlp_resource_spans(b);
    otlp_scope_spans(b);
    span(b, 1);
    otlp_schema_url(b, "scope schema");
    otlp_scope(b, "lib", "1");
    otlp_end(b);
    otlp_schema_url(b, "resource schema");
    resource(b, "cart");
    otlp_end(b);
}

static void build_interleaved(struct otlp_build *b)
{
    otlp_resource_spans(b);
    otlp_varint(b, 77, 5);
    for (unsigned i = 0; i < 3; i++) {
        resource(b, "again");
        otlp_scope_spans(b);
        otlp_scope(b, "lib", NULL);
        span(b, i);
        otlp_scope(b, NULL, "2");
        span(b, 10 + i);
        otlp_text(b, 1000, "unknown");
        otlp_end(b);
        otlp_text(b, 1000, "unknown, once scope data");
    }
    otlp_end(b);
}

/* More runs of own fields than are kept apart, of more bytes than are hashed in one piece. */
static void build_many_fragments(struct otlp_build *b)
{
    char url[200];

    memset(url, 'u', sizeof(url) - 1);
    url[sizeof(url) - 1] = 0;
    otlp_resource_spans(b);
    for (unsigned i = 0; i < 9; i++) {
        otlp_schema_url(b, url + i * 7);
        otlp_scope_spans(b);
        for (unsigned k = 0; k < 9; k++) {
            otlp_scope(b, url + k * 20, "1");
            span(b, i * 100 + k);
        }
        otlp_end(b);
    }
    otlp_end(b);
}

static void build_empty_levels(struct otlp_build *b)
{
    otlp_resource_spans(b);
    otlp_end(b);
    otlp_resource_spans(b);
    resource(b, "no scopes");
    otlp_end(b);
    otlp_resource_spans(b);
    resource(b, "no spans");
    otlp_scope_spans(b);
    otlp_scope(b, "lib", NULL);
    otlp_end(b);
    otlp_scope_spans(b);
    otlp_end(b);
    otlp_end(b);
    build_plain(b);
    otlp_resource_spans(b);
    otlp_end(b);
}

static void build_unknown_in_request(struct otlp_build *b)
{
    otlp_text(b, 2, "not ours");
    build_plain(b);
    otlp_fixed32(b, 2000, 7);
    build_plain(b);
    otlp_fixed64(b, 15, 7);
    otlp_varint(b, 16, UINT64_MAX);
}

static void build_empty_span(struct otlp_build *b)
{
    otlp_resource_spans(b);
    otlp_scope_spans(b);
    otlp_begin(b, 2);
    otlp_end(b);
    span(b, 1);
    otlp_end(b);
    otlp_end(b);
}

static const struct {
    const char *what;
    void (*build)(struct otlp_build *b);
    size_t spans;
} shapes[] = {
    {"an empty request", build_nothing, 0},
    {"one span", build_plain, 1},
    {"no resource, no scope", build_no_header, 2},
    {"own fields after the children", build_fields_last, 1},
    {"own fields between the children, repeated, unknown", build_interleaved, 6},
    {"more fragments than are kept", build_many_fragments, 81},
    {"levels without spans", build_empty_levels, 1},
    {"unknown fields of the request", build_unknown_in_request, 2},
    {"an empty span", build_empty_span, 2},
};

static void test_shapes(void **state)
{
    struct otlp_build b = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(shapes); i++) {
        otlp_build_reset(&b);
        shapes[i].build(&b);
        expect_equal(shapes[i].what, otlp_slice(&b), shapes[i].spans);
    }
    otlp_build_reset(&b);
    otlp_realistic(&b, 42, 500, 15, 7);
    expect_equal("a realistic request", otlp_slice(&b), 500);
    otlp_build_deinit(&b);
}

/* Every prefix of a request: both decoders agree on whether it ends well, and on the spans when it does. */
static void test_prefixes(void **state)
{
    struct otlp_build b = {0};
    size_t whole = 0;

    (void)state;
    build_interleaved(&b);
    build_plain(&b);
    for (size_t len = 0; len <= b.len; len++) {
        uint8_t *exact = malloc(len > 0 ? len : 1);
        struct oracle_verdict verdict;

        assert_non_null(exact);
        memcpy(exact, b.bytes, len);
        verdict = oracle_walk(slice_make(exact, len));
        if (verdict.ours != verdict.theirs || verdict.difference)
            fail_msg("a prefix of %zu bytes", len);
        whole += verdict.ours;
        free(exact);
    }
    assert_int_equal(whole, 3); /* none, the first resource spans, both */
    otlp_build_deinit(&b);
}

/* -- what is refused ----------------------------------------------------------------------------------- */

enum level { LEVEL_REQUEST, LEVEL_RESOURCE_SPANS, LEVEL_SCOPE_SPANS, LEVEL_SPAN };

#define RAW(text) text, sizeof(text) - 1

/* Bytes put behind good fields of each level. */
static const struct {
    const char *what;
    enum level level;
    const char *bytes;
    size_t len;
    bool bad;              /* the request; else the span's fault: */
    enum span_fault fault;
} refusals[] = {
    {"request: resource spans as varint", LEVEL_REQUEST, RAW("\x08\x01"), true, SPAN_OK},
    {"request: resource spans as fixed32, at the end", LEVEL_REQUEST, RAW("\x0d"), true, SPAN_OK},
    {"request: group", LEVEL_REQUEST, RAW("\x13\x14"), true, SPAN_OK},
    {"request: field 0", LEVEL_REQUEST, RAW("\x02\x01x"), true, SPAN_OK},
    {"request: cut", LEVEL_REQUEST, RAW("\x0a\x02\x12"), true, SPAN_OK},
    {"request: unknown field cut", LEVEL_REQUEST, RAW("\x7a\x02\x12"), true, SPAN_OK},
    {"request: resource spans hold a cut field", LEVEL_REQUEST, RAW("\x0a\x01\x12"), true, SPAN_OK},
    {"resource spans: resource as varint", LEVEL_RESOURCE_SPANS, RAW("\x08\x01"), true, SPAN_OK},
    {"resource spans: scope spans as varint", LEVEL_RESOURCE_SPANS, RAW("\x10\x01"), true, SPAN_OK},
    {"resource spans: schema as fixed64", LEVEL_RESOURCE_SPANS, RAW("\x19\x31\x32\x33\x34\x35\x36\x37\x38"), true, SPAN_OK},
    {"resource spans: group", LEVEL_RESOURCE_SPANS, RAW("\x23\x24"), true, SPAN_OK},
    {"resource spans: old group 1000", LEVEL_RESOURCE_SPANS, RAW("\xc3\x3e\xc4\x3e"), true, SPAN_OK},
    {"resource spans: scope spans longer than it", LEVEL_RESOURCE_SPANS, RAW("\x12\x7fx"), true, SPAN_OK},
    {"scope spans: scope as varint", LEVEL_SCOPE_SPANS, RAW("\x08\x01"), true, SPAN_OK},
    {"scope spans: span as varint", LEVEL_SCOPE_SPANS, RAW("\x10\x01"), true, SPAN_OK},
    {"scope spans: schema as varint", LEVEL_SCOPE_SPANS, RAW("\x18\x01"), true, SPAN_OK},
    {"scope spans: group end", LEVEL_SCOPE_SPANS, RAW("\x24"), true, SPAN_OK},
    {"scope spans: wire type 7", LEVEL_SCOPE_SPANS, RAW("\x27\x01"), true, SPAN_OK},
    {"scope spans: span cut", LEVEL_SCOPE_SPANS, RAW("\x12\xff\xff\xff\xff\x07"), true, SPAN_OK},
    {"span: nothing wrong", LEVEL_SPAN, RAW(""), false, SPAN_OK},
    {"span: unknown fields", LEVEL_SPAN, RAW("\x8a\x01\x01x\xc0\x3e\x07"), false, SPAN_OK},
    {"span: IDs of other fields", LEVEL_SPAN, RAW("\x6a\x03\x0a\x01x"), false, SPAN_OK},
    {"span: tags longer than needed", LEVEL_SPAN, RAW("\xaa\x80\x00\x01n\xcd\x80"
                                                      "\x81\x00"
                                                      "abcd"), false, SPAN_OK},
    {"span: later trace ID too short", LEVEL_SPAN, RAW("\x0a\x0f" "123456789012345"), false, SPAN_NO_TRACE_ID},
    {"span: later trace ID too long", LEVEL_SPAN, RAW("\x0a\x11" "12345678901234567"), false, SPAN_NO_TRACE_ID},
    {"span: later trace ID empty", LEVEL_SPAN, RAW("\x0a\x00"), false, SPAN_NO_TRACE_ID},
    {"span: later trace ID zero", LEVEL_SPAN, RAW("\x0a\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), false, SPAN_NO_TRACE_ID},
    {"span: later span ID too short", LEVEL_SPAN, RAW("\x12\x07" "1234567"), false, SPAN_NO_SPAN_ID},
    {"span: later span ID zero", LEVEL_SPAN, RAW("\x12\x08\0\0\0\0\0\0\0\0"), false, SPAN_NO_SPAN_ID},
    {"span: parent ID of 8 bytes", LEVEL_SPAN, RAW("\x22\x08" "12345678"), false, SPAN_OK},
    {"span: parent ID empty", LEVEL_SPAN, RAW("\x22\x00"), false, SPAN_OK},
    {"span: parent ID too short", LEVEL_SPAN, RAW("\x22\x05" "12345"), false, SPAN_MALFORMED},
    {"span: parent ID corrected later", LEVEL_SPAN, RAW("\x22\x01x\x22\x00"), false, SPAN_OK},
    {"span: trace ID as varint", LEVEL_SPAN, RAW("\x08\x01"), false, SPAN_MALFORMED},
    {"span: name as varint", LEVEL_SPAN, RAW("\x28\x01"), false, SPAN_MALFORMED},
    {"span: kind as bytes", LEVEL_SPAN, RAW("\x32\x01x"), false, SPAN_MALFORMED},
    {"span: start as varint", LEVEL_SPAN, RAW("\x38\x01"), false, SPAN_MALFORMED},
    {"span: end as fixed32", LEVEL_SPAN, RAW("\x45" "1234"), false, SPAN_MALFORMED},
    {"span: attributes as varint", LEVEL_SPAN, RAW("\x48\x01"), false, SPAN_MALFORMED},
    {"span: dropped count as fixed64", LEVEL_SPAN, RAW("\x51" "12345678"), false, SPAN_MALFORMED},
    {"span: status as varint", LEVEL_SPAN, RAW("\x78\x01"), false, SPAN_MALFORMED},
    {"span: flags as varint", LEVEL_SPAN, RAW("\x80\x01\x01"), false, SPAN_MALFORMED},
    {"span: flags cut", LEVEL_SPAN, RAW("\x85\x01\x01"), false, SPAN_MALFORMED},
    {"span: start cut", LEVEL_SPAN, RAW("\x39" "1234567"), false, SPAN_MALFORMED},
    {"span: attribute cut", LEVEL_SPAN, RAW("\x4a\x05x"), false, SPAN_MALFORMED},
    {"span: second attribute cut", LEVEL_SPAN, RAW("\x4a\x01x\x4a\x05xxxx"), false, SPAN_MALFORMED},
    {"span: long attribute cut", LEVEL_SPAN, RAW("\x4a\x80\x01x"), false, SPAN_MALFORMED},
    {"span: tag cut", LEVEL_SPAN, RAW("\x85"), false, SPAN_MALFORMED},
    {"span: group", LEVEL_SPAN, RAW("\x8b\x01\x8c\x01"), false, SPAN_MALFORMED},
    {"span: field 0", LEVEL_SPAN, RAW("\x00\x01"), false, SPAN_MALFORMED},
};

static void build_refusal(struct otlp_build *b, enum level level, struct slice bytes)
{
    struct trace_id trace_id = otlp_trace_id(5);
    struct otlp_span_id span_id = otlp_span_id(5);

    otlp_resource_spans(b);
    resource(b, "cart");
    otlp_scope_spans(b);
    otlp_begin(b, 2);
    otlp_bytes(b, 1, trace_id.bytes, sizeof(trace_id.bytes));
    otlp_bytes(b, 2, span_id.bytes, sizeof(span_id.bytes));
    otlp_text(b, 5, "name");
    if (level == LEVEL_SPAN)
        otlp_raw(b, bytes.at, bytes.len);
    otlp_end(b);
    span(b, 6);
    if (level == LEVEL_SCOPE_SPANS)
        otlp_raw(b, bytes.at, bytes.len);
    otlp_end(b);
    if (level == LEVEL_RESOURCE_SPANS)
        otlp_raw(b, bytes.at, bytes.len);
    otlp_end(b);
    if (level == LEVEL_REQUEST)
        otlp_raw(b, bytes.at, bytes.len);
}

static void test_refusals(void **state)
{
    struct otlp_build b = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(refusals); i++) {
        enum span_fault faults[2] = {SPAN_OK, SPAN_OK};
        struct trace_id ids[2], good = otlp_trace_id(5), zero = {{0}};
        struct span_walk walk;
        struct span_ref ref;
        size_t count = 0;

        otlp_build_reset(&b);
        build_refusal(&b, refusals[i].level, slice_make(refusals[i].bytes, refusals[i].len));
        span_walk_init(&walk, otlp_slice(&b));
        while (span_walk_next(&walk, &ref) && count < 2) {
            ids[count] = ref.trace_id;
            faults[count++] = ref.fault;
        }
        if (walk.bad != refusals[i].bad)
            fail_msg("%s: the request is %s", refusals[i].what, walk.bad ? "refused" : "taken");
        if (span_walk_next(&walk, &ref))
            fail_msg("%s: it goes on after the end", refusals[i].what);
        if (walk.bad)
            continue;
        if (count != 2 || faults[0] != refusals[i].fault || faults[1] != SPAN_OK)
            fail_msg("%s: %zu spans, fault %d", refusals[i].what, count, (int)faults[0]);
        if (!trace_id_equal(&ids[0],
                faults[0] == SPAN_OK || faults[0] == SPAN_NO_SPAN_ID ? &good : &zero))
            fail_msg("%s: trace ID", refusals[i].what);
    }
    otlp_build_deinit(&b);
}

/* A span cut anywhere, at the very end of memory: malformed for us when and only when protobuf-c refuses it. The
 * attributes are empty, so that what is inside them cannot be cut: their content is not the walk's. */
static void test_cut_spans(void **state)
{
    struct otlp_build content = {0}, b = {0};
    struct otlp_span_id id = otlp_span_id(1);

    (void)state;
    otlp_span_fields(&content,
        &(struct otlp_span){.trace_id = otlp_trace_id(1), .span_id = id, .parent_span_id = id, .name = "GET",
            .kind = 2, .start_unix_ns = 5, .end_unix_ns = 6, .dropped_attributes = 1, .flags = 257});
    for (unsigned i = 0; i < 4; i++)
        otlp_bytes(&content, 9, "", 0);
    otlp_bytes(&content, 9, "\x1a\x08UNKNOWN!", 10); /* cut only as a whole: its length is 10 */
    otlp_bytes(&content, 9, "", 0);
    for (size_t len = 0; len <= content.len; len++) {
        struct oracle_verdict verdict;
        struct span_walk walk;
        struct span_ref ref;
        uint8_t *exact;

        otlp_build_reset(&b);
        otlp_resource_spans(&b);
        otlp_scope_spans(&b);
        otlp_bytes(&b, 2, content.bytes, len);
        otlp_end(&b);
        otlp_end(&b);
        exact = malloc(b.len);
        assert_non_null(exact);
        memcpy(exact, b.bytes, b.len);
        verdict = oracle_walk(slice_make(exact, b.len));
        span_walk_init(&walk, slice_make(exact, b.len));
        assert_true(span_walk_next(&walk, &ref));
        if (verdict.theirs != (ref.fault != SPAN_MALFORMED) || verdict.difference)
            fail_msg("a span cut to %zu bytes: fault %d", len, (int)ref.fault);
        assert_false(span_walk_next(&walk, &ref) || walk.bad);
        free(exact);
    }
    otlp_build_deinit(&content);
    otlp_build_deinit(&b);
}

static void test_last_id_wins(void **state)
{
    struct trace_id first = otlp_trace_id(1), last = otlp_trace_id(2);
    struct otlp_span_id id = otlp_span_id(1);
    struct otlp_build b = {0};
    struct span_walk walk;
    struct span_ref ref;

    (void)state;
    otlp_resource_spans(&b);
    otlp_scope_spans(&b);
    otlp_begin(&b, 2);
    otlp_bytes(&b, 1, first.bytes, 16);
    otlp_bytes(&b, 2, id.bytes, 8);
    otlp_text(&b, 5, "between");
    otlp_bytes(&b, 1, last.bytes, 16);
    otlp_end(&b);
    otlp_begin(&b, 2); /* span_id before trace_id, both at the end */
    otlp_text(&b, 5, "n");
    otlp_bytes(&b, 2, id.bytes, 8);
    otlp_bytes(&b, 1, first.bytes, 16);
    otlp_end(&b);
    otlp_end(&b);
    otlp_end(&b);
    span_walk_init(&walk, otlp_slice(&b));
    assert_true(span_walk_next(&walk, &ref));
    assert_int_equal(ref.fault, SPAN_OK);
    assert_true(trace_id_equal(&ref.trace_id, &last));
    assert_true(span_walk_next(&walk, &ref));
    assert_int_equal(ref.fault, SPAN_OK);
    assert_true(trace_id_equal(&ref.trace_id, &first));
    assert_false(span_walk_next(&walk, &ref) || walk.bad);
    otlp_build_deinit(&b);
}

static void test_too_big(void **state)
{
    struct span_walk walk;
    struct span_ref ref;
    uint8_t byte = 0;

    (void)state;
    span_walk_init(&walk, slice_make(&byte, (size_t)REQUEST_BYTES_MAX + 1));
    assert_false(span_walk_next(&walk, &ref));
    assert_true(walk.bad);
}

/* -- headers -------------------------------------------------------------------------------------------- */

/* The same fields cut into 1 … 8 runs by children are the same header: equal bytes, equal hash. */
static void test_cuts(void **state)
{
    struct header_part parts[8];
    struct otlp_build builds[8] = {{0}};

    (void)state;
    for (size_t url_len = 1; url_len < 300; url_len += 23) {
        char url[300];

        memset(url, 'x', sizeof(url));
        url[url_len] = 0;
        for (unsigned cuts = 0; cuts < 8; cuts++) {
            struct otlp_build *b = &builds[cuts];
            struct span_walk walk;
            struct span_ref ref;
            uint8_t written[8 * 310];
            struct header_part joined;

            otlp_build_reset(b);
            otlp_resource_spans(b);
            otlp_scope_spans(b);
            for (unsigned i = 0; i < 8; i++) {
                url[0] = (char)('a' + i);
                otlp_schema_url(b, url);
                if (i < cuts)
                    span(b, i);
            }
            span(b, 9);
            otlp_end(b);
            otlp_end(b);
            span_walk_init(&walk, otlp_slice(b));
            assert_true(span_walk_next(&walk, &ref));
            parts[cuts] = ref.header->scope;
            assert_true(header_part_write(&parts[cuts], written) == written + parts[cuts].len);
            joined = header_part_of(slice_make(written, parts[cuts].len),
                header_part_hash(slice_make(written, parts[cuts].len)));
            assert_true(joined.hash == parts[cuts].hash);
            assert_true(header_part_equal(&joined, &parts[cuts]) && header_part_equal(&parts[cuts], &joined));
            assert_true(header_part_equal(&parts[0], &parts[cuts]) && parts[0].hash == parts[cuts].hash);
            written[parts[cuts].len - 1] ^= 1;
            assert_false(header_part_equal(&joined, &parts[cuts]));
            joined.len--;
            assert_false(header_part_equal(&joined, &parts[cuts]));
        }
    }
    for (unsigned i = 0; i < 8; i++)
        otlp_build_deinit(&builds[i]);
}

/* -- many random requests --------------------------------------------------------------------------------- */

static uint64_t random_state;

static unsigned dice(unsigned sides)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(random_state >> 33) % sides;
}

static void random_own_field(struct otlp_build *b, bool of_scope)
{
    switch (dice(5)) {
    case 0:
        otlp_begin(b, 1); /* a scope or resource with nothing in it */
        otlp_end(b);
        break;
    case 1:
        otlp_schema_url(b, "schema");
        break;
    case 2:
        otlp_varint(b, 4 + dice(2000), random_state);
        break;
    case 3:
        otlp_fixed32(b, 1000, 5);
        break;
    default:
        if (of_scope)
            otlp_scope(b, "lib", "1");
        else
            resource(b, "s");
    }
}

static size_t random_request(struct otlp_build *b)
{
    size_t spans = 0;

    for (unsigned resources = dice(4); resources > 0; resources--) {
        otlp_resource_spans(b);
        for (unsigned fields = dice(8); fields > 0; fields--) {
            if (dice(3) > 0) {
                random_own_field(b, false);
                continue;
            }
            otlp_scope_spans(b);
            for (unsigned inner = dice(10); inner > 0; inner--) {
                if (dice(2) > 0) {
                    random_own_field(b, true);
                } else {
                    span(b, random_state);
                    spans++;
                }
            }
            otlp_end(b);
        }
        otlp_end(b);
    }
    return spans;
}

/* Random requests are read as protobuf-c reads them; with a byte changed, too, when both still accept them. */
static void test_random(void **state)
{
    struct otlp_build b = {0};
    size_t both = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct oracle_verdict verdict;
        size_t spans;

        random_state = seed;
        otlp_build_reset(&b);
        spans = random_request(&b);
        verdict = oracle_walk(otlp_slice(&b));
        if (!verdict.ours || !verdict.theirs || verdict.difference || verdict.spans != spans)
            fail_msg("seed %u: %s", (unsigned)seed, verdict.difference ? verdict.difference : "refused");
        for (unsigned i = 0; i < 8 && b.len > 0; i++) {
            size_t at = dice((unsigned)b.len);
            uint8_t old = b.bytes[at];

            b.bytes[at] = (uint8_t)dice(256);
            verdict = oracle_walk(otlp_slice(&b));
            if (verdict.difference)
                fail_msg("seed %u, byte %zu changed: %s", (unsigned)seed, at, verdict.difference);
            both += verdict.ours && verdict.theirs;
            b.bytes[at] = old;
        }
    }
    assert_true(both > 1000); /* enough changes were harmless to the framing */
    otlp_build_deinit(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_cut_spans),
        cmocka_unit_test(test_last_id_wins),
        cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
