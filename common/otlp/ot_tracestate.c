#include "common/otlp/ot_tracestate.h"

#define TRACESTATE_BYTES_MAX 1024
#define MEMBERS_MAX 31
#define KEY_BYTES_MAX 256
#define TENANT_BYTES_MAX 241
#define SYSTEM_BYTES_MAX 14
#define VALUE_BYTES_MAX 256
#define OT_BYTES_MAX 256
#define DIGITS 14 /* hex, of 56 bits */

struct member {
    struct slice key, value;
};

struct reading {
    struct ot_tracestate state;
    struct slice randomness, ot; /* as written; ot: the value of the last such member */
    struct member others[MEMBERS_MAX];
    size_t other_count;
};

/* -- characters and pieces ----------------------------------------------------------------------------- */

static bool is_lower(uint8_t c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static bool is_key_char(uint8_t c)
{
    return is_lower(c) || is_digit(c) || c == '_' || c == '-' || c == '*' || c == '/';
}

static struct slice part(struct slice text, size_t from, size_t to)
{
    return slice_make(text.at + from, to - from);
}

/* Where c first stands; text.len: nowhere. */
static size_t find(struct slice text, uint8_t c)
{
    const uint8_t *at = text.len > 0 ? memchr(text.at, c, text.len) : NULL;

    return at ? (size_t)(at - text.at) : text.len;
}

/* Cuts off what stands before the separator, which goes too. */
static struct slice take_until(struct slice *rest, uint8_t separator)
{
    size_t at = find(*rest, separator);
    struct slice taken = part(*rest, 0, at);

    *rest = at < rest->len ? part(*rest, at + 1, rest->len) : part(*rest, at, at);
    return taken;
}

static struct slice trim(struct slice text)
{
    while (text.len > 0 && is_blank(text.at[0]))
        text = part(text, 1, text.len);
    while (text.len > 0 && is_blank(text.at[text.len - 1]))
        text.len--;
    return text;
}

/* -- W3C members ----------------------------------------------------------------------------------------- */

static bool key_chars_are_good(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_key_char(text.at[i]))
            return false;
    return true;
}

static bool key_is_good(struct slice key)
{
    size_t at = find(key, '@');
    struct slice tenant = part(key, 0, at), system;

    if (key.len == 0 || key.len > KEY_BYTES_MAX)
        return false;
    if (at == key.len)
        return is_lower(key.at[0]) && key_chars_are_good(key);
    system = part(key, at + 1, key.len);
    return tenant.len > 0 && tenant.len <= TENANT_BYTES_MAX && (is_lower(tenant.at[0]) || is_digit(tenant.at[0])) &&
           key_chars_are_good(tenant) && system.len > 0 && system.len <= SYSTEM_BYTES_MAX && is_lower(system.at[0]) &&
           key_chars_are_good(system);
}

static bool value_is_good(struct slice value)
{
    if (value.len == 0 || value.len > VALUE_BYTES_MAX || value.at[value.len - 1] == ' ')
        return false;
    for (size_t i = 0; i < value.len; i++)
        if (value.at[i] < 0x20 || value.at[i] > 0x7e || value.at[i] == ',' || value.at[i] == '=')
            return false;
    return true;
}

/* -- the value of `ot` ------------------------------------------------------------------------------------- */

static bool ot_key_is_good(struct slice key)
{
    if (key.len == 0 || !is_lower(key.at[0]))
        return false;
    for (size_t i = 1; i < key.len; i++)
        if (!is_lower(key.at[i]) && !is_digit(key.at[i]))
            return false;
    return true;
}

