/* The traces waiting for a decision, found by trace ID, and the spans they hold.
 *
 * Shape   open addressing, power-of-two slots that grow step by step (no long pause); each trace is one block of the worker's
 *         extent store, its span records and bytes are chains of blocks.
 * Bound   bytes in the pool's budget (budget.h). Owner: one worker; no other thread touches it. No I/O, no clock.
 * Cost    find: one cache line expected. A span added: one or two copies into blocks, its hash compared with the trace's others
 *         (a per-trace index once there are many).
 * Source  tail_sampling processor: num_traces, decision_wait
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "sampler/buffer/deadline.h"
#include "sampler/buffer/trace.h"
#include "sampler/journal/journal.h"

#define TRACES_OF_ID_MOST 257u /* a pending one, and one for each set of exporters that have it already */

struct policy_set;
struct trace_table;
int trace_table_new(struct extent_store *store, struct header_table *headers, uint64_t now_ns, struct trace_table **out_table);
/* Frees every trace still there. */
void trace_table_free(struct trace_table *table);

/* Before the first trace: spans have places in the journal. let_go: a span is held no more that lies in this segment; calls for spans of
 * one trace may be joined into one. Without it places are not kept and cost nothing. */
void trace_table_journal(struct trace_table *table, void (*let_go)(void *context, uint32_t segment, uint64_t bytes), void *context);

/* id_hash: hash_trace(id). NULL: not there. */
struct trace *trace_table_find(struct trace_table *table, const struct trace_id *id, uint64_t id_hash);
/* All of the ID, at most TRACES_OF_ID_MOST: several where some of its spans wait for fewer exporters than others. Returns how many. */
size_t trace_table_find_all(struct trace_table *table, const struct trace_id *id, uint64_t id_hash, struct trace **out_traces);
/* Hints, for a caller that knows its next few: first the slot of an ID, a little later what it holds (a span is added in half
 * the time). They change nothing and may be left out. */
void trace_table_prefetch(const struct trace_table *table, uint64_t id_hash);
void trace_table_prefetch_trace(const struct trace_table *table, uint64_t id_hash);
/* A new trace, pending; set: one reference taken. NULL: no memory. */
struct trace *trace_table_add(struct trace_table *table, const struct trace_id *id, uint64_t id_hash, struct policy_set *set, uint64_t now_ns,
    uint64_t deadline_ns);
/* A trace outside the table and without a deadline, already sampled: for late spans on their way to the backend. */
struct trace *trace_new_apart(struct trace_table *table, const struct trace_id *id, uint64_t now_ns);

enum trace_span_result { TRACE_SPAN_ADDED, TRACE_SPAN_DUPLICATE, TRACE_SPAN_NO_MEMORY };
/* Copies the span in. header: one reference is taken when added. span_hash: hash_bytes of it. at: where it lies in the journal; segment 0:
 * nowhere. When added, its span.len bytes there are let go of by whoever frees the span here; a duplicate's are the caller's. Without
 * memory nothing changes. */
enum trace_span_result trace_add_span(struct trace_table *table, struct trace *trace, struct slice span, uint64_t span_hash,
    struct header *header, struct journal_pos at);
/* Sooner only: min with what it has. */
void trace_hasten(struct trace_table *table, struct trace *trace, uint64_t deadline_ns);
/* Earlier only: its first span arrived at another node before, or at this one before a restart. */
void trace_first_at(struct trace *trace, uint64_t first_ns);

/* The next trace that is due, those that were released first, still in the table; NULL: none, and what trace_free put off is freed. Its deadline is spent: the caller
 * takes it, frees it, puts it on hold, or gives it another one (trace_hasten). Pending, but for one that was on hold. */
struct trace *trace_table_due(struct trace_table *table, uint64_t now_ns);
uint64_t trace_table_next_ns(const struct trace_table *table);
/* The trace not on hold that came into the table first; NULL: none. */
struct trace *trace_table_oldest(struct trace_table *table);
/* Out of table, deadline and order; it lives on until trace_free, as TRACE_SAMPLED. */
void trace_table_take(struct trace_table *table, struct trace *trace);

/* It may not be decided, or exported, yet: until the next release it is neither due nor among the oldest. */
void trace_hold(struct trace_table *table, struct trace *trace);
/* Ends its hold: trace_table_due gives it once more. Nothing happens to one that is not on hold. */
void trace_release(struct trace_table *table, struct trace *trace);
/* Ends every hold: trace_table_due gives each of them once more; a pending one whose deadline is still to come only then. */
void trace_table_release(struct trace_table *table);
/* A pending trace learns a verdict: SAMPLED_WAITING, on hold. */
void trace_await_export(struct trace_table *table, struct trace *trace);
/* A sampled trace out of the table, with its bytes, back into it: SAMPLED_WAITING, on hold. delivered: exporters that have it already. Returns
 * the trace that stands for it: itself, or one of the same ID, state and `delivered` that its spans joined. */
