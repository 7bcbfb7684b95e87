#include "sampler/past_set.h"

#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "sampler/sampler_worker.h"

#define KEEP_NS (60 * NS_PER_S) /* what is asked again later is compiled again */

static void past_drop(struct past_sets *past, size_t index)
{
    predicate_scratch_free(past->each[index].scratch);
    policy_set_unref(past->each[index].set);
    past->each[index] = past->each[--past->count];
}

static size_t past_oldest(const struct past_sets *past)
{
    size_t oldest = 0;

    for (size_t i = 1; i < past->count; i++)
        if (past->each[i].used_ns < past->each[oldest].used_ns)
            oldest = i;
    return oldest;
}

void past_sets_take(struct past_sets *past, struct policy_set *set, struct predicate_scratch *scratch, uint64_t now_ns)
{
    if (past->count == PAST_SETS_MAX)
        past_drop(past, past_oldest(past));
    past->each[past->count++] = (struct past_set){policy_set_ref(set), scratch, now_ns};
}

void past_sets_tend(struct past_sets *past, uint64_t now_ns)
{
    for (size_t i = past->count; i-- > 0;)
        if (u64_sub_floor(now_ns, past->each[i].used_ns) > KEEP_NS)
            past_drop(past, i);
}

void past_sets_deinit(struct past_sets *past)
{
    while (past->count > 0)
        past_drop(past, 0);
}

static struct predicate_scratch *scratch_of(struct sampler_worker *home, struct policy_set *set)
{
    struct past_sets *past = &home->past;
    struct predicate_scratch *scratch;

    if (set == home->set)
        return home->scratch;
    for (size_t i = 0; i < past->count; i++) {
        if (past->each[i].set == set) {
            past->each[i].used_ns = home->worker.now_ns;
            return past->each[i].scratch;
        }
    }
    scratch = predicate_scratch_new(policy_set_predicates(set));
    ASSERT(scratch != NULL);
    past_sets_take(past, set, scratch, home->worker.now_ns);
    return scratch;
}

void past_set_ask(struct sampler_worker *home, struct policy_set *set, const struct intake_span *span, const struct header *header,
    struct span_facts *out_facts, struct hits *out_header_hits)
{
    const struct predicates *predicates = policy_set_predicates(set);
    struct predicate_scratch *scratch = scratch_of(home, set);
    struct span_view view;

    /* Both were found well-formed when the request was read. */
    memset(out_header_hits, 0, sizeof(*out_header_hits));
    (void)predicates_header(predicates, scratch, &header->view, out_header_hits);
    (void)predicates_span(predicates, scratch, &header->view, span->bytes, &view, out_facts);
    out_facts->generation = (uint32_t)policy_set_generation(set);
}
