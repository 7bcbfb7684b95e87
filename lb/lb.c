/* The front tier on one screen: lb_on_request is the way of a request, piece_delivered and piece_on_failed the way back.
 *
 * Threads. A request, its plan and its answer belong to the worker that received it. A member's outbox belongs to one
 * worker; pieces travel there and back as mail when it is another one. Membership is the control thread's: it makes the ring and
 * publishes it to the workers as a snapshot.
 */
#include "lb/lb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/base/plant.h"
#include "common/cluster/member.h"
#include "common/cluster/resolver_new.h"
#include "common/export/rpc_code.h"
#include "common/ingest/listeners.h"
#include "common/metrics/admin_http.h"
#include "common/run/cgroup.h"
#include "common/run/clock.h"
#include "common/run/control.h"
#include "common/run/grpc_pump.h"
#include "common/security/security.h"
#include "common/run/http_loop.h"
#include "common/run/program.h"
#include "lb/route/link_table.h"
#include "lb/route/router.h"
#include "proto/peer.h"

#define CLIENT_DEADLINE_NS (10 * NS_PER_S)  /* when the client has set none */
#define ATTEMPTS_MAX 5                      /* of one piece, the first included */
#define ATTEMPT_WAIT_NS (100 * NS_PER_MS)   /* before the third attempt and on, times attempts made */
#define RETRY_RATIO 0.1                     /* retries may be a tenth of the traffic … */
#define RETRY_BURST 2000.0                  /* … beyond what a member held when it was lost */
#define TEND_PERIOD_NS (100 * NS_PER_MS)    /* rings are recomputed at most so often */
#define EXPLAIN_TIMEOUT_NS (2 * NS_PER_S)
#define FAILURE_LOG_PERIOD_NS (60 * NS_PER_S)

struct lb_worker {
    struct lb *lb;
    struct worker worker;
    struct router router;
    struct retry_budget budget;
    struct list waiting; /* failed pieces until their next attempt */
    struct list free_requests;
    struct turn_hook hook;
};

/* A request until all its pieces are settled. */
struct lb_request {
    struct list node;
    struct request *request;
    const struct transport *transport; /* its counters */
    struct lb_worker *home;
    uint32_t pending;      /* pieces */
    uint32_t span_count;   /* in pieces */
    uint32_t rejected_here, rejected_by_members;
    uint64_t deadline_ns;
    bool failed;
    enum refusal refusal;
    struct answer_status failure;
    char message[160];
};

struct lb_piece {
    struct piece piece;
    struct lb_request *request;
    struct member_link *link; /* whom it was put to last; may be gone once that link gave it back */
    struct mail mail;         /* to the link's worker, and home again */
    uint64_t again_at_ns;
    uint32_t rejected_count;
    int code;
    bool has_retry;
    uint64_t retry_ns;
    char message[120];
};

/* Who is asked for members, and all that this borrows from. */
struct lb_lookup {
    struct resolver_plan plan;
    struct resolver_config resolver, fallback;
    struct dns_config dns;
    struct k8s_config kubernetes;
    struct config_context *context; /* whose memory that is; NULL: the start's */
};

struct lb {
    struct lb_config config; /* but for the resolver's part as it was started, with what a reload changed since */
    struct config_reload *reload; /* NULL: there is no file to read again */
    struct config_context *context; /* of the configuration in force; NULL: the start's */
    struct control control;
    struct metrics metrics;
    struct cgroup_limits limits;
    unsigned worker_count;
    struct lb_worker *workers;
    struct http_loop *loops[HTTP_LOOPS_MAX];
    unsigned loop_count;
    struct listeners *listeners;
    struct admin *admin;
    struct control_timer *tend_timer;
    struct security *security;
    struct link_options member_options; /* how samplers are connected to */
    /* membership: control thread */
    struct lb_lookup *lookup;
    struct resolver *resolver;
    struct member_book book;
    struct link_table links;
    struct member_set *set;
    atomic_uint workers_with_set; /* one without refuses all spans */
    bool book_changed;
    uint64_t resolved_ns; /* the last good answer; 0: none yet */
    bool resolve_failing; /* the last look-up failed, at least in part */
    bool nobody_ready;    /* of those that it found last: it stays a failure while they stay as they are */
    uint64_t failure_said_ns, failures_unsaid;
    uint64_t started_unix_ns, drain_began_ns;
    bool draining;
    atomic_bool cut_short; /* the drain is over: nothing is sent again */
    struct mail drained_mail;
};

static const char *state_text(unsigned state)
{
    static const char *const names[] = {"unspecified", "joining", "ready", "draining", "left"};

    return state < ARRAY_COUNT(names) ? names[state] : "unknown";
}

/* By resolver: its name is a label. */
struct resolver_metrics {
    const char *name;
    enum metric_id members, updates, ok, failed;
};

static const struct resolver_metrics *resolver_metrics(const struct lb *lb)
{
    static const struct resolver_metrics all[] = {
        {"static", METRIC_MEMBERS, METRIC_MEMBER_UPDATES, METRIC_RESOLUTIONS_OK, METRIC_RESOLUTIONS_FAILED},
        {"dns", METRIC_MEMBERS_DNS, METRIC_MEMBER_UPDATES_DNS, METRIC_RESOLUTIONS_DNS_OK, METRIC_RESOLUTIONS_DNS_FAILED},
        {"k8s", METRIC_MEMBERS_K8S, METRIC_MEMBER_UPDATES_K8S, METRIC_RESOLUTIONS_K8S_OK, METRIC_RESOLUTIONS_K8S_FAILED},
    };
    size_t at = 0;

    while (strcmp(lb->lookup->resolver.name, all[at].name) != 0)
        at++;
    return &all[at];
}

static struct metrics_cell *control_cell(struct lb *lb)
{
    return &lb->metrics.cells[lb->worker_count];
}

/* -- answers ------------------------------------------------------------------------------------------- */

static struct lb_request *lb_request_new(struct lb_worker *home, struct request *request)
{
    struct list *node = list_take_first(&home->free_requests);
    struct lb_request *r = node ? container_of(node, struct lb_request, node) : malloc(sizeof(*r));

    ASSERT(r != NULL);
    memset(r, 0, sizeof(*r));
    r->home = home;
    r->request = request;
    r->transport = request->transport;
    return r;
}

static void lb_request_answer(struct lb_request *r)
{
    struct lb_worker *home = r->home;
    struct metrics_cell *cell = home->worker.metrics;
    uint32_t rejected = r->rejected_here + r->rejected_by_members;

    if (r->failed) {
        metric_add(cell, r->transport->refused_spans, r->span_count);
        if (r->request)
            request_refuse(r->request, r->refusal, r->failure);
    } else {
        metric_add(cell, r->transport->accepted_spans, r->span_count - r->rejected_by_members);
        metric_add(cell, METRIC_REJECTED_BY_MEMBER, r->rejected_by_members);
        if (r->request)
            request_settle_count(r->request, rejected, "spans without a valid trace ID or span ID, or malformed inside");
    }
    list_add_head(&home->free_requests, &r->node);
}

