/* Conditions from a grammar over attributes of all types, spans to match: small pools, so that everything meets everything.
 *
 * Left out is what has no fixed answer in the Collector: the present time, the order of a map literal's keys, and two lists
 * made by Split compared with each other, which crashes it. */
#include "tests/collector/ottl_random.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/ottl/ottl.h"
#include "tests/kit/splitmix.h"

#define CONDITIONS_A_SET 100
#define TRACES_A_CONDITION 8
#define REFUSED_MAX 20
#define TEXT_MAX 4000

struct random {
    uint64_t state;
    bool is_event;
    char text[TEXT_MAX]; /* the condition being written */
    size_t len;
};

static uint64_t random_next(struct random *random)
{
    return splitmix64(&random->state);
}

static size_t below(struct random *random, size_t bound)
{
    return (size_t)(random_next(random) % bound);
}

#define RANDOM_OF(random, pool) ((pool)[below(random, ARRAY_COUNT(pool))])

static void put(struct random *random, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct random *random, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(random->text + random->len, TEXT_MAX - random->len, format, args);
    va_end(args);
    ASSERT(len >= 0);
    random->len += (size_t)len;
    ASSERT(random->len < TEXT_MAX);
}

/* -- conditions ------------------------------------------------------------------------------------------------- */

static const char *const keys[] = {"n", "s", "f", "b", "e", "l", "m", "y", "j", "t", "gone"};
static const char *const strings[] = {"\"\"", "\"5\"", "\"a\"", "\"abc\"", "\"b\"", "\"x y\"", "\"\\u00e9A\"", "\"0\"", "\"1.5\"",
    "\"true\"", "\"k\"", "\"10.0.0.7\"", "\"1h30m\"", "\"{\\\"a\\\": 1}\"", "\"[1, \\\"a\\\", null]\"", "\",\"", "\"\\x00\"",
    "\"<&>\\n\"", "\"0102030405060708\"", "\"-7\"", "\"1e3\"", "\"0x1p-2\"", "\"1_0\"", "\"2024-02-29T12:34:56.789Z\""};
static const char *const patterns[] = {"\"a\"", "\"^5$\"", "\"^a.c$\"", "\"\"", "\"[0-9]+\"", "\"(?i)É\"", "\"b|c\"", "\"^$\"", "\"{\"",
    "\"\\\\d\\\\.\"", "\"Z\""};
static const char *const ints[] = {"0", "1", "2", "5", "7", "250", "9223372036854775807"};
static const char *const floats[] = {"0.0", "1.0", "1.5", "5.0", ".25", "2.", "1.0e21", "1.5e-7", "9223372036854775808.0"};
static const char *const enums[] = {"SPAN_KIND_SERVER", "SPAN_KIND_UNSPECIFIED", "STATUS_CODE_ERROR", "STATUS_CODE_OK", "STATUS_CODE_UNSET"};
static const char *const compares[] = {"==", "!=", "<", "<=", ">", ">="};
static const char *const signs[] = {"+", "-", "*", "/"};
static const char *const span_paths[] = {"span.name", "span.kind", "span.kind.string", "span.kind.deprecated_string", "span.status.code",
    "span.status.message", "span.trace_id.string", "span.span_id.string", "span.parent_span_id.string", "span.trace_state",
    "span.trace_state[\"k\"]", "span.trace_state[\"gone\"]", "span.start_time_unix_nano", "span.end_time_unix_nano", "span.start_time",
    "span.end_time", "span.dropped_attributes_count", "span.dropped_events_count", "span.dropped_links_count", "span.flags",
    "span.events", "span.links", "span.status", "span.trace_id", "span.span_id", "span.parent_span_id", "resource.dropped_attributes_count",
    "scope.name", "scope.version", "instrumentation_scope.name", "scope.dropped_attributes_count", "resource.schema_url"};
static const char *const event_paths[] = {"spanevent.name", "spanevent.time", "spanevent.time_unix_nano",
    "spanevent.dropped_attributes_count", "name", "spanevent.event_index"};
static const char *const parts[] = {"span.attributes", "attributes", "resource.attributes", "scope.attributes", "span.attributes"};

static void put_value(struct random *random, unsigned depth);
static void put_bool(struct random *random, unsigned depth);

