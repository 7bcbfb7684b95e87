/* Whatever order calls end in and however they end, each piece is settled exactly once, untouched, with its own
 * rejected spans; calls start when the flush rules say; and every reserved byte comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/export/outbox.h"
#include "common/export/rpc_code.h"
#include "common/otlp/wire.h"
#include "tests/kit/fake_link.h"

#define LIMIT (64 * MIB)
#define TIMEOUT (5 * NS_PER_S)
#define START (100 * NS_PER_S)

struct test_piece {
    struct piece piece;
    uint64_t bytes_hash;
    uint32_t id, want_rejected;
    unsigned puts, delivered, failed;
    uint32_t rejected_count;
    int code;
};

struct fixture {
    struct fake_link fake;
    struct outbox outbox;
    uint64_t now_ns, seed;
    size_t count, again; /* pieces; how many of 8 failures are put back at once */
    struct test_piece *pieces[8192];
};

static uint64_t random_next(struct fixture *f)
{
    f->seed = f->seed * 6364136223846793005ull + 1442695040888963407ull;
    return f->seed >> 24;
}

static struct test_piece *test_piece_of(struct piece *piece)
{
    struct test_piece *test = container_of(piece, struct test_piece, piece);

    assert_false(list_linked(&piece->node));
    assert_true(hash_bytes(piece->bytes->bytes, piece->bytes->len) == test->bytes_hash);
    return test;
}

static void on_delivered(void *context, struct piece *piece, uint32_t rejected_count)
{
    struct test_piece *test = test_piece_of(piece);

    (void)context;
    test->delivered++;
    test->rejected_count = rejected_count;
}

static void put(struct fixture *f, struct test_piece *test)
{
    assert_true(outbox_reserve(&f->outbox, test->piece.bytes->len));
    test->puts++;
    outbox_put(&f->outbox, &test->piece, f->now_ns);
}

static void on_failed(void *context, struct piece *piece, const struct link_result *result)
{
    struct fixture *f = context;
    struct test_piece *test = test_piece_of(piece);

    assert_int_not_equal(result->code, RPC_OK);
    test->failed++;
    test->code = result->code;
    if (random_next(f) % 8 < f->again && test->puts < 5)
        put(f, test);
}

static void open_fixture(struct fixture *f, enum link_state state)
{
    struct outbox_owner owner = {f, on_delivered, on_failed};

    memset(f, 0, sizeof(*f));
    f->now_ns = START;
    f->seed = 1;
    fake_link_init(&f->fake, state);
    outbox_init(&f->outbox, &f->fake.link, &owner, LIMIT, TIMEOUT);
}

/* Ends every call, then checks that nothing is left behind. */
static void close_fixture(struct fixture *f)
{
    f->again = 0;
    fake_link_end_all(&f->fake, RPC_OK);
    outbox_deinit(&f->outbox);
    assert_int_equal(f->outbox.reserved_bytes, 0);
    assert_int_equal(f->outbox.queued_bytes, 0);
    for (size_t i = 0; i < f->count; i++) {
        struct test_piece *test = f->pieces[i];

        if (test->delivered + test->failed != test->puts || test->delivered > 1)
            fail_msg("piece %u: put %u times, delivered %u, failed %u", test->id, test->puts, test->delivered,
                test->failed);
        assert_int_equal(test->piece.bytes->refs, 1);
        buffer_unref(test->piece.bytes);
        free(test);
    }
    fake_link_deinit(&f->fake);
}

/* A piece of `spans` spans in len bytes: each span is its piece's id and its own index, zeros follow. */
static struct test_piece *new_piece(struct fixture *f, uint32_t spans, size_t len)
{
    struct test_piece *test = calloc(1, sizeof(*test));

