/* Two workers of two samplers, in one process, over calls that the test delivers, repeats and loses: what one holds and the other
 * owns gets there whole, is forgotten when it was accepted under the same ring and not otherwise, meets verdicts by T4, T5
 * and D3, and the books of both balance at every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "sampler/handoff/handoff_test_kit.h"

#include "sampler/handoff/inside.h"
#include "sampler/handoff/peer_link.h"
#include "sampler/handoff/takeover.h"

#define CALLS_MAX 64u

static struct node nodes[2];

/* -- the network: calls wait here until a test delivers them ---------------------------------------------------------- */

static struct waiting_call {
    struct peer_call *call;
    struct buffer *message;
    struct node *to;
} calls[CALLS_MAX];
static size_t call_count;
static bool joining; /* views say so of the node that gets them */
static bool out_of_step; /* so too */

static struct peer_link *link_to(struct node *node)
{
    return (struct peer_link *)(void *)node;
}

void peer_link_call(struct peer_link *link, struct peer_call *call)
{
    assert_true(call_count < CALLS_MAX);
    calls[call_count++] = (struct waiting_call){call, buffer_ref(call->message), (struct node *)(void *)link};
}

void peer_call_release(struct peer_call *call)
{
    buffer_unref(call->response);
    call->response = NULL;
}

struct peer_link *peer_link_ref(struct peer_link *link)
{
    return link;
}

void peer_link_unref(struct peer_link *link)
{
    (void)link;
}

/* What a served call was answered with. */
static struct answer {
    int status;
    struct buffer *bytes;
    bool came;
} answer;

void peer_call_answer(void *call, int status, struct buffer *bytes)
{
    assert_ptr_equal(call, &answer);
    assert_false(answer.came);
    answer = (struct answer){status, bytes, true};
}

static void serve(struct node *to, const char *method, struct slice message)
{
    int (*method_serve)(void *, struct worker *, struct slice, void *, struct buffer **) =
        strcmp(method, TRANSFER_GIVE) == 0 ? give_serve : forward_serve;
    struct buffer *bytes = NULL;
    int r;

    answer = (struct answer){0, NULL, false};
    r = method_serve(&to->sampler, &to->home.worker, message, &answer, &bytes);
    if (r >= 0)
        answer = (struct answer){r, bytes, true};
}

static void call_end(struct waiting_call waiting, int code, struct buffer *response)
{
    waiting.call->code = code;
    waiting.call->response = response;
    buffer_unref(waiting.message);
    waiting.call->done(waiting.call);
}

static struct waiting_call call_take(void)
{
    struct waiting_call first = calls[0];

    assert_true(call_count > 0);
    memmove(calls, calls + 1, --call_count * sizeof(calls[0]));
    return first;
}

/* The first call arrives, `times` times; false: its answer is lost. */
static void deliver(unsigned times, bool answered)
{
    struct waiting_call waiting = call_take();

    for (unsigned i = 0; i < times; i++) {
        if (i > 0)
            buffer_unref(answer.bytes);
        serve(waiting.to, waiting.call->method, buffer_slice(waiting.message));
        assert_true(answer.came);
    }
    if (!answered) {
        buffer_unref(answer.bytes);
        answer = (struct answer){14, NULL, true};
    }
    call_end(waiting, answer.status, answer.bytes);
}