static void put_attribute(struct random *random, unsigned depth)
{
    put(random, "%s[\"%s\"]", RANDOM_OF(random, parts), RANDOM_OF(random, keys));
    while (below(random, 4) == 0) {
        switch (below(random, 5)) {
        case 0:
            put(random, "[%zu]", below(random, 3));
            break;
        case 1:
            put(random, "[");
            if (depth > 0 && below(random, 2))
                put_attribute(random, 0);
            else
                put(random, "-1");
            put(random, "]");
            break;
        default:
            put(random, "[\"%s\"]", below(random, 2) ? "k" : "a");
        }
    }
}

static void put_path(struct random *random)
{
    if (random->is_event && below(random, 2))
        put(random, "%s", RANDOM_OF(random, event_paths));
    else
        put(random, "%s", RANDOM_OF(random, span_paths));
}

static void put_map(struct random *random, unsigned depth)
{
    put(random, "{");
    for (size_t i = below(random, 3); i > 0; i--) {
        put(random, "\"%s\": ", i == 2 ? "a" : "k");
        put_value(random, depth);
        put(random, "%s", i > 1 ? ", " : "");
    }
    put(random, "}");
}

static void put_list(struct random *random, unsigned depth)
{
    put(random, "[");
    for (size_t i = below(random, 4); i > 0; i--) {
        put_value(random, depth);
        put(random, "%s", i > 1 ? ", " : "");
    }
    put(random, "]");
}

static void put_literal(struct random *random, unsigned depth)
{
    switch (below(random, 10)) {
    case 0:
        put(random, "nil");
        break;
    case 1:
        put(random, "%s", below(random, 2) ? "true" : "false");
        break;
    case 2:
        put(random, "%s", RANDOM_OF(random, enums));
        break;
    case 3:
        put(random, "0x%s", below(random, 2) ? "0102" : "61");
        break;
    case 4:
        put(random, "%s%s", below(random, 3) == 0 ? "-" : "", RANDOM_OF(random, floats));
        break;
    case 5:
    case 6:
        put(random, "%s", RANDOM_OF(random, strings));
        break;
    case 7:
        if (depth > 0) {
            if (below(random, 2))
                put_map(random, depth - 1);
            else
                put_list(random, depth - 1);
            break;
        }
        __attribute__((fallthrough));
    default:
        put(random, "%s%s", below(random, 4) == 0 ? "-" : "", RANDOM_OF(random, ints));
    }
}

/* Nearly always a text. */
static void put_string(struct random *random, unsigned depth)
{
    static const char *const keys_of_texts[] = {"s", "j", "t"};

    switch (below(random, 8)) {
    case 0:
        put_value(random, depth > 0 ? depth - 1 : 0);
        break;
    case 1:
        put(random, "span.name");
        break;
    case 2:
    case 3:
        put(random, "%s", RANDOM_OF(random, strings));
        break;
    case 4:
        if (depth > 0) {
            put(random, "%s(", below(random, 2) ? "ToLowerCase" : "ToUpperCase");
            put_string(random, depth - 1);
            put(random, ")");
            break;
        }
        __attribute__((fallthrough));
    default:
        put(random, "%s[\"%s\"]", RANDOM_OF(random, parts), RANDOM_OF(random, keys_of_texts));
    }
}

static void put_int(struct random *random, unsigned depth)
{
    switch (below(random, 5)) {
    case 0:
        put_value(random, depth > 0 ? depth - 1 : 0);
        break;
    case 1:
        put_attribute(random, 0);
        break;
    default:
        put(random, "%s", RANDOM_OF(random, ints));
    }
}

static void put_duration(struct random *random, unsigned depth)
{
    if (below(random, 2))
        put(random, "Duration(%s)", below(random, 2) ? "\"250ms\"" : "\"-1h2m3.5s\"");
    else if (below(random, 4) == 0)
        put_value(random, depth);
    else
        put(random, "(span.end_time - span.start_time)");
}

static void put_time(struct random *random, unsigned depth)
{
    static const char *const times[] = {"span.start_time", "span.end_time", "Unix(1700000000)", "Unix(5, -7)", "Unix(0, 1500000000)",
        "Time(\"2024-02-29 1:02:03\", \"%Y-%m-%d %H:%M:%S\")", "Time(span.attributes[\"t\"], \"%FT%T.%fZ\")",
        "Time(\"29 feb 24 3:04:05.75 PM +0130\", \"%d %b %y %I:%M:%S %p %z\")"};

    if (below(random, 6) == 0)
        put_value(random, depth);
    else
        put(random, "%s", RANDOM_OF(random, times));
}

