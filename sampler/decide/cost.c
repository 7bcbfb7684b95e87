/* Lengths are found by tables, one a message: which fields there are, and when each is written. A field that occurs again
 * counts with its last occurrence, unless it is a list. */
#include "sampler/decide/cost.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/otlp/wire.h"

enum size_rule {
    SIZE_UNKNOWN, /* not written */
    SIZE_INT32,   /* numbers: written unless 0 */
    SIZE_UINT32,
    SIZE_FIXED32,
    SIZE_FIXED64,
    SIZE_BYTES,   /* texts: written unless empty */
    SIZE_ID,      /* always written; empty when all zero */
    SIZE_ONE,     /* a message, always written */
    SIZE_LIST,    /* a message, as often as it is there */
    SIZE_AS_IS,   /* a list of what we do not look into */
};

#define SIZE_FIELDS_MAX 17u /* of a span, with 0 */

struct size_field {
    enum size_rule rule;
    uint64_t (*of)(struct slice message);
};

static uint64_t value_size(struct slice value);
static uint64_t key_value_size(struct slice attribute);
static uint64_t event_size(struct slice event);
static uint64_t link_size(struct slice link);
static uint64_t status_size(struct slice status);

/* In the order of field numbers, from 0. */
static const struct size_field span_fields[] = {
    {SIZE_UNKNOWN, NULL},       /* */
    {SIZE_ID, NULL},            /* trace_id */
    {SIZE_ID, NULL},            /* span_id */
    {SIZE_BYTES, NULL},         /* trace_state */
    {SIZE_ID, NULL},            /* parent_span_id */
    {SIZE_BYTES, NULL},         /* name */
    {SIZE_INT32, NULL},         /* kind */
    {SIZE_FIXED64, NULL},       /* start_time_unix_nano */
    {SIZE_FIXED64, NULL},       /* end_time_unix_nano */
    {SIZE_LIST, key_value_size}, /* attributes */
    {SIZE_UINT32, NULL},        /* dropped_attributes_count */
    {SIZE_LIST, event_size},    /* events */
    {SIZE_UINT32, NULL},        /* dropped_events_count */
    {SIZE_LIST, link_size},     /* links */
    {SIZE_UINT32, NULL},        /* dropped_links_count */
    {SIZE_ONE, status_size},    /* status */
    {SIZE_FIXED32, NULL},       /* flags */
};
static const struct size_field event_fields[] = {
    {SIZE_UNKNOWN, NULL},
    {SIZE_FIXED64, NULL},        /* time_unix_nano */
    {SIZE_BYTES, NULL},          /* name */
    {SIZE_LIST, key_value_size}, /* attributes */
    {SIZE_UINT32, NULL},         /* dropped_attributes_count */
};
static const struct size_field link_fields[] = {
    {SIZE_UNKNOWN, NULL},
    {SIZE_ID, NULL},             /* trace_id */
    {SIZE_ID, NULL},             /* span_id */
    {SIZE_BYTES, NULL},          /* trace_state */
    {SIZE_LIST, key_value_size}, /* attributes */
    {SIZE_UINT32, NULL},         /* dropped_attributes_count */
    {SIZE_FIXED32, NULL},        /* flags */
};
static const struct size_field status_fields[] = {
    {SIZE_UNKNOWN, NULL},
    {SIZE_UNKNOWN, NULL},
    {SIZE_BYTES, NULL}, /* message */
    {SIZE_INT32, NULL}, /* code */
};
static const struct size_field key_value_fields[] = {
    {SIZE_UNKNOWN, NULL},
    {SIZE_BYTES, NULL},     /* key */
    {SIZE_ONE, value_size}, /* value */
    {SIZE_INT32, NULL},     /* key_strindex */
};
static const struct size_field array_fields[] = {
    {SIZE_UNKNOWN, NULL},
    {SIZE_LIST, value_size}, /* values */
};
static const struct size_field kvlist_fields[] = {
    {SIZE_UNKNOWN, NULL},
    {SIZE_LIST, key_value_size}, /* values */
};
static const struct size_field resource_fields[] = {
    {SIZE_UNKNOWN, NULL},
    {SIZE_LIST, key_value_size}, /* attributes */
    {SIZE_UINT32, NULL},         /* dropped_attributes_count */
    {SIZE_AS_IS, NULL},          /* entity_refs */
};
static const struct size_field scope_fields[] = {
    {SIZE_UNKNOWN, NULL},
    {SIZE_BYTES, NULL},          /* name */
    {SIZE_BYTES, NULL},          /* version */
    {SIZE_LIST, key_value_size}, /* attributes */
    {SIZE_UINT32, NULL},         /* dropped_attributes_count */
};

static uint64_t with_length(uint64_t len)
{
    return wire_varint_size(len) + len;
}

