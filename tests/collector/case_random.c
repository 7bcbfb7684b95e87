/* Random policies and traces for them, out of small pools in which everything meets everything soon.
 *
 * Left out is what depends on order in the Collector, and only there: with an upper latency bound the first span of a
 * trace spans all the others, and a start is missing only in traces of one span. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "tests/collector/case_set.h"

#define BASE_UNIX_NS 1700000000000000000ull

struct random {
    uint64_t state;
};

static uint64_t random_next(struct random *random) /* splitmix64 */
{
    uint64_t z = random->state += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static size_t random_below(struct random *random, size_t bound)
{
    return (size_t)(random_next(random) % bound);
}

#define RANDOM_OF(random, pool) ((pool)[random_below(random, ARRAY_COUNT(pool))])

static const char *const keys[] = {"k", "http.method", "http.route", "http.target", "a.b", "",
    "кључ", "a-key-that-is-quite-a-bit-longer-than-sixty-three-bytes-to-fill-a-bitmap"};

static const char *const texts[] = {"", "value1", "value2", "Value1", "GET", "get", "POST",
    "/cart/1", "/cart/12/items", "x\ny", "y", "é", "éa", "\xc3", "\xff\xfe", "a\xed\xa0\x80z",
    "\xef\xbf\xbd", "cart", "ababcd", "1234", " ", "a b", "[x](y)",
    "01234567890123456789012345678901234567890123456789012345678901234567890123456789"
    "01234567890123456789012345678901234567890123456789012345678901234567890123456789"
    "01234567890123456789012345678901234567890123456789012345678901234567890123456789 and no "
    "shorter"};

static const char *const patterns[] = {"value[0-9]", "^$", "", ".*", ".+", "^GET$", "(?i)get",
    "a.b", "\\d+", "^\\d{4}$", "[^a-z]+", "(?s)x.y", "x.y", "(?m)^y$", "^y$", "é", "^.$", "^..$",
    "\\x{FFFD}", "\\bb\\b", "(?<n>c+)art", "(?P<n>c+)art", "[[:upper:]]", "\\pL\\d", "\\w$",
    "^(a|ab)(c|bcd)*$", "/cart/\\d+(/.*)?$", "\\Q[x](\\E", "[]x]y", "no shorter\\z",
    "[^\\x00-\\x7f]", "\\s", "(?i)É", "^[[:alpha:]]+$", "(?U)v.*1", "\\A/"};

static void append(char **text, char *more)
{
    char *joined = case_text("%s%s", *text, more);

    free(*text);
    free(more);
    *text = joined;
}

/* A YAML text in double quotes. */
static char *quoted(const char *text)
{
    char *out = case_text("\"");

    for (; *text; text++) {
        if (*text == '\n')
            append(&out, case_text("\\n"));
        else
            append(&out, case_text("%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text));
    }
    append(&out, case_text("\""));
    return out;
}

static bool is_utf8(const char *text)
{
    /* Those of the pool that are not: YAML cannot say them. */
    return !strchr(text, '\xff') && strcmp(text, "\xc3") != 0 && !strstr(text, "\xed\xa0");
}

static char *random_string_attribute(struct random *random)
{
    bool regex = random_below(random, 2) == 0;
    char *settings, *key = quoted(RANDOM_OF(random, keys));

    settings = case_text("key: %s, enabled_regex_matching: %s, invert_match: %s, values: [", key,
        regex ? "true" : "false", random_below(random, 3) == 0 ? "true" : "false");
    free(key);
    for (size_t i = 0, count = random_below(random, 4) == 0 ? random_below(random, 24)
                                                            : 1 + random_below(random, 2);
         i < count; i++) {
        const char *text = regex ? RANDOM_OF(random, patterns) : RANDOM_OF(random, texts);
        char *value;

        if (!is_utf8(text))
            continue;
        value = quoted(text);
        append(&settings, case_text("%s, ", value));
        free(value);
    }
    append(&settings, case_text("]"));
    return settings;
}

static char *random_status_code(struct random *random)
{
    static const char *const codes[] = {"OK", "ERROR", "UNSET"};

    if (random_below(random, 3) == 0)
        return case_text(
            "status_codes: [%s, %s]", RANDOM_OF(random, codes), RANDOM_OF(random, codes));
    return case_text("status_codes: [%s]", RANDOM_OF(random, codes));
}

static char *random_probabilistic(struct random *random)
{
    static const double shares[] = {0, 0.1, 1, 5, 10, 25, 33.3, 50, 66.6, 90, 99.99, 100, 101, -1};
    static const char *const salts[] = {"", "default-hash-seed", "custom-salt", "é", "x"};
    double share = random_below(random, 2) == 0
                       ? RANDOM_OF(random, shares)
                       : (double)(random_next(random) >> 11) * 0x1p-53 * 100;

    return case_text(
        "sampling_percentage: %.17g, hash_salt: \"%s\"", share, RANDOM_OF(random, salts));
}

static char *random_latency(struct random *random, bool *out_is_bounded)
{
    int64_t threshold = (int64_t)random_below(random, 300) - 10;

    if (random_below(random, 2) == 0)
        return case_text("threshold_ms: %" PRId64, threshold);
    *out_is_bounded = true;
    return case_text("threshold_ms: %" PRId64 ", upper_threshold_ms: %" PRId64, threshold,
        threshold + (int64_t)random_below(random, 300) - 20);
}

static char *random_policies(struct random *random, bool *out_is_bounded)
{
    char *settings = case_text(
        "sample_on_first_match: %s\npolicies:\n", random_below(random, 4) == 0 ? "true" : "false");

    for (size_t i = 0, count = 1 + random_below(random, 6); i < count; i++) {
        static const char *const types[] = {"string_attribute", "string_attribute",
            "string_attribute", "status_code", "probabilistic", "probabilistic", "latency",
            "always_sample"};
        const char *type = RANDOM_OF(random, types);
        char *own;

        /* Rarely: it leaves nothing to the others but the credit. */
        if (strcmp(type, "always_sample") == 0 && random_below(random, 4) > 0)
            type = "latency";
        own = type[0] == 'a'                          ? case_text("%s", "")
              : strcmp(type, "string_attribute") == 0 ? random_string_attribute(random)
              : strcmp(type, "status_code") == 0      ? random_status_code(random)
              : type[0] == 'p'                        ? random_probabilistic(random)
                                                      : random_latency(random, out_is_bounded);
        append(&settings, case_text("  - {name: p%zu, type: %s, %s: {%s}}\n", i, type, type, own));
        free(own);
    }
    return settings;
}

static void random_attribute(struct random *random, struct otlp_build *build, uint32_t field)
{
    static const struct otlp_attribute items[] = {OTLP_TEXT("", "value1"), OTLP_INT("", 1)};
    struct otlp_attribute attribute = {.key = RANDOM_OF(random, keys)};

    switch (random_below(random, 12)) {
    case 0:
        attribute.kind = OTLP_KIND_INT;
        attribute.integer = (int64_t)random_below(random, 5);
        break;
    case 1:
        attribute.kind = OTLP_KIND_BOOL;
        attribute.integer = (int64_t)random_below(random, 2);
        break;
    case 2:
        attribute.kind = OTLP_KIND_DOUBLE;
        attribute.number = 5.0;
        break;
    case 3:
        attribute.kind = OTLP_KIND_ARRAY;
        attribute.items = items;
        attribute.items_count = ARRAY_COUNT(items);
        break;
    case 4:
        attribute.kind = random_below(random, 2) ? OTLP_KIND_EMPTY : OTLP_KIND_ABSENT;
        break;
    case 5:
        attribute.kind = OTLP_KIND_BYTES;
        attribute.text = "value1";
        break;
    default:
        attribute.kind = OTLP_KIND_TEXT;
        attribute.text = RANDOM_OF(random, texts);
    }
    otlp_attribute(build, field, &attribute);
}

static void random_times(
    struct random *random, struct otlp_span *span, bool is_first, bool is_only, bool is_bounded)
{
    span->start_unix_ns = BASE_UNIX_NS + 1000000000ull + random_below(random, 200000000);
    span->end_unix_ns = span->start_unix_ns + random_below(random, 300000000) - 20000000;
    if (is_bounded) {
        /* The rest lies within 100 ms of the first one's inside. */
        if (is_first) {
            span->start_unix_ns = BASE_UNIX_NS + 900000000ull - random_below(random, 300000000);
            span->end_unix_ns = BASE_UNIX_NS + 1100000000ull - random_below(random, 100000000);
        } else {
            span->start_unix_ns = BASE_UNIX_NS + 900000000ull + random_below(random, 50000000);
            span->end_unix_ns = span->start_unix_ns + random_below(random, 50000000);
        }
    }
    if (random_below(random, 16) == 0 && (!is_bounded || is_only))
        span->end_unix_ns = 0;
    if (random_below(random, 16) == 0 && is_only)
        span->start_unix_ns = 0;
}

static void random_trace(
    struct random *random, struct case_set *set, uint64_t number, bool is_bounded)
{
    struct otlp_build build = {0};
    struct trace_id id = otlp_trace_id(random_next(random));
    size_t resources = 1 + random_below(random, 3), per_resource = 1 + random_below(random, 3);

    for (size_t i = 0; i < resources; i++) {
        otlp_resource_spans(&build);
        otlp_begin(&build, 1);
        for (size_t j = random_below(random, 4); j > 0; j--)
            random_attribute(random, &build, 1);
        otlp_end(&build);
        otlp_scope_spans(&build);
        otlp_begin(&build, 1);
        for (size_t j = random_below(random, 2); j > 0; j--)
            random_attribute(random, &build, 3);
        otlp_end(&build);
        for (size_t j = 0; j < per_resource; j++) {
            struct otlp_span span = {
                .trace_id = id, .span_id = otlp_span_id(i * per_resource + j + 1), .name = "op"};

            random_times(random, &span, i + j == 0, resources * per_resource == 1, is_bounded);
            span.status = (uint32_t)random_below(random, 8);
            if (span.status > 3)
                span.status = 0;
            otlp_begin(&build, 2);
            otlp_span_fields(&build, &span);
            for (size_t a = random_below(random, 6); a > 0; a--)
                random_attribute(random, &build, 9);
            otlp_end(&build);
        }
        otlp_end(&build);
        otlp_end(&build);
    }
    (void)case_set_add(set, &id, otlp_slice(&build), case_text("trace %" PRIu64, number));
    otlp_build_deinit(&build);
}

void case_sets_random(struct case_sets *sets, uint64_t seed, size_t count, size_t set_count)
{
    struct random random = {seed};
    uint64_t number = 0;

    for (size_t i = 0; i < set_count; i++) {
        bool is_bounded = false;
        char *settings = random_policies(&random, &is_bounded);
        struct case_set *set = case_sets_add(sets, case_text("random-%zu", i + 1), settings);

        for (size_t j = count * i / set_count; j < count * (i + 1) / set_count; j++)
            random_trace(&random, set, number++, is_bounded);
    }
}