/* A call with one argument of the wanted kind. */
static void put_call_of(struct random *random, const char *name, void (*put_argument)(struct random *, unsigned), unsigned depth)
{
    put(random, "%s(", name);
    put_argument(random, depth > 0 ? depth - 1 : 0);
    put(random, ")");
}

static void put_text_call(struct random *random, unsigned depth)
{
    static const char *const names[] = {"ToLowerCase", "ToUpperCase", "SHA256", "FNV", "Trim", "Duration"};

    switch (below(random, 7)) {
    case 0:
        put_call_of(random, RANDOM_OF(random, names), put_string, depth);
        break;
    case 1:
        put(random, "Concat(");
        put_list(random, depth > 0 ? depth - 1 : 0);
        put(random, ", \"-\")");
        break;
    case 2:
        put(random, "Substring(");
        put_string(random, 0);
        put(random, ", ");
        put_int(random, 0);
        put(random, ", ");
        put_int(random, 0);
        put(random, "%s)", below(random, 2) ? ", utf8_safe=true" : "");
        break;
    case 3:
        put(random, "Split(");
        put_string(random, 0);
        put(random, ", %s)[%zu]", RANDOM_OF(random, strings), below(random, 3));
        break;
    case 4:
        put(random, "Trim%s(", below(random, 2) ? "Prefix" : "Suffix");
        put_string(random, 0);
        put(random, ", %s)", RANDOM_OF(random, strings));
        break;
    case 5:
        put(random, "ExtractPatterns(");
        put_string(random, 0);
        put(random, ", \"(?P<k>[a-z])(?P<a>[0-9]*)\")");
        if (below(random, 2))
            put(random, "[\"k\"]");
        break;
    default:
        put(random, "Trim(");
        put_string(random, 0);
        put(random, ", \"ac\")");
    }
}

static void put_value_call(struct random *random, unsigned depth)
{
    static const char *const likes[] = {"Int", "Double", "String", "Bool", "Len", "Int", "String"};

    switch (below(random, 7)) {
    case 0:
        put(random, "Coalesce([");
        put_attribute(random, 0);
        put(random, ", ");
        put_value(random, 0);
        put(random, "])");
        break;
    case 1:
        put_call_of(random, "ParseJSON", put_string, depth);
        if (below(random, 2))
            put(random, "[%s]", below(random, 2) ? "\"a\"" : "1");
        break;
    case 2:
        put(random, "%s(%s)", below(random, 2) ? "Keys" : "Values", below(random, 2) ? "span.attributes[\"m\"]" : "resource.attributes");
        if (below(random, 2))
            put(random, "[%zu]", below(random, 3));
        break;
    case 3:
        put(random, "%s(%s)", below(random, 2) ? "TraceID" : "SpanID",
            below(random, 3) == 0   ? "0x0102030405060708"
            : below(random, 2) == 0 ? "span.attributes[\"y\"]"
                                    : "span.trace_id.string");
        break;
    case 4:
        put(random, "Len(Split(");
        put_string(random, 0);
        put(random, ", \"%s\"))", below(random, 2) ? "," : "");
        break;
    default:
        put_call_of(random, RANDOM_OF(random, likes), put_value, depth);
    }
}

static void put_time_call(struct random *random, unsigned depth)
{
    static const char *const of_durations[] = {"Nanoseconds", "Microseconds", "Milliseconds", "Seconds", "Minutes", "Hours"};
    static const char *const of_times[] = {"UnixSeconds", "UnixMilli", "UnixMicro", "UnixNano"};

    switch (below(random, 4)) {
    case 0:
        put_call_of(random, RANDOM_OF(random, of_durations), put_duration, depth);
        break;
    case 1:
        put_call_of(random, RANDOM_OF(random, of_times), put_time, depth);
        break;
    case 2:
        put_duration(random, 0);
        break;
    default:
        put_time(random, 0);
    }
}

