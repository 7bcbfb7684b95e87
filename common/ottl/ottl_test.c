/* Conditions are true, false or in error exactly as the reference's worked examples say; what is no condition is refused
 * with the place where it goes wrong. */
#include "common/ottl/ottl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "tests/kit/otlp_build.h"

struct asked { /* a span with its header, kept as long as the run */
    struct otlp_build build;
    struct span_ref ref;
    struct span_walk walk;
    struct span_view view;
};

static void asked_init(struct asked *asked)
{
    span_walk_init(&asked->walk, otlp_slice(&asked->build));
    assert_true(span_walk_next(&asked->walk, &asked->ref));
    assert_int_equal(asked->ref.fault, SPAN_OK);
    assert_true(span_view_read(asked->ref.bytes, NULL, NULL, &asked->view));
}

#define START 1700000000000000000ull

/* Span A of the worked examples, and two events. */
static void build_example(struct asked *asked)
{
    static const struct otlp_attribute y[] = {OTLP_INT("y", 1)}, x[] = {OTLP_KVLIST("x", y, 1)};
    static const struct otlp_attribute tags[] = {OTLP_TEXT("", "a"), OTLP_TEXT("", "b")};
    static const struct otlp_attribute of_event[] = {OTLP_BOOL("exception.escaped", 1), OTLP_TEXT("s", "of the event")};
    static const struct otlp_attribute attributes[] = {OTLP_INT("n", 5), OTLP_TEXT("s", "5"), OTLP_DOUBLE("f", 5.0),
        OTLP_BOOL("b", 1), OTLP_EMPTY("empty"), OTLP_ARRAY("tags", tags, 2), OTLP_KVLIST("m", x, 1), OTLP_BYTES("y", "\x01\xab", 2),
        OTLP_TEXT("big", "héé"), OTLP_INT("n", 6), OTLP_TEXT("json", "{\"a\": [1, {\"b\": \"c\"}], \"n\": null}")};
    static const struct otlp_event events[] = {{START, "log", NULL, 0}, {START + 5, "exception", of_event, ARRAY_COUNT(of_event)}};
    const struct otlp_span span = {.trace_id = otlp_trace_id(1), .span_id = otlp_span_id(2), .name = "GET /cart", .kind = 2, .status = 2,
        .status_message = "boom", .start_unix_ns = START, .end_unix_ns = START + 250000000, .attributes = attributes,
        .attributes_count = ARRAY_COUNT(attributes), .events = events, .events_count = ARRAY_COUNT(events), .flags = 0x101,
        .dropped_attributes = 3, .dropped_events = 4, .dropped_links = 5};

    otlp_request_of(&asked->build, "cart", &span);
    asked_init(asked);
}

static const char *const words[] = {"false", "true", "error"};

static void check(struct ottl_run *run, const struct asked *asked, uint32_t condition, enum ottl_context context, const char *text,
    enum ottl_result wanted)
{
    enum ottl_result result = OTTL_FALSE;
    struct ottl_events events;
    struct slice event;
    char error[200];

    ottl_run_header(run, asked->ref.header);
    ottl_run_span(run, asked->ref.bytes, &asked->view, NULL);
    if (context == OTTL_CONTEXT_SPAN) {
        result = ottl_run_condition(run, condition);
    } else {
        ottl_events_start(&events, asked->ref.bytes);
        while (result == OTTL_FALSE && ottl_events_next(&events, &event))
            result = ottl_run_event_condition(run, event, condition);
    }
    if (result != wanted)
        fail_msg("%s\nis %s, not %s (%s)", text, words[result], words[wanted], ottl_run_error(run, error, sizeof(error)));
}

struct example {
    const char *text;
    enum ottl_result result;
};

