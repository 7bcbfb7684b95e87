/* Values into other values, as the Collector's Go code turns them: texts, numbers, JSON. */
#pragma once

#include "common/ottl/arena.h"
#include "common/ottl/value.h"

/* A text being written into an arena. After `full`, nothing more is written. */
struct text_out {
    struct arena *arena;
    uint8_t *at;
    size_t len, capacity;
    bool full;
};

/* Room for so many bytes in all, so that it need not grow. */
void text_reserve(struct text_out *out, size_t capacity);
void text_add(struct text_out *out, const void *at, size_t len);
void text_add_string(struct text_out *out, const char *text);
void text_add_rune(struct text_out *out, uint32_t rune);
void text_add_hex(struct text_out *out, struct slice bytes);
struct slice text_slice(const struct text_out *out);

#define CONVERT_E_TYPE 1   /* no such value can be made of it */
#define CONVERT_E_FULL 2   /* no room in the arena */
/* The value's text: strings as they are, bytes in hex, everything else as JSON. Not for nil. */
int convert_text(struct arena *arena, const struct ottl_value *value, struct slice *out_text);

/* Go's strconv. False: not such a number, or out of range. */
bool convert_parse_int(struct slice text, int64_t *out_integer);
bool convert_parse_float(struct slice text, double *out_number);
bool convert_parse_bool(struct slice text, bool *out_bool);
int64_t convert_truncate(double number); /* as amd64 does: what does not fit is INT64_MIN */

#define FLOAT_TEXT_SIZE 400 /* 1e-323 and 1e308 without exponent fit */
/* The shortest decimal that reads back as the same number; with an exponent below 1e-6 and from 1e21 on. */
size_t convert_float_text(double number, char text[FLOAT_TEXT_SIZE]);

/* Parses a JSON object or array; numbers become floats; of equal names the last one counts. */
int convert_parse_json(struct arena *arena, struct slice text, struct ottl_value *out_value);
