/* Two samplers in one process, each with two workers and a journal on threads of their own, while slots move back and forth between them:
 * every span of a sampled trace is at the backend once, none of another is, the books of both balance, and no byte of a journal is held
 * for anybody at the end.
 *
 * For the thread sanitizer, which Debian's libgrpc confuses: here is no gRPC, so whatever it reports is ours. The samplers' modules are
 * the programs' own, their turns too; worker.c, control.c, peer_link.c and link_local.c have a stand-in here, made of threads and mail.
 *
 *   feed ─▶ gate ═══ Forward ═══▶ gate ─▶ journal, traces ─▶ verdict ─▶ exporter ═══▶ backend
 *           control ─▶ views, polls       '═══ Give ═══▶ take-over
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/export/link_local.h"
#include "common/export/rpc_code.h"
#include "common/otlp/span_view.h"
#include "common/otlp/span_walk.h"
#include "common/run/clock.h"
#include "sampler/export/survivors.h"
#include "sampler/handoff/cluster.h"
#include "sampler/handoff/inside.h"
#include "sampler/handoff/peer_link.h"
#include "sampler/handoff/recovery.h"
#include "sampler/journal/journal.h"
#include "sampler/journal/journal_thread.h"
#include "sampler/span_path.h"
#include "sampler/turn.h"
#include "tests/kit/otlp_build.h"
/* Last: what it defines has names that headers use for their arguments. */
#include "sampler/handoff/policies_test_kit.h"

#define NODES 2u
#define WORKERS 2u /* of a node */
#define TRACES 1500u
#define SPANS_A_TRACE 8u
#define SPANS (TRACES * SPANS_A_TRACE)
#define SPANS_A_REQUEST 10u
#define REQUESTS (SPANS / SPANS_A_REQUEST)
#define REQUESTS_AT_ONCE 12u
#define REQUESTS_A_STEP 2u
#define RINGS_LEAST 12u
#define STEP_NS (1 * NS_PER_MS)
#define DECISION_WAIT_NS (60 * NS_PER_MS)
#define KEEP_NS (600 * NS_PER_S)
#define POOL_BYTES (512 * MIB)
#define WEIGHT_BYTES (404 * MIB) /* above where spans are spilled, below where clients are refused */
#define JOURNAL_BYTES (64 * JOURNAL_SEGMENT_MIN)
#define LIVE_BYTES_MOST (JOURNAL_BYTES * 9 / 20) /* of both: more is not fed, so that one of them can take all of it */
#define TIME_LIMIT_NS (100 * NS_PER_S) /* the whole test has two minutes; on a slow machine as many times more */

/* -- in the place of worker.c: a thread without a queue, woken by a semaphore ------------------------------------------------ */

struct pump {
    sem_t bell;
};

int worker_init(struct worker *worker, unsigned index, unsigned count, struct metrics_cell *metrics)
{
    *worker = (struct worker){.index = index, .count = count, .metrics = metrics, .now_ns = clock_now_ns()};
    mailbox_init(&worker->mailbox);
    list_init(&worker->hooks);
    worker->pump = calloc(1, sizeof(*worker->pump));
    ASSERT(worker->pump != NULL && sem_init(&worker->pump->bell, 0, 0) == 0);
    return 0;
}

void worker_deinit(struct worker *worker)
{
    ASSERT(sem_destroy(&worker->pump->bell) == 0);
    free(worker->pump);
}

static void bell_wait(sem_t *bell, uint64_t for_ns)
{
    uint64_t until_ns = clock_now_unix_ns() + u64_min(for_ns, NS_PER_S);
    struct timespec until = {(time_t)(until_ns / NS_PER_S), (long)(until_ns % NS_PER_S)};

    (void)sem_timedwait(bell, &until);
}

static void *worker_loop(void *argument)
{
    struct worker *worker = argument;

    while (!worker->stopping) {
        uint64_t next_ns = worker_turn(worker, clock_now_ns()), now_ns = clock_now_ns();

        if (!worker->stopping && next_ns > now_ns && mailbox_sleep(&worker->mailbox)) {
            bell_wait(&worker->pump->bell, next_ns - now_ns);
            mailbox_awake(&worker->mailbox);
        }
    }
    return NULL;
}

int worker_start(struct worker *worker)
{
    return -pthread_create(&worker->thread, NULL, worker_loop, worker);
}

void worker_post(struct worker *worker, struct mail *mail)
{
    if (mailbox_post(&worker->mailbox, mail))
        (void)sem_post(&worker->pump->bell);
}

static void worker_on_stop(struct mail *mail, void *receiver)
{
    (void)mail;
    ((struct worker *)receiver)->stopping = true;
}

