#include "tests/kit/otlp_oracle.h"

#include <stdlib.h>

#include "common/base/assert.h"
#include "common/otlp/span_view.h"
#include "common/otlp/span_walk.h"
#include "proto/otlp_trace.pb-c.h"

static bool data_equal(ProtobufCBinaryData theirs, struct slice ours)
{
    return slice_equal(slice_make(theirs.data, theirs.len), ours);
}

/* Equal once packed: fields by number, unknown ones as they came. */
static bool messages_equal(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    size_t len = protobuf_c_message_get_packed_size(a);
    uint8_t *bytes;
    bool equal;

    if (protobuf_c_message_get_packed_size(b) != len)
        return false;
    bytes = malloc(2 * len + 1);
    if (!bytes)
        abort();
    (void)protobuf_c_message_pack(a, bytes);
    (void)protobuf_c_message_pack(b, bytes + len);
    equal = memcmp(bytes, bytes + len, len) == 0;
    free(bytes);
    return equal;
}

/* Whether a header part, decoded alone, equals the message it came from without its children.
 * children: the message's count, set to zero for the comparison. */
static bool part_equal(const struct header_part *part, const ProtobufCMessageDescriptor *type,
    const ProtobufCMessage *whole, size_t *children)
{
    uint8_t *bytes = malloc(part->len + 1u);
    size_t children_count = *children;
    ProtobufCMessage *alone;
    bool equal;

    if (!bytes)
        abort();
    ASSERT(header_part_write(part, bytes) == bytes + part->len);
    ASSERT(header_part_hash(slice_make(bytes, part->len)) == part->hash);
    alone = protobuf_c_message_unpack(type, NULL, part->len, bytes);
    *children = 0;
    equal = alone && messages_equal(alone, whole);
    *children = children_count;
    if (alone)
        protobuf_c_message_free_unpacked(alone, NULL);
    free(bytes);
    return equal;
}

static const char *span_difference(const struct span_ref *ours, const Otlp__Span *theirs)
{
    Otlp__Span *decoded = otlp__span__unpack(NULL, ours->bytes.len, ours->bytes.at);
    bool equal = decoded && messages_equal(&decoded->base, &theirs->base);
    ProtobufCBinaryData id = theirs->trace_id;

    if (decoded)
        otlp__span__free_unpacked(decoded, NULL);
    if (!equal)
        return "a span's bytes";
    if (ours->fault == SPAN_OK || ours->fault == SPAN_NO_SPAN_ID) {
        if (!data_equal(id, slice_make(ours->trace_id.bytes, sizeof(ours->trace_id.bytes))))
            return "a trace ID";
    } else if (!trace_id_is_zero(&ours->trace_id)) {
        return "the trace ID of a faulty span";
    }
    return NULL;
}

struct oracle_verdict oracle_walk(struct slice request)
{
    Otlp__ExportTraceServiceRequest *theirs =
        otlp__export_trace_service_request__unpack(NULL, request.len, request.at);
    struct oracle_verdict verdict = {false, theirs != NULL, NULL, 0};
    struct span_walk walk;
    struct span_ref span;
    uint32_t header_index = 0;

    /* Once to the end: on bad framing nothing that was yielded counts. */
    span_walk_init(&walk, request);
    while (span_walk_next(&walk, &span))
        continue;
    verdict.ours = !walk.bad;
    if (!verdict.ours || !theirs) {
        if (theirs)
            otlp__export_trace_service_request__free_unpacked(theirs, NULL);
        return verdict;
    }
    span_walk_init(&walk, request);
    for (size_t i = 0; i < theirs->n_resource_spans && !verdict.difference; i++) {
        Otlp__ResourceSpans *resource = theirs->resource_spans[i];

        for (size_t k = 0; k < resource->n_scope_spans && !verdict.difference; k++) {
            Otlp__ScopeSpans *scope = resource->scope_spans[k];

            for (size_t n = 0; n < scope->n_spans && !verdict.difference; n++) {
                if (!span_walk_next(&walk, &span))
                    verdict.difference = "spans are missing";
                else if (span.index != verdict.spans++)
                    verdict.difference = "a span's index";
                else if (span.header_index != header_index + (n == 0))
                    verdict.difference = "a header's index";
                else if (n == 0 && !part_equal(&span.header->resource, &otlp__resource_spans__descriptor,
                                       &resource->base, &resource->n_scope_spans))
                    verdict.difference = "the resource part";
                else if (n == 0 && !part_equal(&span.header->scope, &otlp__scope_spans__descriptor,
                                       &scope->base, &scope->n_spans))
                    verdict.difference = "the scope part";
                else
                    verdict.difference = span_difference(&span, scope->spans[n]);
                header_index = span.header_index;
            }
        }
    }
    if (!verdict.difference && span_walk_next(&walk, &span))
        verdict.difference = "spans too many";
    otlp__export_trace_service_request__free_unpacked(theirs, NULL);
    return verdict;
}

/* -- attributes --------------------------------------------------------------------------------------- */

struct expected {
    Otlp__KeyValue **attributes;
    size_t count, seen;
    const char *difference;
};

