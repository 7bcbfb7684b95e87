#include "common/ottl/time_format.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/cleanup.h"

/* -- formats ------------------------------------------------------------------------------------------------------ */

static bool format_add(struct time_format *format, uint8_t item, bool is_text)
{
    if (format->count == TIME_FORMAT_ITEMS)
        return false;
    format->items[format->count] = item;
    format->is_text[format->count++] = is_text;
    return true;
}

/* What a short directive stands for; NULL: it stands for itself. */
static const char *directive_meaning(uint8_t letter)
{
    switch (letter) {
    case 'F':
        return "%Y-%m-%d";
    case 'T':
    case 'X':
        return "%H:%M:%S";
    case 'R':
        return "%H:%M";
    case 'c':
        return "%a %b %d %H:%M:%S %Y";
    default:
        return NULL;
    }
}

static const char *format_add_text(struct time_format *format, struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        const char *meaning, *wrong;
        bool fine;

        if (c >= '0' && c <= '9')
            return "format string should not contain decimals";
        if (c != '%') {
            fine = format_add(format, c, true);
        } else if (++i == text.len) {
            return "the format ends within a directive";
        } else if ((meaning = directive_meaning(text.at[i])) != NULL) {
            wrong = format_add_text(format, slice_text(meaning));
            if (wrong)
                return wrong;
            fine = true;
        } else if (text.at[i] == '%' || text.at[i] == 'n' || text.at[i] == 't') {
            fine = format_add(format, text.at[i] == 'n' ? '\n' : text.at[i] == 't' ? '\t' : '%', true);
        } else if (strchr("Lfs", text.at[i]) && text.at[i]) {
            /* The point before a fraction is part of it. */
            if (i < 2 || format->count == 0 || (text.at[i - 2] != '.' && text.at[i - 2] != ','))
                return "a fraction of a second stands behind '.' or ','";
            format->count--;
            fine = format_add(format, 'f', false);
        } else if (text.at[i] && strchr("YymdegHlIpPMSbhBaAzj", text.at[i])) {
            fine = format_add(format, text.at[i], false);
        } else {
            return "the format has a directive that is not supported; docs/ottl.md lists those that are";
        }
        if (!fine)
            return "the format is too long";
    }
    return NULL;
}

const char *time_format_read(struct time_format *format, struct slice text)
{
    const char *wrong;

    *format = (struct time_format){.count = 0};
    if (text.len == 0)
        return "format cannot be nil";
    wrong = format_add_text(format, text);
    for (uint32_t i = 0; !wrong && i < format->count; i++)
        if (!format->is_text[i] && (format->items[i] | 0x20) == 'y')
            return NULL;
    return wrong ? wrong : "a format without a year (%Y or %y) is not supported";
}

/* -- reading -------------------------------------------------------------------------------------------------------- */

struct time_reader {
    struct slice text; /* what is left */
    int64_t year;
    int month, day, hour, minute, second, offset_s;
    uint32_t ns;
    bool is_am, is_pm;
};

static const char *const months[] = {"January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December"};
static const char *const days[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};

static bool is_digit_at(struct slice text, size_t at)
{
    return at < text.len && text.at[at] >= '0' && text.at[at] <= '9';
}

static void reader_skip(struct time_reader *reader, size_t len)
{
    reader->text = slice_make(reader->text.at + len, reader->text.len - len);
}

static void reader_blanks(struct time_reader *reader)
{
    while (reader->text.len > 0 && strchr(" \t\n\v\f\r", reader->text.at[0]) && reader->text.at[0])
        reader_skip(reader, 1);
}

/* `least` to `most` digits. */
static bool reader_number(struct time_reader *reader, size_t least, size_t most, int *out_number)
{
    size_t len = 0;

    reader_blanks(reader);
    for (*out_number = 0; len < most && is_digit_at(reader->text, len); len++)
        *out_number = *out_number * 10 + (reader->text.at[len] - '0');
    reader_skip(reader, len);
    return len >= least;
}

/* A name of the list in any case, whole or its first three letters. 1 and up; 0: none. */
static int reader_name(struct time_reader *reader, const char *const *names, size_t count, bool is_short)
{
    for (size_t i = 0; i < count; i++) {
        size_t len = is_short ? 3 : strlen(names[i]);

        if (reader->text.len < len || strncasecmp((const char *)reader->text.at, names[i], len) != 0)
            continue;
        reader_skip(reader, len);
        return (int)i + 1;
    }
    return 0;
}

/* A point or comma and digits, if they are there. */
static void reader_fraction(struct time_reader *reader)
{
    uint32_t unit = 100000000;
    size_t len = 1;

    if (reader->text.len < 2 || (reader->text.at[0] != '.' && reader->text.at[0] != ',') || !is_digit_at(reader->text, 1))
        return;
    for (reader->ns = 0; is_digit_at(reader->text, len); len++, unit /= 10)
        reader->ns += (uint32_t)(reader->text.at[len] - '0') * unit;
    reader_skip(reader, len);
}

