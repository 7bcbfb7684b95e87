/* The table: traces found by ID, in order of arrival, each with its deadline. How a trace lies: trace_inside.h. */
#include "sampler/buffer/trace_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "sampler/buffer/trace_inside.h"
#include "sampler/decide/cost.h"
#include "sampler/decide/policy_set.h"

/* -- the table ------------------------------------------------------------------------------------- */

int trace_table_new(
    struct extent_store *store, struct header_table *headers, uint64_t now_ns, struct trace_table **out_table)
{
    struct trace_table *table = calloc(1, sizeof(*table));
    int r;

    if (!table)
        return error_raise(-ENOMEM);
    r = hash_index_init(&table->index);
    if (r) {
        free(table);
        return error_pass(r);
    }
    list_init(&table->order);
    list_init(&table->held);
    list_init(&table->released);
    list_init(&table->spillable);
    table->store = store;
    table->headers = headers;
    deadlines_init(&table->deadlines, now_ns);
    *out_table = table;
    return 0;
}

static struct trace *trace_of_deadline(struct list *node)
{
    return container_of(node, struct trace, as.waiting.deadline.node);
}

static struct trace *released_first(const struct trace_table *table)
{
    struct list *node = list_first(&table->released);

    return node ? trace_of_deadline(node) : NULL;
}

void trace_table_free(struct trace_table *table)
{
    struct trace *trace;

    if (!table)
        return;
    trace_table_release(table);
    while ((trace = trace_table_oldest(table)))
        trace_free(table, trace);
    while ((trace = released_first(table)))
        trace_free(table, trace);
    extent_store_settle(table->store);
    hash_index_deinit(&table->index);
    free(table);
}

struct trace *trace_table_find(struct trace_table *table, const struct trace_id *id, uint64_t id_hash)
{
    struct hash_probe probe = hash_index_probe(&table->index, id_hash);
    uint64_t value;

    while ((value = hash_probe_next(&probe)) != 0) {
        struct trace *trace = (struct trace *)(uintptr_t)value;

        if (LIKELY(trace_id_equal(&trace->id, id)))
            return trace;
    }
    return NULL;
}

size_t trace_table_find_all(struct trace_table *table, const struct trace_id *id, uint64_t id_hash, struct trace **out_traces)
{
    struct hash_probe probe = hash_index_probe(&table->index, id_hash);
    size_t count = 0;
    uint64_t value;

    while ((value = hash_probe_next(&probe)) != 0) {
        struct trace *trace = (struct trace *)(uintptr_t)value;

        if (trace_id_equal(&trace->id, id) && count < TRACES_OF_ID_MOST)
            out_traces[count++] = trace;
    }
    return count;
}

void trace_table_prefetch(const struct trace_table *table, uint64_t id_hash)
{
    hash_index_prefetch(&table->index, id_hash);
}

static void trace_prefetch(const struct trace *trace)
{
    for (size_t line = 0; line < sizeof(*trace); line += 64)
        __builtin_prefetch((const char *)trace + line);
}

void trace_table_prefetch_trace(const struct trace_table *table, uint64_t id_hash)
{
    struct hash_probe probe = hash_index_probe(&table->index, id_hash);
    const struct trace *trace = (const struct trace *)(uintptr_t)hash_probe_next(&probe);

    if (trace)
        trace_prefetch(trace);
}

void trace_table_journal(struct trace_table *table, void (*let_go)(void *context, uint32_t segment, uint64_t bytes), void *context)
{
    ASSERT(table->index.count == 0);
    table->journaled = true;
    table->let_go = let_go;
    table->let_go_context = context;
}

struct trace *trace_new(struct trace_table *table, const struct trace_id *id, uint64_t now_ns, bool compact)
{
    struct block *block = block_new_class(table->store, TRACE_CLASS);
    struct trace *trace = (struct trace *)(void *)block;
    size_t used = sizeof(*trace) - offsetof(struct block, bytes);

    if (!trace)
        return NULL;
    memset(trace, 0, sizeof(*trace));
    trace->journaled = table->journaled;
    trace->compact = compact;
    if (compact)
        used = block_class_capacity(TRACE_CLASS);
    else if (table->journaled)
        used += PLACES_BYTES;
    trace->id = *id;
    trace->first_ns = now_ns;
    trace->headers = table->headers;
    trace->tail = block;
    trace->tail_used = (uint16_t)used;
    trace->tail_left = (uint16_t)(block_class_capacity(TRACE_CLASS) - used);
    return trace;
}

