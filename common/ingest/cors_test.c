/* A page may send to us exactly when its origin matches a pattern, by POST and with allowed headers; nobody may when no origin is
 * named. */
#include "common/ingest/cors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/ingest/http_parse.h"

static void patterns_match(void **state)
{
    static const struct {
        const char *pattern, *origin;
        bool matches;
    } cases[] = {
        {"*", "https://a.example", true},
        {"https://a.example", "https://a.example", true},
        {"https://a.example", "HTTPS://A.Example", true},
        {"https://a.example", "http://a.example", false},
        {"https://a.example", "https://a.example:8443", false},
        {"https://a.example", "https://a.example.evil", false},
        {"https://*.example", "https://a.example", true},
        {"https://*.example", "https://a.b.example", true},
        {"https://*.example", "https://.example", true},
        {"https://*.example", "https://example", false},
        {"https://*.example", "https://a.example.evil", false},
        {"https://*.example", "http://a.example", false},
        {"http*://a.*.example:*", "https://a.b.c.example:1", true},
        {"http*://a.*.example:*", "https://a.example:1", false},
        {"*a*a*a*b", "https://aaaaaaaaaaaaaaaaaaaaaaaa", false},
        {"*a*a*a*b", "aaab", true},
        {"", "https://a.example", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        if (cors_pattern_matches(cases[i].pattern, slice_text(cases[i].origin)) != cases[i].matches)
            fail_msg("%s against %s: want %d", cases[i].pattern, cases[i].origin, cases[i].matches);
    }
}

static char *origins[] = {(char[]){"https://*.example"}, (char[]){"http://localhost:3000"}};
static char *headers[] = {(char[]){"X-Scope-OrgID"}, (char[]){"authorization"}};
static char *exposed[] = {(char[]){"X-Request-Id"}};
static const struct cors_config some = {{origins, 2}, {headers, 2}, {exposed, 1}, 7200};

static void header_lists_are_checked(void **state)
{
    static const struct {
        const char *names;
        bool allowed;
    } cases[] = {
        {"", true}, {"content-type", true}, {"Content-Type, Accept,accept-language ,\tContent-Language", true},
        {"x-scope-orgid,AUTHORIZATION", true}, {"x-other", false}, {"content-type, x-other", false}, {"x-scope-orgi", false}, {",,", true},
    };
    char *star[] = {(char[]){"*"}};
    const struct cors_config all = {.allowed_headers = {star, 1}};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        if (cors_headers_allowed(&some, slice_text(cases[i].names)) != cases[i].allowed)
            fail_msg("'%s': want %d", cases[i].names, cases[i].allowed);
        assert_true(cors_headers_allowed(&all, slice_text(cases[i].names)));
    }
}

static const struct http_head *head_of(const char *method, const char *lines)
{
    static struct http_head head;
    static char text[4096];

    (void)snprintf(text, sizeof(text), "%s /v1/traces HTTP/1.1\r\nHost: a\r\n%s\r\n", method, lines);
    assert_int_equal(http_head_parse(slice_text(text), &head), 0);
    return &head;
}

static void answers_have_headers(void **state)
{
    char *all_origins[] = {(char[]){"*"}};
    const struct cors_config off = {.max_age_s = 5}, all = {.allowed_origins = {all_origins, 1}};
    static const char asks[] = "Access-Control-Request-Method: POST\r\n";
    static const char vary[] = "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n";
    const struct {
        const struct cors_config *cors;
        const char *method, *lines, *want;
        bool preflight;
    } cases[] = {
        {&off, "OPTIONS", "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n", "", false},
        {&some, "POST", "Origin: https://a.example\r\n",
            "Vary: Origin\r\nAccess-Control-Allow-Origin: https://a.example\r\nAccess-Control-Allow-Credentials: true\r\n"
            "Access-Control-Expose-Headers: X-Request-Id\r\n", false},
        {&some, "POST", "Origin: https://a.other\r\n", "Vary: Origin\r\n", false},
        {&some, "POST", "", "Vary: Origin\r\n", false},
        {&some, "OPTIONS", "Origin: https://a.example\r\n",
            "Vary: Origin\r\nAccess-Control-Allow-Origin: https://a.example\r\nAccess-Control-Allow-Credentials: true\r\n"
            "Access-Control-Expose-Headers: X-Request-Id\r\n", false}, /* asks nothing */
        {&all, "POST", "Origin: null\r\n",
            "Vary: Origin\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n", false},
        {&some, "OPTIONS", "Origin: http://localhost:3000\r\n@Access-Control-Request-Headers: content-type,x-scope-orgid\r\n",
            "@Access-Control-Allow-Origin: http://localhost:3000\r\nAccess-Control-Allow-Credentials: true\r\n"
            "Access-Control-Allow-Methods: POST\r\nAccess-Control-Allow-Headers: content-type,x-scope-orgid\r\n"
            "Access-Control-Max-Age: 7200\r\n", true},
        {&all, "OPTIONS", "Origin: https://x\r\n@",
            "@Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Allow-Methods: POST\r\n", true},
        {&some, "OPTIONS", "Origin: https://a.other\r\n@", "@", true},
        {&some, "OPTIONS", "Origin: https://a.example\r\n@Access-Control-Request-Headers: x-other\r\n", "@", true},
        {&some, "OPTIONS", "Origin: https://a.example\r\nAccess-Control-Request-Method: DELETE\r\n", "@", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const char *at = strchr(cases[i].lines, '@');
        const struct http_head *head;
        char lines[1024], want[1024], got[1024];
        size_t len;

        (void)snprintf(lines, sizeof(lines), "%.*s%s%s", at ? (int)(at - cases[i].lines) : (int)strlen(cases[i].lines), cases[i].lines,
            at ? asks : "", at ? at + 1 : "");
        (void)snprintf(want, sizeof(want), "%s%s", cases[i].want[0] == '@' ? vary : "", cases[i].want + (cases[i].want[0] == '@'));
        head = head_of(cases[i].method, lines);
        if (cors_is_preflight(cases[i].cors, head) != cases[i].preflight)
            fail_msg("case %zu: preflight %d wanted", i, cases[i].preflight);
        len = cases[i].preflight ? cors_preflight_headers(cases[i].cors, head, got, sizeof(got))
                                 : cors_headers(cases[i].cors, head, got, sizeof(got));
        got[len] = '\0';
        if (strcmp(got, want) != 0)
            fail_msg("case %zu:\n%s\nwanted:\n%s", i, got, want);
    }
}

/* A line is there whole or not at all, whatever a client asks to have repeated. */
static void lines_are_never_cut(void **state)
{
    const struct http_head *head = head_of("POST", "Origin: https://a.example\r\n");
    char whole[1024], out[1024];
    size_t len = cors_headers(&some, head, whole, sizeof(whole));

    (void)state;
    for (size_t size = 1; size <= len + 1; size++) {
        size_t got = cors_headers(&some, head, out, size);

        assert_true(got < size);
        assert_true(got == 0 || memcmp(out + got - 2, "\r\n", 2) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match),
        cmocka_unit_test(header_lists_are_checked),
        cmocka_unit_test(answers_have_headers),
        cmocka_unit_test(lines_are_never_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
