/* The wire format is read and written as the encoding specification says, and what is cut short or too long
 * leaves the reader bad, at the end, yielding zero. */
#include "common/otlp/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

struct varint_case {
    const char *what;
    uint8_t bytes[12];
    size_t len;
    uint64_t value;
    size_t taken; /* 0: malformed */
};

static const struct varint_case varint_cases[] = {
    {"zero", {0x00}, 1, 0, 1},
    {"largest of one byte", {0x7f}, 1, 127, 1},
    {"smallest of two", {0x80, 0x01}, 2, 128, 2},
    {"150, of the specification", {0x96, 0x01}, 2, 150, 2},
    {"largest of two", {0xff, 0x7f}, 2, 16383, 2},
    {"smallest of three", {0x80, 0x80, 0x01}, 3, 16384, 3},
    {"each group its own", {0x81, 0x82, 0x83, 0x84, 0x05}, 5, 0x1 | 0x2 << 7 | 0x3 << 14 | 0x4 << 21 | 5ull << 28, 5},
    {"seven bytes", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, 7, (1ull << 49) - 1, 7},
    {"eight bytes", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, 8, (1ull << 56) - 1, 8},
    {"nine bytes", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, 9, (1ull << 63) - 1, 9},
    {"minus one", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 10, UINT64_MAX, 10},
    {"longer than needed", {0x80, 0x00}, 2, 0, 2},
    {"much longer than needed", {0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, 10, 1, 10},
    {"bits past 64", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, 10, 0, 0},
    {"eleven bytes", {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, 11, 0, 0},
    {"nothing", {0}, 0, 0, 0},
    {"cut after one byte", {0x80}, 1, 0, 0},
    {"cut after two", {0xff, 0xff}, 2, 0, 0},
    {"cut after nine", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9, 0, 0},
};

/* The case's bytes and `slack` zero bytes behind them, in memory of exactly that size. */
static uint8_t *exact_copy(const uint8_t *bytes, size_t len, size_t slack)
{
    uint8_t *copy = calloc(1, len + slack > 0 ? len + slack : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    return copy;
}

static void test_varint(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(varint_cases); i++) {
        const struct varint_case *c = &varint_cases[i];

        for (size_t slack = 0; slack < 12; slack++) {
            uint8_t *bytes = exact_copy(c->bytes, c->len, slack);
            struct wire w = wire_of(slice_make(bytes, c->len + slack));
            uint64_t value;

            if (c->taken == 0 && slack > 0 && c->len < 10) {
                free(bytes); /* what was cut short goes on with the slack: another case */
                break;
            }
            value = wire_varint(&w);
            if (w.bad != (c->taken == 0) || value != c->value ||
                w.at != (w.bad ? w.end : bytes + c->taken))
                fail_msg("%s, %zu bytes behind it", c->what, slack);
            free(bytes);
        }
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        for (int add = -1; add <= 1; add++) {
            uint64_t value = ((uint64_t)1 << bit) + (uint64_t)add;
            uint8_t bytes[10];
            size_t len = (size_t)(wire_put_varint(bytes, value) - bytes);
            struct wire w = wire_of(slice_make(bytes, len));

            if (len != wire_varint_size(value) || wire_varint(&w) != value || w.bad || wire_more(&w))
                fail_msg("2^%u%+d", bit, add);
        }
    }
}

static void test_fields(void **state)
{
    static const uint8_t bytes[] = {
        0x08, 0x96, 0x01,                                     /* 1: varint 150 */
        0x11, 1, 2, 3, 4, 5, 6, 7, 8,                         /* 2: fixed64 */
        0x1a, 3, 'a', 'b', 'c',                               /* 3: bytes */
        0x25, 9, 8, 7, 6,                                     /* 4: fixed32 */
        0xfa, 0xff, 0xff, 0xff, 0x0f, 0,                      /* 2^29-1: no bytes */
    };
    struct wire w = wire_of(slice_make(bytes, sizeof(bytes))), skipper = w;

    (void)state;
    assert_int_equal(wire_tag(&w), WIRE_TAG(1, WIRE_VARINT));
    assert_int_equal(wire_varint(&w), 150);
    assert_int_equal(wire_tag(&w), WIRE_TAG(2, WIRE_FIXED64));
    assert_true(wire_fixed64(&w) == 0x0807060504030201ull);
    assert_int_equal(wire_tag(&w), WIRE_TAG(3, WIRE_BYTES));
    assert_true(slice_equal(wire_bytes(&w), SLICE_LITERAL("abc")));
    assert_int_equal(wire_tag(&w), WIRE_TAG(4, WIRE_FIXED32));
    assert_int_equal(wire_fixed32(&w), 0x06070809);
    assert_int_equal(wire_tag(&w), WIRE_TAG(536870911u, WIRE_BYTES));
    assert_int_equal(wire_bytes(&w).len, 0);
    assert_false(wire_more(&w) || w.bad);
    for (unsigned i = 0; i < 5; i++)
        wire_skip(&skipper, wire_tag(&skipper));
    assert_false(wire_more(&skipper) || skipper.bad);
}

struct bad_case {
    const char *what;
    uint8_t bytes[12];
    size_t len;
};

/* Fields whose tag or value cannot be read. */
static const struct bad_case bad_cases[] = {
    {"field number zero", {0x02, 0}, 2},
    {"tag past 32 bits", {0x82, 0x80, 0x80, 0x80, 0x10, 0}, 6},
    {"group", {0x0b, 0x0c}, 2},
    {"group end", {0x0c}, 1},
    {"wire type 6", {0x0e, 0}, 2},
    {"wire type 7", {0x0f, 0}, 2},
    {"fixed64 cut", {0x09, 1, 2, 3, 4, 5, 6, 7}, 8},
    {"fixed32 cut", {0x0d, 1, 2, 3}, 4},
    {"bytes cut", {0x0a, 3, 'a', 'b'}, 4},
    {"length of 2^64-1", {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 11},
    {"no length", {0x0a}, 1},
    {"no varint", {0x08}, 1},
};

static void test_bad_fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bad_cases); i++) {
        const struct bad_case *c = &bad_cases[i];
        uint8_t *bytes = exact_copy(c->bytes, c->len, 0);
        struct wire w = wire_of(slice_make(bytes, c->len));

        wire_skip(&w, wire_tag(&w));
        if (!w.bad || wire_more(&w))
            fail_msg("%s is taken", c->what);
        if (wire_varint(&w) != 0 || wire_fixed64(&w) != 0 || wire_fixed32(&w) != 0 ||
            wire_bytes(&w).len != 0 || wire_tag(&w) != 0 || !w.bad || wire_more(&w))
            fail_msg("%s: the error does not stick", c->what);
        free(bytes);
    }
}

static void test_put_bytes(void **state)
{
    uint8_t bytes[300];

    (void)state;
    for (size_t len = 0; len <= 200; len++) {
        static const uint8_t content[200] = {1, 2, 3};
        uint8_t *end = wire_put_bytes(bytes, WIRE_TAG(16, WIRE_BYTES), len > 0 ? content : NULL, len);
        struct wire w = wire_of(slice_make(bytes, (size_t)(end - bytes)));

        assert_int_equal(end - bytes, wire_bytes_size(WIRE_TAG(16, WIRE_BYTES), len));
        assert_int_equal(wire_tag(&w), WIRE_TAG(16, WIRE_BYTES));
        assert_true(slice_equal(wire_bytes(&w), slice_make(content, len)));
        assert_false(wire_more(&w) || w.bad);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_varint),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_bad_fields),
        cmocka_unit_test(test_put_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
