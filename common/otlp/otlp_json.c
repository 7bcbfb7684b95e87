/* yajl tells of each token, we write the bytes of the message at once, without a tree. A message's length stands before
 * its content and is known after it: as many bytes as its kind usually takes are kept free, and where that was wrong
 * the content is moved. Of some spans a request it is the two or three outermost messages that move, once each.
 *
 * What is open is a stack: a message, or the list of a message's field. What an unknown field holds is only counted,
 * to find its end.
 */
#include "common/otlp/otlp_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "common/base/error.h"
#include "common/base/num.h"
#include "common/otlp/json_scalar.h"
#include "common/otlp/otlp_json_fields.h"
#include "common/otlp/span_view.h"
#include "common/otlp/wire.h"

/* Scratch that a rare large request needed is given back after it. */
#define SCRATCH_KEPT_BYTES (4 * MIB)
/* A scalar's tag and value but for the bytes of a string. */
#define SCALAR_BYTES_MAX 16

struct open_message {
    const struct json_message *message;
    const struct json_field *field; /* whose value comes next, or whose list this is; NULL: unknown */
    bool list;                      /* open is the list of `field`, which belongs to the message below */
    uint32_t next;                  /* index of the field to try first */
    uint32_t seen;                  /* a bit a field that was written */
    size_t start;                   /* of the content in the output */
};

struct otlp_json {
    uint8_t *out;
    size_t len, capacity;
    size_t max_bytes;
    size_t depth, unknown_depth, value_depth;
    struct open_message open[OTLP_JSON_DEPTH_MAX + 1]; /* open[depth - 1] is the innermost; see unknown_depth */
    yajl_handle yajl;
    struct slice json;
    int result; /* why the reading was stopped */
    size_t fault_offset;
    char fault[160];
};

struct otlp_json *otlp_json_new(void)
{
    return calloc(1, sizeof(struct otlp_json));
}

void otlp_json_free(struct otlp_json *reader)
{
    if (!reader)
        return;
    free(reader->out);
    free(reader);
}

/* -- faults: each stops the reading --------------------------------------------------------------- */

static RARE_PATH int stop(struct otlp_json *reader, int result)
{
    reader->result = result;
    return 0;
}

/* A token that yajl gives us lies in the JSON, a string behind its quote; or in a copy of yajl's, and ends where yajl stands. */
static size_t token_offset(const struct otlp_json *reader, const uint8_t *at)
{
    if (at && at >= reader->json.at && at < reader->json.at + reader->json.len)
        return (size_t)(at - reader->json.at) - (at > reader->json.at && at[-1] == '"');
    return yajl_get_bytes_consumed(reader->yajl) - 1;
}

static RARE_PATH int malformed(struct otlp_json *reader, const void *at, const char *reason)
{
    const struct json_field *field = reader->depth > 0 ? reader->open[reader->depth - 1].field : NULL;

    reader->fault_offset = token_offset(reader, at);
    if (field && reader->unknown_depth == 0)
        snprintf(reader->fault, sizeof(reader->fault), "%.*s: %s", (int)field->name.len, (const char *)field->name.at, reason);
    else
        snprintf(reader->fault, sizeof(reader->fault), "%s", reason);
    return stop(reader, OTLP_JSON_E_MALFORMED);
}

/* The place of a token of this length that yajl has just read. */
static const uint8_t *token_read(const struct otlp_json *reader, size_t len)
{
    size_t end = yajl_get_bytes_consumed(reader->yajl);

    return end >= len ? reader->json.at + end - len : NULL;
}

/* -- output --------------------------------------------------------------------------------------- */

/* More than the request's bytes are needed at times: what is kept free for lengths that turn out short. */
static RARE_PATH bool grow(struct otlp_json *reader, size_t more)
{
    size_t need, capacity, most = reader->max_bytes;
    uint8_t *out;

    if (!size_add(most, sizeof(uint32_t) * OTLP_JSON_DEPTH_MAX + SCALAR_BYTES_MAX, &most))
        most = SIZE_MAX;
    if (!size_add(reader->len, more, &need) || need > most) {
        stop(reader, OTLP_JSON_E_TOO_LARGE);
        return false;
    }
    capacity = size_min(size_max(need, reader->capacity * 2), most);
    out = realloc(reader->out, capacity);
    if (!out) {
        stop(reader, error_raise(-ENOMEM));
        return false;
    }
    reader->out = out;
    reader->capacity = capacity;
    return true;
}

HOT_INLINE bool room(struct otlp_json *reader, size_t more)
{
    return LIKELY(reader->capacity - reader->len >= more) || grow(reader, more);
}

