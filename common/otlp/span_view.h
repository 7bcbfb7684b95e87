/* What one span says of itself, found in one pass over its bytes, and attributes at a visit.
 *
 * span_view_read checks everything inside the span: attributes, values (nesting at most
 * VALUE_DEPTH_MAX), events, links, status. Nothing is allocated; slices borrow from the span.
 * Merge   what occurs again replaces what came before, member by member, as protobuf merges. One
 *         exception: an array or kvlist cut over several occurrences counts with its last piece.
 * Ignored unknown fields and the profiles' string indexes, once their framing is checked; UTF-8 and
 *         the lengths of a link's IDs are not judged.
 * Source  trace.proto Span, common.proto KeyValue and AnyValue
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/otlp/wire.h"

/* Values inside values, the outermost counted: deeper nesting is refused as malformed. It bounds our stack;
 * protobuf readers have bounds of their own (100 messages in C++, 10000 in Go). */
#define VALUE_DEPTH_MAX 64

enum span_status { SPAN_STATUS_UNSET = 0, SPAN_STATUS_OK = 1, SPAN_STATUS_ERROR = 2 };

enum value_type {
    VALUE_EMPTY, /* an AnyValue with no member set, or no value at all */
    VALUE_STRING,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_DOUBLE,
    VALUE_ARRAY,
    VALUE_KVLIST,
    VALUE_BYTES,
};

struct value {
    enum value_type type;
    struct slice bytes; /* string, bytes; array, kvlist: the message's content */
    int64_t integer;    /* int; bool as 0 or 1 */
    double number;      /* double */
};

/* Called once an attribute, in order, duplicates included. value is the AnyValue message's content
 * (already checked), empty when there is none; read it with value_read when the key is of interest. Of several
 * values in one KeyValue it is the last that has a member set: what merging them leaves. */
typedef void attribute_visit(void *context, struct slice key, struct slice value);

struct span_view {
    struct trace_id trace_id;
    uint8_t span_id[8];
    bool has_parent; /* a parent_span_id that is not all zero */
    uint32_t kind;
    uint64_t start_unix_ns, end_unix_ns;
    uint32_t status; /* enum span_status, or an unknown number as sent */
    uint32_t flags;
    struct slice name, trace_state;
};

/* False when something inside is malformed, or a trace, span or parent ID has neither its length nor 0 bytes (nothing
 * of *out_view may then be used). visit may be NULL; it may have been called before the fault was found. */
bool span_view_read(struct slice span, attribute_visit *visit, void *context, struct span_view *out_view);

/* Visits a header part's attributes: of the resource (field 1 of ResourceSpans, its field 1) or of the scope
 * (field 1 of ScopeSpans, its field 3). header_fields: as header_part_write writes. False when malformed. */
bool resource_visit(struct slice header_fields, attribute_visit *visit, void *context);
bool scope_visit(struct slice header_fields, attribute_visit *visit, void *context);

/* Reads a checked AnyValue. The last member set wins, as in protobuf's oneof. */
struct value value_read(struct slice value);