/* -- nodes --------------------------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    (void)state;
    now_ns = START_NS;
    call_count = 0;
    joining = out_of_step = false;
    memset(nodes, 0, sizeof(nodes));
    node_open(&nodes[0], "a", (struct handoff_options){.cluster = true});
    node_open(&nodes[1], "b", (struct handoff_options){.cluster = true});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    while (call_count > 0)
        call_end(call_take(), 14, NULL);
    node_close(&nodes[0]);
    node_close(&nodes[1]);
    return 0;
}

/* A view of `node` in which one of the two owns every slot. */
static void view_give(struct node *node, uint32_t ring_no, unsigned owner, bool settled, bool reachable)
{
    unsigned self = node == &nodes[1];
    struct view *view = calloc(1, sizeof(*view));

    assert_non_null(view);
    atomic_init(&view->refs, 1);
    view->ring_no = ring_no;
    view->number = ring_no;
    view->fingerprint = 1;
    view->in_step = !out_of_step;
    view->all_reachable = reachable;
    view->self = self;
    view->member_count = 2;
    view->members = calloc(2, sizeof(view->members[0]));
    view->members_of_ring = calloc(2, sizeof(view->members_of_ring[0]));
    view->ring = calloc(1, sizeof(*view->ring));
    view->owned = slot_set_new();
    view->settled = slot_set_new();
    assert_true(view->members && view->members_of_ring && view->ring && view->owned && view->settled);
    atomic_init(&view->ring->refs, 1);
    for (unsigned i = 0; i < 2; i++) {
        view->members[i] = (struct view_member){.name = strdup(nodes[i].name),
            .state = i == self && joining ? MEMBER_JOINING : MEMBER_READY,
            .incarnation = 1,
            .reachable = i != self && reachable,
            .room_bytes = 16 * MIB,
            .link = i == self ? NULL : link_to(&nodes[i])};
        view->members_of_ring[i] = (uint16_t)i;
    }
    for (uint32_t slot = 0; slot < RING_SLOTS; slot++)
        view->ring->owner[slot] = (uint16_t)owner;
    if (owner == self)
        memset(view->owned->words, 0xff, sizeof(view->owned->words));
    if (owner == self && settled)
        memset(view->settled->words, 0xff, sizeof(view->settled->words));
    worker_on_view(&node->home, view);
    view_unref(view);
}

static void views_give(uint32_t ring_no, unsigned owner, bool settled)
{
    view_give(&nodes[0], ring_no, owner, settled, true);
    view_give(&nodes[1], ring_no, owner, settled, true);
}

static void books_balance(void)
{
    node_balances(&nodes[0]);
    node_balances(&nodes[1]);
}

static void turn(struct node *node)
{
    struct sampler_worker *home = &node->home;

    home->worker.now_ns = now_ns;
    (void)mailbox_deliver(&home->worker.mailbox, &home->worker);
    (void)decide_due(home, now_ns);
    decision_cache_tend(home->cache, trace_table_count(home->traces), now_ns);
    (void)worker_backends_run(home->backends, now_ns);
    (void)worker_handoff_run(home->handoff, now_ns);
    books_balance();
}

static void turns(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        now_ns += NS_PER_MS;
        turn(&nodes[0]);
        turn(&nodes[1]);
    }
}

/* -- spans ----------------------------------------------------------------------------------------------------------------- */

static void spans_come(struct node *node, struct arrival arrival, uint64_t trace, uint64_t first_span, unsigned count, bool error)
{
    struct otlp_build build = {0};

    otlp_spans(&build, trace, first_span, count, error);
    node->home.worker.now_ns = now_ns;
    assert_true(intake_read(&node->home.intake, otlp_slice(&build), NULL, set, node->home.scratch, node->home.headers));
    spans_take(&node->home, NULL, &arrival);
    intake_release(&node->home.intake, node->home.headers);
    otlp_build_deinit(&build);
    books_balance();
}

static void spans_arrive(struct node *node, uint64_t trace, uint64_t first_span, unsigned count, bool error)
{
    spans_come(node, arrival_now(&node->home, now_ns), trace, first_span, count, error);
}

static const struct trace *trace_at(const struct node *node, uint64_t number)
{
    const struct trace_id id = otlp_trace_id(number);

    return trace_table_find(node->home.traces, &id, hash_trace(&id));
}

static bool record_at(const struct node *node, uint64_t number, struct decision_record *out_record)
{
    const struct trace_id id = otlp_trace_id(number);

    return decision_cache_find(node->home.cache, &id, hash_trace(&id), false, now_ns, out_record);
}

static struct holds holds_of(struct node *node, struct held_for members[2])
{
    struct holds holds = {.members = members, .member_count = 2};

