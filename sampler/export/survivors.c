#include "sampler/export/survivors.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/otlp/ot_tracestate.h"
#include "common/otlp/patch.h"
#include "common/otlp/span_view.h"
#include "sampler/handoff/held.h"
#include "sampler/sampler_worker.h"

#define UNIT_OVERHEAD_BYTES 256u /* a trace's share of headers in a request, about */

/* A unit beside the trace's own: the spans of one further set of metadata. */
struct trace_part {
    struct export_unit unit;
    struct trace *trace;
};

struct trace_parts {
    size_t count, capacity;
    struct trace_part each[];
};

static struct trace *trace_of(struct export_unit *unit)
{
    if (unit->is_part)
        return container_of(unit, struct trace_part, unit)->trace;
    return trace_of_way_out(container_of(unit, struct trace_way_out, unit));
}

/* -- what exporters ask ------------------------------------------------------------------------------------- */

#define NOTES_MAX 3u

struct adding {
    struct sampler_worker *home;
    const struct metadata_set *metadata;
    bool only_of_it; /* the trace has parts: other sets' spans are left out */
    bool sets_threshold;
    enum record_policy where;
    uint64_t threshold;
    struct patch_attribute attributes[NOTES_MAX];
    size_t attribute_count;
    struct regroup *regroup;
    const struct header *header;
    uint32_t number;
};

static void note_text(struct adding *adding, struct slice key, const char *text)
{
    if (text)
        adding->attributes[adding->attribute_count++] = (struct patch_attribute){.key = key, .text = slice_text(text)};
}

static void note_read(struct adding *adding, const struct sampling_note *note)
{
    note_text(adding, SLICE_LITERAL("tailsampling.policy"), note->policy);
    note_text(adding, SLICE_LITERAL("tailsampling.composite_policy"), note->inner_policy);
    if (note->cached)
        adding->attributes[adding->attribute_count++] =
            (struct patch_attribute){.key = SLICE_LITERAL("tailsampling.cached_decision"), .is_bool = true, .truth = true};
    adding->threshold = note->threshold;
}

/* The header with attributes on its scope; REGROUP_NO_HEADER: no memory. */
static uint32_t add_header_noted(struct adding *adding, const struct span_header *view)
{
    struct slice fields = view->scope.len > 0 ? view->scope.fragments[0] : (struct slice){NULL, 0};
    size_t len = patch_scope(fields, adding->attributes, adding->attribute_count, NULL);
    uint8_t *bytes = regroup_lend(adding->regroup, len);
    struct span_header noted = {.resource = view->resource};
    struct slice patched;

    if (!bytes)
        return REGROUP_NO_HEADER;
    patched = slice_make(bytes, patch_scope(fields, adding->attributes, adding->attribute_count, bytes));
    noted.scope = header_part_of(patched, header_part_hash(patched));
    noted.hash = span_header_hash(&noted.resource, &noted.scope);
    return regroup_header(adding->regroup, &noted);
}

/* The tracestate with th set; false: it stays as it is. text: room for it, or NULL without memory. */
static bool threshold_set(struct adding *adding, struct slice before, uint8_t *text, struct slice *out_after)
{
    size_t len;

    switch (ot_tracestate_update(before, adding->threshold, text, &len)) {
    case OT_UPDATED:
        *out_after = slice_make(text, len);
        return !slice_equal(before, *out_after);
    case OT_UNREADABLE:
        metric_add(adding->home->worker.metrics, METRIC_TRACESTATE_UNREADABLE_SPANS, 1);
        return false;
    case OT_STRICTER:
        return false;
    }
    UNREACHABLE("all outcomes are there");
}