struct trace *trace_table_add(struct trace_table *table, const struct trace_id *id, uint64_t id_hash,
    struct policy_set *set, uint64_t now_ns, uint64_t deadline_ns)
{
    struct trace *trace;

    ASSERT_SLOW(id_hash == hash_trace(id));
    ASSERT_SLOW(!trace_table_find(table, id, id_hash));
    trace = trace_new(table, id, now_ns, false);
    if (!trace)
        return NULL;
    if (!hash_index_add(&table->index, id_hash, (uintptr_t)trace)) {
        block_free(table->store, trace_block(trace));
        return NULL;
    }
    trace->state = TRACE_PENDING;
    trace->in_table = true;
    if (set)
        trace->set = policy_set_ref(set);
    deadline_add(&table->deadlines, &trace->as.waiting.deadline, deadline_ns);
    list_add_tail(&table->order, &trace->as.waiting.order);
    return trace;
}

struct trace *trace_new_apart(struct trace_table *table, const struct trace_id *id, uint64_t now_ns)
{
    struct trace *trace = trace_new(table, id, now_ns, false);

    if (trace)
        trace->state = TRACE_SAMPLED;
    return trace;
}

void trace_hasten(struct trace_table *table, struct trace *trace, uint64_t deadline_ns)
{
    struct deadline *deadline = &trace->as.waiting.deadline;

    ASSERT(trace->in_table);
    if (UNLIKELY(trace->held)) {
        deadline->at_ns = u64_min(deadline->at_ns, deadline_ns);
        return;
    }
    if (list_linked(&deadline->node)) {
        if (deadline->at_ns <= deadline_ns)
            return;
        deadline_remove(&table->deadlines, deadline);
    }
    deadline_add(&table->deadlines, deadline, deadline_ns);
}

void trace_first_at(struct trace *trace, uint64_t first_ns)
{
    trace->first_ns = u64_min(trace->first_ns, first_ns);
}

/* One that was on hold and may be due; NULL: none. */
static struct trace *released_take(struct trace_table *table, uint64_t now_ns)
{
    struct trace *trace;

    while ((trace = released_first(table))) {
        struct deadline *deadline = &trace->as.waiting.deadline;

        list_del(&deadline->node);
        trace->held = false;
        table->held_count--;
        list_add_tail(&table->order, &trace->as.waiting.order);
        if (trace->state != TRACE_PENDING || deadline->at_ns <= now_ns)
            return trace;
        deadline_add(&table->deadlines, deadline, deadline->at_ns);
    }
    return NULL;
}

struct trace *trace_table_due(struct trace_table *table, uint64_t now_ns)
{
    struct deadline *deadline, *next;
    struct trace *trace = released_take(table, now_ns); /* they have waited longest */

    if (UNLIKELY(trace != NULL))
        return trace;
    deadline = deadlines_take_due(&table->deadlines, now_ns);
    if (!deadline) {
        extent_store_settle(table->store); /* the turn's traces are done with */
        return NULL;
    }
    /* Seconds have passed since it was touched: the next one's memory comes while this one is decided. */
    next = deadlines_peek(&table->deadlines);
    if (next)
        trace_prefetch(container_of(next, struct trace, as.waiting.deadline));
    trace = container_of(deadline, struct trace, as.waiting.deadline);
    __builtin_prefetch(trace->last_records);
    return trace;
}

uint64_t trace_table_next_ns(const struct trace_table *table)
{
    return list_empty(&table->released) ? deadlines_next_ns(&table->deadlines) : 0;
}

struct trace *trace_table_oldest(struct trace_table *table)
{
    struct list *node = list_first(&table->order);

    return node ? container_of(node, struct trace, as.waiting.order) : NULL;
}

/* Off the deadlines and the order, or off hold. */
static void trace_unlink(struct trace_table *table, struct trace *trace)
{
    if (UNLIKELY(trace->held)) {
        list_del(&trace->as.waiting.deadline.node);
        trace->held = false;
        table->held_count--;
        return;
    }
    deadline_remove(&table->deadlines, &trace->as.waiting.deadline);
    list_del(&trace->as.waiting.order);
}

