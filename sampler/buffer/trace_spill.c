/* Traces whose bytes are only in the journal: how they go, and how they come back. How such a trace lies: trace_inside.h. */
#include "sampler/buffer/trace_inside.h"

#include "common/base/assert.h"

static const struct rope no_bytes = {NULL, 0, 0, NULL};

struct trace *trace_table_spillable(const struct trace_table *table)
{
    struct list *node = list_first(&table->spillable);

    return node ? container_of(node, struct trace, as.waiting.spillable) : NULL;
}

static void spillable_leave(struct trace *trace)
{
    if (list_linked(&trace->as.waiting.spillable))
        list_del(&trace->as.waiting.spillable);
}

void trace_spill_pass(struct trace_table *table, struct trace *trace, bool for_good)
{
    spillable_leave(trace);
    if (!for_good)
        list_add_tail(&table->spillable, &trace->as.waiting.spillable);
}

static bool lies_whole(struct trace *trace)
{
    struct record_walk walk = record_walk_start(trace);

    while (record_next(trace, &walk)) {
        if (record_place(trace, &walk)->segment == 0)
            return false;
    }
    return true;
}

static void spilled_set(struct trace_table *table, struct trace *trace, uint32_t count)
{
    table->spilled_count += (uint64_t)count - trace_spilled_count(trace);
    trace->spilled = count > 0;
    trace->as.waiting.spilled_count = count;
}

bool trace_spill(struct trace_table *table, struct trace *trace)
{
    struct record_walk walk = record_walk_start(trace);
    const struct span_record *record;
    struct trace *compact;

    ASSERT(trace->in_table);
    spillable_leave(trace);
    if (!trace->journaled || trace->reading || !lies_whole(trace))
        return false;
    compact = trace_new(table, &trace->id, 0, true);
    ASSERT(compact != NULL);
    while ((record = record_next(trace, &walk)))
        (void)span_copy(table, compact, record, header_at(trace->headers, record->header_index), &no_bytes,
            *record_place(trace, &walk), trace->span_count);
    trace_adopt(table, trace, compact);
    spilled_set(table, trace, trace->span_count);
    return true;
}

void trace_spilled(struct trace *trace, void (*visit)(void *context, uint64_t span_hash, uint32_t len, struct journal_pos at), void *context)
{
    struct record_walk walk = record_walk_start(trace);
    const struct span_record *record;

    trace->reading = true;
    for (uint32_t left = trace_spilled_count(trace); left > 0; left--) {
        record = record_next(trace, &walk);
        visit(context, record->hash, record->len, *record_place(trace, &walk));
    }
}

bool trace_ask_read(struct trace *trace)
{
    bool asked = trace->read_asked;

    trace->read_asked = true;
    return !asked;
}

uint32_t trace_unspill(struct trace_table *table, struct trace *trace, struct slice (*bytes_of)(void *context, uint64_t span_hash), void *context)
{
    struct spans_walk walk = spans_walk_start(trace);
    uint32_t spilled_left = trace_spilled_count(trace), lost = 0;
    struct trace *whole = trace_new(table, &trace->id, 0, false);
    const struct span_record *span;
    struct rope rope;

    ASSERT(trace->in_table);
    ASSERT(whole != NULL);
    while ((span = spans_walk_next(trace, &walk, &rope))) {
        const struct journal_pos at = *record_place(trace, &walk.records);

        if (spilled_left > 0) {
            const struct slice bytes = bytes_of(context, span->hash);

            spilled_left--;
            if (!bytes.at) {
                lost++;
                trace_let_go(table, &at, span->len);
                continue;
            }
            ASSERT(bytes.len == span->len);
            rope = rope_of(bytes.at, bytes.len);
        }
        (void)span_copy(table, whole, span, header_at(trace->headers, span->header_index), &rope, at, 0);
    }
    trace_adopt(table, trace, whole);
    spilled_set(table, trace, 0);
    trace->reading = trace->read_asked = false;
    if (!list_linked(&trace->as.waiting.spillable))
        list_add_tail(&table->spillable, &trace->as.waiting.spillable);
    return lost;
}
