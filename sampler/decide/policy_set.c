/* Reading the list of policies, and counting their votes.
 *
 * Policies that leave something to the next decision (a bucket, a counter) have it once a node, shared by all workers:
 * such a set is judged under one lock, taken once a trace. Other sets never touch it.
 */
#include "sampler/decide/policy_set.h"

#include <errno.h>
#include <stdatomic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/base/error.h"
#include "common/config/config_diff.h"
#include "common/config/yaml.h"
#include "common/metrics/text.h"

/* One for all generations: a bucket may belong to policies of several. */
struct state_lock {
    atomic_uint refs;
    pthread_mutex_t mutex;
};

struct policy_set {
    atomic_uint refs; /* traces of all workers hold it */
    uint64_t generation;
    bool sample_on_first_match;
    struct policy_needs needs;
    struct state_lock *state_lock; /* taken only when needs.state */
    struct predicates *predicates;
    size_t count;
    uint16_t first_others; /* in order: behind those that go first */
    uint16_t *order; /* in which they are judged: those that drop, then the others */
    struct policy policies[];
};

/* -- reading --------------------------------------------------------------------------------- */

static struct state_lock *state_lock_new(void)
{
    struct state_lock *lock = calloc(1, sizeof(*lock));

    if (lock) {
        atomic_init(&lock->refs, 1);
        (void)pthread_mutex_init(&lock->mutex, NULL);
    }
    return lock;
}

static void state_lock_unref(struct state_lock *lock)
{
    if (!lock || atomic_fetch_sub_explicit(&lock->refs, 1, memory_order_acq_rel) != 1)
        return;
    (void)pthread_mutex_destroy(&lock->mutex);
    free(lock);
}

static void policy_set_free(struct policy_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        policy_deinit(&set->policies[i]);
    state_lock_unref(set->state_lock);
    predicates_free(set->predicates);
    free(set->order);
    free(set);
}

/* Names of top-level policies: metrics and records tell them apart by these. */
static int check_name(struct config_context *context, const struct config_node *node,
    const struct policy_set *set, size_t index)
{
    const char *name = set->policies[index].name;

    if (!name || config_node_kind(node) != CONFIG_NODE_MAP)
        return 0; /* another error was reported */
    if (name[0] == '\0')
        return config_error(context, node, "policy name cannot be empty");
    for (size_t i = 0; i < index; i++)
        if (set->policies[i].name && strcmp(set->policies[i].name, name) == 0)
            return config_error(
                context, config_node_get(node, "name"), "duplicate policy name \"%s\"", name);
    return 0;
}

static int read_top_policy(struct config_context *context, const struct config_node *node,
    struct predicate_builder *builder, struct policy_set *set, size_t index)
{
    const struct policy_prepare prepare = {
        .context = context, .node = node, .name = "", .builder = builder, .needs = &set->needs,
        .use_tracestate = config_gate(context, GATE_USE_TRACESTATE)};
    int r = policy_read(&prepare, node, POLICY_AT_TOP, &set->policies[index]);
    int named;

    if (r < 0)
        return r;
    named = check_name(context, node, set, index);
    if (r || named)
        return r ? r : named;
    if (prepare.use_tracestate && policy_is_weighed(&set->policies[index]))
        set->needs.batch = true;
    return 0;
}

CLEANUP_DEFINE(struct policy_set, policy_set_free);
CLEANUP_DEFINE(struct predicate_builder, predicate_builder_free);

static void policy_set_order(struct policy_set *set)
{
    uint16_t at = 0;

    for (uint16_t i = 0; i < set->count; i++)
        if (set->policies[i].type->goes_first)
            set->order[at++] = i;
    set->first_others = at;
    for (uint16_t i = 0; i < set->count; i++)
        if (!set->policies[i].type->goes_first)
            set->order[at++] = i;
}