    assert_non_null(test);
    assert_in_range(f->count, 0, 8191);
    test->id = (uint32_t)f->count + 1;
    test->piece.span_count = spans;
    test->piece.bytes = buffer_new(len);
    assert_non_null(test->piece.bytes);
    memset(test->piece.bytes->bytes, 0, len);
    for (uint32_t i = 0; i < spans && 8 * (i + 1) <= len; i++) {
        memcpy(test->piece.bytes->bytes + 8 * i, &test->id, 4);
        memcpy(test->piece.bytes->bytes + 8 * i + 4, &i, 4);
    }
    test->piece.bytes->len = len;
    test->bytes_hash = hash_bytes(test->piece.bytes->bytes, len);
    f->pieces[f->count++] = test;
    return test;
}

static struct test_piece *put_new(struct fixture *f, size_t len)
{
    struct test_piece *test = new_piece(f, 1, len);

    put(f, test);
    return test;
}

static void test_reserve_is_all_or_nothing(void **state)
{
    struct fixture f;

    (void)state;
    open_fixture(&f, LINK_UP);
    assert_false(outbox_reserve(&f.outbox, LIMIT + 1));
    assert_false(outbox_reserve(&f.outbox, UINT64_MAX));
    assert_true(outbox_reserve(&f.outbox, LIMIT - 10));
    assert_false(outbox_reserve(&f.outbox, 11));
    assert_true(outbox_reserve(&f.outbox, 10));
    assert_false(outbox_reserve(&f.outbox, 1));
    assert_true(outbox_reserve(&f.outbox, 0));
    outbox_unreserve(&f.outbox, LIMIT);
    assert_int_equal(f.outbox.reserved_bytes, 0);
    close_fixture(&f);
}

static void test_flush_rules(void **state)
{
    struct fixture f;

    (void)state;
    open_fixture(&f, LINK_UP);
    f.outbox.ring = 0x1234;
    assert_int_equal(outbox_run(&f.outbox, f.now_ns), UINT64_MAX);

    /* The first two calls start at once, each with all there is. */
    put_new(&f, 100);
    put_new(&f, 50);
    assert_int_equal(outbox_run(&f.outbox, f.now_ns), UINT64_MAX);
    assert_int_equal(f.fake.pending, 1);
    assert_int_equal(f.fake.messages[0]->piece_count, 2);
    assert_int_equal(f.fake.messages[0]->bytes->len, 150);
    assert_int_equal(f.fake.messages[0]->deadline_ns, START + TIMEOUT);
    assert_int_equal(f.fake.messages[0]->ring, 0x1234);
    assert_string_equal(f.fake.messages[0]->method, LINK_EXPORT);
    f.now_ns += NS_PER_MS;
    put_new(&f, 100);
    (void)outbox_run(&f.outbox, f.now_ns);
    assert_int_equal(f.fake.pending, 2);
    assert_int_equal(outbox_oldest_ns(&f.outbox), START);

    /* The third waits 5 ms ... */
    put_new(&f, 100);
    assert_int_equal(outbox_run(&f.outbox, f.now_ns), f.now_ns + OUTBOX_FLUSH_WAIT_NS);
    put_new(&f, 100);
    (void)outbox_run(&f.outbox, f.now_ns + OUTBOX_FLUSH_WAIT_NS - 1);
    assert_int_equal(f.fake.pending, 2);
    f.now_ns += OUTBOX_FLUSH_WAIT_NS;
    assert_int_equal(outbox_run(&f.outbox, f.now_ns), UINT64_MAX);
    assert_int_equal(f.fake.pending, 3);
    assert_int_equal(f.fake.messages[2]->piece_count, 2);

    /* ... or for 128 KiB ... */
    put_new(&f, OUTBOX_FLUSH_BYTES - 1);
    (void)outbox_run(&f.outbox, f.now_ns);
    assert_int_equal(f.fake.pending, 3);
    put_new(&f, 1);
    (void)outbox_run(&f.outbox, f.now_ns);
    assert_int_equal(f.fake.pending, 4);

    /* ... or until only one call is left. */
    put_new(&f, 100);
    (void)outbox_run(&f.outbox, f.now_ns);
    assert_int_equal(f.fake.pending, 4);
    fake_link_end_all(&f.fake, RPC_OK);
    assert_int_equal(outbox_oldest_ns(&f.outbox), 0);
    (void)outbox_run(&f.outbox, f.now_ns);
    assert_int_equal(f.fake.pending, 1);
    close_fixture(&f);
}

