/* The Collector's debug exporter: what would be sent, as log lines.
 *
 *   basic     debug_traces     a line a request: how much is in it
 *   normal    debug_span       and a line a span
 *   detailed  debug_resource, debug_scope, debug_span, debug_event, debug_link   and all there is to know
 *
 * Rate    LINES_PER_S a worker; the first line of the next second says how many were left out. A log that stands in the way of
 *         the spans it tells of helps nobody.
 * Cost    messages are decoded into objects: this is a tool, not a way for production.
 * Source  collector debugexporter; its sampling counts lines of equal text, of which these have none */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/error.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/export/link_local.h"
#include "common/metrics/text.h"
#include "common/run/worker.h"
#include "proto/otlp_trace.h"

#define LINES_PER_S 1000u
#define DEPTH_MAX 16u /* of values in values that are printed */

struct debug {
    struct worker *worker;
    const char *name;
    enum debug_verbosity verbosity;
    uint64_t second_ns; /* when the present second began */
    uint64_t lines, left_out; /* in it */
    struct text attributes, other; /* scratch */
};

/* False: this second has had its lines. */
static bool line_pass(struct debug *debug)
{
    uint64_t now_ns = debug->worker->now_ns;

    if (u64_sub_floor(now_ns, debug->second_ns) >= NS_PER_S) {
        if (debug->left_out > 0)
            log_event(LOG_WARN, "debug_left_out", "exporter=%s lines=%llu", debug->name, (unsigned long long)debug->left_out);
        debug->second_ns = now_ns;
        debug->lines = debug->left_out = 0;
    }
    if (debug->lines < LINES_PER_S) {
        debug->lines++;
        return true;
    }
    debug->left_out++;
    return false;
}

/* -- parts of a line -------------------------------------------------------------------------------------- */

static struct slice bytes_of(ProtobufCBinaryData bytes)
{
    return slice_make(bytes.data, bytes.len);
}

static void append_hex(struct text *out, struct slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        text_append(out, "%02x", bytes.at[i]);
}

static void append_pairs(struct text *out, Otlp__KeyValue *const *pairs, size_t count, unsigned depth);

static void append_value(struct text *out, const Otlp__AnyValue *value, unsigned depth)
{
    if (!value || depth > DEPTH_MAX) {
        text_append(out, value ? "\"…\"" : "null");
        return;
    }
    switch (value->value_case) {
    case OTLP__ANY_VALUE__VALUE_BOOL_VALUE:
        text_append(out, "%s", value->bool_value ? "true" : "false");
        return;
    case OTLP__ANY_VALUE__VALUE_STRING_VALUE:
        text_append_json(out, bytes_of(value->string_value));
        return;
    case OTLP__ANY_VALUE__VALUE_INT_VALUE:
        text_append(out, "%lld", (long long)value->int_value);
        return;
    case OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE:
        text_append(out, "%.17g", value->double_value);
        return;
    case OTLP__ANY_VALUE__VALUE_ARRAY_VALUE:
        text_append(out, "[");
        for (size_t i = 0; i < value->array_value->n_values; i++) {
            text_append(out, "%s", i ? ", " : "");
            append_value(out, value->array_value->values[i], depth + 1);
        }
        text_append(out, "]");
        return;
    case OTLP__ANY_VALUE__VALUE_KVLIST_VALUE:
        append_pairs(out, value->kvlist_value->values, value->kvlist_value->n_values, depth + 1);
        return;
    case OTLP__ANY_VALUE__VALUE_BYTES_VALUE:
        text_append(out, "\"");
        append_hex(out, bytes_of(value->bytes_value));
        text_append(out, "\"");
        return;
    case OTLP__ANY_VALUE__VALUE__NOT_SET:
    case _OTLP__ANY_VALUE__VALUE__CASE_IS_INT_SIZE:
        break;
    }
    text_append(out, "null");
}

