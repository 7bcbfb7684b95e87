/* A member is asked who it is whenever it connects; it is suspected when its calls time out, and for slowness alone only when
 * it hands traces over; and a suspect gets nothing until a probe comes through.
 *
 * Time goes on only to the moments that the link asked for: one that it forgot to ask for shows as something that never
 * happens, one that it asks for again and again as a turn too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cluster/ring.h"
#include "common/export/rpc_code.h"
#include "common/metrics/metrics.h"
#include "lb/route/member_link.h"
#include "proto/peer.h"
#include "tests/kit/fake_link.h"

#define MS NS_PER_MS
#define START (100 * NS_PER_S)
#define TIMEOUT (30 * NS_PER_S)
#define HELLO "/tailrace.v1.Peer/Hello"
#define ADDRESS "10.0.0.7:4317"
#define TURNS_MAX 200u /* that any stretch of time here can need */

struct fixture {
    struct fake_link fake;
    struct metrics metrics;
    struct worker worker;
    struct member_link member;
    uint64_t now_ns, next_ns;
    unsigned hellos, changes, delivered, failed;
    struct hello_answer answer;
    enum member_condition condition; /* last told */
    int failed_code;
    bool answers_hello; /* asked again, the member answers at once, and the same */
    bool draining, trailer;
    unsigned hellos_answered;
};

static void on_hello(void *context, unsigned index, const struct hello_answer *answer)
{
    struct fixture *f = context;

    assert_int_equal(index, 3);
    f->hellos++;
    f->answer = *answer;
}

static void on_condition(void *context, unsigned index, enum member_condition condition)
{
    struct fixture *f = context;

    assert_int_equal(index, 3);
    assert_int_equal(condition, member_link_condition(&f->member));
    assert_int_not_equal(condition, f->condition); /* told of changes only */
    f->changes++;
    f->condition = condition;
}

static void piece_free(struct piece *piece)
{
    buffer_unref(piece->bytes);
    free(piece);
}

static void on_delivered(void *context, struct piece *piece, uint32_t rejected_count)
{
    struct fixture *f = context;

    assert_int_equal(rejected_count, 0);
    f->delivered++;
    piece_free(piece);
}

static void on_failed(void *context, struct piece *piece, const struct link_result *result)
{
    struct fixture *f = context;

    f->failed++;
    f->failed_code = result->code;
    piece_free(piece);
}

static struct fake_message *pending_hello(struct fixture *f);
static void end_hello(struct fixture *f, struct fake_message *message, const char *name, bool hands_over);

static void turn(struct fixture *f)
{
    struct fake_message *hello;

    f->next_ns = worker_turn(&f->worker, f->now_ns);
    hello = f->answers_hello ? pending_hello(f) : NULL;
    if (!hello)
        return;
    f->hellos_answered++;
    end_hello(f, hello, "sampler-0", true);
    f->next_ns = worker_turn(&f->worker, f->now_ns);
}

/* To `until_ns`, by way of every moment that was asked for. */
static void go_to(struct fixture *f, uint64_t until_ns)
{
    unsigned turns = 0;

    turn(f);
    while (f->next_ns <= until_ns) {
        assert_in_range(++turns, 1, TURNS_MAX);
        f->now_ns = u64_max(f->now_ns, f->next_ns);
        turn(f);
    }
    f->now_ns = f->worker.now_ns = until_ns;
}