static void test_calls_are_cut(void **state)
{
    struct fixture f;
    size_t sent = 0;

    (void)state;
    open_fixture(&f, LINK_UP);
    for (unsigned i = 0; i < 20; i++)
        put_new(&f, 300 * KIB);
    (void)outbox_run(&f.outbox, f.now_ns);
    assert_int_equal(f.fake.pending, 5);
    for (size_t i = 0; i < f.fake.count; i++) /* at 1 MiB and the piece that reaches it */
        assert_int_equal(f.fake.messages[i]->piece_count, 4);

    /* At OUTBOX_CALL_PIECES tiny pieces, and at OUTBOX_CALLS_MAX calls. */
    fake_link_end_all(&f.fake, RPC_OK);
    for (unsigned i = 0; i < OUTBOX_CALL_PIECES * (OUTBOX_CALLS_MAX + 1); i++)
        put_new(&f, 1 * KIB);
    assert_int_equal(outbox_run(&f.outbox, f.now_ns), UINT64_MAX); /* only an end lets it go on */
    assert_int_equal(f.fake.pending, OUTBOX_CALLS_MAX);
    for (size_t i = 5; i < f.fake.count; i++)
        sent += f.fake.messages[i]->piece_count;
    assert_int_equal(sent, OUTBOX_CALL_PIECES * OUTBOX_CALLS_MAX);
    fake_link_end_code(&f.fake, fake_link_pending(&f.fake, 7), RPC_OK);
    (void)outbox_run(&f.outbox, f.now_ns);
    assert_int_equal(f.fake.pending, OUTBOX_CALLS_MAX);
    assert_int_equal(f.outbox.queued_bytes, 0);
    close_fixture(&f);
}

/* Pieces of unequal metadata never share a call; equal ones do, also past others between them. */
static void test_metadata_is_kept_apart(void **state)
{
    static const char *const tenants[] = {"a", "b"};
    struct metadata_set *sets[3] = {NULL}; /* the third is the empty one */
    struct fixture f;

    (void)state;
    open_fixture(&f, LINK_UP);
    for (unsigned i = 0; i < 2; i++) {
        struct metadata_entry entry = {SLICE_LITERAL("x-tenant"), slice_text(tenants[i])};

        assert_int_equal(metadata_set_new(&entry, 1, &sets[i]), 0);
    }
    for (unsigned i = 0; i < 300; i++) {
        struct test_piece *test = new_piece(&f, 1, 10);

        test->piece.metadata = sets[i % 3];
        put(&f, test);
    }
    for (unsigned round = 0; round < 3; round++)
        (void)outbox_run(&f.outbox, f.now_ns + round * OUTBOX_FLUSH_WAIT_NS);
    assert_int_equal(f.fake.count, 3);
    for (size_t i = 0; i < f.fake.count; i++) {
        assert_true(metadata_set_equal(f.fake.messages[i]->metadata, sets[i]));
        assert_int_equal(f.fake.messages[i]->piece_count, 100);
    }
    fake_link_end_all(&f.fake, RPC_OK);
    close_fixture(&f);
    metadata_set_unref(sets[0]);
    metadata_set_unref(sets[1]);
}

