/* Builds OTLP trace requests for tests: bytes, appended in the order of the calls, right or wrong as asked.
 *
 * Use     add files('.../tests/kit/otlp_build.c') to the sources of the test, then:
 *
 *     struct otlp_build b = {0};
 *
 *     otlp_resource_spans(&b);                                    (opens)
 *     otlp_resource(&b, 1, (struct otlp_attribute[]){OTLP_TEXT("service.name", "cart")});
 *     otlp_scope_spans(&b);                                       (opens)
 *     otlp_scope(&b, "lib", "1.0");
 *     otlp_span(&b, &(struct otlp_span){.trace_id = otlp_trace_id(7), .span_id = otlp_span_id(1), .name = "GET"});
 *     otlp_end(&b);                                               (scope spans)
 *     otlp_end(&b);                                               (resource spans)
 *     ... otlp_slice(&b) ...
 *     otlp_build_deinit(&b);
 *
 * Fields  any message can also be put together piece by piece: otlp_begin, otlp_varint, otlp_bytes …, with any
 *         field number, in any order, repeated, unknown: what is malformed is the caller's to choose.
 * Memory  grows as needed; running out aborts: this is for tests.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"

#define OTLP_OPEN_MAX 512 /* messages that may be open at once: deep values are built too */

struct otlp_build {
    uint8_t *bytes;
    size_t len, capacity;
    size_t open_at[OTLP_OPEN_MAX]; /* where the content of each open message starts */
    unsigned open_count;
};

void otlp_build_deinit(struct otlp_build *build); /* leaves an empty build, ready for use */
void otlp_build_reset(struct otlp_build *build);  /* forgets the bytes, keeps the memory */
struct slice otlp_slice(const struct otlp_build *build); /* borrowed until the next call; nothing may be open */

/* -- wire fields, at the innermost open message --------------------------------------------------- */

void otlp_begin(struct otlp_build *build, uint32_t field); /* opens a length-delimited field */
void otlp_end(struct otlp_build *build);                   /* closes the innermost one */
void otlp_varint(struct otlp_build *build, uint32_t field, uint64_t value);
void otlp_fixed64(struct otlp_build *build, uint32_t field, uint64_t value);
void otlp_fixed32(struct otlp_build *build, uint32_t field, uint32_t value);
void otlp_double(struct otlp_build *build, uint32_t field, double value);
void otlp_bytes(struct otlp_build *build, uint32_t field, const void *at, size_t len);
void otlp_text(struct otlp_build *build, uint32_t field, const char *text);
void otlp_raw(struct otlp_build *build, const void *at, size_t len); /* bytes as they are, no tag */

/* -- attributes -------------------------------------------------------------------------------------- */

enum otlp_kind {
    OTLP_KIND_ABSENT, /* a KeyValue without value */
    OTLP_KIND_EMPTY,  /* a value with no member set */
    OTLP_KIND_TEXT,
    OTLP_KIND_BOOL,
    OTLP_KIND_INT,
    OTLP_KIND_DOUBLE,
    OTLP_KIND_BYTES,
    OTLP_KIND_ARRAY,  /* items' keys are ignored */
    OTLP_KIND_KVLIST,
};

struct otlp_attribute {
    const char *key;
    enum otlp_kind kind;
    const char *text; /* also of bytes */
    size_t text_len;  /* of bytes; 0 with text: strlen */
    int64_t integer;  /* also of bool */
    double number;
    const struct otlp_attribute *items;
    size_t items_count;
};

#define OTLP_TEXT(key_, value_) {.key = (key_), .kind = OTLP_KIND_TEXT, .text = (value_)}
#define OTLP_BOOL(key_, value_) {.key = (key_), .kind = OTLP_KIND_BOOL, .integer = (value_)}
#define OTLP_INT(key_, value_) {.key = (key_), .kind = OTLP_KIND_INT, .integer = (value_)}
#define OTLP_DOUBLE(key_, value_) {.key = (key_), .kind = OTLP_KIND_DOUBLE, .number = (value_)}
#define OTLP_BYTES(key_, at_, len_)                                                                \
    {.key = (key_), .kind = OTLP_KIND_BYTES, .text = (at_), .text_len = (len_)}