static void go_on(struct fixture *f, uint64_t for_ns)
{
    go_to(f, f->now_ns + for_ns);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct member_link_events events = {f, on_hello, on_condition, NULL};
    const struct outbox_owner pieces = {f, on_delivered, on_failed};

    assert_non_null(f);
    assert_int_equal(metrics_init(&f->metrics, 1), 0);
    f->worker.metrics = &f->metrics.cells[0]; /* worker_init would make a queue */
    mailbox_init(&f->worker.mailbox);
    list_init(&f->worker.hooks);
    f->now_ns = START;
    member_link_init(&f->member, 3, ADDRESS, &f->worker, &events, &pieces, 64 * MIB, TIMEOUT);
    fake_link_init(&f->fake, LINK_DOWN);
    member_link_adopt(&f->member, &f->fake.link);
    turn(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fake_link_end_all(&f->fake, RPC_UNAVAILABLE);
    member_link_close(&f->member); /* frees the link, which aborts when a call never ended */
    member_link_deinit(&f->member);
    assert_int_equal(atomic_load(&f->member.outbox.reserved_bytes), 0);
    metrics_deinit(&f->metrics);
    free(f);
    return 0;
}

/* -- steps ------------------------------------------------------------------------------------------------ */

/* The only call under way. */
static struct fake_message *pending(struct fixture *f, const char *method)
{
    assert_int_equal(f->fake.pending, 1);
    assert_string_equal(fake_link_pending(&f->fake, 0)->method, method);
    return fake_link_pending(&f->fake, 0);
}

static struct fake_message *pending_hello(struct fixture *f)
{
    struct fake_message *message;

    for (size_t i = 0; (message = fake_link_pending(&f->fake, i)); i++) {
        if (strcmp(message->method, HELLO) == 0)
            return message;
    }
    return NULL;
}

static void end_hello(struct fixture *f, struct fake_message *message, const char *name, bool hands_over)
{
    Tailrace__V1__Status status = TAILRACE__V1__STATUS__INIT;
    char name_text[1024], software[] = "tailrace-sampler 1", cluster[] = "east";
    struct link_result result = {.code = RPC_OK, .draining = f->trailer};
    uint8_t bytes[2048];

    (void)snprintf(name_text, sizeof(name_text), "%s", name);
    status.hash_version = RING_HASH_VERSION;
    status.state = f->draining ? TAILRACE__V1__STATE__STATE_DRAINING : TAILRACE__V1__STATE__STATE_READY;
    status.name = name_text;
    status.software = software;
    status.cluster = cluster;
    status.hands_over = hands_over;
    result.response = slice_make(bytes, tailrace__v1__status__pack(&status, bytes));
    fake_link_end(&f->fake, message, &result);
}

static void answer_hello(struct fixture *f, const char *name, bool hands_over)
{
    end_hello(f, pending(f, HELLO), name, hands_over);
    turn(f);
}

static void connect_named(struct fixture *f, bool hands_over)
{
    f->answers_hello = false;
    fake_link_set_state(&f->fake, LINK_UP);
    turn(f);
    answer_hello(f, "sampler-0", hands_over);
    f->answers_hello = hands_over;
    assert_int_equal(f->fake.pending, 0);
    assert_int_equal(f->condition, MEMBER_UP);
}

/* A piece of `len` bytes, on its way at once when a call is free. */
static void put(struct fixture *f, size_t len, uint64_t deadline_ns)
{
    struct piece *piece = calloc(1, sizeof(*piece));

    assert_non_null(piece);
    piece->bytes = buffer_new(len);
    assert_non_null(piece->bytes);
    memset(piece->bytes->bytes, 0, len);
    piece->bytes->len = len;
    piece->span_count = 1;
    piece->deadline_ns = deadline_ns;
    assert_true(outbox_reserve(&f->member.outbox, len));
    member_link_put(&f->member, piece, f->now_ns);
    turn(f);
}

/* A call under way that does not end, and pieces that wait behind it. */
static void become_suspect(struct fixture *f)
{
    put(f, 100, 0);
    go_on(f, 700 * MS);
    assert_int_equal(f->condition, MEMBER_SUSPECT);
}

/* -- Hello ------------------------------------------------------------------------------------------------ */

static void test_hello(void **state)
{
    struct fixture *f = *state;
    Tailrace__V1__Status *ours;
    struct fake_message *message;

    go_on(f, 10 * NS_PER_S);
    assert_int_equal(f->fake.count, 0); /* not connected: nobody to ask */
    fake_link_set_state(&f->fake, LINK_CONNECTING);
    go_on(f, NS_PER_S);
    assert_int_equal(f->fake.count, 0);
    assert_int_equal(f->condition, MEMBER_DOWN);
    fake_link_set_state(&f->fake, LINK_UP);
    assert_int_equal(f->condition, MEMBER_UP);
    turn(f);
    message = pending(f, HELLO);
    assert_true(message->deadline_ns > f->now_ns && message->deadline_ns <= f->now_ns + 10 * NS_PER_S);
    ours = tailrace__v1__status__unpack(NULL, message->bytes->len, message->bytes->bytes);
    assert_non_null(ours);
    assert_int_equal(ours->hash_version, RING_HASH_VERSION);
    assert_int_equal(strncmp(ours->software, "tailrace-lb ", 12), 0);
    tailrace__v1__status__free_unpacked(ours, NULL);

    answer_hello(f, "sampler-0", true);
    assert_int_equal(f->hellos, 1);
    assert_true(f->answer.spoke);
    assert_true(f->answer.hands_over);
    assert_string_equal(f->answer.name, "sampler-0");
    assert_string_equal(f->answer.software, "tailrace-sampler 1");
    assert_string_equal(f->answer.cluster, "east");
    assert_int_equal(f->answer.state, TAILRACE__V1__STATE__STATE_READY);
    assert_int_equal(f->answer.hash_version, RING_HASH_VERSION);
    assert_true(atomic_load(&f->member.steady));

    /* It hands over, so it is asked again now and then; told is what is news. */
    f->answers_hello = true;
    go_on(f, 60 * NS_PER_S);
    assert_in_range(f->hellos_answered, 10, 60);
    assert_int_equal(f->hellos, 1);
    f->draining = true;
    go_on(f, 5 * NS_PER_S);
    assert_int_equal(f->hellos, 2);
    assert_int_equal(f->answer.state, TAILRACE__V1__STATE__STATE_DRAINING);
    assert_false(atomic_load(&f->member.steady));
    assert_int_equal(f->condition, MEMBER_UP); /* it serves on */
}

/* -- draining, as answers say it ------------------------------------------------------------------------------- */

static void end_draining(struct fixture *f, int code)
{
    const struct link_result result = {.code = code, .draining = true};

    fake_link_end(&f->fake, pending(f, LINK_EXPORT), &result);
    turn(f);
}

/* Whatever answer says that it drains: it is as good as a Hello, and is told once. It serves on. */
static void test_draining_said(void **state)
{
    static const int codes[] = {RPC_OK, RPC_RESOURCE_EXHAUSTED, RPC_UNAVAILABLE};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        unsigned hellos;

        f->draining = false;
        fake_link_set_state(&f->fake, LINK_DOWN);
        connect_named(f, true);
        assert_false(member_link_draining(&f->member));
        hellos = f->hellos;
        put(f, 100, 0);
        f->draining = true; /* asked again, it says the same */
        end_draining(f, codes[i]);
        assert_int_equal(f->hellos, hellos + 1);
        assert_int_equal(f->answer.state, TAILRACE__V1__STATE__STATE_DRAINING);
        assert_string_equal(f->answer.name, "sampler-0");
        assert_string_equal(f->answer.cluster, "east");
        assert_true(member_link_draining(&f->member));
        assert_false(atomic_load(&f->member.steady));
        assert_int_equal(f->condition, MEMBER_UP);
        go_on(f, 10 * NS_PER_S);
        put(f, 100, 0);
        end_draining(f, RPC_OK);
        assert_int_equal(f->hellos, hellos + 1);
        assert_true(member_link_draining(&f->member));
    }
}

