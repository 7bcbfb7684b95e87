/* A call made on any thread goes out on the link's worker and comes home, always exactly once: answered, failed, cancelled by a
 * link that closes, or too late for one that has closed.
 *
 * The connection is in memory: this program's own link_grpc_new stands before the library's. */
#include "sampler/handoff/peer_link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/export/rpc_code.h"
#include "common/run/control.h"
#include "tests/kit/fake_link.h"

#define METHOD "/tailrace.v1.Peer/Give"
#define ADDRESS "10.0.0.7:4317"

enum home { HOME_LINK, HOME_OTHER, HOME_CONTROL };

struct fixture {
    struct worker workers[2]; /* the link is the first one's */
    struct control control;
    struct fake_link *fake;   /* the connection; freed with the fixture */
    struct peer_link *link;
    char address[64];
    unsigned opened, ups, downs, closed;
};

static struct fixture *here; /* for link_grpc_new: one fixture at a time */

int link_grpc_new(struct worker *worker, const struct link_options *options,
    void (*on_state)(struct link *, void *, enum link_state), void *context, struct link **out_link)
{
    assert_ptr_equal(worker, &here->workers[0]);
    assert_true(options->internal);
    (void)snprintf(here->address, sizeof(here->address), "%s", options->address);
    here->fake = calloc(1, sizeof(*here->fake));
    ASSERT(here->fake != NULL);
    fake_link_init(here->fake, LINK_CONNECTING);
    here->fake->link.on_state = on_state;
    here->fake->link.context = context;
    here->opened++;
    *out_link = &here->fake->link;
    return 0;
}

static void on_state(void *context, struct peer_link *link, bool up)
{
    struct fixture *f = context;

    assert_ptr_equal(link, f->link);
    if (up)
        f->ups++;
    else
        f->downs++;
}

static void on_closed(void *context, struct peer_link *link)
{
    struct fixture *f = context;

    assert_ptr_equal(link, f->link);
    f->closed++;
}

/* Until there is no mail any more. */
static void run(struct fixture *f)
{
    for (int i = 0; i < 8; i++) {
        (void)mailbox_deliver(&f->workers[0].mailbox, &f->workers[0]);
        (void)mailbox_deliver(&f->workers[1].mailbox, &f->workers[1]);
        (void)mailbox_deliver(&f->control.mailbox, &f->control);
    }
}

static void setup(struct fixture *f)
{
    const struct peer_link_events events = {f, on_state, on_closed};

    memset(f, 0, sizeof(*f));
    here = f;
    for (int i = 0; i < 2; i++) {
        mailbox_init(&f->workers[i].mailbox);
        list_init(&f->workers[i].hooks);
    }
    mailbox_init(&f->control.mailbox);
    f->link = peer_link_new(ADDRESS, 5, &f->workers[0], &f->control, NULL, &events);
    assert_non_null(f->link);
    run(f);
    assert_int_equal(f->opened, 1);
    assert_string_equal(f->address, ADDRESS);
    assert_int_equal(peer_link_index(f->link), 5);
}

static void teardown(struct fixture *f)
{
    peer_link_stop(f->link);
    run(f);
    peer_link_unref(f->link);
    free(f->fake);
}

struct ask {
    struct peer_call call;
    unsigned done;
    int code;
    char response[32];
};

static void ask_done(struct peer_call *call)
{
    struct ask *ask = container_of(call, struct ask, call);

    ask->done++;
    ask->code = call->code;
    if (call->response)
        (void)snprintf(ask->response, sizeof(ask->response), "%.*s", (int)call->response->len, (const char *)call->response->bytes);
    peer_call_release(call);
}

static struct worker *home_of(struct fixture *f, enum home home)
{
    return home == HOME_LINK ? &f->workers[0] : home == HOME_OTHER ? &f->workers[1] : NULL;
}

static void ask_now(struct fixture *f, struct ask *ask, enum home home)
{
    struct buffer *message = buffer_new(4);

    assert_non_null(message);
    memcpy(message->bytes, "ping", 4);
    message->len = 4;
    memset(ask, 0, sizeof(*ask));
    ask->call = (struct peer_call){
        .method = METHOD, .message = message, .deadline_ns = 77, .home = home_of(f, home), .done = ask_done};
    peer_link_call(f->link, &ask->call);
    buffer_unref(message);
    assert_int_equal(ask->done, 0); /* never inside the call */
}

