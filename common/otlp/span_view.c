/* One pass over a span's bytes. Each message has a loop that takes any field in any order; before it, a few
 * lines take the shape that encoders write: a KeyValue of key and value and nothing else, a value of one member.
 * They accept only what the loop would accept, with the same result.
 */
#include "common/otlp/span_view.h"

#define SPAN_FIELDS_MAX 16
#define HEADER_OWN_MESSAGE WIRE_TAG(1, WIRE_BYTES)
/* Wrong wire types of known fields are malformed; `last` is the message's highest field number that we know. */
#define KNOWN_BUT_WRONG(tag, last) (WIRE_FIELD(tag) <= (last))

RARE_PATH static bool value_check_slow(struct slice value, unsigned depth, bool *out_is_set);
HOT_INLINE bool value_check(struct slice value, unsigned depth, bool *out_is_set);
HOT_INLINE bool key_value_check(
    struct slice bytes, unsigned depth, struct slice *out_key, struct slice *out_value);

/* -- values ------------------------------------------------------------------------------------------- */

static bool array_check(struct slice array, unsigned depth)
{
    struct wire w = wire_of(array);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);
        bool is_set;

        if (tag == WIRE_TAG(1, WIRE_BYTES)) {
            struct slice value = wire_bytes(&w);

            if (w.bad || !value_check(value, depth, &is_set))
                return false;
        } else if (KNOWN_BUT_WRONG(tag, 1)) {
            return false;
        } else {
            wire_skip(&w, tag);
        }
    }
    return !w.bad;
}

static bool kvlist_check(struct slice list, unsigned depth)
{
    struct wire w = wire_of(list);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);
        struct slice key, value;

        if (tag == WIRE_TAG(1, WIRE_BYTES)) {
            struct slice item = wire_bytes(&w);

            if (w.bad || !key_value_check(item, depth, &key, &value))
                return false;
        } else if (KNOWN_BUT_WRONG(tag, 1)) {
            return false;
        } else {
            wire_skip(&w, tag);
        }
    }
    return !w.bad;
}

/* Any AnyValue. depth: of this value, 1 for the outermost. *out_is_set: whether it has a member. */
RARE_PATH static bool value_check_slow(struct slice value, unsigned depth, bool *out_is_set)
{
    struct wire w = wire_of(value);

    *out_is_set = false;
    if (depth > VALUE_DEPTH_MAX)
        return false;
    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);
        struct slice bytes;

        switch (tag) {
        case WIRE_TAG(1, WIRE_BYTES):
        case WIRE_TAG(7, WIRE_BYTES):
        case WIRE_TAG(2, WIRE_VARINT):
        case WIRE_TAG(3, WIRE_VARINT):
        case WIRE_TAG(4, WIRE_FIXED64):
            wire_skip(&w, tag);
            *out_is_set = true;
            break;
        case WIRE_TAG(5, WIRE_BYTES):
            bytes = wire_bytes(&w);
            if (w.bad || !array_check(bytes, depth + 1))
                return false;
            *out_is_set = true;
            break;
        case WIRE_TAG(6, WIRE_BYTES):
            bytes = wire_bytes(&w);
            if (w.bad || !kvlist_check(bytes, depth + 1))
                return false;
            *out_is_set = true;
            break;
        default:
            if (KNOWN_BUT_WRONG(tag, 8) && tag != WIRE_TAG(8, WIRE_VARINT)) /* 8: string_value_strindex, of profiles */
                return false;
            wire_skip(&w, tag);
        }
    }
    return !w.bad;
}

HOT_INLINE bool value_check(struct slice value, unsigned depth, bool *out_is_set)
{
    const uint8_t *at = value.at;

    /* One short member that fills the value. */
    if (LIKELY(value.len >= 2 && value.len < 0x82 && depth <= VALUE_DEPTH_MAX)) {
        *out_is_set = true;
        switch (at[0]) {
        case WIRE_TAG(1, WIRE_BYTES):
        case WIRE_TAG(7, WIRE_BYTES):
            if (LIKELY((size_t)at[1] + 2 == value.len))
                return true;
            break;
        case WIRE_TAG(2, WIRE_VARINT):
        case WIRE_TAG(3, WIRE_VARINT):
            if (LIKELY(value.len == 2 ? at[1] < 0x80 : value.len == 3 && at[1] >= 0x80 && at[2] < 0x80))
                return true;
            break;
        case WIRE_TAG(4, WIRE_FIXED64):
            if (LIKELY(value.len == 9))
                return true;
            break;
        default:
            break;
        }
    }
    return value_check_slow(value, depth, out_is_set);
}