static inline void put_end(struct otlp_json *reader, const uint8_t *end)
{
    reader->len = (size_t)(end - reader->out);
}

static int put_number(struct otlp_json *reader, const struct json_field *field, uint64_t value, enum wire_type type)
{
    uint8_t *out;

    if (!room(reader, SCALAR_BYTES_MAX))
        return 0;
    out = wire_put_varint(reader->out + reader->len, WIRE_TAG(field->number, type));
    if (type == WIRE_VARINT) {
        out = wire_put_varint(out, value);
    } else { /* little endian, as this machine is: see wire.c */
        memcpy(out, &value, type == WIRE_FIXED64 ? 8 : 4);
        out += type == WIRE_FIXED64 ? 8 : 4;
    }
    put_end(reader, out);
    return 1;
}

static int put_text(struct otlp_json *reader, const struct json_field *field, struct slice text)
{
    if (!room(reader, text.len + SCALAR_BYTES_MAX))
        return 0;
    put_end(reader, wire_put_bytes(reader->out + reader->len, WIRE_TAG(field->number, WIRE_BYTES), text.at, text.len));
    return 1;
}

/* Content was written behind `guess` bytes kept for its length: the length takes its place. */
static int put_length(struct otlp_json *reader, size_t start, size_t guess)
{
    size_t len = reader->len - start, size = wire_varint_size(len);

    if (UNLIKELY(size != guess)) {
        if (!room(reader, size))
            return 0;
        memmove(reader->out + start - guess + size, reader->out + start, len);
        reader->len = start - guess + size + len;
    }
    wire_put_varint(reader->out + start - guess, len);
    return 1;
}

/* -- the stack ------------------------------------------------------------------------------------ */

static inline struct open_message *top(struct otlp_json *reader)
{
    return reader->depth > 0 ? &reader->open[reader->depth - 1] : NULL;
}

/* The field that the coming value is for; NULL: unknown, or the request itself. */
static inline const struct json_field *awaited(struct otlp_json *reader)
{
    return reader->unknown_depth == 0 && reader->depth > 0 ? reader->open[reader->depth - 1].field : NULL;
}

static bool too_deep(struct otlp_json *reader)
{
    if (LIKELY(reader->depth + reader->unknown_depth < OTLP_JSON_DEPTH_MAX))
        return false;
    malformed(reader, NULL, "nested too deep");
    return true;
}

static inline bool in_unknown(struct otlp_json *reader)
{
    return reader->unknown_depth > 0 || (reader->depth > 0 && !reader->open[reader->depth - 1].field);
}

/* Before a field's value is written: its bit is set, and of a oneof what stood there goes. Returns whether a default
 * value must be written too: where it replaces another, or is a member of a oneof. */
static inline bool begin_field(struct otlp_json *reader, const struct json_field *field)
{
    struct open_message *open = top(reader);
    uint32_t bit;
    bool again;

    if (UNLIKELY(open->list))
        return true;
    bit = 1u << (field - open->message->fields);
    again = open->seen & bit;
    open->seen |= bit;
    if (open->message->oneof) {
        reader->len = open->start;
        return true;
    }
    return again;
}

static int open_message(struct otlp_json *reader, const struct json_message *message, const struct json_field *field)
{
    if (field) {
        begin_field(reader, field);
        if (!room(reader, SCALAR_BYTES_MAX))
            return 0;
        put_end(reader, wire_put_varint(reader->out + reader->len, WIRE_TAG(field->number, WIRE_BYTES)) + message->length_guess);
    }
    if (message == &json_any_value && ++reader->value_depth > VALUE_DEPTH_MAX)
        return malformed(reader, NULL, "values nested too deep");
    reader->open[reader->depth++] = (struct open_message){.message = message, .start = reader->len};
    return 1;
}

static int close_message(struct otlp_json *reader)
{
    struct open_message *open = &reader->open[--reader->depth];

    if (open->message == &json_any_value)
        reader->value_depth--;
    return reader->depth == 0 || put_length(reader, open->start, open->message->length_guess);
}

/* -- what yajl tells ------------------------------------------------------------------------------ */

static int on_start_map(void *context)
{
    struct otlp_json *reader = context;
    const struct json_field *field = awaited(reader);

    if (too_deep(reader))
        return 0;
    if (reader->depth == 0)
        return open_message(reader, &json_trace_request, NULL);
    if (in_unknown(reader)) {
        reader->unknown_depth++;
        return 1;
    }
    if (field->kind != JSON_MESSAGE)
        return malformed(reader, NULL, "an object where a value belongs");
    if (field->repeated && !top(reader)->list)
        return malformed(reader, NULL, "an object where a list belongs");
    return open_message(reader, field->message, field);
}

