/* A text holds exactly what was appended, however small the pieces and wherever it has to grow;
 * after a failed growth it keeps what it had and says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics/text.h"

static void test_growth(void **state)
{
    static const size_t pieces[] = {0, 1, 2, 7, 100, 4094, 4095, 4096, 4097, 100000};

    (void)state;
    for (size_t p = 0; p < ARRAY_COUNT(pieces); p++) {
        char *piece = malloc(pieces[p] + 1);
        struct text text = {0};

        assert_non_null(piece);
        memset(piece, 'p', pieces[p]);
        piece[pieces[p]] = '\0';
        for (int round = 0; round < 50; round++) {
            text_append(&text, "%s%d", piece, round % 10);
            text_append_slice(&text, slice_make(piece, pieces[p]));
        }
        assert_false(text.failed);
        assert_int_equal(text.len, 50 * (2 * pieces[p] + 1));
        assert_int_equal(strlen(text.at), text.len);
        for (size_t round = 0; round < 50; round++)
            if (text.at[round * (2 * pieces[p] + 1) + pieces[p]] != (char)('0' + round % 10))
                fail_msg(
                    "pieces of %zu bytes: round %zu is not where it belongs", pieces[p], round);
        text_deinit(&text);
        assert_null(text.at);
        free(piece);
    }
}

static void test_failure_keeps_content(void **state)
{
    struct text text = {0};

    (void)state;
    text_append(&text, "kept");
    /* No memory has room for this, so growing fails before a byte is read. */
    text_append_slice(&text, slice_make(text.at, SIZE_MAX - 2));
    assert_true(text.failed);
    assert_string_equal(text.at, "kept");
    text_append(&text, "not added");
    text_append_json(&text, SLICE_LITERAL("nor this"));
    assert_string_equal(text.at, "kept");
    assert_int_equal(text.len, 4);
    text_clear(&text);
    assert_string_equal(text.at, "");
    text_append(&text, "again");
    assert_string_equal(text.at, "again");
    text_deinit(&text);
}

/* What is written parses as JSON and gives the bytes back, for every byte and every well-formed
 * form. */
static void test_json(void **state)
{
    static const struct {
        const char *name, *in, *out;
    } cases[] = {
        {"nothing", "", ""},
        {"two, three and four bytes",
            "\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
            "\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"},
        {"overlong", "\xe0\x9f\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"overlong of four", "\xf0\x8f\xbf\xbf",
            "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"surrogate", "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"beyond Unicode", "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"cut short", "a\xe2\x82", "a\xef\xbf\xbd\xef\xbf\xbd"},
    };
    struct text text = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        json_t *parsed;

        text_clear(&text);
        text_append_json(&text, slice_text(cases[i].in));
        parsed = json_loadb(text.at, text.len, JSON_DECODE_ANY, NULL);
        if (!parsed || strcmp(json_string_value(parsed), cases[i].out) != 0)
            fail_msg("%s: %s", cases[i].name, text.at);
        json_decref(parsed);
    }
    for (unsigned byte = 0; byte < 128; byte++) {
        uint8_t in = (uint8_t)byte;
        json_t *parsed;

        text_clear(&text);
        text_append_json(&text, slice_make(&in, 1));
        parsed = json_loadb(text.at, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (!parsed || json_string_length(parsed) != 1 || json_string_value(parsed)[0] != (char)in)
            fail_msg("byte %u: %s", byte, text.at);
        json_decref(parsed);
    }
    text_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_failure_keeps_content),
        cmocka_unit_test(test_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