    worker_holds(&node->home, &holds);
    return holds;
}

/* -- S1 ----------------------------------------------------------------------------------------------------------------------- */

/* A Forward of one good span and one without a trace ID. */
static void half_good_forward(struct node *to)
{
    struct otlp_build build = {0};
    struct transfer_forward forward = {.sender = {.name = slice_text("a"), .incarnation = 1, .ring_no = 1}};
    struct buffer *message;
    size_t head;

    otlp_resource_spans(&build);
    otlp_resource(&build, 1, (struct otlp_attribute[]){OTLP_TEXT("service.name", "cart")});
    otlp_scope_spans(&build);
    otlp_span(&build, &(struct otlp_span){.trace_id = otlp_trace_id(1), .span_id = otlp_span_id(1), .name = "GET"});
    otlp_span(&build, &(struct otlp_span){.span_id = otlp_span_id(2), .name = "GET"});
    otlp_end(&build);
    otlp_end(&build);
    forward.spans = otlp_slice(&build);
    head = transfer_forward_head_size(&forward);
    message = buffer_new(head + build.len);
    assert_non_null(message);
    (void)transfer_forward_head_write(&forward, message->bytes);
    memcpy(message->bytes + head, build.bytes, build.len);
    message->len = head + build.len;
    serve(to, TRANSFER_FORWARD, buffer_slice(message));
    buffer_unref(message);
    otlp_build_deinit(&build);
}

static void what_waits_is_read_again_and_counted_once(void **state)
{
    (void)state;
    out_of_step = true;
    for (uint32_t ring_no = 1; ring_no <= 3; ring_no++) {
        view_give(&nodes[1], ring_no, 1, false, true);
        if (ring_no == 1)
            half_good_forward(&nodes[1]);
        turns(2);
        assert_false(answer.came);
    }
    out_of_step = false;
    view_give(&nodes[1], 4, 1, false, true);
    turns(2);
    assert_true(answer.came);
    buffer_unref(answer.bytes);
    assert_int_equal(held(&nodes[1]), 1);
    assert_int_equal(metrics_sum(&nodes[1].metrics, METRIC_REJECTED_NO_TRACE_ID), 1);
}

/* -- T1, T3 ------------------------------------------------------------------------------------------------------------------ */

static void a_trace_moves_whole_and_keeps_its_clock(void **state)
{
    struct held_for members[2];
    struct holds holds;

    (void)state;
    views_give(1, 0, true);
    spans_arrive(&nodes[0], 1, 1, 3, false);
    now_ns += 4 * NS_PER_S;
    views_give(2, 1, false);
    assert_false(holds_of(&nodes[0], members).swept); /* until the table was walked over, nothing can be said */
    turns(6);
    holds = holds_of(&nodes[0], members);
    assert_true(holds.swept);
    assert_int_equal(members[1].traces, 1); /* it is in a call */
    assert_int_equal(call_count, 1);
    assert_int_equal(held(&nodes[0]), 3);
    deliver(1, true);
    assert_int_equal(held(&nodes[0]), 0);
    assert_int_equal(nodes[0].home.books[BOOK_HANDED_OVER], 3);
    assert_int_equal(nodes[1].home.books[BOOK_TAKEN_OVER], 3);
    (void)holds_of(&nodes[0], members);
    assert_int_equal(members[1].traces, 0);
    assert_non_null(trace_at(&nodes[1], 1));
    assert_in_range(trace_info(trace_at(&nodes[1], 1)).first_ns, START_NS - NS_PER_MS, START_NS + 2 * NS_PER_MS);
    assert_in_range(trace_info(trace_at(&nodes[1], 1)).deadline_ns, START_NS + WAIT_NS - 2 * NS_PER_MS, START_NS + WAIT_NS + 10 * NS_PER_MS);
    /* Not settled: not decided, however late; then at once. */
    now_ns = START_NS + 2 * WAIT_NS;
    turns(3);
    assert_int_equal(held(&nodes[1]), 3);
    view_give(&nodes[1], 2, 1, true, true);
    turns(2);
    assert_int_equal(held(&nodes[1]), 0);
    assert_int_equal(nodes[1].home.books[BOOK_DROPPED_NOT_SAMPLED], 3);
}

