/* A line of each kind lets its own password in and no other; a line that is none is refused by number, without being shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/security/htpasswd.h"

static void kinds(void **state)
{
    /* Made by openssl passwd, htpasswd's format and libxcrypt. */
    static const struct {
        const char *hash, *password;
        bool slow;
    } cases[] = {
        {"secret", "secret", false},
        {"with:colon", "with:colon", false},
        {"$ecret", "$ecret", false},
        {"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "secret", false},
        {"{SSHA}uGAUfJr9yps6jrPoJXwpSFb+ndxzYWx6", "secret", false},
        {"$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/", "secret", true},
        {"$apr1$ab$aPXNdsX0wq8N/LJdZEZgW1", "a much longer password than sixteen", true},
        {"$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1", "secret", true},
        {"$5$abc$qsg6EHbUzHQzF1POlD7zUwBINSELQxypPaeDcZe6vH0", "secret", true},
        {"$6$abc$IdWKNKTJEb8LxY7CGg8YBXlvtfZzFw7Mp/r6niK9YB2mdvgY..TKjv1T..8RadRt2qvUHYRLr/TsVArtr91iR1", "secret", true},
        {"$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "secret", true},
        {"$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "secret", true},
    };
    const char *const wrong[] = {"", "Secret", "secret ", "secre", "secret\n", "a much longer password than sixtee", "$ecre"};
    char text[300], error[200];

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct htpasswd *table = NULL;
        const struct htpasswd_entry *entry;

        (void)snprintf(text, sizeof(text), "user:%s\r\n", cases[i].hash);
        if (htpasswd_read(text, &table, error, sizeof(error)))
            fail_msg("%s: %s", cases[i].hash, error);
        entry = htpasswd_find(table, SLICE_LITERAL("user"));
        assert_non_null(entry);
        if (!htpasswd_matches(entry, slice_text(cases[i].password)))
            fail_msg("%s does not let %s in", cases[i].hash, cases[i].password);
        if (htpasswd_is_slow(entry) != cases[i].slow)
            fail_msg("%s is not of its kind", cases[i].hash);
        assert_true((htpasswd_decoy(table) != NULL) == cases[i].slow);
        for (size_t w = 0; w < ARRAY_COUNT(wrong); w++)
            if (htpasswd_matches(entry, slice_text(wrong[w])))
                fail_msg("%s lets \"%s\" in", cases[i].hash, wrong[w]);
        assert_false(htpasswd_matches(entry, SLICE_LITERAL("secret\0x")));
        htpasswd_free(table);
    }
}

static void users(void **state)
{
    struct htpasswd *table = NULL;
    char error[200];

    (void)state;
    assert_int_equal(htpasswd_read("# people\nbert:1\n\nanna:2 \t\r\nbert:3\ncarl:4", &table, error, sizeof(error)), 0);
    assert_int_equal(htpasswd_count(table), 3);
    assert_true(htpasswd_matches(htpasswd_find(table, SLICE_LITERAL("anna")), SLICE_LITERAL("2")));
    assert_true(htpasswd_matches(htpasswd_find(table, SLICE_LITERAL("bert")), SLICE_LITERAL("3")));
    assert_true(htpasswd_matches(htpasswd_find(table, SLICE_LITERAL("carl")), SLICE_LITERAL("4")));
    assert_null(htpasswd_find(table, SLICE_LITERAL("ann")));
    assert_null(htpasswd_find(table, SLICE_LITERAL("annaa")));
    assert_null(htpasswd_find(table, SLICE_LITERAL("# people")));
    assert_null(htpasswd_find(table, (struct slice){(const uint8_t *)"", 0}));
    htpasswd_free(table);
    htpasswd_free(NULL);
}

static void refused(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"anna:geheim\nbert", "line 2: wants user:hash"},
        {":geheim", "line 1: wants user:hash"},
        {"anna:", "line 1: has an empty hash"},
        {"anna:$2y$10$geheim", "no whole bcrypt hash"},
        {"anna:$2y$17$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "cost above 14"},
        {"anna:$6$rounds=999999999$abc$geheim", "more than 500000 rounds"},
        {"anna:$y$j9T$geheim$geheim", "this kind of hash is not known"},
        {"anna:$argon2id$v=19$geheim", "this kind of hash is not known"},
        {"anna:{SHA}geheim", "no whole SHA-1"},
        {"anna:{SSHA}Z2VoZWlt", "no whole SHA-1"},
    };
    struct htpasswd *table = NULL;
    char error[200];

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        if (htpasswd_read(cases[i].text, &table, error, sizeof(error)) != 1)
            fail_msg("\"%s\" was taken", cases[i].text);
        if (!strstr(error, cases[i].want) || strstr(error, "geheim"))
            fail_msg("\"%s\": %s", cases[i].text, error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(users),
        cmocka_unit_test(refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