void worker_stop(struct worker *worker)
{
    struct mail stop = {.deliver = worker_on_stop};

    worker_post(worker, &stop);
    ASSERT(pthread_join(worker->thread, NULL) == 0);
}

/* -- in the place of control.c: the test's own thread looks once a step ------------------------------------------------------- */

void control_post(struct control *control, struct mail *mail)
{
    (void)mailbox_post(&control->mailbox, mail);
}

/* -- what there is ------------------------------------------------------------------------------------------------------------- */

struct peer_link {
    struct node *to;
    atomic_uint calls;
};

struct node {
    struct sampler sampler;
    struct sampler_worker homes[WORKERS];
    struct peer_link link; /* of the other, to here */
    struct hold_poll poll;
    char name[8], directory[64];
    bool replayed;
    uint64_t weight_bytes; /* in the budget: so many that spans are spilled, or none */
    bool clear;            /* nothing of the other's is held, the last poll said */
    struct slot_set *owned, *settled;
};

static struct node nodes[NODES];

/* -- in the place of peer_link.c: a call travels as mail, and so does its answer ------------------------------------------------ */

struct delivery {
    struct mail mail;
    struct peer_call *call; /* its maker's thread alone looks into it */
    struct node *to;
    struct worker *home;
    const char *method;
    struct buffer *message, *answer;
    unsigned number;
    int status;
};

static void maker_on_answer(struct mail *mail, void *receiver)
{
    struct delivery *delivery = container_of(mail, struct delivery, mail);
    struct peer_call *call = delivery->call;

    (void)receiver;
    call->code = delivery->status;
    call->response = delivery->answer;
    free(delivery);
    call->done(call);
}

/* On the worker that served it. One answer of eight is lost. */
void peer_call_answer(void *call, int status, struct buffer *answer)
{
    struct delivery *delivery = call;

    if (delivery->number % 8 == 6)
        status = RPC_UNAVAILABLE;
    if (status != RPC_OK) {
        buffer_unref(answer);
        answer = NULL;
    }
    delivery->status = status;
    delivery->answer = answer;
    delivery->mail.deliver = maker_on_answer;
    worker_post(delivery->home, &delivery->mail);
}

static void peer_on_call(struct mail *mail, void *receiver)
{
    struct delivery *delivery = container_of(mail, struct delivery, mail);
    struct buffer *message = delivery->message, *answer = NULL;
    bool is_give = strcmp(delivery->method, TRANSFER_GIVE) == 0;
    int r = (is_give ? give_serve : forward_serve)(&delivery->to->sampler, receiver, buffer_slice(message), delivery, &answer);

    if (r >= 0)
        peer_call_answer(delivery, r, answer);
    buffer_unref(message); /* valid while it is served, no longer */
}

