/* Pieces go in through member_link_put, the outbox coalesces them, the hook runs once a turn and flushes. Everything
 * the router needs to know from other workers is one relaxed load: the condition. */
#include "lb/route/member_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/cluster/ring.h"
#include "common/metrics/metrics.h"
#include "proto/peer.h"

#define SUSPECT_AT_LEAST_NS (500 * NS_PER_MS)
#define SUSPECT_ACK_TIMES 8
#define SUSPECT_CONFIRM_NS (100 * NS_PER_MS) /* seen slow for so long with the queue drained in between: not our own stall */
#define HELLO_TIMEOUT_NS (3 * NS_PER_S)
#define HELLO_AGAIN_NS (500 * NS_PER_MS)
#define HELLO_REFRESH_NS (2 * NS_PER_S)
#define PROBE_FIRST_NS (500 * NS_PER_MS)
#define PROBE_MOST_NS (4 * NS_PER_S)
#define PROBE_TIMEOUT_NS (1 * NS_PER_S)
#define CODE_UNIMPLEMENTED 12

static uint64_t member_link_run(struct turn_hook *hook, uint64_t now_ns);

static void condition_set(struct member_link *member, enum member_condition condition)
{
    enum member_condition before = member_link_condition(member);

    if (before == condition)
        return;
    atomic_store_explicit(&member->condition, (int)condition, memory_order_relaxed);
    if (condition == MEMBER_SUSPECT) {
        metric_add(member->worker->metrics, METRIC_MEMBER_SUSPECTED, 1);
        atomic_fetch_add_explicit(&member->gauges.suspected, 1, memory_order_relaxed);
        member->probe_wait_ns = PROBE_FIRST_NS;
        member->probe_at_ns = member->worker->now_ns + member->probe_wait_ns;
    }
    member->slow_since_ns = 0;
    member->events.condition(member->events.context, member->index, condition);
}

/* -- Hello ---------------------------------------------------------------------------------------------- */

static void copy_text(char *out, size_t size, const char *text)
{
    (void)snprintf(out, size, "%s", text ? text : "");
}

/* Asked when it has connected, and of one that hands over again and again; a suspect has the probe. */
static bool hello_due(const struct member_link *member)
{
    if (member->link->state != LINK_UP || member->hello_under_way)
        return false;
    return !member->hello_done || member->hello_again || (member->hands_over && member_link_condition(member) == MEMBER_UP);
}

static bool state_is_draining(unsigned state)
{
    return state == TAILRACE__V1__STATE__STATE_DRAINING || state == TAILRACE__V1__STATE__STATE_LEFT;
}

static void member_told(struct member_link *member, const struct hello_answer *answer)
{
    bool news = !member->hello_done || memcmp(answer, &member->told, sizeof(*answer)) != 0;

    member->told = *answer;
    atomic_store_explicit(&member->steady, answer->state == TAILRACE__V1__STATE__STATE_READY, memory_order_relaxed);
    atomic_store_explicit(&member->draining, state_is_draining(answer->state), memory_order_relaxed);
    if (news)
        member->events.hello(member->events.context, member->index, answer);
}

/* An answer of whatever kind said it: as good as a Hello, and sooner. It is asked all the same, for the answer may be another
 * process's, of before that address was taken by this one. */
static void member_drains(struct member_link *member)
{
    struct hello_answer answer;

    if (member->closed || !member->told.spoke || state_is_draining(member->told.state))
        return;
    memcpy(&answer, &member->told, sizeof(answer)); /* compared as bytes */
    answer.state = TAILRACE__V1__STATE__STATE_DRAINING;
    member->hello_stale = member->hello_under_way;
    member->hello_again = true;
    member->hello_at_ns = member->worker->now_ns;
    member_told(member, &answer);
}

