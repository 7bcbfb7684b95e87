/* Fields stand in the order in which they are usually written: each is looked for behind the one found before it. */
#include "common/otlp/otlp_json_fields.h"

#include "common/base/cleanup.h"

#define NAMES(camel, snake) .name = {(const uint8_t *)(camel), sizeof(camel) - 1}, .snake_name = {(const uint8_t *)(snake), sizeof(snake) - 1}
#define SCALAR(field_number, camel, snake, field_kind)                                                                             \
    {                                                                                                                              \
        NAMES(camel, snake), .number = (field_number), .kind = (field_kind)                                                        \
    }
#define ENUM(field_number, word, names)                                                                                            \
    {                                                                                                                              \
        NAMES(word, word), .number = (field_number), .kind = JSON_ENUM, .enum_names = (names)                                      \
    }
#define ONE(field_number, camel, snake, content)                                                                                   \
    {                                                                                                                              \
        NAMES(camel, snake), .number = (field_number), .kind = JSON_MESSAGE, .message = &(content)                                 \
    }
#define MANY(field_number, camel, snake, content)                                                                                  \
    {                                                                                                                              \
        NAMES(camel, snake), .number = (field_number), .kind = JSON_MESSAGE, .repeated = true, .message = &(content)               \
    }
#define STRINGS(field_number, camel, snake)                                                                                        \
    {                                                                                                                              \
        NAMES(camel, snake), .number = (field_number), .kind = JSON_STRING, .repeated = true                                       \
    }
#define MESSAGE(guess, table) {.fields = (table), .field_count = ARRAY_COUNT(table), .length_guess = (guess)}

/* -- common.proto ----------------------------------------------------------------------------------- */

static const struct json_message key_value;

static const struct json_field array_value_fields[] = {MANY(1, "values", "values", json_any_value)};
static const struct json_field key_value_list_fields[] = {MANY(1, "values", "values", key_value)};
static const struct json_message array_value = MESSAGE(1, array_value_fields);
static const struct json_message key_value_list = MESSAGE(1, key_value_list_fields);

static const struct json_field any_value_fields[] = {
    SCALAR(1, "stringValue", "string_value", JSON_STRING),
    SCALAR(3, "intValue", "int_value", JSON_INT64),
    SCALAR(2, "boolValue", "bool_value", JSON_BOOL),
    SCALAR(4, "doubleValue", "double_value", JSON_DOUBLE),
    ONE(5, "arrayValue", "array_value", array_value),
    ONE(6, "kvlistValue", "kvlist_value", key_value_list),
    SCALAR(7, "bytesValue", "bytes_value", JSON_BASE64),
};
const struct json_message json_any_value = {
    .fields = any_value_fields, .field_count = ARRAY_COUNT(any_value_fields), .length_guess = 1, .oneof = true};

static const struct json_field key_value_fields[] = {
    SCALAR(1, "key", "key", JSON_STRING),
    ONE(2, "value", "value", json_any_value),
};
static const struct json_message key_value = MESSAGE(1, key_value_fields);

static const struct json_field scope_fields[] = {
    SCALAR(1, "name", "name", JSON_STRING),
    SCALAR(2, "version", "version", JSON_STRING),
    MANY(3, "attributes", "attributes", key_value),
    SCALAR(4, "droppedAttributesCount", "dropped_attributes_count", JSON_UINT32),
};
static const struct json_message scope = MESSAGE(1, scope_fields);

static const struct json_field entity_ref_fields[] = {
    SCALAR(1, "schemaUrl", "schema_url", JSON_STRING),
    SCALAR(2, "type", "type", JSON_STRING),
    STRINGS(3, "idKeys", "id_keys"),
    STRINGS(4, "descriptionKeys", "description_keys"),
};
static const struct json_message entity_ref = MESSAGE(1, entity_ref_fields);

/* -- resource.proto, trace.proto -------------------------------------------------------------------- */

static const struct json_field resource_fields[] = {
    MANY(1, "attributes", "attributes", key_value),
    SCALAR(2, "droppedAttributesCount", "dropped_attributes_count", JSON_UINT32),
    MANY(3, "entityRefs", "entity_refs", entity_ref),
};
static const struct json_message resource = MESSAGE(2, resource_fields);