static void put_math(struct random *random, unsigned depth)
{
    bool brackets = below(random, 2);

    put(random, "%s", brackets ? (below(random, 4) == 0 ? "-(" : "(") : "");
    if (below(random, 3) == 0)
        put_time_call(random, depth - 1);
    else
        put_int(random, depth - 1);
    put(random, " %s ", RANDOM_OF(random, signs));
    if (below(random, 3) == 0)
        put_time_call(random, depth - 1);
    else
        put_int(random, depth - 1);
    put(random, "%s", brackets ? ")" : "");
}

static void put_value(struct random *random, unsigned depth)
{
    switch (below(random, depth > 0 ? 14 : 6)) {
    case 0:
    case 1:
        put_literal(random, depth);
        break;
    case 2:
        put_path(random);
        break;
    case 3:
    case 4:
    case 5:
        put_attribute(random, depth);
        break;
    case 6:
        put(random, "%s", below(random, 2) ? "resource.attributes" : "span.attributes[\"m\"]");
        break;
    case 7:
    case 8:
        put_text_call(random, depth - 1);
        break;
    case 9:
    case 10:
        put_value_call(random, depth - 1);
        break;
    case 11:
        put_time_call(random, depth - 1);
        break;
    default:
        put_math(random, depth);
    }
}

static void put_test(struct random *random, unsigned depth)
{
    static const char *const names[] = {"IsString", "IsInt", "IsDouble", "IsBool", "IsMap", "IsList", "IsEmpty"};

    switch (below(random, 7)) {
    case 0:
        put(random, "%s", random->is_event ? "IsString(name)" : "IsRootSpan()");
        break;
    case 1:
    case 2:
        put(random, "IsMatch(");
        put_value(random, depth);
        put(random, ", %s)", below(random, 5) == 0 ? "span.attributes[\"s\"]" : RANDOM_OF(random, patterns));
        break;
    case 3:
        put(random, "%s(", below(random, 2) ? "HasPrefix" : "HasSuffix");
        put_string(random, depth);
        put(random, ", %s)", RANDOM_OF(random, strings));
        break;
    case 4:
        put(random, "ContainsValue(%s, ", below(random, 2) ? "span.attributes[\"l\"]" : "[1, \"a\", 5.0, true]");
        put_value(random, depth);
        put(random, ")");
        break;
    case 5:
        put(random, "IsInCIDR(");
        put_string(random, 0);
        put(random, ", [\"10.0.0.0/%zu\", \"::ffff:a00:0/104\"])", below(random, 33));
        break;
    default:
        put_call_of(random, RANDOM_OF(random, names), put_value, depth);
    }
}

static void put_bool(struct random *random, unsigned depth)
{
    switch (below(random, depth > 0 ? 12 : 6)) {
    case 0:
        put_test(random, depth);
        break;
    case 6:
    case 7:
        put_bool(random, depth - 1);
        put(random, " %s ", below(random, 2) ? "and" : "or");
        put_bool(random, depth - 1);
        break;
    case 8:
        put(random, "not (");
        put_bool(random, depth - 1);
        put(random, ")");
        break;
    case 9:
        put(random, "%s", below(random, 2) ? "true" : "false");
        break;
    default:
        put_value(random, depth);
        put(random, " %s ", RANDOM_OF(random, compares));
        put_value(random, depth);
    }
}

/* -- spans -------------------------------------------------------------------------------------------------------- */

static const char *const value_texts[] = {"", "5", "a", "abc", "\xc3\xa9", "\xff", "x y", "10.0.0.7", "1h30m", "{\"k\": 1.5, \"a\": [true]}", "[1]",
    "a,b,", "2024-02-29T12:34:56.789Z", "0102030405060708", "{", "<&>", "-7"};