int policy_set_new(struct config_context *context, const struct config_node *policies,
    bool sample_on_first_match, uint64_t generation, struct policy_set **out_set)
{
    CLEANUP(predicate_builder_free) struct predicate_builder *builder = NULL;
    CLEANUP(policy_set_free) struct policy_set *set = NULL;
    enum config_node_kind kind = config_node_kind(policies);
    size_t count = config_node_count(policies);
    int result = 0, r;

    if (kind != CONFIG_NODE_SEQUENCE && kind != CONFIG_NODE_NULL)
        return config_error(context, policies, "expected a list of policies, found %s",
            config_node_kind_name(kind));
    if (count >= UINT16_MAX)
        return config_error(
            context, policies, "%zu policies are too many; at most %d", count, UINT16_MAX - 1);

    builder = predicate_builder_new();
    set = calloc(1, sizeof(*set) + count * sizeof(set->policies[0]));
    if (!builder || !set)
        return error_raise(-ENOMEM);
    atomic_init(&set->refs, 1);
    set->generation = generation;
    set->sample_on_first_match = sample_on_first_match;
    set->order = calloc(count + 1, sizeof(*set->order));
    set->state_lock = state_lock_new();
    if (!set->order || !set->state_lock)
        return error_raise(-ENOMEM);

    /* All of them are read, so that all errors are seen at once. */
    for (size_t i = 0; i < count; i++) {
        set->count = i + 1;
        r = read_top_policy(context, config_node_at(policies, i), builder, set, i);
        if (r < 0)
            return error_pass(r);
        if (r > 0)
            result = r;
    }
    if (result)
        return result;
    policy_set_order(set);
    r = predicates_new(builder, &set->predicates);
    if (r)
        return error_fold(r);
    *out_set = steal(&set);
    return 0;
}

void policy_set_inherit(struct policy_set *set, const struct config_node *policies, const struct policy_set *before,
    const struct config_node *policies_before)
{
    atomic_fetch_add_explicit(&before->state_lock->refs, 1, memory_order_relaxed);
    state_lock_unref(set->state_lock);
    set->state_lock = before->state_lock;
    for (size_t i = 0; i < set->count; i++) {
        uint16_t was = policy_set_find(before, slice_text(set->policies[i].name));

        if (was != UINT16_MAX && config_node_equal(config_node_at(policies, i), config_node_at(policies_before, was)))
            policy_inherit(&set->policies[i], &before->policies[was]);
    }
}

struct policy_set *policy_set_ref(struct policy_set *set)
{
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void policy_set_unref(struct policy_set *set)
{
    if (set && atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) == 1)
        policy_set_free(set);
}

const struct predicates *policy_set_predicates(const struct policy_set *set)
{
    return set->predicates;
}

uint64_t policy_set_generation(const struct policy_set *set)
{
    return set->generation;
}

size_t policy_set_count(const struct policy_set *set)
{
    return set->count;
}

const char *policy_set_name(const struct policy_set *set, uint16_t policy)
{
    if (policy == UINT16_MAX)
        return "";
    ASSERT(policy < set->count);
    return set->policies[policy].name;
}

uint16_t policy_set_find(const struct policy_set *set, struct slice name)
{
    for (size_t i = 0; i < policy_set_count(set); i++) {
        if (slice_equal(slice_text(policy_set_name(set, (uint16_t)i)), name))
            return (uint16_t)i;
    }
    return UINT16_MAX;
}

void policy_set_explain(const struct policy_set *set, uint16_t policy, uint32_t evidence_bit,
    const struct facts *facts, struct text *out)
{
    const struct policy *credited;

    if (policy >= set->count)
        return;
    credited = &set->policies[policy];
    if (evidence_bit < predicates_count(set->predicates))
        text_append(out, "%s", predicate_description(set->predicates, evidence_bit));
    else if (facts && credited->type->explain)
        credited->type->explain(credited->self, facts, out);
    else
        text_append(out, "%s", credited->type->name);
}

/* -- deciding ---------------------------------------------------------------------------------- */

static void votes_count(struct policy_votes *votes, enum decision decision)
{
    switch (decision) {
    case DECISION_SAMPLED:
        votes->sampled++;
        break;
    case DECISION_NOT_SAMPLED:
        votes->not_sampled++;
        break;
    case DECISION_DROPPED:
        votes->dropped++;
        break;
    case DECISION_ERROR:
        votes->errors++;
        break;
    case DECISION_PENDING:
        break;
    }
}

static const struct decided decided_not = {.decision = DECISION_NOT_SAMPLED,
    .policy = UINT16_MAX,
    .evidence_bit = UINT32_MAX,
    .threshold = SAMPLING_NEVER};

/* The smallest threshold takes the credit, so that a filter goes before a share; ties go to the earlier. */
static void decided_credit(struct decided *decided, uint16_t index, struct vote vote)
{
    if (decided->decision == DECISION_SAMPLED && vote.threshold >= decided->threshold)
        return;
    *decided = (struct decided){.decision = DECISION_SAMPLED,
        .policy = index,
        .evidence_bit = vote.evidence_bit,
        .threshold = vote.threshold,
        .error_count = decided->error_count,
        .inner_policy = decided->inner_policy};
}