/* The Hello under way was perhaps answered before: it does not undo what came since, and is asked again at once. */
static void test_draining_and_old_hello(void **state)
{
    struct fixture *f = *state;
    const struct link_result said = {.code = RPC_OK, .draining = true};

    connect_named(f, true);
    f->answers_hello = false;
    go_on(f, 2 * NS_PER_S); /* asked, for it hands over */
    (void)pending(f, HELLO);
    put(f, 100, 0);
    fake_link_end(&f->fake, fake_link_pending(&f->fake, 1), &said);
    turn(f);
    assert_true(member_link_draining(&f->member));
    answer_hello(f, "sampler-0", true); /* ready, of before */
    assert_true(member_link_draining(&f->member));
    assert_int_equal(f->hellos, 2);
    f->draining = true;
    answer_hello(f, "sampler-0", true);
    assert_true(member_link_draining(&f->member));
    assert_int_equal(f->hellos, 2); /* no news */
}

/* A Hello asked after that counts again: whoever answers there now is another one. One that hands nothing over is asked too. */
static void test_draining_undone(void **state)
{
    struct fixture *f = *state;

    for (int hands_over = 0; hands_over < 2; hands_over++) {
        fake_link_set_state(&f->fake, LINK_DOWN);
        connect_named(f, hands_over);
        f->answers_hello = false;
        put(f, 100, 0);
        end_draining(f, RPC_OK);
        assert_true(member_link_draining(&f->member));
        fake_link_end_code(&f->fake, pending(f, HELLO), RPC_UNAVAILABLE);
        turn(f);
        assert_true(member_link_draining(&f->member));
        go_on(f, NS_PER_S);
        answer_hello(f, "sampler-0", hands_over);
        assert_false(member_link_draining(&f->member));
        assert_true(atomic_load(&f->member.steady));
        assert_int_equal(f->answer.state, TAILRACE__V1__STATE__STATE_READY);
    }
}