struct trace *trace_table_put_back(struct trace_table *table, struct trace *trace, uint8_t delivered);

/* Visits all traces in the table, some 1500 a step: *cursor is 0 at first, and false is the end. A trace that is there all the time is
 * visited once, whatever comes and goes between the steps; visit itself takes, adds and frees none. */
bool trace_table_step(struct trace_table *table, uint64_t *cursor, void (*visit)(void *context, struct trace *trace), void *context);
/* On its way out: that exporter has all of its spans (trace_info.delivered). */
void trace_delivered_by(struct trace *trace, size_t exporter);
/* A number of the caller's on a trace in the table (trace_info.mark). */
void trace_mark(struct trace *trace, uint32_t mark);

/* Adds the spans that `trace` does not have yet; `from` keeps its copies, but their places go along. Facts are the caller's to fold. Returns how many were added. */
uint32_t trace_join(struct trace_table *table, struct trace *trace, struct trace *from);
/* ... of which only those whose header is wanted. */
uint32_t trace_join_some(struct trace_table *table, struct trace *trace, struct trace *from,
    bool (*wanted)(void *context, const struct header *header), void *context);
/* Takes out the spans of these hashes, bytes and all; facts and costs keep what they folded. Returns how many there were. */
uint32_t trace_remove_spans(struct trace_table *table, struct trace *trace, const uint64_t *hashes, size_t count);

/* Visits where each span lies in the journal, spilled or not, in order of arrival. A visitor may write to *at: a copy was made elsewhere, and the
 * old bytes are its to let go of. Only with trace_table_journal. */
void trace_places(struct trace *trace, void (*visit)(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at), void *context);

/* -- spilled traces: trace_spill.c ------------------------------------------------------------------------- */

/* The trace in the table whose bytes came first and can go; NULL: none. */
struct trace *trace_table_spillable(const struct trace_table *table);
/* Frees the bytes of all its spans, which the journal has; everything else stays, and new spans come with their bytes. False: a span lies
 * nowhere, or its places are being read; then it is not spillable until a span comes. */
bool trace_spill(struct trace_table *table, struct trace *trace);
/* It cannot go now: the others first; for_good: it is not spillable until a span comes. */
void trace_spill_pass(struct trace_table *table, struct trace *trace, bool for_good);
/* Visits where the bytes of its spilled spans lie, to read them; until trace_unspill no more of its spans are spilled. */
void trace_spilled(struct trace *trace, void (*visit)(void *context, uint64_t span_hash, uint32_t len, struct journal_pos at), void *context);
/* False: somebody wants it whole already; trace_unspill ends that. */
bool trace_ask_read(struct trace *trace);
/* Whole again: the bytes of each spilled span by its hash, of the length told; `at` NULL: they could not be read, and the span is lost. Returns
 * how many are. Spilled traces cannot leave the table but to be freed; trace_spans and trace_join (from them) want them whole. */
uint32_t trace_unspill(struct trace_table *table, struct trace *trace, struct slice (*bytes_of)(void *context, uint64_t span_hash), void *context);
uint64_t trace_table_spilled_count(const struct trace_table *table); /* spans in the table without bytes */

/* Frees span bytes (blocks), keeping records and hashes: trace_spans and trace_add_span are over. */
void trace_free_bytes(struct trace_table *table, struct trace *trace);
/* Takes it first when it is in the table. Its blocks are free at the latest when trace_table_due says none. */
void trace_free(struct trace_table *table, struct trace *trace);

struct facts *trace_facts(struct trace *trace);
/* Adds an added span to facts.cost (cost.h), which trace_free frees: only for sets whose policies need it. */
void trace_add_cost(struct trace_table *table, struct trace *trace, const struct header *header, struct slice span);
struct policy_set *trace_policy_set(struct trace *trace);
const struct trace_id *trace_id_of(const struct trace *trace);
struct trace_info trace_info(const struct trace *trace);
bool trace_is_sampled(const struct trace *trace); /* decided; in the table: SAMPLED_WAITING */
/* Of a trace that is out of the table. Zeroed at first. */
struct trace_way_out *trace_way_out(struct trace *trace);
struct trace *trace_of_way_out(struct trace_way_out *out);
/* Span hashes in order; out must hold span_count. */
void trace_hashes(const struct trace *trace, uint64_t *out_hashes);
/* Visits all spans in order of arrival; stops at the first non-zero answer and returns it. */
int trace_spans(const struct trace *trace, int (*visit)(void *context, struct header *header, struct rope bytes), void *context);

uint64_t trace_table_count(const struct trace_table *table);      /* traces in it: pending, or waiting to be exported */
uint64_t trace_table_held_count(const struct trace_table *table);  /* of these, on hold */
uint64_t trace_table_span_count(const struct trace_table *table); /* of these */
uint64_t trace_table_cost_bytes(const struct trace_table *table); /* of costs, on the heap */
uint64_t trace_table_index_bytes(const struct trace_table *table); /* on the heap, beside the extents */
