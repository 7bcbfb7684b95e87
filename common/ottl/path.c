/* A leaf reads what the span's view holds, or scans its message for a field: fields that conditions rarely ask for are
 * read when they are asked for. Of a field that occurs again the last occurrence counts. */
#include "common/ottl/path.h"

#include <string.h>

#include "common/base/nearest.h"
#include "common/otlp/w3c_tracestate.h"

/* -- reading fields ------------------------------------------------------------------------------------------ */

/* The field of a message: its varint, or its bytes. Zero or empty when it is not there. */
static uint64_t field_varint(struct slice message, uint32_t field)
{
    struct wire w = wire_of(message);
    uint64_t value = 0;

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(field, WIRE_VARINT))
            value = wire_varint(&w);
        else
            wire_skip(&w, tag);
    }
    return value;
}

static struct slice field_bytes(struct slice message, uint32_t field)
{
    struct wire w = wire_of(message);
    struct slice bytes = slice_make("", 0);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(field, WIRE_BYTES))
            bytes = wire_bytes(&w);
        else
            wire_skip(&w, tag);
    }
    return bytes;
}

static bool yield_count(uint64_t count, struct ottl_value *out_value)
{
    *out_value = ottl_int((uint32_t)count);
    return true;
}

static bool yield_text(struct slice text, struct ottl_value *out_value)
{
    *out_value = ottl_string(text);
    return true;
}

static bool yield_time(uint64_t unix_ns, struct ottl_value *out_value)
{
    *out_value = ottl_time_of(0, (int64_t)unix_ns);
    return true;
}

static bool yield_hex(struct ottl_run *run, const struct ottl_node *node, struct slice id, struct ottl_value *out_value)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *text = arena_bytes(&run->arena, id.len * 2);

    if (!text)
        return run_fault_bound(run, node);
    for (size_t i = 0; i < id.len; i++) {
        text[2 * i] = (uint8_t)digits[id.at[i] >> 4];
        text[2 * i + 1] = (uint8_t)digits[id.at[i] & 15];
    }
    return yield_text(slice_make(text, id.len * 2), out_value);
}

/* -- span ------------------------------------------------------------------------------------------------------ */

#define LEAF(name)                                                                                 \
    static bool name(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)

static struct slice trace_id_of(const struct ottl_run *run)
{
    return slice_make(run->view->trace_id.bytes, sizeof(run->view->trace_id.bytes));
}

static struct slice span_id_of(const struct ottl_run *run)
{
    return slice_make(run->view->span_id, sizeof(run->view->span_id));
}

static struct slice parent_id_of(const struct ottl_run *run)
{
    struct slice id = field_bytes(run->span, 4);

    return id.len == 8 ? id : SLICE_LITERAL("\0\0\0\0\0\0\0\0");
}

LEAF(span_trace_id)
{
    (void)node;
    *out_value = ottl_bytes(OTTL_TRACE_ID, trace_id_of(run));
    return true;
}

LEAF(span_trace_id_string)
{
    return yield_hex(run, node, trace_id_of(run), out_value);
}

LEAF(span_span_id)
{
    (void)node;
    *out_value = ottl_bytes(OTTL_SPAN_ID, span_id_of(run));
    return true;
}

LEAF(span_span_id_string)
{
    return yield_hex(run, node, span_id_of(run), out_value);
}

LEAF(span_parent_id)
{
    (void)node;
    *out_value = ottl_bytes(OTTL_SPAN_ID, parent_id_of(run));
    return true;
}

LEAF(span_parent_id_string)
{
    return yield_hex(run, node, parent_id_of(run), out_value);
}

LEAF(span_trace_state)
{
    (void)node;
    return yield_text(run->view->trace_state, out_value);
}

LEAF(span_name)
{
    (void)node;
    return yield_text(run->view->name, out_value);
}

LEAF(span_kind)
{
    (void)node;
    *out_value = ottl_int((int32_t)run->view->kind);
    return true;
}

static const char *const kind_names[] = {
    "Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"};
static const char *const old_kind_names[] = {"SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT", "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER"};

LEAF(span_kind_string)
{
    (void)node;
    return yield_text(
        slice_text(run->view->kind < ARRAY_COUNT(kind_names) ? kind_names[run->view->kind] : ""), out_value);
}

LEAF(span_kind_old_string)
{
    (void)node;
    return yield_text(
        slice_text(run->view->kind < ARRAY_COUNT(old_kind_names) ? old_kind_names[run->view->kind] : ""),
        out_value);
}

LEAF(span_start)
{
    (void)node;
    return yield_time(run->view->start_unix_ns, out_value);
}

LEAF(span_end)
{
    (void)node;
    return yield_time(run->view->end_unix_ns, out_value);
}

LEAF(span_start_unix_nano)
{
    (void)node;
    *out_value = ottl_int((int64_t)run->view->start_unix_ns);
    return true;
}

LEAF(span_end_unix_nano)
{
    (void)node;
    *out_value = ottl_int((int64_t)run->view->end_unix_ns);
    return true;
}

