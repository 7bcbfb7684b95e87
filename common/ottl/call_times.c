/* Converters of times and durations. A day of the week, a zone or a language is never asked: what Time reads is listed in
 * docs/ottl.md. */
#include <string.h>

#include "common/config/duration.h"
#include "common/ottl/calls.h"
#include "common/ottl/time_format.h"

bool call_now(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    (void)node;
    *out_value = ottl_time_of(0, (int64_t)run->unix_ns());
    return true;
}

bool call_duration(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct slice text;
    int64_t ns;

    if (!arg_string(run, node, 0, &text))
        return false;
    if (duration_parse((const char *)text.at, text.len, &ns))
        return run_fault(run, node, "not a duration such as 1h2m3.5s");
    *out_value = ottl_duration(ns);
    return true;
}

bool call_unix(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    int64_t s, ns = 0;

    if (!arg_int(run, node, 0, &s) || (node->children[1] && !arg_int(run, node, 1, &ns)))
        return false;
    *out_value = ottl_time_of(s, ns);
    return true;
}

/* -- Time(text, format) ------------------------------------------------------------------------------------------ */

int prepare_time(struct ottl_compile *compile, struct ottl_node *node)
{
    const struct ottl_node *format = node->children[1], *location = node->children[2];
    struct time_format *prepared = arena_alloc(compile_arena(compile), sizeof(*prepared));
    const char *wrong;

    if (!prepared)
        return compile_fault(compile, node->at, "the conditions of this configuration are too many");
    if (node->children[3])
        return compile_fault(compile, node->children[3]->at, "the locale of Time is not supported: English names only");
    if (location && location->value.bytes.len > 0 && !slice_equal(location->value.bytes, SLICE_LITERAL("UTC")))
        return compile_fault(compile, location->at, "the location of Time is not supported, but for UTC");
    wrong = time_format_read(prepared, format->value.bytes);
    if (wrong)
        return compile_fault(compile, format->at, "%s", wrong);
    node->data = prepared;
    return 0;
}

bool call_time(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    int64_t unix_s;
    uint32_t ns;
    int32_t zone_s;
    struct slice text;

    if (!arg_string(run, node, 0, &text))
        return false;
    if (!time_format_parse(node->data, text, &unix_s, &ns, &zone_s))
        return run_fault(run, node, "the text is no time of this format");
    *out_value = ottl_time_of(unix_s, ns);
    out_value->time.zone_s = zone_s;
    return true;
}

/* -- parts of durations and times ----------------------------------------------------------------------------------- */

static bool arg_duration(struct ottl_run *run, const struct ottl_node *node, int64_t *out_ns)
{
    return arg_int(run, node, 0, out_ns);
}

static bool yield_whole(struct ottl_run *run, const struct ottl_node *node, int64_t unit_ns, struct ottl_value *out_value)
{
    int64_t ns;

    if (!arg_duration(run, node, &ns))
        return false;
    *out_value = ottl_int(ns / unit_ns);
    return true;
}

bool call_nanoseconds(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_whole(run, node, 1, out_value);
}

bool call_microseconds(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_whole(run, node, 1000, out_value);
}

bool call_milliseconds(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_whole(run, node, 1000000, out_value);
}

/* Whole units and the rest apart, as Go does: the sum rounds the same way. */
static bool yield_fraction(struct ottl_run *run, const struct ottl_node *node, int64_t unit_ns, struct ottl_value *out_value)
{
    int64_t ns;

    if (!arg_duration(run, node, &ns))
        return false;
    *out_value = ottl_float((double)(ns / unit_ns) + (double)(ns % unit_ns) / (double)unit_ns);
    return true;
}

bool call_seconds(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_fraction(run, node, 1000000000, out_value);
}

bool call_minutes(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_fraction(run, node, 60 * 1000000000ll, out_value);
}

bool call_hours(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_fraction(run, node, 3600 * 1000000000ll, out_value);
}

static bool arg_time(struct ottl_run *run, const struct ottl_node *node, struct ottl_time *out_time)
{
    struct ottl_value value;

    if (!arg_value(run, node, 0, &value))
        return false;
    *out_time = value.time;
    return true;
}

/* Seconds in smaller units; overflow wraps, as in Go. */
static bool yield_unix(struct ottl_run *run, const struct ottl_node *node, uint32_t units_a_second, struct ottl_value *out_value)
{
    struct ottl_time time;

    if (!arg_time(run, node, &time))
        return false;
    *out_value = ottl_int((int64_t)((uint64_t)ottl_time_unix_s(time) * units_a_second +
                                    time.ns / (1000000000u / units_a_second)));
    return true;
}

bool call_unix_seconds(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_unix(run, node, 1, out_value);
}

bool call_unix_milli(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_unix(run, node, 1000, out_value);
}

bool call_unix_micro(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_unix(run, node, 1000000, out_value);
}

bool call_unix_nano(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_unix(run, node, 1000000000, out_value);
}