void trace_table_take(struct trace_table *table, struct trace *trace)
{
    struct hash_probe probe = hash_index_probe(&table->index, hash_trace(&trace->id));
    uint64_t value;

    ASSERT(trace->in_table);
    do {
        value = hash_probe_next(&probe);
        ASSERT(value != 0);
    } while (value != (uintptr_t)trace);
    hash_index_remove(&table->index, &probe);

    trace_unlink(table, trace);
    if (UNLIKELY(list_linked(&trace->as.waiting.spillable)))
        list_del(&trace->as.waiting.spillable);
    table->spilled_count -= trace_spilled_count(trace);
    table->span_count -= trace->span_count;
    memset(&trace->as, 0, sizeof(trace->as));
    trace->in_table = false;
    trace->state = TRACE_SAMPLED;
}

/* -- on hold --------------------------------------------------------------------------------------- */

static void held_add(struct trace_table *table, struct trace *trace)
{
    trace->held = true;
    table->held_count++;
    list_add_tail(&table->held, &trace->as.waiting.deadline.node);
}

void trace_hold(struct trace_table *table, struct trace *trace)
{
    ASSERT(trace->in_table);
    trace_unlink(table, trace);
    held_add(table, trace);
}

void trace_release(struct trace_table *table, struct trace *trace)
{
    struct list *node = &trace->as.waiting.deadline.node;

    ASSERT(trace->in_table);
    if (!trace->held)
        return;
    list_del(node);
    list_add_tail(&table->released, node);
}

void trace_table_release(struct trace_table *table)
{
    list_splice_tail(&table->released, &table->held);
}

void trace_await_export(struct trace_table *table, struct trace *trace)
{
    ASSERT(trace->state == TRACE_PENDING);
    trace->state = TRACE_SAMPLED_WAITING;
    trace_hold(table, trace);
}

static struct trace *waiting_find(struct trace_table *table, const struct trace *like, uint64_t id_hash)
{
    struct hash_probe probe = hash_index_probe(&table->index, id_hash);
    uint64_t value;

    while ((value = hash_probe_next(&probe)) != 0) {
        struct trace *trace = (struct trace *)(uintptr_t)value;

        if (trace_id_equal(&trace->id, &like->id) && trace->state == TRACE_SAMPLED_WAITING && trace->delivered == like->delivered)
            return trace;
    }
    return NULL;
}

struct trace *trace_table_put_back(struct trace_table *table, struct trace *trace, uint8_t delivered)
{
    uint64_t id_hash = hash_trace(&trace->id);
    struct trace *there;

    ASSERT(!trace->in_table);
    ASSERT(trace->state == TRACE_SAMPLED);
    ASSERT(!trace->bytes_freed);
    trace->delivered = delivered;
    there = waiting_find(table, trace, id_hash);
    if (there) {
        (void)trace_join(table, there, trace);
        trace_first_at(there, trace->first_ns);
        trace_free(table, trace);
        return there;
    }
    ASSERT(hash_index_add(&table->index, id_hash, (uintptr_t)trace));
    memset(&trace->as, 0, sizeof(trace->as));
    trace->in_table = true;
    trace->state = TRACE_SAMPLED_WAITING;
    table->span_count += trace->span_count;
    if (trace->journaled)
        list_add_tail(&table->spillable, &trace->as.waiting.spillable);
    held_add(table, trace);
    return trace;
}

/* -- all of them ----------------------------------------------------------------------------------- */

struct stepping {
    void (*visit)(void *context, struct trace *trace);
    void *context;
};

static void step_visit(void *context, uint64_t hash, uint64_t value)
{
    const struct stepping *stepping = context;

    (void)hash;
    stepping->visit(stepping->context, (struct trace *)(uintptr_t)value);
}

bool trace_table_step(struct trace_table *table, uint64_t *cursor, void (*visit)(void *context, struct trace *trace), void *context)
{
    struct stepping stepping = {visit, context};

    return hash_index_step(&table->index, cursor, step_visit, &stepping);
}

void trace_delivered_by(struct trace *trace, size_t exporter)
{
    ASSERT(!trace->in_table && exporter < 8);
    trace->delivered |= (uint8_t)(1u << exporter);
}

void trace_mark(struct trace *trace, uint32_t mark)
{
    ASSERT(trace->in_table);
    trace->as.waiting.mark = mark;
}

uint64_t trace_table_count(const struct trace_table *table)
{
    return table->index.count;
}

uint64_t trace_table_held_count(const struct trace_table *table)
{
    return table->held_count;
}

uint64_t trace_table_span_count(const struct trace_table *table)
{
    return table->span_count;
}

uint64_t trace_table_spilled_count(const struct trace_table *table)
{
    return table->spilled_count;
}

