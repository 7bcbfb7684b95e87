#include "sampler/export/survivors.h"

#include <stdlib.h>

#include "common/base/assert.h"
#include "sampler/sampler_worker.h"

#define UNIT_OVERHEAD_BYTES 256u /* a trace's share of headers in a request, about */

/* A unit beside the trace's own: the spans of one further set of metadata. */
struct trace_part {
    struct export_unit unit;
    struct trace *trace;
};

static struct trace *trace_of(struct export_unit *unit)
{
    if (unit->is_part)
        return container_of(unit, struct trace_part, unit)->trace;
    return trace_of_way_out(container_of(unit, struct trace_way_out, unit));
}

/* -- what exporters ask ------------------------------------------------------------------------------------- */

struct adding {
    const struct metadata_set *metadata;
    bool only_of_it; /* the trace has parts: other sets' spans are left out */
    struct regroup *regroup;
    const struct header *header;
    uint32_t number;
};

static int unit_add_span(void *context, struct header *header, struct rope bytes)
{
    struct adding *adding = context;

    if (UNLIKELY(adding->only_of_it) && !metadata_set_equal(header->metadata, adding->metadata))
        return 0;
    if (header != adding->header) {
        adding->number = regroup_header(adding->regroup, &header->view);
        adding->header = header;
    }
    return regroup_span(adding->regroup, adding->number, bytes);
}

static int unit_add(void *context, struct export_unit *unit, struct regroup *regroup)
{
    struct trace *trace = trace_of(unit);
    struct adding adding = {.metadata = unit->metadata, .only_of_it = trace_way_out(trace)->parts != NULL, .regroup = regroup};

    (void)context;
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

static void unit_settled(void *context, struct export_unit *unit, enum export_outcome outcome)
{
    struct sampler_worker *home = context;
    struct trace *trace = trace_of(unit);
    struct trace_way_out *out = trace_way_out(trace);

    home->books[book_of(outcome)] += unit->span_count;
    if (--out->settle_left > 0)
        return;
    free(out->parts);
    trace_free(home->traces, trace);
}

struct exporter_owner survivors_owner(struct sampler_worker *home)
{
    return (struct exporter_owner){home, unit_add, unit_encoded, unit_settled};
}

/* -- traces become units -------------------------------------------------------------------------------------- */

struct sorting {
    struct trace_way_out *out;
    size_t part_count, part_capacity;
    struct export_unit *last; /* where the last span went */
};

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
    for (size_t i = 0; i < sorting->part_count; i++)
        if (metadata_set_equal(out->parts[i].unit.metadata, metadata))
            return &out->parts[i].unit;
    if (sorting->part_count == sorting->part_capacity) {
        sorting->part_capacity = sorting->part_capacity ? sorting->part_capacity * 2 : 4;
        out->parts = realloc(out->parts, sorting->part_capacity * sizeof(out->parts[0]));
        ASSERT(out->parts != NULL);
    }
    part = &out->parts[sorting->part_count++];
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

void survivors_take(struct sampler_worker *home, struct trace *trace, uint64_t now_ns)
{
    struct trace_info info = trace_info(trace);
    struct trace_way_out *out = trace_way_out(trace);
    struct sorting sorting = {.out = out};
    struct trace_part *parts;

    if (home->sampler->config.tailrace.forward_headers.count > 0) {
        (void)trace_spans(trace, sort_span, &sorting);
    } else {
        out->unit.size_bytes = info.bytes;
        out->unit.span_count = info.span_count;
    }
    out->encode_left = out->settle_left = 1 + (uint32_t)sorting.part_count;
    out->unit.size_bytes += UNIT_OVERHEAD_BYTES;
    parts = out->parts; /* the trace may be gone after its last unit was taken */
    for (size_t i = 0; i < sorting.part_count; i++) {
        parts[i].unit.size_bytes += UNIT_OVERHEAD_BYTES;
        worker_backends_take(home->backends, &parts[i].unit, now_ns);
    }
    worker_backends_take(home->backends, &out->unit, now_ns);
}