static void test_acknowledgement_times_are_smoothed(void **state)
{
    static const struct {
        uint64_t took_ns;
        int code;
        uint64_t smoothed_ns;
    } steps[] = {
        {80, RPC_OK, 80}, /* the first is taken as it is */
        {160, RPC_OK, 90},
        {9999, RPC_UNAVAILABLE, 90}, /* says nothing of how long the member takes */
        {0, RPC_OK, 79},
    };
    struct fixture f;

    (void)state;
    open_fixture(&f, LINK_UP);
    assert_int_equal(f.outbox.ack_smoothed_ns, 0);
    for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
        put_new(&f, 10);
        (void)outbox_run(&f.outbox, f.now_ns);
        f.now_ns += steps[i].took_ns;
        fake_link_end_all(&f.fake, steps[i].code);
        (void)outbox_run(&f.outbox, f.now_ns);
        assert_int_equal(f.outbox.ack_smoothed_ns, steps[i].smoothed_ns);
    }
    assert_int_equal(f.outbox.failures_total, 1);
    assert_int_equal(atomic_load(&f.outbox.ack_times.counts[0]), 3);
    assert_int_equal(atomic_load(&f.outbox.ack_times.sum_ns), 240);
    close_fixture(&f);
}

static void test_what_a_link_that_is_not_up_does(void **state)
{
    struct fixture f;
    struct test_piece *patient, *hasty, *late;

    (void)state;
    open_fixture(&f, LINK_CONNECTING);
    patient = new_piece(&f, 1, 10);
    patient->piece.deadline_ns = START + 10 * NS_PER_S;
    hasty = new_piece(&f, 1, 10);
    hasty->piece.deadline_ns = START + 300 * NS_PER_MS;
    put(&f, patient);
    put(&f, hasty);
    assert_int_equal(outbox_run(&f.outbox, f.now_ns), START + 300 * NS_PER_MS);
    f.now_ns += 300 * NS_PER_MS;
    assert_int_equal(outbox_run(&f.outbox, f.now_ns), START + OUTBOX_CONNECT_WAIT_NS);
    assert_int_equal(hasty->code, RPC_DEADLINE_EXCEEDED);
    late = put_new(&f, 10);
    f.now_ns = START + OUTBOX_CONNECT_WAIT_NS;
    (void)outbox_run(&f.outbox, f.now_ns);
    assert_int_equal(patient->code, RPC_UNAVAILABLE);
    assert_int_equal(patient->piece.attempts, 0);
    assert_int_equal(patient->piece.first_sent_ns, 0);
    assert_int_equal(late->failed, 0);

    fake_link_set_state(&f.fake, LINK_UP);
    (void)outbox_run(&f.outbox, f.now_ns);
    assert_int_equal(f.fake.pending, 1);
    assert_int_equal(late->piece.attempts, 1);
    assert_int_equal(late->piece.first_sent_ns, f.now_ns);

    fake_link_set_state(&f.fake, LINK_DOWN);
    hasty->piece.deadline_ns = 0;
    put(&f, hasty);
    assert_int_equal(outbox_run(&f.outbox, f.now_ns), UINT64_MAX);
    assert_int_equal(hasty->failed, 2);
    assert_int_equal(hasty->code, RPC_UNAVAILABLE);
    assert_int_equal(late->failed, 0); /* under way: the link says */
    fake_link_end_all(&f.fake, RPC_UNAVAILABLE);
    assert_int_equal(late->code, RPC_UNAVAILABLE);
    close_fixture(&f);
}

static void test_a_deadline_fails_its_piece_and_cuts_no_call(void **state)
{
    struct fixture f;
    struct test_piece *expired;

    (void)state;
    open_fixture(&f, LINK_UP);
    expired = new_piece(&f, 1, 10);
    expired->piece.deadline_ns = START;
    put(&f, expired);
    put_new(&f, 10)->piece.deadline_ns = START + 1; /* shorter than the call's */
    (void)outbox_run(&f.outbox, f.now_ns);
    assert_int_equal(expired->code, RPC_DEADLINE_EXCEEDED);
    assert_int_equal(f.fake.pending, 1);
    assert_int_equal(f.fake.messages[0]->piece_count, 1);
    assert_int_equal(f.fake.messages[0]->deadline_ns, START + TIMEOUT);

    f.outbox.timeout_ns = 0;
    put_new(&f, 10);
    (void)outbox_run(&f.outbox, f.now_ns);
    assert_int_equal(f.fake.messages[1]->deadline_ns, UINT64_MAX);
    close_fixture(&f);
}

