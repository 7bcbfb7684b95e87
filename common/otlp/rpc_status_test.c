/* What is written is what the messages' definitions say and reads back the same; what peers send is read, or refused, whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/base/num.h"
#include "common/otlp/rpc_status.h"
#include "common/otlp/wire.h"
#include "tests/kit/otlp_build.h"

#define TYPE_RETRY "type.googleapis.com/google.rpc.RetryInfo"
#define TYPE_OTHER "type.googleapis.com/google.rpc.ErrorInfo"
#define DAY_NS (86400 * NS_PER_S)

/* A message's bytes from hexadecimal digits. */
static size_t hex(const char *digits, uint8_t *out)
{
    size_t len = 0;

    for (; digits[0]; digits += 2) {
        unsigned byte = 0;

        for (int i = 0; i < 2; i++)
            byte = byte * 16 + (unsigned)(digits[i] >= 'a' ? digits[i] - 'a' + 10 : digits[i] - '0');
        out[len++] = (uint8_t)byte;
    }
    return len;
}

/* -- partial success ------------------------------------------------------------------------------------ */

/* Three spans refused, "too old", as protobuf itself writes it. */
static void test_partial_vector(void **state)
{
    uint8_t want[64], got[RPC_STATUS_BYTES_MAX];
    size_t want_len = hex("0a0b08031207746f6f206f6c64", want);
    struct slice message;
    uint64_t rejected = 0;

    (void)state;
    assert_int_equal(partial_success_write(3, "too old", got), want_len);
    assert_memory_equal(got, want, want_len);
    assert_true(partial_success_read(slice_make(want, want_len), &rejected, &message));
    assert_int_equal(rejected, 3);
    assert_true(slice_equal(message, SLICE_LITERAL("too old")));
}

static void test_partial_round_trip(void **state)
{
    static const uint64_t counts[] = {0, 1, 127, 128, 65535, UINT32_MAX, INT64_MAX};
    char text[1000];

    (void)state;
    memset(text, 'x', sizeof(text));
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        for (size_t len = 0; len < sizeof(text); len += len < 400 ? 1 : 97) {
            uint8_t out[RPC_STATUS_BYTES_MAX + 1];
            struct slice message;
            uint64_t rejected = 77;
            size_t size;

            text[len] = '\0';
            out[RPC_STATUS_BYTES_MAX] = 0xa5;
            size = partial_success_write(counts[c], text, out);
            text[len] = 'x';
            assert_in_range(size, 1, RPC_STATUS_BYTES_MAX);
            assert_int_equal(out[RPC_STATUS_BYTES_MAX], 0xa5);
            assert_true(partial_success_read(slice_make(out, size), &rejected, &message));
            assert_true(rejected == counts[c]);
            /* Whole, or as much as fits. */
            assert_true(message.len == len || (message.len < len && message.len >= 256));
            assert_memory_equal(message.len ? (const char *)message.at : "", text, message.len);
        }
    }
}

