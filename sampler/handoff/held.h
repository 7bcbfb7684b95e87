/* Whose a held trace is, and what may be done with it: rules D1 and D2, where traces are kept.
 *
 * May a trace be decided here, or exported? Only where its slot is mine and settled by this worker's view; with a journal only after
 * it was read back. What may not waits on hold (trace_hold) or, decided already, as SAMPLED_WAITING, and is looked at again
 * when a view settles more. What is another's is listed, once a ring, for travel.
 */
#pragma once

#include "common/base/cleanup.h"
#include "sampler/export/survivors.h"
#include "sampler/handoff/repeats.h"
#include "sampler/handoff/worker_journal.h"
#include "sampler/sampler_worker.h"

struct arrival;

bool handoff_may_decide_asked(const struct sampler_worker *home, uint64_t id_hash);
HOT_INLINE bool handoff_may_decide(const struct sampler_worker *home, uint64_t id_hash)
{
    return LIKELY(!home->handoff) || handoff_may_decide_asked(home, id_hash);
}

/* A sampled trace out of the table leaves; with a journal when its verdict is written. */
static inline void handoff_leave(struct sampler_worker *home, struct trace *trace, const struct sampling_note *note, uint64_t now_ns)
{
    if (LIKELY(!home->journal))
        survivors_take(home, trace, note, now_ns);
    else
        worker_journal_leave(home->journal, trace, note, now_ns);
}

/* Only with a handoff: a span was added to a trace of the table. */
void handoff_on_held(struct sampler_worker *home, struct trace *trace, uint64_t id_hash, const struct arrival *arrival);
/* Only with a journal: a span came that is known, and lies there once more. */
void handoff_on_known(struct sampler_worker *home, const struct repeat *repeat);
/* A sampled trace of the table whose bytes are only in the journal: on hold, and due again when it is whole. */
void handoff_read_back(struct sampler_worker *home, struct trace *trace);
/* A sampled trace out of the table, which may not leave yet, goes back into it. delivered: exporters that have it. Its spans are in the books. */
void handoff_await_export(struct sampler_worker *home, struct trace *trace, uint64_t id_hash, uint8_t delivered);
/* One was decided: counted where that was another's to do, at the end of a drain. */
void handoff_on_decided(struct sampler_worker *home, uint64_t id_hash);
/* A sampled trace has left for good, whatever came of it: its export call, if it was in one, has ended. */
void handoff_on_exported(struct sampler_worker *home, const struct trace *trace);
/* A verdict was put into the cache: it travels too where its slot is another's. */
void handoff_on_record(struct sampler_worker *home, const struct trace_id *id, uint64_t id_hash);