/* Asks the policies of places from … to in the order of evaluation. False: the vote is over. */
static bool count_votes(const struct policy_set *set, size_t from, size_t to,
    const struct verdict_input *input, struct policy_votes *votes, struct decided *decided)
{
    for (size_t at = from; at < to; at++) {
        const uint16_t index = set->order[at];
        const struct vote vote = policy_evaluate(&set->policies[index], input);

        if (votes)
            votes_count(&votes[index], vote.decision);
        switch (vote.decision) {
        case DECISION_DROPPED:
            *decided = (struct decided){.decision = DECISION_DROPPED,
                .policy = index,
                .evidence_bit = vote.evidence_bit,
                .threshold = SAMPLING_NEVER,
                .error_count = decided->error_count};
            return false;
        case DECISION_ERROR:
            decided->error_count++; /* and the others decide */
            break;
        case DECISION_SAMPLED:
            decided_credit(decided, index, vote);
            if (vote.inner_policy)
                decided->inner_policy = vote.inner_policy;
            if (set->sample_on_first_match)
                return false;
            break;
        case DECISION_NOT_SAMPLED:
        case DECISION_PENDING:
            break;
        }
    }
    return true;
}

struct decided policy_set_decide_counted(
    const struct policy_set *set, const struct verdict_input *input, struct policy_votes *votes)
{
    struct decided decided = decided_not;

    /* The lock is no part of what a set says; its policies' state is shared by design. */
    if (UNLIKELY(set->needs.state))
        (void)pthread_mutex_lock(&set->state_lock->mutex);
    (void)count_votes(set, 0, set->count, input, votes, &decided);
    if (UNLIKELY(set->needs.state))
        (void)pthread_mutex_unlock(&set->state_lock->mutex);
    return decided;
}

static void weigh_and_count(const struct policy_set *set, const struct verdict_input *inputs, size_t count,
    const struct verdict_input **left, struct policy_votes *votes, struct decided *out_decided)
{
    size_t left_count = 0;

    for (size_t i = 0; i < count; i++) {
        out_decided[i] = decided_not;
        if (count_votes(set, 0, set->first_others, &inputs[i], votes, &out_decided[i]))
            left[left_count++] = &inputs[i];
    }
    for (uint16_t i = 0; i < set->count; i++)
        if (policy_is_weighed(&set->policies[i]))
            set->policies[i].type->weigh(set->policies[i].self, left, left_count);
    for (size_t i = 0; i < left_count; i++)
        (void)count_votes(set, set->first_others, set->count, left[i], votes, &out_decided[left[i] - inputs]);
}

int policy_set_decide_batch(const struct policy_set *set, const struct verdict_input *inputs, size_t count,
    struct policy_votes *votes, struct decided *out_decided)
{
    const struct verdict_input **left = malloc((count + 1) * sizeof(left[0]));

    if (!left)
        return -ENOMEM;
    (void)pthread_mutex_lock(&set->state_lock->mutex);
    weigh_and_count(set, inputs, count, left, votes, out_decided);
    (void)pthread_mutex_unlock(&set->state_lock->mutex);
    free(left);
    return 0;
}

struct decided policy_set_decide(const struct policy_set *set, const struct verdict_input *input)
{
    return policy_set_decide_counted(set, input, NULL);
}

/* -- before the trace is complete ------------------------------------------------------------------ */

bool policy_set_decide_early(const struct policy_set *set, const struct verdict_input *input,
    struct policy_votes *votes, struct decided *out_decided)
{
    for (size_t at = 0; at < set->count; at++) {
        const uint16_t index = set->order[at];
        const struct policy *policy = &set->policies[index];
        struct vote vote;

        if (!policy_is_lasting(policy, input->facts)) {
            if (policy->type->goes_first)
                return false; /* it may drop what the others want now */
            continue;
        }
        vote = policy_evaluate(policy, input);
        if (vote.decision == DECISION_SAMPLED || vote.decision == DECISION_DROPPED) {
            if (votes)
                votes_count(&votes[index], vote.decision);
            *out_decided = (struct decided){vote.decision, index, vote.evidence_bit, vote.threshold,
                .error_count = 0,
                .inner_policy = vote.inner_policy};
            return true;
        }
        if (policy->type->goes_first)
            return false;
    }
    return false;
}

const char *policy_set_stateful(const struct policy_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        if (policy_is_stateful(&set->policies[i]))
            return set->policies[i].name;
    return NULL;
}

const struct policy_needs *policy_set_needs(const struct policy_set *set)
{
    return &set->needs;
}