static void test_answers(void **state)
{
    static const struct {
        enum home home;
        struct link_result result;
        int code;
        const char *response;
    } cases[] = {
        {HOME_LINK, {.code = 0, .response = {(const uint8_t *)"pong", 4}}, 0, "pong"},
        {HOME_OTHER, {.code = 0, .response = {(const uint8_t *)"pong", 4}}, 0, "pong"},
        {HOME_CONTROL, {.code = 0, .response = {(const uint8_t *)"pong", 4}}, 0, "pong"},
        {HOME_OTHER, {.code = 0}, 0, ""},
        {HOME_OTHER, {.code = RPC_DEADLINE_EXCEEDED}, RPC_DEADLINE_EXCEEDED, ""},
        {HOME_CONTROL, {.code = RPC_UNAVAILABLE, .has_retry = true, .retry_ns = 9}, RPC_UNAVAILABLE, ""},
        {HOME_LINK, {.code = 0, .response = {(const uint8_t *)"x", PEER_RESPONSE_MAX + 1}}, RPC_RESOURCE_EXHAUSTED, ""},
    };
    struct fixture f;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct fake_message *sent;
        struct ask ask;

        setup(&f);
        fake_link_set_state(f.fake, LINK_UP);
        ask_now(&f, &ask, cases[i].home);
        run(&f);
        sent = fake_link_pending(f.fake, 0);
        assert_non_null(sent);
        assert_string_equal(sent->method, METHOD);
        assert_int_equal(sent->deadline_ns, 77);
        assert_memory_equal(sent->bytes->bytes, "ping", 4);
        fake_link_end(f.fake, sent, &cases[i].result);
        run(&f);
        if (ask.done != 1 || ask.code != cases[i].code || strcmp(ask.response, cases[i].response) != 0)
            fail_msg("case %zu: done %u times, code %d, response \"%s\"", i, ask.done, ask.code, ask.response);
        assert_int_equal(ask.call.has_retry, cases[i].result.has_retry);
        teardown(&f);
    }
}

static void test_state(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    assert_false(peer_link_is_up(f.link));
    fake_link_set_state(f.fake, LINK_UP);
    assert_true(peer_link_is_up(f.link));
    assert_int_equal(f.ups, 0); /* told on the control thread */
    run(&f);
    assert_int_equal(f.ups, 1);
    fake_link_set_state(f.fake, LINK_CONNECTING); /* a lost connection counts at once */
    run(&f);
    assert_int_equal(f.downs, 1);
    assert_false(peer_link_is_up(f.link));
    teardown(&f);
}

/* Closed with calls under way: each ends, then the worker forgets the link; a late call fails. */
static void test_close(void **state)
{
    struct fixture f;
    struct ask asks[3], late;

    (void)state;
    setup(&f);
    fake_link_set_state(f.fake, LINK_UP);
    run(&f);
    for (int i = 0; i < 3; i++)
        ask_now(&f, &asks[i], (enum home)i);
    run(&f);
    peer_link_close(f.link);
    run(&f);
    assert_int_equal(f.closed, 0);
    for (size_t i = 0; i < 3; i++)
        assert_true(f.fake->messages[i]->cancelled);
    ask_now(&f, &late, HOME_OTHER);
    run(&f);
    assert_int_equal(late.done, 1);
    assert_int_equal(late.code, RPC_UNAVAILABLE);
    fake_link_end_all(f.fake, RPC_CANCELLED);
    run(&f);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(asks[i].done, 1);
        assert_int_equal(asks[i].code, RPC_CANCELLED);
    }
    assert_int_equal(f.closed, 1);
    assert_false(peer_link_is_up(f.link));
    ask_now(&f, &late, HOME_LINK);
    run(&f);
    assert_int_equal(late.done, 1);
    assert_int_equal(late.code, RPC_UNAVAILABLE);
    assert_int_equal(f.opened, 1);
    teardown(&f);
}

/* The process ends: at once, also with a close under way, and what is under way still comes home. */
static void test_stop(void **state)
{
    struct fixture f;
    struct ask ask;

    (void)state;
    for (int closing = 0; closing < 2; closing++) {
        setup(&f);
        fake_link_set_state(f.fake, LINK_UP);
        ask_now(&f, &ask, HOME_OTHER);
        run(&f);
        if (closing)
            peer_link_close(f.link);
        run(&f);
        peer_link_stop(f.link);
        fake_link_end_all(f.fake, RPC_CANCELLED); /* as the queue does when it is drained */
        run(&f);
        assert_int_equal(ask.done, 1);
        assert_int_equal(ask.code, RPC_CANCELLED);
        assert_int_equal(f.closed, 0);
        teardown(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_state),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
