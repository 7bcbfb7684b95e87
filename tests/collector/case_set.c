/* Reading .cases: a cursor over the line, and an OTLP builder that follows it. */
#include "tests/collector/case_set.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/hash.h"

#define BASE_UNIX_NS   1700000000000000000ull /* times are relative to this; any day will do */
#define ATTRIBUTES_MAX 64                     /* of a span, nested ones included */

char *case_text(const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        abort();
    va_end(args);
    return text;
}

struct case_set *case_sets_add(struct case_sets *sets, char *name, char *settings)
{
    struct case_set *more = reallocarray(sets->sets, sets->count + 1, sizeof(*more));

    if (!more)
        abort();
    sets->sets = more;
    more[sets->count] = (struct case_set){.name = name, .settings = settings};
    return &more[sets->count++];
}

struct case_trace *case_set_add(
    struct case_set *set, const struct trace_id *id, struct slice request, char *place)
{
    struct case_trace *more = reallocarray(set->traces, set->count + 1, sizeof(*more)), *trace;

    if (!more)
        abort();
    set->traces = more;
    trace = &more[set->count++];
    *trace = (struct case_trace){
        .id = *id, .request = malloc(request.len + 1), .request_len = request.len, .place = place};
    if (!trace->request)
        abort();
    memcpy(trace->request, request.at, request.len);
    case_trace_cut(trace, &request.len, 1);
    return trace;
}

void case_trace_cut(struct case_trace *trace, const size_t *ends, size_t end_count)
{
    free(trace->ends);
    trace->ends = calloc(end_count, sizeof(*ends));
    if (!trace->ends)
        abort();
    memcpy(trace->ends, ends, end_count * sizeof(*ends));
    trace->end_count = end_count;
}

void case_sets_deinit(struct case_sets *sets)
{
    for (size_t i = 0; i < sets->count; i++) {
        struct case_set *set = &sets->sets[i];

        for (size_t j = 0; j < set->count; j++) {
            free(set->traces[j].request);
            free(set->traces[j].ends);
            free(set->traces[j].place);
            free(set->traces[j].policy);
            free(set->traces[j].differs);
        }
        free(set->traces);
        free(set->name);
        free(set->settings);
        free(set->refused);
        free(set->differs);
    }
    free(sets->sets);
    *sets = (struct case_sets){0};
}

/* -- a line ------------------------------------------------------------------------------------ */

struct reader {
    const char *file; /* base name */
    unsigned line;
    char *at;
    struct otlp_attribute attributes[ATTRIBUTES_MAX];
    size_t attribute_count;
};

static void fault(const struct reader *reader, const char *what) __attribute__((noreturn));
static void fault(const struct reader *reader, const char *what)
{
    fprintf(stderr, "%s:%u: %s at `%s`\n", reader->file, reader->line, what, reader->at);
    exit(2);
}

static void skip_blanks(struct reader *reader)
{
    while (*reader->at == ' ' || *reader->at == '\t')
        reader->at++;
}

static bool take(struct reader *reader, const char *text)
{
    if (strncmp(reader->at, text, strlen(text)) != 0)
        return false;
    reader->at += strlen(text);
    return true;
}

/* A word that ends where a letter, digit, `_`, `.` or `-` does not follow. */
static bool take_word(struct reader *reader, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(reader->at, word, len) != 0 || isalnum((unsigned char)reader->at[len]) ||
        reader->at[len] == '_')
        return false;
    reader->at += len;
    return true;
}

static unsigned read_hex(struct reader *reader, unsigned digits)
{
    unsigned value = 0;

    for (unsigned i = 0; i < digits; i++) {
        const char *hex = "0123456789abcdef", *found;

        found = *reader->at ? strchr(hex, *reader->at) : NULL;
        if (!found)
            fault(reader, "a hex digit is missing");
        value = value * 16 + (unsigned)(found - hex);
        reader->at++;
    }
    return value;
}