LEAF(span_dropped_attributes)
{
    (void)node;
    return yield_count(field_varint(run->span, 10), out_value);
}

LEAF(span_dropped_events)
{
    (void)node;
    return yield_count(field_varint(run->span, 12), out_value);
}

LEAF(span_dropped_links)
{
    (void)node;
    return yield_count(field_varint(run->span, 14), out_value);
}

/* A list of structures, or a structure: only itself is equal to it. */
static bool yield_opaque(struct ottl_run *run, uint32_t field, bool is_list, struct ottl_value *out_value)
{
    const struct ottl_value list =
        ottl_on_wire(OTTL_LIST, OTTL_ON_WIRE, run->span, WIRE_TAG(field, WIRE_BYTES));

    *out_value = (struct ottl_value){.type = OTTL_OPAQUE};
    out_value->opaque.what = field;
    out_value->opaque.count = is_list ? (int64_t)ottl_items_count(&list) : -1;
    return true;
}

LEAF(span_events)
{
    (void)node;
    return yield_opaque(run, 11, true, out_value);
}

LEAF(span_links)
{
    (void)node;
    return yield_opaque(run, 13, true, out_value);
}

LEAF(span_status)
{
    (void)node;
    return yield_opaque(run, 15, false, out_value);
}

LEAF(span_status_code)
{
    (void)node;
    *out_value = ottl_int((int32_t)run->view->status);
    return true;
}

LEAF(span_status_message)
{
    struct wire w = wire_of(run->span);
    struct slice message = slice_make("", 0);

    (void)node;
    while (wire_more(&w)) { /* each occurrence of the status merges into the one before */
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(15, WIRE_BYTES)) {
            struct wire status = wire_of(wire_bytes(&w));

            while (wire_more(&status)) {
                tag = wire_tag(&status);
                if (tag == WIRE_TAG(2, WIRE_BYTES))
                    message = wire_bytes(&status);
                else
                    wire_skip(&status, tag);
            }
        } else {
            wire_skip(&w, tag);
        }
    }
    return yield_text(message, out_value);
}

LEAF(span_flags)
{
    (void)node;
    return yield_count(run->view->flags, out_value);
}

/* -- trace state ------------------------------------------------------------------------------------------------- */

/* span.trace_state["key"]: only a literal text is a key, and a state that is not valid is nil. */
bool path_state_key(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct w3c_member members[W3C_MEMBERS_MAX];
    size_t count = w3c_tracestate_read(run->view->trace_state, members);

    *out_value = ottl_nil();
    if (count == W3C_MALFORMED)
        return true;
    if (node->indexes[0].kind != INDEX_STRING)
        return run_fault(run, node, "trace_state indexing type must be a string");
    for (size_t i = 0; i < count; i++)
        if (slice_equal(members[i].key, node->indexes[0].text))
            return yield_text(members[i].value, out_value);
    return yield_text(slice_make("", 0), out_value);
}

/* -- events, resource, scope ------------------------------------------------------------------------------------ */

static uint64_t event_unix_ns(const struct ottl_run *run)
{
    struct wire w = wire_of(run->event);
    uint64_t unix_ns = 0;

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(1, WIRE_FIXED64))
            unix_ns = wire_fixed64(&w);
        else
            wire_skip(&w, tag);
    }
    return unix_ns;
}

LEAF(event_time)
{
    (void)node;
    return yield_time(event_unix_ns(run), out_value);
}

LEAF(event_time_unix_nano)
{
    (void)node;
    *out_value = ottl_int((int64_t)event_unix_ns(run));
    return true;
}

LEAF(event_name)
{
    (void)node;
    return yield_text(field_bytes(run->event, 2), out_value);
}

LEAF(event_dropped_attributes)
{
    (void)node;
    return yield_count(field_varint(run->event, 4), out_value);
}

/* The Collector's policy never says which event it is. */
LEAF(event_index)
{
    (void)out_value;
    return run_fault(run, node, "no 'event_index' property has been set");
}

/* A field of a header's own message, cut over several occurrences or not. */
static struct slice header_field(struct slice fields, uint32_t tag, uint64_t *out_varint)
{
    struct wire w = wire_of(fields);
    struct slice bytes = slice_make("", 0);

    *out_varint = 0;
    while (wire_more(&w)) {
        uint32_t outer = wire_tag(&w);
        struct wire inner;

        if (outer != WIRE_TAG(1, WIRE_BYTES)) {
            wire_skip(&w, outer);
            continue;
        }
        inner = wire_of(wire_bytes(&w));
        while (wire_more(&inner)) {
            uint32_t found = wire_tag(&inner);

            if (found != tag)
                wire_skip(&inner, found);
            else if ((tag & 7) == WIRE_VARINT)
                *out_varint = wire_varint(&inner);
            else
                bytes = wire_bytes(&inner);
        }
    }
    return bytes;
}