static void random_value(struct random *random, struct otlp_attribute *value)
{
    static const struct otlp_attribute inner[] = {OTLP_INT("k", 1), OTLP_TEXT("a", "x"), OTLP_DOUBLE("k", 2)};
    static const struct otlp_attribute nested[] = {OTLP_KVLIST("k", inner, 2), OTLP_TEXT("a", "a"), OTLP_EMPTY("n")};
    static const struct otlp_attribute items[] = {OTLP_TEXT("", "a"), OTLP_INT("", 1), OTLP_DOUBLE("", 5), OTLP_BOOL("", 1), OTLP_EMPTY("")};
    static const double numbers[] = {0, 5, 1.5, -0.25, 1e21, 1e-7, 123456789012345680.0, 0x1p63, 1e300};
    static const int64_t integers[] = {0, 1, 5, -7, INT64_MAX, INT64_MIN, 250};

    value->kind = (enum otlp_kind)(OTLP_KIND_ABSENT + below(random, OTLP_KIND_KVLIST + 1));
    value->integer = value->kind == OTLP_KIND_BOOL ? (int64_t)below(random, 2) : RANDOM_OF(random, integers);
    value->number = RANDOM_OF(random, numbers);
    value->text = RANDOM_OF(random, value_texts);
    value->text_len = value->kind == OTLP_KIND_BYTES && below(random, 2) ? strlen(value->text) : 0;
    if (value->kind == OTLP_KIND_BYTES && below(random, 3) == 0) {
        value->text = "\x01\x02\x03\x04\x05\x06\x07\x08";
        value->text_len = 8;
    }
    value->items = value->kind == OTLP_KIND_ARRAY ? items : below(random, 2) ? nested : inner;
    value->items_count = value->kind == OTLP_KIND_ARRAY ? below(random, ARRAY_COUNT(items) + 1) : below(random, 4);
}

static size_t random_attributes(struct random *random, struct otlp_attribute *attributes, size_t most)
{
    size_t count = below(random, most + 1);

    for (size_t i = 0; i < count; i++) {
        memset(&attributes[i], 0, sizeof(attributes[i]));
        attributes[i].key = RANDOM_OF(random, keys);
        random_value(random, &attributes[i]);
        /* Half of them are what their key says. */
        if (below(random, 2) == 0)
            continue;
        if (strchr("sjt", attributes[i].key[0]) && attributes[i].key[1] == 0)
            attributes[i].kind = OTLP_KIND_TEXT;
        else if (attributes[i].key[0] == 'n')
            attributes[i].kind = OTLP_KIND_INT;
        else if (attributes[i].key[0] == 'f')
            attributes[i].kind = OTLP_KIND_DOUBLE;
    }
    return count;
}

#define ATTRIBUTES_MAX 9

static void random_span(struct random *random, struct otlp_build *build, const struct trace_id *id)
{
    static const char *const states[] = {"", "k=v,a=b", "k=v, k=w", "=", "k=", "a=1,,k=x y", "K=v"};
    struct otlp_attribute attributes[ATTRIBUTES_MAX], of_events[2][3];
    struct otlp_event events[2];
    struct otlp_link links[2] = {{.trace_id = *id}, {.trace_id = *id}};
    struct otlp_span span = {.trace_id = *id, .span_id = otlp_span_id(random_next(random)), .attributes = attributes,
        .events = events, .links = links};

    span.attributes_count = random_attributes(random, attributes, ATTRIBUTES_MAX);
    span.name = RANDOM_OF(random, value_texts);
    span.kind = (uint32_t)below(random, 8);
    span.status = (uint32_t)below(random, 4);
    span.status_message = below(random, 2) ? "a" : "";
    span.trace_state = RANDOM_OF(random, states);
    if (below(random, 2))
        span.parent_span_id = otlp_span_id(7);
    span.start_unix_ns = below(random, 8) == 0 ? random_next(random) : 1700000000000000000ull + below(random, 1000);
    span.end_unix_ns = below(random, 8) == 0 ? 0 : span.start_unix_ns + 250000000u * below(random, 3);
    span.flags = (uint32_t)below(random, 4) * 0x100u;
    span.dropped_attributes = (uint32_t)below(random, 3);
    span.dropped_events = (uint32_t)below(random, 3);
    span.events_count = random->is_event ? below(random, 3) : below(random, 2);
    span.links_count = below(random, 3);
    for (size_t i = 0; i < span.events_count; i++) {
        events[i] = (struct otlp_event){.time_unix_ns = span.start_unix_ns, .name = RANDOM_OF(random, value_texts), .attributes = of_events[i]};
        events[i].attributes_count = random_attributes(random, of_events[i], ARRAY_COUNT(of_events[i]));
    }
    otlp_span(build, &span);
}