static bool ot_value_is_good(struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.at[i];

        if (!is_lower(c) && !is_digit(c) && !(c >= 'A' && c <= 'Z') && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

/* Hex of either case, read as if zeros followed up to 14 digits. */
static bool read_digits(struct slice text, uint64_t *out_value)
{
    uint64_t value = 0;

    if (text.len == 0 || text.len > DIGITS)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i] | 0x20;

        if (is_digit(text.at[i]))
            value = value << 4 | (uint64_t)(text.at[i] - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *out_value = value << 4 * (DIGITS - text.len);
    return true;
}

static bool read_ot_pair(struct reading *reading, struct slice pair)
{
    struct slice value = pair, key = take_until(&value, ':');

    if (key.len == pair.len || !ot_key_is_good(key) || !ot_value_is_good(value))
        return false;
    if (slice_equal(key, SLICE_LITERAL("rv"))) {
        reading->state.has_randomness = true;
        reading->randomness = value;
        return value.len == DIGITS && read_digits(value, &reading->state.randomness);
    }
    if (slice_equal(key, SLICE_LITERAL("th"))) {
        reading->state.has_threshold = true;
        return read_digits(value, &reading->state.threshold);
    }
    return true;
}

static bool read_ot(struct reading *reading, struct slice ot)
{
    struct slice rest = ot;

    memset(&reading->state, 0, sizeof(reading->state));
    reading->randomness = part(ot, 0, 0);
    reading->ot = ot;
    if (ot.len == 0 || ot.len > OT_BYTES_MAX || ot.at[ot.len - 1] == ';')
        return false;
    while (rest.len > 0)
        if (!read_ot_pair(reading, take_until(&rest, ';')))
            return false;
    return true;
}

/* -- the whole ------------------------------------------------------------------------------------------------ */

static bool read_member(struct reading *reading, struct slice text)
{
    struct slice value = text, key = take_until(&value, '=');

    if (key.len == text.len || !key_is_good(key) || !value_is_good(value))
        return false;
    if (slice_equal(key, SLICE_LITERAL("ot")))
        return read_ot(reading, value);
    reading->others[reading->other_count++] = (struct member){key, value};
    return true;
}

static bool read_all(struct reading *reading, struct slice text)
{
    size_t count = 0;

    memset(&reading->state, 0, sizeof(reading->state));
    reading->randomness = reading->ot = slice_make(NULL, 0);
    reading->other_count = 0;
    if (text.len > TRACESTATE_BYTES_MAX)
        return false;
    while (text.len > 0) {
        struct slice member = trim(take_until(&text, ','));

        if (++count > MEMBERS_MAX)
            return false;
        if (member.len > 0 && !read_member(reading, member))
            return false;
    }
    return true;
}

bool ot_tracestate_read(struct slice text, struct ot_tracestate *out_state)
{
    struct reading reading;
    bool good = read_all(&reading, text);

    *out_state = good ? reading.state : (struct ot_tracestate){0};
    return good;
}

static uint8_t *put(uint8_t *out, struct slice text)
{
    if (text.len > 0)
        memcpy(out, text.at, text.len);
    return out + text.len;
}

/* 14 digits without the zeros at the end; "0" for 0. */
static uint8_t *put_threshold(uint8_t *out, uint64_t threshold)
{
    out = put(out, SLICE_LITERAL("th:"));
    if (threshold == 0) {
        *out++ = '0';
        return out;
    }
    for (int shift = 4 * (DIGITS - 1); threshold > 0; shift -= 4) {
        *out++ = (uint8_t)"0123456789abcdef"[threshold >> shift];
        threshold &= (1ull << shift) - 1;
    }
    return out;
}

/* The value of `ot`; nothing when there is nothing to say. */
static uint8_t *put_ot(uint8_t *out, const struct reading *reading, uint64_t threshold)
{
    struct slice rest = reading->ot;
    uint8_t *from = out;

    if (reading->state.has_randomness)
        out = put(put(out, SLICE_LITERAL("rv:")), reading->randomness);
    if (threshold < OT_RANDOMNESS_COUNT) {
        if (out > from)
            *out++ = ';';
        out = put_threshold(out, threshold);
    }
    while (rest.len > 0) {
        struct slice pair = take_until(&rest, ';'), value = pair, key = take_until(&value, ':');

        if (slice_equal(key, SLICE_LITERAL("rv")) || slice_equal(key, SLICE_LITERAL("th")))
            continue;
        if (out > from)
            *out++ = ';';
        out = put(out, pair);
    }
    return out;
}

enum ot_update ot_tracestate_update(struct slice text, uint64_t threshold, uint8_t *out, size_t *out_len)
{
    static const struct slice name = {(const uint8_t *)"ot=", 3};
    struct reading reading;
    uint8_t *at, *ot = out + name.len;

    *out_len = 0;
    if (!read_all(&reading, text))
        return OT_UNREADABLE;
    if (reading.state.has_threshold && reading.state.threshold > threshold)
        return OT_STRICTER;
    at = put_ot(ot, &reading, threshold);
    if (at > ot)
        (void)put(out, name);
    else
        at = out;
    for (size_t i = 0; i < reading.other_count; i++) {
        if (at > out)
            *at++ = ',';
        at = put(at, reading.others[i].key);
        *at++ = '=';
        at = put(at, reading.others[i].value);
    }
    *out_len = (size_t)(at - out);
    return OT_UPDATED;
}

uint64_t ot_randomness_of(const struct trace_id *id)
{
    uint64_t randomness = 0;

    for (size_t i = 9; i < sizeof(id->bytes); i++)
        randomness = randomness << 8 | id->bytes[i];
    return randomness;
}
