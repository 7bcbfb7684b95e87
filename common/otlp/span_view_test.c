/* A span's view is what a decoder finds in it, attributes included; what is malformed anywhere inside is refused. */
#include "common/otlp/span_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/otlp/span_walk.h"
#include "tests/kit/otlp_build.h"
#include "tests/kit/otlp_oracle.h"

static const struct otlp_attribute items[] = {
    OTLP_TEXT("a", "text"),
    OTLP_INT("b", -1),
    OTLP_EMPTY("c"),
    OTLP_ABSENT("d"),
};

static const struct otlp_attribute attributes[] = {
    OTLP_TEXT("text", "GET"),
    OTLP_TEXT("", ""),
    OTLP_BOOL("true", 1),
    OTLP_BOOL("false", 0),
    OTLP_INT("zero", 0),
    OTLP_INT("port", 8443),
    OTLP_INT("large", 1ll << 40),
    OTLP_INT("negative", -5),
    OTLP_DOUBLE("double", -2.5),
    OTLP_BYTES("bytes", "\0\1\2", 3),
    OTLP_EMPTY("empty"),
    OTLP_ABSENT("absent"),
    OTLP_ARRAY("array", items, ARRAY_COUNT(items)),
    OTLP_ARRAY("no items", NULL, 0),
    OTLP_KVLIST("kvlist", items, ARRAY_COUNT(items)),
    OTLP_TEXT("text", "a second time"),
    OTLP_TEXT("long",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"),
};

static struct otlp_span full_span(void)
{
    static const struct otlp_event events[] = {{1, "exception", attributes, 3}, {0, NULL, NULL, 0}};
    static struct otlp_link links[1];

    links[0] = (struct otlp_link){otlp_trace_id(8), otlp_span_id(8), "a=b", attributes, 2, 0x301};
    return (struct otlp_span){
        .trace_id = otlp_trace_id(7),
        .span_id = otlp_span_id(7),
        .parent_span_id = otlp_span_id(6),
        .trace_state = "ot=th:8",
        .name = "checkout",
        .kind = 2,
        .start_unix_ns = 1700000000000000000ull,
        .end_unix_ns = 1700000000250000000ull,
        .attributes = attributes,
        .attributes_count = ARRAY_COUNT(attributes),
        .dropped_attributes = 300,
        .dropped_events = 1,
        .dropped_links = 2,
        .events = events,
        .events_count = ARRAY_COUNT(events),
        .links = links,
        .links_count = 1,
        .status = 2,
        .status_message = "upstream timed out",
        .flags = 0x301,
        .unknown = SLICE_LITERAL("\xc2\x3e\x03new"),
    };
}

static void expect_equal(const char *what, struct slice span)
{
    struct oracle_verdict verdict = oracle_view(span);

    if (!verdict.ours || !verdict.theirs)
        fail_msg("%s: refused by %s", what, verdict.ours ? "protobuf-c" : "the view");
    if (verdict.difference)
        fail_msg("%s: not equal: %s", what, verdict.difference);
}

static void test_full(void **state)
{
    struct otlp_span span = full_span();
    struct otlp_build b = {0};
    struct span_view view;

    (void)state;
    otlp_span_fields(&b, &span);
    expect_equal("a span of everything", otlp_slice(&b));

    /* Held against the literals, too: an oracle may err. */
    assert_true(span_view_read(otlp_slice(&b), NULL, NULL, &view));
    assert_true(trace_id_equal(&view.trace_id, &span.trace_id));
    assert_memory_equal(view.span_id, span.span_id.bytes, 8);
    assert_true(view.has_parent);
    assert_int_equal(view.kind, 2);
    assert_true(view.start_unix_ns == span.start_unix_ns && view.end_unix_ns == span.end_unix_ns);
    assert_int_equal(view.status, SPAN_STATUS_ERROR);
    assert_int_equal(view.flags, 0x301);
    assert_true(slice_equal(view.name, SLICE_LITERAL("checkout")));
    assert_true(slice_equal(view.trace_state, SLICE_LITERAL("ot=th:8")));
    otlp_build_deinit(&b);
}

static void test_empty(void **state)
{
    struct span_view view;

    (void)state;
    memset(&view, 0xff, sizeof(view));
    assert_true(span_view_read(slice_make(NULL, 0), NULL, NULL, &view));
    assert_true(trace_id_is_zero(&view.trace_id));
    assert_false(view.has_parent);
    assert_true(view.kind == 0 && view.status == 0 && view.flags == 0 && view.name.len == 0);
    assert_true(view.start_unix_ns == 0 && view.end_unix_ns == 0 && view.trace_state.len == 0);
}

/* Every prefix of a span: refused by us when and only when protobuf-c refuses it. */
static void test_prefixes(void **state)
{
    struct otlp_span span = full_span();
    struct otlp_build b = {0};
    size_t whole = 0;

    (void)state;
    otlp_span_fields(&b, &span);
    for (size_t len = 0; len <= b.len; len++) {
        uint8_t *exact = malloc(len > 0 ? len : 1);
        struct oracle_verdict verdict;

        assert_non_null(exact);
        memcpy(exact, b.bytes, len);
        verdict = oracle_view(slice_make(exact, len));
        if (verdict.ours != verdict.theirs || verdict.difference)
            fail_msg("a prefix of %zu bytes", len);
        whole += verdict.ours;
        free(exact);
    }
    /* After nothing, IDs, state, parent, name, kind and times: 9. Then attributes, counts, events, link, status,
     * flags and the unknown field. */
    assert_int_equal(whole, 9 + ARRAY_COUNT(attributes) + 3 + 2 + 1 + 1 + 1 + 1);
    otlp_build_deinit(&b);
}

/* A span with any byte changed: what both still accept they read the same. */
static void test_changed_bytes(void **state)
{
    static const uint8_t changes[] = {0x01, 0x02, 0x08, 0x10, 0x80, 0xff};
    struct otlp_span span = full_span();
    struct otlp_build b = {0};
    size_t both = 0;

    (void)state;
    otlp_span_fields(&b, &span);
    for (size_t at = 0; at < b.len; at++) {
        for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
            struct oracle_verdict verdict;

            b.bytes[at] ^= changes[i];
            verdict = oracle_view(otlp_slice(&b));
            if (verdict.difference)
                fail_msg("byte %zu changed by %02x: %s", at, changes[i], verdict.difference);
            if (verdict.ours && !verdict.theirs)
                fail_msg("byte %zu changed by %02x: only we accept it", at, changes[i]);
            both += verdict.ours;
            b.bytes[at] ^= changes[i];
        }
    }
    assert_true(both > b.len);
    otlp_build_deinit(&b);
}