/* One call of eight does not get there. */
void peer_link_call(struct peer_link *link, struct peer_call *call)
{
    struct delivery *delivery = calloc(1, sizeof(*delivery));

    ASSERT(delivery != NULL);
    *delivery = (struct delivery){.mail.deliver = peer_on_call, .call = call, .to = link->to, .home = call->home, .method = call->method,
        .number = atomic_fetch_add(&link->calls, 1)};
    if (delivery->number % 8 == 3) {
        delivery->status = RPC_UNAVAILABLE;
        delivery->mail.deliver = maker_on_answer;
        worker_post(delivery->home, &delivery->mail);
        return;
    }
    delivery->message = buffer_ref(call->message);
    worker_post(&link->to->homes[delivery->number / 8 % WORKERS].worker, &delivery->mail);
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

/* -- in the place of link_local.c: the backend has a thread, and refuses one call of five; all of them while it is away -------- */

static struct backend {
    struct worker worker;
    struct metrics metrics;
    unsigned calls;
    atomic_bool away; /* refuses all */
    uint64_t strangers;
    atomic_uint seen[SPANS];
    atomic_uint_fast64_t received;
} backend;

struct backend_link {
    struct link link;
    struct worker *worker;
};

struct backend_call {
    struct mail mail;
    struct worker *home;
    struct link_call *caller;
    struct buffer *bytes;
    int code;
};

static void home_on_answer(struct mail *mail, void *receiver)
{
    struct backend_call *call = container_of(mail, struct backend_call, mail);
    const struct link_result result = {.code = call->code};

    (void)receiver;
    call->caller->done(call->caller, &result);
    free(call);
}

/* A span's number is its start. */
static void backend_count(const struct span_ref *span)
{
    struct span_view view;

    if (span->fault == SPAN_OK && span_view_read(span->bytes, NULL, NULL, &view) && view.start_unix_ns - 1 < SPANS)
        atomic_fetch_add(&backend.seen[view.start_unix_ns - 1], 1);
    else
        backend.strangers++;
    atomic_fetch_add(&backend.received, 1);
}

static void backend_on_call(struct mail *mail, void *receiver)
{
    struct backend_call *call = container_of(mail, struct backend_call, mail);
    struct span_walk walk;
    struct span_ref span;

    (void)receiver;
    call->code = backend.calls++ % 5 == 2 || atomic_load(&backend.away) ? RPC_UNAVAILABLE : RPC_OK;
    span_walk_init(&walk, buffer_slice(call->bytes));
    while (call->code == RPC_OK && span_walk_next(&walk, &span))
        backend_count(&span);
    ASSERT(!walk.bad);
    buffer_unref(call->bytes);
    call->mail.deliver = home_on_answer;
    worker_post(call->home, &call->mail);
}

static struct buffer *pieces_join(const struct link_message *message)
{
    struct buffer *bytes;
    size_t len = 0;

    for (size_t i = 0; i < message->piece_count; i++)
        len += message->pieces[i]->len;
    bytes = buffer_new(len);
    ASSERT(bytes != NULL);
    for (size_t i = 0; i < message->piece_count; i++) {
        memcpy(bytes->bytes + bytes->len, message->pieces[i]->bytes, message->pieces[i]->len);
        bytes->len += message->pieces[i]->len;
    }
    return bytes;
}

static void backend_send(struct link *base, const struct link_message *message, struct link_call *caller)
{
    struct backend_call *call = calloc(1, sizeof(*call));

    ASSERT(call != NULL);
    *call = (struct backend_call){.mail.deliver = backend_on_call, .home = container_of(base, struct backend_link, link)->worker,
        .caller = caller, .bytes = pieces_join(message)};
    worker_post(&backend.worker, &call->mail);
}

static void backend_cancel(struct link *base, struct link_call *call)
{
    (void)base; /* the answer is on its way */
    (void)call;
}

static void backend_free(struct link *base)
{
    free(container_of(base, struct backend_link, link));
}

static const struct link_ops backend_ops = {backend_send, backend_cancel, backend_free};

int link_nop_new(struct worker *worker, struct link **out_link)
{
    struct backend_link *link = calloc(1, sizeof(*link));

    ASSERT(link != NULL);
    *link = (struct backend_link){.link = {.ops = &backend_ops, .state = LINK_UP}, .worker = worker};
    *out_link = &link->link;
    return 0;
}

int link_local_new(struct worker *worker, const struct local_sink *sink, struct link **out_link)
{
    (void)worker;
    (void)sink;
    (void)out_link;
    return -1;
}

/* -- in the place of cluster.c and sampler.c: a sampler without listeners ------------------------------------------------------- */

void cluster_record_read(struct sampler *sampler, struct slice record)
{
    (void)sampler;
    (void)record;
    ASSERT(!"no journal here has one");
}

void cluster_records_read(struct sampler *sampler)
{
    (void)sampler;
}

void sampler_worker_finished(struct sampler_worker *home)
{
    (void)home;
    ASSERT(!"nobody drains here");
}

static struct sampler_config node_config(void)
{
    struct sampler_config config = sampler_config_defaults();

    config.exporter_count = 1;
    config.exporters[0] = (struct otlp_exporter_config){.id = (char *)(uintptr_t)"nop", .kind = EXPORTER_NOP, .num_consumers = 4,
        .timeout_ns = 60 * NS_PER_S, .retry = retry_defaults(), .batch_set = true, .batch_flush_timeout_ns = 5 * NS_PER_MS};
    config.exporters[0].retry.initial_interval_ns = config.exporters[0].retry.max_interval_ns = 10 * NS_PER_MS;
    config.tail_sampling.decision_wait_ns = (int64_t)DECISION_WAIT_NS;
    return config;
}

static void journal_start(struct node *node)
{
    const struct journal_options options = {.directory = node->directory, .sync = JOURNAL_SYNC_INTERVAL,
        .sync_interval_ns = 5 * NS_PER_MS, .segment_bytes = JOURNAL_SEGMENT_MIN, .max_bytes = JOURNAL_BYTES,
        .verdict_keep_ns = NS_PER_S, .clean_age_ns = DECISION_WAIT_NS / 2, .new_id = 1 + (uint64_t)(node - nodes)};
    char error[256];

    (void)snprintf(node->directory, sizeof(node->directory), "%s", "/tmp/tailrace-threads-XXXXXX");
    assert_non_null(mkdtemp(node->directory));
    assert_int_equal(journal_open(&options, (struct journal_now){clock_now_ns(), clock_now_unix_ns()}, &node->sampler.journal, error,
        sizeof(error)), 0);
}

static void control_on_replayed(struct mail *mail, void *receiver)
{
    (void)receiver;
    container_of(container_of(mail, struct sampler, replayed_mail), struct node, sampler)->replayed = true;
}

static void control_on_holds(void *of_node, const struct holds_sum *sum)
{
    struct node *node = of_node;

    node->clear = sum->swept && sum->ring_no != 0 && sum->foreign_traces == 0 && sum->exports == 0;
}

static void node_open(struct node *node, const char *name)
{
    const struct decision_cache_options cache = {.verdict_keep_ns = KEEP_NS, .resend_window_ns = KEEP_NS, .max_bytes = 64 * MIB,
        .hash_bytes = 64 * MIB, .sampled_cache_size = 100000, .non_sampled_cache_size = 100000};
    struct sampler *sampler = &node->sampler;
    struct backends_options options = {.workers = WORKERS, .keeps_units = true};
    char error[256];

    memset(node, 0, sizeof(*node));
    (void)snprintf(node->name, sizeof(node->name), "%s", name);
    node->link.to = node;
    node->owned = slot_set_new();
    node->settled = slot_set_new();
    assert_true(node->owned && node->settled);
    sampler->workers = node->homes;
    sampler->worker_count = WORKERS;
    sampler->config = node_config();
    sampler->settings = options.settings = sampler_settings_new(&sampler->config, NULL, set, NULL, &sampler->policy_roll);
    sampler->big_trace_bytes = 32 * MIB;
    sampler->admission.limit_bytes = 16 * MIB;
    sampler->handoff = (struct handoff_options){.cluster = true, .journal = true, .name = node->name, .ack_wait_ns = 60 * NS_PER_S,
        .forward_timeout_ns = 60 * NS_PER_S, .handoff_timeout_ns = 60 * NS_PER_S, .verdict_keep_ns = KEEP_NS};
    mailbox_init(&sampler->control.mailbox);
    assert_int_equal(metrics_init(&sampler->metrics, WORKERS), 0);
    assert_int_equal(extent_pool_new(POOL_BYTES, &sampler->pool), 0);
    sampler->budget = (struct budget){.pool = sampler->pool, .spill_allowed = true, .handoff = true, .workers = WORKERS};
    journal_start(node);
    assert_int_equal(backends_new(&options, &sampler->backends, error, sizeof(error)), 0);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(sampler_worker_init(&node->homes[i], sampler, i, &cache), 0);
    hold_poll_init(&node->poll, sampler, node, control_on_holds);
}

static void node_start(struct node *node)
{
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(worker_start(&node->homes[i].worker), 0);
    assert_int_equal(journal_thread_start(node->sampler.journal, &node->sampler.journal_thread), 0);
    node->sampler.replayed_mail.deliver = control_on_replayed;
    recovery_start(&node->sampler, &node->sampler.replayed_mail);
}

static void homes_deliver(struct node *node)
{
    for (unsigned i = 0; i < WORKERS; i++)
        (void)mailbox_deliver(&node->homes[i].worker.mailbox, &node->homes[i].worker);
}

/* Its workers' threads have ended; in the order of sampler_free. */
static void node_close(struct node *node)
{
    struct sampler *sampler = &node->sampler;
    char command[128];

    journal_thread_stop(sampler->journal_thread);
    homes_deliver(node);
    for (unsigned i = 0; i < WORKERS; i++)
        worker_journal_end(node->homes[i].journal);
    for (unsigned i = 0; i < WORKERS; i++)
        worker_backends_stop(node->homes[i].backends);
    homes_deliver(node);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(extent_store_used_bytes(node->homes[i].store), 0);
        sampler_worker_deinit(&node->homes[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        worker_deinit(&node->homes[i].worker);
    (void)mailbox_deliver(&sampler->control.mailbox, &sampler->control);
    hold_poll_deinit(&node->poll);
    journal_close(sampler->journal);
    extent_pool_free(sampler->pool);
    backends_free(sampler->backends);
    sampler_settings_unref(sampler->settings);
    policy_roll_deinit(&sampler->policy_roll);
    metrics_deinit(&sampler->metrics);
    slot_set_unref(node->owned);
    slot_set_unref(node->settled);
    (void)snprintf(command, sizeof(command), "rm -rf %s", node->directory);
    assert_int_equal(system(command), 0);
}

/* -- the feed: requests of spans far apart, until each was settled ---------------------------------------------------------------- */

struct feed_request {
    struct request request;
    struct mail mail;
    struct node *to;
    struct otlp_build build;
    bool settled;
};

static struct feed {
    struct feed_request *requests[REQUESTS]; /* of those that may be sent; a stack */
    unsigned ready, under_way, settled, refused, sent;
    struct control desk; /* where answers come back */
} feed;

static void desk_on_answer(struct mail *mail, void *receiver)
{
    struct feed_request *request = container_of(mail, struct feed_request, mail);

    (void)receiver;
    feed.under_way--;
    if (request->settled) {
        feed.settled++;
        otlp_build_deinit(&request->build);
        free(request);
    } else {
        feed.refused++;
        feed.requests[feed.ready++] = request;
    }
}

static void feed_answer(struct request *request, bool settled)
{
    struct feed_request *mine = container_of(request, struct feed_request, request);

    mine->settled = settled;
    mine->mail.deliver = desk_on_answer;
    control_post(&feed.desk, &mine->mail);
}

static void on_settle(struct request *request, const uint32_t *rejected, size_t rejected_count, const char *message, bool send_trailer)
{
    (void)rejected;
    (void)message;
    (void)send_trailer;
    ASSERT(rejected_count == 0);
    feed_answer(request, true);
}

static void on_refuse(struct request *request, struct answer_status status)
{
    ASSERT(status.retry_ns > 0);
    feed_answer(request, false);
}

static const struct transport transport = {on_settle, on_refuse, METRIC_ACCEPTED_SPANS, METRIC_REFUSED_SPANS};

static void worker_on_request(struct mail *mail, void *receiver)
{
    struct feed_request *mine = container_of(mail, struct feed_request, mail);
    struct worker *worker = receiver;

    mine->request = (struct request){.transport = &transport, .worker = worker, .bytes = otlp_slice(&mine->build),
        .received_ns = worker->now_ns, .deadline_ns = UINT64_MAX};
    sampler_on_request(&mine->to->sampler, &mine->request);
}

/* All spans of a trace say the same, so that late ones are judged as the first were. */
static bool trace_is_wanted(unsigned trace)
{
    return trace % 3 == 0;
}

static void span_build(struct otlp_build *build, unsigned number)
{
    static const char text[] = "select the items of the cart, their prices and what is in stock of them, and lock what was found until it was paid or given "
                               "up; where one of them is gone the whole of it is undone, and who asked is told which it was and when there will be more";
    static const struct otlp_attribute attributes[] = {OTLP_TEXT("db.statement", text)};
    unsigned trace = number / SPANS_A_TRACE;

    otlp_span(build, &(struct otlp_span){.trace_id = otlp_trace_id(trace), .span_id = otlp_span_id(number), .name = "GET /cart",
        .start_unix_ns = 1 + number, .end_unix_ns = 2000 + number,
        .attributes = attributes, .attributes_count = 1, .status = trace_is_wanted(trace) ? 2 : 0});
}

/* Each span whose number is k modulo all requests: a trace's lie in neighbouring ones, which go to different workers. */
static struct feed_request *request_new(unsigned k)
{
    struct feed_request *request = calloc(1, sizeof(*request));
    char service[16];

    ASSERT(request != NULL);
    (void)snprintf(service, sizeof(service), "service-%u", k % 7);
    otlp_resource_spans(&request->build);
    otlp_resource(&request->build, 1, (struct otlp_attribute[]){OTLP_TEXT("service.name", service)});
    otlp_scope_spans(&request->build);
    for (unsigned i = 0; i < SPANS_A_REQUEST; i++)
        span_build(&request->build, k + i * REQUESTS);
    otlp_end(&request->build);
    otlp_end(&request->build);
    return request;
}

static void feed_begin(void)
{
    memset(&feed, 0, sizeof(feed));
    mailbox_init(&feed.desk.mailbox);
    for (unsigned k = 0; k < REQUESTS; k++)
        feed.requests[feed.ready++] = request_new(k);
}

static uint64_t live_bytes(struct node *node)
{
    struct journal_stats stats;

    journal_stats(node->sampler.journal, &stats);
    return stats.live_bytes;
}

/* Some more, to one node and worker after the other. */
static void feed_step(void)
{
    (void)mailbox_deliver(&feed.desk.mailbox, &feed.desk);
    if (live_bytes(&nodes[0]) + live_bytes(&nodes[1]) > LIVE_BYTES_MOST)
        return;
    for (unsigned i = 0; i < REQUESTS_A_STEP && feed.ready > 0 && feed.under_way < REQUESTS_AT_ONCE; i++) {
        struct feed_request *request = feed.requests[--feed.ready];
        unsigned to = feed.sent++;

        feed.under_way++;
        request->to = &nodes[to % NODES];
        request->mail.deliver = worker_on_request;
        worker_post(&request->to->homes[to / NODES % WORKERS].worker, &request->mail);
    }
}

/* -- the ring: what two control threads would agree on ------------------------------------------------------------------------- */

static struct world {
    uint32_t ring_no;
    uint64_t view_number;
    unsigned adopting; /* views on their way */
    enum { RING_ADOPT, RING_ADOPT_IN_STEP, RING_POLL, RING_SETTLED } stage;
    uint64_t next_ring_ns;
    unsigned rings_settled, rings_cut;
} world;

struct view_mail {
    struct mail mail;
    struct sampler_worker *home;
    struct view *view;
};

static void control_on_adopted(struct mail *mail, void *receiver)
{
    (void)receiver;
    world.adopting--;
    free(container_of(mail, struct view_mail, mail));
}

static void worker_on_view_mail(struct mail *mail, void *receiver)
{
    struct view_mail *news = container_of(mail, struct view_mail, mail);

    (void)receiver;
    worker_on_view(news->home, news->view);
    view_unref(news->view);
    news->mail.deliver = control_on_adopted;
    control_post(&news->home->sampler->control, &news->mail);
}

/* Who owns a slot: all to one, all to the other, and by halves of several kinds. */
static unsigned slot_owner(uint32_t ring_no, uint32_t slot)
{
    switch (ring_no % 5) {
    case 0:
        return 0;
    case 2:
        return 1;
    default:
        return (slot * 2654435761u >> (ring_no % 7 + 8)) & 1;
    }
}

static struct view *view_new(const struct node *node, bool in_step)
{
    struct view *view = calloc(1, sizeof(*view));

    ASSERT(view != NULL);
    atomic_init(&view->refs, 1);
    view->ring_no = world.ring_no;
    view->number = world.view_number;
    view->fingerprint = world.ring_no;
    view->in_step = in_step;
    view->all_reachable = true;
    view->self = (size_t)(node - nodes);
    view->member_count = NODES;
    view->members = calloc(NODES, sizeof(view->members[0]));
    view->members_of_ring = calloc(NODES, sizeof(view->members_of_ring[0]));
    view->ring = calloc(1, sizeof(*view->ring));
    ASSERT(view->members && view->members_of_ring && view->ring);
    atomic_init(&view->ring->refs, 1);
    for (unsigned i = 0; i < NODES; i++) {
        bool self = i == view->self;

        view->members[i] = (struct view_member){.name = strdup(nodes[i].name), .state = MEMBER_READY, .incarnation = 1,
            .reachable = !self, .room_bytes = 16 * MIB, .link = self ? NULL : &nodes[i].link};
        view->members_of_ring[i] = (uint16_t)i;
    }
    for (uint32_t slot = 0; slot < RING_SLOTS; slot++)
        view->ring->owner[slot] = (uint16_t)slot_owner(world.ring_no, slot);
    view->owned = slot_set_ref(node->owned);
    view->settled = slot_set_ref(node->settled);
    return view;
}

static void view_publish(struct node *node, bool in_step)
{
    struct view *view = view_new(node, in_step);

    atomic_store(&node->sampler.ring_no_out, world.ring_no); /* before any worker has it: T3 */
    for (unsigned i = 0; i < WORKERS; i++) {
        struct view_mail *news = calloc(1, sizeof(*news));

        ASSERT(news != NULL);
        *news = (struct view_mail){.mail.deliver = worker_on_view_mail, .home = &node->homes[i], .view = view_ref(view)};
        world.adopting++;
        worker_post(&node->homes[i].worker, &news->mail);
    }
    view_unref(view);
}

static void views_publish(bool in_step)
{
    world.view_number++;
    for (unsigned i = 0; i < NODES; i++)
        view_publish(&nodes[i], in_step);
}

/* What was settled here and stays here remains so; what came is not. */
static void slots_follow(struct node *node)
{
    struct slot_set *owned = slot_set_new(), *settled = slot_set_new();
    unsigned self = (unsigned)(node - nodes);

    ASSERT(owned && settled);
    for (uint32_t slot = 0; slot < RING_SLOTS; slot++) {
        if (slot_owner(world.ring_no, slot) != self)
            continue;
        slot_set_add(owned, slot);
        if (slot_set_has(node->settled, slot))
            slot_set_add(settled, slot);
    }
    slot_set_unref(node->owned);
    slot_set_unref(node->settled);
    node->owned = owned;
    node->settled = settled;
}

/* Now and then spans have to be spilled, and now and then their backend is away. */
static void weather(bool is_fair)
{
    for (unsigned i = 0; i < NODES; i++)
        budget_beside(&nodes[i].sampler.budget, &nodes[i].weight_bytes, !is_fair && (world.ring_no / 2 + i) % 2 ? WEIGHT_BYTES : 0);
    atomic_store(&backend.away, !is_fair && world.ring_no % 4 == 1);
}

static void ring_begin(void)
{
    world.ring_no++;
    world.stage = RING_ADOPT;
    weather(false);
    for (unsigned i = 0; i < NODES; i++) {
        slots_follow(&nodes[i]);
        nodes[i].clear = false;
    }
    views_publish(false);
    world.next_ring_ns = clock_now_ns() + (world.ring_no % 6 == 0 ? 0 : world.ring_no % 3 == 0 ? 5 : 40) * NS_PER_MS;
}

static void settle(struct node *node)
{
    slot_set_unref(node->settled);
    node->settled = slot_set_ref(node->owned);
}

/* C2: who holds nothing of the other's any more lets it settle. */
static void ring_poll(void)
{
    bool settled = true;

    for (unsigned i = 0; i < NODES; i++)
        if (hold_poll_under_way(&nodes[i].poll))
            return;
    for (unsigned i = 0; i < NODES; i++) {
        if (nodes[i].clear && nodes[1 - i].settled != nodes[1 - i].owned) {
            settle(&nodes[1 - i]);
            view_publish(&nodes[1 - i], true);
        }
        settled = settled && nodes[i].clear;
    }
    if (settled) {
        world.stage = RING_SETTLED;
        world.rings_settled++;
        return;
    }
    for (unsigned i = 0; i < NODES; i++)
        if (!nodes[i].clear)
            hold_poll_begin(&nodes[i].poll, NODES);
}

static bool polls_under_way(void)
{
    return hold_poll_under_way(&nodes[0].poll) || hold_poll_under_way(&nodes[1].poll);
}

/* moves: there is to be another ring when it is time. Every third may be cut short before its slots are settled. */
static void ring_step(bool moves)
{
    for (unsigned i = 0; i < NODES; i++)
        (void)mailbox_deliver(&nodes[i].sampler.control.mailbox, &nodes[i].sampler.control);
    if (world.adopting > 0)
        return;
    if (world.stage == RING_ADOPT || world.stage == RING_ADOPT_IN_STEP) {
        if (world.stage++ == RING_ADOPT)
            views_publish(true);
        return;
    }
    if (moves && clock_now_ns() >= world.next_ring_ns && !polls_under_way() && (world.stage == RING_SETTLED || world.ring_no % 3 == 0)) {
        world.rings_cut += world.stage != RING_SETTLED;
        ring_begin();
    } else if (world.stage == RING_POLL) {
        ring_poll();
    }
}

/* -- the test ------------------------------------------------------------------------------------------------------------------- */

static void step(bool moves)
{
    const struct timespec pause = {0, (long)STEP_NS};

    feed_step();
    ring_step(moves);
    (void)nanosleep(&pause, NULL);
}

static uint64_t node_books(struct node *node, uint64_t sum[BOOK_COUNT])
{
    uint64_t books[BOOK_COUNT];

    memset(sum, 0, BOOK_COUNT * sizeof(sum[0]));
    for (unsigned i = 0; i < WORKERS; i++) {
        sampler_books_read(&node->homes[i], books);
        for (unsigned k = 0; k < BOOK_COUNT; k++)
            sum[k] += books[k];
    }
    return sum[BOOK_HELD];
}

static bool all_done(void)
{
    uint64_t books[BOOK_COUNT];

    if (feed.settled < REQUESTS || world.stage != RING_SETTLED)
        return false;
    for (unsigned i = 0; i < NODES; i++)
        if (node_books(&nodes[i], books) > 0 || live_bytes(&nodes[i]) > 0)
            return false;
    return true;
}

static void give_up(const char *what)
{
    for (unsigned i = 0; i < NODES; i++) {
        uint64_t books[BOOK_COUNT];

        (void)node_books(&nodes[i], books);
        print_error("%s: live_bytes=%llu clear=%d books:", nodes[i].name, (unsigned long long)live_bytes(&nodes[i]), nodes[i].clear);
        for (unsigned k = 0; k < BOOK_COUNT; k++)
            print_error(" %llu", (unsigned long long)books[k]);
        print_error("\n");
    }
    fail_msg("%s: settled=%u of %u under_way=%u ring=%u stage=%d adopting=%u", what, feed.settled, REQUESTS, feed.under_way, world.ring_no,
        (int)world.stage, world.adopting);
}

/* As meson's own limit grows. */
static uint64_t time_limit_ns(void)
{
    const char *slowness = getenv("TAILRACE_TEST_SLOWNESS");
    uint64_t times = slowness ? strtoull(slowness, NULL, 10) : 1;

    return u64_max(times, 1) * TIME_LIMIT_NS;
}

static void drive(void)
{
    uint64_t until_ns = clock_now_ns() + time_limit_ns();

    while (!nodes[0].replayed || !nodes[1].replayed)
        ring_step(false);
    ring_begin();
    while (feed.settled < REQUESTS || world.ring_no < RINGS_LEAST) {
        if (clock_now_ns() > until_ns)
            give_up("not all is taken");
        step(true);
    }
    weather(true);
    while (!all_done()) {
        if (clock_now_ns() > until_ns)
            give_up("not all is done");
        step(false);
    }
}

static void stop(void)
{
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned k = 0; k < WORKERS; k++)
            worker_stop(&nodes[i].homes[k].worker);
    worker_stop(&backend.worker);
}

static void backend_judge(void)
{
    unsigned lost = 0, twice = 0, unwanted = 0;

    for (unsigned i = 0; i < SPANS; i++) {
        unsigned seen = atomic_load(&backend.seen[i]);

        lost += trace_is_wanted(i / SPANS_A_TRACE) && seen == 0;
        twice += seen > 1;
        unwanted += !trace_is_wanted(i / SPANS_A_TRACE) && seen > 0;
    }
    if (lost + twice + unwanted + backend.strangers > 0)
        fail_msg("at the backend: %u lost, %u twice, %u unwanted, %llu unknown", lost, twice, unwanted,
            (unsigned long long)backend.strangers);
}

static void books_judge(void)
{
    uint64_t sum[BOOK_COUNT] = {0}, reads = 0;

    for (unsigned i = 0; i < NODES; i++) {
        uint64_t books[BOOK_COUNT], out = 0;
        struct journal_stats stats;

        (void)node_books(&nodes[i], books);
        for (unsigned k = BOOK_EXPORTED; k < BOOK_COUNT; k++)
            out += books[k];
        assert_int_equal(books[BOOK_RECEIVED] + books[BOOK_RECOVERED] + books[BOOK_TAKEN_OVER], out);
        assert_int_equal(books[BOOK_RECOVERED], 0);
        assert_true(books[BOOK_TAKEN_OVER] > 0 && books[BOOK_HANDED_OVER] > 0); /* it moved, both ways */
        for (unsigned k = 0; k < BOOK_COUNT; k++)
            sum[k] += books[k];
        assert_true(metrics_sum(&nodes[i].sampler.metrics, METRIC_FORWARDED_SPANS) > 0);
        assert_int_equal(metrics_sum(&nodes[i].sampler.metrics, METRIC_TAKEN_OUT_OF_STEP), 0);
        journal_stats(nodes[i].sampler.journal, &stats);
        reads += stats.reads;
        assert_true(stats.recycled_segments > 0);
    }
    assert_int_equal(sum[BOOK_EXPORTED], atomic_load(&backend.received));
    assert_int_equal(sum[BOOK_DROPPED_SHUTDOWN] + sum[BOOK_DROPPED_TOO_LARGE] + sum[BOOK_DROPPED_EXPORT], 0);
    assert_true(sum[BOOK_DUPLICATE] > 0); /* answers were lost */
    assert_true(reads > 0);               /* spans were spilled */
}

static void slots_move_and_every_span_arrives_once(void **state)
{
    (void)state;
    assert_int_equal(metrics_init(&backend.metrics, 1), 0);
    assert_int_equal(worker_init(&backend.worker, 0, 1, &backend.metrics.cells[0]), 0);
    node_open(&nodes[0], "a");
    node_open(&nodes[1], "b");
    feed_begin();
    assert_int_equal(worker_start(&backend.worker), 0);
    node_start(&nodes[0]);
    node_start(&nodes[1]);
    drive();
    stop();
    backend_judge();
    books_judge();
    assert_true(world.rings_settled > 0 && world.rings_cut > 0);
    for (unsigned i = 0; i < 2 * NODES; i++) /* an answer goes back to who asked */
        homes_deliver(&nodes[i % NODES]);
    for (unsigned i = 0; i < NODES; i++)
        node_close(&nodes[i]);
    worker_deinit(&backend.worker);
    metrics_deinit(&backend.metrics);
}

static int group_setup(void **state)
{
    (void)state;
    policies_open();
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    policies_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(slots_move_and_every_span_arrives_once)};

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