/* "text", undone in place. */
static char *read_quoted(struct reader *reader, size_t *out_len)
{
    char *start = ++reader->at, *to = start;

    while (*reader->at != '"') {
        char c = *reader->at++;

        if (c == '\0')
            fault(reader, "a quote is not closed");
        if (c == '\\') {
            c = *reader->at++;
            if (c == 'n')
                c = '\n';
            else if (c == 't')
                c = '\t';
            else if (c == 'x')
                c = (char)read_hex(reader, 2); /* not 00: texts end there */
            else if (c != '\\' && c != '"')
                fault(reader, "unknown escape");
        }
        *to++ = c;
    }
    *out_len = (size_t)(to - start);
    *to = '\0'; /* where an escape or the closing quote was */
    reader->at++;
    return start;
}

static struct otlp_attribute *new_attributes(struct reader *reader, size_t count)
{
    struct otlp_attribute *attributes = &reader->attributes[reader->attribute_count];

    if (reader->attribute_count + count > ATTRIBUTES_MAX)
        fault(reader, "too many attributes");
    reader->attribute_count += count;
    return attributes;
}

static void read_value(struct reader *reader, struct otlp_attribute *attribute);

static void read_array(struct reader *reader, struct otlp_attribute *attribute)
{
    struct otlp_attribute items[8];
    size_t count = 0;

    for (reader->at++; !take(reader, "]"); (void)take(reader, ",")) {
        skip_blanks(reader);
        if (count == ARRAY_COUNT(items))
            fault(reader, "too many items");
        items[count] = (struct otlp_attribute){0};
        read_value(reader, &items[count++]);
        skip_blanks(reader);
    }
    attribute->kind = OTLP_KIND_ARRAY;
    attribute->items = memcpy(new_attributes(reader, count), items, count * sizeof(items[0]));
    attribute->items_count = count;
}

static void read_value(struct reader *reader, struct otlp_attribute *attribute)
{
    char *end;

    if (*reader->at == '"') {
        attribute->kind = OTLP_KIND_TEXT;
        attribute->text = read_quoted(reader, &attribute->text_len);
    } else if (*reader->at == '[') {
        read_array(reader, attribute);
    } else if (take_word(reader, "true") || take_word(reader, "false")) {
        attribute->kind = OTLP_KIND_BOOL;
        attribute->integer = reader->at[-2] == 'u';
    } else if (take_word(reader, "empty")) {
        attribute->kind = OTLP_KIND_EMPTY;
    } else {
        attribute->kind = OTLP_KIND_INT;
        attribute->integer = strtoll(reader->at, &end, 10);
        if (*end == '.' || *end == 'e') {
            attribute->kind = OTLP_KIND_DOUBLE;
            attribute->number = strtod(reader->at, &end);
        }
        if (end == reader->at)
            fault(reader, "a value is missing");
        reader->at = end;
    }
}

static uint64_t read_time(struct reader *reader)
{
    static const struct {
        const char *unit;
        uint64_t ns;
    } units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
    uint64_t time = BASE_UNIX_NS;

    if (*reader->at != '+' && *reader->at != '-')
        return strtoull(reader->at, &reader->at, 10);
    while (*reader->at == '+' || *reader->at == '-') {
        bool back = *reader->at++ == '-';
        uint64_t number = strtoull(reader->at, &reader->at, 10);
        size_t unit = 0;

        while (unit < ARRAY_COUNT(units) && !take_word(reader, units[unit].unit))
            unit++;
        if (unit == ARRAY_COUNT(units))
            fault(reader, "a unit of time is missing");
        time = back ? time - number * units[unit].ns : time + number * units[unit].ns;
    }
    return time;
}

static char *read_key(struct reader *reader)
{
    char *start = reader->at;
    size_t len;

    if (*start == '"')
        return read_quoted(reader, &len);
    while (*reader->at && (isalnum((unsigned char)*reader->at) || strchr("_.-/", *reader->at)))
        reader->at++;
    if (reader->at == start || *reader->at != '=')
        fault(reader, "an attribute key is missing");
    return start;
}

static uint32_t read_status(struct reader *reader)
{
    if (take_word(reader, "UNSET"))
        return 0;
    if (take_word(reader, "OK"))
        return 1;
    if (take_word(reader, "ERROR"))
        return 2;
    return (uint32_t)strtoul(reader->at, &reader->at, 10);
}

/* span: NULL for a resource or scope, which have attributes only. */
static struct otlp_attribute *read_fields(
    struct reader *reader, struct otlp_span *span, size_t *out_count)
{
    struct otlp_attribute own[16], *kept;
    size_t count = 0, len;