static int on_end(void *context)
{
    struct otlp_json *reader = context;

    if (reader->unknown_depth > 0) {
        reader->unknown_depth--;
        return 1;
    }
    if (top(reader)->list) {
        reader->depth--;
        return 1;
    }
    return close_message(reader);
}

static int on_start_array(void *context)
{
    struct otlp_json *reader = context;
    const struct json_field *field = awaited(reader);

    if (too_deep(reader))
        return 0;
    if (reader->depth == 0)
        return malformed(reader, NULL, "a list where the request's object belongs");
    if (in_unknown(reader)) {
        reader->unknown_depth++;
        return 1;
    }
    if (!field->repeated || top(reader)->list)
        return malformed(reader, NULL, "a list where none belongs");
    reader->open[reader->depth] = (struct open_message){.message = top(reader)->message, .field = field, .list = true};
    reader->depth++;
    return 1;
}

/* Fields come mostly in the order of the table: the first look is at the one after the last. */
static int on_key(void *context, const unsigned char *at, size_t len)
{
    struct otlp_json *reader = context;
    struct open_message *open = top(reader);
    struct slice key = {at, len};

    if (reader->unknown_depth > 0)
        return 1;
    open->field = NULL;
    for (uint32_t i = 0, index = open->next; i < open->message->field_count; i++, index++) {
        const struct json_field *field;

        if (index >= open->message->field_count)
            index = 0;
        field = &open->message->fields[index];
        if (slice_equal(field->name, key) || slice_equal(field->snake_name, key)) {
            open->field = field;
            open->next = index + 1;
            break;
        }
    }
    return 1;
}

/* In a list of messages null is an empty one, as the Collector reads it; elsewhere it says nothing. */
static int on_null(void *context)
{
    struct otlp_json *reader = context;
    const struct json_field *field = awaited(reader);

    if (reader->depth == 0)
        return malformed(reader, token_read(reader, strlen("null")), "null where the request's object belongs");
    if (!field || !top(reader)->list)
        return 1;
    if (field->kind == JSON_MESSAGE)
        return put_text(reader, field, (struct slice){NULL, 0});
    return malformed(reader, token_read(reader, strlen("null")), "null in a list");
}

static int on_boolean(void *context, int value)
{
    struct otlp_json *reader = context;
    const struct json_field *field = awaited(reader);

    if (reader->depth == 0)
        return malformed(reader, token_read(reader, strlen(value ? "true" : "false")), "true or false where the request's object belongs");
    if (!field)
        return 1;
    if (field->kind != JSON_BOOL)
        return malformed(reader, token_read(reader, strlen(value ? "true" : "false")), "true or false where it does not belong");
    begin_field(reader, field);
    return put_number(reader, field, value != 0, WIRE_VARINT);
}

static bool in_range(enum json_kind kind, struct json_integer integer)
{
    uint64_t most = UINT64_MAX, least = 0;

    if (kind == JSON_UINT32 || kind == JSON_FIXED32)
        most = UINT32_MAX;
    if (kind == JSON_INT64 || kind == JSON_ENUM) {
        most = kind == JSON_INT64 ? INT64_MAX : INT32_MAX;
        least = most + 1;
    }
    return integer.magnitude <= (integer.negative ? least : most);
}

static int put_integer(struct otlp_json *reader, const struct json_field *field, struct slice text)
{
    struct json_integer integer;
    uint64_t value;

    if (UNLIKELY(!json_integer_read(text, &integer)))
        return malformed(reader, text.at, "not a whole number");
    if (UNLIKELY(!in_range(field->kind, integer)))
        return malformed(reader, text.at, "out of range");
    value = integer.negative ? 0 - integer.magnitude : integer.magnitude;
    if (!begin_field(reader, field) && value == 0)
        return 1;
    if (field->kind == JSON_FIXED64 || field->kind == JSON_FIXED32)
        return put_number(reader, field, value, field->kind == JSON_FIXED64 ? WIRE_FIXED64 : WIRE_FIXED32);
    return put_number(reader, field, value, WIRE_VARINT);
}

static int put_double(struct otlp_json *reader, const struct json_field *field, struct slice text)
{
    double number;
    uint64_t bits;

    if (!json_double_read(text, &number))
        return malformed(reader, text.at, "not a number that a double holds");
    memcpy(&bits, &number, sizeof(bits));
    begin_field(reader, field);
    return put_number(reader, field, bits, WIRE_FIXED64);
}