static void test_partial_read(void **state)
{
    static const struct {
        const char *hex;
        bool readable;
        uint64_t rejected;
        const char *message;
    } cases[] = {
        {"", true, 0, ""},                             /* no partial success at all */
        {"0a00", true, 0, ""},                         /* an empty one: everything was taken */
        {"0a0412026869", true, 0, "hi"},               /* a warning: taken, and something to say */
        {"0a020805", true, 5, ""},
        {"0a04080508070a0412026869", true, 7, "hi"},   /* repeated fields: the last counts; messages merge */
        {"0a0a12026869080518012001", true, 5, "hi"},   /* any order, unknown fields inside */
        {"100112016a0a020805", true, 5, ""},           /* ... and around it, field 2 and its like among them */
        {"0a0b08ffffffffffffffffff01", true, UINT64_MAX, ""}, /* -1: as it came, its reader bounds it */
        {"0a", false, 0, NULL},                        /* cut everywhere */
        {"0a02", false, 0, NULL},
        {"0a0208", false, 0, NULL},
        {"0a0308", false, 0, NULL},
        {"0a020880", false, 0, NULL},
        {"0a0412056869", false, 0, NULL},              /* the inner text is longer than its message */
        {"0a0c08ffffffffffffffffffff01", false, 0, NULL}, /* a varint that never ends */
        {"0b0c", false, 0, NULL},                      /* a group */
        {"0a020b0c", false, 0, NULL},
        {"00", false, 0, NULL},                        /* field 0 */
        {"0a020805ff", false, 0, NULL},                /* good, then not */
        {"0a020805120a", false, 0, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice message = SLICE_LITERAL("untouched");
        uint64_t rejected = 77;
        uint8_t bytes[64];
        size_t len = hex(cases[i].hex, bytes);
        bool readable = partial_success_read(slice_make(bytes, len), &rejected, &message);

        if (readable != cases[i].readable)
            fail_msg("%s: readable %d", cases[i].hex, readable);
        if (!readable) { /* nothing was written out */
            assert_int_equal(rejected, 77);
            assert_true(slice_equal(message, SLICE_LITERAL("untouched")));
            continue;
        }
        if (rejected != cases[i].rejected || !slice_equal(message, slice_text(cases[i].message)))
            fail_msg("%s: rejected %llu, message of %zu bytes", cases[i].hex, (unsigned long long)rejected, message.len);
    }
}

/* -- google.rpc.Status ------------------------------------------------------------------------------------ */

/* UNAVAILABLE, "busy", RetryInfo of five seconds, as protobuf itself writes it. */
#define VECTOR_BUSY                                                                                \
    "080e1204627573791a300a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e5265747279496e666f12040a020805"

static void test_status_vector(void **state)
{
    uint8_t bytes[128];
    size_t len = hex(VECTOR_BUSY, bytes);
    uint64_t retry_ns = 0;

    (void)state;
    assert_true(rpc_status_retry(slice_make(bytes, len), &retry_ns));
    assert_true(retry_ns == 5 * NS_PER_S);
    /* Cut anywhere it must not be read beyond its end; its details are the last field, so none is found. */
    for (size_t cut = 0; cut < len; cut++) {
        retry_ns = 77;
        if (rpc_status_retry(slice_make(bytes, cut), &retry_ns))
            fail_msg("found in the first %zu bytes", cut);
        assert_int_equal(retry_ns, 77);
    }
}

/* A reader of its own for what is written: fields of one message, each at most once. */
struct fields {
    uint64_t number[4];
    struct slice text[4];
    bool there[4];
};

static struct fields fields_of(struct slice message)
{
    struct fields fields = {0};
    struct wire w = wire_of(message);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w), field = WIRE_FIELD(tag);

        assert_in_range(field, 1, 3);
        assert_false(fields.there[field]);
        fields.there[field] = true;
        if ((tag & 7) == WIRE_VARINT)
            fields.number[field] = wire_varint(&w);
        else if ((tag & 7) == WIRE_BYTES)
            fields.text[field] = wire_bytes(&w);
        else
            fail_msg("tag %u", tag);
    }
    assert_false(w.bad);
    return fields;
}

static void test_status_write(void **state)
{
    static const uint64_t retries[] = {0, 1, 999999999, NS_PER_S, 5 * NS_PER_S, 1500 * NS_PER_MS, 61 * NS_PER_S + 7, DAY_NS};
    char text[1000];

    (void)state;
    memset(text, 'y', sizeof(text));
    for (size_t i = 0; i < sizeof(retries) / sizeof(retries[0]); i++) {
        for (int code = 0; code <= 16; code++) {
            for (size_t len = 0; len < sizeof(text); len += len < 4 ? 1 : 83) {
                uint8_t out[RPC_STATUS_BYTES_MAX + 1];
                uint64_t retry_ns = 77;
                struct fields status;
                size_t size;

                text[len] = '\0';
                out[RPC_STATUS_BYTES_MAX] = 0xa5;
                size = rpc_status_write(code, text, retries[i], out);
                text[len] = 'y';
                assert_in_range(size, 0, RPC_STATUS_BYTES_MAX);
                assert_int_equal(out[RPC_STATUS_BYTES_MAX], 0xa5);
                status = fields_of(slice_make(out, size));
                assert_int_equal(status.number[1], code);
                assert_true(status.text[2].len == len || (status.text[2].len < len && status.text[2].len >= 256));
                assert_memory_equal(status.text[2].len ? (const char *)status.text[2].at : "", text, status.text[2].len);
                assert_int_equal(status.there[3], retries[i] > 0);
                assert_int_equal(rpc_status_retry(slice_make(out, size), &retry_ns), retries[i] > 0);
                assert_true(retry_ns == (retries[i] > 0 ? retries[i] : 77));
                if (retries[i] > 0) {
                    struct fields any = fields_of(status.text[3]);
                    struct fields info = fields_of(any.text[2]);
                    struct fields duration = fields_of(info.text[1]);

                    assert_true(slice_equal(any.text[1], SLICE_LITERAL(TYPE_RETRY)));
                    assert_true(duration.number[1] == retries[i] / NS_PER_S);
                    assert_true(duration.number[2] == retries[i] % NS_PER_S);
                }
            }
        }
    }
}

