/* What one worker writes to the journal, and what waits for it to be written: the order of handoff section 5.
 *
 *   request, Give ──▶ REQUEST, TRACES ──written──▶ its answer
 *   a turn's decisions ──▶ one VERDICTS ──written──▶ survivors, and verdicts that travel
 *   a turn's settled survivors ──▶ one EXPORTED;  what others accepted ──▶ one GIVEN        nobody waits
 *
 * Names   a record of verdicts, exports or gifts names the data segments where the spans it speaks of lie, so that it outlives them.
 *         A span that follows a remembered verdict has that verdict written once more, naming its own segment.
 * Failing a verdict that could not be written is tried again every second; what waits for it waits.
 * Owner   the worker; completions come as its mail. Nothing here without a journal (NULL).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sampler/buffer/trace.h"
#include "sampler/decide/decision_cache.h"
#include "sampler/journal/journal.h"

struct open_request;
struct sampler_worker;
struct worker_journal;

struct worker_journal *worker_journal_new(struct sampler_worker *home, struct journal *journal); /* NULL: no memory */
/* The worker's loop has ended: from here on what is freed is only memory, and stays in the journal. Accepts NULL. */
void worker_journal_end(struct worker_journal *mine);
/* The journal's threads have ended, the worker's traces are gone. Accepts NULL. */
void worker_journal_free(struct worker_journal *mine);

/* A request, or a Give, that stays here: open waits until it is written. hold_bytes: of its spans. *out_at: where the body begins. 0, or
 * JOURNAL_E_* or -errno: nothing was kept, refuse it. */
int worker_journal_request(struct worker_journal *mine, struct open_request *open, struct buffer *bytes, struct slice body,
    uint64_t hold_bytes, struct journal_pos *out_at);
int worker_journal_traces(struct worker_journal *mine, struct open_request *open, struct buffer *bytes, uint64_t hold_bytes, struct journal_pos *out_at);

/* A span that was not kept, or no more, lies there. */
void worker_journal_let_go(struct worker_journal *mine, uint32_t segment, uint64_t bytes);

/* Decided; trace: its spans, still here. */
void worker_journal_verdict(struct worker_journal *mine, struct trace *trace, const struct decision_record *record);
/* Taken over; traces: what is held here of it, still undecided or not. The Give's own record goes when none of its spans is held. */
void worker_journal_learned(struct worker_journal *mine, const struct trace_id *id, const struct decision_record *record, struct trace *const *traces,
    size_t trace_count);
/* A span that lies in this segment followed the remembered verdict. */
void worker_journal_late(struct worker_journal *mine, const struct trace_id *id, const struct decision_record *record, uint32_t segment);
/* A sampled trace out of the table that shall leave: now, or when all verdicts so far are written. */
void worker_journal_leave(struct worker_journal *mine, struct trace *trace, const struct sampling_note *note, uint64_t now_ns);
/* Visits the traces that wait for their verdict to be written. */
void worker_journal_each_leaving(struct worker_journal *mine, void (*visit)(void *context, struct trace *trace), void *context);
/* The backends have these spans, or will never; exporter: only that one's has. NULL: all. */
void worker_journal_exported(struct worker_journal *mine, struct trace *trace, const uint64_t *hashes, size_t count, const char *exporter);
/* Another member said so of these. */
void worker_journal_exported_there(struct worker_journal *mine, const struct trace_id *id, const uint64_t *hashes, size_t count);
/* Another member has these spans of the trace (NULL: none were), and its verdict. */
void worker_journal_given(struct worker_journal *mine, const struct trace_id *id, struct trace *trace, const uint64_t *hashes, size_t count,
    bool also_verdict);

/* Numbers verdicts, so that one can wait for all there are: worker_journal_wrote(mine, worker_journal_now(mine)). */
uint64_t worker_journal_now(const struct worker_journal *mine);
bool worker_journal_wrote(const struct worker_journal *mine, uint64_t number);
uint64_t worker_journal_spans(const struct worker_journal *mine);    /* of sampled traces that wait here */
uint64_t worker_journal_unwritten(const struct worker_journal *mine); /* verdicts, and the traces that wait for them */

/* Once a turn, last: passes on what the turn gathered. Returns when to run again. */
uint64_t worker_journal_run(struct worker_journal *mine, uint64_t now_ns);
/* Its account of held bytes, for recovery. */
struct journal_account *worker_journal_account(struct worker_journal *mine);
