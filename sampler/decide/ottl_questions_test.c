/* OTTL questions answer for a span as their error mode says, beside other questions on the same keys, and the first outcome
 * of an ordered one is what a trace keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "sampler/decide/predicate.h"
#include "tests/kit/otlp_build.h"

static char yes_or_error[] = "span.attributes[\"k\"] + 1 == 6", on_event[] = "spanevent.attributes[\"k\"] + 1 == 6", text_k[] = "5";

struct question {
    enum ottl_error_mode mode;
    uint32_t bit, ordered;
};

struct program {
    struct predicates *predicates;
    struct predicate_scratch *scratch;
    struct question questions[3]; /* one a mode */
    uint32_t exact_bit;
};

static void compile(struct program *program)
{
    struct predicate_builder *builder = predicate_builder_new();
    char *span[] = {yes_or_error}, *event[] = {on_event}, *texts[] = {text_k}, *error = NULL;

    assert_non_null(builder);
    program->exact_bit = predicate_string_exact(builder, "k", texts, 1);
    for (uint32_t mode = OTTL_ERRORS_SILENT; mode <= OTTL_ERRORS_PROPAGATE; mode++) {
        const struct ottl_ask ask = {"asker", {span, 1}, {event, 1}, (enum ottl_error_mode)mode};
        struct question *question = &program->questions[mode];

        question->bit = predicate_ottl(builder, &ask, &question->ordered, &error);
        assert_null(error);
        assert_int_not_equal(question->bit, PREDICATE_NONE);
        assert_int_equal(question->ordered == UINT32_MAX, mode != OTTL_ERRORS_PROPAGATE);
    }
    assert_int_equal(predicates_new(builder, &program->predicates), 0);
    predicate_builder_free(builder);
    program->scratch = predicate_scratch_new(program->predicates);
    assert_non_null(program->scratch);
}

static void program_free(struct program *program)
{
    predicate_scratch_free(program->scratch);
    predicates_free(program->predicates);
}

static struct span_facts ask(const struct program *program, const struct otlp_attribute *attribute, const struct otlp_attribute *of_event)
{
    const struct otlp_event event = {.name = "e", .attributes = of_event, .attributes_count = 1};
    const struct otlp_span span = {.trace_id = otlp_trace_id(1), .span_id = otlp_span_id(2), .attributes = attribute,
        .attributes_count = attribute ? 1 : 0, .events = &event, .events_count = of_event ? 1 : 0};
    struct otlp_build build = {0};
    struct span_facts facts;
    struct span_view view;

    memset(&facts, 0xff, sizeof(facts));
    otlp_span_fields(&build, &span);
    assert_true(predicates_span(program->predicates, program->scratch, NULL, otlp_slice(&build), &view, &facts));
    otlp_build_deinit(&build);
    return facts;
}

enum outcome { NO, YES, ERROR };

static void check(const struct program *program, const struct otlp_attribute *attribute, const struct otlp_attribute *of_event,
    enum outcome silent, enum outcome propagate)
{
    struct span_facts facts = ask(program, attribute, of_event);
    const struct question *ordered = &program->questions[OTTL_ERRORS_PROPAGATE];

    assert_int_equal(hits_has(&facts.hits, program->questions[OTTL_ERRORS_SILENT].bit), silent == YES);
    assert_int_equal(hits_has(&facts.hits, program->questions[OTTL_ERRORS_IGNORE].bit), silent == YES);
    assert_int_equal(hits_has(&facts.hits, ordered->bit), propagate == YES);
    assert_int_equal(facts.first_true, propagate == YES ? 1u << ordered->ordered : 0);
    assert_int_equal(facts.first_error, propagate == ERROR ? 1u << ordered->ordered : 0);
}

/* The span's conditions come before its events', and an error ends an ordered question there. */
static void test_modes(void **state)
{
    static const struct otlp_attribute five = OTLP_INT("k", 5), six = OTLP_INT("k", 6), text = OTLP_TEXT("k", "5");
    struct program program = {0};

    (void)state;
    compile(&program);
    check(&program, &five, NULL, YES, YES);
    check(&program, &six, NULL, NO, NO);
    check(&program, &text, NULL, NO, ERROR);
    check(&program, NULL, NULL, NO, ERROR);
    check(&program, &six, &five, YES, YES);
    check(&program, &six, &text, NO, ERROR);
    check(&program, &text, &five, YES, ERROR);
    check(&program, &five, &text, YES, YES);
    program_free(&program);
}

