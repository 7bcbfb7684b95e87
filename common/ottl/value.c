/* Comparing goes by the left side's type and looks what the right side is; nil and empty bytes are one and the same. Inside
 * lists and maps the rules are stricter (1 is not 1.0), and a literal list compares by Go's reflect.DeepEqual with what an
 * attribute list is made into, in which a map is another type than a map literal's: such lists are never equal. */
#include "common/ottl/value.h"

#include <stdlib.h>
#include <string.h>

#include "common/otlp/span_view.h"
#include "common/ottl/arena.h"

#define NS_PER_SECOND 1000000000
#define UNIX_TO_YEAR_1 62135596800

/* -- times ----------------------------------------------------------------------------------------------- */

static int64_t wrap_add(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

struct ottl_value ottl_time_of(int64_t unix_s, int64_t ns)
{
    int64_t carry = ns / NS_PER_SECOND, rest = ns % NS_PER_SECOND;

    if (rest < 0) {
        rest += NS_PER_SECOND;
        carry--;
    }
    return (struct ottl_value){.type = OTTL_TIME,
        .time = {wrap_add(wrap_add(unix_s, carry), UNIX_TO_YEAR_1), (uint32_t)rest, 0}};
}

int64_t ottl_time_unix_s(struct ottl_time time)
{
    return wrap_add(time.s, -UNIX_TO_YEAR_1);
}

struct ottl_time ottl_time_add(struct ottl_time time, int64_t ns)
{
    int64_t rest = (int64_t)time.ns + ns % NS_PER_SECOND, s = wrap_add(time.s, ns / NS_PER_SECOND);

    if (rest >= NS_PER_SECOND) {
        rest -= NS_PER_SECOND;
        s = wrap_add(s, 1);
    } else if (rest < 0) {
        rest += NS_PER_SECOND;
        s = wrap_add(s, -1);
    }
    return (struct ottl_time){s, (uint32_t)rest, time.zone_s};
}

int64_t ottl_time_sub(struct ottl_time a, struct ottl_time b)
{
    int64_t s, ns;

    if (__builtin_sub_overflow(a.s, b.s, &s) || __builtin_mul_overflow(s, NS_PER_SECOND, &ns) ||
        __builtin_add_overflow(ns, (int64_t)a.ns - (int64_t)b.ns, &ns))
        return a.s < b.s ? INT64_MIN : INT64_MAX;
    return ns;
}

/* -- the wire -------------------------------------------------------------------------------------------- */

struct ottl_value ottl_value_of(struct slice any_value)
{
    struct value value = value_read(any_value);

    switch (value.type) {
    case VALUE_STRING:
        return ottl_string(value.bytes);
    case VALUE_BOOL:
        return ottl_bool(value.integer != 0);
    case VALUE_INT:
        return ottl_int(value.integer);
    case VALUE_DOUBLE:
        return ottl_float(value.number);
    case VALUE_ARRAY:
        return ottl_on_wire(OTTL_LIST, OTTL_ON_WIRE, value.bytes, WIRE_TAG(1, WIRE_BYTES));
    case VALUE_KVLIST:
        return ottl_on_wire(OTTL_MAP, OTTL_ON_WIRE, value.bytes, WIRE_TAG(1, WIRE_BYTES));
    case VALUE_BYTES:
        return ottl_bytes(OTTL_BYTES, value.bytes);
    case VALUE_EMPTY:
        break;
    }
    return ottl_nil();
}

/* A KeyValue's parts. Of several values the last that holds something counts. */
static void key_value_read(struct slice bytes, struct slice *out_key, struct slice *out_value)
{
    struct wire w = wire_of(bytes);
    unsigned values = 0;

    *out_key = *out_value = slice_make(bytes.at, 0);
    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(1, WIRE_BYTES)) {
            *out_key = wire_bytes(&w);
        } else if (tag == WIRE_TAG(2, WIRE_BYTES)) {
            struct slice value = wire_bytes(&w);

            if (values++ == 0 || value_read(value).type != VALUE_EMPTY)
                *out_value = value;
        } else {
            wire_skip(&w, tag);
        }
    }
}

void ottl_items_start(struct ottl_items *items, const struct ottl_value *of)
{
    *items = (struct ottl_items){.type = of->type, .form = of->form, .tag = of->tag};
    if (of->form == OTTL_OWN) {
        items->at = of->own.entries;
        items->end = of->own.count > 0 ? of->own.entries + of->own.count : of->own.entries;
    } else if (of->form == OTTL_IN_HEADER) {
        items->outer = wire_of(of->bytes);
        items->inner = wire_of(slice_make("", 0));
    } else {
        items->inner = wire_of(of->bytes);
    }
}

