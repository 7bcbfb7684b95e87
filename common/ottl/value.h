/* A value at run time, and how two of them compare.
 *
 * Lists and maps are read where they lie: on the wire (the repeated field of a message, or of a header's messages) or as an
 * array of values that a literal or a converter made. Nothing is owned: bytes belong to the span, the program or the arena.
 * Three kinds of list compare by different rules in the Collector, because Go has three types for them: attribute lists,
 * literal lists, and lists of strings that Split made.
 * Source  OTTL comparison rules: incompatible types are unequal, and neither less nor greater.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/ottl/arena.h"
#include "common/otlp/wire.h"

enum ottl_type {
    OTTL_NIL,
    OTTL_BOOL,
    OTTL_INT,
    OTTL_FLOAT,
    OTTL_STRING,
    OTTL_BYTES,
    OTTL_LIST,         /* of an attribute, or made by a converter */
    OTTL_LITERAL_LIST, /* [a, b] */
    OTTL_STRINGS,      /* Split's */
    OTTL_MAP,
    OTTL_TIME,
    OTTL_DURATION,
    OTTL_TRACE_ID,
    OTTL_SPAN_ID,
    OTTL_OPAQUE, /* a structure that can only be compared with itself: span.status, span.events, span.links */
};

enum ottl_form { OTTL_OWN, OTTL_ON_WIRE, OTTL_IN_HEADER };

struct ottl_time {
    int64_t s; /* since 1 January of the year 1, so that it wraps where Go's does */
    uint32_t ns;
    int32_t zone_s; /* east of UTC, as its text had it: only its own text tells */
};

struct ottl_entry;

struct ottl_value {
    uint8_t type; /* enum ottl_type */
    uint8_t form; /* enum ottl_form, of lists and maps */
    uint32_t tag; /* on the wire: of the repeated field */
    union {
        int64_t integer; /* also of a bool; of a duration in ns */
        double number;
        struct slice bytes; /* string, bytes, IDs; on the wire: the message */
        struct ottl_time time;
        struct {
            const struct ottl_entry *entries;
            size_t count;
        } own;
        struct {
            uint32_t what; /* which structure */
            int64_t count; /* of its items; -1: it has none to count */
        } opaque;
    };
};

struct ottl_entry { /* of a list: without key */
    struct slice key;
    struct ottl_value value;
    uint32_t order; /* where it stood, while entries are sorted */
};
/* By key; equal ones as they stood. */
void ottl_entries_sort(struct ottl_entry *entries, size_t count);

static inline struct ottl_value ottl_nil(void)
{
    return (struct ottl_value){.type = OTTL_NIL};
}

static inline struct ottl_value ottl_bool(bool value)
{
    return (struct ottl_value){.type = OTTL_BOOL, .integer = value};
}

static inline struct ottl_value ottl_int(int64_t value)
{
    return (struct ottl_value){.type = OTTL_INT, .integer = value};
}

static inline struct ottl_value ottl_float(double value)
{
    return (struct ottl_value){.type = OTTL_FLOAT, .number = value};
}

static inline struct ottl_value ottl_bytes(enum ottl_type type, struct slice bytes)
{
    return (struct ottl_value){.type = (uint8_t)type, .bytes = bytes};
}

static inline struct ottl_value ottl_string(struct slice text)
{
    return ottl_bytes(OTTL_STRING, text);
}

static inline struct ottl_value ottl_duration(int64_t ns)
{
    return (struct ottl_value){.type = OTTL_DURATION, .integer = ns};
}

static inline struct ottl_value ottl_on_wire(enum ottl_type type, enum ottl_form form, struct slice message, uint32_t tag)
{
    return (struct ottl_value){.type = (uint8_t)type, .form = (uint8_t)form, .tag = tag, .bytes = message};
}

static inline struct ottl_value ottl_own(enum ottl_type type, const struct ottl_entry *entries, size_t count)
{
    return (struct ottl_value){.type = (uint8_t)type, .form = OTTL_OWN, .own = {entries, count}};
}

/* Seconds and nanoseconds since 1970, the latter any number. */
struct ottl_value ottl_time_of(int64_t unix_s, int64_t ns);
int64_t ottl_time_unix_s(struct ottl_time time);
struct ottl_time ottl_time_add(struct ottl_time time, int64_t ns);
int64_t ottl_time_sub(struct ottl_time a, struct ottl_time b); /* saturates */

/* What an AnyValue holds; its bytes were checked (span_view.h). */
struct ottl_value ottl_value_of(struct slice any_value);

static inline bool ottl_is_list(const struct ottl_value *value)
{
    return value->type == OTTL_LIST || value->type == OTTL_LITERAL_LIST || value->type == OTTL_STRINGS;
}

/* -- lists and maps ------------------------------------------------------------------------------------ */

struct ottl_items {
    struct wire outer, inner;
    const struct ottl_entry *at, *end;
    uint32_t tag;
    uint8_t type, form;
};

void ottl_items_start(struct ottl_items *items, const struct ottl_value *of);
/* key and value as they stand; a value on the wire is not read yet. False: no more. */
struct ottl_item {
    struct slice key;
    struct slice any_value;          /* on the wire */
    const struct ottl_value *value;  /* else NULL */
};
bool ottl_items_next(struct ottl_items *items, struct ottl_item *out_item);
struct ottl_value ottl_item_value(const struct ottl_item *item);
size_t ottl_items_count(const struct ottl_value *of);
/* The first entry with the key. False: there is none. */
bool ottl_map_get(const struct ottl_value *map, struct slice key, struct ottl_value *out_value);
/* False: out of bounds. */
bool ottl_list_get(const struct ottl_value *list, int64_t index, struct ottl_value *out_value);

struct arena;

/* -- comparing ----------------------------------------------------------------------------------------- */

enum ottl_compare { OTTL_EQ, OTTL_NE, OTTL_LT, OTTL_LE, OTTL_GT, OTTL_GE };

/* Where the entries of large maps are sorted, so that comparing costs little more than reading both. full: it did not
 * suffice, and the answer says nothing. */
struct ottl_room {
    struct arena *arena;
    bool full;
};

bool ottl_compare(const struct ottl_value *a, const struct ottl_value *b, enum ottl_compare op, struct ottl_room *room);

/* The Collector's word for a value's type, for messages. */
const char *ottl_type_name(enum ottl_type type);