static void hello_on_done(struct link_call *call, const struct link_result *result)
{
    struct member_link *member = container_of(call, struct member_link, hello_call);
    struct hello_answer answer;
    Tailrace__V1__Status *status;
    bool stale = member->hello_stale;

    memset(&answer, 0, sizeof(answer)); /* compared as bytes */
    answer.state = TAILRACE__V1__STATE__STATE_READY;
    member->hello_under_way = member->hello_stale = false;
    if (member->closed)
        return;
    if (stale && !result->draining) {
        member->hello_at_ns = member->worker->now_ns; /* it was perhaps answered before: asked again */
        return;
    }
    if (result->code == CODE_UNIMPLEMENTED) {
        answer.hash_version = RING_HASH_VERSION; /* it has no name of its own: the book finds one */
    } else if (result->code != 0) {
        member->hello_at_ns = member->worker->now_ns + HELLO_AGAIN_NS;
        return;
    } else {
        status = tailrace__v1__status__unpack(NULL, result->response.len, result->response.at);
        if (!status || !status->name || status->name[0] == '\0') {
            if (status)
                tailrace__v1__status__free_unpacked(status, NULL);
            member->hello_at_ns = member->worker->now_ns + HELLO_AGAIN_NS;
            return;
        }
        answer.spoke = true;
        answer.hash_version = status->hash_version;
        answer.state = (unsigned)status->state;
        if (result->draining && !state_is_draining(answer.state))
            answer.state = TAILRACE__V1__STATE__STATE_DRAINING;
        answer.hands_over = status->hands_over != 0;
        copy_text(answer.name, sizeof(answer.name), status->name);
        copy_text(answer.cluster, sizeof(answer.cluster), status->cluster);
        copy_text(answer.software, sizeof(answer.software), status->software);
        tailrace__v1__status__free_unpacked(status, NULL);
    }
    member->hands_over = answer.hands_over;
    if (answer.hands_over)
        member->hello_at_ns = member->worker->now_ns + HELLO_REFRESH_NS;
    member_told(member, &answer);
    member->hello_done = true;
    member->hello_again = false;
}

static void hello_send(struct member_link *member, uint64_t now_ns)
{
    Tailrace__V1__Status status;
    char software[] = "tailrace-lb " TAILRACE_VERSION;
    struct buffer *bytes;
    struct link_message message;

    tailrace__v1__status__init(&status);
    status.hash_version = RING_HASH_VERSION;
    status.software = software;
    bytes = buffer_new(tailrace__v1__status__get_packed_size(&status));
    if (!bytes) {
        member->hello_at_ns = now_ns + HELLO_AGAIN_NS;
        return;
    }
    bytes->len = tailrace__v1__status__pack(&status, bytes->bytes);
    message = (struct link_message){.method = "/tailrace.v1.Peer/Hello", .pieces = &bytes, .piece_count = 1,
        .deadline_ns = now_ns + HELLO_TIMEOUT_NS};
    member->hello_under_way = true;
    member->hello_at_ns = UINT64_MAX;
    member->hello_call.done = hello_on_done;
    link_send(member->link, &message, &member->hello_call);
    buffer_unref(bytes);
}

/* -- suspicion ------------------------------------------------------------------------------------------ */

static void probe_on_done(struct link_call *call, const struct link_result *result)
{
    struct member_link *member = container_of(call, struct member_link, probe_call);

    member->probe_under_way = false;
    if (result->draining)
        member_drains(member);
    if (member->closed || member_link_condition(member) != MEMBER_SUSPECT)
        return;
    if (result->code == 0) {
        condition_set(member, MEMBER_UP);
        return;
    }
    member->probe_wait_ns = u64_min(member->probe_wait_ns * 2, PROBE_MOST_NS);
    member->probe_at_ns = member->worker->now_ns + member->probe_wait_ns;
}

static void probe_send(struct member_link *member, uint64_t now_ns)
{
    struct link_message message = {.method = LINK_EXPORT, .deadline_ns = now_ns + PROBE_TIMEOUT_NS};

    member->probe_under_way = true;
    member->probe_at_ns = UINT64_MAX;
    member->probe_call.done = probe_on_done;
    link_send(member->link, &message, &member->probe_call);
}

static uint64_t suspicion_run(struct member_link *member, uint64_t now_ns)
{
    uint64_t oldest_ns = outbox_oldest_ns(&member->outbox);
    uint64_t limit_ns = u64_max(SUSPECT_AT_LEAST_NS, SUSPECT_ACK_TIMES * member->outbox.ack_smoothed_ns);

    if (member_link_condition(member) != MEMBER_UP || oldest_ns == 0 || !member->hands_over) {
        member->slow_since_ns = 0;
        return UINT64_MAX;
    }
    if (u64_sub_floor(now_ns, oldest_ns) <= limit_ns) {
        member->slow_since_ns = 0;
        return oldest_ns + limit_ns + 1;
    }
    if (member->slow_since_ns == 0)
        member->slow_since_ns = now_ns;
    if (now_ns - member->slow_since_ns >= SUSPECT_CONFIRM_NS) {
        condition_set(member, MEMBER_SUSPECT);
        outbox_recall(&member->outbox);
        return member->probe_at_ns;
    }
    return member->slow_since_ns + SUSPECT_CONFIRM_NS;
}