/* Each twice by one run: what is remembered is the same. */
static void check_examples(const struct example *examples, size_t count, enum ottl_context context)
{
    struct ottl_program *program = ottl_program_new();
    struct asked asked = {0};
    struct ottl_run *run;

    assert_non_null(program);
    build_example(&asked);
    for (size_t i = 0; i < count; i++) {
        uint32_t condition;
        char *error = NULL;

        if (ottl_program_add(program, context, examples[i].text, &condition, &error))
            fail_msg("%s is refused: %s", examples[i].text, error);
        assert_int_equal(condition, i);
    }
    run = ottl_run_new(program, NULL);
    assert_non_null(run);
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < count; i++)
            check(run, &asked, (uint32_t)i, context, examples[i].text, examples[i].result);
    ottl_run_free(run);
    ottl_program_free(program);
    otlp_build_deinit(&asked.build);
}

static void test_worked_examples(void **state)
{
    static const struct example examples[] = {
        {"span.attributes[\"n\"] == 5", OTTL_TRUE},
        {"span.attributes[\"n\"] == 5.0", OTTL_TRUE},
        {"span.attributes[\"s\"] == 5", OTTL_FALSE},
        {"span.attributes[\"s\"] != 5", OTTL_TRUE},
        {"span.attributes[\"missing\"] != 5", OTTL_TRUE},
        {"span.attributes[\"missing\"] < 5", OTTL_FALSE},
        {"span.attributes[\"empty\"] == nil", OTTL_TRUE},
        {"nil >= nil", OTTL_TRUE},
        {"span.attributes[\"b\"] > false", OTTL_TRUE},
        {"Int(span.attributes[\"s\"]) + 1 == 6", OTTL_TRUE},
        {"span.attributes[\"s\"] + 1 == 6", OTTL_ERROR},
        {"7 / 2 == 3", OTTL_TRUE},
        {"7 / 2.0 == 3.5", OTTL_TRUE},
        {"1 / 0 == 1", OTTL_ERROR},
        {"span.end_time_unix_nano - span.start_time_unix_nano > 200 * 1000000", OTTL_TRUE},
        {"span.end_time - span.start_time >= Duration(\"250ms\")", OTTL_TRUE},
        {"span.attributes[\"tags\"][1] == \"b\"", OTTL_TRUE},
        {"span.attributes[\"tags\"][2] == \"b\"", OTTL_ERROR},
        {"span.attributes[\"m\"][\"x\"][\"y\"] == 1", OTTL_TRUE},
        {"span.attributes[\"m\"][\"z\"][\"y\"] == nil", OTTL_TRUE},
        {"span.attributes[\"n\"][\"x\"] == nil", OTTL_ERROR},
        {"span.attributes[\"empty\"][\"x\"] == nil", OTTL_ERROR},
        {"span.attributes[\"missing\"][\"x\"] == nil", OTTL_TRUE},
        {"span.trace_state[\"x\"] == \"\"", OTTL_TRUE},
        {"span.trace_state[\"x\"] == nil", OTTL_FALSE},
        {"span.attributes[\"m\"] == {\"x\": {\"y\": 1}}", OTTL_TRUE},
        {"span.attributes[\"m\"] == {\"x\": {\"y\": 1.0}}", OTTL_FALSE},
        {"-span.attributes[\"n\"] == -5", OTTL_TRUE},
        {"not span.name == \"x\" and IsRootSpan()", OTTL_TRUE},
        {"true or 1 / 0 == 1", OTTL_TRUE},
        {"span.kind == SPAN_KIND_SERVER and span.kind.string == \"Server\"", OTTL_TRUE},
        {"IsMatch(span.attributes[\"n\"], \"^5$\")", OTTL_TRUE},
        {"IsMatch(span.attributes[\"missing\"], \".*\")", OTTL_FALSE},
        {"HasPrefix(span.attributes[\"missing\"], \"a\")", OTTL_ERROR},
        {"span.status.code == STATUS_CODE_ERROR", OTTL_TRUE},
        {"Len(span.attributes[\"tags\"]) == 2", OTTL_TRUE},
        {"Substring(\"abc\", 1, 5) == \"bc\"", OTTL_ERROR},
        {"Len(nil) == 0", OTTL_ERROR},
        {"ParseJSON(\"{\\\"a\\\":1}\")[\"a\"] == 1", OTTL_TRUE},
    };

    (void)state;
    check_examples(examples, ARRAY_COUNT(examples), OTTL_CONTEXT_SPAN);
}