static int put_enum_name(struct otlp_json *reader, const struct json_field *field, struct slice text)
{
    for (const struct json_enum_name *known = field->enum_names; known->name; known++) {
        if (!slice_equal(slice_text(known->name), text))
            continue;
        if (!begin_field(reader, field) && known->number == 0)
            return 1;
        return put_number(reader, field, known->number, WIRE_VARINT);
    }
    return malformed(reader, text.at, "no such name");
}

/* IDs of any length: what is wrong with one is that span's fault, as in the protobuf form. */
static int put_hex(struct otlp_json *reader, const struct json_field *field, struct slice text)
{
    size_t len = text.len / 2;
    uint8_t *out;

    if (!begin_field(reader, field) && len == 0 && text.len == 0)
        return 1;
    if (!room(reader, len + SCALAR_BYTES_MAX))
        return 0;
    out = wire_put_varint(reader->out + reader->len, WIRE_TAG(field->number, WIRE_BYTES));
    out = wire_put_varint(out, len);
    if (!json_hex_read(text, out))
        return malformed(reader, text.at, "not hexadecimal");
    put_end(reader, out + len);
    return 1;
}

/* Content was decoded in free_bytes(): behind the place of the longest tag and length, to be moved behind its own. */
static int put_decoded(struct otlp_json *reader, const struct json_field *field, const uint8_t *content, size_t len)
{
    uint8_t *out = wire_put_varint(reader->out + reader->len, WIRE_TAG(field->number, WIRE_BYTES));

    out = wire_put_varint(out, len);
    memmove(out, content, len);
    put_end(reader, out + len);
    return 1;
}

static uint8_t *free_bytes(struct otlp_json *reader, size_t len)
{
    return room(reader, len + SCALAR_BYTES_MAX) ? reader->out + reader->len + SCALAR_BYTES_MAX : NULL;
}

static int put_base64(struct otlp_json *reader, const struct json_field *field, struct slice text)
{
    uint8_t *content;
    size_t len;

    begin_field(reader, field);
    content = free_bytes(reader, JSON_BASE64_BYTES(text.len));
    if (!content)
        return 0;
    if (!json_base64_read(text, content, &len))
        return malformed(reader, text.at, "not base64");
    return put_decoded(reader, field, content, len);
}

/* yajl's own reading of escapes writes broken surrogates as they come: the raw text, which ends before the quote where
 * yajl stands and begins behind the last quote without a backslash, is read anew. */
static struct slice raw_text(const struct otlp_json *reader)
{
    const uint8_t *end = reader->json.at + yajl_get_bytes_consumed(reader->yajl) - 1, *at = end;

    for (;;) {
        size_t backslashes = 0;

        while (at[-1] != '"')
            at--;
        while (at[-2 - (ptrdiff_t)backslashes] == '\\')
            backslashes++;
        if (backslashes % 2 == 0)
            return slice_make(at, (size_t)(end - at));
        at -= 1 + backslashes;
    }
}

static RARE_PATH int put_escaped(struct otlp_json *reader, const struct json_field *field)
{
    struct slice raw = raw_text(reader);
    uint8_t *content = free_bytes(reader, raw.len);

    return content && put_decoded(reader, field, content, json_unescape(raw, content));
}

static int put_string(struct otlp_json *reader, const struct json_field *field, struct slice text)
{
    bool always = begin_field(reader, field);

    if (text.len == 0 && !always)
        return 1;
    if (UNLIKELY(text.len > 0 && !(text.at >= reader->json.at && text.at < reader->json.at + reader->json.len)))
        return put_escaped(reader, field);
    return put_text(reader, field, text);
}

static int on_string(void *context, const unsigned char *at, size_t len)
{
    struct otlp_json *reader = context;
    const struct json_field *field = awaited(reader);
    struct slice text = {at, len};

    if (reader->depth == 0)
        return malformed(reader, at, "a string where the request's object belongs");
    if (!field)
        return 1;
    if (UNLIKELY(field->repeated && !top(reader)->list))
        return malformed(reader, at, "a string where a list belongs");
    switch (field->kind) {
    case JSON_STRING:
        return put_string(reader, field, text);
    case JSON_HEX:
        return put_hex(reader, field, text);
    case JSON_BASE64:
        return put_base64(reader, field, text);
    case JSON_INT64:
    case JSON_UINT32:
    case JSON_FIXED32:
    case JSON_FIXED64:
        return put_integer(reader, field, text);
    case JSON_DOUBLE:
        return put_double(reader, field, text);
    case JSON_ENUM:
        return put_enum_name(reader, field, text);
    case JSON_BOOL:
    case JSON_MESSAGE:
        break;
    }
    return malformed(reader, at, "a string where it does not belong");
}

