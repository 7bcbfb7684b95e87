/* What is set is there once, and everything else is as it was. Judged by protobuf-c's decode. */
#include "common/otlp/patch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/otlp_trace.pb-c.h"
#include "tests/kit/otlp_build.h"

static const struct patch_attribute set[] = {
    {.key = {(const uint8_t *)"tailsampling.policy", 19}, .text = {(const uint8_t *)"errors", 6}},
    {.key = {(const uint8_t *)"tailsampling.cached_decision", 28}, .is_bool = true, .truth = true},
};

static void assert_text(ProtobufCBinaryData got, const char *want)
{
    assert_true(slice_equal(slice_make(got.data, got.len), slice_text(want)));
}

/* On the heap, of exactly the size: the sanitizer knows its end. The caller frees. */
static struct slice patched_scope(struct slice fields)
{
    size_t size = patch_scope(fields, set, 2, NULL);
    uint8_t *out = malloc(size + !size);

    assert_non_null(out);
    assert_true(patch_scope(fields, set, 2, out) == size);
    return slice_make(out, size);
}

static struct slice patched_span(struct slice span, const struct slice *tracestate)
{
    size_t size = patch_span(span, set, 2, tracestate, NULL);
    uint8_t *out = malloc(size + !size);

    assert_non_null(out);
    assert_true(patch_span(span, set, 2, tracestate, out) == size);
    return slice_make(out, size);
}

static void check_set(Otlp__KeyValue *const *attributes, size_t count)
{
    assert_true(count >= 2);
    attributes += count - 2;
    assert_text(attributes[0]->key, "tailsampling.policy");
    assert_text(attributes[0]->value->string_value, "errors");
    assert_text(attributes[1]->key, "tailsampling.cached_decision");
    assert_true(attributes[1]->value->bool_value);
}

static void scope(void **state)
{
    static const struct otlp_attribute kept = OTLP_TEXT("a", "1"), old = OTLP_TEXT("tailsampling.policy", "old");
    static const struct {
        const char *what;
        unsigned pieces; /* of the scope */
        bool has_old;
        const char *schema_url;
    } rows[] = {
        {"no scope", 0, false, ""},
        {"no scope, a schema", 0, false, "s"},
        {"one scope", 1, false, "s"},
        {"a scope with the key", 1, true, "s"},
        {"a scope in pieces", 3, true, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct otlp_build b = {0};
        struct slice out;
        Otlp__ScopeSpans *got;

        print_message("%s\n", rows[i].what);
        otlp_fixed32(&b, 99, 7); /* unknown: carried through */
        for (unsigned piece = 0; piece < rows[i].pieces; piece++) {
            otlp_begin(&b, 1);
            if (piece == 0)
                otlp_text(&b, 1, "lib");
            otlp_attribute(&b, 3, &kept);
            if (rows[i].has_old)
                otlp_attribute(&b, 3, &old);
            otlp_varint(&b, 4, piece + 1); /* dropped_attributes_count: the last counts */
            otlp_end(&b);
            if (piece == 0)
                otlp_text(&b, 3, rows[i].schema_url);
        }
        if (rows[i].pieces == 0)
            otlp_text(&b, 3, rows[i].schema_url);
        out = patched_scope(otlp_slice(&b));
        got = otlp__scope_spans__unpack(NULL, out.len, out.at);
        assert_non_null(got);
        assert_int_equal(got->scope->n_attributes, rows[i].pieces + 2);
        for (unsigned piece = 0; piece < rows[i].pieces; piece++)
            assert_text(got->scope->attributes[piece]->key, "a");
        check_set(got->scope->attributes, got->scope->n_attributes);
        assert_text(got->scope->name, rows[i].pieces ? "lib" : "");
        assert_int_equal(got->scope->dropped_attributes_count, rows[i].pieces);
        assert_text(got->schema_url, rows[i].schema_url);
        assert_int_equal(got->base.n_unknown_fields, 1);
        otlp__scope_spans__free_unpacked(got, NULL);
        free((void *)(uintptr_t)out.at);
        otlp_build_deinit(&b);
    }
}

static void span(void **state)
{
    static const struct otlp_attribute with_old[] = {
        OTLP_BOOL("tailsampling.cached_decision", 0), OTLP_INT("n", 5), OTLP_TEXT("tailsampling.policy", "old")};
    static const struct slice states[] = {{(const uint8_t *)"ot=th:8", 7}, {NULL, 0}};
    static const struct {
        const char *what;
        const struct slice *tracestate;
        const char *want;
    } rows[] = {
        {"tracestate left", NULL, "a=1"},
        {"tracestate set", &states[0], "ot=th:8"},
        {"tracestate taken away", &states[1], ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct otlp_build b = {0};
        struct slice out;
        Otlp__Span *got;

        print_message("%s\n", rows[i].what);
        otlp_text(&b, 3, "b=2"); /* replaced by the one of the span's own, as scalars are */
        otlp_span_fields(&b, &(struct otlp_span){.trace_id = otlp_trace_id(1), .span_id = otlp_span_id(1), .name = "GET",
            .trace_state = "a=1", .attributes = with_old, .attributes_count = 3, .status = 2});
        otlp_varint(&b, 77, 1);
        out = patched_span(otlp_slice(&b), rows[i].tracestate);
        got = otlp__span__unpack(NULL, out.len, out.at);
        assert_non_null(got);
        assert_text(got->name, "GET");
        assert_text(got->trace_state, rows[i].want);
        assert_int_equal(got->n_attributes, 3);
        assert_text(got->attributes[0]->key, "n");
        check_set(got->attributes, got->n_attributes);
        assert_int_equal(got->status->code, 2);
        assert_int_equal(got->base.n_unknown_fields, 1);
        otlp__span__free_unpacked(got, NULL);
        free((void *)(uintptr_t)out.at);
        otlp_build_deinit(&b);
    }
}

static void malformed_is_left(void **state)
{
    static const uint8_t cut[] = {0x0a, 5, 1}, cut_inside[] = {0x0a, 2, 0x1a, 9};

    (void)state;
    assert_int_equal(patch_scope(slice_make(cut, sizeof(cut)), set, 2, NULL), 0);
    assert_int_equal(patch_scope(slice_make(cut_inside, sizeof(cut_inside)), set, 2, NULL), 0);
    assert_int_equal(patch_span(slice_make(cut, sizeof(cut)), set, 2, NULL, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scope),
        cmocka_unit_test(span),
        cmocka_unit_test(malformed_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