/* A Hello's own answer is an answer too, whatever its body says; so is a probe's. Of a stranger it means nothing. */
static void test_draining_in_hello(void **state)
{
    struct fixture *f = *state;
    struct link_result stranger = {.code = RPC_UNIMPLEMENTED, .draining = true};

    fake_link_set_state(&f->fake, LINK_UP);
    turn(f);
    f->trailer = true;
    answer_hello(f, "sampler-0", true);
    f->trailer = false;
    assert_int_equal(f->answer.state, TAILRACE__V1__STATE__STATE_DRAINING);
    assert_true(member_link_draining(&f->member));

    fake_link_set_state(&f->fake, LINK_DOWN);
    connect_named(f, true);
    assert_false(member_link_draining(&f->member));
    become_suspect(f);
    fake_link_end_all(&f->fake, RPC_OK);
    go_on(f, 500 * MS);
    f->draining = true;
    end_draining(f, RPC_OK); /* the probe */
    assert_int_equal(f->condition, MEMBER_UP);
    assert_int_equal(f->answer.state, TAILRACE__V1__STATE__STATE_DRAINING);
    f->draining = false;

    fake_link_set_state(&f->fake, LINK_DOWN);
    fake_link_set_state(&f->fake, LINK_UP);
    f->answers_hello = false;
    turn(f);
    fake_link_end(&f->fake, pending(f, HELLO), &stranger);
    turn(f);
    assert_false(f->answer.spoke);
    put(f, 100, 0);
    end_draining(f, RPC_OK);
    assert_false(member_link_draining(&f->member));
    assert_int_equal(f->fake.pending, 0);
}

/* Standalone, it is what it is: asked once a connection. */
static void test_hello_once(void **state)
{
    struct fixture *f = *state;

    connect_named(f, false);
    go_on(f, 60 * NS_PER_S);
    assert_int_equal(f->fake.count, 1);
}

/* No Tailrace node: it goes by its address, in our ring's version, and hands nothing over. */
static void test_hello_unimplemented(void **state)
{
    struct fixture *f = *state;

    fake_link_set_state(&f->fake, LINK_UP);
    turn(f);
    fake_link_end_code(&f->fake, pending(f, HELLO), RPC_UNIMPLEMENTED);
    assert_int_equal(f->hellos, 1);
    assert_false(f->answer.spoke);
    assert_false(f->answer.hands_over);
    assert_string_equal(f->answer.name, ""); /* the book finds it one */
    assert_int_equal(f->answer.hash_version, RING_HASH_VERSION);
    go_on(f, 60 * NS_PER_S);
    assert_int_equal(f->fake.count, 1);
}

/* Whatever else comes instead of an answer, it is asked again, not at once and not never. */
static void test_hello_again(void **state)
{
    static const struct link_result results[] = {
        {.code = RPC_UNAVAILABLE},
        {.code = RPC_DEADLINE_EXCEEDED},
        {.code = RPC_PERMISSION_DENIED},
        {.code = RPC_OK},                                                  /* no name */
        {.code = RPC_OK, .response = {(const uint8_t *)"\x1a\x09half", 6}}, /* cut */
        {.code = RPC_OK, .response = {(const uint8_t *)"\x1a\x00", 2}},     /* an empty name */
    };
    struct fixture *f = *state;

    fake_link_set_state(&f->fake, LINK_UP);
    turn(f);
    for (size_t i = 0; i < ARRAY_COUNT(results); i++) {
        fake_link_end(&f->fake, pending(f, HELLO), &results[i]);
        turn(f);
        go_on(f, 100 * MS);
        assert_int_equal(f->fake.pending, 0);
        go_on(f, NS_PER_S);
        assert_int_equal(f->hellos, 0);
    }
    answer_hello(f, "sampler-0", false);
    assert_int_equal(f->hellos, 1);
}

