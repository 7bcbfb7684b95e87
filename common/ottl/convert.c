/* Go's formats and parsers, by their documented behaviour; JSON as the library that the Collector uses writes it: keys
 * sorted, <, > and & escaped, bytes in base64, exponents with two digits at least. */
#include "common/ottl/convert.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/ottl/utf8.h"

/* -- texts ------------------------------------------------------------------------------------------------- */

void text_reserve(struct text_out *out, size_t capacity)
{
    uint8_t *more;

    if (out->full || capacity <= out->capacity)
        return;
    if (out->at && arena_extend(out->arena, out->at + out->capacity, capacity - out->capacity)) {
        out->capacity = capacity;
        return;
    }
    more = arena_bytes(out->arena, capacity);
    if (!more) {
        out->full = true;
        return;
    }
    if (out->len > 0)
        memcpy(more, out->at, out->len);
    out->at = more;
    out->capacity = capacity;
}

void text_add(struct text_out *out, const void *at, size_t len)
{
    if (len > out->capacity - out->len)
        text_reserve(out, out->len + out->len / 2 + len + 32);
    if (out->full || len == 0)
        return;
    memcpy(out->at + out->len, at, len);
    out->len += len;
}

void text_add_string(struct text_out *out, const char *text)
{
    text_add(out, text, strlen(text));
}

void text_add_rune(struct text_out *out, uint32_t rune)
{
    uint8_t bytes[RUNE_BYTES_MAX];

    text_add(out, bytes, utf8_write(bytes, rune));
}

void text_add_hex(struct text_out *out, struct slice bytes)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < bytes.len; i++) {
        const char pair[2] = {digits[bytes.at[i] >> 4], digits[bytes.at[i] & 15]};

        text_add(out, pair, sizeof(pair));
    }
}

struct slice text_slice(const struct text_out *out)
{
    return out->len > 0 ? slice_make(out->at, out->len) : slice_make("", 0);
}

/* -- numbers ------------------------------------------------------------------------------------------------ */

bool convert_parse_int(struct slice text, int64_t *out_integer)
{
    const bool negative = text.len > 0 && text.at[0] == '-';
    size_t at = text.len > 0 && (text.at[0] == '-' || text.at[0] == '+');
    int64_t value = 0;

    if (at == text.len)
        return false;
    for (; at < text.len; at++) {
        int digit = text.at[at] - '0';

        if (digit < 0 || digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, digit, &value)) /* downwards: the smallest number has no positive one */
            return false;
    }
    if (!negative && value == INT64_MIN)
        return false;
    *out_integer = negative ? value : -value;
    return true;
}

/* Underscores stand between digits; a base prefix counts as a digit. */
static bool underscores_fine(const char *text, size_t len)
{
    char last = '^';
    size_t i = len > 0 && (text[0] == '-' || text[0] == '+');

    if (len >= i + 2 && text[i] == '0' && (text[i + 1] | 0x20) == 'x') {
        last = '0';
        i += 2;
    }
    for (; i < len; i++) {
        char c = text[i], lower = (char)(c | 0x20);
        bool digit = (c >= '0' && c <= '9') || (last != '^' && lower >= 'a' && lower <= 'f');

        if (c == '_') {
            if (last != '0')
                return false;
            last = '_';
        } else {
            if (!digit && last == '_')
                return false;
            last = digit ? '0' : '!';
        }
    }
    return last != '_';
}

/* What strtod would take beyond Go's syntax: blanks, nan(…), -nan, a hexadecimal number without p. */
static bool float_syntax(const char *text, size_t len)
{
    size_t i = len > 0 && (text[0] == '-' || text[0] == '+');
    bool hex;

    if (i == len)
        return false;
    if (strcasecmp(text + i, "inf") == 0 || strcasecmp(text + i, "infinity") == 0)
        return true;
    if (strcasecmp(text, "nan") == 0)
        return true;
    hex = len >= i + 2 && text[i] == '0' && (text[i + 1] | 0x20) == 'x';
    for (size_t j = i; j < len; j++) {
        char c = text[j], lower = (char)(c | 0x20);

        if ((c >= '0' && c <= '9') || c == '.' || c == '+' || c == '-' || lower == 'e')
            continue;
        if (hex && ((lower >= 'a' && lower <= 'f') || lower == 'x' || lower == 'p'))
            continue;
        return false;
    }
    return !hex || strpbrk(text, "pP");
}

bool convert_parse_float(struct slice text, double *out_number)
{
    char copy[1024], *end;
    size_t len = 0;
    bool underscores = false;

    if (text.len >= sizeof(copy))
        return false; /* no number has so many digits that count */
    for (size_t i = 0; i < text.len; i++) {
        underscores |= text.at[i] == '_';
        if (text.at[i] == 0)
            return false;
        copy[i] = (char)text.at[i];
    }
    copy[text.len] = 0;
    if (underscores && !underscores_fine(copy, text.len))
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (copy[i] != '_')
            copy[len++] = copy[i];
    copy[len] = 0;
    if (!float_syntax(copy, len))
        return false;
    *out_number = strtod(copy, &end);
    if (*end)
        return false;
    return !isinf(*out_number) || strpbrk(copy, "iI");
}

