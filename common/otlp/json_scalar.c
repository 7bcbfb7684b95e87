/* Integers are read exactly, not by way of a double: zeros are held back until a digit follows them, so that what is
 * left of "10.00e2" at its end is 1 and how often to multiply it by ten. */
#include "common/otlp/json_scalar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/otlp/wire.h"

/* -- numbers ------------------------------------------------------------------------------------ */

/* A decimal number taken apart. */
struct decimal {
    bool negative;
    bool too_long;     /* more digits than 64 bits hold */
    uint64_t mantissa; /* without the zeros at its end */
    int64_t exponent;  /* of ten */
};

/* No number whose exponent is further from zero is told from one that is this far: either way it fits nothing. */
#define EXPONENT_MAX 1000000

static inline bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Multiplies by ten, so often; false when 64 bits do not hold it. */
static bool shift_decimal(uint64_t *value, int64_t times)
{
    if (*value == 0)
        return true;
    for (; times > 0; times--) {
        if (__builtin_mul_overflow(*value, 10u, value))
            return false;
    }
    return true;
}

/* Digits up to something else. zeros: how many are held back. */
static const uint8_t *read_digits(const uint8_t *at, const uint8_t *end, struct decimal *number, int64_t *zeros)
{
    for (; at < end && is_digit(*at); at++) {
        if (*at == '0') {
            ++*zeros;
            continue;
        }
        number->too_long |= !shift_decimal(&number->mantissa, *zeros + 1) ||
            __builtin_add_overflow(number->mantissa, (uint64_t)(*at - '0'), &number->mantissa);
        *zeros = 0;
    }
    return at;
}

static const uint8_t *read_exponent(const uint8_t *at, const uint8_t *end, int64_t *out_exponent)
{
    bool negative = at < end && *at == '-';
    int64_t exponent = 0;

    if (at < end && (*at == '-' || *at == '+'))
        at++;
    if (at == end)
        return NULL;
    for (; at < end; at++) {
        if (!is_digit(*at))
            return NULL;
        if (exponent < EXPONENT_MAX)
            exponent = exponent * 10 + (*at - '0');
    }
    *out_exponent = negative ? -exponent : exponent;
    return at;
}

static bool decimal_read(struct slice text, struct decimal *number)
{
    const uint8_t *at = text.at, *end = text.at + text.len, *digits;
    int64_t zeros = 0, fraction_len = 0, exponent = 0;

    *number = (struct decimal){.negative = at < end && *at == '-'};
    at += number->negative;
    digits = at;
    at = read_digits(at, end, number, &zeros);
    if (at == digits)
        return false;
    if (at < end && *at == '.') {
        digits = ++at;
        at = read_digits(at, end, number, &zeros);
        fraction_len = at - digits;
        if (fraction_len == 0)
            return false;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at = read_exponent(at + 1, end, &exponent);
        if (!at)
            return false;
    }
    number->exponent = exponent + zeros - fraction_len;
    return at == end;
}

static RARE_PATH bool odd_integer_read(struct slice text, struct json_integer *out_integer)
{
    struct decimal number;

    if (!decimal_read(text, &number) || number.too_long)
        return false;
    if (number.mantissa != 0 && (number.exponent < 0 || !shift_decimal(&number.mantissa, number.exponent)))
        return false;
    *out_integer = (struct json_integer){number.negative, number.mantissa};
    return true;
}

bool json_integer_read(struct slice text, struct json_integer *out_integer)
{
    uint64_t value = 0;

    /* Nineteen digits are always held: no look at overflow is needed. */
    if (UNLIKELY(text.len == 0 || text.len > 19))
        return odd_integer_read(text, out_integer);
    for (size_t i = 0; i < text.len; i++) {
        if (UNLIKELY(!is_digit(text.at[i])))
            return odd_integer_read(text, out_integer);
        value = value * 10 + (uint64_t)(text.at[i] - '0');
    }
    *out_integer = (struct json_integer){false, value};
    return true;
}

static bool named_double(struct slice text, double *out_number)
{
    if (slice_equal(text, SLICE_LITERAL("NaN")))
        *out_number = (double)NAN;
    else if (slice_equal(text, SLICE_LITERAL("Infinity")))
        *out_number = (double)INFINITY;
    else if (slice_equal(text, SLICE_LITERAL("-Infinity")))
        *out_number = -(double)INFINITY;
    else
        return false;
    return true;
}

bool json_double_read(struct slice text, double *out_number)
{
    struct decimal number;
    char small[64], *copy = small;
    double value;

    if (!decimal_read(text, &number))
        return named_double(text, out_number);
    if (text.len >= sizeof(small)) {
        copy = malloc(text.len + 1);
        if (!copy)
            return false;
    }
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    value = strtod(copy, NULL);
    if (copy != small)
        free(copy);
    if (!isfinite(value))
        return false;
    *out_number = value;
    return true;
}