/* -- pieces: through to the router, with an eye on timeouts and on what else answers say ----------------------- */

/* Before the router, and so the client, is told: what is sent from then on goes elsewhere. */
static void answer_look(struct member_link *member)
{
    if (LIKELY(!member->outbox.draining_said))
        return;
    member->outbox.draining_said = false;
    member_drains(member);
}

static void piece_delivered(void *context, struct piece *piece, uint32_t rejected_count)
{
    struct member_link *member = context;

    answer_look(member);
    member->pieces.delivered(member->pieces.context, piece, rejected_count);
}

static void piece_failed(void *context, struct piece *piece, const struct link_result *result)
{
    struct member_link *member = context;

    answer_look(member);
    /* DEADLINE_EXCEEDED of a call that was sent: the member did not answer within `timeout`. */
    if (result->code == 4 && piece->first_sent_ns > 0 && member_link_condition(member) == MEMBER_UP)
        condition_set(member, MEMBER_SUSPECT);
    member->pieces.failed(member->pieces.context, piece, result);
}

void member_link_put(struct member_link *member, struct piece *piece, uint64_t now_ns)
{
    outbox_put(&member->outbox, piece, now_ns);
}

/* -- the connection ------------------------------------------------------------------------------------------ */

static void link_on_state(struct link *link, void *context, enum link_state state)
{
    struct member_link *member = context;

    (void)link;
    if (member->closed)
        return;
    switch (state) {
    case LINK_UP:
        member->was_up = true;
        condition_set(member, MEMBER_UP);
        member->hello_done = false; /* it may be another one now */
        member->hello_at_ns = member->worker->now_ns;
        break;
    case LINK_CONNECTING:
        break; /* what is queued waits a moment */
    case LINK_DOWN:
        if (!member->was_up && !member->told_down) /* down from the start: no change of condition tells of it */
            member->events.condition(member->events.context, member->index, MEMBER_DOWN);
        member->told_down = true;
        condition_set(member, MEMBER_DOWN);
        break;
    }
}

/* Its last turns: Hello and probe, which nobody waits for, end; then the worker forgets it. */
static uint64_t retire_run(struct member_link *member)
{
    if (member->hello_under_way || member->probe_under_way)
        return UINT64_MAX; /* their end is an event */
    ASSERT(member->outbox.calls_in_flight == 0);
    list_del(&member->hook.node);
    link_free(member->link);
    member->closed = true;
    member->events.closed(member->events.context, member->index); /* it may be freed now */
    return UINT64_MAX;
}

static uint64_t member_link_run(struct turn_hook *hook, uint64_t now_ns)
{
    struct member_link *member = container_of(hook, struct member_link, hook);
    struct outbox *outbox = &member->outbox;
    uint64_t next_ns;

    if (member->retired)
        return retire_run(member);
    if (hello_due(member) && now_ns >= member->hello_at_ns)
        hello_send(member, now_ns);
    if (member_link_condition(member) == MEMBER_SUSPECT) {
        if (!member->probe_under_way && now_ns >= member->probe_at_ns)
            probe_send(member, now_ns);
        outbox_recall(outbox); /* what a timeout left behind, and what was planned before others saw the suspicion */
    }
    if (member->leaving)
        outbox_recall(outbox); /* also what was planned before its worker saw the new ring */
    next_ns = outbox_run(outbox, now_ns);
    next_ns = u64_min(next_ns, suspicion_run(member, now_ns));
    if (member_link_condition(member) == MEMBER_SUSPECT && !member->probe_under_way)
        next_ns = u64_min(next_ns, member->probe_at_ns);
    if (hello_due(member))
        next_ns = u64_min(next_ns, member->hello_at_ns);

    metric_add(member->worker->metrics, METRIC_MEMBER_CALLS, outbox->calls_total - member->calls_seen);
    metric_add(member->worker->metrics, METRIC_MEMBER_CALL_FAILURES, outbox->failures_total - member->failures_seen);
    member->calls_seen = outbox->calls_total;
    member->failures_seen = outbox->failures_total;
    atomic_store_explicit(&member->gauges.ack_ns, outbox->ack_smoothed_ns, memory_order_relaxed);
    atomic_store_explicit(&member->gauges.calls, outbox->calls_total, memory_order_relaxed);
    atomic_store_explicit(&member->gauges.failures, outbox->failures_total, memory_order_relaxed);
    atomic_store_explicit(&member->gauges.spans, outbox->spans_total, memory_order_relaxed);
    atomic_store_explicit(&member->gauges.bytes, outbox->bytes_total, memory_order_relaxed);
    atomic_store_explicit(&member->gauges.in_flight, outbox->calls_in_flight, memory_order_relaxed);
    return next_ns;
}