bool convert_parse_bool(struct slice text, bool *out_bool)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};

    for (size_t i = 0; i < ARRAY_COUNT(yes); i++) {
        *out_bool = slice_equal(text, slice_text(yes[i]));
        if (*out_bool || slice_equal(text, slice_text(no[i])))
            return true;
    }
    return false;
}

int64_t convert_truncate(double number)
{
    return number >= -0x1p63 && number < 0x1p63 ? (int64_t)number : INT64_MIN;
}

size_t convert_float_text(double number, char text[FLOAT_TEXT_SIZE])
{
    char digits[40], *exponent_at;
    double size = fabs(number);
    int precision = 0, exponent, len;

    do
        (void)snprintf(digits, sizeof(digits), "%.*e", precision, number);
    while (strtod(digits, NULL) != number && ++precision < 17);
    if (size != 0 && (size < 1e-6 || size >= 1e21))
        return (size_t)snprintf(text, FLOAT_TEXT_SIZE, "%s", digits);
    exponent_at = strchr(digits, 'e');
    exponent = atoi(exponent_at + 1);
    /* Digits behind the point: as many as the shortest form has, moved by the exponent. */
    len = snprintf(text, FLOAT_TEXT_SIZE, "%.*f", precision > exponent ? precision - exponent : 0, number);
    if (precision < exponent) {
        /* The shortest form has fewer digits than the number has places: zeros follow. */
        size_t at = text[0] == '-', from = digits[0] == '-';

        for (int i = 0; i <= exponent; i++) {
            text[at++] = digits[from] && digits[from] != 'e' ? digits[from++] : '0';
            if (digits[from] == '.')
                from++;
        }
    }
    return (size_t)len;
}

/* -- writing JSON ---------------------------------------------------------------------------------------------- */

static int json_value(struct text_out *out, const struct ottl_value *value);

static void json_escape(struct text_out *out, uint32_t rune)
{
    char text[8];

    (void)snprintf(text, sizeof(text), "\\u%04" PRIx32, rune);
    text_add_string(out, text);
}

static void json_string(struct text_out *out, struct slice text)
{
    size_t len;

    text_add_string(out, "\"");
    for (size_t at = 0; at < text.len; at += len) {
        uint32_t rune = utf8_read(text.at + at, text.len - at, &len);

        if (rune == '"' || rune == '\\') {
            const char pair[2] = {'\\', (char)rune};

            text_add(out, pair, sizeof(pair));
        } else if (rune == '\n') {
            text_add_string(out, "\\n");
        } else if (rune == '\r') {
            text_add_string(out, "\\r");
        } else if (rune == '\t') {
            text_add_string(out, "\\t");
        } else if (rune < 0x20 || rune == '<' || rune == '>' || rune == '&' || rune == 0x2028 ||
                   rune == 0x2029 || (rune == RUNE_ERROR && len == 1)) {
            json_escape(out, rune);
        } else {
            text_add(out, text.at + at, len);
        }
    }
    text_add_string(out, "\"");
}

static void json_base64(struct text_out *out, struct slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    text_add_string(out, "\"");
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t three = (uint32_t)bytes.at[i] << 16 | (left > 1 ? (uint32_t)bytes.at[i + 1] << 8 : 0) |
                         (left > 2 ? bytes.at[i + 2] : 0);
        const char four[4] = {digits[three >> 18], digits[three >> 12 & 63],
            left > 1 ? digits[three >> 6 & 63] : '=', left > 2 ? digits[three & 63] : '='};

        text_add(out, four, sizeof(four));
    }
    text_add_string(out, "\"");
}

static void json_id(struct text_out *out, struct slice id)
{
    for (size_t i = 0; i < id.len; i++) {
        char text[8];

        (void)snprintf(text, sizeof(text), "%s%u", i > 0 ? "," : "[", id.at[i]);
        text_add_string(out, text);
    }
    text_add_string(out, "]");
}

/* Gregorian year, month and day of a day since 1 January of the year 1. */
static void civil_date(int64_t day, int64_t *year, unsigned *month, unsigned *day_of_month)
{
    int64_t shifted = day + 306, era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    unsigned of_era = (unsigned)(shifted - era * 146097);
    unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned shifted_month = (5 * of_year + 2) / 153;

    *day_of_month = of_year - (153 * shifted_month + 2) / 5 + 1;
    *month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
    *year = (int64_t)year_of_era + era * 400 + (*month <= 2);
}

/* "Z", or hours and minutes east of UTC. */
static void zone_text(int32_t zone_s, char *out, size_t size)
{
    unsigned minutes = (unsigned)(zone_s < 0 ? -zone_s : zone_s) / 60;

    if (zone_s == 0)
        (void)snprintf(out, size, "Z");
    else
        (void)snprintf(out, size, "%c%02u:%02u", zone_s < 0 ? '-' : '+', minutes / 60, minutes % 60);
}