/* Rules that the examples leave open. */
static void test_rules(void **state)
{
    static const struct example examples[] = {
        /* a literal decides a chain at once, whatever stands before */
        {"1 / 0 == 1 and false", OTTL_FALSE},
        {"1 / 0 == 1 or 1 == 1", OTTL_TRUE},
        {"1 / 0 == 1 or 1 + 0 == 1", OTTL_ERROR},
        {"span.name == \"x\" and 1 / 0 == 1", OTTL_FALSE},
        {"not (span.name == \"x\") and not false", OTTL_TRUE},
        {"span.name == \"x\" or span.name == \"GET /cart\" and span.kind == 3", OTTL_FALSE},
        /* numbers */
        {"9223372036854775807 + 1 < 0", OTTL_TRUE},
        {"-7 / 2 == -3", OTTL_TRUE},
        {"(0 - 9223372036854775807 - 1) / -1 < 0", OTTL_TRUE},
        {"2 + 3 * 4 == 14 and (2 + 3) * 4 == 20 and 10 - 3 - 2 == 5", OTTL_TRUE},
        {"+5 == 5 and - (2 + 3) == -5", OTTL_TRUE},
        {"Double(\"nan\") != Double(\"NaN\")", OTTL_TRUE},
        /* lists: a literal list is no map's friend, a split text is no list */
        {"span.attributes[\"tags\"] == [\"a\", \"b\"]", OTTL_TRUE},
        {"[{\"a\": 1}] == ParseJSON(\"[{\\\"a\\\": 1}]\")", OTTL_FALSE},
        {"Split(\"a,b\", \",\") == [\"a\", \"b\"]", OTTL_FALSE},
        {"Split(\"a,b\", \",\")[1] == \"b\" and Len(Split(\"\", \",\")) == 1 and Len(Split(\"é\", \"\")) == 1", OTTL_TRUE},
        {"ContainsValue(span.attributes[\"tags\"], \"b\") and not ContainsValue([1.0], 2)", OTTL_TRUE},
        {"ContainsValue([1, 2], 1.0)", OTTL_TRUE},
        {"{\"a\": [1, {}]} == {\"a\": [1, {}]}", OTTL_TRUE},
        {"{\"a\": 1, \"a\": 2} == {\"a\": 2}", OTTL_TRUE},
        /* keys that are computed */
        {"span.attributes[span.attributes[\"missing\"]] == nil", OTTL_ERROR},
        {"span.attributes[Concat([\"\", \"n\"], \"\")] == 5", OTTL_TRUE},
        {"span.attributes[\"tags\"][span.attributes[\"n\"]-4] == \"b\"", OTTL_TRUE},
        {"span.attributes[\"tags\"][-1] == nil", OTTL_ERROR},
        {"span.attributes[\"tags\"][\"x\"] == nil", OTTL_ERROR},
        {"span.attributes[\"m\"][0] == nil", OTTL_ERROR},
        {"ParseJSON(span.attributes[\"json\"])[\"a\"][1][\"b\"] == \"c\"", OTTL_TRUE},
        {"ParseJSON(span.attributes[\"json\"])[\"z\"] == nil", OTTL_ERROR},
        {"ParseJSON(span.attributes[\"json\"])[\"n\"] == nil", OTTL_TRUE},
        {"ParseJSON(\"1\") == 1", OTTL_ERROR},
        /* bytes, texts and how values read as texts */
        {"span.attributes[\"y\"] == 0x01ab and span.attributes[\"y\"] < 0x02", OTTL_TRUE},
        {"String(span.attributes[\"y\"]) == \"01ab\"", OTTL_TRUE},
        {"String(span.attributes[\"m\"]) == \"{\\\"x\\\":{\\\"y\\\":1}}\"", OTTL_TRUE},
        {"String(1.5e-7) == \"nothing\" or String(span.attributes[\"f\"]) == \"5\" and String(0.00000015) == \"1.5e-07\"", OTTL_TRUE},
        {"ToUpperCase(span.attributes[\"big\"]) == \"HÉÉ\" and Len(span.attributes[\"big\"]) == 5", OTTL_TRUE},
        {"Substring(span.attributes[\"big\"], 0, 2, utf8_safe=true) == \"h\"", OTTL_TRUE},
        {"Trim(\"  a \") == \"a\" and Trim(\"abca\", \"a\") == \"bc\" and TrimPrefix(\"aab\", \"a\") == \"ab\"", OTTL_TRUE},
        {"Concat([span.attributes[\"missing\"], 5, true], \"-\") == \"<nil>-5-true\"", OTTL_TRUE},
        {"SHA256(\"abc\") == \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"", OTTL_TRUE},
        {"FNV(\"a\") == -5808556873153909620", OTTL_TRUE},
        {"ExtractPatterns(span.name, \"(?P<verb>[A-Z]+) /(?P<path>.*)\")[\"path\"] == \"cart\"", OTTL_TRUE},
        {"Len(ExtractPatterns(span.name, \"(?P<verb>x)\")) == 0", OTTL_TRUE},
        {"IsMatch(span.name, Concat([\"^GET\"], \"\")) and IsMatch(span.name, span.name)", OTTL_TRUE},
        {"IsMatch(span.name, Concat([\"(\"], \"\"))", OTTL_ERROR},
        /* times */
        {"span.end_time == span.start_time + Duration(\"0.25s\") and span.start_time < span.end_time", OTTL_TRUE},
        {"Unix(1700000000) == span.start_time and UnixMilli(span.end_time) == 1700000000250", OTTL_TRUE},
        {"Seconds(span.end_time - span.start_time) == 0.25", OTTL_TRUE},
        {"Time(\"2023-11-14T22:13:20.25Z\", \"%Y-%m-%dT%H:%M:%S.%fZ\") == span.end_time", OTTL_TRUE},
        {"Time(\"2023-02-30\", \"%Y-%m-%d\") == nil", OTTL_ERROR},
        /* Its text keeps the zone it was read in; what it is compared or reckoned with does not. */
        {"String(Time(\"2024-02-29 15:04:05.75 +0130\", \"%F %T %z\")) == \"\\\"2024-02-29T15:04:05.75+01:30\\\"\"", OTTL_TRUE},
        {"String(Time(\"2024-01-01 00:30:00 -0800\", \"%F %T %z\")) == \"\\\"2024-01-01T00:30:00-08:00\\\"\"", OTTL_TRUE},
        {"String(Time(\"2024-01-01 00:30:00 +0000\", \"%F %T %z\")) == \"\\\"2024-01-01T00:30:00Z\\\"\"", OTTL_TRUE},
        {"String(Time(\"2024-01-01 00:30:00 +0130\", \"%F %T %z\") + Duration(\"1h\")) == \"\\\"2024-01-01T01:30:00+01:30\\\"\"", OTTL_TRUE},
        {"Time(\"2024-01-01 00:30:00 +0130\", \"%F %T %z\") == Time(\"2023-12-31 23:00:00\", \"%F %T\")", OTTL_TRUE},
        {"IsMatch(Time(\"2024-01-01 00:30:00 +0130\", \"%F %T %z\"), \"Z\")", OTTL_FALSE},
        {"Now() > Time(\"2024-01-01\", \"%Y-%m-%d\")", OTTL_TRUE},
        {"span.start_time * 2 == nil", OTTL_ERROR},
        /* all other paths, with and without context */
        {"name == \"GET /cart\" and attributes[\"n\"] == 5 and status.message == \"boom\" and kind.deprecated_string == \"SPAN_KIND_SERVER\"", OTTL_TRUE},
        {"resource.attributes[\"service.name\"] == \"cart\" and scope.name == \"test\" and instrumentation_scope.attributes[\"x\"] == nil", OTTL_TRUE},
        {"span.dropped_attributes_count == 3 and dropped_events_count == 4 and span.dropped_links_count == 5 and flags == 257", OTTL_TRUE},
        {"Len(span.events) == 2 and Len(span.links) == 0 and span.status == span.status and span.status != nil", OTTL_TRUE},
        {"span.parent_span_id.string == \"0000000000000000\" and IsEmpty(span.parent_span_id) and not IsEmpty(span.trace_id)", OTTL_TRUE},
        {"span.trace_id == TraceID(span.trace_id.string) and span.span_id == SpanID(span.span_id.string)", OTTL_TRUE},
        {"span.cache[\"k\"] == nil and Len(cache) == 0", OTTL_TRUE},
        {"IsInCIDR(\"10.1.2.3\", [\"192.168.0.0/16\", \"10.0.0.0/8\"]) and not IsInCIDR(\"x\", [\"10.0.0.0/8\"])", OTTL_TRUE},
        {"Coalesce([span.attributes[\"missing\"], nil, span.attributes[\"n\"]]) == 5", OTTL_TRUE},
        {"IsMatch(target=\"abc\", pattern=\"b\") and IsMatch(\"abc\", pattern=\"b\") and Is Match(\"abc\", \"b\")", OTTL_TRUE},
        {"Len(span.name)", OTTL_ERROR},
    };

    (void)state;
    check_examples(examples, ARRAY_COUNT(examples), OTTL_CONTEXT_SPAN);
}

/* A condition of the spanevent context is asked of each event, beside its span. */
static void test_events(void **state)
{
    static const struct example examples[] = {
        {"spanevent.name == \"exception\" and spanevent.attributes[\"exception.escaped\"] == true", OTTL_TRUE},
        {"name == \"exception\" and attributes[\"s\"] == \"of the event\" and span.attributes[\"s\"] == \"5\"", OTTL_TRUE},
        {"spanevent.name == \"log\" and attributes[\"exception.escaped\"] == true", OTTL_FALSE},
        {"spanevent.time - span.start_time == Duration(\"5ns\") and time_unix_nano > 0", OTTL_TRUE},
        {"spanevent.event_index == 0", OTTL_ERROR},
        {"resource.attributes[\"service.name\"] == \"cart\" and spanevent.dropped_attributes_count == 0", OTTL_TRUE},
    };

    (void)state;
    check_examples(examples, ARRAY_COUNT(examples), OTTL_CONTEXT_SPAN_EVENT);
}

/* What is refused, and where the caret points. */
static void test_refused(void **state)
{
    static const struct {
        const char *text, *error;
        unsigned column;
    } refused[] = {
        {"span.attributes[\"n\"]", "expected a comparison", 21},
        {"span.foo == 1", "no foo", 6},
        {"span.nane == 1", "did you mean name?", 6},
        {"span.name = \"x\"", "a comparison is `==`", 11},
        {"iSMatch(\"a\", \"a\")", "starts with a capital letter", 1},
        {"ISMatch(\"a\", \"a\")", "did you mean IsMatch?", 1},
        {"not not true", "expected a value, found `not`", 5},
        {"0x1 == 0x1", "even number of hexadecimal digits", 1},
        {"1 == 1 == true", "expected `and`, `or` or the end", 8},
        {"(true) == true", "expected `and`, `or` or the end", 8},
        {"set(span.name, \"x\")", "editors such as set()", 1},
        {"ParseXML(\"\") == nil", "the converter ParseXML is not supported", 1},
        {"Foo(1)", "undefined function \"Foo\"", 1},
        {"span.kind == SPAN_KIND_SERVR", "did you mean SPAN_KIND_SERVER?", 14},
        {"IsMatch(span.name, \"(\")", "not a valid pattern", 20},
        {"IsMatch(span.name)", "needs the argument pattern", 1},
        {"IsMatch(span.name, \"a\", \"b\")", "Expected: 2 Received: 3", 1},
        {"IsMatch(span.name, patern=\"b\")", "no such parameter: patern", 20},
        {"IsMatch(pattern=\"a\", span.name)", "unnamed argument used after named argument", 22},
        {"IsString(5)", "expected string but got int64", 10},
        {"HasPrefix(nil, \"a\")", "expected string but got nil", 11},
        {"Int(\"x\") == 1", "what can be made a number", 5},
        {"Trim(\"a\", span.name) == \"\"", "must be string, written out", 11},
        {"Concat(span.name, \"\") == \"\"", "must be a list", 8},
        {"Coalesce([]) == nil", "at least one argument", 1},
        {"IsInCIDR(\"a\", [\"x\"])", "invalid CIDR address: x", 16},
        {"TraceID(0x01) == span.trace_id", "invalid length", 9},
        {"span.attributes[1+1] == 1", "expected `]`", 18},
        {"span.attributes[\"a\"].b == 1", "nothing can follow a key", 22},
        {"span.name[\"a\"] == 1", "has no keys", 10},
        {"span.trace_state[\"a\"][\"b\"] == 1", "exactly 1 key", 22},
        {"otelcol.client.addr == \"\"", "otelcol is not supported", 1},
        {"spanevent.name == \"\"", "no spanevent.name", 1},
        {"Len((a) => a) == 1", "lambda expressions are not supported", 5},
        {"span.name == 'x'", "double quotes", 14},
        {"span.name == \"\\q\"", "unknown escape", 15},
        {"span.name == \"x", "does not end", 14},
        {"9223372036854775808 == 1", "out of range", 1},
        {"é == 1", "no part of OTTL", 1},
        {"", "expected a value, found the end", 1},
        {"Time(\"\", \"%Q\") == nil", "directive that is not supported", 10},
        {"Time(\"\", \"%H\") == nil", "without a year", 10},
        {"SPAN_KIND_SERVER + 1 == 3", "expected a comparison", 18},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(refused); i++) {
        struct ottl_program *program = ottl_program_new();
        char *error = NULL, *caret;
        uint32_t condition;
        unsigned column = 0;

        assert_non_null(program);
        if (ottl_program_add(program, OTTL_CONTEXT_SPAN, refused[i].text, &condition, &error) != OTTL_E_INVALID)
            fail_msg("%s is not refused", refused[i].text);
        caret = strrchr(error, '\n');
        if (!strstr(error, refused[i].error) || sscanf(error, "1:%u: ", &column) != 1 || column != refused[i].column || !caret ||
            strlen(caret) != refused[i].column + 5)
            fail_msg("%s is refused with: %s\nnot at %u with: %s", refused[i].text, error, refused[i].column, refused[i].error);
        free(error);
        ottl_program_free(program);
    }
}

static char *refusal_of(const char *text)
{
    struct ottl_program *program = ottl_program_new();
    char *error = NULL;
    uint32_t condition;

    assert_non_null(program);
    assert_int_equal(ottl_program_add(program, OTTL_CONTEXT_SPAN, text, &condition, &error), OTTL_E_INVALID);
    assert_non_null(error);
    ottl_program_free(program);
    return error;
}

/* Around the place whole characters are shown, and of bytes that are none no more than of characters. */
static void test_shown(void **state)
{
    char text[2000] = "", want[400] = "\n    ", *error;

    (void)state;
    for (unsigned i = 0; i < 300; i++)
        strcat(text, "\u00e9"); /* two bytes each */
    for (unsigned i = 0; i < 36; i++)
        strcat(want, "\u00e9");
    strcat(want, "\n    ^");
    error = refusal_of(text);
    if (!strstr(error, want))
        fail_msg("shown: %s", error);
    free(error);

    for (unsigned before = 0; before < 2; before++) {
        memset(text, 0xae, sizeof(text) - 1); /* goes on with a character that never began */
        text[sizeof(text) - 1] = 0;
        if (before)
            memcpy(text + 1000, " \" ", 3);
        text[0] = '"';
        text[sizeof(text) - 2] = before ? '(' : '"';
        error = refusal_of(text);
        assert_true(strlen(error) < 700);
        free(error);
    }
}

/* Brackets without end, and texts without end, are refused in bounded time and memory. */
static void test_bounds(void **state)
{
    static const char *const repeated[] = {"(", "not (", "[", "-(", "IsMatch(", "{\"a\":", "Len(Len("};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(repeated); i++) {
        for (size_t times = 50; times <= 50000; times *= 10) {
            struct ottl_program *program = ottl_program_new();
            size_t len = strlen(repeated[i]);
            char *text = malloc(len * times + 1), *error = NULL;
            uint32_t condition;

            assert_non_null(text);
            for (size_t j = 0; j < times; j++)
                memcpy(text + j * len, repeated[i], len);
            text[len * times] = 0;
            assert_int_equal(ottl_program_add(program, OTTL_CONTEXT_SPAN, text, &condition, &error), OTTL_E_INVALID);
            free(error);
            free(text);
            ottl_program_free(program);
        }
    }
}