static void lb_request_fail(struct lb_request *r, enum refusal refusal, struct answer_status status)
{
    /* Of several failures the one without a way out wins: retrying would not help the client. */
    if (r->failed && r->failure.retry_ns > 0 && status.retry_ns > 0)
        return;
    if (r->failed && r->failure.retry_ns == 0)
        return;
    r->failed = true;
    r->refusal = refusal;
    r->failure = status;
    (void)snprintf(r->message, sizeof(r->message), "%s", status.message);
    r->failure.message = r->message;
}

static void piece_free(struct lb_piece *piece)
{
    buffer_unref(piece->piece.bytes);
    metadata_set_unref(piece->piece.metadata);
    free(piece);
}

static void piece_settled(struct lb_piece *piece)
{
    struct lb_request *r = piece->request;

    piece_free(piece);
    if (--r->pending == 0)
        lb_request_answer(r);
}

/* -- out: pieces into outboxes ------------------------------------------------------------------------------- */

static void piece_on_put(struct mail *mail, void *receiver)
{
    struct lb_piece *piece = container_of(mail, struct lb_piece, mail);
    struct worker *worker = receiver;

    member_link_put(piece->link, &piece->piece, worker->now_ns);
}

static void piece_put(struct lb_worker *home, struct lb_piece *piece, struct member_link *link)
{
    piece->link = link;
    if (link->worker == &home->worker) {
        member_link_put(link, &piece->piece, home->worker.now_ns);
    } else {
        piece->mail.deliver = piece_on_put;
        worker_post(link->worker, &piece->mail);
    }
}

/* Room in every outbox, or none taken. */
static bool plan_reserve(struct router *router)
{
    for (size_t i = 0; i < router->part_count; i++) {
        struct plan_part *part = &router->parts[i];

        if (outbox_reserve(&part->link->outbox, part->size))
            continue;
        while (i-- > 0)
            outbox_unreserve(&router->parts[i].link->outbox, router->parts[i].size);
        return false;
    }
    return true;
}

/* Copies each part once, into the message that goes to its member. */
static void plan_commit(struct lb_worker *home, struct lb_request *r, const struct metadata_set *metadata, unsigned attempts)
{
    struct router *router = &home->router;

    r->pending += (uint32_t)router->part_count;
    for (size_t i = 0; i < router->part_count; i++) {
        struct plan_part *part = &router->parts[i];
        struct lb_piece *piece = calloc(1, sizeof(*piece));

        ASSERT(piece != NULL);
        piece->request = r;
        piece->piece.bytes = buffer_new(part->size);
        ASSERT(piece->piece.bytes != NULL);
        (void)regroup_write(part->regroup, piece->piece.bytes->bytes);
        piece->piece.bytes->len = part->size;
        piece->piece.metadata = metadata_set_ref(metadata);
        piece->piece.span_count = part->span_count;
        piece->piece.deadline_ns = r->deadline_ns;
        piece->piece.attempts = attempts;
        retry_budget_earn(&home->budget);
        piece_put(home, piece, part->link);
    }
    metric_add(home->worker.metrics, METRIC_FALLBACK_SPANS, router->fallback_count);
}

/* -- one request through the front tier; runs on the worker that received it ------------------------------------- */

static void refuse(struct request *request, enum refusal refusal)
{
    request_refuse(request, refusal, refusal_status(refusal));
}

static void count_rejected(struct lb_worker *home)
{
    struct metrics_cell *cell = home->worker.metrics;

    if (home->router.rejected_count == 0)
        return;
    metric_add(cell, METRIC_REJECTED_NO_TRACE_ID, home->router.fault_counts[SPAN_NO_TRACE_ID]);
    metric_add(cell, METRIC_REJECTED_NO_SPAN_ID, home->router.fault_counts[SPAN_NO_SPAN_ID]);
    metric_add(cell, METRIC_REJECTED_MALFORMED, home->router.fault_counts[SPAN_MALFORMED]);
}

static void lb_on_request(void *tier, struct request *request)
{
    struct lb *lb = tier;
    struct lb_worker *home = &lb->workers[request->worker->index];
    struct router *router = &home->router;
    struct lb_request *r;

    switch (router_plan(router, request->bytes, NULL)) { /* lb/route: walk once, a member a span */
    case PLAN_OK:
        break;
    case PLAN_MALFORMED:
        refuse(request, REFUSED_MALFORMED);
        return;
    case PLAN_NO_MEMBER:
        metric_add(home->worker.metrics, request->transport->refused_spans, router->span_count);
        refuse(request, REFUSED_NO_MEMBER);
        return;
    }
    if (!plan_reserve(router)) { /* room in every outbox, or none taken */
        metric_add(home->worker.metrics, request->transport->refused_spans, router->span_count);
        refuse(request, REFUSED_OUTBOX_FULL);
        return;
    }
    r = lb_request_new(home, request);
    r->deadline_ns = u64_min(request->deadline_ns, request->received_ns + CLIENT_DEADLINE_NS);
    r->rejected_here = (uint32_t)router->rejected_count;
    count_rejected(home);
    r->span_count = router->span_count;
    metric_add(home->worker.metrics, METRIC_ROUTED_SPANS, r->span_count);
    r->pending = 1;
    plan_commit(home, r, request->metadata, 0); /* common/export: copied, on their way */
    if (planted(PLANT_ACKNOWLEDGE_BEFORE_DELIVERY)) {
        request_settle_count(request, r->rejected_here, "rejected");
        r->request = NULL;
    }
    if (--r->pending == 0) /* no spans at all: answered at once; else when every member has answered */
        lb_request_answer(r);
}

/* -- the way back ------------------------------------------------------------------------------------------- */

/* Where a failed piece may go. Source: OTLP "Failures". */
enum failure_way { WAY_CLIENT, WAY_ELSEWHERE };

static enum failure_way failure_way_of(int code, bool has_retry)
{
    if (code == RPC_RESOURCE_EXHAUSTED || (code == RPC_UNAVAILABLE && has_retry))
        return planted(PLANT_FALLBACK_ON_OVERLOAD) ? WAY_ELSEWHERE : WAY_CLIENT; /* overload must not travel round the ring */
    return retry_is_retryable(code, has_retry) ? WAY_ELSEWHERE : WAY_CLIENT;
}

static void piece_give_up(struct lb_worker *home, struct lb_piece *piece)
{
    struct answer_status status = refusal_status(REFUSED_DELIVERY);
    struct answer_status theirs = {piece->code, piece->has_retry ? u64_max(piece->retry_ns, 1) : 0, piece->message};

    metric_add(home->worker.metrics, METRIC_FAILED_PIECES, 1);
    lb_request_fail(piece->request, REFUSED_DELIVERY,
        failure_way_of(piece->code, piece->has_retry) == WAY_CLIENT ? theirs : status);
    piece_settled(piece);
}

