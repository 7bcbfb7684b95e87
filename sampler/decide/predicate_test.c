/* Each question is answered right and by its own bit, however many there are and whoever else asks. */
#include "sampler/decide/predicate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "tests/kit/otlp_build.h"

static char one[] = "one", two[] = "two", empty[] = "", open_paren[] = "(", digits[] = "[0-9]+";

struct program {
    struct predicates *predicates;
    struct predicate_scratch *scratch;
};

static struct program compile(struct predicate_builder *builder)
{
    struct program program;

    assert_int_equal(predicates_new(builder, &program.predicates), 0);
    predicate_builder_free(builder);
    program.scratch = predicate_scratch_new(program.predicates);
    assert_non_null(program.scratch);
    return program;
}

static void program_free(struct program *program)
{
    predicate_scratch_free(program->scratch);
    predicates_free(program->predicates);
}

static struct hits ask_span(const struct program *program, size_t count,
    const struct otlp_attribute *attributes, uint32_t status)
{
    struct otlp_span span = {.trace_id = otlp_trace_id(1),
        .span_id = otlp_span_id(2),
        .attributes = attributes,
        .attributes_count = count,
        .status = status,
        .start_unix_ns = 7,
        .end_unix_ns = 9};
    struct otlp_build build = {0};
    struct span_facts facts;
    struct span_view view;

    memset(&facts, 0xff, sizeof(facts)); /* what was there before does not matter */
    otlp_span_fields(&build, &span);
    assert_true(
        predicates_span(program->predicates, program->scratch, NULL, otlp_slice(&build), &view, &facts));
    assert_int_equal(facts.start_unix_ns, 7);
    assert_int_equal(facts.end_unix_ns, 9);
    assert_memory_equal(&facts.span_id, span.span_id.bytes, 8);
    assert_true(facts.is_root);
    otlp_build_deinit(&build);
    return facts.hits;
}

/* pieces: how often the resource's message is cut. */
static struct hits ask_header(const struct program *program, size_t count,
    const struct otlp_attribute *attributes, size_t pieces)
{
    struct otlp_span span = {.trace_id = otlp_trace_id(1), .span_id = otlp_span_id(2)};
    struct otlp_build build = {0};
    struct span_walk walk;
    struct span_ref ref;
    struct hits hits;

    otlp_resource_spans(&build);
    for (size_t i = 0; i < pieces; i++) {
        otlp_resource(&build, count / pieces, attributes + i * (count / pieces));
        otlp_scope_spans(&build);
        otlp_span(&build, &span);
        otlp_end(&build);
    }
    otlp_end(&build);
    span_walk_init(&walk, otlp_slice(&build));
    assert_true(span_walk_next(&walk, &ref));
    memset(&hits, 0xff, sizeof(hits));
    assert_true(predicates_header(program->predicates, program->scratch, ref.header, &hits));
    otlp_build_deinit(&build);
    return hits;
}

/* Equal questions share a bit, whatever the order and repetition of their values; different ones do not. */
static void test_bits(void **state)
{
    struct predicate_builder *builder = predicate_builder_new();
    char *ab[] = {one, two}, *ba[] = {two, empty, one, two};
    const char *error = "unset";
    uint32_t bit;

    (void)state;
    bit = predicate_string_exact(builder, "k", ab, 2);
    assert_int_equal(predicate_string_exact(builder, "k", ba, 4), bit);
    assert_int_not_equal(predicate_string_exact(builder, "l", ab, 2), bit);
    assert_int_not_equal(predicate_string_exact(builder, "k", ab, 1), bit);
    assert_int_not_equal(predicate_string_regex(builder, "k", ab, 2, &error), bit);
    assert_null(error);
    assert_int_not_equal(predicate_trace_state(builder, "k", ab, 2), bit);
    assert_int_equal(predicate_trace_state(builder, "k", ab, 2), predicate_trace_state(builder, "k", ba, 4));
    assert_int_equal(predicate_int_range(builder, "k", 1, 5), predicate_int_range(builder, "k", 1, 5));
    assert_int_not_equal(predicate_int_range(builder, "k", 1, 5), predicate_int_range(builder, "k", 1, 6));
    assert_int_not_equal(predicate_int_range(builder, "k", 1, 5), predicate_int_range(builder, "k", 0, 5));
    assert_int_not_equal(predicate_int_range(builder, "k", 1, 5), predicate_int_range(builder, "l", 1, 5));
    assert_int_equal(predicate_bool(builder, "k", true), predicate_bool(builder, "k", true));
    assert_int_not_equal(predicate_bool(builder, "k", true), predicate_bool(builder, "k", false));
    assert_int_not_equal(predicate_bool(builder, "k", true), predicate_int_range(builder, "k", 1, 1));
    assert_int_equal(predicate_sampled_flag(builder), predicate_sampled_flag(builder));
    assert_int_not_equal(predicate_sampled_flag(builder), predicate_status(builder, 0));
    assert_int_equal(predicate_status(builder, 2), predicate_status(builder, 2));
    assert_int_not_equal(predicate_status(builder, 2), predicate_status(builder, 3));
    predicate_builder_free(builder);
    predicate_builder_free(NULL);
}