/* -- bytes -------------------------------------------------------------------------------------- */

#define NO_DIGIT 0xff

static inline uint8_t hex_digit(uint8_t c)
{
    uint8_t letter = (uint8_t)((c | 0x20) - 'a');

    if (is_digit(c))
        return (uint8_t)(c - '0');
    return letter < 6 ? (uint8_t)(letter + 10) : NO_DIGIT;
}

bool json_hex_read(struct slice text, uint8_t *out)
{
    uint8_t seen = 0;

    if (text.len % 2 != 0)
        return false;
    for (size_t i = 0; i < text.len; i += 2) {
        uint8_t high = hex_digit(text.at[i]), low = hex_digit(text.at[i + 1]);

        seen |= high | low;
        *out++ = (uint8_t)(high << 4 | low);
    }
    return seen < 16;
}

static uint8_t base64_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint8_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint8_t)(c - 'a' + 26);
    if (is_digit(c))
        return (uint8_t)(c - '0' + 52);
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : NO_DIGIT;
}

static inline bool is_line_end(uint8_t c)
{
    return c == '\r' || c == '\n';
}

bool json_base64_read(struct slice text, uint8_t *out, size_t *out_len)
{
    uint8_t *start = out;
    uint32_t bits = 0;
    size_t digits = 0, pads = 0;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i], digit;

        if (is_line_end(c))
            continue;
        if (c == '=') {
            pads++;
            continue;
        }
        digit = base64_digit(c);
        if (digit == NO_DIGIT || pads > 0)
            return false;
        bits = bits << 6 | digit;
        digits++;
        if (digits % 4 != 1) /* 2, 3, 4 digits make the first, second, third byte; what they leave over stays in bits */
            *out++ = (uint8_t)(bits >> (8 - digits % 4 * 2) % 8);
    }
    if (digits % 4 == 1 || (pads > 0 && (digits + pads) % 4 != 0) || pads > 2)
        return false;
    *out_len = (size_t)(out - start);
    return true;
}

/* -- text --------------------------------------------------------------------------------------- */

#define REPLACEMENT 0xfffdu

static inline bool is_surrogate(uint32_t point)
{
    return point >= 0xd800 && point < 0xe000;
}

static uint8_t *put_utf8(uint8_t *out, uint32_t point)
{
    if (is_surrogate(point))
        point = REPLACEMENT;
    if (point < 0x80) {
        *out++ = (uint8_t)point;
    } else if (point < 0x800) {
        *out++ = (uint8_t)(0xc0 | point >> 6);
        *out++ = (uint8_t)(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        *out++ = (uint8_t)(0xe0 | point >> 12);
        *out++ = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (point & 0x3f));
    } else {
        *out++ = (uint8_t)(0xf0 | point >> 18);
        *out++ = (uint8_t)(0x80 | (point >> 12 & 0x3f));
        *out++ = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (point & 0x3f));
    }
    return out;
}

/* The four digits of \uXXXX. */
static uint32_t unit_read(const uint8_t *digits)
{
    uint32_t unit = 0;

    for (int i = 0; i < 4; i++)
        unit = unit << 4 | hex_digit(digits[i]);
    return unit;
}

static inline bool is_unit(const uint8_t *at, const uint8_t *end)
{
    return end - at >= 6 && at[0] == '\\' && at[1] == 'u';
}

/* at: the backslash of a \u. Two units that are no pair are two replacements, as in the Collector. */
static const uint8_t *unescape_units(const uint8_t *at, const uint8_t *end, uint8_t **out)
{
    uint32_t first = unit_read(at + 2), second;

    at += 6;
    if (!is_surrogate(first) || !is_unit(at, end)) {
        *out = put_utf8(*out, first);
        return at;
    }
    second = unit_read(at + 2);
    if (first < 0xdc00 && second >= 0xdc00 && second < 0xe000) {
        *out = put_utf8(*out, 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
    } else {
        *out = put_utf8(*out, first);
        *out = put_utf8(*out, second);
    }
    return at + 6;
}

size_t json_unescape(struct slice raw, uint8_t *out)
{
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    const uint8_t *at = raw.at, *end = raw.at + raw.len;
    uint8_t *start = out;

    while (at < end) {
        const char *letter;

        if (*at != '\\' || end - at < 2) {
            *out++ = *at++;
            continue;
        }
        if (is_unit(at, end)) {
            at = unescape_units(at, end, &out);
            continue;
        }
        letter = memchr(letters, at[1], sizeof(letters) - 1);
        *out++ = letter ? (uint8_t)meanings[letter - letters] : at[1];
        at += 2;
    }
    return (size_t)(out - start);
}
