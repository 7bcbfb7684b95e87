/* Conditions of every kind over any span, resource and scope. The first byte says how long the header is. Laws: two runs
 * agree, one of which was given its attributes and one of which looked them up; and so does the second question. */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/ottl/ottl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const conditions[] = {
    "span.attributes[\"a\"] == span.attributes[\"b\"]",
    "span.attributes[\"a\"][\"b\"][0] != nil",
    "span.attributes == resource.attributes or scope.attributes == {\"a\": [1, \"x\", {}]}",
    "IsMatch(span.attributes[\"a\"], \"^(a|b)*c$\")",
    "IsMatch(span.name, span.attributes[\"b\"])",
    "Len(String(span.attributes[\"a\"])) > 5",
    "ParseJSON(span.attributes[\"a\"])[\"k\"][1] == 1",
    "Len(ParseJSON(span.attributes[\"a\"])) == 2",
    "String(ParseJSON(span.name)) == span.name",
    "Int(span.attributes[\"a\"]) + Double(span.attributes[\"b\"]) > 0",
    "Bool(span.attributes[\"a\"])",
    "ToUpperCase(ToLowerCase(span.name)) == span.name",
    "Split(span.name, span.attributes[\"a\"])[1] == \"\"",
    "Substring(span.name, 1, 3, utf8_safe=true) == Trim(span.name)",
    "ExtractPatterns(span.name, \"(?P<a>.)(?P<b>[^x]*)\")[\"b\"] == ExtractPatterns(span.name, span.attributes[\"a\"])[\"a\"]",
    "Concat([span.attributes[\"a\"], span.attributes, span.trace_id, span.start_time], \"-\") == SHA256(span.name)",
    "ContainsValue(span.attributes[\"a\"], span.attributes[\"b\"])",
    "Keys(span.attributes) == Values(span.attributes[\"a\"])",
    "Time(span.name, \"%Y-%m-%dT%H:%M:%S.%f%z\") < span.end_time - Duration(span.attributes[\"a\"])",
    "Time(span.name, \"%a %d %B %y, %I %p\") > span.start_time",
    "UnixNano(span.end_time) - Nanoseconds(span.end_time - span.start_time) == span.start_time_unix_nano",
    "IsInCIDR(span.name, [span.attributes[\"a\"], \"10.0.0.0/8\"])",
    "TraceID(span.attributes[\"a\"]) == span.trace_id or SpanID(span.name) == span.parent_span_id",
    "span.trace_state[\"a\"] == span.status.message",
    "span.dropped_attributes_count + span.dropped_events_count * span.dropped_links_count > span.flags",
    "resource.attributes[\"a\"] == scope.attributes[\"a\"] and scope.name < scope.version",
    "resource.dropped_attributes_count == scope.dropped_attributes_count and Len(span.events) > Len(span.links)",
};
static const char *const event_conditions[] = {
    "spanevent.attributes[\"a\"] == span.attributes[\"a\"]",
    "spanevent.name == \"x\" and spanevent.time_unix_nano > spanevent.dropped_attributes_count",
    "IsMatch(spanevent.attributes, \"a\")",
};

#define ALL (ARRAY_COUNT(conditions) + ARRAY_COUNT(event_conditions))

static struct ottl_program *program;
static struct ottl_run *given, *looking;
static uint32_t numbers[ALL];

static void prepare(void)
{
    program = ottl_program_new();
    ASSERT(program);
    for (size_t i = 0; i < ALL; i++) {
        const bool is_event = i >= ARRAY_COUNT(conditions);
        char *error = NULL;

        ASSERT(ottl_program_add(program, is_event ? OTTL_CONTEXT_SPAN_EVENT : OTTL_CONTEXT_SPAN,
                   is_event ? event_conditions[i - ARRAY_COUNT(conditions)] : conditions[i], &numbers[i], &error) == 0);
    }
    given = ottl_run_new(program, NULL);
    looking = ottl_run_new(program, NULL);
    ASSERT(given && looking);
}

#define KEYS_MAX 128
static struct slice values[KEYS_MAX];

static void find_values(void *context, struct slice key, struct slice value)
{
    (void)context;
    for (uint32_t i = 0; i < ottl_program_key_count(program); i++)
        if (!values[i].at && slice_equal(ottl_program_key(program, i), key))
            values[i] = value;
}

static enum ottl_result ask(struct ottl_run *run, size_t i, struct slice span)
{
    enum ottl_result result = OTTL_FALSE;
    struct ottl_events events;
    struct slice event;

    if (i < ARRAY_COUNT(conditions))
        return ottl_run_condition(run, numbers[i]);
    ottl_events_start(&events, span);
    while (result == OTTL_FALSE && ottl_events_next(&events, &event))
        result = ottl_run_event_condition(run, event, numbers[i]);
    return result;
}

static void check(const struct span_header *header, struct slice span)
{
    struct span_view view;
    char text[80];

    memset(values, 0, sizeof(values));
    if (!span_view_read(span, find_values, NULL, &view))
        return;
    ottl_run_header(given, header);
    ottl_run_header(looking, header);
    ottl_run_span(given, span, &view, values);
    ottl_run_span(looking, span, &view, NULL);
    for (size_t i = 0; i < ALL; i++) {
        enum ottl_result result = ask(given, i, span);

        ASSERT(ask(looking, i, span) == result);
        ASSERT(ask(given, i, span) == result);
        if (result == OTTL_ERROR)
            ASSERT(strlen(ottl_run_error(given, text, sizeof(text))) < sizeof(text));
    }
    ottl_run_header(given, NULL); /* the bytes are about to go */
    ottl_run_header(looking, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span_header header = {0};
    size_t resource, scope;

    if (!program)
        prepare();
    if (size < 2 || (size_t)data[0] + data[1] + 2 > size)
        return 0;
    resource = data[0];
    scope = data[1];
    header.resource = header_part_of(slice_make(data + 2, resource), 0);
    header.scope = header_part_of(slice_make(data + 2 + resource, scope), 0);
    if (!resource_visit(slice_make(data + 2, resource), NULL, NULL) ||
        !scope_visit(slice_make(data + 2 + resource, scope), NULL, NULL))
        return 0;
    check(&header, slice_make(data + 2 + resource + scope, size - 2 - resource - scope));
    return 0;
}