/* The span with attributes and tracestate of its own. 0, or -ENOMEM. */
static int add_span_noted(struct adding *adding, struct rope bytes)
{
    size_t attribute_count = adding->where == RECORD_POLICY_SPAN ? adding->attribute_count : 0;
    uint8_t *whole = regroup_lend(adding->regroup, bytes.len), *text, *patched;
    struct slice span = slice_make(whole, bytes.len), tracestate;
    bool changes = false;
    struct span_view view;
    size_t len;

    if (!whole)
        return -ENOMEM;
    rope_copy(&bytes, whole);
    if (adding->sets_threshold && span_view_read(span, NULL, NULL, &view)) {
        text = regroup_lend(adding->regroup, view.trace_state.len + OT_TRACESTATE_GROWTH);
        if (!text)
            return -ENOMEM;
        changes = threshold_set(adding, view.trace_state, text, &tracestate);
    }
    if (!changes && attribute_count == 0)
        return regroup_span(adding->regroup, adding->number, bytes);
    len = patch_span(span, adding->attributes, attribute_count, changes ? &tracestate : NULL, NULL);
    patched = regroup_lend(adding->regroup, len);
    if (!patched)
        return -ENOMEM;
    (void)patch_span(span, adding->attributes, attribute_count, changes ? &tracestate : NULL, patched);
    return regroup_span(adding->regroup, adding->number, rope_of(patched, len));
}

static int unit_add_span(void *context, struct header *header, struct rope bytes)
{
    struct adding *adding = context;

    if (UNLIKELY(adding->only_of_it) && !metadata_set_equal(header->metadata, adding->metadata))
        return 0;
    if (header != adding->header) {
        adding->number = adding->attribute_count > 0 && adding->where == RECORD_POLICY_SCOPE ? add_header_noted(adding, &header->view)
                                                                                             : regroup_header(adding->regroup, &header->view);
        adding->header = header;
    }
    if (UNLIKELY(adding->sets_threshold || (adding->attribute_count > 0 && adding->where == RECORD_POLICY_SPAN)))
        return add_span_noted(adding, bytes);
    return regroup_span(adding->regroup, adding->number, bytes);
}

static int unit_add(void *context, struct export_unit *unit, struct regroup *regroup)
{
    struct sampler_worker *home = context;
    struct trace *trace = trace_of(unit);
    const struct trace_way_out *out = trace_way_out(trace);
    struct adding adding = {.home = home,
        .metadata = unit->metadata,
        .only_of_it = out->parts != NULL,
        .sets_threshold = out->note && home->settings->config.use_tracestate,
        .where = home->settings->config.record_policy,
        .regroup = regroup};

    if (out->note)
        note_read(&adding, out->note);
    return trace_spans(trace, unit_add_span, &adding);
}

static void unit_encoded(void *context, struct export_unit *unit)
{
    struct sampler_worker *home = context;
    struct trace *trace = trace_of(unit);

    if (--trace_way_out(trace)->encode_left == 0)
        trace_free_bytes(home->traces, trace);
}

static enum book book_of(enum export_outcome outcome)
{
    switch (outcome) {
    case EXPORTED:
        return BOOK_EXPORTED;
    case EXPORT_REFUSED:
    case EXPORT_GAVE_UP:
    case EXPORT_QUEUE_FULL:
        return BOOK_DROPPED_EXPORT;
    case EXPORT_STOPPED:
        return BOOK_DROPPED_SHUTDOWN;
    }
    UNREACHABLE("all outcomes are there");
}

static void trace_return(struct sampler_worker *home, struct trace *trace, uint8_t delivered)
{
    uint64_t before = trace_table_span_count(home->traces) + trace_info(trace).span_count;

    trace = trace_table_put_back(home->traces, trace, delivered);
    home->books[BOOK_DUPLICATE] += before - trace_table_span_count(home->traces); /* it was there already: its hash had been forgotten */
    if (home->on_survivor_back)
        home->on_survivor_back(home, trace);
}

static bool is_of_metadata(void *context, const struct header *header)
{
    return metadata_set_equal(header->metadata, context);
}

/* The spans of one set of metadata, as a trace of their own. */
static void part_return(struct sampler_worker *home, struct trace *trace, const struct export_unit *unit)
{
    struct trace *apart;

    if (!unit->is_back)
        return;
    apart = trace_new_apart(home->traces, trace_id_of(trace), trace_info(trace).first_ns);
    ASSERT(apart != NULL);
    (void)trace_join_some(home->traces, apart, trace, is_of_metadata, (void *)(uintptr_t)unit->metadata);
    trace_return(home, apart, unit->delivered);
}

