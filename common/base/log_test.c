/* A log line is one well-formed line whatever its values hold: in JSON it parses and keeps every
 * key and value; in text no value can end the line or its own quotes; a line too long is cut and
 * says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"

/* -- standard error into memory -------------------------------------------------------------------
 */

static int saved_stderr, pipe_read;

static void capture_begin(void)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    pipe_read = ends[0];
}

static size_t capture_end(char *text, size_t size)
{
    size_t len = 0;
    ssize_t n;

    assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
    close(saved_stderr);
    while (len + 1 < size && (n = read(pipe_read, text + len, size - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    close(pipe_read);
    return len;
}

/* -- cases
 * ------------------------------------------------------------------------------------------ */

struct line_case {
    const char *name;
    const char *format_value; /* given as "%s": the whole text after the event name */
    const char *text;         /* what the text form has after the event name */
    const char *json;         /* the members of the JSON form after "event" */
};

static const struct line_case line_cases[] = {
    {"no pairs", "", "", "{}"},
    {"words and numbers", "member=sampler-2 queued_spans=812 share=-0.5",
        " member=sampler-2 queued_spans=812 share=-0.5",
        "{\"member\":\"sampler-2\",\"queued_spans\":812,\"share\":-0.5}"},
    {"what looks like a number is none", "a=007 b=1. c=- d=1e5 e=0 f=0.5x",
        " a=007 b=1. c=- d=1e5 e=0 f=0.5x",
        "{\"a\":\"007\",\"b\":\"1.\",\"c\":\"-\",\"d\":\"1e5\",\"e\":0,\"f\":\"0.5x\"}"},
    {"booleans", "clean=true cut=false word=truly quoted=\"true\"",
        " clean=true cut=false word=truly quoted=\"true\"",
        "{\"clean\":true,\"cut\":false,\"word\":\"truly\",\"quoted\":\"true\"}"},
    {"a quoted number is text", "id=\"12\"", " id=\"12\"", "{\"id\":\"12\"}"},
    {"blanks inside quotes", "reason=\"no such host\" host=a", " reason=\"no such host\" host=a",
        "{\"reason\":\"no such host\",\"host\":\"a\"}"},
    {"quotes inside quotes", "reason=\"near \"x\" here\" line=3",
        " reason=\"near \\\"x\\\" here\" line=3",
        "{\"reason\":\"near \\\"x\\\" here\",\"line\":3}"},
    {"blanks without quotes", "reason=no such host line=3", " reason=\"no such host\" line=3",
        "{\"reason\":\"no such host\",\"line\":3}"},
    {"equals inside a value", "filter=a=b c=d", " filter=a=b c=d",
        "{\"filter\":\"a=b\",\"c\":\"d\"}"},
    {"line ends and control bytes", "m=\"a\nb\x1b[2J\tc\x7f\"", " m=\"a\\nb\\u001b[2J\\tc\\u007f\"",
        "{\"m\":\"a\\nb\\u001b[2J\\tc\\u007f\"}"},
    {"backslash", "path=\"c:\\x\"", " path=\"c:\\\\x\"", "{\"path\":\"c:\\\\x\"}"},
    {"utf-8 is kept", "name=\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        " name=\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "{\"name\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"}"},
    {"broken utf-8 is replaced", "name=\"\xff\xc0\xafx\xe2\x82\xed\xa0\x80\"",
        " name="
        "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
        "\xef\xbf\xbd\"",
        "{\"name\":"
        "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf"
        "\xbd\xef\xbf\xbd\"}"},
    {"empty values", "a= b=\"\" c=1", " a=\"\" b=\"\" c=1", "{\"a\":\"\",\"b\":\"\",\"c\":1}"},
    {"an unclosed quote", "a=\"x y", " a=\"x y\"", "{\"a\":\"x y\"}"},
    {"words before a key", "hello there a=1", " message=\"hello there\" a=1",
        "{\"message\":\"hello there\",\"a\":1}"},
};

static void check_text(const struct line_case *c)
{
    char line[8192], want[8192];
    size_t len;

    log_setup("prog", LOG_INFO, LOG_CONSOLE);
    capture_begin();
    log_event(LOG_WARN, "thing_happened", "%s", c->format_value);
    len = capture_end(line, sizeof(line));

    /* 2026-11-21T10:49:24.123Z */
    (void)snprintf(want, sizeof(want), " WARN prog thing_happened%s\n", c->text);
    if (len < 24 || line[23] != 'Z' || line[19] != '.' || line[10] != 'T' ||
        strcmp(line + 24, want))
        fail_msg("%s: line is: %s", c->name, line);
}

static void check_json(const struct line_case *c)
{
    json_t *line_json, *want;
    json_error_t error;
    char line[8192];
    size_t len;

    log_setup("prog", LOG_INFO, LOG_JSON);
    capture_begin();
    log_event(LOG_ERROR, "thing_happened", "%s", c->format_value);
    len = capture_end(line, sizeof(line));

    if (len == 0 || strchr(line, '\n') != line + len - 1)
        fail_msg("%s: not one line: %s", c->name, line);
    line_json = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    if (!line_json)
        fail_msg("%s: %s in: %s", c->name, error.text, line);
    assert_string_equal(json_string_value(json_object_get(line_json, "level")), "error");
    assert_string_equal(json_string_value(json_object_get(line_json, "program")), "prog");
    assert_string_equal(json_string_value(json_object_get(line_json, "event")), "thing_happened");
    assert_int_equal(json_string_length(json_object_get(line_json, "time")), 24);
    json_object_del(line_json, "time");
    json_object_del(line_json, "level");
    json_object_del(line_json, "program");
    json_object_del(line_json, "event");

    want = json_loads(c->json, 0, &error);
    assert_non_null(want);
    if (!json_equal(line_json, want))
        fail_msg("%s: line is: %s", c->name, line);
    json_decref(line_json);
    json_decref(want);
}

static void test_both_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(line_cases); i++) {
        check_text(&line_cases[i]);
        check_json(&line_cases[i]);
    }
}

/* Every length around the limit: the line stays whole, one line, and marked only when cut. */
static void test_long_lines(void **state)
{
    static char value[6000], line[8192];

    (void)state;
    for (unsigned form = 0; form < 3; form++) {
        for (size_t len = 3850; len < 4200; len++) {
            json_t *parsed;
            size_t got;

            for (size_t i = 0; i < len; i++)
                value[i] = form == 2 && i % 7 == 0 ? '"' : 'x';
            value[len] = '\0';
            log_setup("prog", LOG_INFO, form == 0 ? LOG_CONSOLE : LOG_JSON);
            capture_begin();
            log_event(LOG_INFO, "long_line", "first=1 value=\"%s\" last=2", value);
            got = capture_end(line, sizeof(line));

            if (got > 4096 || strchr(line, '\n') != line + got - 1)
                fail_msg("form %u, %zu bytes: %zu bytes came", form, len, got);
            if (form == 0) {
                bool cut = strstr(line, "\" truncated=true\n") != NULL;
                bool whole = strstr(line, "\" last=2\n") != NULL;

                if (cut == whole)
                    fail_msg("%zu bytes: cut %d, whole %d", len, cut, whole);
                continue;
            }
            parsed = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
            if (!parsed)
                fail_msg("form %u, %zu bytes: not JSON: %s", form, len, line);
            assert_int_equal(json_integer_value(json_object_get(parsed, "first")), 1);
            if (json_is_true(json_object_get(parsed, "truncated")) ==
                json_is_integer(json_object_get(parsed, "last")))
                fail_msg("form %u, %zu bytes: %s", form, len, line);
            json_decref(parsed);
        }
    }
}

static void test_levels(void **state)
{
    char line[1024];

    (void)state;
    for (int least = LOG_DEBUG; least <= LOG_ERROR; least++) {
        for (int level = LOG_DEBUG; level <= LOG_ERROR; level++) {
            log_setup("prog", (enum log_level)least, LOG_CONSOLE);
            capture_begin();
            log_event((enum log_level)level, "level_event", "a=1");
            assert_int_equal(capture_end(line, sizeof(line)) > 0, level >= least);
            assert_int_equal(log_enabled((enum log_level)level), level >= least);
        }
    }
}

#define THREADS 4
#define LINES   50

static void *log_some(void *context)
{
    int number = *(int *)context;
    char filler[201];

    memset(filler, 'a' + number, sizeof(filler) - 1);
    filler[sizeof(filler) - 1] = '\0';
    for (int i = 0; i < LINES; i++)
        log_event(LOG_INFO, "from_thread", "number=%d filler=%s", number, filler);
    return NULL;
}

/* 4 * 50 * 250 bytes fit into a pipe, so nobody has to read meanwhile. */
static void test_threads_do_not_mix(void **state)
{
    static char text[THREADS * LINES * 320];
    int numbers[THREADS], counts[THREADS] = {0};
    pthread_t threads[THREADS];
    char *line, *next;

    (void)state;
    log_setup("prog", LOG_INFO, LOG_CONSOLE);
    capture_begin();
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_some, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    (void)capture_end(text, sizeof(text));

    for (line = text; *line; line = next) {
        char *number = strstr(line, "number="), *filler = strstr(line, "filler=");
        size_t which;

        next = strchr(line, '\n');
        assert_non_null(next);
        *next++ = '\0';
        assert_true(number && filler);
        which = (size_t)(number[7] - '0');
        assert_true(which < THREADS);
        assert_int_equal(strspn(filler + 7, (char[]){(char)('a' + which), '\0'}), 200);
        assert_int_equal(strlen(filler + 7), 200);
        counts[which]++;
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(counts[i], LINES);
}

/* A repeated event passes at once, then once a period, with the count of what was held back. */
static void test_limit(void **state)
{
    static const struct {
        uint64_t now_ns;
        bool passes;
        uint64_t suppressed;
    } steps[] = {
        {5, true, 0},
        {6, false, 0},
        {LOG_LIMIT_PERIOD_NS + 4, false, 0},
        {LOG_LIMIT_PERIOD_NS + 5, true, 2},
        {LOG_LIMIT_PERIOD_NS + 6, false, 0},
        {3 * LOG_LIMIT_PERIOD_NS, true, 1},
        {9 * LOG_LIMIT_PERIOD_NS, true, 0},
    };
    struct log_limit limit = {0, 0};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
        uint64_t suppressed = 77;
        bool passes = log_limit_pass(&limit, steps[i].now_ns, &suppressed);

        if (passes != steps[i].passes || (passes && suppressed != steps[i].suppressed))
            fail_msg(
                "step %zu: passes %d, suppressed %llu", i, passes, (unsigned long long)suppressed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_forms),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_threads_do_not_mix),
        cmocka_unit_test(test_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