/* The resource says which condition is asked; all others answer false at once. */
static void random_trace(struct random *random, struct case_set *set, uint64_t number, size_t condition)
{
    struct trace_id id = otlp_trace_id(random_next(random));
    struct otlp_attribute attributes[5] = {OTLP_INT("case", (int64_t)condition)};
    struct otlp_build build = {0};

    otlp_resource_spans(&build);
    otlp_resource(&build, 1 + random_attributes(random, attributes + 1, 4), attributes);
    otlp_scope_spans(&build);
    otlp_begin(&build, 1);
    otlp_text(&build, 1, RANDOM_OF(random, value_texts));
    otlp_text(&build, 2, "1.5");
    for (size_t i = random_attributes(random, attributes, 2); i > 0; i--)
        otlp_attribute(&build, 3, &attributes[i - 1]);
    otlp_varint(&build, 4, below(random, 3));
    otlp_end(&build);
    random_span(random, &build, &id);
    otlp_end(&build);
    otlp_end(&build);
    (void)case_set_add(set, &id, otlp_slice(&build), case_text("trace %" PRIu64 " of condition %zu: %s", number, condition, random->text));
    otlp_build_deinit(&build);
}

/* -- sets ----------------------------------------------------------------------------------------------------------- */

static char *yaml_quoted(const char *text)
{
    char *quoted = malloc(strlen(text) * 2 + 3), *out = quoted;

    ASSERT(quoted);
    *out++ = '"';
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            *out++ = '\\';
        *out++ = *text;
    }
    *out++ = '"';
    *out = 0;
    return quoted;
}

static char *policy_of(const struct random *random, const char *name, const char *condition)
{
    char *quoted = yaml_quoted(condition);
    char *policy = case_text("  - {name: %s, type: ottl_condition, ottl_condition: {%s: [%s]}}\n", name,
        random->is_event ? "spanevent" : "span", quoted);

    free(quoted);
    return policy;
}

static void append(char **text, char *more)
{
    char *joined = case_text("%s%s", *text, more);

    free(*text);
    free(more);
    *text = joined;
}

/* One policy is sampled when the condition is true, the other one when it is false. */
static void append_policies(struct random *random, char **settings, size_t number)
{
    static const char *const forms[][2] = {{"t", "(%s)"}, {"f", "not (%s)"}};

    for (size_t i = 0; i < 2; i++) {
        char *name = case_text("%s%zu", forms[i][0], number);
        char *condition = case_text(i == 0 ? "resource.attributes[\"case\"] == %zu and (%s)" : "resource.attributes[\"case\"] == %zu and not (%s)",
            number, random->text);

        append(settings, policy_of(random, name, condition));
        free(name);
        free(condition);
    }
}

static bool is_accepted(const struct random *random, struct ottl_program *program)
{
    char *error = NULL;
    uint32_t unused;
    int r = ottl_program_add(program, random->is_event ? OTTL_CONTEXT_SPAN_EVENT : OTTL_CONTEXT_SPAN, random->text, &unused, &error);

    ASSERT(r >= 0);
    free(error);
    return r == 0;
}

void case_sets_ottl(struct case_sets *sets, uint64_t seed, size_t count)
{
    struct random *random = calloc(1, sizeof(*random));
    size_t refused = 0, done = 0;

    ASSERT(random);
    random->state = seed;
    for (size_t s = 0; done < count; s++) {
        char *settings = case_text("policies:\n");
        struct ottl_program *program = ottl_program_new();
        struct case_set traces = {0}, *set;

        ASSERT(program);
        for (size_t i = 0; i < CONDITIONS_A_SET && done < count; i++, done++) {
            random->is_event = below(random, 5) == 0;
            do {
                random->len = 0;
                put_bool(random, 3);
                if (is_accepted(random, program))
                    break;
                if (refused++ < REFUSED_MAX) {
                    char *own = policy_of(random, "p", random->text);

                    set = case_sets_add(
                        sets, case_text("ottl-refused-%zu", refused), case_text("policies:\n%s", own));
                    free(own);
                    set->refused = case_text("failed to create policy evaluator for \"p\"");
                }
            } while (true);
            append_policies(random, &settings, i);
            for (size_t j = 0; j < TRACES_A_CONDITION; j++)
                random_trace(random, &traces, j, i);
        }
        ottl_program_free(program);
        set = case_sets_add(sets, case_text("ottl-%zu", s + 1), settings);
        set->traces = traces.traces;
        set->count = traces.count;
    }
    free(random);
}