static void a_repeated_call_adds_nothing(void **state)
{
    (void)state;
    views_give(1, 0, true);
    spans_arrive(&nodes[0], 1, 1, 3, true);
    views_give(2, 1, false);
    turns(6);
    deliver(3, true);
    books_balance();
    assert_int_equal(held(&nodes[1]), 3);
    assert_int_equal(nodes[1].home.books[BOOK_DUPLICATE], 6);
}

static void a_lost_answer_is_a_repeat_later(void **state)
{
    (void)state;
    views_give(1, 0, true);
    spans_arrive(&nodes[0], 1, 1, 3, true);
    views_give(2, 1, false);
    turns(6);
    deliver(1, false);
    assert_int_equal(held(&nodes[0]), 3);
    turns(1);
    assert_int_equal(call_count, 0); /* not at once */
    now_ns += NS_PER_S;
    turns(2);
    deliver(1, true);
    assert_int_equal(held(&nodes[0]), 0);
    assert_int_equal(held(&nodes[1]), 3);
    books_balance();
}

static void an_answer_under_a_former_ring_does_not_count(void **state)
{
    (void)state;
    views_give(1, 0, true);
    spans_arrive(&nodes[0], 1, 1, 3, true);
    views_give(2, 1, false);
    turns(6);
    assert_int_equal(call_count, 1);
    view_give(&nodes[0], 3, 1, false, true); /* the same owner: it is the ring that counts */
    deliver(1, true);
    assert_int_equal(held(&nodes[0]), 3);
    turns(6);
    deliver(1, true); /* listed anew */
    assert_int_equal(held(&nodes[0]), 0);
    assert_int_equal(held(&nodes[1]), 3);
    books_balance();
}

/* The process has a newer ring, by which another worker may have taken the trace back already: this one does not know yet. */
static void an_answer_while_a_ring_is_on_its_way_does_not_count(void **state)
{
    (void)state;
    views_give(1, 0, true);
    spans_arrive(&nodes[0], 1, 1, 3, true);
    views_give(2, 1, false);
    turns(6);
    atomic_store(&nodes[0].sampler.ring_no_out, 3);
    deliver(1, true);
    assert_int_equal(held(&nodes[0]), 3);
    view_give(&nodes[0], 3, 1, false, true);
    turns(6);
    deliver(1, true);
    assert_int_equal(held(&nodes[0]), 0);
    assert_int_equal(held(&nodes[1]), 3);
    books_balance();
}

static void who_does_not_own_it_does_not_take_it(void **state)
{
    (void)state;
    views_give(1, 0, true);
    spans_arrive(&nodes[0], 1, 1, 3, true);
    view_give(&nodes[0], 2, 1, false, true); /* the other has not heard of it */
    turns(6);
    deliver(1, true);
    assert_int_equal(held(&nodes[0]), 3);
    assert_int_equal(held(&nodes[1]), 0);
    view_give(&nodes[1], 2, 1, false, true);
    now_ns += NS_PER_S;
    turns(2);
    deliver(1, true);
    assert_int_equal(held(&nodes[0]), 0);
    assert_int_equal(held(&nodes[1]), 3);
}

static void who_joins_gives_nothing_away(void **state)
{
    (void)state;
    views_give(1, 0, true);
    spans_arrive(&nodes[0], 1, 1, 3, true);
    joining = true; /* back after a crash: the others count on it to own its slots */
    view_give(&nodes[0], 2, 1, false, true);
    turns(6);
    assert_int_equal(call_count, 0);
    joining = false;
    views_give(3, 1, false);
    turns(6);
    assert_int_equal(call_count, 1);
    deliver(1, true);
    assert_int_equal(held(&nodes[1]), 3);
}