static void append_pairs(struct text *out, Otlp__KeyValue *const *pairs, size_t count, unsigned depth)
{
    text_append(out, "{");
    for (size_t i = 0; i < count; i++) {
        text_append(out, "%s", i ? ", " : "");
        text_append_json(out, bytes_of(pairs[i]->key));
        text_append(out, ": ");
        append_value(out, pairs[i]->value, depth);
    }
    text_append(out, "}");
}

static const char *pairs_text(struct text *scratch, Otlp__KeyValue *const *pairs, size_t count)
{
    text_clear(scratch);
    append_pairs(scratch, pairs, count, 1);
    return scratch->failed || !scratch->at ? "" : scratch->at;
}

/* 16 or 8 bytes as hex; nothing where there are none. */
static const char *id_text(ProtobufCBinaryData id, char out[33])
{
    size_t len = size_min(id.len, 16);

    out[0] = '\0';
    for (size_t i = 0; i < len; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", id.data[i]);
    return out;
}

static const char *kind_text(int kind)
{
    static const char *const names[] = {"unspecified", "internal", "server", "client", "producer", "consumer"};

    return kind >= 0 && kind < (int)(sizeof(names) / sizeof(names[0])) ? names[kind] : "unknown";
}

static const char *status_text(const Otlp__SpanStatus *status)
{
    static const char *const names[] = {"unset", "ok", "error"};
    int code = status ? status->code : 0;

    return code >= 0 && code < 3 ? names[code] : "unknown";
}

/* printf's %.*s of bytes. */
#define TEXT_OF(bytes) (int)size_min((bytes).len, 1024), (bytes).data ? (const char *)(bytes).data : ""

/* -- lines ---------------------------------------------------------------------------------------------------- */

static void show_event(struct debug *debug, const Otlp__Event *event)
{
    if (line_pass(debug))
        log_event(LOG_INFO, "debug_event", "exporter=%s name=\"%.*s\" time_unix_ns=%llu dropped_attributes=%u attributes=\"%s\"", debug->name,
            TEXT_OF(event->name), (unsigned long long)event->time_unix_nano, event->dropped_attributes_count,
            pairs_text(&debug->attributes, event->attributes, event->n_attributes));
}

static void show_link(struct debug *debug, const Otlp__Link *link)
{
    char trace_id[33], span_id[33];

    if (line_pass(debug))
        log_event(LOG_INFO, "debug_link",
            "exporter=%s trace_id=\"%s\" span_id=\"%s\" trace_state=\"%.*s\" flags=%u dropped_attributes=%u attributes=\"%s\"", debug->name,
            id_text(link->trace_id, trace_id), id_text(link->span_id, span_id), TEXT_OF(link->trace_state), link->flags,
            link->dropped_attributes_count, pairs_text(&debug->attributes, link->attributes, link->n_attributes));
}

static void show_span(struct debug *debug, const Otlp__Span *span)
{
    char trace_id[33], span_id[33], parent_id[33];
    unsigned long long start_ns = span->start_time_unix_nano, end_ns = span->end_time_unix_nano;
    bool detailed = debug->verbosity == DEBUG_DETAILED;
    ProtobufCBinaryData none = {0, NULL}, message = span->status ? span->status->message : none;

    (void)id_text(span->trace_id, trace_id);
    (void)id_text(span->span_id, span_id);
    (void)id_text(span->parent_span_id, parent_id);
    text_clear(&debug->other);
    if (detailed)
        text_append(&debug->other,
            " start_unix_ns=%llu end_unix_ns=%llu trace_state=\"%.*s\" flags=%u status_message=\"%.*s\" dropped_attributes=%u events=%zu "
            "dropped_events=%u links=%zu dropped_links=%u",
            start_ns, end_ns, TEXT_OF(span->trace_state), span->flags, TEXT_OF(message), span->dropped_attributes_count, span->n_events,
            span->dropped_events_count, span->n_links, span->dropped_links_count);
    if (line_pass(debug))
        log_event(LOG_INFO, "debug_span",
            "exporter=%s trace_id=\"%s\" span_id=\"%s\" parent_span_id=\"%s\" name=\"%.*s\" kind=%s status=%s duration_ns=%llu%s attributes=\"%s\"",
            debug->name, trace_id, span_id, parent_id, TEXT_OF(span->name), kind_text(span->kind), status_text(span->status),
            end_ns > start_ns ? end_ns - start_ns : 0, debug->other.at ? debug->other.at : "",
            pairs_text(&debug->attributes, span->attributes, span->n_attributes));
    if (!detailed)
        return;
    for (size_t i = 0; i < span->n_events; i++)
        show_event(debug, span->events[i]);
    for (size_t i = 0; i < span->n_links; i++)
        show_link(debug, span->links[i]);
}

static void show_scope(struct debug *debug, const Otlp__ScopeSpans *scope_spans)
{
    const Otlp__InstrumentationScope *scope = scope_spans->scope;
    ProtobufCBinaryData none = {0, NULL};

    if (debug->verbosity == DEBUG_DETAILED && line_pass(debug))
        log_event(LOG_INFO, "debug_scope", "exporter=%s name=\"%.*s\" version=\"%.*s\" schema_url=\"%.*s\" attributes=\"%s\"", debug->name,
            TEXT_OF(scope ? scope->name : none), TEXT_OF(scope ? scope->version : none), TEXT_OF(scope_spans->schema_url),
            pairs_text(&debug->attributes, scope ? scope->attributes : NULL, scope ? scope->n_attributes : 0));
    for (size_t i = 0; i < scope_spans->n_spans; i++)
        show_span(debug, scope_spans->spans[i]);
}

static void show_resource(struct debug *debug, const Otlp__ResourceSpans *resource_spans)
{
    const Otlp__Resource *resource = resource_spans->resource;

    if (debug->verbosity == DEBUG_DETAILED && line_pass(debug))
        log_event(LOG_INFO, "debug_resource", "exporter=%s schema_url=\"%.*s\" attributes=\"%s\"", debug->name,
            TEXT_OF(resource_spans->schema_url),
            pairs_text(&debug->attributes, resource ? resource->attributes : NULL, resource ? resource->n_attributes : 0));
    for (size_t i = 0; i < resource_spans->n_scope_spans; i++)
        show_scope(debug, resource_spans->scope_spans[i]);
}

static size_t span_count(const Otlp__ExportTraceServiceRequest *request)
{
    size_t count = 0;

    for (size_t i = 0; i < request->n_resource_spans; i++) {
        for (size_t k = 0; k < request->resource_spans[i]->n_scope_spans; k++)
            count += request->resource_spans[i]->scope_spans[k]->n_spans;
    }
    return count;
}

static void debug_take(void *context, const struct link_message *message)
{
    struct debug *debug = context;
    Otlp__ExportTraceServiceRequest *request =
        otlp__export_trace_service_request__unpack(NULL, message->pieces[0]->len, message->pieces[0]->bytes);

    if (!request) {
        log_event(LOG_WARN, "debug_unreadable", "exporter=%s bytes=%zu", debug->name, message->pieces[0]->len);
        return;
    }
    if (line_pass(debug))
        log_event(LOG_INFO, "debug_traces", "exporter=%s resource_spans=%zu spans=%zu bytes=%zu", debug->name, request->n_resource_spans,
            span_count(request), message->pieces[0]->len);
    for (size_t i = 0; debug->verbosity != DEBUG_BASIC && i < request->n_resource_spans; i++)
        show_resource(debug, request->resource_spans[i]);
    otlp__export_trace_service_request__free_unpacked(request, NULL);
}

static void debug_drop(void *context)
{
    struct debug *debug = context;

    text_deinit(&debug->attributes);
    text_deinit(&debug->other);
    free(debug);
}

int link_debug_new(struct worker *worker, const char *name, enum debug_verbosity verbosity, struct link **out_link)
{
    struct debug *debug = calloc(1, sizeof(*debug));
    const struct local_sink sink = {debug, debug_take, debug_drop};
    int r;

    if (!debug)
        return error_raise(-ENOMEM);
    debug->worker = worker;
    debug->name = name;
    debug->verbosity = verbosity;
    r = link_local_new(worker, &sink, out_link);
    if (r)
        free(debug);
    return r ? error_pass(r) : 0;
}