/* A bad pattern is refused with its reason, and asks nothing. */
static void test_bad_pattern(void **state)
{
    struct predicate_builder *builder = predicate_builder_new();
    char *patterns[] = {one, open_paren};
    const char *error = NULL;
    struct program program;

    (void)state;
    assert_int_equal(predicate_string_regex(builder, "k", patterns, 2, &error), PREDICATE_NONE);
    assert_non_null(error);
    assert_ptr_equal(strstr(error, "invalid regex `(`: error parsing regexp: "), error);
    program = compile(builder);
    assert_int_equal(predicates_count(program.predicates), 0);
    program_free(&program);
}

/* All PREDICATES_MAX questions answer, each for its own key and value only; one more is refused. Keys of many lengths and
 * spellings share the buckets of the key table. */
static void test_many(void **state)
{
    struct predicate_builder *builder = predicate_builder_new();
    struct program program;
    char key[80], value[16], *values[] = {value};

    (void)state;
    for (uint32_t i = 0; i < PREDICATES_MAX; i++) {
        (void)snprintf(key, sizeof(key), "%.*s%u", (int)(i % 70),
            "seventy.letters.make.a.long.key.that.shares.its.beginning.with.all.others", i / 2);
        (void)snprintf(value, sizeof(value), "v%u", i);
        assert_int_equal(predicate_string_exact(builder, key, values, 1), i);
    }
    assert_int_equal(predicate_status(builder, 1), PREDICATE_NONE);
    assert_int_equal(predicate_string_exact(builder, "more", values, 1), PREDICATE_NONE);
    program = compile(builder);
    for (uint32_t i = 0; i < PREDICATES_MAX; i++) {
        struct otlp_attribute attribute = {.key = key, .kind = OTLP_KIND_TEXT, .text = value};
        struct hits hits, expected = {0};

        (void)snprintf(key, sizeof(key), "%.*s%u", (int)(i % 70),
            "seventy.letters.make.a.long.key.that.shares.its.beginning.with.all.others", i / 2);
        (void)snprintf(value, sizeof(value), "v%u", i);
        hits_set(&expected, i);
        hits = ask_span(&program, 1, &attribute, 0);
        if (memcmp(&hits, &expected, sizeof(hits)) != 0)
            fail_msg("question %u: key %s, value %s", i, key, value);
        hits = ask_header(&program, 1, &attribute, 1);
        assert_memory_equal(&hits, &expected, sizeof(hits));
    }
    program_free(&program);
}

/* Many values of one key, shared between questions: each finds all its askers, and nothing else does. */
static void test_values(void **state)
{
    struct predicate_builder *builder = predicate_builder_new();
    char texts[300][16], *values[300];
    struct program program;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "value-%zu", i);
        values[i] = texts[i];
    }
    assert_int_equal(predicate_string_exact(builder, "k", values, 200), 0);
    assert_int_equal(predicate_string_exact(builder, "k", values + 100, 200), 1);
    program = compile(builder);
    for (size_t i = 0; i < ARRAY_COUNT(values) + 50; i++) {
        char text[16];
        struct otlp_attribute attribute = OTLP_TEXT("k", text);
        struct hits hits;

        (void)snprintf(text, sizeof(text), "value-%zu", i);
        hits = ask_span(&program, 1, &attribute, 0);
        assert_int_equal(hits.words[0], (i < 200 ? 1 : 0) | (i >= 100 && i < 300 ? 2 : 0));
    }
    program_free(&program);
}

/* A resource cut into pieces is one resource: the first entry with a key counts over all of them. */
static void test_header_pieces(void **state)
{
    struct predicate_builder *builder = predicate_builder_new();
    const struct otlp_attribute attributes[] = {OTLP_TEXT("a", "x"), OTLP_TEXT("b", "one"),
        OTLP_TEXT("a", "one"), OTLP_TEXT("b", "x"), OTLP_TEXT("c", "y"), OTLP_TEXT("d", "one")};
    char *values[] = {one};
    struct program program;

    (void)state;
    assert_int_equal(predicate_string_exact(builder, "a", values, 1), 0);
    assert_int_equal(predicate_string_exact(builder, "b", values, 1), 1);
    assert_int_equal(predicate_string_exact(builder, "d", values, 1), 2);
    program = compile(builder);
    for (size_t pieces = 1; pieces <= 6; pieces++)
        if (6 % pieces == 0)
            assert_int_equal(ask_header(&program, 6, attributes, pieces).words[0], 2 | 4);
    program_free(&program);
}

/* What a regex answered is remembered per text, and a remembered answer is the right one: texts that share a place in the
 * cache, empty ones and ones too long for it included. */