/* A value past the bound is an error, and the next evaluation is as if it had not been. */
static void test_value_bound(void **state)
{
    struct ottl_program *program = ottl_program_new();
    struct asked asked = {0};
    char *big = malloc(400001);
    const struct otlp_attribute attributes[] = {OTLP_TEXT("big", big), OTLP_INT("n", 5)};
    const struct otlp_span span = {.trace_id = otlp_trace_id(1), .span_id = otlp_span_id(2), .attributes = attributes, .attributes_count = 2};
    static const struct example examples[] = {
        {"Concat([span.attributes[\"big\"], span.attributes[\"big\"], span.attributes[\"big\"]], \"\") == \"\"", OTTL_ERROR},
        {"ToUpperCase(span.attributes[\"big\"]) != \"\"", OTTL_TRUE},
        {"span.attributes[\"n\"] == 5", OTTL_TRUE},
    };
    struct ottl_run *run;
    uint32_t unused;
    char *error = NULL, text[100];

    (void)state;
    assert_non_null(big);
    memset(big, 'x', 400000);
    big[400000] = 0;
    otlp_request_of(&asked.build, "cart", &span);
    asked_init(&asked);
    for (size_t i = 0; i < ARRAY_COUNT(examples); i++)
        assert_int_equal(ottl_program_add(program, OTTL_CONTEXT_SPAN, examples[i].text, &unused, &error), 0);
    run = ottl_run_new(program, NULL);
    for (size_t i = 0; i < ARRAY_COUNT(examples); i++) {
        check(run, &asked, (uint32_t)i, OTTL_CONTEXT_SPAN, examples[i].text, examples[i].result);
        if (i == 0)
            assert_non_null(strstr(ottl_run_error(run, text, sizeof(text)), "1048576 bytes"));
    }
    ottl_run_free(run);
    ottl_program_free(program);
    otlp_build_deinit(&asked.build);
    free(big);
}