static void who_only_gives_does_so_though_it_joins(void **state)
{
    (void)state;
    views_give(1, 0, true);
    spans_arrive(&nodes[0], 1, 1, 3, true);
    joining = true;
    nodes[0].home.handoff->options.gives_only = true;
    view_give(&nodes[0], 2, 1, false, true);
    view_give(&nodes[1], 2, 1, false, true);
    turns(6);
    assert_int_equal(call_count, 1);
    deliver(1, true);
    assert_int_equal(held(&nodes[1]), 3);
}

static void what_comes_while_the_call_is_under_way_stays(void **state)
{
    (void)state;
    views_give(1, 0, true);
    spans_arrive(&nodes[0], 1, 1, 3, true);
    views_give(2, 1, false);
    turns(6);
    spans_arrive(&nodes[0], 1, 4, 2, true);
    deliver(1, true);
    assert_int_equal(held(&nodes[0]), 2);
    turns(3);
    deliver(1, true);
    assert_int_equal(held(&nodes[0]), 0);
    assert_int_equal(held(&nodes[1]), 5);
    books_balance();
}

static void a_large_trace_goes_in_several_batches(void **state)
{
    (void)state;
    views_give(1, 0, true);
    for (uint64_t i = 0; i < 40; i++)
        spans_arrive(&nodes[0], 1, 1 + i * 1000, 1000, false);
    views_give(2, 1, false);
    turns(6);
    for (unsigned i = 0; i < 40 && held(&nodes[0]) > 0; i++) {
        deliver(1, true);
        turns(3);
    }
    assert_int_equal(held(&nodes[0]), 0);
    assert_int_equal(held(&nodes[1]), 40000);
    assert_int_equal(nodes[1].home.books[BOOK_DUPLICATE], 0);
}

/* -- verdicts ---------------------------------------------------------------------------------------------------------------- */

/* Decided at node 0, which owns everything and exports what it keeps. */
static void decided_at_first(uint64_t trace, bool error)
{
    views_give(1, 0, true);
    spans_arrive(&nodes[0], trace, 1, 3, error);
    now_ns += WAIT_NS + NS_PER_S;
    turns(4);
    assert_int_equal(held(&nodes[0]), 0);
}

static void a_verdict_travels_and_is_followed(void **state)
{
    struct decision_record record;

    (void)state;
    for (unsigned sampled = 0; sampled < 2; sampled++) {
        uint64_t before = nodes[1].home.books[BOOK_EXPORTED], dropped = nodes[1].home.books[BOOK_DROPPED_NOT_SAMPLED];

        (void)teardown(NULL);
        (void)setup(NULL);
        before = dropped = 0;
        decided_at_first(1, sampled);
        assert_int_equal(nodes[0].home.books[sampled ? BOOK_EXPORTED : BOOK_DROPPED_NOT_SAMPLED], 3);
        views_give(2, 1, false);
        spans_arrive(&nodes[1], 1, 3, 2, sampled); /* T5: one of them was there, one is new; they came before the verdict did */
        turns(6);
        assert_int_equal(call_count, 1);
        deliver(1, true);
        assert_false(record_at(&nodes[0], 1, &record));
        assert_true(record_at(&nodes[1], 1, &record));
        assert_int_equal(record.decision, sampled ? DECISION_SAMPLED : DECISION_NOT_SAMPLED);
        assert_in_range(record.decided_ns, now_ns - 2 * NS_PER_S, now_ns);
        books_balance();
        if (sampled) {
            assert_int_equal(nodes[1].home.books[BOOK_DUPLICATE], 1);
            assert_int_equal(held(&nodes[1]), 1); /* not before it is settled: D2 */
            turns(3);
            assert_int_equal(held(&nodes[1]), 1);
        } else {
            assert_int_equal(nodes[1].home.books[BOOK_DROPPED_NOT_SAMPLED] - dropped, 2);
        }
        view_give(&nodes[1], 2, 1, true, true);
        turns(4);
        assert_int_equal(held(&nodes[1]), 0);
        assert_int_equal(nodes[1].home.books[BOOK_EXPORTED] - before, sampled ? 1 : 0);
        /* D3: a repeat is one, a late span follows. */
        spans_arrive(&nodes[1], 1, 1, 4, sampled);
        turns(4);
        assert_int_equal(nodes[1].home.books[BOOK_DUPLICATE], sampled ? 1 + 4 : 0);
        assert_int_equal(nodes[1].home.books[BOOK_DROPPED_LATE], sampled ? 0 : 4);
    }
}

