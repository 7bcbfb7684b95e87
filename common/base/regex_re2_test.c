/* A search answers as Go's regexp does, whether patterns are searched alone or together, and hostile ones stay bounded. */
#include "common/base/regex_re2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cleanup.h"

static char *writable(
    const char *text) /* the patterns are not written to, but their type does not say so */
{
    char *copy = strdup(text);

    assert_non_null(copy);
    return copy;
}

static struct regex_set *compile(const char *const *patterns, size_t count)
{
    char **copies = calloc(count, sizeof(*copies)), *reason = NULL;
    struct regex_set *set = NULL;
    size_t index = 0;

    assert_non_null(copies);
    for (size_t i = 0; i < count; i++)
        copies[i] = writable(patterns[i]);
    if (regex_set_new(copies, count, &set, &reason, &index) != 0)
        fail_msg("%s: %s", patterns[index], reason);
    for (size_t i = 0; i < count; i++)
        free(copies[i]);
    free(copies);
    return set;
}

struct search {
    const char *pattern, *text;
    size_t len; /* 0: strlen */
    bool found;
};

static const struct search searches[] = {
    {"value[0-9]", "xvalue1x", 0, true},
    {"value[0-9]", "value", 0, false},
    {"Value", "value", 0, false},
    {"(?i)VALUE", "value", 0, true},
    {"", "", 0, true},
    {"", "x", 0, true},
    {"^$", "", 0, true},
    {"^$", "x", 0, false},
    {"a.b", "a\nb", 0, false},
    {"(?s)a.b", "a\nb", 0, true},
    {"b$", "b\n", 0, false},
    {"(?m)b$", "b\n", 0, true},
    {"^b", "a\nb", 0, false},
    {"(?m)^b", "a\nb", 0, true},
    {"(?<year>\\d+)-", "2024-", 0, true},
    {"(?P<year>\\d+)-", "2024-", 0, true},
    {"[(?<]x", "<x", 0, true},
    {"[]a]x", "]x", 0, true},
    {"[^]a]x", "]x", 0, false},
    {"[[:alpha:](?<]+x", "b<x", 0, true},
    {"\\Q(?<n>\\E.", "(?<n>!", 0, true},
    {"\\Q(?<n>", "(?<n>", 0, true},
    {"\\(?<", "<", 0, true},
    {"^.$", "\xc3\xa9", 0, true},
    {"^.$", "\xff", 0, true},
    {"^..$", "\xff", 0, false},
    {"^.$", "\xc3", 0, true},
    {"^..$", "\xe2\x82", 0, true},
    {"^...$", "\xed\xa0\x80", 0, true}, /* a surrogate is three strays */
    {"^.$", "\xed\x9f\xbf", 0, true},   /* the last before them */
    {"^.$", "\xf4\x8f\xbf\xbf", 0, true},
    {"^....$", "\xf4\x90\x80\x80", 0, true}, /* past U+10FFFF */
    {"^..$", "\xc0\x80", 0, true},           /* longer than need be */
    {"^...$", "\xe0\x80\x80", 0, true},
    {"^....$", "\xf0\x80\x80\x80", 0, true},
    {"^\\x{FFFD}a$",
        "\xff"
        "a",
        0, true},
    {"[^a]", "\xff", 0, true},
    {"a\\x00b", "a\0b", 3, true},
    {"^a$", "a\0b", 3, false},
    {"\\bb\\b", "a b c", 0, true},
};

static size_t search_len(const struct search *search)
{
    return search->len > 0 ? search->len : strlen(search->text);
}

/* Each pattern, alone. */
static void test_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(searches); i++) {
        struct regex_set *set = compile(&searches[i].pattern, 1);
        uint64_t found = ~0ull;

        assert_int_equal(
            regex_set_match(set, searches[i].text, search_len(&searches[i]), &found), 0);
        if (found != (uint64_t)searches[i].found)
            fail_msg("case %zu: `%s` in `%s`", i, searches[i].pattern, searches[i].text);
        regex_set_free(set);
    }
}