#define KEY_SIZE 24

/* count entries with keys of their own, in that order or the other way round. */
static struct otlp_attribute *many_entries(size_t count, bool turned, char (*keys)[KEY_SIZE])
{
    struct otlp_attribute *entries = calloc(count, sizeof(*entries));

    assert_non_null(entries);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(keys[i], KEY_SIZE, "k%zu", i);
        entries[turned ? count - 1 - i : i] = (struct otlp_attribute)OTLP_INT(keys[i], (int64_t)i);
    }
    return entries;
}

static void check_maps(const struct otlp_attribute *left, const struct otlp_attribute *right, size_t count, enum ottl_result wanted)
{
    static const char *const texts[] = {"span.attributes[\"left\"] == span.attributes[\"right\"]",
        "ContainsValue(span.attributes[\"lefts\"], span.attributes[\"right\"])"};
    const struct otlp_attribute item = OTLP_KVLIST("", left, count);
    const struct otlp_attribute attributes[] = {
        OTLP_KVLIST("left", left, count), OTLP_KVLIST("right", right, count), OTLP_ARRAY("lefts", &item, 1)};
    const struct otlp_span span = {.trace_id = otlp_trace_id(1), .span_id = otlp_span_id(2), .attributes = attributes,
        .attributes_count = ARRAY_COUNT(attributes)};

    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct ottl_program *program = ottl_program_new();
        struct asked asked = {0};
        struct ottl_run *run;
        char *error = NULL, text[100];
        uint32_t condition;

        otlp_request_of(&asked.build, "cart", &span);
        asked_init(&asked);
        assert_int_equal(ottl_program_add(program, OTTL_CONTEXT_SPAN, texts[i], &condition, &error), 0);
        run = ottl_run_new(program, NULL);
        (void)snprintf(text, sizeof(text), "%zu entries: %s", count, texts[i]);
        check(run, &asked, condition, OTTL_CONTEXT_SPAN, text, wanted);
        ottl_run_free(run);
        ottl_program_free(program);
        otlp_build_deinit(&asked.build);
    }
}

