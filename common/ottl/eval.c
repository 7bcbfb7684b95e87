/* How nodes are evaluated. Each node knows its function; an error is noted once, where it happens, and every caller just
 * stops. Booleans that only the header answers are remembered by number until the header changes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/ottl/convert.h"
#include "common/ottl/program.h"

/* -- errors -------------------------------------------------------------------------------------------------- */

bool run_fault(struct ottl_run *run, const struct ottl_node *node, const char *text)
{
    run->fault.kind = FAULT_TEXT;
    run->fault.at = node->at;
    run->fault.text = text;
    return false;
}

bool run_fault_type(
    struct ottl_run *run, const struct ottl_node *node, const char *want, const struct ottl_value *found)
{
    run->fault.kind = FAULT_TYPE;
    run->fault.at = node->at;
    run->fault.text = want;
    run->fault.found = found->type;
    return false;
}

bool run_fault_bound(struct ottl_run *run, const struct ottl_node *node)
{
    run->fault.kind = FAULT_BOUND;
    run->fault.at = node->at;
    return false;
}

const char *ottl_run_error(const struct ottl_run *run, char *text, size_t size)
{
    switch (run->fault.kind) {
    case FAULT_NONE:
        (void)snprintf(text, size, "no error");
        break;
    case FAULT_TYPE:
        (void)snprintf(text, size, "at %u: expected %s but got %s", run->fault.at + 1, run->fault.text,
            ottl_type_name(run->fault.found));
        break;
    case FAULT_TEXT:
        (void)snprintf(text, size, "at %u: %s", run->fault.at + 1, run->fault.text);
        break;
    case FAULT_BOUND:
        (void)snprintf(text, size, "at %u: a value of more than %d bytes", run->fault.at + 1, OTTL_EVALUATION_BYTES);
        break;
    }
    return text;
}

/* -- attributes ------------------------------------------------------------------------------------------------ */

static struct ottl_value part_map(const struct ottl_run *run, enum ottl_part part)
{
    switch (part) {
    case PART_SPAN:
        return ottl_on_wire(OTTL_MAP, OTTL_ON_WIRE, run->span, WIRE_TAG(9, WIRE_BYTES));
    case PART_EVENT:
        return ottl_on_wire(OTTL_MAP, OTTL_ON_WIRE, run->event, WIRE_TAG(3, WIRE_BYTES));
    case PART_RESOURCE:
        return ottl_on_wire(OTTL_MAP, OTTL_IN_HEADER, run->resource, WIRE_TAG(1, WIRE_BYTES));
    case PART_SCOPE:
        return ottl_on_wire(OTTL_MAP, OTTL_IN_HEADER, run->scope, WIRE_TAG(3, WIRE_BYTES));
    case PART_CACHE:
        break;
    }
    return ottl_own(OTTL_MAP, NULL, 0); /* nothing ever writes into it */
}

/* One pass over a map for all remembered keys; the first entry with a key counts. */
static void keys_look_up(const struct ottl_keys *keys, const struct ottl_value *map, struct slice *values)
{
    struct ottl_items items;
    struct ottl_item item;

    for (uint32_t i = 0; i < keys->count; i++)
        values[i].at = NULL;
    ottl_items_start(&items, map);
    while (ottl_items_next(&items, &item))
        for (uint32_t i = 0; i < keys->count; i++)
            if (!values[i].at && slice_equal(keys->names[i], item.key))
                values[i] = item.any_value;
}

/* The value under a remembered key. NULL: this part has none remembered. */
static const struct slice *part_values(struct ottl_run *run, enum ottl_part part)
{
    struct ottl_value map;

    if (part == PART_SPAN) {
        if (!run->span_values) {
            map = part_map(run, part);
            keys_look_up(&run->program->span_keys, &map, run->own_values);
            run->span_values = run->own_values;
        }
        return run->span_values;
    }
    if (part == PART_RESOURCE) {
        if (!run->resource_known) {
            map = part_map(run, part);
            keys_look_up(&run->program->resource_keys, &map, run->resource_values);
            run->resource_known = true;
        }
        return run->resource_values;
    }
    ASSERT(part == PART_SCOPE);
    if (!run->scope_known) {
        map = part_map(run, part);
        keys_look_up(&run->program->scope_keys, &map, run->scope_values);
        run->scope_known = true;
    }
    return run->scope_values;
}

