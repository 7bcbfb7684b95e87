/* A tracestate is read as a whole or not at all, and written again with its threshold, in the one normal form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/otlp/ot_tracestate.h"

#define RV "ffffffffffffff"
#define KEY_241 /* characters of a tenant */ \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define MEMBERS_10 "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,"

static void reads(void **state)
{
    static const struct {
        const char *text;
        bool good, has_randomness, has_threshold;
        uint64_t randomness, threshold;
    } rows[] = {
        {"", true, false, false, 0, 0},
        {"a=b", true, false, false, 0, 0},
        {"ot=rv:80000000000000", true, true, false, 0x80000000000000, 0},
        {"ot=th:c;rv:" RV, true, true, true, 0xffffffffffffff, 0xc0000000000000},
        {"ot=th:0", true, false, true, 0, 0},
        {"ot=th:00000000000001", true, false, true, 0, 1},
        {"ot=th:Ab", true, false, true, 0, 0xab000000000000},
        {" \tot=th:8 , a=b\t,, ", true, false, true, 0, 0x80000000000000},
        {"ot=th:8,ot=th:c", true, false, true, 0, 0xc0000000000000},
        {"ot=th:8;th:c", true, false, true, 0, 0xc0000000000000},
        {"ot=x:", true, false, false, 0, 0},
        {"ot=x:A.z_9-", true, false, false, 0, 0},
        {"1a@b=c", true, false, false, 0, 0},
        {"a*-_/=b c", true, false, false, 0, 0},
        {KEY_241 "@bcdefghijklmno=c", true, false, false, 0, 0},
        {MEMBERS_10 MEMBERS_10 MEMBERS_10 "a=1", true, false, false, 0, 0},
        {MEMBERS_10 MEMBERS_10 MEMBERS_10 "a=1,", true, false, false, 0, 0},
        /* not readable */
        {MEMBERS_10 MEMBERS_10 MEMBERS_10 "a=1,b=1", false, false, false, 0, 0},
        {KEY_241 "a@b=c", false, false, false, 0, 0},
        {"a@bcdefghijklmnop=c", false, false, false, 0, 0},
        {"ot=", false, false, false, 0, 0},
        {"ot=th:", false, false, false, 0, 0},
        {"ot=th:g", false, false, false, 0, 0},
        {"ot=th:_", false, false, false, 0, 0},
        {"ot=th:000000000000000", false, false, false, 0, 0},
        {"ot=rv:8", false, false, false, 0, 0},
        {"ot=rv:800000000000000", false, false, false, 0, 0},
        {"ot=rv:8;ot=rv:" RV, false, false, false, 0, 0},
        {"ot=rv:8,ot=rv:" RV, false, false, false, 0, 0},
        {"ot=th:8;", false, false, false, 0, 0},
        {"ot=th:8;;a:b", false, false, false, 0, 0},
        {"ot=8", false, false, false, 0, 0},
        {"ot=:8", false, false, false, 0, 0},
        {"ot=T:8", false, false, false, 0, 0},
        {"ot=1:8", false, false, false, 0, 0},
        {"ot=a:b:c", false, false, false, 0, 0},
        {"ot=th:8,BAD", false, false, false, 0, 0},
        {"BAD=1,ot=th:8", false, false, false, 0, 0},
        {"ot=th:8,a=", false, false, false, 0, 0},
        {"ot=th:8,=a", false, false, false, 0, 0},
        {"ot=th:8,a =b", false, false, false, 0, 0},
        {"ot=th:8,a=b=c", false, false, false, 0, 0},
        {"ot=th:8,a=b\x7f", false, false, false, 0, 0},
        {"ot=th:8,@b=c", false, false, false, 0, 0},
        {"ot=th:8,a@=c", false, false, false, 0, 0},
        {"ot=th:8,a@1=c", false, false, false, 0, 0},
        {"ot=th:8,a@b@c=d", false, false, false, 0, 0},
        {"ot=th:8,1a=b", false, false, false, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ot_tracestate read;

        print_message("%s\n", rows[i].text);
        assert_int_equal(ot_tracestate_read(slice_text(rows[i].text), &read), rows[i].good);
        assert_int_equal(read.has_randomness, rows[i].has_randomness);
        assert_int_equal(read.has_threshold, rows[i].has_threshold);
        if (rows[i].has_randomness)
            assert_true(read.randomness == rows[i].randomness);
        if (rows[i].has_threshold)
            assert_true(read.threshold == rows[i].threshold);
    }
}

static void lengths(void **state)
{
    static const struct {
        size_t value_len;
        bool good;
    } rows[] = {{256, true}, {257, false}};
    char text[2048];
    struct ot_tracestate read;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        memset(text, 'v', sizeof(text));
        memcpy(text, "a=", 2);
        assert_int_equal(ot_tracestate_read(slice_make(text, 2 + rows[i].value_len), &read), rows[i].good);
        memcpy(text, "ot=x:", 5); /* here the 256 count from x */
        assert_int_equal(ot_tracestate_read(slice_make(text, 3 + rows[i].value_len), &read), rows[i].good);
        memset(text, 'k', sizeof(text));
        memcpy(text + rows[i].value_len, "=v", 2);
        assert_int_equal(ot_tracestate_read(slice_make(text, rows[i].value_len + 2), &read), rows[i].good);
        memset(text, ' ', sizeof(text));
        assert_int_equal(ot_tracestate_read(slice_make(text, 768 + rows[i].value_len), &read), rows[i].good);
    }
}