static int on_number(void *context, const char *at, size_t len)
{
    struct otlp_json *reader = context;
    const struct json_field *field = awaited(reader);
    struct slice text = slice_make(at, len);

    if (reader->depth == 0)
        return malformed(reader, at, "a number where the request's object belongs");
    if (!field)
        return 1;
    switch (field->kind) {
    case JSON_INT64:
    case JSON_UINT32:
    case JSON_FIXED32:
    case JSON_FIXED64:
    case JSON_ENUM:
        return put_integer(reader, field, text);
    case JSON_DOUBLE:
        return put_double(reader, field, text);
    case JSON_STRING:
    case JSON_HEX:
    case JSON_BASE64:
    case JSON_BOOL:
    case JSON_MESSAGE:
        break;
    }
    return malformed(reader, at, "a number where it does not belong");
}

/* -- one request ---------------------------------------------------------------------------------- */

static void write_fault(const struct otlp_json *reader, char *out_error, size_t error_size)
{
    size_t line = 1, line_start = 0, offset = size_min(reader->fault_offset, reader->json.len);

    for (size_t i = 0; i < offset; i++) {
        if (reader->json.at[i] == '\n') {
            line++;
            line_start = i + 1;
        }
    }
    snprintf(out_error, error_size, "line %zu, column %zu: %s", line, offset - line_start + 1, reader->fault);
}

/* yajl's own complaints: one line, of what was wrong, without the text. */
static void note_yajl_error(struct otlp_json *reader, size_t offset)
{
    unsigned char *text = yajl_get_error(reader->yajl, 0, NULL, 0);

    reader->fault_offset = offset;
    snprintf(reader->fault, sizeof(reader->fault), "%s", text ? (const char *)text : "not JSON");
    reader->fault[strcspn(reader->fault, "\n")] = '\0';
    if (text)
        yajl_free_error(reader->yajl, text);
    reader->result = OTLP_JSON_E_MALFORMED;
}

static void parse(struct otlp_json *reader)
{
    yajl_status status = yajl_parse(reader->yajl, reader->json.at, reader->json.len);
    size_t offset = yajl_get_bytes_consumed(reader->yajl);

    if (status == yajl_status_ok) {
        status = yajl_complete_parse(reader->yajl);
        offset = reader->json.len;
    }
    if (status == yajl_status_error)
        note_yajl_error(reader, offset);
}

static int read_request(struct otlp_json *reader, struct buffer **out_request)
{
    struct buffer *request;

    parse(reader);
    if (reader->result)
        return reader->result;
    if (reader->len > reader->max_bytes)
        return OTLP_JSON_E_TOO_LARGE;
    request = buffer_new(reader->len);
    if (!request)
        return error_raise(-ENOMEM);
    if (reader->len > 0)
        memcpy(request->bytes, reader->out, reader->len);
    request->len = reader->len;
    *out_request = request;
    return 0;
}

static struct slice without_byte_order_mark(struct slice json)
{
    if (json.len >= 3 && memcmp(json.at, "\xef\xbb\xbf", 3) == 0)
        return slice_make(json.at + 3, json.len - 3);
    return json;
}

int otlp_json_read(struct otlp_json *reader, struct slice json, size_t max_bytes, struct buffer **out_request, char *out_error,
    size_t error_size)
{
    static const yajl_callbacks callbacks = {.yajl_null = on_null, .yajl_boolean = on_boolean, .yajl_number = on_number,
        .yajl_string = on_string, .yajl_start_map = on_start_map, .yajl_map_key = on_key, .yajl_end_map = on_end,
        .yajl_start_array = on_start_array, .yajl_end_array = on_end};
    int r;

    reader->json = without_byte_order_mark(json);
    reader->max_bytes = max_bytes;
    reader->len = reader->depth = reader->unknown_depth = reader->value_depth = 0;
    reader->result = 0;
    reader->yajl = yajl_alloc(&callbacks, NULL, reader);
    if (!reader->yajl)
        return error_raise(-ENOMEM);
    yajl_config(reader->yajl, yajl_dont_validate_strings, 1); /* protobuf's strings are not judged either: span_view.h */
    r = read_request(reader, out_request);
    yajl_free(reader->yajl);
    if (r == OTLP_JSON_E_MALFORMED)
        write_fault(reader, out_error, error_size);
    if (reader->capacity > SCRATCH_KEPT_BYTES) {
        free(reader->out);
        reader->out = NULL;
        reader->capacity = 0;
    }
    return r;
}