/* Plans a failed piece anew: its slots may have different fallbacks, so it may become several. */
static void piece_again(struct lb_worker *home, struct lb_piece *piece)
{
    struct router *router = &home->router;
    uint64_t now_ns = home->worker.now_ns;
    unsigned attempts = piece->piece.attempts;

    if (now_ns >= piece->piece.deadline_ns) {
        piece_give_up(home, piece);
        return;
    }
    if (router_plan(router, buffer_slice(piece->piece.bytes), piece->link) != PLAN_OK &&
        router_plan(router, buffer_slice(piece->piece.bytes), NULL) != PLAN_OK) {
        piece_give_up(home, piece);
        return;
    }
    if (!plan_reserve(router)) {
        lb_request_fail(piece->request, REFUSED_OUTBOX_FULL, refusal_status(REFUSED_OUTBOX_FULL));
        piece_settled(piece);
        return;
    }
    metric_add(home->worker.metrics, METRIC_RETRIED_PIECES, 1);
    plan_commit(home, piece->request, piece->piece.metadata, attempts);
    piece_settled(piece);
}

static void piece_on_failed(struct mail *mail, void *receiver)
{
    struct lb_piece *piece = container_of(mail, struct lb_piece, mail);
    struct lb_worker *home = piece->request->home;

    (void)receiver;
    if (failure_way_of(piece->code, piece->has_retry) == WAY_CLIENT && piece->piece.joined && !piece->has_retry) {
        /* Refused for good together with other clients' pieces: alone it may be taken, and no client pays for another. */
        piece->piece.alone = true;
        if (member_set_names(home->router.set, piece->link) && outbox_reserve(&piece->link->outbox, piece->piece.bytes->len)) {
            metric_add(home->worker.metrics, METRIC_RETRIED_PIECES, 1);
            piece_put(home, piece, piece->link);
            return;
        }
    }
    if (failure_way_of(piece->code, piece->has_retry) == WAY_CLIENT || piece->piece.attempts >= ATTEMPTS_MAX ||
        atomic_load_explicit(&home->lb->cut_short, memory_order_relaxed)) {
        piece_give_up(home, piece);
        return;
    }
    /* What was never sent adds nothing to anybody's load: a member that leaves gives back all it has queued. */
    if (piece->piece.first_sent_ns > 0 && !retry_budget_spend(&home->budget)) {
        metric_add(home->worker.metrics, METRIC_RETRY_BUDGET_EMPTY, 1);
        piece_give_up(home, piece);
        return;
    }
    if (piece->piece.attempts < 2) { /* the first failure: elsewhere at once */
        piece_again(home, piece);
        return;
    }
    piece->again_at_ns = home->worker.now_ns + piece->piece.attempts * ATTEMPT_WAIT_NS;
    list_add_tail(&home->waiting, &piece->piece.node);
}

static void piece_on_delivered(struct mail *mail, void *receiver)
{
    struct lb_piece *piece = container_of(mail, struct lb_piece, mail);
    struct metrics_cell *cell = piece->request->home->worker.metrics;

    (void)receiver;
    metric_add(cell, METRIC_DELIVERED_SPANS, piece->piece.span_count - piece->rejected_count);
    piece->request->rejected_by_members += piece->rejected_count;
    piece_settled(piece);
}

/* From the outbox, on the link's worker. */
static void outbox_delivered(void *context, struct piece *base, uint32_t rejected_count)
{
    struct lb_piece *piece = container_of(base, struct lb_piece, piece);
    struct worker *home = &piece->request->home->worker;

    (void)context;
    piece->rejected_count = rejected_count;
    if (piece->link->worker == home) {
        piece_on_delivered(&piece->mail, home);
    } else {
        piece->mail.deliver = piece_on_delivered;
        worker_post(home, &piece->mail);
    }
}

static void outbox_failed(void *context, struct piece *base, const struct link_result *result)
{
    struct lb_piece *piece = container_of(base, struct lb_piece, piece);

    (void)context;
    if (piece->piece.first_sent_ns == 0)
        piece->piece.attempts++; /* never sent counts too: a loop must end */
    piece->code = result->code;
    piece->has_retry = result->has_retry;
    piece->retry_ns = result->retry_ns;
    (void)snprintf(piece->message, sizeof(piece->message), "%.*s", (int)size_min(result->message.len, sizeof(piece->message) - 1),
        result->message.len ? (const char *)result->message.at : "");
    /* Always as mail, so that the router never runs inside an outbox's turn. */
    piece->mail.deliver = piece_on_failed;
    worker_post(&piece->request->home->worker, &piece->mail);
}

static uint64_t lb_worker_run(struct turn_hook *hook, uint64_t now_ns)
{
    struct lb_worker *home = container_of(hook, struct lb_worker, hook);
    uint64_t next_ns = UINT64_MAX;

    LIST_FOR_EACH_SAFE(node, following, &home->waiting) {
        struct lb_piece *piece = container_of(node, struct lb_piece, piece.node);

        if (now_ns < piece->again_at_ns && !atomic_load_explicit(&home->lb->cut_short, memory_order_relaxed)) {
            next_ns = u64_min(next_ns, piece->again_at_ns);
            continue;
        }
        list_del(node);
        if (atomic_load_explicit(&home->lb->cut_short, memory_order_relaxed))
            piece_give_up(home, piece);
        else
            piece_again(home, piece);
    }
    return next_ns;
}

/* -- membership: control thread --------------------------------------------------------------------------------- */

struct set_mail {
    struct mail mail;
    struct member_set *set;
};

static void worker_on_set(struct mail *mail, void *receiver)
{
    struct set_mail *news = container_of(mail, struct set_mail, mail);
    struct worker *worker = receiver;
    struct lb_worker *home = container_of(worker, struct lb_worker, worker);

    if (!home->router.set)
        atomic_fetch_add(&home->lb->workers_with_set, 1);
    router_adopt(&home->router, news->set);
    for (uint32_t i = 0; i < news->set->ring->member_count; i++) {
        for (unsigned k = 0; k < news->set->members[i].link_count; k++) {
            struct member_link *link = news->set->members[i].links[k];

            if (link->worker == worker)
                link->outbox.ring = news->set->ring->fingerprint;
        }
    }
    free(news);
}

static void lb_publish(struct lb *lb, struct member_set *set)
{
    for (unsigned i = 0; i < lb->worker_count; i++) {
        struct set_mail *news = calloc(1, sizeof(*news));

        ASSERT(news != NULL);
        news->mail.deliver = worker_on_set;
        news->set = member_set_ref(set);
        worker_post(&lb->workers[i].worker, &news->mail);
    }
    member_set_unref(lb->set);
    lb->set = set;
}

static void set_fill(struct lb *lb, struct member_set *set)
{
    for (uint32_t i = 0; i < set->ring->member_count; i++) {
        struct member *member = &set->members[i];

        for (size_t k = 0; k < lb->book.count && member->link_count < MEMBER_LINKS_MAX; k++) {
            const struct member_address *entry = &lb->book.addresses[k];

            if (entry->listed && entry->named && !entry->refused && strcmp(entry->name, set->ring->names[i]) == 0) {
                member->links[member->link_count++] = link_table_open(&lb->links, k);
                ASSERT(member->links[member->link_count - 1] != NULL); /* who has said Hello has a link */
            }
        }
    }
    member_set_count(set);
}

