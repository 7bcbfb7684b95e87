#include "bench/json_print.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"

struct printer {
    struct buffer *out;
};

static void put(struct printer *printer, const void *at, size_t len)
{
    struct buffer *out = printer->out;

    if (out->len + len > out->capacity) {
        struct buffer *larger = buffer_new((out->len + len) * 2);

        ASSERT(larger);
        memcpy(larger->bytes, out->bytes, out->len);
        larger->len = out->len;
        buffer_unref(out);
        printer->out = out = larger;
    }
    memcpy(out->bytes + out->len, at, len);
    out->len += len;
}

__attribute__((format(printf, 2, 3))) static void putf(struct printer *printer, const char *format, ...)
{
    char text[64];
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    ASSERT(len >= 0 && (size_t)len < sizeof(text));
    put(printer, text, (size_t)len);
}

static void put_text(struct printer *printer, const uint8_t *at, size_t len)
{
    put(printer, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        if (at[i] == '"' || at[i] == '\\' || at[i] < 0x20)
            putf(printer, "\\u%04x", at[i]);
        else
            put(printer, &at[i], 1);
    }
    put(printer, "\"", 1);
}

static void put_hex(struct printer *printer, const uint8_t *at, size_t len)
{
    put(printer, "\"", 1);
    for (size_t i = 0; i < len; i++)
        putf(printer, "%02x", at[i]);
    put(printer, "\"", 1);
}

/* start_time_unix_nano as startTimeUnixNano. */
static void put_name(struct printer *printer, const char *name)
{
    put(printer, "\"", 1);
    for (; *name; name++) {
        char c = *name;

        if (c == '_' && name[1])
            c = (char)(*++name - 'a' + 'A');
        put(printer, &c, 1);
    }
    put(printer, "\":", 2);
}

static void put_message(struct printer *printer, const ProtobufCMessage *message);

static bool is_id(const char *name)
{
    return strcmp(name, "trace_id") == 0 || strcmp(name, "span_id") == 0 || strcmp(name, "parent_span_id") == 0;
}

static void put_value(struct printer *printer, const ProtobufCFieldDescriptor *field, const uint8_t *at)
{
    const ProtobufCBinaryData *bytes = (const void *)at;

    switch ((unsigned)field->type) {
    case PROTOBUF_C_TYPE_INT32:
        putf(printer, "%" PRId32, *(const int32_t *)(const void *)at);
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        putf(printer, "%" PRIu32, *(const uint32_t *)(const void *)at);
        break;
    case PROTOBUF_C_TYPE_INT64:
        putf(printer, "\"%" PRId64 "\"", *(const int64_t *)(const void *)at);
        break;
    case PROTOBUF_C_TYPE_FIXED64:
        putf(printer, "\"%" PRIu64 "\"", *(const uint64_t *)(const void *)at);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        putf(printer, "%.17g", *(const double *)(const void *)at);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        putf(printer, *(const protobuf_c_boolean *)(const void *)at ? "true" : "false");
        break;
    case PROTOBUF_C_TYPE_BYTES:
        if (is_id(field->name))
            put_hex(printer, bytes->data, bytes->len);
        else
            put_text(printer, bytes->data, bytes->len);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        put_message(printer, *(ProtobufCMessage *const *)(const void *)at);
        break;
    default:
        UNREACHABLE("a type that OTLP does not have");
    }
}

static size_t size_of(const ProtobufCFieldDescriptor *field)
{
    switch ((unsigned)field->type) {
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(ProtobufCMessage *);
    default:
        return 8; /* no repeated numbers in OTLP's traces */
    }
}

static bool is_present(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const uint8_t *quantifier = (const uint8_t *)message + field->quantifier_offset;

    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return *(const uint32_t *)(const void *)quantifier == field->id;
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)(const void *)quantifier > 0;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(void *const *)(const void *)((const uint8_t *)message + field->offset) != NULL;
    return field->quantifier_offset == 0 || *(const protobuf_c_boolean *)(const void *)quantifier;
}

static void put_field(struct printer *printer, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const uint8_t *at = (const uint8_t *)message + field->offset;
    size_t count;

    put_name(printer, field->name);
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        put_value(printer, field, at);
        return;
    }
    count = *(const size_t *)(const void *)((const uint8_t *)message + field->quantifier_offset);
    at = *(const uint8_t *const *)(const void *)at;
    put(printer, "[", 1);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            put(printer, ",", 1);
        put_value(printer, field, at + i * size_of(field));
    }
    put(printer, "]", 1);
}

static void put_message(struct printer *printer, const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    bool first = true;

    put(printer, "{", 1);
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        if (!is_present(message, &descriptor->fields[i]))
            continue;
        if (!first)
            put(printer, ",", 1);
        first = false;
        put_field(printer, message, &descriptor->fields[i]);
    }
    put(printer, "}", 1);
}

struct buffer *json_print(const ProtobufCMessage *message)
{
    struct printer printer = {buffer_new(64 * 1024)};

    ASSERT(printer.out);
    put_message(&printer, message);
    return printer.out;
}
