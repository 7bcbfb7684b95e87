/* Export requests encoded once, with the places that differ from trace to trace patched in place for each send.
 *
 * Lanes   one a service, as one exporter of one process: a lane sends its service's spans of trace 0, 1, 2, …,
 *         cut into requests of equal span count. A request may begin in the middle of a trace's spans: the
 *         phase. So a template exists per (lane, phase), and a trace reaches the wire in as many requests as
 *         it has services, or a few more.
 * Cost    filling a request writes about 60 bytes a span; nothing is encoded, copied or allocated.
 * Shape   one resource, two scopes (http, db); attributes of HTTP, database and internal spans, some events.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bench/model.h"

struct patch { /* where one span's own values are; 0: it has no such field */
    uint32_t span_at, span_len; /* the Span message's content */
    uint32_t ids_at;            /* trace ID; the span ID follows 18 bytes on, parent span ID 28 bytes on */
    uint32_t times_at;          /* start; the end follows 9 bytes on */
    uint32_t status_at;         /* status code, one byte */
    uint32_t http_at;           /* value of http.response.status_code, a varint of two bytes */
    uint32_t tenant_at;         /* two digits */
    uint32_t trace_delta;       /* number of its trace - first trace of the request */
    uint32_t index;             /* of the span in its trace */
    uint32_t parent;            /* UINT32_MAX: the root */
};

struct template {
    uint8_t *bytes;
    size_t len;
    struct patch *patches;
    uint32_t span_count, trace_count; /* traces it touches */
    uint32_t lane, phase;
};

/* Spans of one trace in a lane. */
uint32_t lane_spans(const struct model *model, uint32_t lane);

/* span_bytes: mean of a Span message's content; single spans differ by up to a third. Aborts when memory is out. */
struct template *template_new(const struct model *model, uint32_t lane, uint32_t phase, uint32_t span_count,
    uint32_t span_bytes);
void template_free(struct template *template);

/* Writes the traces' values into bytes, a copy of template->bytes. traces: template->trace_count of them. */
void template_fill(const struct template *template, const struct model_trace *traces, uint8_t *bytes);