/* RFC 3339 in the zone that the time was read in, with the fraction that there is. */
static int json_time(struct text_out *out, struct ottl_time time)
{
    int64_t local_s = (int64_t)((uint64_t)time.s + (uint64_t)time.zone_s), day = local_s / 86400, second = local_s % 86400, year;
    unsigned month, day_of_month;
    char text[80], fraction[16] = "", zone[16];
    size_t len;

    if (second < 0) {
        second += 86400;
        day--;
    }
    civil_date(day, &year, &month, &day_of_month);
    if (year < 0 || year > 9999 || abs(time.zone_s) >= 86400)
        return CONVERT_E_TYPE;
    zone_text(time.zone_s, zone, sizeof(zone));
    if (time.ns > 0) {
        (void)snprintf(fraction, sizeof(fraction), ".%09" PRIu32, time.ns);
        for (len = strlen(fraction); len > 1 && fraction[len - 1] == '0'; len--)
            fraction[len - 1] = '\0';
    }
    (void)snprintf(text, sizeof(text), "\"%04" PRId64 "-%02u-%02uT%02" PRId64 ":%02" PRId64 ":%02" PRId64 "%s%s\"",
        year, month, day_of_month, second / 3600, second / 60 % 60, second % 60, fraction, zone);
    text_add_string(out, text);
    return 0;
}

static int json_list(struct text_out *out, const struct ottl_value *list)
{
    struct ottl_items items;
    struct ottl_item item;
    bool is_first = true;

    text_add_string(out, "[");
    ottl_items_start(&items, list);
    while (ottl_items_next(&items, &item)) {
        struct ottl_value value = ottl_item_value(&item);
        int r;

        if (!is_first)
            text_add_string(out, ",");
        is_first = false;
        /* Of a literal list's maps and attribute lists Go's JSON sees nothing. */
        if (list->type == OTTL_LITERAL_LIST && (value.type == OTTL_MAP || value.type == OTTL_LIST)) {
            text_add_string(out, "{}");
            continue;
        }
        r = json_value(out, &value);
        if (r)
            return r;
    }
    text_add_string(out, "]");
    return 0;
}

/* Sorted by key; of equal keys the last counts. */
static int json_map(struct text_out *out, const struct ottl_value *map)
{
    size_t count = ottl_items_count(map), filled = 0;
    struct ottl_entry *entries = arena_alloc(out->arena, count * sizeof(*entries));
    struct ottl_items items;
    struct ottl_item item;
    bool is_first = true;

    if (count > 0 && !entries) {
        out->full = true;
        return 0;
    }
    ottl_items_start(&items, map);
    while (filled < count && ottl_items_next(&items, &item)) {
        entries[filled] = (struct ottl_entry){item.key, ottl_item_value(&item), (uint32_t)filled};
        filled++;
    }
    ottl_entries_sort(entries, filled);
    text_add_string(out, "{");
    for (size_t i = 0; i < filled; i++) {
        int r;

        if (i + 1 < filled && slice_equal(entries[i].key, entries[i + 1].key))
            continue;
        if (!is_first)
            text_add_string(out, ",");
        is_first = false;
        json_string(out, entries[i].key);
        text_add_string(out, ":");
        r = json_value(out, &entries[i].value);
        if (r)
            return r;
    }
    text_add_string(out, "}");
    return 0;
}

static int json_value(struct text_out *out, const struct ottl_value *value)
{
    char text[FLOAT_TEXT_SIZE];

    switch ((enum ottl_type)value->type) {
    case OTTL_NIL:
        text_add_string(out, "null");
        break;
    case OTTL_BOOL:
        text_add_string(out, value->integer ? "true" : "false");
        break;
    case OTTL_INT:
    case OTTL_DURATION:
        (void)snprintf(text, sizeof(text), "%" PRId64, value->integer);
        text_add_string(out, text);
        break;
    case OTTL_FLOAT:
        if (!isfinite(value->number))
            return CONVERT_E_TYPE;
        text_add(out, text, convert_float_text(value->number, text));
        break;
    case OTTL_STRING:
        json_string(out, value->bytes);
        break;
    case OTTL_BYTES:
        if (value->bytes.len == 0)
            text_add_string(out, "null");
        else
            json_base64(out, value->bytes);
        break;
    case OTTL_LIST:
    case OTTL_LITERAL_LIST:
    case OTTL_STRINGS:
        return json_list(out, value);
    case OTTL_MAP:
        return json_map(out, value);
    case OTTL_TIME:
        return json_time(out, value->time);
    case OTTL_TRACE_ID:
    case OTTL_SPAN_ID:
        json_id(out, value->bytes);
        break;
    case OTTL_OPAQUE:
        text_add_string(out, "{}");
        break;
    }
    return 0;
}

int convert_text(struct arena *arena, const struct ottl_value *value, struct slice *out_text)
{
    struct text_out out = {.arena = arena};
    int r;

    if (value->type == OTTL_STRING) {
        *out_text = value->bytes;
        return 0;
    }
    if (value->type == OTTL_BYTES) {
        text_add_hex(&out, value->bytes);
    } else {
        r = json_value(&out, value);
        if (r)
            return r;
    }
    if (out.full)
        return CONVERT_E_FULL;
    *out_text = text_slice(&out);
    return 0;
}
