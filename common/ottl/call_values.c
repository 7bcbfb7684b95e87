/* Converters of values into other values, and of lists and maps. */
#include <string.h>

#include "common/ottl/calls.h"
#include "common/ottl/convert.h"

/* Int, Double, String, Bool: the argument's kind does the work. */
bool call_convert(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return arg_value(run, node, 0, out_value);
}

/* -- IDs --------------------------------------------------------------------------------------------------------------- */

static int hex_value(uint8_t c)
{
    uint8_t lower = c | 0x20;

    if (c >= '0' && c <= '9')
        return c - '0';
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* `len` bytes as they are, or twice as many hexadecimal digits. NULL: fine; else what is wrong. */
static const char *id_read(struct slice bytes, size_t len, uint8_t *out_id)
{
    if (bytes.len == len) {
        memcpy(out_id, bytes.at, len);
        return NULL;
    }
    if (bytes.len != 2 * len)
        return len == 16 ? "invalid length: a trace ID is 16 bytes or 32 hexadecimal digits"
                         : "invalid length: a span ID is 8 bytes or 16 hexadecimal digits";
    for (size_t i = 0; i < len; i++) {
        int high = hex_value(bytes.at[2 * i]), low = hex_value(bytes.at[2 * i + 1]);

        if (high < 0 || low < 0)
            return "invalid hex";
        out_id[i] = (uint8_t)(high << 4 | low);
    }
    return NULL;
}

static bool yield_id(struct ottl_run *run, const struct ottl_node *node, enum ottl_type type, struct ottl_value *out_value)
{
    const size_t len = type == OTTL_TRACE_ID ? 16 : 8;
    struct ottl_value value;
    const char *wrong;
    uint8_t *id;

    if (!arg_value(run, node, 0, &value))
        return false;
    id = arena_bytes(&run->arena, len);
    if (!id)
        return run_fault_bound(run, node);
    wrong = id_read(value.type == OTTL_NIL ? slice_make("", 0) : value.bytes, len, id);
    if (wrong)
        return run_fault(run, node, wrong);
    *out_value = ottl_bytes(type, slice_make(id, len));
    return true;
}

bool call_trace_id(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_id(run, node, OTTL_TRACE_ID, out_value);
}

bool call_span_id(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_id(run, node, OTTL_SPAN_ID, out_value);
}

/* A literal is judged at load. A number's eight bytes make a span ID, and never a trace ID. */
static int prepare_id(struct ottl_compile *compile, const struct ottl_node *node, size_t len)
{
    const struct ottl_value *value = &node->children[0]->value;
    const char *wrong = NULL;
    uint8_t id[16];

    if (!node->children[0]->is_literal)
        return 0;
    if (value->type == OTTL_STRING || value->type == OTTL_BYTES)
        wrong = id_read(value->bytes, len, id);
    else if (value->type == OTTL_NIL || value->type == OTTL_BOOL || len != 8)
        wrong = id_read(slice_make("", 0), len, id);
    return wrong ? compile_fault(compile, node->children[0]->at, "%s", wrong) : 0;
}

int prepare_trace_id(struct ottl_compile *compile, struct ottl_node *node)
{
    return prepare_id(compile, node, 16);
}

int prepare_span_id(struct ottl_compile *compile, struct ottl_node *node)
{
    return prepare_id(compile, node, 8);
}

/* -- lists and maps -------------------------------------------------------------------------------------------------------- */

bool call_len(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct ottl_value value;

    if (!arg_value(run, node, 0, &value))
        return false;
    if (value.type == OTTL_STRING || value.type == OTTL_BYTES)
        *out_value = ottl_int((int64_t)value.bytes.len);
    else if (ottl_is_list(&value) || value.type == OTTL_MAP)
        *out_value = ottl_int((int64_t)ottl_items_count(&value));
    else if (value.type == OTTL_OPAQUE && value.opaque.count >= 0)
        *out_value = ottl_int(value.opaque.count);
    else
        return run_fault_type(run, node, "a string, a list or a map to measure", &value);
    return true;
}

static bool yield_list(struct ottl_run *run, const struct ottl_node *node, bool keys, struct ottl_value *out_value)
{
    struct ottl_value map;
    struct ottl_items items;
    struct ottl_item item;
    struct ottl_entry *entries;
    size_t count, filled = 0;

    if (!arg_value(run, node, 0, &map))
        return false;
    count = ottl_items_count(&map);
    entries = arena_alloc(&run->arena, count * sizeof(*entries));
    if (count > 0 && !entries)
        return run_fault_bound(run, node);
    ottl_items_start(&items, &map);
    while (filled < count && ottl_items_next(&items, &item))
        entries[filled++].value = keys ? ottl_string(item.key) : ottl_item_value(&item);
    *out_value = ottl_own(OTTL_LIST, entries, filled);
    return true;
}

bool call_keys(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_list(run, node, true, out_value);
}

bool call_values(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_list(run, node, false, out_value);
}

int prepare_coalesce(struct ottl_compile *compile, struct ottl_node *node)
{
    if (node->children[0]->child_count > 0)
        return 0;
    return compile_fault(compile, node->at, "Coalesce requires at least one argument");
}

bool call_coalesce(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    const struct ottl_node *list = node->children[0];

    *out_value = ottl_nil();
    for (size_t i = 0; i < list->child_count && out_value->type == OTTL_NIL; i++)
        if (!node_value(run, list->children[i], out_value))
            return false;
    return true;
}

bool call_parse_json(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct slice text;
    int r;

    if (!arg_string(run, node, 0, &text))
        return false;
    r = convert_parse_json(&run->arena, text, out_value);
    if (r == CONVERT_E_FULL)
        return run_fault_bound(run, node);
    return r == 0 || run_fault(run, node, "not a JSON object or array");
}