struct value value_read(struct slice value)
{
    struct wire w = wire_of(value);
    struct value read = {VALUE_EMPTY, {NULL, 0}, 0, 0};
    uint64_t bits;

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        switch (tag) {
        case WIRE_TAG(1, WIRE_BYTES):
            read = (struct value){.type = VALUE_STRING, .bytes = wire_bytes(&w)};
            break;
        case WIRE_TAG(2, WIRE_VARINT):
            read = (struct value){.type = VALUE_BOOL, .integer = wire_varint(&w) != 0};
            break;
        case WIRE_TAG(3, WIRE_VARINT):
            read = (struct value){.type = VALUE_INT, .integer = (int64_t)wire_varint(&w)};
            break;
        case WIRE_TAG(4, WIRE_FIXED64):
            bits = wire_fixed64(&w);
            read = (struct value){.type = VALUE_DOUBLE};
            memcpy(&read.number, &bits, sizeof(read.number));
            break;
        case WIRE_TAG(5, WIRE_BYTES):
            read = (struct value){.type = VALUE_ARRAY, .bytes = wire_bytes(&w)};
            break;
        case WIRE_TAG(6, WIRE_BYTES):
            read = (struct value){.type = VALUE_KVLIST, .bytes = wire_bytes(&w)};
            break;
        case WIRE_TAG(7, WIRE_BYTES):
            read = (struct value){.type = VALUE_BYTES, .bytes = wire_bytes(&w)};
            break;
        default:
            wire_skip(&w, tag);
        }
    }
    return read;
}

/* -- attributes --------------------------------------------------------------------------------------- */

RARE_PATH static bool key_value_check_slow(
    struct slice bytes, unsigned depth, struct slice *out_key, struct slice *out_value)
{
    struct wire w = wire_of(bytes);
    struct slice key = slice_make(bytes.at, 0), value = slice_make(bytes.at, 0);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(1, WIRE_BYTES)) {
            key = wire_bytes(&w);
        } else if (tag == WIRE_TAG(2, WIRE_BYTES)) {
            struct slice next = wire_bytes(&w);
            bool is_set;

            if (w.bad || !value_check(next, depth, &is_set))
                return false;
            if (is_set)
                value = next;
        } else if (KNOWN_BUT_WRONG(tag, 3) && tag != WIRE_TAG(3, WIRE_VARINT)) { /* 3: key_strindex, of profiles */
            return false;
        } else {
            wire_skip(&w, tag);
        }
    }
    *out_key = key;
    *out_value = value;
    return !w.bad;
}

/* depth: of its value. */
HOT_INLINE bool key_value_check(
    struct slice bytes, unsigned depth, struct slice *out_key, struct slice *out_value)
{
    const uint8_t *at = bytes.at;
    size_t value_at;

    /* 0a len key 12 len value, and nothing after it */
    if (LIKELY(bytes.len >= 4 && at[0] == WIRE_TAG(1, WIRE_BYTES) && at[1] < 0x80)) {
        value_at = 2 + (size_t)at[1];
        if (LIKELY(value_at + 2 <= bytes.len && at[value_at] == WIRE_TAG(2, WIRE_BYTES) &&
                   at[value_at + 1] < 0x80 && value_at + 2 + at[value_at + 1] == bytes.len)) {
            bool is_set;

            *out_key = slice_make(at + 2, at[1]);
            *out_value = slice_make(at + value_at + 2, at[value_at + 1]);
            return value_check(*out_value, depth, &is_set);
        }
    }
    return key_value_check_slow(bytes, depth, out_key, out_value);
}

/* Reads one KeyValue field, its tag already read, and shows it. */
HOT_INLINE bool attribute_read(struct wire *w, attribute_visit *visit, void *context)
{
    struct slice bytes = wire_bytes(w), key, value;

    if (UNLIKELY(w->bad || !key_value_check(bytes, 1, &key, &value)))
        return false;
    if (visit)
        visit(context, key, value);
    return true;
}