/* A key of a map: a text, literal or computed. */
static bool index_text(struct ottl_run *run, const struct ottl_node *node, const struct ottl_index *index, struct slice *out_key)
{
    struct ottl_value key;

    if (index->kind == INDEX_STRING) {
        *out_key = index->text;
        return true;
    }
    if (index->kind == INDEX_INT)
        return run_fault(run, node, "a map is indexed by a string");
    if (!node_value(run, index->value, &key))
        return false;
    if (key.type != OTTL_STRING)
        return run_fault_type(run, node, "a string as the key of a map", &key);
    *out_key = key.bytes;
    return true;
}

static bool index_number(struct ottl_run *run, const struct ottl_node *node, const struct ottl_index *index, int64_t *out_index)
{
    struct ottl_value key;

    if (index->kind == INDEX_INT) {
        *out_index = index->integer;
        return true;
    }
    if (index->kind == INDEX_STRING)
        return run_fault(run, node, "a list is indexed by a number");
    if (!node_value(run, index->value, &key))
        return false;
    if (key.type != OTTL_INT)
        return run_fault_type(run, node, "an int64 as the index of a list", &key);
    *out_index = key.integer;
    return true;
}

/* Goes on into a value: a missing key of a map ends it as nil, anything but a map or a list is an error. */
static bool index_into(struct ottl_run *run, const struct ottl_node *node, size_t from, struct ottl_value *value)
{
    for (size_t i = from; i < node->index_count; i++) {
        const struct ottl_value within = *value;

        if (within.type == OTTL_MAP) {
            struct slice key;

            if (!index_text(run, node, &node->indexes[i], &key))
                return false;
            if (!ottl_map_get(&within, key, value)) {
                *value = ottl_nil();
                return true;
            }
        } else if (within.type == OTTL_LIST) {
            int64_t index = 0;

            if (!index_number(run, node, &node->indexes[i], &index))
                return false;
            if (!ottl_list_get(&within, index, value))
                return run_fault(run, node, "index out of bounds");
        } else {
            return run_fault_type(run, node, "a map or a list to index", &within);
        }
    }
    return true;
}

bool eval_attributes(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct slice key;

    if (node->index_count == 0) {
        *out_value = part_map(run, node->part);
        return true;
    }
    if (node->key != KEY_NONE) {
        struct slice any_value = part_values(run, node->part)[node->key];

        if (!any_value.at) {
            *out_value = ottl_nil();
            return true;
        }
        *out_value = ottl_value_of(any_value);
        return node->index_count == 1 || index_into(run, node, 1, out_value);
    }
    if (!index_text(run, node, &node->indexes[0], &key))
        return false;
    {
        const struct ottl_value map = part_map(run, node->part);

        if (!ottl_map_get(&map, key, out_value)) {
            *out_value = ottl_nil();
            return true;
        }
    }
    return index_into(run, node, 1, out_value);
}

/* -- […] after a converter --------------------------------------------------------------------------------------- */

static bool index_call(struct ottl_run *run, const struct ottl_node *node, const struct ottl_index *index, struct ottl_value *value)
{
    const struct ottl_value within = *value;
    struct ottl_value key = index->kind == INDEX_STRING ? ottl_string(index->text) : ottl_int(index->integer);

    if (index->kind == INDEX_VALUE && !node_value(run, index->value, &key))
        return false;
    if (key.type == OTTL_STRING) {
        if (within.type != OTTL_MAP)
            return run_fault_type(run, node, "a map to index by a string", &within);
        return ottl_map_get(&within, key.bytes, value) || run_fault(run, node, "key not found in map");
    }
    if (key.type != OTTL_INT)
        return run_fault_type(run, node, "an int64 or string as key", &key);
    if (within.type == OTTL_BYTES) {
        if (key.integer < 0 || (uint64_t)key.integer >= within.bytes.len)
            return run_fault(run, node, "index out of bounds");
        /* Go's byte: a type of its own, which equals no other. */
        *value = (struct ottl_value){.type = OTTL_OPAQUE};
        value->opaque.what = 256u + within.bytes.at[key.integer];
        value->opaque.count = -1;
        return true;
    }
    if (!ottl_is_list(&within))
        return run_fault_type(run, node, "a list to index by a number", &within);
    return ottl_list_get(&within, key.integer, value) || run_fault(run, node, "index out of bounds");
}