/* The next occurrence of the repeated field; in a header, of each of its messages in turn. */
static bool items_next_field(struct ottl_items *items, struct slice *out_field)
{
    for (;;) {
        while (wire_more(&items->inner)) {
            uint32_t tag = wire_tag(&items->inner);

            if (tag == items->tag) {
                *out_field = wire_bytes(&items->inner);
                return !items->inner.bad;
            }
            wire_skip(&items->inner, tag);
        }
        if (items->form != OTTL_IN_HEADER || !wire_more(&items->outer))
            return false;
        while (wire_more(&items->outer)) {
            uint32_t tag = wire_tag(&items->outer);

            if (tag == WIRE_TAG(1, WIRE_BYTES)) {
                items->inner = wire_of(wire_bytes(&items->outer));
                break;
            }
            wire_skip(&items->outer, tag);
        }
    }
}

bool ottl_items_next(struct ottl_items *items, struct ottl_item *out_item)
{
    struct slice field;

    if (items->form == OTTL_OWN) {
        if (items->at == items->end)
            return false;
        out_item->key = items->at->key;
        out_item->value = &items->at->value;
        items->at++;
        return true;
    }
    if (!items_next_field(items, &field))
        return false;
    out_item->value = NULL;
    if (items->type == OTTL_MAP)
        key_value_read(field, &out_item->key, &out_item->any_value);
    else
        out_item->any_value = field;
    return true;
}

struct ottl_value ottl_item_value(const struct ottl_item *item)
{
    return item->value ? *item->value : ottl_value_of(item->any_value);
}

size_t ottl_items_count(const struct ottl_value *of)
{
    struct ottl_items items;
    struct slice field;
    size_t count = 0;

    if (of->form == OTTL_OWN)
        return of->own.count;
    ottl_items_start(&items, of);
    while (items_next_field(&items, &field))
        count++;
    return count;
}

bool ottl_map_get(const struct ottl_value *map, struct slice key, struct ottl_value *out_value)
{
    struct ottl_items items;
    struct ottl_item item;

    ottl_items_start(&items, map);
    while (ottl_items_next(&items, &item)) {
        if (!slice_equal(item.key, key))
            continue;
        *out_value = ottl_item_value(&item);
        return true;
    }
    return false;
}

bool ottl_list_get(const struct ottl_value *list, int64_t index, struct ottl_value *out_value)
{
    struct ottl_items items;
    struct ottl_item item;

    if (index < 0)
        return false;
    ottl_items_start(&items, list);
    while (ottl_items_next(&items, &item)) {
        if (index-- > 0)
            continue;
        *out_value = ottl_item_value(&item);
        return true;
    }
    return false;
}

/* -- equality inside lists and maps ------------------------------------------------------------------------ */

/* Of more entries one map is sorted: looking each up where it stands would cost the product of both. */
#define ENTRIES_SEARCHED 32u

static bool deep_equal(const struct ottl_value *a, const struct ottl_value *b, struct ottl_room *room);

static int compare_entries(const void *a, const void *b)
{
    const struct ottl_entry *x = a, *y = b;
    size_t len = x->key.len < y->key.len ? x->key.len : y->key.len;
    int order = len > 0 ? memcmp(x->key.at, y->key.at, len) : 0;

    if (order == 0)
        order = (x->key.len > y->key.len) - (x->key.len < y->key.len);
    return order ? order : (x->order > y->order) - (x->order < y->order);
}

void ottl_entries_sort(struct ottl_entry *entries, size_t count)
{
    if (count > 0)
        qsort(entries, count, sizeof(*entries), compare_entries);
}

/* False: one has more. The smaller one says how long that takes: the other may be compared with many. */
static bool counts_equal(const struct ottl_value *a, const struct ottl_value *b, size_t *out_count)
{
    struct ottl_items items_a, items_b;
    struct ottl_item item;

    *out_count = 0;
    ottl_items_start(&items_a, a);
    ottl_items_start(&items_b, b);
    for (;;) {
        bool more = ottl_items_next(&items_a, &item);

        if (more != ottl_items_next(&items_b, &item))
            return false;
        if (!more)
            return true;
        (*out_count)++;
    }
}