/* All its units are settled or back: what is back waits in the table, the rest is over. */
static void trace_leave(struct sampler_worker *home, struct trace *trace)
{
    struct trace_way_out *out = trace_way_out(trace);
    struct trace_parts *parts = out->parts;

    free(out->note);
    if (!parts && out->unit.is_back) {
        trace_return(home, trace, out->unit.delivered);
        return;
    }
    if (parts) {
        part_return(home, trace, &out->unit);
        for (size_t i = 0; i < parts->count; i++)
            part_return(home, trace, &parts->each[i].unit);
        free(parts);
    }
    if (home->handoff)
        handoff_on_exported(home, trace);
    trace_free(home->traces, trace);
}

struct collecting { /* the hashes of one set's spans */
    const struct metadata_set *metadata;
    const uint64_t *all;
    uint64_t *out;
    size_t index, count;
};

static int hash_collect(void *context, struct header *header, struct rope bytes)
{
    struct collecting *collecting = context;
    uint64_t hash = collecting->all[collecting->index++];

    (void)bytes;
    if (metadata_set_equal(header->metadata, collecting->metadata))
        collecting->out[collecting->count++] = hash;
    return 0;
}

/* After a restart these spans are not sent again: by nobody, or not by that exporter. */
static void unit_journal(struct sampler_worker *home, struct trace *trace, const struct export_unit *unit, const char *exporter)
{
    size_t all = trace_info(trace).span_count;
    uint64_t *hashes = worker_hash_scratch(home, 2 * all);
    struct collecting collecting = {.metadata = unit->metadata, .all = hashes + all, .out = hashes};

    trace_hashes(trace, hashes + all);
    if (trace_way_out(trace)->parts) {
        (void)trace_spans(trace, hash_collect, &collecting);
        worker_journal_exported(home->journal, trace, hashes, collecting.count, exporter);
    } else {
        worker_journal_exported(home->journal, trace, hashes + all, all, exporter);
    }
}

static void unit_settled(void *context, struct export_unit *unit, enum export_outcome outcome)
{
    struct sampler_worker *home = context;
    struct trace *trace = trace_of(unit);
    struct trace_way_out *out = trace_way_out(trace);

    home->books[book_of(outcome)] += unit->span_count;
    if (home->journal && outcome != EXPORT_STOPPED)
        unit_journal(home, trace, unit, NULL);
    if (--out->settle_left == 0)
        trace_leave(home, trace);
}

static void unit_partly(void *context, struct export_unit *unit, size_t exporter)
{
    struct sampler_worker *home = context;
    struct trace *trace = trace_of(unit);

    if (!trace_way_out(trace)->parts) /* else a copy that the journal makes of it does not say so; the records do, for as long as they are kept */
        trace_delivered_by(trace, exporter);
    if (home->journal)
        unit_journal(home, trace, unit, worker_backends_name(home->backends, exporter));
}

static void unit_withdrawn(void *context, struct export_unit *unit, uint8_t delivered)
{
    struct trace *trace = trace_of(unit);

    unit->is_back = true;
    unit->delivered = delivered;
    if (--trace_way_out(trace)->settle_left == 0)
        trace_leave(context, trace);
}

struct exporter_owner survivors_owner(struct sampler_worker *home)
{
    return (struct exporter_owner){home, unit_add, unit_encoded, unit_settled, unit_withdrawn, unit_partly};
}

/* -- what comes back -------------------------------------------------------------------------------------------- */

struct asking {
    bool (*matches)(void *context, const struct trace_id *id);
    void (*visit)(void *context, const struct trace_id *id);
    void *context;
};

static bool unit_matches(void *context, struct export_unit *unit)
{
    const struct asking *asking = context;

    return asking->matches(asking->context, trace_id_of(trace_of(unit)));
}

static void unit_visit(void *context, struct export_unit *unit)
{
    const struct asking *asking = context;

    asking->visit(asking->context, trace_id_of(trace_of(unit)));
}