bool eval_indexes(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *value)
{
    for (size_t i = 0; i < node->index_count; i++)
        if (!index_call(run, node, &node->indexes[i], value))
            return false;
    return true;
}

bool eval_index(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return node_value(run, node->children[0], out_value) && eval_indexes(run, node, out_value);
}

/* -- arithmetic ---------------------------------------------------------------------------------------------------- */

static bool math_integers(struct ottl_run *run, const struct ottl_node *node, int64_t a, int64_t b, struct ottl_value *out)
{
    uint64_t x = (uint64_t)a, y = (uint64_t)b; /* overflow wraps */

    switch (node->op) {
    case '+':
        *out = ottl_int((int64_t)(x + y));
        return true;
    case '-':
        *out = ottl_int((int64_t)(x - y));
        return true;
    case '*':
        *out = ottl_int((int64_t)(x * y));
        return true;
    default:
        if (b == 0)
            return run_fault(run, node, "attempted to divide by 0");
        *out = ottl_int(b == -1 ? (int64_t)(0 - x) : a / b);
        return true;
    }
}

static bool math_floats(struct ottl_run *run, const struct ottl_node *node, double a, double b, struct ottl_value *out)
{
    switch (node->op) {
    case '+':
        *out = ottl_float(a + b);
        return true;
    case '-':
        *out = ottl_float(a - b);
        return true;
    case '*':
        *out = ottl_float(a * b);
        return true;
    default:
        if (b == 0)
            return run_fault(run, node, "attempted to divide by 0");
        *out = ottl_float(a / b);
        return true;
    }
}

static int64_t negated(int64_t ns)
{
    return (int64_t)(0 - (uint64_t)ns);
}

static bool math_times(struct ottl_run *run, const struct ottl_node *node, const struct ottl_value *a,
    const struct ottl_value *b, struct ottl_value *out)
{
    if (node->op != '+' && node->op != '-')
        return run_fault(run, node, "only addition and subtraction supported for times and durations");
    *out = (struct ottl_value){.type = OTTL_TIME};
    if (a->type == OTTL_TIME && b->type == OTTL_DURATION) {
        out->time = ottl_time_add(a->time, node->op == '+' ? b->integer : negated(b->integer));
        return true;
    }
    if (a->type == OTTL_TIME && b->type == OTTL_TIME && node->op == '-') {
        *out = ottl_duration(ottl_time_sub(a->time, b->time));
        return true;
    }
    if (a->type == OTTL_DURATION && b->type == OTTL_TIME && node->op == '+') {
        out->time = ottl_time_add(b->time, a->integer);
        return true;
    }
    if (a->type == OTTL_DURATION && b->type == OTTL_DURATION) {
        uint64_t x = (uint64_t)a->integer, y = (uint64_t)b->integer;

        *out = ottl_duration((int64_t)(node->op == '+' ? x + y : x - y));
        return true;
    }
    return run_fault_type(run, node, "a time or duration that fits the other one", b);
}

bool eval_math(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct ottl_value a, b;

    if (!node_value(run, node->children[0], &a) || !node_value(run, node->children[1], &b))
        return false;
    if (a.type == OTTL_TIME || a.type == OTTL_DURATION)
        return math_times(run, node, &a, &b, out_value);
    if (a.type != OTTL_INT && a.type != OTTL_FLOAT)
        return run_fault_type(run, node, "int64, float64, a time or a duration", &a);
    if (b.type != OTTL_INT && b.type != OTTL_FLOAT)
        return run_fault_type(run, node, "int64 or float64", &b);
    if (a.type == OTTL_INT && b.type == OTTL_INT)
        return math_integers(run, node, a.integer, b.integer, out_value);
    return math_floats(run, node, a.type == OTTL_INT ? (double)a.integer : a.number,
        b.type == OTTL_INT ? (double)b.integer : b.number, out_value);
}

bool eval_negate(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct ottl_value value;

    if (!node_value(run, node->children[0], &value))
        return false;
    if (value.type == OTTL_INT)
        *out_value = ottl_int(negated(value.integer));
    else if (value.type == OTTL_FLOAT)
        *out_value = ottl_float(-value.number);
    else
        return run_fault_type(run, node, "a number to negate", &value);
    return true;
}

/* -- lists and maps ------------------------------------------------------------------------------------------------- */