static void a_kept_span_is_never_decided(void **state)
{
    (void)state;
    view_give(&nodes[0], 1, 1, false, false); /* the owner is away */
    spans_arrive(&nodes[0], 1, 1, 2, true);
    now_ns += 10 * WAIT_NS;
    turns(5);
    assert_int_equal(held(&nodes[0]), 2);
    assert_int_equal(call_count, 0);
    view_give(&nodes[1], 1, 1, true, true);
    view_give(&nodes[0], 1, 1, false, true); /* it is back: the same ring, reachable */
    turns(3);
    deliver(1, true);
    now_ns += NS_PER_S; /* it was overdue, and is decided when the clock of deadlines ticks */
    turns(3);
    assert_int_equal(nodes[1].home.books[BOOK_EXPORTED], 2);
    assert_int_equal(held(&nodes[0]), 0);
}

static void two_verdicts_by_rule(void **state)
{
    static const struct {
        const char *what;
        enum decision mine, theirs;
        int64_t later_s; /* theirs than mine */
        enum join_outcome outcome;
    } cases[] = {
        {"none here", DECISION_PENDING, DECISION_SAMPLED, 0, JOIN_TAKE},
        {"the same", DECISION_SAMPLED, DECISION_SAMPLED, 1, JOIN_KEEP},
        {"not sampled and dropped are one", DECISION_DROPPED, DECISION_NOT_SAMPLED, 1, JOIN_KEEP},
        {"sampled wins, theirs", DECISION_NOT_SAMPLED, DECISION_SAMPLED, -1, JOIN_CONFLICT_TAKE},
        {"sampled wins, mine", DECISION_SAMPLED, DECISION_DROPPED, 1, JOIN_CONFLICT_KEEP},
        {"of another period, later", DECISION_SAMPLED, DECISION_DROPPED, 71, JOIN_TAKE},
        {"of another period, earlier", DECISION_NOT_SAMPLED, DECISION_SAMPLED, -71, JOIN_KEEP},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct decision_record mine = {.decision = cases[i].mine, .decided_ns = START_NS};
        const struct join_verdict theirs = {
            .decision = cases[i].theirs, .decided_ns = (uint64_t)((int64_t)START_NS + cases[i].later_s * (int64_t)NS_PER_S)};
        enum join_outcome outcome = join_choose(cases[i].mine == DECISION_PENDING ? NULL : &mine, &theirs, VERDICT_KEEP_NS);

        if (outcome != cases[i].outcome)
            fail_msg("%s: %d, expected %d", cases[i].what, outcome, cases[i].outcome);
    }
}

/* Neither kept spans nor those in a claimed slot: the size is judged by who decides. */
static void a_trace_too_large_is_refused_when_it_may_be_decided(void **state)
{
    struct decision_record record;

    (void)state;
    for (unsigned i = 0; i < 2; i++)
        nodes[i].home.settings->config.tail_sampling.maximum_trace_size_bytes = 1000;
    views_give(1, 0, true);
    view_give(&nodes[1], 1, 0, false, false);
    spans_arrive(&nodes[1], 1, 1, 60, true); /* kept */
    turns(6);
    assert_int_equal(held(&nodes[1]), 60);
    views_give(2, 1, false);
    turns(6);
    assert_int_equal(held(&nodes[1]), 60);
    view_give(&nodes[1], 2, 1, true, true);
    now_ns += WAIT_NS + NS_PER_S;
    turns(4);
    assert_true(record_at(&nodes[1], 1, &record));
    assert_true(record.too_large);
    assert_int_equal(nodes[1].home.books[BOOK_DROPPED_TOO_LARGE], 60);
}