void survivors_withdraw(struct sampler_worker *home, bool (*matches)(void *context, const struct trace_id *id), void *context)
{
    struct asking asking = {.matches = matches, .context = context};

    fan_out_withdraw(worker_backends_fan(home->backends), unit_matches, &asking);
}

struct trace_asking {
    void (*visit)(void *context, struct trace *trace);
    void *context;
};

static void unit_visit_trace(void *context, struct export_unit *unit)
{
    const struct trace_asking *asking = context;

    asking->visit(asking->context, trace_of(unit));
}

void survivors_each(struct sampler_worker *home, void (*visit)(void *context, struct trace *trace), void *context)
{
    struct trace_asking asking = {visit, context};

    fan_out_each(worker_backends_fan(home->backends), unit_visit_trace, &asking);
}

void survivors_running(struct sampler_worker *home, void (*visit)(void *context, const struct trace_id *id), void *context)
{
    struct asking asking = {.visit = visit, .context = context};

    fan_out_running(worker_backends_fan(home->backends), unit_visit, &asking);
}

/* -- traces become units -------------------------------------------------------------------------------------- */

struct sorting {
    struct trace_way_out *out;
    struct export_unit *last; /* where the last span went */
};

static void parts_grow(struct trace_way_out *out)
{
    size_t count = out->parts ? out->parts->count : 0, capacity = count > 0 ? count * 2 : 4;

    out->parts = realloc(out->parts, sizeof(*out->parts) + capacity * sizeof(out->parts->each[0]));
    ASSERT(out->parts != NULL);
    out->parts->count = count;
    out->parts->capacity = capacity;
}

static struct export_unit *unit_for(struct sorting *sorting, const struct metadata_set *metadata)
{
    struct trace_way_out *out = sorting->out;
    struct trace_part *part;

    if (sorting->last && metadata_set_equal(sorting->last->metadata, metadata))
        return sorting->last;
    if (!sorting->last || metadata_set_equal(out->unit.metadata, metadata)) {
        out->unit.metadata = metadata;
        return &out->unit;
    }
    for (size_t i = 0; out->parts && i < out->parts->count; i++)
        if (metadata_set_equal(out->parts->each[i].unit.metadata, metadata))
            return &out->parts->each[i].unit;
    if (!out->parts || out->parts->count == out->parts->capacity)
        parts_grow(out);
    part = &out->parts->each[out->parts->count++];
    *part = (struct trace_part){.unit = {.metadata = metadata, .is_part = true}, .trace = trace_of_way_out(out)};
    return &part->unit;
}

static int sort_span(void *context, struct header *header, struct rope bytes)
{
    struct sorting *sorting = context;

    sorting->last = unit_for(sorting, header->metadata);
    sorting->last->span_count++;
    sorting->last->size_bytes += bytes.len;
    return 0;
}

void survivors_take(struct sampler_worker *home, struct trace *trace, const struct sampling_note *note, uint64_t now_ns)
{
    struct trace_info info = trace_info(trace);
    struct trace_way_out *out = trace_way_out(trace);
    struct sorting sorting = {.out = out};
    struct trace_parts *parts;
    size_t part_count;

    if (home->settings->config.tailrace.forward_headers.count > 0) {
        (void)trace_spans(trace, sort_span, &sorting);
    } else {
        out->unit.size_bytes = info.bytes;
        out->unit.span_count = info.span_count;
    }
    if (home->settings->config.record_policy != RECORD_POLICY_OFF || home->settings->config.use_tracestate) {
        out->note = malloc(sizeof(*out->note));
        ASSERT(out->note != NULL);
        *out->note = *note;
    }
    parts = out->parts; /* the trace may be gone after its last unit was taken */
    part_count = parts ? parts->count : 0;
    out->encode_left = out->settle_left = 1 + (uint32_t)part_count;
    out->unit.size_bytes += UNIT_OVERHEAD_BYTES;
    for (size_t i = 0; i < part_count; i++) {
        parts->each[i].unit.size_bytes += UNIT_OVERHEAD_BYTES;
        worker_backends_take(home->backends, &parts->each[i].unit, info.delivered, now_ns);
    }
    worker_backends_take(home->backends, &out->unit, info.delivered, now_ns);
}