static void test_regex_cache(void **state)
{
    struct predicate_builder *builder = predicate_builder_new();
    char *values[] = {digits}, long_text[400];
    const char *error = NULL;
    struct program program;

    (void)state;
    assert_int_equal(predicate_string_regex(builder, "k", values, 1, &error), 0);
    program = compile(builder);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 5000; i++) {
            char text[32];
            struct otlp_attribute attribute = OTLP_TEXT("k", text);

            (void)snprintf(text, sizeof(text), i % 3 ? "%c%c%c%c" : "%c%c%c%c-%u", 'a' + i % 26,
                'a' + i / 26 % 26, 'a' + i / 676 % 26, 'a' + i / 17576 % 26, i);
            assert_int_equal(ask_span(&program, 1, &attribute, 0).words[0], i % 3 == 0);
        }
        for (size_t len = 200; len < sizeof(long_text); len += 3) {
            struct otlp_attribute attribute = OTLP_TEXT("k", long_text);

            memset(long_text, 'x', sizeof(long_text));
            long_text[len] = '\0';
            assert_int_equal(ask_span(&program, 1, &attribute, 0).words[0], 0);
            long_text[len - 1] = '5';
            assert_int_equal(ask_span(&program, 1, &attribute, 0).words[0], 1);
        }
    }
    program_free(&program);
}

/* A status sets the bits of the masks that hold it; an unknown one sets none. */
static void test_status(void **state)
{
    struct predicate_builder *builder = predicate_builder_new();
    struct program program;

    (void)state;
    assert_int_equal(predicate_status(builder, 1u << SPAN_STATUS_ERROR), 0);
    assert_int_equal(
        predicate_status(builder, 1u << SPAN_STATUS_UNSET | 1u << SPAN_STATUS_ERROR), 1);
    assert_int_equal(predicate_status(builder, 1u << SPAN_STATUS_OK), 2);
    program = compile(builder);
    assert_int_equal(ask_span(&program, 0, NULL, SPAN_STATUS_UNSET).words[0], 2);
    assert_int_equal(ask_span(&program, 0, NULL, SPAN_STATUS_OK).words[0], 4);
    assert_int_equal(ask_span(&program, 0, NULL, SPAN_STATUS_ERROR).words[0], 3);
    assert_int_equal(ask_span(&program, 0, NULL, 3).words[0], 0);
    assert_int_equal(ask_span(&program, 0, NULL, 0xffffffff).words[0], 0);
    program_free(&program);
}

/* A span that is malformed inside is told from a good one. */
/* What a bit asks is told in words. */
static void test_descriptions(void **state)
{
    char *single[] = {(char[]){"GET"}}, *pair[] = {(char[]){"b"}, (char[]){"a"}};
    char *many[] = {single[0], pair[0], pair[1], (char[]){"1"}, (char[]){"2"}, (char[]){"3"}, (char[]){"4"}, (char[]){"5"}, (char[]){"6"}};
    struct predicate_builder *builder = predicate_builder_new();
    struct predicates *predicates = NULL;
    const char *error;
    const struct {
        uint32_t bit;
        const char *text;
    } cases[] = {
        {predicate_status(builder, 1u << SPAN_STATUS_ERROR), "status ERROR"},
        {predicate_status(builder, 1u << SPAN_STATUS_ERROR | 1u << SPAN_STATUS_OK), "status OK or ERROR"},
        {predicate_string_exact(builder, "method", single, 1), "method = GET"},
        {predicate_string_exact(builder, "k", pair, 2), "k = one of [a, b]"},
        {predicate_string_exact(builder, "k", many, 9), "k = one of [1, 2, 3, 4, 5, 6, GET, a, ...]"},
        {predicate_string_regex(builder, "k", single, 1, &error), "k ~ GET"},
        {predicate_int_range(builder, "code", 500, 599), "code in [500, 599]"},
        {predicate_bool(builder, "flag", true), "flag = true"},
        {predicate_sampled_flag(builder), "sampled flag"},
        {predicate_trace_state(builder, "vendor", single, 1), "tracestate vendor = GET"},
    };

    (void)state;
    assert_int_equal(predicates_new(builder, &predicates), 0);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        assert_string_equal(predicate_description(predicates, cases[i].bit), cases[i].text);
    assert_string_equal(predicate_description(predicates, PREDICATE_NONE), "");
    predicates_free(predicates);
    predicate_builder_free(builder);
}

static void test_malformed(void **state)
{
    struct predicate_builder *builder = predicate_builder_new();
    static const uint8_t cut[] = {
        0x4a, 0x7f, 0x0a}; /* an attribute of 127 bytes, of which one is there */
    struct span_header header = {0};
    struct program program;
    struct span_facts facts;
    struct span_view view;
    struct hits hits;

    (void)state;
    program = compile(builder);
    assert_false(predicates_span(
        program.predicates, program.scratch, NULL, slice_make(cut, sizeof(cut)), &view, &facts));
    header.resource = header_part_of(slice_make("\x0a\x02\x0a\x7f", 4), 0);
    assert_false(predicates_header(program.predicates, program.scratch, &header, &hits));
    header.resource = header_part_of(slice_make("", 0), 0);
    assert_true(predicates_header(program.predicates, program.scratch, &header, &hits));
    program_free(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_bad_pattern),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_header_pieces),
        cmocka_unit_test(test_regex_cache),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_descriptions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