/* -- the messages inside a span ----------------------------------------------------------------------- */

/* A message of plain fields and attributes: checks all, visits the attributes.
 * types: the wire type of each known field from 0; attributes: the tag of the KeyValue field. */
static bool message_check(struct slice bytes, const uint8_t *types, uint32_t last, uint32_t attributes,
    attribute_visit *visit, void *context)
{
    struct wire w = wire_of(bytes);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == attributes) {
            if (!attribute_read(&w, visit, context))
                return false;
            continue;
        }
        if (WIRE_FIELD(tag) <= last && (tag & 7) != types[WIRE_FIELD(tag)])
            return false;
        wire_skip(&w, tag);
    }
    return !w.bad;
}

/* time_unix_nano, name, attributes, dropped_attributes_count */
static const uint8_t event_types[] = {0, WIRE_FIXED64, WIRE_BYTES, WIRE_BYTES, WIRE_VARINT};
/* trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags */
static const uint8_t link_types[] = {0, WIRE_BYTES, WIRE_BYTES, WIRE_BYTES, WIRE_BYTES, WIRE_VARINT, WIRE_FIXED32};
/* attributes, dropped_attributes_count, entity_refs */
static const uint8_t resource_types[] = {0, WIRE_BYTES, WIRE_VARINT, WIRE_BYTES};
/* name, version, attributes, dropped_attributes_count */
static const uint8_t scope_types[] = {0, WIRE_BYTES, WIRE_BYTES, WIRE_BYTES, WIRE_VARINT};

static bool event_check(struct slice event)
{
    return message_check(event, event_types, ARRAY_COUNT(event_types) - 1, WIRE_TAG(3, WIRE_BYTES), NULL, NULL);
}

/* The lengths of a link's IDs, at every occurrence: one wrong one makes a strict decoder refuse the whole request that it
 * travels in, and with it other traces. */
static bool link_ids_check(struct slice link)
{
    struct wire w = wire_of(link);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);
        struct slice id;

        if (tag != WIRE_TAG(1, WIRE_BYTES) && tag != WIRE_TAG(2, WIRE_BYTES)) {
            wire_skip(&w, tag);
            continue;
        }
        id = wire_bytes(&w);
        if (id.len != 0 && id.len != (tag == WIRE_TAG(1, WIRE_BYTES) ? 16 : 8))
            return false;
    }
    return !w.bad;
}

static bool link_check(struct slice link)
{
    return link_ids_check(link) &&
           message_check(link, link_types, ARRAY_COUNT(link_types) - 1, WIRE_TAG(4, WIRE_BYTES), NULL, NULL);
}

/* Reads a Status into *status, which keeps its code when this occurrence has none: messages merge. */
static bool status_read(struct slice bytes, uint32_t *status)
{
    struct wire w = wire_of(bytes);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(3, WIRE_VARINT))
            *status = (uint32_t)wire_varint(&w);
        else if ((WIRE_FIELD(tag) == 2 && tag != WIRE_TAG(2, WIRE_BYTES)) || WIRE_FIELD(tag) == 3)
            return false;
        else
            wire_skip(&w, tag); /* the message; field 1 is an old code, no longer known */
    }
    return !w.bad;
}

/* -- spans -------------------------------------------------------------------------------------------- */

/* An ID of `len` bytes, or none, into out; none at all is all zero. */
HOT_INLINE void id_read(struct slice id, uint8_t *out, size_t len)
{
    if (LIKELY(id.len == len))
        memcpy(out, id.at, len);
    else
        memset(out, 0, len);
}