void trace_add_cost(
    struct trace_table *table, struct trace *trace, const struct header *header, struct slice span)
{
    table->cost_bytes -= cost_memory(trace->facts.cost);
    cost_add(&trace->facts.cost, &header->view, span);
    table->cost_bytes += cost_memory(trace->facts.cost);
}

uint64_t trace_table_cost_bytes(const struct trace_table *table)
{
    return table->cost_bytes;
}

uint64_t trace_table_index_bytes(const struct trace_table *table)
{
    return sizeof(*table) + table->index.bytes;
}

/* -- a trace's end --------------------------------------------------------------------------------- */

void trace_free_bytes(struct trace_table *table, struct trace *trace)
{
    block_free_chain_later(table->store, trace->next);
    trace->next = NULL;
    trace->tail = NULL;
    trace->bytes_freed = true;
}

void trace_unref_headers(struct trace_table *table, const struct trace *trace)
{
    struct record_walk walk = record_walk_start(trace);
    const struct span_record *record = record_next(trace, &walk);

    while (record) {
        uint32_t index = record->header_index;
        uint32_t count = 0;

        do { /* spans come in runs of one header: one look-up a run */
            count++;
            record = record_next(trace, &walk);
        } while (record && record->header_index == index);
        header_unref(table->headers, header_at(table->headers, index), count);
    }
}

void trace_let_go(struct trace_table *table, const struct journal_pos *at, uint64_t bytes)
{
    if (at->segment != 0)
        table->let_go(table->let_go_context, at->segment, bytes);
}

/* Spans that came together lie together: one call for a run of them. */
static void trace_let_all_go(struct trace_table *table, struct trace *trace)
{
    struct record_walk walk = record_walk_start(trace);
    const struct span_record *record;
    struct journal_pos run = {0, 0};
    uint64_t bytes = 0;

    while ((record = record_next(trace, &walk))) {
        const struct journal_pos *at = record_place(trace, &walk);

        if (at->segment != run.segment) {
            trace_let_go(table, &run, bytes);
            run = *at;
            bytes = 0;
        }
        bytes += record->len;
    }
    trace_let_go(table, &run, bytes);
}

void trace_free_records(struct trace_table *table, struct trace *trace)
{
    struct record_block *first;

    if (!trace->last_records)
        return;
    hash_set_free(trace_hash_set(trace));
    first = trace->last_records->next;
    trace->last_records->next = NULL;
    block_free_chain_later(table->store, (struct block *)(void *)first);
    trace->last_records = NULL;
}

void trace_free(struct trace_table *table, struct trace *trace)
{
    if (!trace)
        return;
    __builtin_prefetch(trace->next);
    if (trace->in_table)
        trace_table_take(table, trace);
    trace_unref_headers(table, trace);
    if (UNLIKELY(trace->journaled))
        trace_let_all_go(table, trace);
    if (UNLIKELY(trace->facts.cost)) {
        table->cost_bytes -= cost_memory(trace->facts.cost);
        cost_free(trace->facts.cost);
    }
    trace_free_records(table, trace);
    if (trace->set)
        policy_set_unref(trace->set);
    block_free_chain_later(table->store, trace_block(trace));
}

/* -- what it knows --------------------------------------------------------------------------------- */

struct facts *trace_facts(struct trace *trace)
{
    return &trace->facts;
}

struct policy_set *trace_policy_set(struct trace *trace)
{
    return trace->set;
}

const struct trace_id *trace_id_of(const struct trace *trace)
{
    return &trace->id;
}

bool trace_is_sampled(const struct trace *trace)
{
    return trace->state != TRACE_PENDING;
}

struct trace_info trace_info(const struct trace *trace)
{
    return (struct trace_info){
        .id = trace->id,
        .first_ns = trace->first_ns,
        .deadline_ns = trace->in_table ? trace->as.waiting.deadline.at_ns : 0,
        .state = (enum trace_state)trace->state,
        .span_count = trace->span_count,
        .spilled_count = trace->in_table ? trace_spilled_count(trace) : 0,
        .mark = trace->in_table ? trace->as.waiting.mark : 0,
        .delivered = trace->delivered,
        .held = trace->held,
        .bytes = trace->bytes,
    };
}

struct trace_way_out *trace_way_out(struct trace *trace)
{
    ASSERT(!trace->in_table);
    ASSERT(!trace->spilled);
    return &trace->as.out;
}

struct trace *trace_of_way_out(struct trace_way_out *out)
{
    return container_of(out, struct trace, as.out);
}