/* A set answers for each of its patterns what the pattern answers alone, for every text; more than a word of them. */
static void test_together(void **state)
{
    const char *patterns[ARRAY_COUNT(searches) * 2];
    struct regex_set *set;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(patterns); i++)
        patterns[i] = searches[i % ARRAY_COUNT(searches)].pattern;
    _Static_assert(ARRAY_COUNT(searches) * 2 > 64, "more than one word");
    set = compile(patterns, ARRAY_COUNT(patterns));
    for (size_t t = 0; t < ARRAY_COUNT(searches); t++) {
        uint64_t found[2];

        assert_int_equal(
            regex_set_match(set, searches[t].text, search_len(&searches[t]), found), 0);
        for (size_t p = 0; p < ARRAY_COUNT(patterns); p++) {
            struct regex_set *alone = compile(&patterns[p], 1);
            uint64_t expected;

            assert_int_equal(
                regex_set_match(alone, searches[t].text, search_len(&searches[t]), &expected), 0);
            if (((found[p / 64] >> (p % 64)) & 1) != expected)
                fail_msg("`%s` in `%s` among others", patterns[p], searches[t].text);
            regex_set_free(alone);
        }
    }
    regex_set_free(set);
}

/* What Go refuses, and what does not fit the memory, is refused with a reason and the pattern's place. */
static void test_refused(void **state)
{
    static const char *const patterns[] = {"(", "a**", "[", "\\C", "x\\C", "(?<n", "a{1001}", "\\8",
        "(?=a)", "\xff", "((((((((a{100}){100}){100}){100}){100}){100}){100}){100}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(patterns); i++) {
        char *pair[2] = {writable("fine"), writable(patterns[i])}, *reason = NULL;
        struct regex_set *set = NULL;
        size_t index = 99;

        if (regex_set_new(pair, 2, &set, &reason, &index) != REGEX_E_INVALID)
            fail_msg("`%s` was accepted", patterns[i]);
        assert_int_equal(index, 1);
        assert_true(reason && strlen(reason) > 0);
        assert_null(set);
        free(reason);
        free(pair[0]);
        free(pair[1]);
    }
}

/* Patterns whose automaton has more states than fit the memory are answered right, in time linear in the text. */
static void test_hostile(void **state)
{
    static const char *const patterns[] = {"[ab]*a[ab]{18}c", "[ab]*b[ab]{18}d", "(a|aa)*$"};
    enum { LEN = 20000 };
    struct regex_set *set = compile(patterns, ARRAY_COUNT(patterns));
    char *text = malloc(LEN);
    uint64_t found, random = 1;

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < LEN; i++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        text[i] = random >> 63 ? 'a' : 'b';
    }
    assert_int_equal(regex_set_match(set, text, LEN, &found), 0);
    assert_int_equal(found, 4);
    text[LEN - 20] = 'a';
    text[LEN - 1] = 'c';
    assert_int_equal(regex_set_match(set, text, LEN, &found), 0);
    assert_int_equal(found, 5);
    free(text);
    regex_set_free(set);
    regex_set_free(NULL);
}

/* Patterns that together pass the memory of a set are searched one by one, and answered as alone. */
static void test_too_big_together(void **state)
{
    enum { COUNT = 70, LEN = 450 };
    char texts[COUNT][64], text[LEN + 8];
    const char *patterns[COUNT];
    struct regex_set *set;
    uint64_t found[2];

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "(?:%c%cx|[a%c]){450}x%d", 'b' + i % 20,
            'a' + i / 20, 'b' + i % 20, i);
        patterns[i] = texts[i];
    }
    set = compile(patterns, COUNT);
    memset(text, 'a', LEN);
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(text + LEN, sizeof(text) - LEN, "x%d", i);
        assert_int_equal(regex_set_match(set, text, strlen(text), found), 0);
        for (int j = 0; j < COUNT; j++) /* "x1" is found in "x12" as well */
            if (((found[j / 64] >> (j % 64)) & 1) != (j == i || (i >= 10 && j == i / 10)))
                fail_msg("pattern %d in text %d", j, i);
    }
    regex_set_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_too_big_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
