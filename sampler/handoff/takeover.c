/* A Give arrives: rule T2. What this node owns by this worker's view is accepted, journaled as one record, and shared out to the workers
 * that own the traces: first the verdict, then the spans, which follow it; both by mail that keeps its order. What is not this
 * node's is left with who gave it. */
#include "sampler/handoff/worker_handoff.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/base/plant.h"
#include "common/export/rpc_code.h"
#include "sampler/handoff/inside.h"
#include "sampler/handoff/join.h"
#include "sampler/handoff/takeover.h"
#include "sampler/span_path.h"

#define BUSY_MS 200u
#define REMAINING_MOST_MS (24 * 3600 * 1000) /* no decision_wait is longer */

/* -- verdicts, to their workers ---------------------------------------------------------------------------------------- */

struct verdict_mail {
    struct mail mail;
    enum verdict_news news;
    struct join_verdict verdict; /* its slices point behind this struct */
    uint64_t id_hash;
    uint64_t hashes[];
};

static void verdict_news_take(struct sampler_worker *home, enum verdict_news news, uint64_t id_hash, const struct join_verdict *verdict)
{
    switch (news) {
    case VERDICT_IS:
        join_verdict(home, id_hash, verdict, home->worker.now_ns);
        break;
    case VERDICT_GONE:
        (void)decision_cache_remove(home->cache, &verdict->id, id_hash);
        break;
    case VERDICT_HASHES:
        decision_cache_join(home->cache, &verdict->id, id_hash, verdict->hashes, verdict->hash_count, home->worker.now_ns);
        break;
    }
}

static void owner_on_verdict(struct mail *mail, void *receiver)
{
    struct verdict_mail *news = container_of(mail, struct verdict_mail, mail);
    struct sampler_worker *home = container_of((struct worker *)receiver, struct sampler_worker, worker);

    verdict_news_take(home, news->news, news->id_hash, &news->verdict);
    free(news);
}

void verdict_share_out(struct sampler_worker *home, enum verdict_news what, const struct join_verdict *verdict)
{
    uint64_t id_hash = hash_trace(&verdict->id);
    unsigned owner = sampler_owner(home->sampler, id_hash);
    size_t hash_bytes = verdict->hash_count * sizeof(verdict->hashes[0]);
    struct verdict_mail *news;
    uint8_t *policy;

    if (owner == home->worker.index) {
        verdict_news_take(home, what, id_hash, verdict);
        return;
    }
    news = malloc(sizeof(*news) + hash_bytes + verdict->policy.len);
    ASSERT(news != NULL);
    news->mail.deliver = owner_on_verdict;
    news->news = what;
    news->verdict = *verdict;
    news->id_hash = id_hash;
    policy = (uint8_t *)news->hashes + hash_bytes;
    if (hash_bytes > 0)
        memcpy(news->hashes, verdict->hashes, hash_bytes);
    if (verdict->policy.len > 0)
        memcpy(policy, verdict->policy.at, verdict->policy.len);
    news->verdict.hashes = news->hashes;
    news->verdict.policy.at = policy;
    worker_post(&home->sampler->workers[owner].worker, &news->mail);
}

/* -- one trace ------------------------------------------------------------------------------------------------------------ */

static uint64_t before(uint64_t now_ns, uint64_t age_ms)
{
    uint64_t age_ns = u64_min(age_ms, UINT64_MAX / NS_PER_MS) * NS_PER_MS;

    return age_ns < now_ns ? now_ns - age_ns : 1;
}

struct arrival takeover_arrival(const struct sampler_worker *home, const struct transfer_trace *trace, uint64_t now_ns)
{
    struct arrival arrival = arrival_now(home, now_ns);

    arrival.book = BOOK_TAKEN_OVER;
    if (planted(PLANT_CLOCK_RESTARTED_BY_MOVE))
        return arrival;
    arrival.first_ns = before(now_ns, trace->age_ms);
    if (trace->remaining_ms <= 0)
        arrival.deadline_ns = now_ns;
    else
        arrival.deadline_ns = now_ns + (uint64_t)(trace->remaining_ms < REMAINING_MOST_MS ? trace->remaining_ms : REMAINING_MOST_MS) * NS_PER_MS;
    return arrival;
}

uint8_t takeover_delivered(const struct sampler_worker *home, const struct transfer_trace *trace)
{
    struct wire names = wire_of(trace->body);
    struct slice name;
    uint8_t bits = 0;

    while (transfer_delivered_next(&names, &name))
        bits |= worker_backends_bit(home->backends, name);
    return bits;
}

void takeover_verdict(struct sampler_worker *home, const struct transfer_trace *trace, uint64_t now_ns)
{
    const struct transfer_verdict *in = &trace->verdict;
    struct transfer_hashes reader = transfer_hashes(trace);
    struct join_verdict verdict = {.id = trace->id,
        .decision = in->decision,
        .too_large = in->too_large,
        .policy = in->policy,
        .span_count = in->span_count,
        .evidence_span_id = in->evidence_span_id,
        .threshold = in->threshold,
        .decided_ns = before(now_ns, in->age_ms)};
    uint64_t *hashes = worker_hash_scratch(home, trace->hash_count);

    while (verdict.hash_count < trace->hash_count && transfer_hash_next(&reader, &hashes[verdict.hash_count]))
        verdict.hash_count++;
    verdict.hashes = hashes;
    if (in->decision != DECISION_SAMPLED)
        verdict.hash_count = 0;
    verdict_share_out(home, VERDICT_IS, &verdict);
}

