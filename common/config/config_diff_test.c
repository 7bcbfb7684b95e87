/* What differs between two configurations is named by key path, whatever the order of keys and files; and a pattern of live keys holds
 * for what it names and all below, and for nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/cleanup.h"
#include "common/config/config_diff.h"

struct found {
    char paths[512]; /* each with a blank behind it */
};

static void on_path(void *context, const char *path)
{
    struct found *found = context;

    strcat(found->paths, path);
    strcat(found->paths, " ");
}

struct diff_case {
    const char *before, *after, *paths;
};

static const struct diff_case diff_cases[] = {
    {"a: 1\nb: { c: x }", "b: { c: x }\na: 1", ""},
    {"a: 1", "a: 2", "a "},
    {"a: 1", "a: '1'", "a "}, /* a number and a text */
    {"a: { b: 1, c: 2 }", "a: { b: 1, c: 3 }", "a.c "},
    {"a: { b: 1 }", "{}", "a.b "},
    {"{}", "a: { b: 1, c: { d: 2 } }", "a.b a.c.d "},
    {"a: { b: }", "a: { b: {} }", "a.b "}, /* an empty section is not none */
    {"a: {}", "{}", "a "},
    {"a: { http: }", "a: {}", "a.http "},
    {"a: [1, 2]", "a: [2, 1]", "a "},
    {"a: [{ b: 1, c: 2 }]", "a: [{ c: 2, b: 1 }]", ""},
    {"a: [{ b: 1 }]", "a: [{ b: 2 }]", "a "},
    {"a: [1]", "a: { b: 1 }", "a "},
    {"a: text", "a: { b: 1 }", "a "},
    {"exporters: { otlp/x: { endpoint: a:1 } }", "exporters: { otlp/x: { endpoint: b:1 }, nop: }", "exporters.otlp/x.endpoint exporters.nop "},
};

static void test_diff(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(diff_cases); i++) {
        const struct diff_case *c = &diff_cases[i];
        struct config_context *contexts[2] = {config_context_new(), config_context_new()};
        const struct config_node *before = config_load_text(contexts[0], "before", c->before, strlen(c->before));
        const struct config_node *after = config_load_text(contexts[1], "after", c->after, strlen(c->after));
        struct found found = {""};

        assert_true(before && after);
        config_diff(before, after, on_path, &found);
        if (strcmp(found.paths, c->paths) != 0)
            fail_msg("from %s to %s: found \"%s\", want \"%s\"", c->before, c->after, found.paths, c->paths);
        if (config_node_equal(before, after) != (*c->paths == '\0'))
            fail_msg("%s equal to %s", c->before, c->after);
        for (size_t k = 0; k < 2; k++)
            config_context_free(contexts[k]);
    }
}

static void test_patterns(void **state)
{
    static const char *const patterns[] = {"exporters", "processors.tail_sampling*.policies", "service.*.level", NULL};
    static const struct {
        const char *path;
        bool matches;
    } cases[] = {
        {"exporters", true},
        {"exporters.otlp.endpoint", true},
        {"exporters_too", false},
        {"processors.tail_sampling.policies", true},
        {"processors.tail_sampling/x.policies", true},
        {"processors.tail_sampling.decision_wait", false},
        {"processors.tail_sampling", false},
        {"processors", false},
        {"service.logs.level", true},
        {"service.telemetry.logs.level", false}, /* a part is a part */
        {"tailrace.exporters", false},
        {"", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        if (config_path_matches(patterns, cases[i].path) != cases[i].matches)
            fail_msg("%s: matches is not %d", cases[i].path, cases[i].matches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_diff), cmocka_unit_test(test_patterns)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