static void test_recall_and_cancel(void **state)
{
    struct fixture f;
    struct test_piece *sent, *queued;

    (void)state;
    open_fixture(&f, LINK_UP);
    sent = put_new(&f, 10);
    (void)outbox_run(&f.outbox, f.now_ns);
    queued = put_new(&f, 10);
    outbox_recall(&f.outbox);
    assert_int_equal(queued->code, RPC_UNAVAILABLE);
    assert_int_equal(sent->failed, 0);
    assert_int_equal(f.outbox.reserved_bytes, 10);

    outbox_cancel(&f.outbox);
    assert_true(f.fake.messages[0]->cancelled);
    fake_link_end_all(&f.fake, RPC_OK); /* ends as cancelled */
    assert_int_equal(sent->code, RPC_CANCELLED);

    queued = put_new(&f, 10);
    close_fixture(&f); /* and what is queued at the end fails */
}

static void test_rejected_spans_find_their_pieces(void **state)
{
    static const struct {
        const char *what, *trailer;
        size_t len;
        uint32_t want[4]; /* of pieces of 2, 0, 3 and 200 spans */
        bool malformed;
    } cases[] = {
        {"none", "", 0, {0, 0, 0, 0}, false},
        {"the first", "\x00", 1, {1, 0, 0, 0}, false},
        {"borders", "\x01\x02\x04\x05", 4, {1, 0, 2, 1}, false},
        {"the last, in two bytes", "\xcc\x01", 2, {0, 0, 0, 1}, false},
        {"past the last", "\x01\xcd\x01", 3, {0, 0, 0, 0}, true},
        {"not rising", "\x02\x01", 2, {0, 0, 0, 0}, true},
        {"twice", "\x02\x02", 2, {0, 0, 0, 0}, true},
        {"cut off", "\x01\xcc", 2, {0, 0, 0, 0}, true},
        {"too long a varint", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11, {0, 0, 0, 0}, true},
    };
    static const uint32_t spans[4] = {2, 0, 3, 200};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct link_result result = {.rejected = slice_make(cases[i].trailer, cases[i].len)};
        struct fixture f;

        open_fixture(&f, LINK_UP);
        for (size_t k = 0; k < ARRAY_COUNT(spans); k++)
            put(&f, new_piece(&f, spans[k], 10));
        (void)outbox_run(&f.outbox, f.now_ns);
        fake_link_end(&f.fake, fake_link_pending(&f.fake, 0), &result);
        for (size_t k = 0; k < ARRAY_COUNT(spans); k++) {
            if (f.pieces[k]->delivered != 1 || f.pieces[k]->rejected_count != cases[i].want[k])
                fail_msg("%s: piece %zu has %u", cases[i].what, k, f.pieces[k]->rejected_count);
        }
        if (f.outbox.rejected_malformed_total != cases[i].malformed)
            fail_msg("%s: malformed", cases[i].what);
        close_fixture(&f);
    }
}

/* -- random runs -------------------------------------------------------------------------------- */

static bool member_rejects(uint32_t id, uint32_t index)
{
    return (id * 31 + index * 7) % 11 == 0;
}

/* Answers as a member would that reads the message span by span: OK, with the spans it rejects. */
static void member_answers(struct fixture *f, struct fake_message *message)
{
    uint8_t trailer[1 << 16], *end = trailer;
    struct link_result result = {0};

    for (size_t at = 0; at < message->bytes->len; at += 8) {
        uint32_t id, index;

        memcpy(&id, message->bytes->bytes + at, 4);
        memcpy(&index, message->bytes->bytes + at + 4, 4);
        if (member_rejects(id, index))
            end = wire_put_varint(end, at / 8);
    }
    result.rejected = slice_make(trailer, (size_t)(end - trailer));
    fake_link_end(&f->fake, message, &result);
}