/* A map's entries, sorted. NULL: no room. */
static struct ottl_entry *sorted_entries(const struct ottl_value *map, size_t count, struct ottl_room *room)
{
    struct ottl_entry *entries = arena_alloc(room->arena, count * sizeof(*entries));
    struct ottl_items items;
    struct ottl_item item;
    uint32_t at = 0;

    if (!entries) {
        room->full = true;
        return NULL;
    }
    ottl_items_start(&items, map);
    for (; at < count && ottl_items_next(&items, &item); at++)
        entries[at] = (struct ottl_entry){item.key, ottl_item_value(&item), at};
    ottl_entries_sort(entries, at);
    return entries;
}

/* The first entry with the key, as in ottl_map_get: of equal ones it was sorted to the front. */
static bool sorted_get(const struct ottl_entry *entries, size_t count, struct slice key, struct ottl_value *out_value)
{
    const struct ottl_entry wanted = {.key = key, .order = 0};
    size_t from = 0, to = count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (compare_entries(&entries[middle], &wanted) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    if (from == count || !slice_equal(entries[from].key, key))
        return false;
    *out_value = entries[from].value;
    return true;
}

/* By entry of a: b has as many, and the same under each key. */
static bool maps_equal(const struct ottl_value *a, const struct ottl_value *b, struct ottl_room *room)
{
    const struct ottl_entry *sorted = NULL;
    struct ottl_items items;
    struct ottl_item item;
    size_t count;

    if (!counts_equal(a, b, &count))
        return false;
    if (count > ENTRIES_SEARCHED && !(sorted = sorted_entries(b, count, room)))
        return false;
    ottl_items_start(&items, a);
    while (ottl_items_next(&items, &item)) {
        struct ottl_value ours = ottl_item_value(&item), theirs;

        if (!(sorted ? sorted_get(sorted, count, item.key, &theirs) : ottl_map_get(b, item.key, &theirs)) ||
            !deep_equal(&ours, &theirs, room))
            return false;
    }
    return true;
}

static bool lists_equal(const struct ottl_value *a, const struct ottl_value *b, struct ottl_room *room,
    bool (*equal)(const struct ottl_value *, const struct ottl_value *, struct ottl_room *))
{
    struct ottl_items items_a, items_b;
    struct ottl_item item_a, item_b;

    ottl_items_start(&items_a, a);
    ottl_items_start(&items_b, b);
    for (;;) {
        bool more = ottl_items_next(&items_a, &item_a);
        struct ottl_value value_a, value_b;

        if (more != ottl_items_next(&items_b, &item_b))
            return false;
        if (!more)
            return true;
        value_a = ottl_item_value(&item_a);
        value_b = ottl_item_value(&item_b);
        if (!equal(&value_a, &value_b, room))
            return false;
    }
}

/* Of equal type, neither a list nor a map. */
static bool scalars_equal(const struct ottl_value *a, const struct ottl_value *b)
{
    switch ((enum ottl_type)a->type) {
    case OTTL_NIL:
        return true;
    case OTTL_BOOL:
    case OTTL_INT:
    case OTTL_DURATION:
        return a->integer == b->integer;
    case OTTL_FLOAT:
        return a->number == b->number;
    case OTTL_STRING:
    case OTTL_BYTES:
    case OTTL_TRACE_ID:
    case OTTL_SPAN_ID:
        return slice_equal(a->bytes, b->bytes);
    case OTTL_TIME:
        return a->time.s == b->time.s && a->time.ns == b->time.ns;
    case OTTL_OPAQUE:
        return a->opaque.what == b->opaque.what && a->opaque.count == b->opaque.count;
    case OTTL_LIST:
    case OTTL_LITERAL_LIST:
    case OTTL_STRINGS:
    case OTTL_MAP:
        break;
    }
    return false;
}

static bool deep_equal(const struct ottl_value *a, const struct ottl_value *b, struct ottl_room *room)
{
    if (a->type != b->type)
        return false;
    if (a->type == OTTL_MAP)
        return maps_equal(a, b, room);
    if (ottl_is_list(a))
        return lists_equal(a, b, room, deep_equal);
    return scalars_equal(a, b);
}

/* An item of a literal list with one of an attribute list. */
static bool literal_item_equal(const struct ottl_value *literal, const struct ottl_value *item, struct ottl_room *room)
{
    if (literal->type == OTTL_LITERAL_LIST && item->type == OTTL_LIST)
        return lists_equal(literal, item, room, literal_item_equal);
    if (literal->type != item->type || literal->type == OTTL_MAP || ottl_is_list(literal))
        return false;
    return scalars_equal(literal, item);
}

static bool any_lists_equal(const struct ottl_value *a, const struct ottl_value *b, struct ottl_room *room)
{
    if (a->type == OTTL_LITERAL_LIST && b->type == OTTL_LIST)
        return lists_equal(a, b, room, literal_item_equal);
    if (a->type == OTTL_LIST && b->type == OTTL_LITERAL_LIST)
        return lists_equal(b, a, room, literal_item_equal);
    return deep_equal(a, b, room);
}

/* -- comparing ------------------------------------------------------------------------------------------- */

/* order: below, at or above zero. */
static bool ordered(int order, enum ottl_compare op)
{
    switch (op) {
    case OTTL_EQ:
        return order == 0;
    case OTTL_NE:
        return order != 0;
    case OTTL_LT:
        return order < 0;
    case OTTL_LE:
        return order <= 0;
    case OTTL_GT:
        return order > 0;
    case OTTL_GE:
        return order >= 0;
    }
    return false;
}

static bool compare_numbers(double a, double b, enum ottl_compare op)
{
    switch (op) {
    case OTTL_EQ:
        return a == b;
    case OTTL_NE:
        return a != b;
    case OTTL_LT:
        return a < b;
    case OTTL_LE:
        return a <= b;
    case OTTL_GT:
        return a > b;
    case OTTL_GE:
        return a >= b;
    }
    return false;
}

static int order_integers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int order_bytes(struct slice a, struct slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.at, b.at, len) : 0;

    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int order_times(struct ottl_time a, struct ottl_time b)
{
    return a.s != b.s ? order_integers(a.s, b.s) : order_integers(a.ns, b.ns);
}

static bool compare_equality(bool equal, enum ottl_compare op)
{
    return op == OTTL_EQ ? equal : op == OTTL_NE && !equal;
}

static bool is_nil(const struct ottl_value *value)
{
    return value->type == OTTL_NIL || (value->type == OTTL_BYTES && value->bytes.len == 0);
}

static double as_number(const struct ottl_value *value)
{
    return value->type == OTTL_INT ? (double)value->integer : value->number;
}

bool ottl_compare(const struct ottl_value *a, const struct ottl_value *b, enum ottl_compare op, struct ottl_room *room)
{
    if (is_nil(a) || is_nil(b))
        return is_nil(a) && is_nil(b) ? ordered(0, op) : op == OTTL_NE;
    if (ottl_is_list(a) && ottl_is_list(b))
        return compare_equality(any_lists_equal(a, b, room), op);
    if (a->type != b->type) {
        if ((a->type == OTTL_INT && b->type == OTTL_FLOAT) ||
            (a->type == OTTL_FLOAT && b->type == OTTL_INT))
            return compare_numbers(as_number(a), as_number(b), op);
        return op == OTTL_NE;
    }
    switch ((enum ottl_type)a->type) {
    case OTTL_BOOL:
    case OTTL_INT:
    case OTTL_DURATION:
        return ordered(order_integers(a->integer, b->integer), op);
    case OTTL_FLOAT:
        return compare_numbers(a->number, b->number, op);
    case OTTL_STRING:
    case OTTL_BYTES:
        return ordered(order_bytes(a->bytes, b->bytes), op);
    case OTTL_TIME:
        return ordered(order_times(a->time, b->time), op);
    case OTTL_NIL:
    case OTTL_LIST:
    case OTTL_LITERAL_LIST:
    case OTTL_STRINGS:
    case OTTL_MAP:
    case OTTL_TRACE_ID:
    case OTTL_SPAN_ID:
    case OTTL_OPAQUE:
        break;
    }
    return compare_equality(deep_equal(a, b, room), op);
}

const char *ottl_type_name(enum ottl_type type)
{
    static const char *const names[] = {
        [OTTL_NIL] = "nil",
        [OTTL_BOOL] = "bool",
        [OTTL_INT] = "int64",
        [OTTL_FLOAT] = "float64",
        [OTTL_STRING] = "string",
        [OTTL_BYTES] = "bytes",
        [OTTL_LIST] = "a list",
        [OTTL_LITERAL_LIST] = "a list",
        [OTTL_STRINGS] = "a list of strings",
        [OTTL_MAP] = "a map",
        [OTTL_TIME] = "a time",
        [OTTL_DURATION] = "a duration",
        [OTTL_TRACE_ID] = "a trace ID",
        [OTTL_SPAN_ID] = "a span ID",
        [OTTL_OPAQUE] = "a structure",
    };

    return names[type];
}