/* Maps are equal by content, whatever their order and size; of equal keys the right one's first counts. Past the bound
 * of an evaluation it is an error, not a wait: 100,000 entries in turned order would cost ten thousand million steps. */
static void test_large_maps(void **state)
{
    static const size_t counts[] = {1, 31, 32, 33, 34, 100, 1000, 5000};
    static char keys[100000][KEY_SIZE];
    struct otlp_attribute *left, *right;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        size_t count = counts[i];

        left = many_entries(count, false, keys);
        right = many_entries(count, true, keys);
        check_maps(left, right, count, OTTL_TRUE);
        right[count / 2].integer++;
        check_maps(left, right, count, OTTL_FALSE);
        right[count / 2].integer--;
        right[count / 2].key = "another";
        check_maps(left, right, count, OTTL_FALSE);
        if (count > 3) { /* the same key twice on the right, as often as on the left */
            right[0] = (struct otlp_attribute)OTLP_INT("twice", 1);
            right[count - 1] = (struct otlp_attribute)OTLP_INT("twice", 2);
            memcpy(left, right, count * sizeof(*left));
            left[0].key = left[count - 1].key = "twice";
            right[count / 2].key = left[count / 2].key = "k";
            check_maps(left, right, count, OTTL_FALSE);
            left[count - 1].integer = 1;
            check_maps(left, right, count, OTTL_TRUE);
        }
        free(left);
        free(right);
    }
    left = many_entries(ARRAY_COUNT(keys), false, keys);
    right = many_entries(ARRAY_COUNT(keys), true, keys);
    check_maps(left, right, ARRAY_COUNT(keys), OTTL_ERROR);
    free(left);
    free(right);
}