/* One pass finds the attribute for the OTTL condition and for whoever else asks for its key. */
static void test_shared_key(void **state)
{
    static const struct otlp_attribute five = OTLP_INT("k", 5), text = OTLP_TEXT("k", "5");
    struct program program = {0};
    struct span_facts facts;

    (void)state;
    compile(&program);
    facts = ask(&program, &text, NULL);
    assert_true(hits_has(&facts.hits, program.exact_bit));
    facts = ask(&program, &five, NULL);
    assert_false(hits_has(&facts.hits, program.exact_bit));
    assert_true(hits_has(&facts.hits, program.questions[0].bit));
    facts = ask(&program, NULL, NULL); /* nothing is left of the span before */
    assert_false(hits_has(&facts.hits, program.questions[0].bit));
    program_free(&program);
}

/* Only `ignore` has errors noted: the first until it is taken, with the policy, the condition and what was wrong. */
static void test_noted_error(void **state)
{
    static const struct otlp_attribute five = OTLP_INT("k", 5), text = OTLP_TEXT("k", "5");
    struct program program = {0};
    struct ottl_noted_error error;

    (void)state;
    compile(&program);
    (void)ask(&program, &five, NULL);
    assert_false(predicates_take_error(program.scratch, &error));
    (void)ask(&program, &text, NULL);
    (void)ask(&program, NULL, NULL);
    assert_true(predicates_take_error(program.scratch, &error));
    assert_string_equal(error.policy, "asker");
    assert_string_equal(error.condition, yes_or_error);
    assert_non_null(strstr(error.text, "but got string"));
    assert_false(predicates_take_error(program.scratch, &error));
    program_free(&program);
}

/* A trace keeps the first outcome in order of arrival. */
static void test_first_outcome(void **state)
{
    static const struct otlp_attribute five = OTLP_INT("k", 5), six = OTLP_INT("k", 6), text = OTLP_TEXT("k", "5");
    const struct otlp_attribute *const orders[][3] = {{&six, &five, &text}, {&six, &text, &five}};
    struct program program = {0};

    (void)state;
    compile(&program);
    for (size_t i = 0; i < ARRAY_COUNT(orders); i++) {
        uint32_t first_true = 0, first_error = 0;

        for (size_t j = 0; j < ARRAY_COUNT(orders[i]); j++) {
            struct span_facts facts = ask(&program, orders[i][j], NULL);
            uint32_t open = ~(first_true | first_error);

            first_true |= facts.first_true & open; /* as facts_fold does, whose own test it is */
            first_error |= facts.first_error & open;
        }
        assert_int_equal(first_true != 0, i == 0);
        assert_int_equal(first_error != 0, i == 1);
    }
    program_free(&program);
}

/* More ordered questions than there are numbers are refused, in words. */
static void test_too_many_ordered(void **state)
{
    struct predicate_builder *builder = predicate_builder_new();
    char *span[] = {yes_or_error}, *error = NULL;
    const struct ottl_ask ask_of = {"asker", {span, 1}, {NULL, 0}, OTTL_ERRORS_PROPAGATE};
    uint32_t ordered;

    (void)state;
    for (uint32_t i = 0; i < ORDERED_MAX; i++) {
        assert_int_not_equal(predicate_ottl(builder, &ask_of, &ordered, &error), PREDICATE_NONE);
        assert_int_equal(ordered, i);
    }
    assert_int_equal(predicate_ottl(builder, &ask_of, &ordered, &error), PREDICATE_NONE);
    assert_non_null(strstr(error, "more than 32"));
    free(error);
    predicate_builder_free(builder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_shared_key),
        cmocka_unit_test(test_noted_error),
        cmocka_unit_test(test_first_outcome),
        cmocka_unit_test(test_too_many_ordered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