static uint64_t id_size(struct slice id)
{
    for (size_t i = 0; i < id.len; i++)
        if (id.at[i] != 0)
            return with_length(id.len);
    return with_length(0);
}

/* Reads one field's value, its tag already read: what it adds without the tag; 0: it is not written. */
static uint64_t field_size(struct wire *w, uint32_t tag, const struct size_field *field)
{
    uint64_t number;
    struct slice bytes;

    switch (tag & 7) {
    case WIRE_VARINT:
        number = wire_varint(w);
        number = field->rule == SIZE_INT32 ? (uint64_t)(int64_t)(int32_t)number : (uint32_t)number;
        return number ? wire_varint_size(number) : 0;
    case WIRE_FIXED64:
        return wire_fixed64(w) ? 8 : 0;
    case WIRE_FIXED32:
        return wire_fixed32(w) ? 4 : 0;
    default:
        break;
    }
    bytes = wire_bytes(w);
    if (field->of)
        return with_length(field->of(bytes));
    if (field->rule == SIZE_ID)
        return id_size(bytes);
    return bytes.len > 0 || field->rule == SIZE_AS_IS ? with_length(bytes.len) : 0;
}

static uint64_t message_size(
    struct slice message, const struct size_field *fields, uint32_t count)
{
    uint64_t singles[SIZE_FIELDS_MAX] = {0}, size = 0;
    struct wire w = wire_of(message);

    for (uint32_t i = 1; i < count; i++)
        if (fields[i].rule == SIZE_ONE || fields[i].rule == SIZE_ID)
            singles[i] = with_length(0);
    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w), number = WIRE_FIELD(tag);

        if (number >= count || fields[number].rule == SIZE_UNKNOWN)
            wire_skip(&w, tag);
        else if (fields[number].rule == SIZE_LIST || fields[number].rule == SIZE_AS_IS)
            size += 1 + field_size(&w, tag, &fields[number]);
        else
            singles[number] = field_size(&w, tag, &fields[number]);
    }
    for (uint32_t i = 1; i < count; i++)
        if (singles[i] > 0)
            size += (i < 16 ? 1 : 2) + singles[i];
    return size;
}

#define MESSAGE_SIZE(message, fields) message_size((message), (fields), ARRAY_COUNT(fields))

/* Of an AnyValue: the last member that is set, written also when it is 0 or empty. */
static uint64_t value_size(struct slice value)
{
    struct wire w = wire_of(value);
    uint64_t size = 0;

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        switch (tag) {
        case WIRE_TAG(1, WIRE_BYTES): /* string_value */
        case WIRE_TAG(7, WIRE_BYTES): /* bytes_value */
            size = 1 + with_length(wire_bytes(&w).len);
            break;
        case WIRE_TAG(2, WIRE_VARINT): /* bool_value */
            (void)wire_varint(&w);
            size = 2;
            break;
        case WIRE_TAG(3, WIRE_VARINT): /* int_value */
            size = 1 + wire_varint_size(wire_varint(&w));
            break;
        case WIRE_TAG(4, WIRE_FIXED64): /* double_value */
            (void)wire_fixed64(&w);
            size = 9;
            break;
        case WIRE_TAG(5, WIRE_BYTES): /* array_value */
            size = 1 + with_length(MESSAGE_SIZE(wire_bytes(&w), array_fields));
            break;
        case WIRE_TAG(6, WIRE_BYTES): /* kvlist_value */
            size = 1 + with_length(MESSAGE_SIZE(wire_bytes(&w), kvlist_fields));
            break;
        default:
            wire_skip(&w, tag);
        }
    }
    return size;
}

static uint64_t key_value_size(struct slice attribute)
{
    return MESSAGE_SIZE(attribute, key_value_fields);
}

static uint64_t event_size(struct slice event)
{
    return MESSAGE_SIZE(event, event_fields);
}

static uint64_t link_size(struct slice link)
{
    return MESSAGE_SIZE(link, link_fields);
}

static uint64_t status_size(struct slice status)
{
    return MESSAGE_SIZE(status, status_fields);
}

static uint64_t resource_size(struct slice resource)
{
    return MESSAGE_SIZE(resource, resource_fields);
}

static uint64_t scope_size(struct slice scope)
{
    return MESSAGE_SIZE(scope, scope_fields);
}

uint64_t cost_of_span(struct slice span)
{
    return MESSAGE_SIZE(span, span_fields);
}

/* A ResourceSpans without its spans is a message whose field 1 is the resource; a ScopeSpans likewise. */
static const struct size_field resource_part_fields[] = {
    {SIZE_UNKNOWN, NULL},
    {SIZE_ONE, resource_size},
};
static const struct size_field scope_part_fields[] = {
    {SIZE_UNKNOWN, NULL},
    {SIZE_ONE, scope_size},
};