/* The end of the grace period: clients' calls are cancelled, and so is what is on its way for them. */
static void lb_cut_short(struct lb *lb, const char *why)
{
    if (atomic_exchange(&lb->cut_short, true))
        return;
    log_event(LOG_WARN, "drain_cut_short", "reason=%s", why);
    listeners_cancel_all(lb->listeners);
    for (size_t i = 0; i < lb->links.count; i++) {
        if (lb->links.slots[i].life == LINK_LIFE_OPEN || lb->links.slots[i].life == LINK_LIFE_LEAVING)
            member_link_cancel(lb->links.slots[i].link); /* one that closes has nothing to cancel */
    }
}

/* Makes the ring anew when what it is made of changed. */
static void lb_tend(void *context, uint64_t now_ns)
{
    struct lb *lb = context;
    struct ring_member *members;
    struct ring *ring = NULL;
    struct member_set *set;
    size_t count;
    int r;

    if (lb->draining && now_ns - lb->drain_began_ns >= (uint64_t)lb->config.tailrace.drain_timeout_ns)
        lb_cut_short(lb, "drain_timeout");
    link_table_tend(&lb->links, now_ns);
    security_tend(lb->security, now_ns);
    if ((!lb->book_changed && lb->book.formed) || !member_book_ready(&lb->book, now_ns))
        return;
    lb->book_changed = false;
    members = calloc(lb->book.count, sizeof(*members));
    ASSERT(members != NULL);
    count = member_book_members(&lb->book, members);
    r = ring_new(members, count, &ring);
    free(members);
    if (r) {
        log_event(LOG_ERROR, "ring_not_made", "members=%zu error=%d", count, r);
        return;
    }
    set = calloc(1, sizeof(*set) + ring->member_count * sizeof(set->members[0]));
    ASSERT(set != NULL);
    atomic_init(&set->refs, 1);
    set->ring = ring;
    set_fill(lb, set);
    lb->book.formed = true;
    metric_set(control_cell(lb), resolver_metrics(lb)->members, ring->member_count);
    metric_add(control_cell(lb), resolver_metrics(lb)->updates, 1);
    log_event(LOG_INFO, "ring_published", "members=%u fingerprint=%016llx", ring->member_count,
        (unsigned long long)ring->fingerprint);
    lb_publish(lb, set);
    link_table_published(&lb->links, set, now_ns);
}

struct hello_mail {
    struct mail mail;
    struct lb *lb;
    unsigned index;
    struct hello_answer answer;
};

static void control_on_hello(struct mail *mail, void *receiver)
{
    struct hello_mail *news = container_of(mail, struct hello_mail, mail);
    struct lb *lb = news->lb;
    const struct hello_answer *answer = &news->answer;

    (void)receiver;
    if (lb->links.slots[news->index].life == LINK_LIFE_CLOSING) { /* the address, if it is back, gets a new link that asks */
        free(news);
        return;
    }
    member_book_hello(&lb->book, news->index, answer->name, answer->software, answer->hash_version, answer->state,
        answer->hands_over);
    if (answer->hash_version != RING_HASH_VERSION)
        log_event(LOG_ERROR, "member_refused", "address=%s member=%s hash_version=%u ours=%u",
            lb->book.addresses[news->index].address, answer->name, answer->hash_version, RING_HASH_VERSION);
    else
        log_event(LOG_INFO, "member_named", "address=%s member=%s state=%s hands_over=%s",
            lb->book.addresses[news->index].address, lb->book.addresses[news->index].name, state_text(answer->state),
            answer->hands_over ? "true" : "false");
    for (size_t i = 0; i < lb->book.count; i++) {
        if (i != news->index && lb->book.addresses[i].listed && lb->book.addresses[i].named &&
            strcmp(lb->book.addresses[i].name, lb->book.addresses[news->index].name) == 0)
            log_event(LOG_WARN, "members_share_name", "member=%s address=%s and=%s remedy=\"two samplers? set tailrace.cluster.self on each\"",
                lb->book.addresses[i].name, lb->book.addresses[i].address, lb->book.addresses[news->index].address);
    }
    lb->book_changed = true;
    free(news);
}

static void link_hello(void *context, unsigned index, const struct hello_answer *answer)
{
    struct lb *lb = context;
    struct hello_mail *news = calloc(1, sizeof(*news));

    ASSERT(news != NULL);
    news->mail.deliver = control_on_hello;
    news->lb = lb;
    news->index = index;
    news->answer = *answer;
    control_post(&lb->control, &news->mail);
}

static void link_condition(void *context, unsigned index, enum member_condition condition)
{
    static const char *const events[] = {"member_down", "member_up", "member_suspect"};
    struct lb *lb = context;
    struct member_link *link = lb->links.slots[index].link;

    log_event(condition == MEMBER_UP ? LOG_INFO : LOG_WARN, events[condition], "address=%s outbox_bytes=%llu",
        link->address, (unsigned long long)atomic_load(&link->outbox.reserved_bytes));
}

struct closed_mail {
    struct mail mail;
    struct lb *lb;
    unsigned index;
};

static void control_on_closed(struct mail *mail, void *receiver)
{
    struct closed_mail *news = container_of(mail, struct closed_mail, mail);

    (void)receiver;
    link_table_closed(&news->lb->links, news->index);
    free(news);
}

static void link_closed(void *context, unsigned index)
{
    struct lb *lb = context;
    struct closed_mail *news = calloc(1, sizeof(*news));

    ASSERT(news != NULL);
    news->mail.deliver = control_on_closed;
    news->lb = lb;
    news->index = index;
    control_post(&lb->control, &news->mail);
}

static struct member_link *lb_link_make(void *context, unsigned index, const char *address)
{
    struct lb *lb = context;
    const struct member_link_events events = {lb, link_hello, link_condition, link_closed};
    const struct outbox_owner pieces = {lb, outbox_delivered, outbox_failed};
    struct worker *worker = &lb->workers[hash_bytes(address, strlen(address)) % lb->worker_count].worker;
    struct member_link *link = calloc(1, sizeof(*link));

    ASSERT(link != NULL);
    member_link_init(link, index, address, worker, &events, &pieces, lb->config.outbox_bytes,
        (uint64_t)lb->config.member.timeout_ns);
    link->options = &lb->member_options;
    return link;
}

static void lb_resolve_failing(struct lb *lb, bool failing)
{
    lb->resolve_failing = failing;
    metric_set(control_cell(lb), METRIC_RESOLVER_FAILING, failing);
    metric_set(control_cell(lb), METRIC_RESOLVER_FALLBACK, strcmp(resolver_source(lb->resolver), lb->lookup->resolver.name) != 0);
}

static void lb_resolved_well(struct lb *lb)
{
    metric_add(control_cell(lb), resolver_metrics(lb)->ok, 1);
    lb->resolved_ns = clock_now_ns();
    lb_resolve_failing(lb, false);
}

static void lb_on_resolve_failed(void *context, const char *reason);