static const struct json_field event_fields[] = {
    SCALAR(1, "timeUnixNano", "time_unix_nano", JSON_FIXED64),
    SCALAR(2, "name", "name", JSON_STRING),
    MANY(3, "attributes", "attributes", key_value),
    SCALAR(4, "droppedAttributesCount", "dropped_attributes_count", JSON_UINT32),
};
static const struct json_message event = MESSAGE(1, event_fields);

static const struct json_field link_fields[] = {
    SCALAR(1, "traceId", "trace_id", JSON_HEX),
    SCALAR(2, "spanId", "span_id", JSON_HEX),
    SCALAR(3, "traceState", "trace_state", JSON_STRING),
    MANY(4, "attributes", "attributes", key_value),
    SCALAR(5, "droppedAttributesCount", "dropped_attributes_count", JSON_UINT32),
    SCALAR(6, "flags", "flags", JSON_FIXED32),
};
static const struct json_message link = MESSAGE(1, link_fields);

static const struct json_enum_name status_names[] = {
    {"STATUS_CODE_UNSET", 0}, {"STATUS_CODE_OK", 1}, {"STATUS_CODE_ERROR", 2}, {NULL, 0}};
static const struct json_field status_fields[] = {
    SCALAR(2, "message", "message", JSON_STRING),
    ENUM(3, "code", status_names),
};
static const struct json_message status = MESSAGE(1, status_fields);

static const struct json_enum_name kind_names[] = {{"SPAN_KIND_UNSPECIFIED", 0}, {"SPAN_KIND_INTERNAL", 1}, {"SPAN_KIND_SERVER", 2},
    {"SPAN_KIND_CLIENT", 3}, {"SPAN_KIND_PRODUCER", 4}, {"SPAN_KIND_CONSUMER", 5}, {NULL, 0}};
static const struct json_field span_fields[] = {
    SCALAR(1, "traceId", "trace_id", JSON_HEX),
    SCALAR(2, "spanId", "span_id", JSON_HEX),
    SCALAR(3, "traceState", "trace_state", JSON_STRING),
    SCALAR(4, "parentSpanId", "parent_span_id", JSON_HEX),
    SCALAR(16, "flags", "flags", JSON_FIXED32),
    SCALAR(5, "name", "name", JSON_STRING),
    ENUM(6, "kind", kind_names),
    SCALAR(7, "startTimeUnixNano", "start_time_unix_nano", JSON_FIXED64),
    SCALAR(8, "endTimeUnixNano", "end_time_unix_nano", JSON_FIXED64),
    MANY(9, "attributes", "attributes", key_value),
    SCALAR(10, "droppedAttributesCount", "dropped_attributes_count", JSON_UINT32),
    MANY(11, "events", "events", event),
    SCALAR(12, "droppedEventsCount", "dropped_events_count", JSON_UINT32),
    MANY(13, "links", "links", link),
    SCALAR(14, "droppedLinksCount", "dropped_links_count", JSON_UINT32),
    ONE(15, "status", "status", status),
};
static const struct json_message span = MESSAGE(2, span_fields);

static const struct json_field scope_spans_fields[] = {
    ONE(1, "scope", "scope", scope),
    MANY(2, "spans", "spans", span),
    SCALAR(3, "schemaUrl", "schema_url", JSON_STRING),
};
static const struct json_message scope_spans = MESSAGE(2, scope_spans_fields);

static const struct json_field resource_spans_fields[] = {
    ONE(1, "resource", "resource", resource),
    MANY(2, "scopeSpans", "scope_spans", scope_spans),
    SCALAR(3, "schemaUrl", "schema_url", JSON_STRING),
};
static const struct json_message resource_spans = MESSAGE(2, resource_spans_fields);

static const struct json_field request_fields[] = {MANY(1, "resourceSpans", "resource_spans", resource_spans)};
const struct json_message json_trace_request = MESSAGE(0, request_fields);
