#include "tests/collector/judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/config/yaml.h"
#include "common/otlp/span_walk.h"
#include "sampler/decide/cost.h"

struct judge {
    char *settings;
    struct config_context *context;
    struct policy_set *set;
    struct predicate_scratch *scratch;
};

struct judge *judge_new(const char *settings, char **out_error)
{
    struct judge *judge = calloc(1, sizeof(*judge));
    const struct config_node *root, *first_match;

    if (!judge)
        abort();
    judge->settings = case_text("%s", settings);
    judge->context = config_context_new();
    root = config_load_text(judge->context, "cases", settings, strlen(settings));
    first_match = config_node_get(root, "sample_on_first_match");
    if (root && policy_set_new(judge->context, config_node_get(root, "policies"),
                    strcmp(config_node_text(first_match), "true") == 0, 1, &judge->set) == 0) {
        judge->scratch = predicate_scratch_new(policy_set_predicates(judge->set));
        ASSERT(judge->scratch);
        return judge;
    }
    *out_error = case_text("%s", config_errors(judge->context));
    judge_free(judge);
    return NULL;
}

void judge_free(struct judge *judge)
{
    if (!judge)
        return;
    predicate_scratch_free(judge->scratch);
    policy_set_unref(judge->set);
    config_context_free(judge->context);
    free(judge->settings);
    free(judge);
}

struct judged_span {
    struct span_facts facts;
    struct hits header_hits;
    uint32_t bytes;
};

/* What earlier traces left in buckets and counters is no part of a case. */
static void judge_forget(struct judge *judge)
{
    char *settings, *error = NULL;
    struct judge *fresh, swap;

    if (!policy_set_needs(judge->set)->state)
        return;
    settings = case_text("%s", judge->settings);
    fresh = judge_new(settings, &error);
    free(settings);
    ASSERT(fresh != NULL);
    swap = *judge;
    *judge = *fresh;
    *fresh = swap;
    judge_free(fresh);
}

struct judged judge_trace(struct judge *judge, const struct case_trace *trace, bool backward)
{
    const struct predicates *predicates;
    struct judged_span *spans = NULL;
    struct hits header_hits = {0};
    struct facts facts = {0};
    uint32_t header_index = 0;
    size_t count = 0;
    struct span_walk walk;
    struct span_ref span;
    struct decided decided;
    struct judged judged = {CASE_NOT, ""};

    judge_forget(judge);
    predicates = policy_set_predicates(judge->set);
    span_walk_init(&walk, slice_make(trace->request, trace->request_len));
    while (span_walk_next(&walk, &span)) {
        struct span_view view;

        if (span.fault != SPAN_OK)
            continue;
        ASSERT(trace_id_equal(&span.trace_id, &trace->id));
        if (span.header_index != header_index) {
            ASSERT(predicates_header(predicates, judge->scratch, span.header, &header_hits));
            header_index = span.header_index;
        }
        spans = reallocarray(spans, count + 1, sizeof(*spans));
        ASSERT(spans);
        ASSERT(predicates_span(predicates, judge->scratch, span.header, span.bytes, &view, &spans[count].facts));
        spans[count].header_hits = header_hits;
        if (policy_set_needs(judge->set)->cost)
            cost_add(&facts.cost, span.header, span.bytes);
        spans[count++].bytes = (uint32_t)span.bytes.len;
    }
    ASSERT(!walk.bad);
    for (size_t i = 0; i < count; i++) {
        const struct judged_span *next = &spans[backward ? count - 1 - i : i];

        facts_fold(&facts, &next->facts, &next->header_hits, next->bytes);
    }
    free(spans);
    if (count == 0)
        return (struct judged){CASE_REJECTED, ""};
    decided = policy_set_decide(
        judge->set, &(struct verdict_input){.trace_id = &trace->id, .facts = &facts});
    cost_free(facts.cost);
    if (decided.decision == DECISION_SAMPLED) {
        judged.decision = CASE_SAMPLED;
        (void)snprintf(judged.policy, sizeof(judged.policy), "%s", policy_set_name(judge->set, decided.policy));
    }
    return judged;
}
