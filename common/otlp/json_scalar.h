/* What stands in JSON's strings and numbers, as values: protobuf's JSON mapping of scalars.
 *
 * Each takes the text without its quotes and returns whether it is one; out values are written only then.
 * Source  protobuf's JSON mapping; what text becomes of broken \u pairs as the Collector decides
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

struct json_integer {
    bool negative;
    uint64_t magnitude;
};

/* A decimal number whose value is whole, however it is written: 1000, 1e3, 10.00e2. */
bool json_integer_read(struct slice text, struct json_integer *out_integer);
/* A decimal number that a double can hold, or NaN, Infinity, -Infinity. */
bool json_double_read(struct slice text, double *out_number);
/* Hexadecimal of either case, an even number of digits: writes text.len / 2 bytes. */
bool json_hex_read(struct slice text, uint8_t *out);
/* Base64 of either alphabet, padded or not; line ends are skipped. Writes at most JSON_BASE64_BYTES(text.len) bytes. */
#define JSON_BASE64_BYTES(len) ((len) / 4 * 3 + 3)
bool json_base64_read(struct slice text, uint8_t *out, size_t *out_len);
/* The raw text of a string whose escapes were found well-formed; writes at most raw.len bytes and returns how many.
 * Half of a surrogate pair becomes U+FFFD. */
size_t json_unescape(struct slice raw, uint8_t *out);