/* -- what servers send -------------------------------------------------------------------------------------- */

static void detail(struct otlp_build *b, const char *type, bool has_delay, int64_t seconds, int64_t nanos)
{
    otlp_begin(b, 3);
    otlp_text(b, 1, type);
    otlp_begin(b, 2);
    if (has_delay) {
        otlp_begin(b, 1);
        if (seconds)
            otlp_varint(b, 1, (uint64_t)seconds);
        if (nanos)
            otlp_varint(b, 2, (uint64_t)nanos);
        otlp_end(b);
    }
    otlp_end(b);
    otlp_end(b);
}

/* A delay that no server can mean is none, or capped at a day; the answer still says that trying again is allowed. */
static void test_retry_delays(void **state)
{
    static const struct {
        bool has_delay;
        int64_t seconds, nanos;
        uint64_t want_ns;
    } cases[] = {
        {true, 0, 0, 0},
        {false, 0, 0, 0},
        {true, 5, 0, 5 * NS_PER_S},
        {true, 0, 250000000, 250 * NS_PER_MS},
        {true, 1, 999999999, 2 * NS_PER_S - 1},
        {true, -1, 0, 0},
        {true, 0, -1, 0},
        {true, 3, -5, 0},
        {true, INT64_MIN, 0, 0},
        {true, 3, NS_PER_S, 0}, /* nanos are less than a second */
        {true, 86400, 0, DAY_NS},
        {true, 86401, 0, DAY_NS},
        {true, 315576000000, 0, DAY_NS}, /* the longest there is */
        {true, INT64_MAX, 0, DAY_NS},
    };
    struct otlp_build b = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t retry_ns = 77;

        otlp_build_reset(&b);
        otlp_varint(&b, 1, 14);
        detail(&b, TYPE_RETRY, cases[i].has_delay, cases[i].seconds, cases[i].nanos);
        assert_true(rpc_status_retry(otlp_slice(&b), &retry_ns));
        if (retry_ns != cases[i].want_ns)
            fail_msg("%lld s %lld ns: %llu", (long long)cases[i].seconds, (long long)cases[i].nanos, (unsigned long long)retry_ns);
    }
    otlp_build_deinit(&b);
}

static void test_retry_among_others(void **state)
{
    struct otlp_build b = {0};
    uint64_t retry_ns = 77;

    (void)state;
    /* Others alone are none. */
    detail(&b, TYPE_OTHER, true, 9, 0);
    detail(&b, "RetryInfo", true, 9, 0);
    detail(&b, "", true, 9, 0);
    otlp_varint(&b, 1, 8);
    assert_false(rpc_status_retry(otlp_slice(&b), &retry_ns));
    assert_int_equal(retry_ns, 77);
    /* Behind others, details that are no message, and fields nobody knows. */
    otlp_bytes(&b, 3, "\xff\xff", 2);
    otlp_fixed64(&b, 9, 1);
    otlp_fixed32(&b, 10, 1);
    detail(&b, TYPE_RETRY, true, 4, 0);
    detail(&b, TYPE_OTHER, true, 9, 0);
    assert_true(rpc_status_retry(otlp_slice(&b), &retry_ns));
    assert_true(retry_ns == 4 * NS_PER_S);
    otlp_build_deinit(&b);
}

static void test_retry_malformed(void **state)
{
    struct otlp_build b = {0};
    uint64_t retry_ns = 77;

    (void)state;
    otlp_raw(&b, "\x1b\x1c", 2); /* a group before it: what follows is not looked at */
    detail(&b, TYPE_RETRY, true, 4, 0);
    assert_false(rpc_status_retry(otlp_slice(&b), &retry_ns));
    assert_int_equal(retry_ns, 77);

    otlp_build_reset(&b);
    otlp_begin(&b, 3); /* RetryInfo that is broken inside: it is there, but names no delay */
    otlp_text(&b, 1, TYPE_RETRY);
    otlp_bytes(&b, 2, "\x0a\x05\x08", 3);
    otlp_end(&b);
    assert_true(rpc_status_retry(otlp_slice(&b), &retry_ns));
    assert_int_equal(retry_ns, 0);
    otlp_build_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partial_vector),
        cmocka_unit_test(test_partial_round_trip),
        cmocka_unit_test(test_partial_read),
        cmocka_unit_test(test_status_vector),
        cmocka_unit_test(test_status_write),
        cmocka_unit_test(test_retry_delays),
        cmocka_unit_test(test_retry_among_others),
        cmocka_unit_test(test_retry_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
