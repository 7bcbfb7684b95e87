/* A duration is a sign and then pairs of a decimal number and a unit. Each pair is added up in unsigned nanoseconds, so that
 * the most negative duration, whose magnitude no positive one has, can be read too. Digits of a fraction past the
 * nineteenth are read and ignored: they are below a nanosecond in every unit. */
#include "common/config/duration.h"

#include <stdbool.h>
#include <string.h>

#include "common/base/cleanup.h"

/* One past the largest positive duration: the magnitude of the most negative one. */
#define MAGNITUDE_MAX ((uint64_t)1 << 63)

static const struct unit {
    const char *name;
    uint64_t ns;
} units[] = {
    {"ns", 1u},
    {"us", 1000u},
    {"\xc2\xb5s", 1000u}, /* U+00B5, the micro sign */
    {"\xce\xbcs", 1000u}, /* U+03BC, the Greek letter mu */
    {"ms", 1000000u},
    {"s", 1000000000u},
    {"m", 60000000000u},
    {"h", 3600000000000u},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const struct unit *unit_find(const char *at, size_t len)
{
    for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
        if (strlen(units[i].name) == len && memcmp(units[i].name, at, len) == 0)
            return &units[i];
    }
    return NULL;
}

/* Reads digits as an integer. False: it does not fit. */
static bool read_integer(const char **at, const char *end, uint64_t *out_value)
{
    uint64_t value = 0;

    for (; *at < end && is_digit(**at); (*at)++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(**at - '0'), &value) || value > MAGNITUDE_MAX)
            return false;
    }
    *out_value = value;
    return true;
}

/* Reads digits behind the point as value / scale, as many of them as fit. */
static void read_fraction(const char **at, const char *end, uint64_t *out_value, double *out_scale)
{
    uint64_t value = 0;
    double scale = 1;
    bool full = false;

    for (; *at < end && is_digit(**at); (*at)++) {
        uint64_t more;

        if (full)
            continue;
        if (__builtin_mul_overflow(value, 10u, &more) ||
            __builtin_add_overflow(more, (uint64_t)(**at - '0'), &more) || more > MAGNITUDE_MAX) {
            full = true;
            continue;
        }
        value = more;
        scale *= 10;
    }
    *out_value = value;
    *out_scale = scale;
}

/* Reads one number and its unit. */
static int read_pair(const char **at, const char *end, uint64_t *out_ns)
{
    const char *start = *at, *unit_at;
    const struct unit *unit;
    uint64_t whole = 0, fraction = 0, ns;
    double scale = 1;
    size_t digit_count;

    if (!read_integer(at, end, &whole))
        return DURATION_E_RANGE;
    digit_count = (size_t)(*at - start);
    if (*at < end && **at == '.') {
        (*at)++;
        start = *at;
        read_fraction(at, end, &fraction, &scale);
        digit_count += (size_t)(*at - start);
    }
    if (digit_count == 0)
        return DURATION_E_SYNTAX;

    unit_at = *at;
    while (*at < end && !is_digit(**at) && **at != '.')
        (*at)++;
    if (*at == unit_at)
        return DURATION_E_NO_UNIT;
    unit = unit_find(unit_at, (size_t)(*at - unit_at));
    if (!unit)
        return DURATION_E_SYNTAX;

    if (__builtin_mul_overflow(whole, unit->ns, &ns) || ns > MAGNITUDE_MAX)
        return DURATION_E_RANGE;
    /* Truncated, and by this very expression: bit for bit what the Collector computes. */
    ns += (uint64_t)((double)fraction * ((double)unit->ns / scale));
    if (ns > MAGNITUDE_MAX)
        return DURATION_E_RANGE;
    *out_ns = ns;
    return 0;
}

int duration_parse(const char *text, size_t len, int64_t *out_ns)
{
    const char *at = text, *end = text + len;
    uint64_t total = 0;
    bool negative = false;

    if (at < end && (*at == '-' || *at == '+')) {
        negative = *at == '-';
        at++;
    }
    if (end - at == 1 && *at == '0') {
        *out_ns = 0;
        return 0;
    }
    if (at == end)
        return DURATION_E_SYNTAX;

    while (at < end) {
        uint64_t ns = 0;
        int r = read_pair(&at, end, &ns);

        if (r)
            return r;
        total += ns; /* both at most 2^63: no wrap but for the sum 2^64, which is 0 and below ns */
        if (total > MAGNITUDE_MAX || total < ns)
            return DURATION_E_RANGE;
    }
    if (negative) {
        *out_ns = total == MAGNITUDE_MAX ? INT64_MIN : -(int64_t)total;
        return 0;
    }
    if (total == MAGNITUDE_MAX)
        return DURATION_E_RANGE;
    *out_ns = (int64_t)total;
    return 0;
}
