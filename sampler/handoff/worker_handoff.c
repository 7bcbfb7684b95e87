#include "sampler/handoff/worker_handoff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "sampler/export/survivors.h"
#include "sampler/handoff/gate.h"
#include "sampler/handoff/held.h"
#include "sampler/handoff/inside.h"
#include "sampler/handoff/turn.h"
#include "sampler/span_path.h"

/* -- life ----------------------------------------------------------------------------------------------------------- */

static void on_survivor_back(struct sampler_worker *home, struct trace *trace);

static void on_let_go(void *context, uint32_t segment, uint64_t bytes)
{
    const struct sampler_worker *home = context;

    worker_journal_let_go(home->journal, segment, bytes);
}

int worker_handoff_new(struct sampler_worker *home, const struct handoff_options *options, struct worker_handoff **out_handoff)
{
    struct worker_handoff *handoff;

    *out_handoff = NULL;
    if (!options->cluster && !options->journal)
        return 0;
    handoff = calloc(1, sizeof(*handoff));
    if (!handoff)
        return error_raise(-ENOMEM);
    handoff->regroup = regroup_new();
    if (!handoff->regroup) {
        free(handoff);
        return error_raise(-ENOMEM);
    }
    handoff->home = home;
    handoff->options = *options;
    handoff->recovering = options->journal;
    handoff->parked_next_ns = UINT64_MAX;
    list_init(&handoff->open);
    list_init(&handoff->parked);
    travel_init(&handoff->travel);
    spill_init(&handoff->spill);
    if (options->journal) {
        home->journal = worker_journal_new(home, home->sampler->journal);
        if (!home->journal) {
            worker_handoff_free(handoff);
            return error_raise(-ENOMEM);
        }
        trace_table_journal(home->traces, on_let_go, home);
    }
    home->on_survivor_back = on_survivor_back;
    *out_handoff = handoff;
    return 0;
}

void handoff_keep_verdicts(struct worker_handoff *handoff, uint64_t verdict_keep_ns)
{
    handoff->options.verdict_keep_ns = verdict_keep_ns;
}

void worker_handoff_free(struct worker_handoff *handoff)
{
    if (!handoff)
        return;
    travel_deinit(&handoff->travel);
    clean_deinit(&handoff->clean);
    spill_deinit(&handoff->spill);
    repeats_deinit(&handoff->repeats);
    regroup_free(handoff->regroup);
    free(handoff->choices);
    view_unref(handoff->view);
    free(handoff);
}

struct transfer_sender handoff_sender(const struct worker_handoff *handoff)
{
    return (struct transfer_sender){.name = slice_text(handoff->options.name),
        .incarnation = handoff->view->members[handoff->view->self].incarnation,
        .ring_no = handoff->view->ring_no};
}

/* -- views ------------------------------------------------------------------------------------------------------------- */

void worker_on_view(struct sampler_worker *home, struct view *view)
{
    struct worker_handoff *handoff = home->handoff;
    struct view *old = handoff->view;

    handoff->view = view_ref(view);
    handoff->parked_anew = true;
    decision_cache_keep_all(home->cache, !view->all_reachable); /* D4 */
    if (!old || old->ring_no != view->ring_no)
        travel_begin(handoff, home->worker.now_ns);
    if (!old || old->settled != view->settled || old->ring_no != view->ring_no)
        trace_table_release(home->traces); /* each is looked at once more */
    view_unref(old);
}

void handoff_recovered(struct sampler_worker *home)
{
    home->handoff->recovering = false;
    home->handoff->parked_anew = true;
    trace_table_release(home->traces);
}

/* -- whose a trace is ---------------------------------------------------------------------------------------------------- */

bool handoff_may_decide_asked(const struct sampler_worker *home, uint64_t id_hash)
{
    const struct worker_handoff *handoff = home->handoff;

    if (home->finishing)
        return true;
    if (handoff->recovering || handoff->standing_still || handoff->options.gives_only)
        return false;
    if (!handoff->options.cluster)
        return true;
    if (UNLIKELY(!awake_ask(&home->sampler->awake, home->worker.now_ns)))
        return false;
    return handoff->view && view_settled(handoff->view, slot_of(id_hash));
}

static struct travel_entry entry_of_trace(const struct trace *trace)
{
    const struct trace_info info = trace_info(trace);

    return (struct travel_entry){.id = info.id,
        .order_ns = info.deadline_ns,
        .first_ns = info.first_ns,
        .bytes = (uint32_t)u64_min(info.bytes, UINT32_MAX),
        .kind = info.state == TRACE_PENDING ? TRAVEL_PENDING : TRAVEL_SAMPLED};
}

static bool is_anothers(const struct worker_handoff *handoff, uint64_t id_hash)
{
    return handoff->view && !view_owns(handoff->view, slot_of(id_hash));
}

/* Once a ring. */
static void trace_list(struct worker_handoff *handoff, struct trace *trace, uint64_t id_hash)
{
    struct travel_entry entry;

    if (!is_anothers(handoff, id_hash) || trace_info(trace).mark == handoff->view->ring_no)
        return;
    trace_mark(trace, handoff->view->ring_no);
    entry = entry_of_trace(trace);
    travel_note(handoff, &entry, id_hash);
}

void handoff_on_held(struct sampler_worker *home, struct trace *trace, uint64_t id_hash, const struct arrival *arrival)
{
    if (arrival->book != BOOK_RECEIVED && !trace_is_sampled(trace)) { /* T4: the earliest of both */
        trace_first_at(trace, arrival->first_ns);
        trace_hasten(home->traces, trace, arrival->deadline_ns);
    }
    trace_list(home->handoff, trace, id_hash);
}