static bool any_ready(const struct resolved_address *addresses, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (addresses[i].ready)
            return true;
    }
    return false;
}

static void lb_nobody_ready(struct lb *lb)
{
    lb_on_resolve_failed(lb, "no sampler that is listed is ready"); /* those of before may be as good as ever */
}

static void lb_on_resolved(void *context, const struct resolved_address *addresses, size_t count)
{
    struct lb *lb = context;
    size_t without;

    lb->nobody_ready = count > 0 && !any_ready(addresses, count);
    if (lb->nobody_ready) {
        lb_nobody_ready(lb);
        return;
    }
    lb_resolved_well(lb);
    (void)member_book_resolved(&lb->book, addresses, count);
    lb->book_changed = true;
    log_event(LOG_INFO, "resolved", "resolver=%s addresses=%zu", lb->lookup->resolver.name, count);
    without = link_table_resolved(&lb->links);
    if (without > 0)
        log_event(LOG_ERROR, "too_many_addresses", "listed=%zu without_link=%zu most=%u", count, without, LINKS_MAX);
}

static void lb_on_resolve_unchanged(void *context)
{
    struct lb *lb = context;

    if (lb->nobody_ready)
        lb_nobody_ready(lb);
    else
        lb_resolved_well(lb);
}

static void lb_on_resolve_failed(void *context, const char *reason)
{
    struct lb *lb = context;

    bool again = lb->failure_said_ns > 0 && strcmp(lb->book.last_failure, reason) == 0;

    metric_add(control_cell(lb), resolver_metrics(lb)->failed, 1);
    member_book_failed(&lb->book, reason);
    lb_resolve_failing(lb, true);
    lb->failures_unsaid++;
    /* A server that is away fails every few seconds: the same reason is logged once a period. */
    if (again && clock_now_ns() - lb->failure_said_ns < FAILURE_LOG_PERIOD_NS)
        return;
    log_event(LOG_WARN, "resolve_failed", "resolver=%s reason=\"%s\" times=%llu members_listed=%zu", lb->lookup->resolver.name, reason,
        (unsigned long long)lb->failures_unsaid, member_book_listed(&lb->book));
    lb->failure_said_ns = clock_now_ns();
    lb->failures_unsaid = 0;
}

/* -- the admin endpoint ------------------------------------------------------------------------------------------- */

static bool lb_ready(void *context, const char **out_reason)
{
    struct lb *lb = context;

    if (lb->draining) {
        *out_reason = "draining";
        return false;
    }
    if (!lb->set) {
        *out_reason = "no member has said who it is yet";
        return false;
    }
    if (atomic_load(&lb->workers_with_set) < lb->worker_count) {
        *out_reason = "not every worker knows the members yet";
        return false;
    }
    for (size_t i = 0; i < lb->links.count; i++) {
        const struct member_link *link = link_table_open(&lb->links, i);

        if (link && member_link_condition(link) == MEMBER_UP)
            return true;
    }
    *out_reason = "no member is reachable";
    return false;
}