static uint64_t part_size(
    const struct header_part *part, const struct size_field *fields, uint32_t count)
{
    uint8_t *bytes;
    uint64_t size;

    if (part->len == 0)
        return message_size(slice_make("", 0), fields, count);
    if (part->fragment_count == 1)
        return message_size(part->fragments[0], fields, count);
    bytes = malloc(part->len);
    ASSERT(bytes != NULL);
    (void)header_part_write(part, bytes);
    size = message_size(slice_make(bytes, part->len), fields, count);
    free(bytes);
    return size;
}

/* -- a trace --------------------------------------------------------------------------------------- */

struct cost_entry {                            /* the spans of one scope of one resource */
    uint64_t resource_hash, scope_hash;        /* of header parts */
    uint64_t resource_bytes, scope_bytes;      /* encoded, with tag and length */
    uint64_t spans_bytes;                      /* likewise */
};

struct cost {
    uint32_t count, capacity;
    uint32_t last;         /* where the last span went: the next one is most often beside it */
    uint64_t beyond_bytes; /* of spans past COST_HEADERS_MAX */
    struct cost_entry entries[];
};

static uint64_t field_bytes(uint64_t len)
{
    return 1 + with_length(len);
}

static bool entry_is(const struct cost_entry *entry, const struct span_header *header)
{
    return entry->resource_hash == header->resource.hash && entry->scope_hash == header->scope.hash;
}

static struct cost_entry *cost_find(struct cost *cost, const struct span_header *header)
{
    if (cost->count > 0 && entry_is(&cost->entries[cost->last], header))
        return &cost->entries[cost->last];
    for (uint32_t i = 0; i < cost->count; i++) {
        if (entry_is(&cost->entries[i], header)) {
            cost->last = i;
            return &cost->entries[i];
        }
    }
    return NULL;
}

static struct cost_entry entry_of(const struct span_header *header)
{
    return (struct cost_entry){
        .resource_hash = header->resource.hash,
        .scope_hash = header->scope.hash,
        .resource_bytes = part_size(
            &header->resource, resource_part_fields, ARRAY_COUNT(resource_part_fields)),
        .scope_bytes =
            part_size(&header->scope, scope_part_fields, ARRAY_COUNT(scope_part_fields)),
    };
}

static void cost_grow(struct cost **cost)
{
    uint32_t count = *cost ? (*cost)->count : 0;
    uint32_t capacity = count == 0 ? 2 : count * 2;
    struct cost *more;

    if (*cost && count < (*cost)->capacity)
        return;
    more = realloc(*cost, sizeof(*more) + capacity * sizeof(more->entries[0]));
    ASSERT(more != NULL);
    if (!*cost)
        *more = (struct cost){0};
    more->capacity = capacity;
    *cost = more;
}

void cost_add(struct cost **cost, const struct span_header *header, struct slice span)
{
    uint64_t span_bytes = field_bytes(cost_of_span(span));
    struct cost_entry *entry;

    if (!*cost)
        cost_grow(cost);
    entry = cost_find(*cost, header);
    if (entry) {
        entry->spans_bytes += span_bytes;
        return;
    }
    if ((*cost)->count == COST_HEADERS_MAX) {
        struct cost_entry alone = entry_of(header);

        (*cost)->beyond_bytes +=
            field_bytes(alone.resource_bytes + field_bytes(alone.scope_bytes + span_bytes));
        return;
    }
    cost_grow(cost);
    (*cost)->last = (*cost)->count++;
    entry = &(*cost)->entries[(*cost)->last];
    *entry = entry_of(header);
    entry->spans_bytes = span_bytes;
}

/* One ResourceSpans: the resource of the first entry with it, and the scopes of all. */
static uint64_t resource_spans_bytes(const struct cost *cost, uint32_t first)
{
    uint64_t len = cost->entries[first].resource_bytes;

    for (uint32_t i = first; i < cost->count; i++) {
        const struct cost_entry *entry = &cost->entries[i];

        if (entry->resource_hash == cost->entries[first].resource_hash)
            len += field_bytes(entry->scope_bytes + entry->spans_bytes);
    }
    return field_bytes(len);
}

static bool resource_came_before(const struct cost *cost, uint32_t index)
{
    for (uint32_t i = 0; i < index; i++)
        if (cost->entries[i].resource_hash == cost->entries[index].resource_hash)
            return true;
    return false;
}

uint64_t cost_bytes(const struct cost *cost)
{
    uint64_t bytes = cost ? cost->beyond_bytes : 0;

    for (uint32_t i = 0; cost && i < cost->count; i++)
        if (!resource_came_before(cost, i))
            bytes += resource_spans_bytes(cost, i);
    return bytes;
}

size_t cost_memory(const struct cost *cost)
{
    return cost ? sizeof(*cost) + cost->capacity * sizeof(cost->entries[0]) : 0;
}

void cost_free(struct cost *cost)
{
    free(cost);
}