/* -- survivors ---------------------------------------------------------------------------------------------------------------- */

/* Sampled and not exported yet when the slot is lost: it comes back, travels with its verdict, and the new owner exports it. */
static void a_survivor_travels_with_its_verdict(void **state)
{
    (void)state;
    views_give(1, 0, true);
    spans_arrive(&nodes[0], 1, 1, 3, true);
    now_ns += WAIT_NS + NS_PER_S;
    nodes[0].home.worker.now_ns = now_ns;
    (void)decide_due(&nodes[0].home, now_ns); /* decided; the exporter has not run */
    assert_int_equal(worker_backends_spans(nodes[0].home.backends), 3);
    views_give(2, 1, false);
    assert_int_equal(worker_backends_spans(nodes[0].home.backends), 0);
    turns(6);
    deliver(1, true);
    assert_int_equal(held(&nodes[0]), 0);
    assert_int_equal(held(&nodes[1]), 3);
    view_give(&nodes[1], 2, 1, true, true);
    turns(4);
    assert_int_equal(nodes[0].home.books[BOOK_EXPORTED], 0);
    assert_int_equal(nodes[1].home.books[BOOK_EXPORTED], 3);
}

/* Decided as sampled at node 0, nothing of it exported; then node 1 owns everything. */
static void sampled_and_lost(unsigned span_thousands)
{
    views_give(1, 0, true);
    for (uint64_t i = 0; i < span_thousands; i++)
        spans_arrive(&nodes[0], 1, 1 + i * 1000, 1000, true);
    now_ns += WAIT_NS + NS_PER_S;
    nodes[0].home.worker.now_ns = now_ns;
    (void)decide_due(&nodes[0].home, now_ns);
    views_give(2, 1, false);
}

/* What the next call says of its first trace. */
static struct transfer_trace next_given(void)
{
    struct transfer_sender sender;
    struct transfer_trace trace;
    size_t count;
    struct wire w;

    assert_true(call_count > 0);
    assert_true(transfer_give_read(buffer_slice(calls[0].message), &sender, &count));
    w = wire_of(buffer_slice(calls[0].message));
    assert_true(transfer_trace_next(&w, &trace));
    return trace;
}

/* Only what the backends have is said to be exported: not what is held beside, nor what the other was given before. Else the other would
 * drop it when it is read back from its journal. */
static void what_was_given_before_is_not_called_exported(void **state)
{
    (void)state;
    sampled_and_lost(40);
    turns(6);
    for (unsigned i = 0; i < 40 && held(&nodes[0]) > 0; i++) {
        assert_int_equal(next_given().hash_count, 0);
        deliver(1, true);
        turns(3);
    }
    assert_int_equal(held(&nodes[0]), 0);
    assert_int_equal(held(&nodes[1]), 40000);
    view_give(&nodes[1], 2, 1, true, true);
    turns(20);
    assert_int_equal(nodes[1].home.books[BOOK_EXPORTED], 40000);
}

/* Spans of one trace that one exporter has already wait apart from those that none has: both get there. */
static void spans_that_some_exporters_have_travel_apart(void **state)
{
    struct arrival arrival;
    struct decision_record record;

    (void)state;
    sampled_and_lost(1);
    arrival = arrival_now(&nodes[0].home, now_ns);
    arrival.delivered = 2;
    spans_come(&nodes[0], arrival, 1, 5000, 3, true);
    turns(8);
    for (unsigned i = 0; i < 8 && held(&nodes[0]) > 0; i++) {
        deliver(1, true);
        turns(3);
    }
    assert_int_equal(held(&nodes[0]), 0);
    assert_int_equal(held(&nodes[1]), 1003);
    assert_false(record_at(&nodes[0], 1, &record));
    view_give(&nodes[1], 2, 1, true, true);
    turns(8);
    assert_int_equal(nodes[1].home.books[BOOK_EXPORTED], 1003);
}

