/* A tracestate is read member by member, and one fault anywhere leaves none. */
#include "common/otlp/w3c_tracestate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/base/cleanup.h"

static void test_texts(void **state)
{
    static const struct {
        const char *text;
        size_t count;       /* W3C_MALFORMED: none */
        const char *last[2]; /* key and value of the last member */
    } cases[] = {
        {"", 0, {"", ""}},
        {",", 0, {"", ""}},
        {",,,", 0, {"", ""}},
        {"tk=v1", 1, {"tk", "v1"}},
        {"a=b,tk=v1", 2, {"tk", "v1"}},
        {"a=b,,tk=v1,", 2, {"tk", "v1"}},
        {" tk=v1 ", 1, {"tk", "v1"}},
        {"\t tk=v1\t ,\ta=b", 2, {"a", "b"}},
        {"tk= v1", 1, {"tk", " v1"}},
        {"tk=v 1", 1, {"tk", "v 1"}},
        {"tk =v1", W3C_MALFORMED, {"", ""}},
        {"tk = v1", W3C_MALFORMED, {"", ""}},
        {"tk=\tv1", W3C_MALFORMED, {"", ""}},
        {" ", W3C_MALFORMED, {"", ""}},
        {"a=b, ,tk=v1", W3C_MALFORMED, {"", ""}},
        {"a", W3C_MALFORMED, {"", ""}},
        {"a=", W3C_MALFORMED, {"", ""}},
        {"a= ", W3C_MALFORMED, {"", ""}},
        {"=a", W3C_MALFORMED, {"", ""}},
        {"a=b=c", W3C_MALFORMED, {"", ""}},
        {"a=b,a=c", W3C_MALFORMED, {"", ""}},
        {"a=b, a=b", W3C_MALFORMED, {"", ""}},
        {"a=b,BAD=1", W3C_MALFORMED, {"", ""}},
        {"1a=b", W3C_MALFORMED, {"", ""}},
        {"a_-*/9=b", 1, {"a_-*/9", "b"}},
        {"a.b=c", W3C_MALFORMED, {"", ""}},
        {"1t@sys=c", 1, {"1t@sys", "c"}},
        {"t@1ys=c", W3C_MALFORMED, {"", ""}},
        {"@sys=c", W3C_MALFORMED, {"", ""}},
        {"t@=c", W3C_MALFORMED, {"", ""}},
        {"t@s@s=c", W3C_MALFORMED, {"", ""}},
        {"t@abcdefghijklmn=c", 1, {"t@abcdefghijklmn", "c"}},
        {"t@abcdefghijklmno=c", W3C_MALFORMED, {"", ""}},
        {"a=~!", 1, {"a", "~!"}},
        {"a=\x7f", W3C_MALFORMED, {"", ""}},
        {"a=\xc3\xa9", W3C_MALFORMED, {"", ""}},
        {"\xc3\xa9=a", W3C_MALFORMED, {"", ""}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct w3c_member members[W3C_MEMBERS_MAX];
        size_t count = w3c_tracestate_read(slice_text(cases[i].text), members);

        if (count != cases[i].count)
            fail_msg("`%s`: %zu members", cases[i].text, count);
        if (count > 0 && count != W3C_MALFORMED) {
            assert_true(slice_equal(members[count - 1].key, slice_text(cases[i].last[0])));
            assert_true(slice_equal(members[count - 1].value, slice_text(cases[i].last[1])));
        }
    }
}

/* Lengths: a key, a tenant, a value and the list, each at its bound and one past it. */
static void test_bounds(void **state)
{
    static const struct {
        size_t key, tenant, value, members;
        bool is_fine;
    } cases[] = {
        {256, 0, 1, 1, true},
        {257, 0, 1, 1, false},
        {3, 241, 1, 1, true},
        {3, 242, 1, 1, false},
        {3, 0, 256, 1, true},
        {3, 0, 257, 1, false},
        {3, 0, 1, 32, true},
        {3, 0, 1, 33, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct w3c_member members[W3C_MEMBERS_MAX];
        char text[2048];
        size_t len = 0;

        for (size_t m = 0; m < cases[i].members; m++) {
            if (m > 0)
                text[len++] = ',';
            if (cases[i].tenant > 0) {
                memset(text + len, 't', cases[i].tenant);
                len += cases[i].tenant;
                text[len++] = '@';
            }
            memset(text + len, 'k', cases[i].key);
            text[len] = (char)('a' + m % 26);
            text[len + 1] = (char)('a' + m / 26);
            len += cases[i].key;
            text[len++] = '=';
            memset(text + len, 'v', cases[i].value);
            len += cases[i].value;
        }
        if ((w3c_tracestate_read(slice_make(text, len), members) == cases[i].members) != cases[i].is_fine)
            fail_msg("case %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