    for (skip_blanks(reader); *reader->at && *reader->at != ';'; skip_blanks(reader)) {
        if (span && take(reader, "status=")) {
            span->status = read_status(reader);
        } else if (span && take(reader, "start=")) {
            span->start_unix_ns = read_time(reader);
        } else if (span && take(reader, "end=")) {
            span->end_unix_ns = read_time(reader);
        } else if (span && take(reader, "flags=")) {
            span->flags = (uint32_t)strtoul(reader->at, &reader->at, 0);
        } else if (span && take(reader, "trace_state=")) {
            if (*reader->at != '"')
                fault(reader, "a tracestate is quoted");
            span->trace_state = read_quoted(reader, &len);
        } else if (span && take(reader, "message=")) {
            if (*reader->at != '"')
                fault(reader, "a message is quoted");
            span->status_message = read_quoted(reader, &len);
        } else if (span && take(reader, "parent=")) {
            span->parent_span_id = otlp_span_id(strtoull(reader->at, &reader->at, 10));
        } else {
            if (count == ARRAY_COUNT(own))
                fault(reader, "too many attributes");
            own[count] = (struct otlp_attribute){.key = read_key(reader)};
            if (*reader->at != '=')
                fault(reader, "`=` is missing");
            *reader->at++ = '\0'; /* ends the key */
            read_value(reader, &own[count++]);
        }
    }
    kept = new_attributes(reader, count);
    memcpy(kept, own, count * sizeof(own[0]));
    *out_count = count;
    return kept;
}

/* What is open, as statements come. */
struct following {
    struct otlp_build build;
    bool in_resource, in_scope;
    uint64_t span_number;
    struct trace_id id;
};

static void follow_resource(
    struct following *following, size_t count, const struct otlp_attribute *attributes)
{
    if (following->in_scope)
        otlp_end(&following->build);
    if (following->in_resource)
        otlp_end(&following->build);
    otlp_resource_spans(&following->build);
    otlp_resource(&following->build, count, attributes);
    following->in_resource = true;
    following->in_scope = false;
}

static void follow_scope(
    struct following *following, size_t count, const struct otlp_attribute *attributes)
{
    if (!following->in_resource)
        follow_resource(following, 0, NULL);
    if (following->in_scope)
        otlp_end(&following->build);
    otlp_scope_spans(&following->build);
    otlp_begin(&following->build, 1);
    otlp_text(&following->build, 1, "cases");
    for (size_t i = 0; i < count; i++)
        otlp_attribute(&following->build, 3, &attributes[i]);
    otlp_end(&following->build);
    following->in_scope = true;
}

static void follow_span(struct following *following, struct otlp_span *span)
{
    if (!following->in_scope)
        follow_scope(following, 0, NULL);
    span->trace_id = following->id;
    span->span_id = otlp_span_id(++following->span_number);
    span->name = "op";
    otlp_span(&following->build, span);
}

static void read_statement(struct reader *reader, struct following *following)
{
    unsigned long repeat = 1;
    size_t count;

    reader->attribute_count = 0;
    if (isdigit((unsigned char)*reader->at)) {
        repeat = strtoul(reader->at, &reader->at, 10);
        if (!take(reader, "*"))
            fault(reader, "`*` is missing");
    }
    if (take_word(reader, "id")) {
        skip_blanks(reader);
        for (size_t i = 0; i < sizeof(following->id.bytes); i++)
            following->id.bytes[i] = (uint8_t)read_hex(reader, 2);
    } else if (take_word(reader, "resource")) {
        struct otlp_attribute *attributes = read_fields(reader, NULL, &count);

        follow_resource(following, count, attributes);
    } else if (take_word(reader, "scope")) {
        struct otlp_attribute *attributes = read_fields(reader, NULL, &count);

        follow_scope(following, count, attributes);
    } else if (take_word(reader, "span")) {
        struct otlp_span span = {.start_unix_ns = BASE_UNIX_NS, .end_unix_ns = BASE_UNIX_NS};

        span.attributes = read_fields(reader, &span, &count);
        span.attributes_count = count;
        while (repeat-- > 0)
            follow_span(following, &span);
    } else {
        fault(reader, "expected id, resource, scope or span");
    }
}