/* Answers of the header are forgotten with the header, also when another one lies at the same place. */
static void test_header_change(void **state)
{
    const struct otlp_span span = {.trace_id = otlp_trace_id(1), .span_id = otlp_span_id(2)};
    static const char text[] = "resource.attributes[\"service.name\"] == \"cart\"";
    struct ottl_program *program = ottl_program_new();
    uint32_t condition;
    char *error = NULL;
    struct asked cart = {0}, shop = {0};
    struct ottl_run *run;

    (void)state;
    otlp_request_of(&cart.build, "cart", &span);
    otlp_request_of(&shop.build, "shop", &span);
    asked_init(&cart);
    asked_init(&shop);
    assert_int_equal(ottl_program_add(program, OTTL_CONTEXT_SPAN, text, &condition, &error), 0);
    run = ottl_run_new(program, NULL);
    check(run, &cart, condition, OTTL_CONTEXT_SPAN, text, OTTL_TRUE);
    check(run, &shop, condition, OTTL_CONTEXT_SPAN, text, OTTL_FALSE);
    check(run, &cart, condition, OTTL_CONTEXT_SPAN, text, OTTL_TRUE);
    memcpy(cart.build.bytes, shop.build.bytes, cart.build.len);
    asked_init(&cart);
    check(run, &cart, condition, OTTL_CONTEXT_SPAN, text, OTTL_FALSE);
    ottl_run_header(run, NULL);
    assert_int_equal(ottl_run_condition(run, condition), OTTL_FALSE);
    ottl_run_free(run);
    ottl_program_free(program);
    otlp_build_deinit(&cart.build);
    otlp_build_deinit(&shop.build);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worked_examples),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_shown),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_value_bound),
        cmocka_unit_test(test_large_maps),
        cmocka_unit_test(test_header_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