LEAF(resource_dropped_attributes)
{
    uint64_t count;

    (void)node;
    (void)header_field(run->resource, WIRE_TAG(2, WIRE_VARINT), &count);
    return yield_count(count, out_value);
}

LEAF(scope_name)
{
    uint64_t unused;

    (void)node;
    return yield_text(header_field(run->scope, WIRE_TAG(1, WIRE_BYTES), &unused), out_value);
}

LEAF(scope_version)
{
    uint64_t unused;

    (void)node;
    return yield_text(header_field(run->scope, WIRE_TAG(2, WIRE_BYTES), &unused), out_value);
}

LEAF(scope_dropped_attributes)
{
    uint64_t count;

    (void)node;
    (void)header_field(run->scope, WIRE_TAG(4, WIRE_VARINT), &count);
    return yield_count(count, out_value);
}

/* The Collector's processor loses schema URLs before a policy could see them. */
LEAF(schema_url)
{
    (void)run;
    (void)node;
    return yield_text(slice_make("", 0), out_value);
}

/* -- the table ------------------------------------------------------------------------------------------------------ */

#define PLAIN(context, name, eval) {context, name, PATH_PLAIN, eval, PART_SPAN}
#define MAP(context, name, part) {context, name, PATH_ATTRIBUTES, NULL, part}

static const struct path_leaf leaves[] = {
    MAP(PATH_SPAN, "attributes", PART_SPAN),
    MAP(PATH_SPAN, "cache", PART_CACHE),
    PLAIN(PATH_SPAN, "name", span_name),
    PLAIN(PATH_SPAN, "kind", span_kind),
    PLAIN(PATH_SPAN, "kind.string", span_kind_string),
    PLAIN(PATH_SPAN, "kind.deprecated_string", span_kind_old_string),
    PLAIN(PATH_SPAN, "status", span_status),
    PLAIN(PATH_SPAN, "status.code", span_status_code),
    PLAIN(PATH_SPAN, "status.message", span_status_message),
    PLAIN(PATH_SPAN, "trace_id", span_trace_id),
    PLAIN(PATH_SPAN, "trace_id.string", span_trace_id_string),
    PLAIN(PATH_SPAN, "span_id", span_span_id),
    PLAIN(PATH_SPAN, "span_id.string", span_span_id_string),
    PLAIN(PATH_SPAN, "parent_span_id", span_parent_id),
    PLAIN(PATH_SPAN, "parent_span_id.string", span_parent_id_string),
    {PATH_SPAN, "trace_state", PATH_STATE, span_trace_state, PART_SPAN},
    PLAIN(PATH_SPAN, "start_time", span_start),
    PLAIN(PATH_SPAN, "end_time", span_end),
    PLAIN(PATH_SPAN, "start_time_unix_nano", span_start_unix_nano),
    PLAIN(PATH_SPAN, "end_time_unix_nano", span_end_unix_nano),
    PLAIN(PATH_SPAN, "dropped_attributes_count", span_dropped_attributes),
    PLAIN(PATH_SPAN, "dropped_events_count", span_dropped_events),
    PLAIN(PATH_SPAN, "dropped_links_count", span_dropped_links),
    PLAIN(PATH_SPAN, "events", span_events),
    PLAIN(PATH_SPAN, "links", span_links),
    PLAIN(PATH_SPAN, "flags", span_flags),
    MAP(PATH_EVENT, "attributes", PART_EVENT),
    MAP(PATH_EVENT, "cache", PART_CACHE),
    PLAIN(PATH_EVENT, "name", event_name),
    PLAIN(PATH_EVENT, "time", event_time),
    PLAIN(PATH_EVENT, "time_unix_nano", event_time_unix_nano),
    PLAIN(PATH_EVENT, "dropped_attributes_count", event_dropped_attributes),
    PLAIN(PATH_EVENT, "event_index", event_index),
    MAP(PATH_RESOURCE, "attributes", PART_RESOURCE),
    PLAIN(PATH_RESOURCE, "dropped_attributes_count", resource_dropped_attributes),
    PLAIN(PATH_RESOURCE, "schema_url", schema_url),
    MAP(PATH_SCOPE, "attributes", PART_SCOPE),
    PLAIN(PATH_SCOPE, "name", scope_name),
    PLAIN(PATH_SCOPE, "version", scope_version),
    PLAIN(PATH_SCOPE, "dropped_attributes_count", scope_dropped_attributes),
    PLAIN(PATH_SCOPE, "schema_url", schema_url),
};

const struct path_leaf *path_find(enum path_context context, const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(leaves); i++)
        if (leaves[i].context == context && strcmp(leaves[i].name, name) == 0)
            return &leaves[i];
    return NULL;
}

const char *path_nearest(enum path_context context, const char *name)
{
    struct nearest nearest = nearest_start(name, true);

    for (size_t i = 0; i < ARRAY_COUNT(leaves); i++)
        if (leaves[i].context == context)
            nearest_offer(&nearest, leaves[i].name);
    return nearest.found;
}