static void read_expected(struct reader *reader, struct case_trace *trace)
{
    skip_blanks(reader);
    trace->is_stated = true;
    if (take_word(reader, "sampled"))
        trace->decision = CASE_SAMPLED;
    else if (take_word(reader, "not"))
        trace->decision = CASE_NOT;
    else if (take_word(reader, "rejected"))
        trace->decision = CASE_REJECTED;
    else
        fault(reader, "expected sampled, not or rejected");
    skip_blanks(reader);
    if (take(reader, "policy=")) {
        size_t len = strcspn(reader->at, " ");

        trace->policy = case_text("%.*s", (int)len, reader->at);
        reader->at += len;
        skip_blanks(reader);
    }
    if (take(reader, "differs:")) {
        skip_blanks(reader);
        if (!*reader->at)
            fault(reader, "a difference needs its reason");
        trace->differs = case_text("%s", reader->at);
        reader->at += strlen(reader->at);
    }
    if (*reader->at)
        fault(reader, "more than a decision");
}

/* The first "=>" outside quotes. */
static char *find_arrow(struct reader *reader)
{
    bool quoted = false;

    for (char *at = reader->at; *at; at++) {
        if (quoted && *at == '\\' && at[1])
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else if (!quoted && at[0] == '=' && at[1] == '>')
            return at;
    }
    fault(reader, "`=>` is missing");
}

/* What the error says and, behind `differs:`, why the Collector accepts these settings. */
static void read_refused(struct case_set *set, const char *text)
{
    const char *differs = strstr(text, " differs: ");

    set->refused = case_text("%.*s", differs ? (int)(differs - text) : (int)strlen(text), text);
    if (differs)
        set->differs = case_text("%s", differs + strlen(" differs: "));
}

static void read_case(struct reader *reader, struct case_set *set)
{
    struct following following = {0};
    char *arrow = find_arrow(reader), *place = case_text("%s:%u", reader->file, reader->line);
    struct case_trace *trace;

    following.id = otlp_trace_id(hash_bytes(place, strlen(place)));
    *arrow = '\0';
    for (skip_blanks(reader); *reader->at; skip_blanks(reader)) {
        read_statement(reader, &following);
        skip_blanks(reader);
        if (*reader->at && !take(reader, ";"))
            fault(reader, "`;` is missing");
    }
    if (following.in_scope)
        otlp_end(&following.build);
    if (following.in_resource)
        otlp_end(&following.build);
    reader->at = arrow + 2;
    if (following.span_number == 0) {
        skip_blanks(reader);
        if (!take(reader, "refused:"))
            fault(reader, "a case without spans says what is refused");
        skip_blanks(reader);
        read_refused(set, reader->at);
        free(place);
    } else {
        trace = case_set_add(set, &following.id, otlp_slice(&following.build), place);
        read_expected(reader, trace);
    }
    otlp_build_deinit(&following.build);
}

static void add_setting(struct case_set *set, const char *line)
{
    char *settings;

    /* Policies come last in the text, so that other keys can be written anywhere above the cases. */
    if (line[0] == '-')
        settings = case_text("%s  %s\n", set->settings, line);
    else
        settings = case_text("%s\n%s", line, set->settings);
    free(set->settings);
    set->settings = settings;
}

void case_sets_read(struct case_sets *sets, const char *path)
{
    const char *slash = strrchr(path, '/');
    struct reader reader = {.file = slash ? slash + 1 : path};
    FILE *file = fopen(path, "r");
    size_t capacity = 0, first = sets->count;
    struct case_set *set = NULL;
    char *line = NULL;
    bool in_cases = true;

    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
    while (getline(&line, &capacity, file) >= 0) {
        reader.line++;
        line[strcspn(line, "\n")] = '\0';
        reader.at = line;
        skip_blanks(&reader);
        if (*reader.at == '\0' || *reader.at == '#')
            continue;
        if (reader.at == line) {
            if (in_cases)
                set = case_sets_add(sets,
                    case_text("%.*s-%zu", (int)strcspn(reader.file, "."), reader.file,
                        sets->count - first + 1),
                    case_text("policies:\n"));
            in_cases = false;
            add_setting(set, line);
        } else {
            if (!set)
                fault(&reader, "a case before any settings");
            in_cases = true;
            read_case(&reader, set);
        }
    }
    if (sets->count == first || !in_cases)
        fault(&reader, "settings without cases");
    free(line);
    fclose(file);
}