/* Another connection may lead to another member. */
static void test_hello_reconnect(void **state)
{
    struct fixture *f = *state;

    connect_named(f, true);
    f->answers_hello = false;
    fake_link_set_state(&f->fake, LINK_DOWN);
    assert_int_equal(f->condition, MEMBER_DOWN);
    go_on(f, NS_PER_S);
    assert_int_equal(f->fake.pending, 0);
    fake_link_set_state(&f->fake, LINK_UP);
    turn(f);
    answer_hello(f, "sampler-9", true);
    assert_int_equal(f->hellos, 2);
    assert_string_equal(f->answer.name, "sampler-9");

    /* It goes away while it is asked: the new connection is asked when that call has ended. */
    fake_link_set_state(&f->fake, LINK_DOWN);
    fake_link_set_state(&f->fake, LINK_UP);
    turn(f);
    fake_link_set_state(&f->fake, LINK_DOWN);
    fake_link_set_state(&f->fake, LINK_UP);
    go_on(f, 100 * MS); /* without turning round and round meanwhile */
    fake_link_end_code(&f->fake, pending(f, HELLO), RPC_UNAVAILABLE);
    go_on(f, NS_PER_S);
    answer_hello(f, "sampler-10", true);
    assert_string_equal(f->answer.name, "sampler-10");
}

static void test_hello_long(void **state)
{
    struct fixture *f = *state;
    char name[1000];

    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    fake_link_set_state(&f->fake, LINK_UP);
    turn(f);
    answer_hello(f, name, true);
    assert_int_equal(strlen(f->answer.name), sizeof(f->answer.name) - 1);
}

/* -- suspicion -------------------------------------------------------------------------------------------- */

/* Slow for longer than 500 ms: what waits comes back to go elsewhere, what was sent stays until its call ends. */
static void test_slow(void **state)
{
    struct fixture *f = *state;

    connect_named(f, true);
    put(f, 100, 0);
    put(f, 100, 0);
    assert_int_equal(f->fake.pending, 2);
    go_on(f, 400 * MS);
    assert_int_equal(f->condition, MEMBER_UP);
    go_on(f, 199 * MS); /* over the limit, and watched a little longer */
    fake_link_set_state(&f->fake, LINK_CONNECTING); /* so that the next stays queued */
    put(f, 100, 0);
    assert_int_equal(f->condition, MEMBER_UP);
    go_on(f, 20 * MS);
    assert_int_equal(f->condition, MEMBER_SUSPECT);
    assert_int_equal(f->failed, 1); /* the third */
    assert_int_equal(f->failed_code, RPC_UNAVAILABLE);
    assert_int_equal(f->fake.pending, 2);
    assert_int_equal(metrics_sum(&f->metrics, METRIC_MEMBER_SUSPECTED), 1);
    assert_int_equal(atomic_load(&f->member.gauges.suspected), 1);
    fake_link_end_all(&f->fake, RPC_OK);
    assert_int_equal(f->delivered, 2);
    assert_int_equal(f->condition, MEMBER_SUSPECT); /* a probe must come through first */
}

/* Slow for a moment is not suspect: the answer comes while it is being watched. */
static void test_slow_then_answered(void **state)
{
    struct fixture *f = *state;

    connect_named(f, true);
    put(f, 100, 0);
    go_on(f, 550 * MS);
    fake_link_end_all(&f->fake, RPC_OK);
    go_on(f, 10 * NS_PER_S);
    assert_int_equal(f->condition, MEMBER_UP);
    assert_int_equal(f->delivered, 1);
}

