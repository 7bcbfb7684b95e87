/* The messages of a trace request as JSON names them: one table a message, for otlp_json.c alone.
 *
 * Source  opentelemetry/proto collector trace, trace, resource and common v1: names, numbers, types
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

enum json_kind {
    JSON_STRING,
    JSON_HEX,
    JSON_BASE64,
    JSON_BOOL,
    JSON_INT64,
    JSON_UINT32,
    JSON_FIXED32,
    JSON_FIXED64,
    JSON_DOUBLE,
    JSON_ENUM,
    JSON_MESSAGE,
};

struct json_enum_name {
    const char *name;
    uint32_t number;
};

struct json_message;

struct json_field {
    struct slice name, snake_name;
    uint32_t number;
    enum json_kind kind;
    bool repeated;
    const struct json_message *message;       /* JSON_MESSAGE */
    const struct json_enum_name *enum_names;  /* JSON_ENUM: up to a name that is NULL */
};

struct json_message {
    const struct json_field *fields;
    uint32_t field_count;
    uint32_t length_guess; /* bytes kept free for the length: what most of these messages take */
    bool oneof;            /* all fields are members of one: the last stands */
};

extern const struct json_message json_trace_request, json_any_value;
