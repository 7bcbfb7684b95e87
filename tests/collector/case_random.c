/* Random policies, also inside each other, and traces for them, out of small pools in which everything meets everything soon.
 *
 * Left out is what depends on order or time in the Collector, and only there:
 *   latency    with an upper bound the first span of a trace spans all the others; a start is missing only in traces of
 *              one span
 *   rates      a bucket fills at once, so that only what one trace costs decides
 *   composite  a share is either larger than all traces together or too small for any
 *   bytes      where they are limited a trace comes in one request, and no resource or scope twice
 *   count      no two spans of a trace are equal: here they are one */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "tests/collector/case_set.h"
#include "tests/kit/splitmix.h"

#define BASE_UNIX_NS 1700000000000000000ull

struct random {
    uint64_t state;
};

static uint64_t random_next(struct random *random)
{
    return splitmix64(&random->state);
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
    bool regex = random_below(random, 3) == 0;
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

static char *random_numeric_attribute(struct random *random)
{
    static const int64_t bounds[] = {INT64_MIN, -5, -1, 1, 2, 3, 5, 7, 10, INT64_MAX};
    int64_t min = random_below(random, 3) == 0 ? 0 : RANDOM_OF(random, bounds);
    int64_t max = min == 0 || random_below(random, 3) > 0 ? RANDOM_OF(random, bounds) : 0;
    char *key = quoted(RANDOM_OF(random, keys)), *settings;

    settings =
        case_text("key: %s, min_value: %" PRId64 ", max_value: %" PRId64 ", invert_match: %s", key,
            min, max, random_below(random, 3) == 0 ? "true" : "false");
    free(key);
    return settings;
}

static char *random_boolean_attribute(struct random *random)
{
    char *key = quoted(RANDOM_OF(random, keys));
    char *settings = case_text("key: %s, value: %s, invert_match: %s", key,
        random_below(random, 2) == 0 ? "true" : "false",
        random_below(random, 3) == 0 ? "true" : "false");

    free(key);
    return settings;
}

static char *random_span_count(struct random *random)
{
    return case_text("min_spans: %d, max_spans: %d", (int)random_below(random, 12) - 1,
        random_below(random, 2) == 0 ? 0 : (int)random_below(random, 16) - 1);
}

static const char *const trace_states[] = {"", "tk=v1", "a=b,tk=v1", "tk=v2,a=b", " tk=v1 ",
    "tk = v1", "tk=v1,tk=v2", "tk=v1,BAD=1", "tk=V1", "\ttk=v1\t,\ta=v2", "tk=v1,", ",,tk=v1", "tk=v1, ",
    "t1@sys=v1,tk=v2", "1a=b,tk=v1", "tk=v1,t@abcdefghijklmno=1", "tk=a b", "tk= v1", "tk=v1\xc3\xa9",
    "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1,l=1,m=1,n=1,o=1,p=1,q=1,r=1,s=1,t=1,u=1,v=1,w=1,x=1,"
    "y=1,z=1,aa=1,ab=1,ac=1,ad=1,ae=1,tk=v1",
    "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1,l=1,m=1,n=1,o=1,p=1,q=1,r=1,s=1,t=1,u=1,v=1,w=1,x=1,"
    "y=1,z=1,aa=1,ab=1,ac=1,ad=1,ae=1,af=1,tk=v1"};

static char *random_trace_state(struct random *random)
{
    static const char *const names[] = {"tk", "tk", "a", "t1@sys", "z", ""};
    static const char *const values[] = {"v1", "v2", "1", "b", "a b", " v1", "", "V1"};

    return case_text("key: \"%s\", values: [\"%s\", \"%s\"]", RANDOM_OF(random, names),
        RANDOM_OF(random, values), RANDOM_OF(random, values));
}

static char *random_rate_limiting(struct random *random)
{
    return case_text("spans_per_second: 1000000000, burst_capacity: %d", (int)random_below(random, 16) - 1);
}

static char *random_bytes_limiting(struct random *random)
{
    return case_text("bytes_per_second: 1000000000000, burst_capacity: %zu",
        60 + random_below(random, random_below(random, 2) == 0 ? 600 : 6000));
}

/* What a set's traces must keep to. */
struct limits {
    bool is_bounded, is_costed;
};

static char *random_policy(struct random *random, const char *place, struct limits *limits);

static char *random_list(struct random *random, const char *key, const char *place, struct limits *limits)
{
    char *list = case_text("%s: [", key);

    for (size_t i = random_below(random, 8) == 0 ? 0 : 1 + random_below(random, 3); i > 0; i--) {
        char *policy = random_policy(random, place, limits);

        append(&list, case_text("{name: s%zu, %s}%s", i % 2, policy, i > 1 ? ", " : ""));
        free(policy);
    }
    append(&list, case_text("]"));
    return list;
}

static char *random_not(struct random *random, struct limits *limits)
{
    char *policy = random_policy(random, "not", limits), *settings;

    settings = case_text("not_sub_policy: {name: n, %s}", policy);
    free(policy);
    return settings;
}

static char *random_composite(struct random *random, struct limits *limits)
{
    static const int64_t totals[] = {1000000, 1000000, 50000000, 0, -5};
    static const int percents[] = {10, 50, 100, 250, 0, -1};
    char *settings = case_text("max_total_spans_per_second: %" PRId64 ", policy_order: [s1], rate_allocation: "
                               "[{policy: s0, percent: %d}, {policy: s1, percent: %d}, {policy: s1, percent: %d}], ",
        RANDOM_OF(random, totals), RANDOM_OF(random, percents), RANDOM_OF(random, percents), RANDOM_OF(random, percents));

    append(&settings, random_list(random, "composite_sub_policy", "composite", limits));
    return settings;
}

static char *random_settings(struct random *random, const char *type, struct limits *limits)
{
    if (strcmp(type, "string_attribute") == 0)
        return random_string_attribute(random);
    if (strcmp(type, "numeric_attribute") == 0)
        return random_numeric_attribute(random);
    if (strcmp(type, "boolean_attribute") == 0)
        return random_boolean_attribute(random);
    if (strcmp(type, "status_code") == 0)
        return random_status_code(random);
    if (strcmp(type, "probabilistic") == 0)
        return random_probabilistic(random);
    if (strcmp(type, "latency") == 0)
        return random_latency(random, &limits->is_bounded);
    if (strcmp(type, "span_count") == 0)
        return random_span_count(random);
    if (strcmp(type, "trace_state") == 0)
        return random_trace_state(random);
    if (strcmp(type, "rate_limiting") == 0)
        return random_rate_limiting(random);
    if (strcmp(type, "bytes_limiting") == 0) {
        limits->is_costed = true;
        return random_bytes_limiting(random);
    }
    if (strcmp(type, "and") == 0)
        return random_list(random, "and_sub_policy", "and", limits);
    if (strcmp(type, "drop") == 0)
        return random_list(random, "drop_sub_policy", "drop", limits);
    if (strcmp(type, "not") == 0)
        return random_not(random, limits);
    if (strcmp(type, "composite") == 0)
        return random_composite(random, limits);
    return case_text("%s", ""); /* always_sample, trace_flags */
}

/* Whether a type that holds others may stand there. */
static bool may_stand(const char *type, const char *place)
{
    if (strcmp(type, "and") == 0)
        return strcmp(place, "top") == 0 || strcmp(place, "composite") == 0;
    if (strcmp(type, "not") == 0)
        return strcmp(place, "top") == 0 || strcmp(place, "and") == 0 || strcmp(place, "drop") == 0;
    if (strcmp(type, "drop") == 0 || strcmp(type, "composite") == 0)
        return strcmp(place, "top") == 0;
    return true;
}

static char *random_policy(struct random *random, const char *place, struct limits *limits)
{
    static const char *const types[] = {"string_attribute", "string_attribute", "string_attribute",
        "numeric_attribute", "numeric_attribute", "boolean_attribute", "boolean_attribute", "status_code",
        "probabilistic", "latency", "span_count", "trace_flags", "trace_state", "trace_state", "rate_limiting",
        "bytes_limiting", "always_sample", "and", "and", "not", "not", "drop", "composite"};
    const char *type;
    char *settings, *policy;

    do {
        type = RANDOM_OF(random, types);
        /* Rarely: it leaves nothing to the others but the credit. */
    } while (!may_stand(type, place) || (strcmp(type, "always_sample") == 0 && random_below(random, 3) > 0));
    settings = random_settings(random, type, limits);
    policy = case_text("type: %s, %s: {%s}", type, type, settings);
    free(settings);
    return policy;
}

static char *random_policies(struct random *random, struct limits *limits)
{
    char *settings = case_text(
        "sample_on_first_match: %s\npolicies:\n", random_below(random, 4) == 0 ? "true" : "false");

    /* Half of them alone: beside others most of its answers change nothing. */
    for (size_t i = 0, count = random_below(random, 2) == 0 ? 1 : 2 + random_below(random, 5); i < count; i++) {
        char *policy = random_policy(random, "top", limits);

        append(&settings, case_text("  - {name: p%zu, %s}\n", i, policy));
        free(policy);
    }
    return settings;
}

/* Which of these takes the credit says what a trace costs, to a few bytes. */
static char *random_scale(struct random *random, struct limits *limits)
{
    char *settings = case_text("policies:\n");
    size_t capacity = 80 + random_below(random, 600), step = 1 + random_below(random, 12);

    limits->is_costed = true;
    for (size_t i = 0; i < 60; i++)
        append(&settings, case_text("  - {name: p%zu, type: bytes_limiting, bytes_limiting: {bytes_per_second: 1000000000000, "
                                    "burst_capacity: %zu}}\n", i, capacity + i * step));
    return settings;
}

/* -- traces ------------------------------------------------------------------------------------------ */

static void random_attribute(struct random *random, struct otlp_build *build, uint32_t field)
{
    static const struct otlp_attribute items[] = {OTLP_TEXT("", "value1"), OTLP_INT("", 1), OTLP_BOOL("", 1),
        OTLP_DOUBLE("", 0.5), OTLP_EMPTY(""), OTLP_BYTES("", "\x00\xff", 2)};
    static const struct otlp_attribute pairs[] = {OTLP_TEXT("k", "value1"), OTLP_INT("http.method", -1), OTLP_ABSENT("x"),
        OTLP_ARRAY("list", items, ARRAY_COUNT(items)), OTLP_TEXT("", "")};
    struct otlp_attribute attribute = {.key = RANDOM_OF(random, keys)};

    switch (random_below(random, 14)) {
    case 0:
    case 1:
        attribute.kind = OTLP_KIND_INT;
        attribute.integer = (int64_t)random_below(random, 16) - 5;
        if (random_below(random, 8) == 0)
            attribute.integer = (int64_t)random_next(random);
        break;
    case 2:
    case 3:
        attribute.kind = OTLP_KIND_BOOL;
        attribute.integer = (int64_t)random_below(random, 2);
        break;
    case 4:
        attribute.kind = OTLP_KIND_DOUBLE;
        attribute.number = (double)random_below(random, 3) * 2.5;
        break;
    case 5:
        attribute.kind = OTLP_KIND_ARRAY;
        attribute.items = items;
        attribute.items_count = random_below(random, ARRAY_COUNT(items) + 1);
        break;
    case 6:
        attribute.kind = OTLP_KIND_KVLIST;
        attribute.items = pairs;
        attribute.items_count = random_below(random, ARRAY_COUNT(pairs) + 1);
        break;
    case 7:
        attribute.kind = random_below(random, 2) ? OTLP_KIND_EMPTY : OTLP_KIND_ABSENT;
        break;
    case 8:
        attribute.kind = OTLP_KIND_BYTES;
        attribute.text = "value1";
        break;
    default:
        attribute.kind = OTLP_KIND_TEXT;
        attribute.text = RANDOM_OF(random, texts);
        while (field != 9 && !is_utf8(attribute.text)) /* keeps resources and scopes readable in failures */
            attribute.text = RANDOM_OF(random, texts);
    }
    otlp_attribute(build, field, &attribute);
}

static void random_attributes(struct random *random, struct otlp_build *build, uint32_t field, size_t most)
{
    for (size_t i = random_below(random, most + 1); i > 0; i--)
        random_attribute(random, build, field);
}

/* Where in a trace a span stands. */
struct place {
    size_t number; /* of the span, from 0 */
    bool is_only, is_bounded;
};

static void random_times(struct random *random, struct otlp_span *span, const struct place *place)
{
    span->start_unix_ns = BASE_UNIX_NS + 1000000000ull + random_below(random, 200000000);
    span->end_unix_ns = span->start_unix_ns + random_below(random, 300000000) - 20000000;
    if (place->is_bounded) {
        /* The rest lies within 100 ms of the first one's inside. */
        if (place->number == 0) {
            span->start_unix_ns = BASE_UNIX_NS + 900000000ull - random_below(random, 300000000);
            span->end_unix_ns = BASE_UNIX_NS + 1100000000ull - random_below(random, 100000000);
        } else {
            span->start_unix_ns = BASE_UNIX_NS + 900000000ull + random_below(random, 50000000);
            span->end_unix_ns = span->start_unix_ns + random_below(random, 50000000);
        }
    }
    if (random_below(random, 16) == 0 && (!place->is_bounded || place->is_only))
        span->end_unix_ns = 0;
    if (random_below(random, 16) == 0 && place->is_only)
        span->start_unix_ns = 0;
}

static void random_event(struct random *random, struct otlp_build *build)
{
    otlp_begin(build, 11);
    if (random_below(random, 4) > 0)
        otlp_fixed64(build, 1, BASE_UNIX_NS + random_below(random, 1000));
    if (random_below(random, 4) > 0)
        otlp_text(build, 2, "exception");
    random_attributes(random, build, 3, 2);
    if (random_below(random, 8) == 0)
        otlp_varint(build, 4, random_below(random, 300));
    otlp_end(build);
}

static void random_link(struct random *random, struct otlp_build *build)
{
    struct trace_id id = otlp_trace_id(random_next(random));
    struct otlp_span_id span_id = otlp_span_id(random_next(random));

    otlp_begin(build, 13);
    if (random_below(random, 4) > 0)
        otlp_bytes(build, 1, id.bytes, sizeof(id.bytes));
    if (random_below(random, 4) > 0)
        otlp_bytes(build, 2, span_id.bytes, sizeof(span_id.bytes));
    otlp_text(build, 3, RANDOM_OF(random, trace_states));
    random_attributes(random, build, 4, 2);
    if (random_below(random, 4) == 0)
        otlp_fixed32(build, 6, (uint32_t)random_below(random, 3));
    otlp_end(build);
}

static void random_rest(struct random *random, struct otlp_build *build)
{
    random_attributes(random, build, 9, 5);
    for (size_t i = random_below(random, 8) == 0 ? 1 + random_below(random, 2) : 0; i > 0; i--)
        random_event(random, build);
    for (size_t i = random_below(random, 8) == 0 ? 1 + random_below(random, 2) : 0; i > 0; i--)
        random_link(random, build);
    if (random_below(random, 16) == 0) {
        otlp_varint(build, 10, random_below(random, 2000));
        otlp_varint(build, 14, random_below(random, 2));
    }
    if (random_below(random, 16) == 0)
        otlp_text(build, 1000, "unknown");
}

static void random_span(struct random *random, struct otlp_build *build, const struct trace_id *id,
    const struct place *place)
{
    static const char *const names[] = {"op", "", "GET /cart", "ж"};
    static const uint32_t flags[] = {0, 0, 0, 1, 2, 0x100, 0x301};
    struct otlp_span span = {.trace_id = *id, .span_id = otlp_span_id(place->number + 1)};

    random_times(random, &span, place);
    span.name = RANDOM_OF(random, names);
    span.status = (uint32_t)random_below(random, 8);
    if (span.status > 3)
        span.status = 0;
    if (random_below(random, 8) == 0)
        span.status_message = "because";
    if (random_below(random, 2) == 0)
        span.parent_span_id = otlp_span_id(random_below(random, 8));
    span.kind = (uint32_t)random_below(random, 7);
    span.trace_state = random_below(random, 2) == 0 ? RANDOM_OF(random, trace_states) : NULL;
    span.flags = RANDOM_OF(random, flags);
    otlp_begin(build, 2);
    otlp_span_fields(build, &span);
    random_rest(random, build);
    otlp_end(build);
}

/* A resource or a scope, or none at all; `unique` makes it unlike any other of the trace. */
static void random_header(
    struct random *random, struct otlp_build *build, bool is_resource, size_t unique)
{
    if (unique <= 1 && random_below(random, 8) == 0)
        return;
    otlp_begin(build, 1);
    if (!is_resource && random_below(random, 2) == 0)
        otlp_text(build, 1, "lib");
    random_attributes(random, build, is_resource ? 1 : 3, 3);
    if (unique > 0)
        otlp_attribute(build, is_resource ? 1 : 3, &(struct otlp_attribute)OTLP_INT("unique", (int64_t)unique));
    otlp_end(build);
}

static void random_resource_spans(struct random *random, struct otlp_build *build, const struct trace_id *id,
    struct place *place, const struct limits *limits, size_t number)
{
    size_t scopes = place->is_only ? 1 : 1 + random_below(random, 2);

    otlp_resource_spans(build);
    random_header(random, build, true, limits->is_costed ? number + 1 : 0);
    for (size_t i = 0; i < scopes; i++) {
        otlp_scope_spans(build);
        random_header(random, build, false, limits->is_costed ? i + 1 : 0);
        for (size_t spans = place->is_only ? 1 : 1 + random_below(random, 3); spans > 0; spans--) {
            random_span(random, build, id, place);
            place->number++;
        }
        otlp_end(build);
        if (random_below(random, 8) == 0 && i + 1 == scopes)
            otlp_schema_url(build, "https://example.org/schema");
    }
    otlp_end(build);
}

static void random_trace(
    struct random *random, struct case_set *set, uint64_t number, const struct limits *limits)
{
    struct otlp_build build = {0};
    struct trace_id id = otlp_trace_id(random_next(random));
    struct place place = {.is_only = random_below(random, 6) == 0, .is_bounded = limits->is_bounded};
    size_t resources = place.is_only ? 1 : 1 + random_below(random, 4);
    struct case_trace *trace;
    size_t ends[4], end_count = 0;

    for (size_t i = 0; i < resources; i++) {
        random_resource_spans(random, &build, &id, &place, limits, i);
        if (i + 1 < resources && !limits->is_bounded && !limits->is_costed && random_below(random, 2) == 0)
            ends[end_count++] = build.len;
    }
    trace = case_set_add(set, &id, otlp_slice(&build), case_text("trace %" PRIu64, number));
    ends[end_count++] = build.len;
    case_trace_cut(trace, ends, end_count);
    otlp_build_deinit(&build);
}

void case_sets_random(struct case_sets *sets, uint64_t seed, size_t count, size_t set_count)
{
    struct random random = {seed};
    uint64_t number = 0;

    for (size_t i = 0; i < set_count; i++) {
        struct limits limits = {0};
        char *settings = random_below(&random, 10) == 0 ? random_scale(&random, &limits) : random_policies(&random, &limits);
        struct case_set *set = case_sets_add(sets, case_text("random-%zu", i + 1), settings);

        set->shuffle_seed = random_next(&random) | 1;
        for (size_t j = count * i / set_count; j < count * (i + 1) / set_count; j++)
            random_trace(&random, set, number++, &limits);
    }
}