bool eval_list(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct ottl_entry *entries = arena_alloc(&run->arena, node->child_count * sizeof(*entries));

    if (node->child_count > 0 && !entries)
        return run_fault_bound(run, node);
    for (size_t i = 0; i < node->child_count; i++)
        if (!node_value(run, node->children[i], &entries[i].value))
            return false;
    *out_value = ottl_own(OTTL_LITERAL_LIST, entries, node->child_count);
    return true;
}

/* What can be an attribute's value: the rest has no form there. */
static bool map_takes(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *value, bool map_allowed)
{
    struct ottl_entry *entries;

    switch ((enum ottl_type)value->type) {
    case OTTL_NIL:
    case OTTL_BOOL:
    case OTTL_INT:
    case OTTL_FLOAT:
    case OTTL_STRING:
    case OTTL_BYTES:
        return true;
    case OTTL_MAP:
        return map_allowed || run_fault(run, node, "a map inside lists cannot be made into an attribute");
    case OTTL_LITERAL_LIST:
        entries = arena_alloc(&run->arena, value->own.count * sizeof(*entries));
        if (value->own.count > 0 && !entries)
            return run_fault_bound(run, node);
        for (size_t i = 0; i < value->own.count; i++) {
            entries[i] = value->own.entries[i];
            if (!map_takes(run, node, &entries[i].value, map_allowed && entries[i].value.type == OTTL_MAP))
                return false;
        }
        *value = ottl_own(OTTL_LIST, entries, value->own.count);
        return true;
    case OTTL_LIST:
    case OTTL_STRINGS:
    case OTTL_TIME:
    case OTTL_DURATION:
    case OTTL_TRACE_ID:
    case OTTL_SPAN_ID:
    case OTTL_OPAQUE:
        break;
    }
    return run_fault_type(run, node, "a value that can be an attribute", value);
}

bool eval_map(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct ottl_entry *entries = arena_alloc(&run->arena, node->child_count * sizeof(*entries));

    if (node->child_count > 0 && !entries)
        return run_fault_bound(run, node);
    for (size_t i = 0; i < node->child_count; i++) {
        entries[i].key = node->keys[i];
        if (!node_value(run, node->children[i], &entries[i].value) ||
            !map_takes(run, node, &entries[i].value, true))
            return false;
    }
    *out_value = ottl_own(OTTL_MAP, entries, node->child_count);
    return true;
}

/* -- booleans --------------------------------------------------------------------------------------------------------- */

/* Answers from memory, when the header alone says it. */
HOT_INLINE bool memo_find(const struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    if (node->memo == MEMO_NONE || run->memos[node->memo] == 0)
        return false;
    *out_value = ottl_bool(run->memos[node->memo] - 1 == OTTL_TRUE);
    return true;
}

HOT_INLINE void memo_keep(struct ottl_run *run, const struct ottl_node *node, bool value)
{
    if (node->memo != MEMO_NONE)
        run->memos[node->memo] = (uint8_t)((value ? OTTL_TRUE : OTTL_FALSE) + 1);
}

bool eval_compare(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct ottl_room room = {.arena = &run->arena};
    struct ottl_value a, b;
    bool result;

    if (memo_find(run, node, out_value))
        return true;
    if (!node_value(run, node->children[0], &a) || !node_value(run, node->children[1], &b))
        return false;
    result = ottl_compare(&a, &b, node->op, &room);
    if (room.full)
        return run_fault_bound(run, node);
    memo_keep(run, node, result);
    *out_value = ottl_bool(result);
    return true;
}

/* A converter alone as a condition. */
bool eval_condition_call(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    if (memo_find(run, node, out_value))
        return true;
    if (!node_value(run, node->children[0], out_value))
        return false;
    if (out_value->type != OTTL_BOOL)
        return run_fault_type(run, node, "bool from a converter that is a condition", out_value);
    memo_keep(run, node, out_value->integer != 0);
    return true;
}

bool eval_not(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    if (!node_value(run, node->children[0], out_value))
        return false;
    out_value->integer = !out_value->integer;
    return true;
}

bool eval_and(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    for (size_t i = 0; i < node->child_count; i++) {
        if (!node_value(run, node->children[i], out_value))
            return false;
        if (!out_value->integer)
            return true;
    }
    return true;
}

bool eval_or(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    for (size_t i = 0; i < node->child_count; i++) {
        if (!node_value(run, node->children[i], out_value))
            return false;
        if (out_value->integer)
            return true;
    }
    return true;
}
