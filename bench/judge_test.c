/* From what was acknowledged and what arrived the judge names each kind of fault, and calls nothing else one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "bench/histogram.h"
#include "bench/judge.h"
#include "common/base/cleanup.h"

/* One trace of four spans. acknowledged, unknown, arrived: '1' or '.' for each; '2': arrived twice. */
struct judge_case {
    const char *name, *acknowledged, *unknown, *arrived, *rule;
    bool second_node; /* the last span that arrived came from another node */
    bool altered;
    /* expected */
    uint64_t whole, partial, split, lost, doubled, wrongly_kept, wrongly_dropped, rightly_dropped, altered_traces, invented, unjudged;
    bool good;
};

static const struct judge_case cases[] = {
    {"kept and whole", "1111", "....", "1111", "all", .whole = 1, .good = true},
    {"dropped rightly", "1111", "....", "....", "none", .rightly_dropped = 1, .good = true},
    {"one span lost", "1111", "....", "11.1", "all", .partial = 1, .split = 1, .lost = 1},
    {"one span lost, wrongly kept", "1111", "....", "11.1", "none", .partial = 1, .split = 1, .lost = 1, .wrongly_kept = 1},
    {"all lost", "1111", "....", "....", "all", .lost = 4, .wrongly_dropped = 1},
    {"kept against the rule", "1111", "....", "1111", "none", .whole = 1, .wrongly_kept = 1},
    {"one span twice", "1111", "....", "1211", "all", .whole = 1, .doubled = 1},
    {"two nodes", "1111", "....", "1111", "all", .second_node = true, .split = 1},
    {"bytes changed", "1111", "....", "1111", "all", .altered = true, .whole = 1, .altered_traces = 1},
    {"an unknown span arrived", "111.", "...1", "1111", "all", .whole = 1, .good = true},
    {"an unknown span did not", "111.", "...1", "111.", "all", .whole = 1, .good = true},
    {"unknown span twice", "111.", "...1", "1112", "all", .whole = 1, .doubled = 1},
    {"open whether to keep it: gone", "111.", "...1", "....", "none", .unjudged = 1, .good = true},
    {"open whether to keep it: there", "111.", "...1", "111.", "none", .whole = 1, .unjudged = 1, .good = true},
    {"open whether to keep it: half there", "111.", "...1", "1...", "none", .partial = 1, .split = 1, .lost = 2, .unjudged = 1},
    {"never sent, yet there", "111.", "....", "1111", "all", .whole = 1, .invented = 1},
    {"nothing acknowledged is no proof", "....", "1111", "1111", "all", .good = false},
    {"nothing acknowledged, one span twice", "....", "1111", "2...", "all", .doubled = 1},
};

static void judge_names_each_fault(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const struct judge_case *c = &cases[i];
        struct model model = {.seed = 1, .spans_per_trace = 4, .services = 1, .slow_ms = 1000, .step_ns = 1};
        struct model_trace trace = model_trace(&model, 0);
        struct arrivals arrivals;
        struct ledger ledger;
        struct judgement j = {0};
        struct rule rule;
        uint32_t node, other;

        ledger_init(&ledger, &model);
        ledger_reach(&ledger, 1);
        arrivals_init(&arrivals);
        node = arrivals_node(&arrivals, SLICE_LITERAL("one"));
        other = arrivals_node(&arrivals, SLICE_LITERAL("two"));
        for (uint32_t span = 0; span < 4; span++) {
            if (c->acknowledged[span] == '1' || c->unknown[span] == '1')
                ledger_sent(&ledger, 0, span);
            if (c->acknowledged[span] == '1')
                ledger_acknowledged(&ledger, 0, span);
            ledger.content[0] += span + 1;
            for (int times = 0; c->arrived[span] != '.' && times < c->arrived[span] - '0'; times++)
                arrivals_add(&arrivals, &trace.id, (int)span, c->second_node && span == 3 ? other : node, span + 1 + c->altered);
        }
        assert_true(rule_parse(&rule, c->rule));
        judge(&ledger, &arrivals, &rule, NULL, 0, &j);
        if (j.whole != c->whole || j.partial != c->partial || j.split != c->split || j.lost != c->lost || j.doubled != c->doubled ||
            j.wrongly_kept != c->wrongly_kept || j.wrongly_dropped != c->wrongly_dropped ||
            j.rightly_dropped != c->rightly_dropped || j.altered != c->altered_traces || j.invented != c->invented ||
            j.unjudged != c->unjudged || judgement_good(&j, &arrivals) != c->good)
            fail_msg("%s: whole=%u partial=%u split=%u lost=%u doubled=%u wrongly_kept=%u wrongly_dropped=%u altered=%u "
                     "invented=%u unjudged=%u good=%d", c->name, (unsigned)j.whole, (unsigned)j.partial, (unsigned)j.split,
                (unsigned)j.lost, (unsigned)j.doubled, (unsigned)j.wrongly_kept, (unsigned)j.wrongly_dropped,
                (unsigned)j.altered, (unsigned)j.invented, (unsigned)j.unjudged, judgement_good(&j, &arrivals));
        arrivals_deinit(&arrivals);
        ledger_deinit(&ledger);
    }
}

/* The probabilistic part is the Collector's: thresholds and hashes of its own runs. */
static void percent_is_the_collectors(void **state)
{
    static const struct {
        const char *rule;
        uint64_t limit;
    } limits[] = {
        {"percent=0.1", 0x004189374bc6a7efull}, {"percent=1", 0x028f5c28f5c28f5full}, {"percent=5", 0x0cccccccccccccffull},
        {"percent=10", 0x19999999999999ffull}, {"percent=25", 0x3fffffffffffffffull}, {"percent=33.3", 0x553f7ced91686fffull},
        {"percent=50", 0x7fffffffffffffffull}, {"percent=99.99", 0xfff972474538e7ffull}, {"percent=100", UINT64_MAX},
    };
    struct rule rule;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(limits); i++) {
        assert_true(rule_parse(&rule, limits[i].rule));
        if (rule.percent_limit != limits[i].limit)
            fail_msg("%s: %llx", limits[i].rule, (unsigned long long)rule.percent_limit);
    }
}

static void rules_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {"", "eror", "latency>", "latency>5x", "percent=", "percent=x", "percent=-1",
        "tenant=tenant-99", "tenant=", "errors|some", "all|errors"};
    struct rule rule;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        if (rule_parse(&rule, bad[i]))
            fail_msg("taken as a rule: %s", bad[i]);
    }
}

/* A quantile is never below the value at its rank and at most 1.6 % above. */
static void quantiles_are_close(void **state)
{
    static struct histogram histogram;

    (void)state;
    for (uint64_t value = 1; value <= 1000000; value++)
        histogram_add(&histogram, value * 37);
    for (unsigned percent = 1; percent < 100; percent++) {
        double exact = (double)percent * 10000 * 37;
        double got = (double)histogram_quantile(&histogram, percent / 100.0);

        if (got < exact || got > exact * 1.017 + 37)
            fail_msg("p%u is %.0f, not %.0f", percent, got, exact);
    }
    assert_int_equal(histogram_quantile(&histogram, 1), 37000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(judge_names_each_fault), cmocka_unit_test(percent_is_the_collectors),
        cmocka_unit_test(rules_that_are_none_are_refused), cmocka_unit_test(quantiles_are_close)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