static const char *value_difference(const struct value *ours, const Otlp__AnyValue *theirs)
{
    static const enum value_type types[] = {VALUE_EMPTY, VALUE_STRING, VALUE_BOOL, VALUE_INT, VALUE_DOUBLE,
        VALUE_ARRAY, VALUE_KVLIST, VALUE_BYTES};
    enum value_type type = VALUE_EMPTY;
    bool equal = true;

    if (theirs)
        type = types[theirs->value_case];
    if (ours->type != type)
        return "a value's type";
    switch (type) {
    case VALUE_STRING:
        equal = data_equal(theirs->string_value, ours->bytes);
        break;
    case VALUE_BYTES:
        equal = data_equal(theirs->bytes_value, ours->bytes);
        break;
    case VALUE_BOOL:
        equal = theirs->bool_value == (ours->integer != 0);
        break;
    case VALUE_INT:
        equal = theirs->int_value == ours->integer;
        break;
    case VALUE_DOUBLE:
        equal = memcmp(&theirs->double_value, &ours->number, sizeof(ours->number)) == 0;
        break;
    case VALUE_EMPTY:
    case VALUE_ARRAY: /* cut over several occurrences they differ, as span_view.h says */
    case VALUE_KVLIST:
        break;
    }
    return equal ? NULL : "a value";
}

static void compare_attribute(void *context, struct slice key, struct slice value)
{
    struct expected *expected = context;
    const Otlp__KeyValue *theirs;
    struct value ours = value_read(value);

    if (expected->difference)
        return;
    if (expected->seen == expected->count) {
        expected->difference = "attributes too many";
        return;
    }
    theirs = expected->attributes[expected->seen++];
    if (!data_equal(theirs->key, key))
        expected->difference = "a key";
    else
        expected->difference = value_difference(&ours, theirs->value);
}

static void ignore_attribute(void *context, struct slice key, struct slice value)
{
    (void)context;
    (void)key;
    (void)value;
}

static const char *expected_end(const struct expected *expected)
{
    if (expected->difference)
        return expected->difference;
    return expected->seen == expected->count ? NULL : "attributes are missing";
}

static bool id_equal(ProtobufCBinaryData theirs, const uint8_t *ours, size_t len)
{
    static const uint8_t zero[16] = {0};

    if (theirs.len == 0)
        return memcmp(ours, zero, len) == 0;
    return data_equal(theirs, slice_make(ours, len));
}

static bool is_set(ProtobufCBinaryData id)
{
    for (size_t i = 0; i < id.len; i++)
        if (id.data[i] != 0)
            return true;
    return false;
}

static const char *view_difference(const struct span_view *ours, const Otlp__Span *theirs)
{
    if (!id_equal(theirs->trace_id, ours->trace_id.bytes, sizeof(ours->trace_id.bytes)))
        return "trace_id";
    if (!id_equal(theirs->span_id, ours->span_id, sizeof(ours->span_id)))
        return "span_id";
    if (ours->has_parent != is_set(theirs->parent_span_id))
        return "has_parent";
    if (ours->kind != (uint32_t)theirs->kind)
        return "kind";
    if (ours->start_unix_ns != theirs->start_time_unix_nano)
        return "start";
    if (ours->end_unix_ns != theirs->end_time_unix_nano)
        return "end";
    if (ours->status != (theirs->status ? (uint32_t)theirs->status->code : 0))
        return "status";
    if (ours->flags != theirs->flags)
        return "flags";
    if (!data_equal(theirs->name, ours->name))
        return "name";
    if (!data_equal(theirs->trace_state, ours->trace_state))
        return "trace_state";
    return NULL;
}

struct oracle_verdict oracle_view(struct slice span)
{
    Otlp__Span *theirs = otlp__span__unpack(NULL, span.len, span.at);
    struct oracle_verdict verdict = {false, theirs != NULL, NULL, 1};
    struct expected expected = {NULL, 0, 0, NULL};
    struct span_view view, unvisited;

    verdict.ours = span_view_read(span, ignore_attribute, NULL, &view);
    ASSERT(span_view_read(span, NULL, NULL, &unvisited) == verdict.ours);
    if (verdict.ours && theirs) {
        expected.attributes = theirs->attributes;
        expected.count = theirs->n_attributes;
        ASSERT(span_view_read(span, compare_attribute, &expected, &view));
        verdict.difference = view_difference(&view, theirs);
        if (!verdict.difference)
            verdict.difference = expected_end(&expected);
    }
    if (theirs)
        otlp__span__free_unpacked(theirs, NULL);
    return verdict;
}

struct oracle_verdict oracle_resource(struct slice header_fields)
{
    Otlp__ResourceSpans *theirs = otlp__resource_spans__unpack(NULL, header_fields.len, header_fields.at);
    struct oracle_verdict verdict = {false, theirs != NULL, NULL, 0};
    struct expected expected = {NULL, 0, 0, NULL};

    verdict.ours = resource_visit(header_fields, NULL, NULL);
    if (verdict.ours && theirs) {
        if (theirs->resource) {
            expected.attributes = theirs->resource->attributes;
            expected.count = theirs->resource->n_attributes;
        }
        ASSERT(resource_visit(header_fields, compare_attribute, &expected));
        verdict.difference = expected_end(&expected);
    }
    if (theirs)
        otlp__resource_spans__free_unpacked(theirs, NULL);
    return verdict;
}

struct oracle_verdict oracle_scope(struct slice header_fields)
{
    Otlp__ScopeSpans *theirs = otlp__scope_spans__unpack(NULL, header_fields.len, header_fields.at);
    struct oracle_verdict verdict = {false, theirs != NULL, NULL, 0};
    struct expected expected = {NULL, 0, 0, NULL};

    verdict.ours = scope_visit(header_fields, NULL, NULL);
    if (verdict.ours && theirs) {
        if (theirs->scope) {
            expected.attributes = theirs->scope->attributes;
            expected.count = theirs->scope->n_attributes;
        }
        ASSERT(scope_visit(header_fields, compare_attribute, &expected));
        verdict.difference = expected_end(&expected);
    }
    if (theirs)
        otlp__scope_spans__free_unpacked(theirs, NULL);
    return verdict;
}