static void random_run(uint64_t seed)
{
    static const int codes[] = {RPC_CANCELLED, RPC_UNAVAILABLE, RPC_RESOURCE_EXHAUSTED, RPC_DEADLINE_EXCEEDED};
    struct fixture *f = malloc(sizeof(*f));
    unsigned delivered = 0;

    assert_non_null(f);
    open_fixture(f, LINK_UP);
    f->seed = seed;
    f->again = 4;
    for (unsigned step = 0; step < 3000; step++) {
        uint64_t dice = random_next(f) % 100;

        if (dice < 40) {
            uint32_t spans = (uint32_t)(random_next(f) % 20 + (random_next(f) % 50 == 0 ? 3000 : 0));
            struct test_piece *test = new_piece(f, spans, 8 * spans);

            for (uint32_t i = 0; i < spans; i++)
                test->want_rejected += member_rejects(test->id, i);
            if (random_next(f) % 4 == 0)
                test->piece.deadline_ns = f->now_ns + random_next(f) % (20 * NS_PER_MS);
            put(f, test);
        } else if (dice < 70) {
            f->now_ns += random_next(f) % (3 * NS_PER_MS);
            (void)outbox_run(&f->outbox, f->now_ns);
            assert_true(f->fake.pending == f->outbox.calls_in_flight);
        } else if (dice < 95) {
            struct fake_message *message =
                f->fake.pending ? fake_link_pending(&f->fake, random_next(f) % f->fake.pending) : NULL;

            if (message && random_next(f) % 4)
                member_answers(f, message);
            else if (message)
                fake_link_end_code(&f->fake, message, codes[random_next(f) % ARRAY_COUNT(codes)]);
        } else if (dice < 98) {
            uint64_t state = random_next(f) % 8; /* mostly up, or nothing would be sent */

            fake_link_set_state(&f->fake, state == 0 ? LINK_DOWN : state < 3 ? LINK_CONNECTING : LINK_UP);
        } else {
            outbox_recall(&f->outbox);
        }
    }

    fake_link_set_state(&f->fake, LINK_UP);
    f->again = 0;
    do {
        struct fake_message *message;

        f->now_ns += 10 * NS_PER_MS;
        (void)outbox_run(&f->outbox, f->now_ns);
        while ((message = fake_link_pending(&f->fake, 0)))
            member_answers(f, message);
    } while (!list_empty(&f->outbox.queued));
    for (size_t i = 0; i < f->count; i++) {
        struct test_piece *test = f->pieces[i];

        delivered += test->delivered;
        if (test->delivered && test->rejected_count != test->want_rejected)
            fail_msg("seed %llu: piece %u has %u rejected, not %u", (unsigned long long)seed, test->id,
                test->rejected_count, test->want_rejected);
    }
    assert_true(delivered > f->count / 4); /* the run was no chain of failures */
    close_fixture(f);
    free(f);
}

static void test_random_runs_settle_each_piece_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++)
        random_run(seed * 0x9e3779b97f4a7c15ull);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserve_is_all_or_nothing),
        cmocka_unit_test(test_flush_rules),
        cmocka_unit_test(test_calls_are_cut),
        cmocka_unit_test(test_metadata_is_kept_apart),
        cmocka_unit_test(test_acknowledgement_times_are_smoothed),
        cmocka_unit_test(test_what_a_link_that_is_not_up_does),
        cmocka_unit_test(test_a_deadline_fails_its_piece_and_cuts_no_call),
        cmocka_unit_test(test_recall_and_cancel),
        cmocka_unit_test(test_rejected_spans_find_their_pieces),
        cmocka_unit_test(test_random_runs_settle_each_piece_once),
    };

    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