void member_link_init(struct member_link *member, unsigned index, const char *address, struct worker *worker,
    const struct member_link_events *events, const struct outbox_owner *pieces, uint64_t outbox_bytes, uint64_t timeout_ns)
{
    const struct outbox_owner owner = {member, piece_delivered, piece_failed};

    memset(member, 0, sizeof(*member));
    member->index = index;
    (void)snprintf(member->address, sizeof(member->address), "%s", address);
    member->worker = worker;
    member->events = *events;
    member->pieces = *pieces;
    member->hello_at_ns = UINT64_MAX;
    member->hook.run = member_link_run;
    atomic_init(&member->condition, MEMBER_DOWN);
    atomic_init(&member->sets, 0);
    atomic_init(&member->steady, true);
    atomic_init(&member->draining, false);
    outbox_init(&member->outbox, NULL, &owner, outbox_bytes, timeout_ns);
}

void member_link_adopt(struct member_link *member, struct link *link)
{
    link->on_state = link_on_state;
    link->context = member;
    member->link = link;
    member->outbox.link = link;
    worker_hook(member->worker, &member->hook);
}

static void member_link_on_open(struct mail *mail, void *receiver)
{
    struct member_link *member = container_of(mail, struct member_link, open_mail);
    struct link_options options = {.tls = NULL};
    struct link *link;

    (void)receiver;
    if (member->options)
        options = *member->options;
    options.address = member->address;
    options.internal = true;
    ASSERT(link_grpc_new(member->worker, &options, link_on_state, member, &link) == 0);
    member_link_adopt(member, link);
}

void member_link_open(struct member_link *member)
{
    member->open_mail.deliver = member_link_on_open;
    worker_post(member->worker, &member->open_mail);
}

enum link_news { NEWS_LEAVE, NEWS_STAY, NEWS_RETIRE };

struct life_mail {
    struct mail mail;
    struct member_link *member;
    enum link_news what;
};

static void member_link_on_life(struct mail *mail, void *receiver)
{
    struct life_mail *news = container_of(mail, struct life_mail, mail);
    struct member_link *member = news->member;

    (void)receiver;
    member->leaving = news->what != NEWS_STAY;
    if (news->what == NEWS_RETIRE) {
        ASSERT(!member->retired);
        member->retired = true;
        if (member->hello_under_way)
            link_cancel(member->link, &member->hello_call);
        if (member->probe_under_way)
            link_cancel(member->link, &member->probe_call);
    }
    free(news); /* the rest is the hook's, in this same turn */
}

static void life_post(struct member_link *member, enum link_news what)
{
    struct life_mail *news = calloc(1, sizeof(*news));

    ASSERT(news != NULL);
    news->mail.deliver = member_link_on_life;
    news->member = member;
    news->what = what;
    worker_post(member->worker, &news->mail);
}

void member_link_leave(struct member_link *member, bool leaving)
{
    life_post(member, leaving ? NEWS_LEAVE : NEWS_STAY);
}

void member_link_retire(struct member_link *member)
{
    life_post(member, NEWS_RETIRE);
}

static void member_link_on_cancel(struct mail *mail, void *receiver)
{
    struct member_link *member = container_of(mail, struct member_link, cancel_mail);

    (void)receiver;
    outbox_recall(&member->outbox);
    outbox_cancel(&member->outbox);
}

void member_link_cancel(struct member_link *member)
{
    member->cancel_mail.deliver = member_link_on_cancel;
    worker_post(member->worker, &member->cancel_mail);
}

void member_link_close(struct member_link *member)
{
    if (member->closed)
        return;
    member->closed = true;
    if (!member->link)
        return;
    if (member->hello_under_way)
        link_cancel(member->link, &member->hello_call);
    if (member->probe_under_way)
        link_cancel(member->link, &member->probe_call);
    link_free(member->link);
}

void member_link_deinit(struct member_link *member)
{
    outbox_deinit(&member->outbox);
}