/* +0100, +01:00, +01; Z where allowed. */
static bool reader_offset(struct time_reader *reader, bool colon_only)
{
    struct slice text;
    int hours, minutes = 0, sign;
    bool colon;

    if (!colon_only)
        reader_blanks(reader);
    text = reader->text;
    if (!colon_only && text.len > 0 && text.at[0] == 'Z') {
        reader_skip(reader, 1);
        return true;
    }
    if (text.len < 3 || (text.at[0] != '+' && text.at[0] != '-') || !is_digit_at(text, 1) || !is_digit_at(text, 2))
        return false;
    sign = text.at[0] == '-' ? -1 : 1;
    hours = (text.at[1] - '0') * 10 + (text.at[2] - '0');
    colon = text.len > 3 && text.at[3] == ':';
    if (is_digit_at(text, 3u + colon) && is_digit_at(text, 4u + colon) && (colon || !colon_only)) {
        minutes = (text.at[3 + colon] - '0') * 10 + (text.at[4 + colon] - '0');
        reader_skip(reader, 5u + colon);
    } else if (colon_only) {
        return false;
    } else {
        reader_skip(reader, 3);
    }
    reader->offset_s = sign * (hours * 3600 + minutes * 60);
    return hours <= 24 && minutes < 60;
}

static bool reader_half_day(struct time_reader *reader)
{
    struct slice text = reader->text;

    if (text.len < 2 || (text.at[1] | 0x20) != 'm' || ((text.at[0] | 0x20) != 'a' && (text.at[0] | 0x20) != 'p'))
        return false;
    reader->is_pm = (text.at[0] | 0x20) == 'p';
    reader->is_am = !reader->is_pm;
    reader_skip(reader, 2);
    return true;
}

static bool reader_directive(struct time_reader *reader, uint8_t letter, bool fraction_follows)
{
    int number;

    switch (letter) {
    case 'Y':
        if (!reader_number(reader, 4, 4, &number))
            return false;
        reader->year = number;
        return true;
    case 'y':
        if (!reader_number(reader, 2, 2, &number))
            return false;
        reader->year = number >= 69 ? 1900 + number : 2000 + number;
        return true;
    case 'm':
        return reader_number(reader, 1, 2, &reader->month);
    case 'd':
    case 'e':
    case 'g':
        return reader_number(reader, 1, 2, &reader->day);
    case 'H':
        return reader_number(reader, 1, 2, &reader->hour);
    case 'I':
    case 'l':
        return reader_number(reader, 1, 2, &reader->hour) && reader->hour <= 12;
    case 'M':
        return reader_number(reader, 1, 2, &reader->minute);
    case 'S':
        if (!reader_number(reader, 1, 2, &reader->second))
            return false;
        if (!fraction_follows)
            reader_fraction(reader);
        return true;
    case 'f':
        reader_fraction(reader);
        return true;
    case 'b':
    case 'h':
    case 'B':
        reader->month = reader_name(reader, months, ARRAY_COUNT(months), letter != 'B');
        return reader->month > 0;
    case 'a':
    case 'A':
        return reader_name(reader, days, ARRAY_COUNT(days), letter == 'a') > 0;
    case 'p':
    case 'P':
        return reader_half_day(reader);
    default:
        return reader_offset(reader, letter == 'j');
    }
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Days from 1 January 1970 to the day. */
static int64_t civil_days(int64_t year, int month, int day)
{
    int64_t shifted = month > 2 ? year : year - 1, era = (shifted >= 0 ? shifted : shifted - 399) / 400;
    int64_t of_era = shifted - era * 400, of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool reader_valid(const struct time_reader *reader)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    if (reader->month < 1 || reader->month > 12 || reader->day < 1 || reader->year < 1)
        return false;
    return reader->day <= lengths[reader->month - 1] + (reader->month == 2 && is_leap(reader->year)) &&
           reader->hour < 24 && reader->minute < 60 && reader->second < 60;
}

/* A blank of the format stands for any number of blanks, at least one unless the text ends. */
static bool reader_text(struct time_reader *reader, uint8_t c)
{
    if (c == ' ') {
        if (reader->text.len > 0 && reader->text.at[0] != ' ')
            return false;
        while (reader->text.len > 0 && reader->text.at[0] == ' ')
            reader_skip(reader, 1);
        return true;
    }
    if (reader->text.len == 0 || reader->text.at[0] != c)
        return false;
    reader_skip(reader, 1);
    return true;
}

bool time_format_parse(
    const struct time_format *format, struct slice text, int64_t *out_unix_s, uint32_t *out_ns, int32_t *out_zone_s)
{
    struct time_reader reader = {.text = text, .month = 1, .day = 1};

    if (text.len == 0)
        return false;
    for (uint32_t i = 0; i < format->count; i++) {
        bool fraction_follows = i + 1 < format->count && !format->is_text[i + 1] && format->items[i + 1] == 'f';

        if (format->is_text[i] ? !reader_text(&reader, format->items[i])
                               : !reader_directive(&reader, format->items[i], fraction_follows))
            return false;
    }
    if (reader.text.len > 0)
        return false;
    if (reader.is_pm && reader.hour < 12)
        reader.hour += 12;
    else if (reader.is_am && reader.hour == 12)
        reader.hour = 0;
    if (!reader_valid(&reader))
        return false;
    *out_unix_s = civil_days(reader.year, reader.month, reader.day) * 86400 + reader.hour * 3600 + reader.minute * 60 +
                  reader.second - reader.offset_s;
    *out_ns = reader.ns;
    *out_zone_s = reader.offset_s;
    return true;
}