bool span_view_read(struct slice span, attribute_visit *visit, void *context, struct span_view *out_view)
{
    struct wire w = wire_of(span);
    struct slice trace_id = {NULL, 0}, span_id = {NULL, 0}, parent_id = {NULL, 0};
    struct slice name = {NULL, 0}, trace_state = {NULL, 0}, bytes;
    uint64_t start_unix_ns = 0, end_unix_ns = 0, parent = 0;
    uint32_t kind = 0, status = 0, flags = 0;
    bool bad_id = false; /* at any occurrence: a decoder may judge each, where only the last counts */

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (LIKELY(tag == WIRE_TAG(9, WIRE_BYTES))) {
            if (UNLIKELY(!attribute_read(&w, visit, context)))
                return false;
            continue;
        }
        switch (tag) {
        case WIRE_TAG(1, WIRE_BYTES):
            trace_id = wire_bytes(&w);
            bad_id |= trace_id.len != 0 && trace_id.len != 16;
            break;
        case WIRE_TAG(2, WIRE_BYTES):
            span_id = wire_bytes(&w);
            bad_id |= span_id.len != 0 && span_id.len != 8;
            break;
        case WIRE_TAG(3, WIRE_BYTES):
            trace_state = wire_bytes(&w);
            break;
        case WIRE_TAG(4, WIRE_BYTES):
            parent_id = wire_bytes(&w);
            bad_id |= parent_id.len != 0 && parent_id.len != 8;
            break;
        case WIRE_TAG(5, WIRE_BYTES):
            name = wire_bytes(&w);
            break;
        case WIRE_TAG(6, WIRE_VARINT):
            kind = (uint32_t)wire_varint(&w);
            break;
        case WIRE_TAG(7, WIRE_FIXED64):
            start_unix_ns = wire_fixed64(&w);
            break;
        case WIRE_TAG(8, WIRE_FIXED64):
            end_unix_ns = wire_fixed64(&w);
            break;
        case WIRE_TAG(10, WIRE_VARINT): /* dropped_attributes_count */
        case WIRE_TAG(12, WIRE_VARINT): /* dropped_events_count */
        case WIRE_TAG(14, WIRE_VARINT): /* dropped_links_count */
            (void)wire_varint(&w);
            break;
        case WIRE_TAG(11, WIRE_BYTES):
            bytes = wire_bytes(&w);
            if (UNLIKELY(w.bad || !event_check(bytes)))
                return false;
            break;
        case WIRE_TAG(13, WIRE_BYTES):
            bytes = wire_bytes(&w);
            if (UNLIKELY(w.bad || !link_check(bytes)))
                return false;
            break;
        case WIRE_TAG(15, WIRE_BYTES):
            bytes = wire_bytes(&w);
            if (UNLIKELY(w.bad || !status_read(bytes, &status)))
                return false;
            break;
        case WIRE_TAG(16, WIRE_FIXED32):
            flags = wire_fixed32(&w);
            break;
        default:
            if (KNOWN_BUT_WRONG(tag, SPAN_FIELDS_MAX))
                return false;
            wire_skip(&w, tag);
        }
    }
    if (UNLIKELY(w.bad || bad_id))
        return false;
    id_read(trace_id, out_view->trace_id.bytes, sizeof(out_view->trace_id.bytes));
    id_read(span_id, out_view->span_id, sizeof(out_view->span_id));
    id_read(parent_id, (uint8_t *)&parent, sizeof(parent));
    out_view->has_parent = parent != 0;
    out_view->kind = kind;
    out_view->start_unix_ns = start_unix_ns;
    out_view->end_unix_ns = end_unix_ns;
    out_view->status = status;
    out_view->flags = flags;
    out_view->name = name;
    out_view->trace_state = trace_state;
    return true;
}

/* -- header parts ------------------------------------------------------------------------------------- */

/* A header part's own message, each occurrence: what it has merges by being visited in order. */
static bool header_visit(struct slice fields, const uint8_t *types, uint32_t last, uint32_t attributes,
    attribute_visit *visit, void *context)
{
    struct wire w = wire_of(fields);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == HEADER_OWN_MESSAGE) {
            struct slice message = wire_bytes(&w);

            if (w.bad || !message_check(message, types, last, attributes, visit, context))
                return false;
        } else if (KNOWN_BUT_WRONG(tag, 3) && tag != WIRE_TAG(3, WIRE_BYTES)) {
            return false;
        } else {
            wire_skip(&w, tag);
        }
    }
    return !w.bad;
}

bool resource_visit(struct slice header_fields, attribute_visit *visit, void *context)
{
    return header_visit(header_fields, resource_types, ARRAY_COUNT(resource_types) - 1,
        WIRE_TAG(1, WIRE_BYTES), visit, context);
}

bool scope_visit(struct slice header_fields, attribute_visit *visit, void *context)
{
    return header_visit(header_fields, scope_types, ARRAY_COUNT(scope_types) - 1,
        WIRE_TAG(3, WIRE_BYTES), visit, context);
}