/* Where acknowledgements take their time, slow begins at eight times that. */
static void test_slow_member(void **state)
{
    struct fixture *f = *state;

    connect_named(f, true);
    for (unsigned i = 0; i < 40; i++) {
        put(f, 100, 0);
        go_on(f, 300 * MS);
        fake_link_end_all(&f->fake, RPC_OK);
        turn(f);
    }
    assert_int_equal(f->condition, MEMBER_UP);
    put(f, 100, 0);
    go_on(f, 2300 * MS);
    assert_int_equal(f->condition, MEMBER_UP);
    go_on(f, 300 * MS);
    assert_int_equal(f->condition, MEMBER_SUSPECT);
}

/* It hands nothing over: its spans must not go elsewhere because it is slow, only when it does not answer at all. */
static void test_no_handover(void **state)
{
    struct fixture *f = *state;

    connect_named(f, false);
    put(f, 100, 0);
    go_on(f, TIMEOUT - MS);
    assert_int_equal(f->condition, MEMBER_UP);
    fake_link_end_all(&f->fake, RPC_DEADLINE_EXCEEDED);
    assert_int_equal(f->failed, 1);
    assert_int_equal(f->condition, MEMBER_SUSPECT);
    go_on(f, 600 * MS);
    fake_link_end_code(&f->fake, pending(f, LINK_EXPORT), RPC_OK);
    assert_int_equal(f->condition, MEMBER_UP);
}

/* A suspect gets no pieces, neither those that waited behind the call that timed out nor those that were planned before. */
static void test_suspect_gets_none(void **state)
{
    struct fixture *f = *state;

    connect_named(f, true);
    become_suspect(f);
    put(f, 100, 0);
    assert_int_equal(f->failed, 1);
    assert_int_equal(f->failed_code, RPC_UNAVAILABLE);
    fake_link_end_all(&f->fake, RPC_OK);
    go_on(f, 600 * MS);
    fake_link_end_code(&f->fake, pending(f, LINK_EXPORT), RPC_OK); /* the probe alone */
    turn(f);
    assert_int_equal(f->condition, MEMBER_UP);

    for (unsigned i = 0; i < 2 * OUTBOX_CALLS_MAX; i++) {
        put(f, 200 * KIB, 0);
        go_on(f, MS);
    }
    assert_int_equal(f->fake.pending, OUTBOX_CALLS_MAX);
    fake_link_end_code(&f->fake, fake_link_pending(&f->fake, 0), RPC_DEADLINE_EXCEEDED);
    assert_int_equal(f->condition, MEMBER_SUSPECT);
    turn(f);
    assert_int_equal(f->fake.pending, OUTBOX_CALLS_MAX - 1);
    assert_int_equal(f->failed, 1 + 1 + OUTBOX_CALLS_MAX);
}

/* Other failures say nothing about its health, nor does a piece that ran out of its own time before it was sent. */
static void test_not_its_fault(void **state)
{
    static const int codes[] = {RPC_UNAVAILABLE, RPC_RESOURCE_EXHAUSTED, RPC_CANCELLED, RPC_INVALID_ARGUMENT, RPC_INTERNAL};
    struct fixture *f = *state;

    connect_named(f, true);
    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        put(f, 100, 0);
        fake_link_end_code(&f->fake, pending(f, LINK_EXPORT), codes[i]);
        assert_int_equal(f->failed, i + 1);
        assert_int_equal(f->failed_code, codes[i]);
        assert_int_equal(f->condition, MEMBER_UP);
    }
    fake_link_set_state(&f->fake, LINK_CONNECTING);
    put(f, 100, f->now_ns + 100 * MS);
    go_on(f, 200 * MS);
    assert_int_equal(f->failed, ARRAY_COUNT(codes) + 1);
    assert_int_equal(f->failed_code, RPC_DEADLINE_EXCEEDED);
    assert_int_equal(f->condition, MEMBER_UP);
}

/* -- probes ----------------------------------------------------------------------------------------------- */