static void writes(void **state)
{
    static const struct {
        const char *text;
        uint64_t threshold;
        enum ot_update update;
        const char *want;
    } rows[] = {
        {"", 0, OT_UPDATED, "ot=th:0"},
        {"ot=rv:80000000000000", 0x80000000000000, OT_UPDATED, "ot=rv:80000000000000;th:8"},
        {"ot=th:0", 0xe6666666666666, OT_UPDATED, "ot=th:e6666666666666"},
        {"ot=th:0", 1, OT_UPDATED, "ot=th:00000000000001"},
        {"zz=1,ot=x:y;rv:" RV, 0x80000000000000, OT_UPDATED, "ot=rv:" RV ";th:8;x:y,zz=1"},
        {" b=2 ,, a=1 , ot=y:2;th:1;x:1", 0x10000000000000, OT_UPDATED, "ot=th:1;y:2;x:1,b=2,a=1"},
        {"a=1,a=2,ot=x:1,ot=x:2", 0x80000000000000, OT_UPDATED, "ot=th:8;x:2,a=1,a=2"},
        {"a=1", OT_RANDOMNESS_COUNT, OT_UPDATED, "a=1"},
        {"ot=th:8", OT_RANDOMNESS_COUNT, OT_UPDATED, ""},
        {"ot=th:8;rv:" RV ";a:1", OT_RANDOMNESS_COUNT, OT_UPDATED, "ot=rv:" RV ";a:1"},
        {"ot=th:8;rv:" RV, 0x80000000000000, OT_UPDATED, "ot=rv:" RV ";th:8"},
        {"ot=th:c;rv:" RV, 0x80000000000000, OT_STRICTER, ""},
        {"ot=th:00000000000001", 0, OT_STRICTER, ""},
        {"BAD", 0, OT_UNREADABLE, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice text = slice_text(rows[i].text);
        uint8_t *out = malloc(text.len + OT_TRACESTATE_GROWTH); /* on the heap: the sanitizer knows its end */
        size_t len;

        print_message("%s\n", rows[i].text);
        assert_int_equal(ot_tracestate_update(text, rows[i].threshold, out, &len), rows[i].update);
        assert_true(slice_equal(slice_make(out, len), slice_text(rows[i].want)));
        free(out);
    }
}

static void randomness_of_an_id(void **state)
{
    static const struct trace_id id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10}};

    (void)state;
    assert_true(ot_randomness_of(&id) == 0x0a0b0c0d0e0f10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(lengths),
        cmocka_unit_test(writes),
        cmocka_unit_test(randomness_of_an_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