/* Spans that the table had already are gone when a trace joined another there: then they were there twice. */
void handoff_await_export(struct sampler_worker *home, struct trace *trace, uint64_t id_hash, uint8_t delivered)
{
    uint64_t before = trace_table_span_count(home->traces) + trace_info(trace).span_count;

    trace = trace_table_put_back(home->traces, trace, delivered);
    book(home, BOOK_DUPLICATE, before - trace_table_span_count(home->traces));
    trace_list(home->handoff, trace, id_hash);
    if (handoff_may_decide(home, id_hash))
        trace_table_release(home->traces);
}

void handoff_on_known(struct sampler_worker *home, const struct repeat *repeat)
{
    repeats_add(home->handoff, repeat);
}

void handoff_read_back(struct sampler_worker *home, struct trace *trace)
{
    spill_read_back(home->handoff, trace);
}

void handoff_on_record(struct sampler_worker *home, const struct trace_id *id, uint64_t id_hash)
{
    struct worker_handoff *handoff = home->handoff;
    const struct travel_entry entry = {.id = *id, .order_ns = home->worker.now_ns, .first_ns = home->worker.now_ns, .kind = TRAVEL_VERDICT};

    if (is_anothers(handoff, id_hash))
        travel_note(handoff, &entry, id_hash);
}

static void on_survivor_back(struct sampler_worker *home, struct trace *trace)
{
    struct worker_handoff *handoff = home->handoff;
    const struct travel_entry entry = entry_of_trace(trace);
    uint64_t id_hash = hash_trace(&entry.id);

    if (is_anothers(handoff, id_hash)) {
        trace_mark(trace, handoff->view->ring_no);
        travel_ended(handoff, &entry);
    } else if (handoff_may_decide(home, id_hash)) { /* lost and settled again meanwhile */
        trace_release(home->traces, trace);
    }
}

void handoff_on_exported(struct sampler_worker *home, const struct trace *trace)
{
    struct worker_handoff *handoff = home->handoff;
    const struct trace_info info = trace_info(trace);
    const struct travel_entry entry = {.id = info.id, .order_ns = home->worker.now_ns, .first_ns = home->worker.now_ns, .kind = TRAVEL_VERDICT};

    if (is_anothers(handoff, hash_trace(&info.id)))
        travel_ended(handoff, &entry);
}

void handoff_on_decided(struct sampler_worker *home, uint64_t id_hash)
{
    const struct worker_handoff *handoff = home->handoff;

    /* All is decided here now: what is not settled perhaps elsewhere too. */
    if (home->finishing && !(handoff->view && view_settled(handoff->view, slot_of(id_hash))))
        count(home, METRIC_DECIDED_APART, 1);
}

/* -- a turn ---------------------------------------------------------------------------------------------------------------- */

static void gauges_set(struct worker_handoff *handoff)
{
    struct metrics_cell *cell = handoff->home->worker.metrics;
    uint64_t traces = 0, bytes = 0;

    for (size_t i = 0; i < handoff->travel.list_count; i++) {
        traces += handoff->travel.lists[i].traces;
        bytes += handoff->travel.lists[i].bytes;
    }
    metric_set(cell, METRIC_PARKED_REQUESTS, handoff->parked_count);
    metric_set(cell, METRIC_OPEN_REQUESTS, handoff->open_count);
    metric_set(cell, METRIC_FOREIGN_TRACES, traces);
    metric_set(cell, METRIC_FOREIGN_BYTES, bytes);
    metric_set(cell, METRIC_WAITING_TRACES, trace_table_held_count(handoff->home->traces));
    if (handoff->home->journal)
        metric_set(cell, METRIC_UNWRITTEN_VERDICTS, worker_journal_unwritten(handoff->home->journal));
}

uint64_t worker_handoff_run(struct worker_handoff *handoff, uint64_t now_ns)
{
    uint64_t next_ns = gate_run(handoff, now_ns);
    bool more = false;

    gauges_set(handoff);
    if (handoff->standing_still)
        return next_ns;
    next_ns = u64_min(next_ns, travel_run(handoff, now_ns)); /* before spilling: what was read back for it would be the first to go again */
    if (handoff->home->journal) {
        repeats_run(handoff, now_ns);
        more = clean_run(handoff);
        more |= spill_run(handoff, now_ns);
    }
    return more ? now_ns : next_ns;
}

/* -- what is held ------------------------------------------------------------------------------------------------------------ */

void worker_holds(struct sampler_worker *home, struct holds *out)
{
    struct worker_handoff *handoff = home->handoff;
    uint64_t decided_ns = decision_cache_stats(home->cache).newest_ns;

    out->ring_no = handoff->view ? handoff->view->ring_no : 0;
    out->open_requests = handoff->open_count;
    out->traces = trace_table_count(home->traces);
    out->survivors = worker_backends_units(home->backends);
    out->verdicts = home->journal ? worker_journal_unwritten(home->journal) : 0;
    out->remembers = decided_ns > 0 && u64_sub_floor(home->worker.now_ns, decided_ns) < handoff->options.verdict_keep_ns;
    out->oldest_ns = 0;
    for (size_t i = 0; out->members && i < out->member_count; i++)
        out->members[i] = (struct held_for){0, 0, 0};
    travel_holds(handoff, out);
}

/* -- the end ------------------------------------------------------------------------------------------------------------------ */

void worker_decide_all(struct sampler_worker *home)
{
    if (home->handoff) {
        gate_close(home->handoff);
        home->handoff->standing_still = true;
        trace_table_release(home->traces);
    }
    home->finishing = true;
}

void worker_stand_still(struct sampler_worker *home)
{
    gate_close(home->handoff);
    home->handoff->standing_still = true;
}