#define OTLP_EMPTY(key_) {.key = (key_), .kind = OTLP_KIND_EMPTY}
#define OTLP_ABSENT(key_) {.key = (key_), .kind = OTLP_KIND_ABSENT}
/* items: an array of struct otlp_attribute that outlives the call. */
#define OTLP_ARRAY(key_, items_, count_)                                                           \
    {.key = (key_), .kind = OTLP_KIND_ARRAY, .items = (items_), .items_count = (count_)}
#define OTLP_KVLIST(key_, items_, count_)                                                          \
    {.key = (key_), .kind = OTLP_KIND_KVLIST, .items = (items_), .items_count = (count_)}

/* A KeyValue as field `field` of the open message (9 in a span, 1 in a resource, 3 in a scope or event, 4 in a link). */
void otlp_attribute(struct otlp_build *build, uint32_t field, const struct otlp_attribute *attribute);
/* An AnyValue as field `field` of the open message. */
void otlp_value(struct otlp_build *build, uint32_t field, const struct otlp_attribute *attribute);

/* -- the levels of a request --------------------------------------------------------------------------- */

void otlp_resource_spans(struct otlp_build *build); /* opens; close with otlp_end */
void otlp_resource(struct otlp_build *build, size_t count, const struct otlp_attribute *attributes);
void otlp_scope_spans(struct otlp_build *build); /* opens; close with otlp_end */
void otlp_scope(struct otlp_build *build, const char *name, const char *version);
void otlp_schema_url(struct otlp_build *build, const char *url); /* of the open resource spans or scope spans */

struct otlp_span_id {
    uint8_t bytes[8];
};

struct otlp_event {
    uint64_t time_unix_ns;
    const char *name;
    const struct otlp_attribute *attributes;
    size_t attributes_count;
};

struct otlp_link {
    struct trace_id trace_id;
    struct otlp_span_id span_id;
    const char *trace_state;
    const struct otlp_attribute *attributes;
    size_t attributes_count;
    uint32_t flags;
};

/* What is zero or NULL is not written; fields are written in ascending order, as encoders do. */
struct otlp_span {
    struct trace_id trace_id;
    struct otlp_span_id span_id, parent_span_id;
    const char *trace_state, *name;
    uint32_t kind;
    uint64_t start_unix_ns, end_unix_ns;
    const struct otlp_attribute *attributes;
    size_t attributes_count;
    uint32_t dropped_attributes, dropped_events, dropped_links;
    const struct otlp_event *events;
    size_t events_count;
    const struct otlp_link *links;
    size_t links_count;
    uint32_t status; /* code: 1 ok, 2 error */
    const char *status_message;
    uint32_t flags;
    struct slice unknown; /* whole fields, written last */
};

void otlp_span(struct otlp_build *build, const struct otlp_span *span);       /* as a field of scope spans */
void otlp_span_fields(struct otlp_build *build, const struct otlp_span *span); /* only its content */

/* A request of one span, for tests that need nothing more: resource service.name, scope "test". */
void otlp_request_of(struct otlp_build *build, const char *service, const struct otlp_span *span);

/* IDs made of a number: never zero, well mixed, equal for equal numbers. */
struct trace_id otlp_trace_id(uint64_t number);
struct otlp_span_id otlp_span_id(uint64_t number);

/* A request like those of instrumented services: about 700 B a span and 12 attributes, `spans` spans in traces of
 * `spans_per_trace`, over `services` resources with two scopes each; some spans have events, links, an error.
 * The same arguments give the same bytes. */
void otlp_realistic(struct otlp_build *build, uint64_t seed, size_t spans, size_t spans_per_trace, size_t services);