/* An empty Export, at times that double up to four seconds, until one comes through. */
static void test_probes(void **state)
{
    static const unsigned waits_ms[] = {1000, 2000, 4000, 4000, 4000};
    struct fixture *f = *state;
    struct fake_message *probe;

    connect_named(f, true);
    become_suspect(f);
    fake_link_end_all(&f->fake, RPC_DEADLINE_EXCEEDED);
    assert_int_equal(f->fake.pending, 0);
    go_on(f, 300 * MS);
    assert_int_equal(f->fake.pending, 0);
    go_on(f, 200 * MS);
    for (size_t i = 0; i < ARRAY_COUNT(waits_ms); i++) {
        probe = pending(f, LINK_EXPORT);
        assert_int_equal(probe->bytes->len, 0);
        assert_true(probe->deadline_ns <= f->now_ns + NS_PER_S);
        fake_link_end_code(&f->fake, probe, RPC_DEADLINE_EXCEEDED);
        assert_int_equal(f->condition, MEMBER_SUSPECT);
        go_on(f, waits_ms[i] * MS - MS);
        assert_int_equal(f->fake.pending, 0);
        go_on(f, MS);
    }
    fake_link_end_code(&f->fake, pending(f, LINK_EXPORT), RPC_OK);
    assert_int_equal(f->condition, MEMBER_UP);
    go_on(f, 60 * NS_PER_S);
    assert_int_equal(f->fake.pending, 0); /* no more of them */
    assert_int_equal(f->changes, 3);

    /* Suspected again, it begins anew. */
    become_suspect(f);
    fake_link_end_all(&f->fake, RPC_OK);
    go_on(f, 500 * MS);
    fake_link_end_code(&f->fake, pending(f, LINK_EXPORT), RPC_OK);
    assert_int_equal(f->condition, MEMBER_UP);
    assert_int_equal(metrics_sum(&f->metrics, METRIC_MEMBER_SUSPECTED), 2);
}

/* A connection that breaks ends the suspicion with it; a probe of the old one that ends later means nothing. */
static void test_suspect_reconnects(void **state)
{
    struct fixture *f = *state;

    connect_named(f, true);
    become_suspect(f);
    fake_link_end_all(&f->fake, RPC_OK);
    go_on(f, 600 * MS);
    (void)pending(f, LINK_EXPORT); /* the probe */
    fake_link_set_state(&f->fake, LINK_DOWN);
    assert_int_equal(f->condition, MEMBER_DOWN);
    fake_link_end_all(&f->fake, RPC_UNAVAILABLE);
    assert_int_equal(f->condition, MEMBER_DOWN);
    go_on(f, 10 * NS_PER_S);
    assert_int_equal(f->fake.pending, 0); /* nobody to probe */
    connect_named(f, true);
    go_on(f, 10 * NS_PER_S);
    assert_int_equal(f->condition, MEMBER_UP);
}

/* -- pieces ----------------------------------------------------------------------------------------------- */

static void test_pieces(void **state)
{
    struct fixture *f = *state;

    put(f, 100, 0); /* not connected: back at once */
    assert_int_equal(f->failed, 1);
    assert_int_equal(f->failed_code, RPC_UNAVAILABLE);
    connect_named(f, true);
    for (unsigned i = 0; i < 3; i++)
        put(f, 1000, 0);
    assert_int_equal(f->fake.pending, 2);
    go_on(f, 6 * MS);
    assert_int_equal(f->fake.pending, 3);
    fake_link_end_all(&f->fake, RPC_OK);
    turn(f);
    assert_int_equal(f->delivered, 3);
    assert_int_equal(atomic_load(&f->member.gauges.spans), 3);
    assert_int_equal(atomic_load(&f->member.gauges.bytes), 3000);
    assert_int_equal(atomic_load(&f->member.gauges.calls), 3);
    assert_int_equal(atomic_load(&f->member.gauges.in_flight), 0);
    assert_true(atomic_load(&f->member.gauges.ack_ns) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello, setup, teardown),
        cmocka_unit_test_setup_teardown(test_draining_said, setup, teardown),
        cmocka_unit_test_setup_teardown(test_draining_and_old_hello, setup, teardown),
        cmocka_unit_test_setup_teardown(test_draining_undone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_draining_in_hello, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hello_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hello_unimplemented, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hello_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hello_reconnect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hello_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_then_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_member, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_handover, setup, teardown),
        cmocka_unit_test_setup_teardown(test_suspect_gets_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_its_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(test_probes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_suspect_reconnects, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pieces, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