/* It is sampled, whatever became of the record. */
static void a_survivor_without_its_record_stays_sampled(void **state)
{
    const struct trace_id id = otlp_trace_id(1);
    struct decision_record record;

    (void)state;
    sampled_and_lost(1);
    assert_true(decision_cache_remove(nodes[0].home.cache, &id, hash_trace(&id)));
    turns(6);
    deliver(1, true);
    assert_true(record_at(&nodes[1], 1, &record));
    assert_int_equal(record.decision, DECISION_SAMPLED);
    assert_int_equal(held(&nodes[1]), 1000);
    assert_int_equal(held(&nodes[0]), 0);
}

/* T4: who was away comes back with what another has exported meanwhile. */
static void what_another_exported_is_not_exported_again(void **state)
{
    (void)state;
    sampled_and_lost(1);
    turns(6);
    deliver(1, false); /* taken over; node 0 does not know */
    assert_int_equal(held(&nodes[1]), 1000);
    view_give(&nodes[0], 3, 0, true, false); /* node 1 was dropped, though */
    turns(6);
    assert_int_equal(nodes[0].home.books[BOOK_EXPORTED], 1000);
    views_give(4, 1, false);
    turns(8);
    while (call_count > 0) {
        deliver(1, true);
        turns(3);
    }
    assert_int_equal(held(&nodes[1]), 0);
    assert_int_equal(nodes[1].home.books[BOOK_DUPLICATE], 1000);
    view_give(&nodes[1], 4, 1, true, true);
    turns(4);
    assert_int_equal(nodes[1].home.books[BOOK_EXPORTED], 0);
}

/* T4: the earliest deadline counts, though all the spans were here already. */
static void a_repeat_that_was_elsewhere_before_brings_its_clock(void **state)
{
    (void)state;
    view_give(&nodes[0], 1, 1, false, false);
    spans_arrive(&nodes[0], 1, 1, 2, true); /* kept */
    now_ns += 6 * NS_PER_S;
    view_give(&nodes[1], 1, 1, true, true);
    spans_arrive(&nodes[1], 1, 1, 2, true); /* sent once more, to the owner that is back */
    view_give(&nodes[0], 1, 1, false, true);
    turns(8);
    deliver(1, true);
    assert_int_equal(nodes[1].home.books[BOOK_DUPLICATE], 2);
    assert_in_range(trace_info(trace_at(&nodes[1], 1)).first_ns, START_NS - NS_PER_MS, START_NS + 10 * NS_PER_MS);
    assert_in_range(trace_info(trace_at(&nodes[1], 1)).deadline_ns, START_NS + WAIT_NS - 10 * NS_PER_MS, START_NS + WAIT_NS + 20 * NS_PER_MS);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_waits_is_read_again_and_counted_once),
        CASE(a_trace_moves_whole_and_keeps_its_clock),
        CASE(a_repeated_call_adds_nothing),
        CASE(a_lost_answer_is_a_repeat_later),
        CASE(an_answer_under_a_former_ring_does_not_count),
        CASE(an_answer_while_a_ring_is_on_its_way_does_not_count),
        CASE(who_does_not_own_it_does_not_take_it),
        CASE(who_joins_gives_nothing_away),
        CASE(who_only_gives_does_so_though_it_joins),
        CASE(what_comes_while_the_call_is_under_way_stays),
        CASE(a_large_trace_goes_in_several_batches),
        CASE(a_verdict_travels_and_is_followed),
        CASE(a_kept_span_is_never_decided),
        cmocka_unit_test(two_verdicts_by_rule),
        CASE(a_trace_too_large_is_refused_when_it_may_be_decided),
        CASE(a_survivor_travels_with_its_verdict),
        CASE(what_was_given_before_is_not_called_exported),
        CASE(spans_that_some_exporters_have_travel_apart),
        CASE(a_survivor_without_its_record_stays_sampled),
        CASE(what_another_exported_is_not_exported_again),
        CASE(a_repeat_that_was_elsewhere_before_brings_its_clock),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