/* The spans of a part, walked as those of any request. */
static uint64_t part_take(struct sampler_worker *home, struct buffer *bytes, const struct transfer_part *part, const struct arrival *arrival)
{
    struct metadata_set *metadata = NULL;
    uint64_t taken = 0;

    ASSERT(transfer_part_metadata(part, &metadata) == 0);
    if (intake_read(&home->intake, part->spans, metadata, home->set, home->scratch, home->headers)) {
        taken = intake_span_bytes(home);
        spans_take(home, bytes, arrival);
    }
    count(home, METRIC_TRANSFER_UNREADABLE, home->intake.rejected_count);
    intake_release(&home->intake, home->headers);
    metadata_set_unref(metadata);
    return taken;
}

uint64_t takeover_trace(struct sampler_worker *home, struct buffer *bytes, const struct transfer_trace *trace, struct arrival arrival)
{
    struct wire parts = wire_of(trace->body);
    struct transfer_part part;
    uint64_t taken = 0;

    arrival.delivered = takeover_delivered(home, trace);
    if (trace->verdict.decision != DECISION_PENDING)
        takeover_verdict(home, trace, arrival.now_ns);
    while (transfer_part_next(&parts, &part))
        taken += part_take(home, bytes, &part, &arrival);
    return taken;
}

/* -- a Give ------------------------------------------------------------------------------------------------------------------ */

/* T2 for each trace; returns how many bytes the accepted ones have, as fields. */
static size_t outcomes_fill(const struct worker_handoff *handoff, struct slice message, enum transfer_outcome others, uint8_t *outcomes)
{
    struct wire w = wire_of(message);
    struct transfer_trace trace;
    size_t accepted = 0;

    for (size_t i = 0; transfer_trace_next(&w, &trace); i++) {
        if (!handoff->view || !view_owns(handoff->view, slot_of(hash_trace(&trace.id)))) {
            outcomes[i] = TRANSFER_NOT_OWNER;
            continue;
        }
        outcomes[i] = (uint8_t)others;
        if (others == TRANSFER_ACCEPTED)
            accepted += trace.field.len;
    }
    return accepted;
}

/* The accepted traces alone: what is journaled, and what spans borrow from. */
static struct buffer *accepted_copy(struct slice message, const uint8_t *outcomes, size_t size)
{
    struct buffer *copy = buffer_new(size);
    struct wire w = wire_of(message);
    struct transfer_trace trace;

    for (size_t i = 0; copy && transfer_trace_next(&w, &trace); i++) {
        if (outcomes[i] != TRANSFER_ACCEPTED)
            continue;
        memcpy(copy->bytes + copy->len, trace.field.at, trace.field.len);
        copy->len += trace.field.len;
    }
    return copy;
}

/* at: where bytes begin in the journal. What is held there of them is at first all of their length. */
static void traces_take(struct sampler_worker *home, struct buffer *bytes, struct journal_pos at)
{
    struct wire w = wire_of(buffer_slice(bytes));
    struct transfer_trace trace;
    uint64_t taken = 0;

    while (transfer_trace_next(&w, &trace)) {
        struct arrival arrival = takeover_arrival(home, &trace, home->worker.now_ns);

        arrival.at = at;
        arrival.base = bytes->bytes;
        taken += takeover_trace(home, bytes, &trace, arrival);
        count(home, METRIC_TAKEN_OVER_TRACES, 1);
    }
    count(home, METRIC_TAKEN_OVER_BYTES, bytes->len);
    if (at.segment)
        worker_journal_let_go(home->journal, at.segment, bytes->len - taken);
}

/* False: the journal does not take it now. */
static bool traces_journal(struct sampler_worker *home, struct open_request *open, struct buffer *bytes, struct journal_pos *out_at)
{
    *out_at = (struct journal_pos){0, 0};
    return !home->journal || bytes->len == 0 || worker_journal_traces(home->journal, open, bytes, bytes->len, out_at) == 0;
}

/* Is there room in the reserve for handoff, beside what is under way? */
static enum transfer_outcome outcome_of_mine(const struct worker_handoff *handoff, size_t bytes, size_t traces)
{
    struct sampler *sampler = handoff->home->sampler;
    uint64_t under_way = atomic_load_explicit(&sampler->admission.bytes, memory_order_relaxed);

    if (handoff->recovering || under_way + bytes + traces * TRACE_BYTES_MOST > budget_handoff_room(&sampler->budget))
        return TRANSFER_BUSY;
    return TRANSFER_ACCEPTED;
}

int give_serve(void *tier, struct worker *worker, struct slice request, void *call, struct buffer **out_answer)
{
    struct sampler *sampler = tier;
    struct sampler_worker *home = &sampler->workers[worker->index];
    struct worker_handoff *handoff = home->handoff;
    struct transfer_sender sender;
    struct open_request *open;
    struct buffer *bytes;
    uint8_t *outcomes;
    size_t trace_count, accepted;
    struct journal_pos at;

    (void)out_answer;
    if (!handoff || !handoff->options.cluster)
        return RPC_UNIMPLEMENTED;
    if (!transfer_give_read(request, &sender, &trace_count))
        return RPC_INVALID_ARGUMENT;
    if (handoff->refusing)
        return RPC_UNAVAILABLE;
    outcomes = malloc(size_max(trace_count, 1));
    ASSERT(outcomes != NULL);
    accepted = outcomes_fill(handoff, request, outcome_of_mine(handoff, request.len, trace_count), outcomes);
    bytes = accepted_copy(request, outcomes, accepted);
    if (!bytes) {
        free(outcomes);
        return RPC_RESOURCE_EXHAUSTED;
    }
    open = open_begin(handoff, OPEN_GIVE, call, bytes, NULL, worker->now_ns);
    open->outcomes = outcomes;
    open->outcome_count = trace_count;
    open->retry_ms = BUSY_MS;
    if (traces_journal(home, open, bytes, &at))
        traces_take(home, bytes, at);
    else
        open_not_accepted(open);
    open_done(open);
    return -1;
}