static uint64_t relaxed(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void lb_outcome(struct text *out, const char *address, const char *success, uint64_t value)
{
    text_append(out, "%s{", metric_infos[METRIC_BACKEND_OUTCOME_OK].name);
    metrics_write_label(out, "endpoint", address);
    text_append(out, ",success=\"%s\"} %llu\n", success, (unsigned long long)value);
}

static void lb_write_head(struct text *out, enum metric_id id)
{
    metrics_write_head(out, metric_infos[id].name, metric_infos[id].kind, metric_infos[id].help);
}

/* Of each member: how its calls ended and how long it took. */
static void lb_member_metrics(const struct lb *lb, struct text *out)
{
    lb_write_head(out, METRIC_BACKEND_OUTCOME_OK);
    for (size_t i = 0; i < lb->links.count; i++) {
        const struct member_link *link = lb->links.slots[i].link;
        uint64_t ended, failed;

        if (!link)
            continue;
        ended = relaxed(&link->gauges.calls) - relaxed(&link->gauges.in_flight);
        failed = relaxed(&link->gauges.failures);
        lb_outcome(out, link->address, "true", u64_sub_floor(ended, failed));
        lb_outcome(out, link->address, "false", failed);
    }
    lb_write_head(out, METRIC_BACKEND_LATENCY);
    for (size_t i = 0; i < lb->links.count; i++) {
        const struct member_link *link = lb->links.slots[i].link;

        if (link)
            histogram_write(&link->outbox.ack_times, out, metric_infos[METRIC_BACKEND_LATENCY].name, "endpoint", link->address);
    }
}

static void lb_metrics(void *context, struct text *out)
{
    struct lb *lb = context;
    uint64_t reserved = 0;

    for (size_t i = 0; i < lb->links.count; i++) {
        if (lb->links.slots[i].link)
            reserved += relaxed(&lb->links.slots[i].link->outbox.reserved_bytes);
    }
    metric_set(control_cell(lb), METRIC_OUTBOX_BYTES, reserved);
    metrics_write(&lb->metrics, METRICS_LB, out);
    lb_member_metrics(lb, out);
}

static void lb_status_members(struct lb *lb, struct text *out)
{
    static const char *const conditions[] = {"down", "up", "suspect"};
    bool first = true;

    for (size_t i = 0; i < lb->links.count; i++) {
        const struct member_address *entry = &lb->book.addresses[i];
        const struct member_link *link = lb->links.slots[i].link;
        uint32_t slots = 0;

        if (!link)
            continue;

        for (uint32_t k = 0; lb->set && k < lb->set->ring->member_count; k++) {
            if (entry->named && entry->listed && strcmp(lb->set->ring->names[k], entry->name) == 0)
                slots = ring_share(lb->set->ring, (uint16_t)k);
        }
        text_append(out, "%s\n    {\"address\": ", first ? "" : ",");
        first = false;
        text_append_json(out, slice_text(entry->address));
        text_append(out, ", \"name\": ");
        text_append_json(out, slice_text(entry->named ? entry->name : ""));
        text_append(out, ", \"software\": ");
        text_append_json(out, slice_text(entry->software));
        text_append(out, ", \"state\": \"%s\", \"condition\": \"%s\", \"listed\": %s, \"refused\": %s, \"hands_over\": %s,\n     ",
            state_text(entry->state), conditions[member_link_condition(link)], entry->listed ? "true" : "false",
            entry->refused ? "true" : "false", entry->hands_over ? "true" : "false");
        text_append(out, "\"slots\": %u, \"outbox_bytes\": %llu, \"calls_in_flight\": %llu, \"ack_ns\": %llu, \"calls\": %llu, "
            "\"failed_calls\": %llu, \"spans\": %llu, \"suspected\": %llu}",
            slots, (unsigned long long)relaxed(&link->outbox.reserved_bytes), (unsigned long long)relaxed(&link->gauges.in_flight),
            (unsigned long long)relaxed(&link->gauges.ack_ns), (unsigned long long)relaxed(&link->gauges.calls),
            (unsigned long long)relaxed(&link->gauges.failures), (unsigned long long)relaxed(&link->gauges.spans),
            (unsigned long long)relaxed(&link->gauges.suspected));
    }
}

static void lb_status_resolver(const struct lb *lb, struct text *out)
{
    const struct resolver_config *config = &lb->lookup->resolver;

    text_append(out, "  \"resolver\": {\"type\": \"%s\", \"source\": \"%s\", \"hostname\": ", config->name, resolver_source(lb->resolver));
    text_append_json(out, slice_text(config->dns_set ? config->dns_hostname : ""));
    text_append(out, ", \"service\": ");
    text_append_json(out, slice_text(config->k8s_set ? config->k8s_service : ""));
    text_append(out, ", \"addresses\": %zu, \"failing\": %s, \"failures\": %llu, \"last_failure\": ", member_book_listed(&lb->book),
        lb->resolve_failing ? "true" : "false", (unsigned long long)lb->book.failures);
    text_append_json(out, slice_text(lb->book.last_failure));
    if (lb->resolved_ns > 0)
        text_append(out, ", \"last_good_age_ns\": %llu}", (unsigned long long)(clock_now_ns() - lb->resolved_ns));
    else
        text_append(out, ", \"last_good_age_ns\": null}");
}

static void lb_status(void *context, struct text *out)
{
    struct lb *lb = context;
    const char *reason = "";
    bool ready = lb_ready(lb, &reason);

    text_append(out, "{\n  \"program\": \"tailrace-lb\", \"version\": \"%s\", \"grpc\": \"%s\", \"started_unix_ns\": %llu,\n",
        TAILRACE_VERSION, pump_library_version(), (unsigned long long)lb->started_unix_ns);
    text_append(out, "  \"ready\": %s, \"reason\": ", ready ? "true" : "false");
    text_append_json(out, slice_text(ready ? "" : reason));
    text_append(out, ", \"draining\": %s, \"workers\": %u,\n", lb->draining ? "true" : "false", lb->worker_count);
    text_append(out, "  \"config\": ");
    config_reload_status(lb->reload, out);
    text_append(out, ",\n");
    lb_status_resolver(lb, out);
    text_append(out, ",\n  \"ring\": {\"fingerprint\": \"%016llx\", \"members\": %u, \"slots\": %u},\n",
        lb->set ? (unsigned long long)lb->set->ring->fingerprint : 0ull, lb->set ? lb->set->ring->member_count : 0, RING_SLOTS);
    text_append(out, "  \"members\": [");
    lb_status_members(lb, out);
    text_append(out, "\n  ],\n  \"spans\": {\"routed\": %llu, \"delivered\": %llu, \"accepted\": %llu, \"refused\": %llu, \"fallback\": %llu}\n}\n",
        (unsigned long long)metrics_sum(&lb->metrics, METRIC_ROUTED_SPANS),
        (unsigned long long)metrics_sum(&lb->metrics, METRIC_DELIVERED_SPANS),
        (unsigned long long)ingest_accepted_spans(&lb->metrics),
        (unsigned long long)ingest_refused_spans(&lb->metrics),
        (unsigned long long)metrics_sum(&lb->metrics, METRIC_FALLBACK_SPANS));
}

/* /traces/{id}: the owner is asked, on its link's worker; the answer comes back to the control thread. */
struct explain {
    struct mail mail;
    struct lb *lb;
    struct trace_id id;
    struct member_set *set; /* held, so that its links stay */
    struct member_link *link;
    struct admin_call *call;
    struct link_call ask;
    int status;
    char *json;
};

static void control_on_explained(struct mail *mail, void *receiver)
{
    struct explain *explain = container_of(mail, struct explain, mail);

    (void)receiver;
    admin_answer(explain->call, explain->status, explain->json);
    member_set_unref(explain->set);
    free(explain->json);
    free(explain);
}

static char *explain_failure(const char *what, const struct link_result *result)
{
    char *json = NULL;

    if (asprintf(&json, "{\"error\": \"%s\", \"code\": %d}\n", what, result->code) < 0)
        return NULL;
    return json;
}

static void explain_on_done(struct link_call *call, const struct link_result *result)
{
    struct explain *explain = container_of(call, struct explain, ask);
    Tailrace__V1__ExplainResponse *answer = NULL;

    if (result->code == 0)
        answer = tailrace__v1__explain_response__unpack(NULL, result->response.len, result->response.at);
    if (answer) {
        explain->status = 200;
        explain->json = strdup(answer->json);
        tailrace__v1__explain_response__free_unpacked(answer, NULL);
    } else {
        explain->status = result->code == RPC_UNIMPLEMENTED ? 501 : 502;
        explain->json = explain_failure("the owner did not answer", result);
    }
    explain->mail.deliver = control_on_explained;
    control_post(&explain->lb->control, &explain->mail);
}

static void worker_on_explain(struct mail *mail, void *receiver)
{
    struct explain *explain = container_of(mail, struct explain, mail);
    struct worker *worker = receiver;
    Tailrace__V1__ExplainRequest request;
    struct link_message message;
    struct buffer *bytes;

    tailrace__v1__explain_request__init(&request);
    request.trace_id.data = explain->id.bytes;
    request.trace_id.len = sizeof(explain->id.bytes);
    bytes = buffer_new(tailrace__v1__explain_request__get_packed_size(&request));
    ASSERT(bytes != NULL);
    bytes->len = tailrace__v1__explain_request__pack(&request, bytes->bytes);
    message = (struct link_message){.method = "/tailrace.v1.Peer/Explain", .pieces = &bytes, .piece_count = 1,
        .deadline_ns = worker->now_ns + EXPLAIN_TIMEOUT_NS};
    explain->ask.done = explain_on_done;
    link_send(explain->link->link, &message, &explain->ask);
    buffer_unref(bytes);
}

static void lb_explain(void *context, const struct trace_id *id, struct admin_call *call)
{
    struct lb *lb = context;
    const struct member *owner;
    struct explain *explain;

    if (!lb->set || lb->draining) {
        admin_answer(call, 503, "{\"error\": \"no ring\"}\n");
        return;
    }
    owner = &lb->set->members[lb->set->ring->owner[ring_slot(id)]];
    explain = calloc(1, sizeof(*explain));
    ASSERT(explain != NULL);
    explain->lb = lb;
    explain->id = *id;
    explain->call = call;
    explain->set = member_set_ref(lb->set);
    explain->link = owner->links[0];
    explain->mail.deliver = worker_on_explain;
    worker_post(explain->link->worker, &explain->mail);
}

/* -- life --------------------------------------------------------------------------------------------------------- */

static void control_on_drained(struct mail *mail, void *receiver)
{
    struct lb *lb = container_of(mail, struct lb, drained_mail);

    (void)receiver;
    control_break(&lb->control);
}

static void lb_on_listeners_done(void *context)
{
    struct lb *lb = context;

    lb->drained_mail.deliver = control_on_drained;
    control_post(&lb->control, &lb->drained_mail);
}

static void lb_on_stop(void *context, unsigned count)
{
    struct lb *lb = context;

    if (count == 1) {
        lb->draining = true;
        lb->drain_began_ns = clock_now_ns();
        log_event(LOG_INFO, "draining", "requests_in_flight=%llu",
            (unsigned long long)metrics_sum(&lb->metrics, METRIC_REQUESTS_IN_FLIGHT));
        listeners_shutdown(lb->listeners, lb_on_listeners_done, lb);
        if (planted(PLANT_DRAIN_IN_A_HURRY) && metrics_sum(&lb->metrics, METRIC_REQUESTS_IN_FLIGHT) > 0)
            lb_cut_short(lb, "planted");
    } else {
        lb_cut_short(lb, "second_signal");
    }
}

static void lb_on_hangup(void *context)
{
    struct lb *lb = context;

    if (lb->reload)
        config_reload_on_hangup(lb->reload);
}

static int lb_listen(struct lb *lb, char *out_error, size_t error_size)
{
    const struct tier_entry entry = {.tier = lb, .on_request = lb_on_request};
    struct worker *workers[WORKERS_MAX];
    const struct listeners_options options = {
        .configs = lb->config.receivers,
        .config_count = lb->config.receiver_count,
        .workers = workers,
        .worker_count = lb->worker_count,
        .loops = lb->loops,
        .loop_cells = &lb->metrics.cells[lb->worker_count + 1],
        .loop_count = lb->loop_count,
        .security = lb->security,
        .forward_headers = &lb->config.tailrace.forward_headers,
        .memory_bytes = lb->limits.memory_bytes,
    };

    for (unsigned i = 0; i < lb->worker_count; i++)
        workers[i] = &lb->workers[i].worker;
    return listeners_new(&options, &entry, &lb->listeners, out_error, error_size);
}

/* How samplers are called: headers, TLS and credentials. */
static int lb_secure_members(struct lb *lb, char *out_error, size_t error_size)
{
    const struct otlp_exporter_config *member = &lb->config.member;
    struct tls_options tls = member->tls ? *member->tls : (struct tls_options){.insecure = true};
    char name[200];

    tls.grpc = true;
    lb->member_options.headers = (const struct metadata_pair *)member->header_pairs;
    lb->member_options.user_agent = member->user_agent;
    lb->member_options.authority = member->authority;
    lb->member_options.forward = (struct forward){(const char *const *)lb->config.tailrace.forward_headers.items,
        lb->config.tailrace.forward_headers.count}; /* a sampler sees to its backends itself */
    (void)snprintf(name, sizeof(name), "exporters.%s.protocol.otlp.tls", member->id);
    if (member->tls && !member->tls->insecure &&
        security_tls(lb->security, name, &tls, false, &lb->member_options.tls, out_error, error_size))
        return error_raise(-EINVAL);
    (void)snprintf(name, sizeof(name), "extensions.%s", member->auth ? member->auth->id : "");
    if (member->auth && security_auth(lb->security, name, member->auth, false, &lb->member_options.auth, out_error, error_size))
        return error_raise(-EINVAL);
    return 0;
}

static int lb_reload(void *context, struct text *out);

static bool lb_serving(void *context)
{
    const struct lb *lb = context;

    return !lb->draining;
}

static int lb_admin(struct lb *lb, char *out_error, size_t error_size)
{
    const struct admin_routes routes = {
        .context = lb, .ready = lb_ready, .serving = lb_serving, .metrics = lb_metrics, .status = lb_status, .explain = lb_explain, .reload = lb_reload};
    const struct admin_options options = program_admin_options(&lb->config.tailrace);

    if (!program_has_admin(&lb->config.tailrace))
        return 0;
    return admin_new(&lb->control, &options, &routes, &lb->admin, out_error, error_size);
}

static void lookup_free(struct lb_lookup *lookup)
{
    free(lookup);
}

static struct lb_lookup *lookup_new(struct lb *lb, const struct lb_config *config, struct config_context *context)
{
    struct lb_lookup *lookup = calloc(1, sizeof(*lookup));

    ASSERT(lookup != NULL);
    lookup->resolver = config->resolver;
    lookup->fallback = config->fallback;
    lookup->dns = config->dns;
    lookup->kubernetes = config->kubernetes;
    lookup->context = context;
    lookup->plan = (struct resolver_plan){
        .control = &lb->control,
        .resolver = &lookup->resolver,
        .fallback = &lookup->fallback,
        .dns = &lookup->dns,
        .kubernetes = &lookup->kubernetes,
    };
    return lookup;
}

static int lb_resolver(struct lb *lb, const struct lb_lookup *lookup, struct resolver **out_resolver, char *out_error, size_t error_size)
{
    const struct resolver_events events = {lb, lb_on_resolved, lb_on_resolve_failed, lb_on_resolve_unchanged};
    char reason[512] = "";
    int r = resolver_new(&lookup->plan, &events, out_resolver, reason, sizeof(reason));

    if (r <= 0)
        return error_pass(r);
    (void)snprintf(out_error, error_size, "exporters.loadbalancing.resolver.%s: %s", lookup->resolver.name, reason);
    return error_fold(r);
}

/* -- live reload ------------------------------------------------------------------------------------------------------ */

static int reload_read(
    void *tier, struct config_context *context, const struct config_node *root, uint64_t generation, void **out_config)
{
    struct lb_config *config = calloc(1, sizeof(*config));

    (void)tier;
    (void)generation;
    ASSERT(config != NULL);
    *out_config = config;
    return lb_config_read(context, root, config);
}

static void reload_release(void *tier, void *config)
{
    (void)tier;
    free(config);
}

static bool changes_lookup(const struct config_paths *changed)
{
    return config_paths_have(changed, "exporters.*.resolver") || config_paths_have(changed, "tailrace.dns") ||
           config_paths_have(changed, "tailrace.kubernetes") || config_paths_have(changed, "tailrace.resolver_fallback");
}

/* A new resolver takes the place of the old one; the members that are known stay until it has an answer. */
static int reload_lookup(struct lb *lb, const struct lb_config *config, struct config_try *try)
{
    struct lb_lookup *lookup = lookup_new(lb, config, try->context);
    struct resolver *resolver = NULL;
    char error[640] = "";

    if (lb_resolver(lb, lookup, &resolver, error, sizeof(error))) {
        resolver_free(resolver);
        lookup_free(lookup);
        return config_error(try->context, NULL, "%s", error[0] ? error : "out of memory");
    }
    if (strcmp(lookup->resolver.name, lb->lookup->resolver.name) != 0)
        metric_set(control_cell(lb), resolver_metrics(lb)->members, 0); /* from now on the other one's gauge */
    resolver_free(lb->resolver);
    if (lb->lookup->context != lb->context)
        config_context_free(lb->lookup->context);
    lookup_free(lb->lookup);
    lb->lookup = lookup;
    lb->resolver = resolver;
    lb->book_changed = true;
    resolver_start(resolver);
    return 0;
}

static int reload_apply(void *tier, struct config_try *try)
{
    struct lb *lb = tier;
    const struct lb_config *config = try->config;

    if (changes_lookup(&try->changed) && reload_lookup(lb, config, try))
        return CONFIG_E_INVALID;
    lb->config.outbox_bytes = config->outbox_bytes;
    lb->config.member.timeout_ns = config->member.timeout_ns;
    lb->config.tailrace.drain_timeout_ns = config->tailrace.drain_timeout_ns;
    log_level_set(config->telemetry.log_level);
    for (size_t i = 0; i < lb->links.count; i++) {
        if (lb->links.slots[i].link)
            outbox_change(&lb->links.slots[i].link->outbox, config->outbox_bytes, (uint64_t)config->member.timeout_ns);
    }
    if (lb->context != lb->lookup->context)
        config_context_free(lb->context);
    lb->context = try->context;
    reload_release(lb, try->config);
    return 0;
}

static int lb_reload(void *context, struct text *out)
{
    struct lb *lb = context;

    if (lb->reload)
        return config_reload_serve(lb->reload, out) ? 0 : -1;
    text_append(out, "{\"error\": \"there is no file to read again\"}\n");
    return -1;
}

int lb_reload_new(struct lb *lb, const struct config_source *source)
{
    const struct config_reload_tier tier = {
        .tier = lb, .live = lb_live_keys, .read = reload_read, .apply = reload_apply, .release = reload_release};

    return config_reload_new(&lb->control, source, &tier, control_cell(lb), &lb->reload);
}

int lb_new(const struct lb_config *config, struct lb **out_lb, char *out_error, size_t error_size)
{
    struct lb *lb = calloc(1, sizeof(*lb));
    int r;

    if (!lb)
        return error_raise(-ENOMEM);
    *out_lb = lb;
    lb->config = *config;
    lb->lookup = lookup_new(lb, config, NULL);
    lb->security = security_new();
    if (!lb->security)
        return error_raise(-ENOMEM);
    lb->started_unix_ns = clock_now_unix_ns();
    cgroup_limits_read(&lb->limits);
    lb->worker_count = worker_count_of(config->tailrace.workers, lb->limits.cpu_count);
    member_book_init(&lb->book, clock_now_ns());
    lb->loop_count = http_loop_count_of(config->tailrace.http_threads);
    link_table_init(&lb->links, &lb->book, lb, lb_link_make);
    r = metrics_init(&lb->metrics, lb->worker_count + lb->loop_count);
    if (r)
        return error_pass(r);
    r = control_init(&lb->control, lb_on_stop, lb_on_hangup, lb);
    if (r)
        return error_pass(r);
    lb->workers = calloc(lb->worker_count, sizeof(*lb->workers));
    if (!lb->workers)
        return error_raise(-ENOMEM);
    for (unsigned i = 0; i < lb->worker_count; i++) {
        struct lb_worker *home = &lb->workers[i];

        home->lb = lb;
        list_init(&home->waiting);
        list_init(&home->free_requests);
        router_init(&home->router);
        retry_budget_init(&home->budget, RETRY_RATIO, RETRY_BURST);
        home->hook.run = lb_worker_run;
        r = worker_init(&home->worker, i, lb->worker_count, &lb->metrics.cells[i]);
        if (r)
            return error_pass(r);
        worker_hook(&home->worker, &home->hook);
    }
    r = http_loops_new(lb->loops, lb->loop_count);
    if (r)
        return error_pass(r);
    r = lb_secure_members(lb, out_error, error_size);
    if (r)
        return error_pass(r);
    r = lb_listen(lb, out_error, error_size);
    if (r)
        return error_pass(r);
    r = lb_admin(lb, out_error, error_size);
    if (r)
        return error_pass(r);
    r = lb_resolver(lb, lb->lookup, &lb->resolver, out_error, error_size);
    if (r)
        return error_pass(r);
    return control_timer_new(&lb->control, TEND_PERIOD_NS, lb_tend, lb, &lb->tend_timer);
}

int lb_start(struct lb *lb)
{
    char ports[LISTENERS_PORTS_SIZE];
    int r;

    for (unsigned i = 0; i < lb->worker_count; i++) {
        r = worker_start(&lb->workers[i].worker);
        if (r)
            return error_pass(r);
    }
    r = http_loops_start(lb->loops, lb->loop_count);
    if (r)
        return error_pass(r);
    resolver_start(lb->resolver);
    listeners_start(lb->listeners);
    listeners_health(lb->listeners, true);
    log_event(LOG_INFO, "started", "%s admin_port=%d workers=%u members_listed=%zu",
        listeners_ports(lb->listeners, ports, sizeof(ports)), lb->admin ? admin_port(lb->admin) : 0, lb->worker_count,
        member_book_listed(&lb->book));
    return 0;
}

int lb_stop(struct lb *lb)
{
    http_loops_stop(lb->loops, lb->loop_count);
    for (unsigned i = 0; i < lb->worker_count; i++)
        worker_stop(&lb->workers[i].worker);
    log_event(LOG_INFO, "stopped", "accepted_spans=%llu refused_spans=%llu clean=%s",
        (unsigned long long)ingest_accepted_spans(&lb->metrics),
        (unsigned long long)ingest_refused_spans(&lb->metrics), atomic_load(&lb->cut_short) ? "false" : "true");
    return atomic_load(&lb->cut_short) ? 1 : 0;
}

int lb_run(struct lb *lb)
{
    int r = lb_start(lb);

    if (r)
        return error_pass(r);
    control_run(&lb->control);
    return lb_stop(lb);
}

/* In reverse order of lb_new; also after it failed halfway. */
void lb_free(struct lb *lb)
{
    if (!lb)
        return;
    http_loops_stop(lb->loops, lb->loop_count); /* a start that failed halfway */
    listeners_stop(lb->listeners);
    link_table_close_all(&lb->links);
    for (unsigned i = 0; lb->workers && i < lb->worker_count; i++)
        worker_deinit(&lb->workers[i].worker); /* runs what gRPC still has for us */
    listeners_free(lb->listeners);
    http_loops_free(lb->loops, lb->loop_count);
    for (unsigned i = 0; lb->workers && i < lb->worker_count; i++) {
        struct lb_worker *home = &lb->workers[i];
        struct list *node;

        (void)mailbox_deliver(&home->worker.mailbox, &home->worker);
        while ((node = list_take_first(&home->waiting)))
            piece_free(container_of(node, struct lb_piece, piece.node));
        while ((node = list_take_first(&home->free_requests)))
            free(container_of(node, struct lb_request, node));
        router_deinit(&home->router);
    }
    admin_free(lb->admin);
    config_reload_free(lb->reload);
    control_timer_free(lb->tend_timer);
    resolver_free(lb->resolver);
    (void)mailbox_deliver(&lb->control.mailbox, &lb->control);
    control_deinit(&lb->control);
    member_set_unref(lb->set); /* before the links: a set counts itself in them */
    link_table_deinit(&lb->links);
    member_book_deinit(&lb->book);
    security_free(lb->security); /* after all that connects */
    metrics_deinit(&lb->metrics);
    if (lb->lookup && lb->lookup->context != lb->context)
        config_context_free(lb->lookup->context);
    lookup_free(lb->lookup);
    config_context_free(lb->context);
    free(lb->workers);
    free(lb);
}