#define RAW(text) text, sizeof(text) - 1

/* Fields of a span, alone. */
static const struct {
    const char *what;
    const char *bytes;
    size_t len;
    bool good;
} cases[] = {
    {"unknown field", RAW("\x8a\x01\x01x"), true},
    {"name as varint", RAW("\x28\x01"), false},
    {"kind as fixed64", RAW("\x31" "12345678"), false},
    {"attribute as varint", RAW("\x48\x01"), false},
    {"flags as varint", RAW("\x80\x01\x01"), false},
    {"trace ID of 3 bytes", RAW("\x0a\x03xyz"), false},
    {"span ID of 9 bytes", RAW("\x12\x09" "123456789"), false},
    {"parent ID of 5 bytes", RAW("\x22\x05" "12345"), false},
    {"parent ID empty", RAW("\x22\x00"), true},
    {"group", RAW("\x8b\x01\x8c\x01"), false},
    {"field 0", RAW("\x00\x00"), false},
    {"attribute empty", RAW("\x4a\x00"), true},
    {"attribute with a key only", RAW("\x4a\x03\x0a\x01k"), true},
    {"attribute with a value only", RAW("\x4a\x04\x12\x02\x10\x01"), true},
    {"attribute, value first", RAW("\x4a\x07\x12\x02\x10\x01\x0a\x01k"), true},
    {"attribute with a string index", RAW("\x4a\x05\x0a\x01k\x18\x05"), true},
    {"attribute, value's string index", RAW("\x4a\x07\x0a\x01k\x12\x02\x40\x05"), true},
    {"attribute, key as varint", RAW("\x4a\x02\x08\x01"), false},
    {"attribute, value as varint", RAW("\x4a\x02\x10\x01"), false},
    {"attribute, key cut", RAW("\x4a\x03\x0a\x05k"), false},
    {"attribute, value cut", RAW("\x4a\x05\x0a\x01k\x12\x05"), false},
    {"attribute, group", RAW("\x4a\x02\x1b\x1c"), false},
    {"value, text as varint", RAW("\x4a\x07\x0a\x01k\x12\x02\x08\x01"), false},
    {"value, bool as bytes", RAW("\x4a\x07\x0a\x01k\x12\x02\x12\x00"), false},
    {"value, int cut", RAW("\x4a\x07\x0a\x01k\x12\x02\x18\x80"), false},
    {"value, int of three bytes", RAW("\x4a\x09\x0a\x01k\x12\x04\x18\x80\x80\x01"), true},
    {"value, int and a byte", RAW("\x4a\x08\x0a\x01k\x12\x03\x18\x01\x18"), false},
    {"value, bytes past 64", RAW("\x4a\x10\x0a\x01k\x12\x0b\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), false},
    {"value, double of seven bytes", RAW("\x4a\x0d\x0a\x01k\x12\x08\x21" "1234567"), false},
    {"value, double", RAW("\x4a\x0e\x0a\x01k\x12\x09\x21" "12345678"), true},
    {"value, double as fixed32", RAW("\x4a\x0a\x0a\x01k\x12\x05\x25" "1234"), false},
    {"value, text too long", RAW("\x4a\x08\x0a\x01k\x12\x03\x0a\x02x"), false},
    {"value, text too short", RAW("\x4a\x09\x0a\x01k\x12\x04\x0a\x01xy"), false},
    {"value, tag alone", RAW("\x4a\x06\x0a\x01k\x12\x01\x0a"), false},
    {"value, unknown member", RAW("\x4a\x08\x0a\x01k\x12\x03\x7a\x01x"), true},
    {"value, group", RAW("\x4a\x07\x0a\x01k\x12\x02\x4b\x4c"), false},
    {"array, item as varint", RAW("\x4a\x09\x0a\x01k\x12\x04\x2a\x02\x08\x01"), false},
    {"array, item cut", RAW("\x4a\x09\x0a\x01k\x12\x04\x2a\x02\x0a\x01"), false},
    {"array, unknown field", RAW("\x4a\x09\x0a\x01k\x12\x04\x2a\x02\x10\x01"), true},
    {"kvlist, item as varint", RAW("\x4a\x09\x0a\x01k\x12\x04\x32\x02\x08\x01"), false},
    {"kvlist, item's key as varint", RAW("\x4a\x0b\x0a\x01k\x12\x06\x32\x04\x0a\x02\x08\x01"), false},
    {"event empty", RAW("\x5a\x00"), true},
    {"event, time as varint", RAW("\x5a\x02\x08\x01"), false},
    {"event, name as varint", RAW("\x5a\x02\x10\x01"), false},
    {"event, attribute cut", RAW("\x5a\x03\x1a\x05x"), false},
    {"event, attribute malformed", RAW("\x5a\x04\x1a\x02\x08\x01"), false},
    {"event, count as bytes", RAW("\x5a\x02\x22\x00"), false},
    {"event, unknown field", RAW("\x5a\x02\x28\x01"), true},
    {"event, group", RAW("\x5a\x02\x2b\x2c"), false},
    {"link, short trace ID", RAW("\x6a\x03\x0a\x01x"), false},
    {"link, no trace ID", RAW("\x6a\x02\x0a\x00"), true},
    {"link, trace ID", RAW("\x6a\x12\x0a\x10" "0123456789abcdef"), true},
    {"link, a short trace ID before a right one", RAW("\x6a\x15\x0a\x01x\x0a\x10" "0123456789abcdef"), false},
    {"link, span ID as long as a trace ID", RAW("\x6a\x12\x12\x10" "0123456789abcdef"), false},
    {"a short span ID before a right one", RAW("\x12\x01x\x12\x08" "01234567"), false},
    {"attribute, key_strindex", RAW("\x4a\x02\x18\x01"), true},
    {"attribute, key_strindex as bytes", RAW("\x4a\x02\x1a\x00"), false},
    {"value, string_value_strindex", RAW("\x4a\x04\x12\x02\x40\x01"), true},
    {"value, string_value_strindex as bytes", RAW("\x4a\x04\x12\x02\x42\x00"), false},
    {"link, span ID as varint", RAW("\x6a\x02\x10\x01"), false},
    {"link, attribute malformed", RAW("\x6a\x04\x22\x02\x08\x01"), false},
    {"link, flags as varint", RAW("\x6a\x02\x30\x01"), false},
    {"link, flags", RAW("\x6a\x05\x35" "1234"), true},
    {"status empty", RAW("\x7a\x00"), true},
    {"status, code as bytes", RAW("\x7a\x02\x1a\x00"), false},
    {"status, message as varint", RAW("\x7a\x02\x10\x01"), false},
    {"status, old code", RAW("\x7a\x02\x08\x01"), true},
    {"status, cut", RAW("\x7a\x01\x18"), false},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint8_t *exact = malloc(cases[i].len);
        struct oracle_verdict verdict;

        assert_non_null(exact);
        memcpy(exact, cases[i].bytes, cases[i].len);
        verdict = oracle_view(slice_make(exact, cases[i].len));
        if (verdict.ours != cases[i].good)
            fail_msg("%s: %s", cases[i].what, verdict.ours ? "taken" : "refused");
        if (verdict.ours && (!verdict.theirs || verdict.difference))
            fail_msg("%s: protobuf-c: %s", cases[i].what, verdict.difference ? verdict.difference : "refused");
        free(exact);
    }
}

/* -- depth ------------------------------------------------------------------------------------------------ */

/* An attribute whose value is `depth` values deep. */
static void build_deep(struct otlp_build *b, unsigned depth, uint32_t member)
{
    unsigned open = 3;

    otlp_begin(b, 9);
    otlp_begin(b, 2);
    for (unsigned i = 1; i < depth; i++) {
        otlp_begin(b, member);
        otlp_begin(b, 1);
        open += 2;
        if (member == 6) {
            otlp_begin(b, 2);
            open++;
        }
    }
    otlp_varint(b, 3, 5);
    for (; open > 1; open--)
        otlp_end(b);
}

static void test_depth(void **state)
{
    struct otlp_build b = {0};

    (void)state;
    for (uint32_t member = 5; member <= 6; member++) {
        for (unsigned depth = 1; depth <= 150; depth++) {
            struct oracle_verdict verdict;

            otlp_build_reset(&b);
            build_deep(&b, depth, member);
            verdict = oracle_view(otlp_slice(&b));
            if (!verdict.theirs || verdict.difference)
                fail_msg("member %u, depth %u: not what it should be", member, depth);
            if (verdict.ours != (depth <= VALUE_DEPTH_MAX))
                fail_msg("member %u, depth %u: %s", member, depth, verdict.ours ? "taken" : "refused");
        }
    }
    otlp_build_deinit(&b);
}

/* A hundred thousand levels are refused without a stack for them. */
static void test_very_deep(void **state)
{
    enum { LEVELS = 100000, LEN_BYTES = 5 };
    size_t size = (size_t)LEVELS * 2 * (1 + LEN_BYTES) + 64, at = size;
    uint8_t *bytes = malloc(size);
    struct span_view view;

    (void)state;
    assert_non_null(bytes);
    /* From the inside out, lengths always of five bytes. */
    for (unsigned level = 0; level <= LEVELS * 2 + 1; level++) {
        uint64_t len = size - at;
        uint8_t tag = level == LEVELS * 2 + 1 ? 0x4a : level == LEVELS * 2 ? 0x12 : level % 2 ? 0x2a : 0x0a;

        for (unsigned i = 0; i < LEN_BYTES; i++)
            bytes[at - LEN_BYTES + i] = (uint8_t)((len >> (7 * i) & 0x7f) | (i + 1 < LEN_BYTES ? 0x80 : 0));
        at -= LEN_BYTES;
        bytes[--at] = tag;
    }
    assert_false(span_view_read(slice_make(bytes + at, size - at), NULL, NULL, &view));
    free(bytes);
}

/* -- merging ---------------------------------------------------------------------------------------------- */

struct visited {
    size_t count;
    struct slice key;
    struct value value;
};

static void note_attribute(void *context, struct slice key, struct slice value)
{
    struct visited *visited = context;

    visited->count++;
    visited->key = key;
    visited->value = value_read(value);
}

static void test_merge(void **state)
{
    struct otlp_build b = {0};
    struct visited visited = {0};
    struct span_view view;

    (void)state;
    otlp_begin(&b, 15);
    otlp_varint(&b, 3, 2);
    otlp_end(&b);
    otlp_begin(&b, 15); /* a status without code leaves the code that was there */
    otlp_text(&b, 2, "message");
    otlp_end(&b);
    otlp_text(&b, 5, "first");
    otlp_begin(&b, 9);
    otlp_text(&b, 1, "old key");
    otlp_value(&b, 2, &(struct otlp_attribute)OTLP_INT("", 1));
    otlp_value(&b, 2, &(struct otlp_attribute)OTLP_TEXT("", "last that is set"));
    otlp_value(&b, 2, &(struct otlp_attribute)OTLP_EMPTY(""));
    otlp_text(&b, 1, "key");
    otlp_end(&b);
    otlp_text(&b, 5, "last");
    otlp_fixed64(&b, 8, 1);
    otlp_fixed64(&b, 8, 2);
    expect_equal("repeated fields", otlp_slice(&b));
    assert_true(span_view_read(otlp_slice(&b), note_attribute, &visited, &view));
    assert_int_equal(view.status, SPAN_STATUS_ERROR);
    assert_true(slice_equal(view.name, SLICE_LITERAL("last")));
    assert_int_equal(view.end_unix_ns, 2);
    assert_int_equal(visited.count, 1);
    assert_true(slice_equal(visited.key, SLICE_LITERAL("key")));
    assert_int_equal(visited.value.type, VALUE_STRING);
    assert_true(slice_equal(visited.value.bytes, SLICE_LITERAL("last that is set")));

    /* Two members in one value: the last wins, whatever their types. */
    otlp_build_reset(&b);
    otlp_begin(&b, 9);
    otlp_begin(&b, 2);
    otlp_text(&b, 1, "text");
    otlp_double(&b, 4, 0.5);
    otlp_end(&b);
    otlp_end(&b);
    expect_equal("two members", otlp_slice(&b));
    assert_true(span_view_read(otlp_slice(&b), note_attribute, &visited, &view));
    assert_int_equal(visited.value.type, VALUE_DOUBLE);
    assert_true(visited.value.number == 0.5 && visited.value.bytes.len == 0);
    otlp_build_deinit(&b);
}

/* -- headers ---------------------------------------------------------------------------------------------- */

static void test_headers(void **state)
{
    struct otlp_build b = {0};
    struct oracle_verdict verdict;
    struct visited visited = {0};

    (void)state;
    otlp_schema_url(&b, "schema");
    otlp_resource(&b, ARRAY_COUNT(attributes), attributes);
    otlp_text(&b, 1000, "unknown");
    otlp_resource(&b, 2, attributes); /* merges with the first */
    verdict = oracle_resource(otlp_slice(&b));
    assert_true(verdict.ours && verdict.theirs);
    assert_null(verdict.difference);
    assert_true(resource_visit(otlp_slice(&b), note_attribute, &visited));
    assert_int_equal(visited.count, ARRAY_COUNT(attributes) + 2);
    otlp_varint(&b, 1, 5);
    assert_false(resource_visit(otlp_slice(&b), NULL, NULL));

    otlp_build_reset(&b);
    otlp_scope(&b, "lib", "1");
    otlp_begin(&b, 1);
    otlp_attribute(&b, 3, &attributes[0]);
    otlp_varint(&b, 4, 7);
    otlp_attribute(&b, 3, &attributes[8]);
    otlp_end(&b);
    visited.count = 0;
    verdict = oracle_scope(otlp_slice(&b));
    assert_true(verdict.ours && verdict.theirs);
    assert_null(verdict.difference);
    assert_true(scope_visit(otlp_slice(&b), note_attribute, &visited));
    assert_int_equal(visited.count, 2);
    assert_true(visited.value.type == VALUE_DOUBLE && visited.value.number == -2.5);
    otlp_begin(&b, 1);
    otlp_varint(&b, 3, 7); /* attributes as varint */
    otlp_end(&b);
    assert_false(scope_visit(otlp_slice(&b), NULL, NULL));
    assert_true(resource_visit(slice_make(NULL, 0), NULL, NULL));
    otlp_build_deinit(&b);
}

static void test_realistic(void **state)
{
    struct otlp_build b = {0};
    struct span_walk walk;
    struct span_ref span;

    (void)state;
    otlp_realistic(&b, 3, 300, 15, 4);
    span_walk_init(&walk, otlp_slice(&b));
    while (span_walk_next(&walk, &span))
        expect_equal("a realistic span", span.bytes);
    assert_false(walk.bad);
    assert_int_equal(walk.span_index, 300);
    otlp_build_deinit(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_very_deep),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_realistic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
