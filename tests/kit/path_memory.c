/* The whole way of a span over links in memory, with a thread for each worker: two of one balancer, two each of two samplers, a
 * backend. Every span of a sampled trace arrives once, byte for byte, and every sampler's books balance, while rings are
 * swapped, connections come and go, calls are refused and answers get lost.
 *
 * For the thread sanitizer, which Debian's libgrpc confuses: here is no gRPC, so whatever it reports is ours. The modules
 * are the programs' own; what ties them together is theirs in small.
 *
 *   feed -> router -> outboxes ==memory_link==> intake -> owner's trace table -> decision -> exporter ==memory_link==> backend
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

#include "common/base/assert.h"
#include "common/config/yaml.h"
#include "common/export/exporter.h"
#include "common/export/rpc_code.h"
#include "common/ingest/admission.h"
#include "common/metrics/metrics.h"
#include "common/run/clock.h"
#include "lb/route/router.h"
#include "sampler/buffer/budget.h"
#include "sampler/buffer/trace_table.h"
#include "sampler/decide/decision_cache.h"
#include "sampler/decide/policy_set.h"
#include "sampler/intake.h"
#include "tests/kit/otlp_build.h"

#define LB_WORKERS 2u
#define SAMPLERS 2u
#define OWNERS 2u               /* workers of a sampler */
#define TRACES 1200u
#define SPANS_A_TRACE 10u
#define SPANS (TRACES * SPANS_A_TRACE)
#define SPANS_A_REQUEST 30u
#define REQUESTS_AT_ONCE 8u
#define RINGS 8u                /* published one after the other while spans flow */
#define OUTBOX_BYTES (48 * KIB) /* little: reservations fail now and then */
#define POOL_BYTES (512 * MIB)
#define DECISION_WAIT_NS (15 * NS_PER_MS)
#define PAUSE_NS (1 * NS_PER_MS) /* before something that failed is tried again */

/* -- threads: a worker without a queue, woken by a semaphore ------------------------------------------------ */

struct node {
    struct worker worker;
    sem_t bell;
    pthread_t thread;
    struct mail stop;
};

static struct node *node_of(void *receiver)
{
    return container_of((struct worker *)receiver, struct node, worker);
}

static void node_init(struct node *node, unsigned index, unsigned count, struct metrics_cell *metrics)
{
    node->worker.index = index;
    node->worker.count = count;
    node->worker.metrics = metrics;
    node->worker.now_ns = clock_now_ns();
    mailbox_init(&node->worker.mailbox);
    list_init(&node->worker.hooks);
    ASSERT(sem_init(&node->bell, 0, 0) == 0);
}

static void node_post(struct node *node, struct mail *mail)
{
    if (mailbox_post(&node->worker.mailbox, mail))
        (void)sem_post(&node->bell);
}

static void bell_wait(sem_t *bell, uint64_t for_ns)
{
    uint64_t until_ns = clock_now_unix_ns() + u64_min(for_ns, 60 * NS_PER_S);
    struct timespec until = {(time_t)(until_ns / NS_PER_S), (long)(until_ns % NS_PER_S)};

    (void)sem_timedwait(bell, &until);
}

static void *node_loop(void *argument)
{
    struct node *node = argument;

    while (!node->worker.stopping) {
        uint64_t next_ns = worker_turn(&node->worker, clock_now_ns()), now_ns = clock_now_ns();

        if (!node->worker.stopping && next_ns > now_ns && mailbox_sleep(&node->worker.mailbox)) {
            bell_wait(&node->bell, next_ns - now_ns);
            mailbox_awake(&node->worker.mailbox);
        }
    }
    return NULL;
}

static void node_start(struct node *node)
{
    ASSERT(pthread_create(&node->thread, NULL, node_loop, node) == 0);
}

static void node_on_stop(struct mail *mail, void *receiver)
{
    (void)mail;
    node_of(receiver)->worker.stopping = true;
}

static void node_stop(struct node *node)
{
    node->stop.deliver = node_on_stop;
    node_post(node, &node->stop);
    ASSERT(pthread_join(node->thread, NULL) == 0);
    ASSERT(sem_destroy(&node->bell) == 0);
}

/* -- links: a message travels as mail, and its answer comes back as mail ------------------------------------ */

struct memory_link {
    struct link link;
    struct node *from;
    struct node *to[OWNERS];
    unsigned to_count, sent_count;
    void (*receive)(struct mail *mail, void *receiver);
};

struct delivery {
    struct mail mail;
    struct memory_link *link;
    struct link_call *call;
    bool is_export;
    size_t piece_count;
    struct buffer *pieces[OUTBOX_CALL_PIECES];
    int code;
};

static struct delivery *delivery_of(struct mail *mail)
{
    return container_of(mail, struct delivery, mail);
}

static void memory_send(struct link *base, const struct link_message *message, struct link_call *call)
{
    struct memory_link *link = container_of(base, struct memory_link, link);
    struct delivery *delivery = calloc(1, sizeof(*delivery));

    ASSERT(delivery != NULL && message->piece_count <= OUTBOX_CALL_PIECES);
    *delivery = (struct delivery){.mail.deliver = link->receive, .link = link, .call = call,
        .is_export = strcmp(message->method, LINK_EXPORT) == 0, .piece_count = message->piece_count};
    for (size_t i = 0; i < message->piece_count; i++)
        delivery->pieces[i] = buffer_ref(message->pieces[i]);
    call->transport = delivery;
    node_post(link->to[link->sent_count++ % link->to_count], &delivery->mail);
}

static void memory_cancel(struct link *base, struct link_call *call)
{
    (void)base; /* the answer is on its way */
    (void)call;
}

static void memory_free(struct link *base)
{
    (void)base;
}

static const struct link_ops memory_ops = {memory_send, memory_cancel, memory_free};

static void memory_on_answer(struct mail *mail, void *receiver)
{
    struct delivery *delivery = delivery_of(mail);
    const struct link_result result = {.code = delivery->code};

    (void)receiver;
    delivery->call->done(delivery->call, &result);
    free(delivery);
}

/* On the thread that received it, which is the one that lets go of the sender's buffers. */
static void delivery_answer(struct delivery *delivery, int code)
{
    for (size_t i = 0; i < delivery->piece_count; i++)
        buffer_unref(delivery->pieces[i]);
    delivery->code = code;
    delivery->mail.deliver = memory_on_answer;
    node_post(delivery->link->from, &delivery->mail);
}

static struct buffer *delivery_join(const struct delivery *delivery)
{
    struct buffer *bytes;
    size_t len = 0;

    for (size_t i = 0; i < delivery->piece_count; i++)
        len += delivery->pieces[i]->len;
    bytes = buffer_new(len);
    ASSERT(bytes != NULL);
    for (size_t i = 0; i < delivery->piece_count; i++) {
        memcpy(bytes->bytes + bytes->len, delivery->pieces[i]->bytes, delivery->pieces[i]->len);
        bytes->len += delivery->pieces[i]->len;
    }
    return bytes;
}

static void memory_set_state(struct memory_link *link, enum link_state state)
{
    if (link->link.state == state)
        return;
    link->link.state = state;
    if (link->link.on_state)
        link->link.on_state(&link->link, link->link.context, state);
}

struct state_mail {
    struct mail mail;
    struct memory_link *link;
    enum link_state state;
};

static void memory_on_state(struct mail *mail, void *receiver)
{
    struct state_mail *news = container_of(mail, struct state_mail, mail);

    (void)receiver;
    memory_set_state(news->link, news->state);
    free(news);
}

/* Any thread: the link's owner changes it. */
static void memory_ask_state(struct memory_link *link, enum link_state state)
{
    struct state_mail *news = calloc(1, sizeof(*news));

    ASSERT(news != NULL);
    *news = (struct state_mail){{.deliver = memory_on_state}, link, state};
    node_post(link->from, &news->mail);
}

static void memory_link_init(struct memory_link *link, enum link_state state, struct node *from,
    void (*receive)(struct mail *, void *))
{
    *link = (struct memory_link){.link = {.ops = &memory_ops, .state = state}, .from = from, .receive = receive};
}

/* -- spans: which there are, which are wanted, how the backend knows them ----------------------------------- */

/* A third of the traces is kept for an attribute of each span, a third for one of their resource, a third not at all. All
 * spans of a trace say the same, so that each part of it is decided alike even when a change of the ring splits it. */
static bool trace_is_wanted(uint32_t trace)
{
    return trace % 3 < 2;
}

static void span_build(struct otlp_build *b, uint32_t number)
{
    static const struct otlp_attribute keep[] = {OTLP_TEXT("keep", "yes"), OTLP_INT("size", 12)};
    static const struct otlp_attribute none[] = {OTLP_TEXT("keep", "no")};
    uint32_t trace = number / SPANS_A_TRACE;

    otlp_span(b, &(struct otlp_span){.trace_id = otlp_trace_id(trace), .span_id = otlp_span_id(number), .name = "GET /cart",
        .kind = 2, .start_unix_ns = 1000 + number, .end_unix_ns = 2000 + 3 * number,
        .attributes = trace % 3 == 0 ? keep : none, .attributes_count = trace % 3 == 0 ? 2 : 1});
}

/* Opens a resource and a scope, chosen by the trace. */
static void header_build(struct otlp_build *b, uint32_t trace)
{
    char service[32];

    (void)snprintf(service, sizeof(service), "service-%u", trace % 12);
    otlp_resource_spans(b);
    otlp_resource(b, 2, (struct otlp_attribute[]){OTLP_TEXT("service.name", service),
        OTLP_TEXT("tier", trace % 3 == 1 ? "gold" : "tin")});
    otlp_scope_spans(b);
    otlp_scope(b, "lib", "1.0");
}

static uint64_t part_hash(const struct header_part *part, uint64_t seed)
{
    uint8_t bytes[512];

    ASSERT(part->len <= sizeof(bytes));
    (void)header_part_write(part, bytes);
    return hash_seeded(bytes, part->len, seed);
}

/* Of a span with its context. */
static uint64_t sight_hash(const struct span_ref *span)
{
    return hash_seeded(span->bytes.at, span->bytes.len, part_hash(&span->header->scope, part_hash(&span->header->resource, 1)));
}

struct sight {
    uint64_t hash;
    uint32_t number, seen;
};

static int sight_order(const void *a, const void *b)
{
    uint64_t x = ((const struct sight *)a)->hash, y = ((const struct sight *)b)->hash;

    return (x > y) - (x < y);
}

static void sights_make(struct sight *sights)
{
    struct otlp_build b = {0};

    for (uint32_t i = 0; i < SPANS; i++) {
        struct span_walk walk;
        struct span_ref span;

        otlp_build_reset(&b);
        header_build(&b, i / SPANS_A_TRACE);
        span_build(&b, i);
        otlp_end(&b);
        otlp_end(&b);
        span_walk_init(&walk, otlp_slice(&b));
        ASSERT(span_walk_next(&walk, &span) && span.fault == SPAN_OK);
        sights[i] = (struct sight){sight_hash(&span), i, 0};
    }
    otlp_build_deinit(&b);
    qsort(sights, SPANS, sizeof(*sights), sight_order);
}

/* -- the backend -------------------------------------------------------------------------------------------- */

struct backend {
    struct node node;
    struct sight *sights;
    unsigned calls;
    uint64_t strangers, received;
};

static void backend_on_delivery(struct mail *mail, void *receiver)
{
    struct backend *backend = container_of(node_of(receiver), struct backend, node);
    struct delivery *delivery = delivery_of(mail);
    struct span_walk walk;
    struct span_ref span;
    struct buffer *bytes;

    if (backend->calls++ % 4 == 1) {
        delivery_answer(delivery, RPC_UNAVAILABLE);
        return;
    }
    bytes = delivery_join(delivery);
    span_walk_init(&walk, buffer_slice(bytes));
    while (span_walk_next(&walk, &span)) {
        const struct sight key = {.hash = span.fault == SPAN_OK ? sight_hash(&span) : 0};
        struct sight *sight = bsearch(&key, backend->sights, SPANS, sizeof(key), sight_order);

        backend->received++;
        if (sight)
            sight->seen++;
        else
            backend->strangers++;
    }
    ASSERT(!walk.bad);
    buffer_unref(bytes);
    delivery_answer(delivery, RPC_OK);
}

/* -- a sampler ------------------------------------------------------------------------------------------------ */

struct path_books {
    uint64_t received, exported, not_sampled, late, duplicate, lost;
    uint64_t unanswered; /* of received: taken, but the answer was lost, so they come again */
};

struct owner {
    struct node node;
    struct path_sampler *sampler;
    struct extent_store *store;
    struct header_table *headers;
    struct trace_table *traces;
    struct decision_cache *cache;
    struct predicate_scratch *scratch;
    struct intake intake;
    struct memory_link backend_link;
    struct exporter *exporter;
    struct turn_hook hook;
    struct path_books books;
    unsigned calls;
    bool finishing, finished;
    struct mail finish;
    sem_t *finished_bell;
};

struct path_sampler {
    struct policy_set *set;
    struct extent_pool *pool;
    struct budget budget;
    struct admission admission;
    struct metrics metrics;
    struct owner owners[OWNERS];
};

static struct owner *owner_of(void *receiver)
{
    return container_of(node_of(receiver), struct owner, node);
}

static struct trace *trace_of(struct export_unit *unit)
{
    return trace_of_way_out(container_of(unit, struct trace_way_out, unit));
}

static int unit_add_span(void *context, struct header *header, struct rope bytes)
{
    struct regroup *regroup = context;

    return regroup_span(regroup, regroup_header(regroup, &header->view), bytes);
}

static int unit_add(void *context, struct export_unit *unit, struct regroup *regroup)
{
    (void)context;
    return trace_spans(trace_of(unit), unit_add_span, regroup);
}

static void unit_encoded(void *context, struct export_unit *unit)
{
    trace_free_bytes(((struct owner *)context)->traces, trace_of(unit));
}

static void unit_settled(void *context, struct export_unit *unit, enum export_outcome outcome)
{
    struct owner *owner = context;

    if (outcome == EXPORTED)
        owner->books.exported += unit->span_count;
    else
        owner->books.lost += unit->span_count;
    trace_free(owner->traces, trace_of(unit));
}

static void trace_export(struct owner *owner, struct trace *trace, uint64_t now_ns)
{
    struct trace_info info = trace_info(trace);
    struct export_unit *unit = &trace_way_out(trace)->unit;

    unit->size_bytes = info.bytes;
    unit->span_count = info.span_count;
    exporter_take(owner->exporter, unit, now_ns);
}

static void trace_decide(struct owner *owner, struct trace *trace, uint64_t now_ns)
{
    const struct trace_info info = trace_info(trace);
    const struct verdict_input input = {.trace_id = &info.id, .facts = trace_facts(trace), .now_ns = now_ns};
    struct decided decided = policy_set_decide(trace_policy_set(trace), &input);
    struct decision_record record = {.decision = decided.decision, .policy = decided.policy, .span_count = info.span_count,
        .decided_ns = now_ns, .evidence_bit = UINT16_MAX};
    uint64_t hashes[SPANS_A_TRACE];
    size_t hash_count = decided.decision == DECISION_SAMPLED ? info.span_count : 0;

    ASSERT(info.span_count <= SPANS_A_TRACE);
    if (hash_count > 0)
        trace_hashes(trace, hashes);
    decision_cache_put(owner->cache, &info.id, hash_trace(&info.id), &record, hashes, hash_count, now_ns);
    trace_table_take(owner->traces, trace);
    if (decided.decision == DECISION_SAMPLED) {
        metric_add(owner->node.worker.metrics, METRIC_DECIDED_SAMPLED, 1);
        trace_export(owner, trace, now_ns);
    } else {
        metric_add(owner->node.worker.metrics, METRIC_DECIDED_NOT_SAMPLED, 1);
        owner->books.not_sampled += info.span_count;
        trace_free(owner->traces, trace);
    }
}

static void span_late(struct owner *owner, const struct intake_span *span, struct header *header,
    const struct decision_record *record, uint64_t now_ns)
{
    struct trace *trace;

    if (record->decision != DECISION_SAMPLED) {
        owner->books.late++;
        return;
    }
    if (decision_cache_seen(owner->cache, &span->id, span->id_hash, span->span_hash, now_ns)) {
        owner->books.duplicate++;
        return;
    }
    trace = trace_new_apart(owner->traces, &span->id, now_ns);
    ASSERT(trace != NULL);
    ASSERT(trace_add_span(owner->traces, trace, span->bytes, span->span_hash, header, (struct journal_pos){0, 0}) == TRACE_SPAN_ADDED);
    trace_export(owner, trace, now_ns);
}

static void span_take(struct owner *owner, const struct intake_span *span, struct header *header)
{
    uint64_t now_ns = owner->node.worker.now_ns;
    struct trace *trace = trace_table_find(owner->traces, &span->id, span->id_hash);
    struct decision_record record;

    owner->books.received++;
    if (!trace) {
        if (decision_cache_find(owner->cache, &span->id, span->id_hash, true, now_ns, &record)) {
            span_late(owner, span, header, &record, now_ns);
            return;
        }
        trace = trace_table_add(owner->traces, &span->id, span->id_hash, owner->sampler->set, now_ns, now_ns + DECISION_WAIT_NS);
        ASSERT(trace != NULL);
    }
    switch (trace_add_span(owner->traces, trace, span->bytes, span->span_hash, header, (struct journal_pos){0, 0})) {
    case TRACE_SPAN_ADDED:
        facts_fold(trace_facts(trace), &span->facts, &header->hits, (uint32_t)span->bytes.len);
        break;
    case TRACE_SPAN_DUPLICATE:
        owner->books.duplicate++;
        break;
    case TRACE_SPAN_NO_MEMORY:
        ASSERT(!"memory");
    }
}

/* What one worker took in for another: facts and slices into the request's buffer, which both hold. */
struct share {
    struct mail mail;
    struct buffer *bytes;
    size_t span_count, header_count;
    struct intake_span *spans;
    struct span_header *headers;
};

static void owner_on_share(struct mail *mail, void *receiver)
{
    struct share *share = container_of(mail, struct share, mail);
    struct owner *owner = owner_of(receiver);

    for (size_t i = 0; i < share->span_count; i++) {
        const struct intake_span *span = &share->spans[i];
        struct header *header = header_table_get(owner->headers, &share->headers[span->header], NULL);
        uint64_t generation = policy_set_generation(owner->sampler->set);

        ASSERT(header != NULL);
        if (header->hits_generation != generation) {
            ASSERT(predicates_header(policy_set_predicates(owner->sampler->set), owner->scratch, &header->view, &header->hits));
            header->hits_generation = generation;
        }
        span_take(owner, span, header);
        header_unref(owner->headers, header, 1);
    }
    admission_give(&owner->sampler->admission, share->bytes->len);
    buffer_unref(share->bytes);
    free(share->spans);
    free(share->headers);
    free(share);
}

static struct share *share_new(const struct intake *intake, struct buffer *bytes)
{
    struct share *share = calloc(1, sizeof(*share));

    ASSERT(share != NULL);
    share->mail.deliver = owner_on_share;
    share->bytes = buffer_ref(bytes);
    share->header_count = intake->header_count;
    share->spans = calloc(intake->span_count, sizeof(*share->spans));
    share->headers = calloc(intake->header_count, sizeof(*share->headers));
    ASSERT(share->spans != NULL && share->headers != NULL);
    for (size_t i = 0; i < intake->header_count; i++)
        share->headers[i] = intake->headers[i].view;
    return share;
}

static void spans_share_out(struct owner *from, struct buffer *bytes)
{
    const struct intake *intake = &from->intake;
    struct share *shares[OWNERS] = {NULL};

    for (size_t i = 0; i < intake->span_count; i++) {
        const struct intake_span *span = &intake->spans[i];
        unsigned to = (unsigned)(span->id_hash >> 20 & 0xffff) % OWNERS;

        if (to == from->node.worker.index) {
            span_take(from, span, intake->headers[span->header].header);
            continue;
        }
        if (!shares[to])
            shares[to] = share_new(intake, bytes);
        shares[to]->spans[shares[to]->span_count++] = *span;
    }
    for (unsigned i = 0; i < OWNERS; i++) {
        if (!shares[i])
            continue;
        (void)atomic_fetch_add_explicit(&from->sampler->admission.bytes, bytes->len, memory_order_relaxed);
        node_post(&from->sampler->owners[i].node, &shares[i]->mail);
    }
}

static void owner_on_delivery(struct mail *mail, void *receiver)
{
    struct owner *owner = owner_of(receiver);
    struct path_sampler *sampler = owner->sampler;
    struct delivery *delivery = delivery_of(mail);
    unsigned call = owner->calls++;
    struct buffer *bytes;
    size_t taken;

    if (!delivery->is_export) { /* Hello: no Tailrace node */
        delivery_answer(delivery, RPC_UNIMPLEMENTED);
        return;
    }
    if (call % 8 == 3) { /* nothing is taken: it may go anywhere */
        delivery_answer(delivery, RPC_UNAVAILABLE);
        return;
    }
    bytes = delivery_join(delivery);
    if (budget_rung(&sampler->budget) == RUNG_REFUSE || !admission_take(&sampler->admission, bytes->len)) {
        buffer_unref(bytes);
        delivery_answer(delivery, RPC_RESOURCE_EXHAUSTED);
        return;
    }
    ASSERT(intake_read(&owner->intake, buffer_slice(bytes), NULL, sampler->set, owner->scratch, owner->headers));
    ASSERT(owner->intake.rejected_count == 0);
    taken = owner->intake.span_count;
    metric_add(owner->node.worker.metrics, METRIC_ACCEPTED_SPANS, taken);
    spans_share_out(owner, bytes);
    intake_release(&owner->intake, owner->headers);
    admission_give(&sampler->admission, bytes->len);
    buffer_unref(bytes);
    if (call % 8 == 6) {
        owner->books.unanswered += taken;
        delivery_answer(delivery, RPC_DATA_LOSS);
    } else {
        delivery_answer(delivery, RPC_OK);
    }
}

static uint64_t owner_run(struct turn_hook *hook, uint64_t now_ns)
{
    struct owner *owner = container_of(hook, struct owner, hook);
    struct trace *trace;
    uint64_t next_ns;

    while ((trace = trace_table_due(owner->traces, now_ns)))
        trace_decide(owner, trace, now_ns);
    while (owner->finishing && (trace = trace_table_oldest(owner->traces)))
        trace_decide(owner, trace, now_ns);
    if (owner->finishing)
        exporter_hurry(owner->exporter);
    decision_cache_tend(owner->cache, trace_table_count(owner->traces), now_ns);
    next_ns = exporter_run(owner->exporter, now_ns);
    metric_set(owner->node.worker.metrics, METRIC_TRACES_HELD, trace_table_count(owner->traces));
    if (owner->finishing && !owner->finished && exporter_stats(owner->exporter)->queue_units == 0) {
        owner->finished = true;
        (void)sem_post(owner->finished_bell);
    }
    return u64_min(next_ns, trace_table_next_ns(owner->traces));
}

static void owner_on_finish(struct mail *mail, void *receiver)
{
    (void)receiver;
    container_of(mail, struct owner, finish)->finishing = true;
}

static void owner_init(struct owner *owner, struct path_sampler *sampler, unsigned index, struct backend *backend)
{
    const struct decision_cache_options cache = {.verdict_keep_ns = 600 * NS_PER_S, .resend_window_ns = 600 * NS_PER_S,
        .max_bytes = 64 * MIB, .hash_bytes = 64 * MIB};
    const struct exporter_owner units = {owner, unit_add, unit_encoded, unit_settled, NULL, NULL};
    struct exporter_options options = {.name = "memory", .retry = retry_defaults(), .max_request_bytes = 32 * KIB,
        .flush_timeout_ns = 2 * NS_PER_MS, .max_calls = 3};

    node_init(&owner->node, index, OWNERS, &sampler->metrics.cells[index]);
    owner->sampler = sampler;
    ASSERT(extent_store_new(sampler->pool, &owner->store) == 0);
    owner->headers = header_table_new();
    owner->scratch = predicate_scratch_new(policy_set_predicates(sampler->set));
    ASSERT(owner->headers != NULL && owner->scratch != NULL);
    ASSERT(trace_table_new(owner->store, owner->headers, clock_now_ns(), &owner->traces) == 0);
    ASSERT(decision_cache_new(&cache, &owner->cache) == 0);
    intake_init(&owner->intake);
    memory_link_init(&owner->backend_link, LINK_UP, &owner->node, backend_on_delivery);
    owner->backend_link.to[owner->backend_link.to_count++] = &backend->node;
    options.retry.initial_interval_ns = options.retry.max_interval_ns = 10 * NS_PER_MS;
    ASSERT(exporter_new(&options, &owner->backend_link.link, &units, &owner->exporter) == 0);
    owner->hook.run = owner_run;
    owner->finish.deliver = owner_on_finish;
    worker_hook(&owner->node.worker, &owner->hook);
}

static void owner_deinit(struct owner *owner)
{
    exporter_free(owner->exporter);
    intake_deinit(&owner->intake);
    decision_cache_free(owner->cache);
    trace_table_free(owner->traces);
    predicate_scratch_free(owner->scratch);
    header_table_free(owner->headers);
    extent_store_free(owner->store);
}

static void sampler_init(struct path_sampler *sampler, struct policy_set *set, struct backend *backend)
{
    sampler->set = policy_set_ref(set);
    sampler->admission.limit_bytes = 256 * KIB; /* little: some calls are refused */
    ASSERT(metrics_init(&sampler->metrics, OWNERS) == 0);
    ASSERT(extent_pool_new(POOL_BYTES, &sampler->pool) == 0);
    sampler->budget = (struct budget){.pool = sampler->pool, .decide_early_allowed = true, .workers = OWNERS};
    for (unsigned i = 0; i < OWNERS; i++)
        owner_init(&sampler->owners[i], sampler, i, backend);
}

static void sampler_deinit(struct path_sampler *sampler)
{
    for (unsigned i = 0; i < OWNERS; i++)
        owner_deinit(&sampler->owners[i]);
    extent_pool_free(sampler->pool);
    metrics_deinit(&sampler->metrics);
    policy_set_unref(sampler->set);
}

/* -- the balancer --------------------------------------------------------------------------------------------- */

struct lb_node {
    struct node node;
    struct router router;
    struct turn_hook hook;
    struct otlp_build build;
    struct list waiting;       /* pieces that are tried again */
    struct feed_request *held; /* could not be planned yet */
    uint64_t held_until_ns;
    unsigned next_request, under_way, rings_seen;
    uint64_t acked_spans, resent_pieces, fallback_spans;
    bool done;
    sem_t *done_bell;
};

#define REQUESTS (SPANS / SPANS_A_REQUEST / LB_WORKERS) /* of one worker */

struct feed_request {
    struct lb_node *home;
    struct buffer *bytes;
    unsigned pending;
};

struct lb_piece {
    struct piece piece;
    struct mail mail;
    struct feed_request *request;
    struct member_link *link;
    uint64_t again_at_ns;
    int code;
    bool stays; /* its member may have it: only that one can tell a resend from a new span */
};

static struct lb_piece *lb_piece_of(struct piece *piece)
{
    return container_of(piece, struct lb_piece, piece);
}

static void piece_on_put(struct mail *mail, void *receiver)
{
    struct lb_piece *piece = container_of(mail, struct lb_piece, mail);

    member_link_put(piece->link, &piece->piece, node_of(receiver)->worker.now_ns);
}

static void piece_put(struct lb_node *home, struct lb_piece *piece, struct member_link *link)
{
    piece->link = link;
    if (link->worker == &home->node.worker) {
        member_link_put(link, &piece->piece, home->node.worker.now_ns);
    } else {
        piece->mail.deliver = piece_on_put;
        node_post(node_of(link->worker), &piece->mail);
    }
}

static bool plan_reserve(const struct router *router)
{
    for (size_t i = 0; i < router->part_count; i++) {
        if (outbox_reserve(&router->parts[i].link->outbox, router->parts[i].size))
            continue;
        while (i-- > 0)
            outbox_unreserve(&router->parts[i].link->outbox, router->parts[i].size);
        return false;
    }
    return true;
}

static void plan_commit(struct lb_node *home, struct feed_request *request)
{
    const struct router *router = &home->router;

    request->pending += (unsigned)router->part_count;
    home->fallback_spans += router->fallback_count;
    for (size_t i = 0; i < router->part_count; i++) {
        const struct plan_part *part = &router->parts[i];
        struct lb_piece *piece = calloc(1, sizeof(*piece));

        ASSERT(piece != NULL);
        piece->request = request;
        piece->piece.bytes = buffer_new(part->size);
        ASSERT(piece->piece.bytes != NULL);
        (void)regroup_write(part->regroup, piece->piece.bytes->bytes);
        piece->piece.bytes->len = part->size;
        piece->piece.span_count = part->span_count;
        piece_put(home, piece, part->link);
    }
}

static void piece_settled(struct lb_piece *piece)
{
    struct feed_request *request = piece->request;

    buffer_unref(piece->piece.bytes);
    free(piece);
    if (--request->pending == 0) {
        request->home->under_way--;
        buffer_unref(request->bytes);
        free(request);
    }
}

/* False: not now. */
static bool piece_again(struct lb_node *home, struct lb_piece *piece)
{
    struct slice bytes = buffer_slice(piece->piece.bytes);

    if (piece->stays) {
        if (member_link_condition(piece->link) != MEMBER_UP || !outbox_reserve(&piece->link->outbox, bytes.len))
            return false;
        home->resent_pieces++;
        piece_put(home, piece, piece->link);
        return true;
    }
    if (router_plan(&home->router, bytes, piece->link) != PLAN_OK && router_plan(&home->router, bytes, NULL) != PLAN_OK)
        return false;
    if (!plan_reserve(&home->router))
        return false;
    plan_commit(home, piece->request);
    piece_settled(piece);
    return true;
}

static void piece_on_failed(struct mail *mail, void *receiver)
{
    struct lb_piece *piece = container_of(mail, struct lb_piece, mail);
    struct lb_node *home = container_of(node_of(receiver), struct lb_node, node);

    ASSERT(piece->request->home == home);
    piece->stays = piece->stays || piece->code == RPC_DATA_LOSS;
    piece->again_at_ns = home->node.worker.now_ns + PAUSE_NS;
    list_add_tail(&home->waiting, &piece->piece.node);
}

static void piece_on_delivered(struct mail *mail, void *receiver)
{
    struct lb_piece *piece = container_of(mail, struct lb_piece, mail);
    struct lb_node *home = container_of(node_of(receiver), struct lb_node, node);

    home->acked_spans += piece->piece.span_count;
    piece_settled(piece);
}

/* From the outbox, on the link's worker. */
static void outbox_delivered(void *context, struct piece *base, uint32_t rejected_count)
{
    struct lb_piece *piece = lb_piece_of(base);

    (void)context;
    ASSERT(rejected_count == 0);
    piece->mail.deliver = piece_on_delivered;
    node_post(&piece->request->home->node, &piece->mail);
}

static void outbox_failed(void *context, struct piece *base, const struct link_result *result)
{
    struct lb_piece *piece = lb_piece_of(base);

    (void)context;
    piece->code = result->code;
    piece->mail.deliver = piece_on_failed;
    node_post(&piece->request->home->node, &piece->mail);
}

/* Spans far apart in number, so that a trace is spread over requests of both workers. */
static struct feed_request *feed_next(struct lb_node *home)
{
    unsigned k = home->next_request++ * LB_WORKERS + home->node.worker.index;
    struct feed_request *request = calloc(1, sizeof(*request));
    struct slice bytes;

    ASSERT(request != NULL);
    otlp_build_reset(&home->build);
    for (uint32_t i = 0; i < SPANS_A_REQUEST; i++) {
        /* A window of a few traces moves over all of them; inside, by columns. */
        uint32_t row = k / SPANS_A_TRACE, column = k % SPANS_A_TRACE;
        uint32_t trace = row * SPANS_A_REQUEST + i, number = trace * SPANS_A_TRACE + (column + i) % SPANS_A_TRACE;

        header_build(&home->build, trace);
        span_build(&home->build, number);
        otlp_end(&home->build);
        otlp_end(&home->build);
    }
    bytes = otlp_slice(&home->build);
    request->home = home;
    request->bytes = buffer_new(bytes.len);
    ASSERT(request->bytes != NULL);
    memcpy(request->bytes->bytes, bytes.at, bytes.len);
    request->bytes->len = bytes.len;
    return request;
}

/* Goes on as rings are published, so that all of them are used. */
static bool feed_may(const struct lb_node *home)
{
    return home->next_request < REQUESTS && home->under_way < REQUESTS_AT_ONCE &&
           home->next_request * RINGS / REQUESTS < home->rings_seen;
}

static uint64_t lb_run(struct turn_hook *hook, uint64_t now_ns)
{
    struct lb_node *home = container_of(hook, struct lb_node, hook);
    uint64_t next_ns = UINT64_MAX;

    LIST_FOR_EACH_SAFE (node, following, &home->waiting) {
        struct lb_piece *piece = lb_piece_of(container_of(node, struct piece, node));

        if (now_ns >= piece->again_at_ns) {
            list_del(node);
            if (piece_again(home, piece))
                continue;
            piece->again_at_ns = now_ns + PAUSE_NS;
            list_add_tail(&home->waiting, node);
        }
        next_ns = u64_min(next_ns, piece->again_at_ns);
    }
    while (home->held ? now_ns >= home->held_until_ns : feed_may(home)) {
        if (!home->held) {
            home->held = feed_next(home);
            home->under_way++;
        }
        if (router_plan(&home->router, buffer_slice(home->held->bytes), NULL) != PLAN_OK || !plan_reserve(&home->router)) {
            home->held_until_ns = now_ns + PAUSE_NS;
            break;
        }
        plan_commit(home, home->held);
        home->held = NULL;
    }
    if (home->held)
        next_ns = u64_min(next_ns, home->held_until_ns);
    if (home->next_request == REQUESTS && home->under_way == 0 && !home->done) {
        home->done = true;
        (void)sem_post(home->done_bell);
    }
    return next_ns;
}

static void lb_node_init(struct lb_node *home, unsigned index, struct metrics_cell *metrics)
{
    node_init(&home->node, index, LB_WORKERS, metrics);
    router_init(&home->router);
    list_init(&home->waiting);
    home->hook.run = lb_run;
    worker_hook(&home->node.worker, &home->hook);
}

static void lb_node_deinit(struct lb_node *home)
{
    ASSERT(list_empty(&home->waiting) && !home->held);
    router_deinit(&home->router);
    otlp_build_deinit(&home->build);
}

/* -- all of it -------------------------------------------------------------------------------------------------- */

struct path {
    struct backend backend;
    struct path_sampler samplers[SAMPLERS];
    struct metrics lb_metrics;
    struct lb_node lb[LB_WORKERS];
    struct memory_link links[SAMPLERS];
    struct member_link members[SAMPLERS];
    atomic_uint hellos, changes;
    sem_t lb_done, finished;
};

static void on_hello(void *context, unsigned index, const struct hello_answer *answer)
{
    struct path *path = context;

    (void)index;
    ASSERT(!answer->spoke);
    atomic_fetch_add(&path->hellos, 1);
}

static void on_condition(void *context, unsigned index, enum member_condition condition)
{
    struct path *path = context;

    (void)index;
    (void)condition;
    atomic_fetch_add(&path->changes, 1);
}

static struct policy_set *policies(struct config_context *context)
{
    static const char yaml[] = "policies:\n"
                               "  - name: of_spans\n"
                               "    type: string_attribute\n"
                               "    string_attribute: {key: keep, values: ['yes']}\n"
                               "  - name: of_resources\n"
                               "    type: string_attribute\n"
                               "    string_attribute: {key: tier, values: [gold]}\n";
    const struct config_node *root = config_load_text(context, "path.yaml", yaml, sizeof(yaml) - 1);
    struct policy_set *set = NULL;

    ASSERT(root != NULL);
    if (policy_set_new(context, config_node_get(root, "policies"), false, 1, &set))
        fail_msg("%s", config_errors(context));
    return set;
}

struct ring_mail {
    struct mail mail;
    struct member_set *set;
};

static void lb_on_ring(struct mail *mail, void *receiver)
{
    struct ring_mail *news = container_of(mail, struct ring_mail, mail);
    struct lb_node *home = container_of(node_of(receiver), struct lb_node, node);

    router_adopt(&home->router, news->set);
    home->rings_seen++;
    free(news);
}

/* A ring of the samplers in the mask, made on this thread, used by all workers, freed by whoever is last. */
static void ring_publish(struct path *path, unsigned mask)
{
    static const char *const names[SAMPLERS] = {"sampler-0", "sampler-1"};
    struct member_set *set = calloc(1, sizeof(*set) + SAMPLERS * sizeof(set->members[0]));
    struct ring_member members[SAMPLERS];
    size_t count = 0;

    ASSERT(set != NULL);
    for (unsigned i = 0; i < SAMPLERS; i++) {
        if (mask >> i & 1) {
            set->members[count] = (struct member){{&path->members[i]}, 1};
            members[count++] = (struct ring_member){names[i], 2};
        }
    }
    atomic_init(&set->refs, 1);
    ASSERT(ring_new(members, count, &set->ring) == 0);
    for (unsigned i = 0; i < LB_WORKERS; i++) {
        struct ring_mail *news = calloc(1, sizeof(*news));

        ASSERT(news != NULL);
        *news = (struct ring_mail){{.deliver = lb_on_ring}, member_set_ref(set)};
        node_post(&path->lb[i].node, &news->mail);
    }
    member_set_unref(set);
}

static void path_init(struct path *path, struct policy_set *set, struct sight *sights)
{
    const struct member_link_events events = {path, on_hello, on_condition, NULL};
    const struct outbox_owner pieces = {path, outbox_delivered, outbox_failed};

    ASSERT(sem_init(&path->lb_done, 0, 0) == 0 && sem_init(&path->finished, 0, 0) == 0);
    ASSERT(metrics_init(&path->lb_metrics, LB_WORKERS) == 0);
    path->backend.sights = sights;
    node_init(&path->backend.node, 0, 1, NULL);
    for (unsigned i = 0; i < SAMPLERS; i++) {
        sampler_init(&path->samplers[i], set, &path->backend);
        for (unsigned k = 0; k < OWNERS; k++)
            path->samplers[i].owners[k].finished_bell = &path->finished;
    }
    for (unsigned i = 0; i < LB_WORKERS; i++) {
        lb_node_init(&path->lb[i], i, &path->lb_metrics.cells[i]);
        path->lb[i].done_bell = &path->lb_done;
    }
    for (unsigned i = 0; i < SAMPLERS; i++) {
        struct node *home = &path->lb[i % LB_WORKERS].node;

        memory_link_init(&path->links[i], LINK_DOWN, home, owner_on_delivery);
        for (unsigned k = 0; k < OWNERS; k++)
            path->links[i].to[path->links[i].to_count++] = &path->samplers[i].owners[k].node;
        member_link_init(&path->members[i], i, i ? "sampler-1:4317" : "sampler-0:4317", &home->worker, &events, &pieces,
            OUTBOX_BYTES, 0);
        member_link_adopt(&path->members[i], &path->links[i].link);
    }
}

static void path_start(struct path *path)
{
    node_start(&path->backend.node);
    for (unsigned i = 0; i < SAMPLERS * OWNERS; i++)
        node_start(&path->samplers[i / OWNERS].owners[i % OWNERS].node);
    for (unsigned i = 0; i < LB_WORKERS; i++)
        node_start(&path->lb[i].node);
}

/* What the control threads of the programs do meanwhile. */
static void path_tend(struct path *path)
{
    for (unsigned i = 0; i < SAMPLERS; i++) {
        struct path_sampler *sampler = &path->samplers[i];

        extent_pool_tend(sampler->pool, OWNERS, clock_now_ns());
        ASSERT(extent_pool_committed_bytes(sampler->pool) <= POOL_BYTES);
        for (unsigned id = 0; id < METRIC_COUNT; id++)
            (void)metrics_sum(&sampler->metrics, id);
        ASSERT(metrics_sum(&sampler->metrics, METRIC_TRACES_HELD) <= TRACES);
        ASSERT(atomic_load_explicit(&path->members[i].gauges.in_flight, memory_order_relaxed) <= OUTBOX_CALLS_MAX);
        ASSERT(atomic_load_explicit(&path->members[i].outbox.reserved_bytes, memory_order_relaxed) <= OUTBOX_BYTES);
    }
}

static void pause_briefly(void)
{
    const struct timespec pause = {0, 2 * (long)NS_PER_MS};

    (void)nanosleep(&pause, NULL);
}

/* Rings and connections change while spans flow. */
static void path_drive(struct path *path)
{
    static const unsigned masks[] = {3, 1, 3, 2};
    unsigned left = LB_WORKERS;

    for (unsigned i = 0; i < SAMPLERS; i++)
        memory_ask_state(&path->links[i], LINK_UP);
    for (unsigned i = 0; i < RINGS; i++) {
        ring_publish(path, masks[i % ARRAY_COUNT(masks)]);
        path_tend(path);
        pause_briefly();
        memory_ask_state(&path->links[i % SAMPLERS], LINK_DOWN);
        pause_briefly();
        memory_ask_state(&path->links[i % SAMPLERS], LINK_UP);
        path_tend(path);
    }
    ring_publish(path, 3);
    while (left > 0) {
        path_tend(path);
        if (sem_trywait(&path->lb_done) == 0)
            left--;
        else
            pause_briefly();
    }
}

static void path_stop(struct path *path)
{
    for (unsigned i = 0; i < SAMPLERS * OWNERS; i++) {
        struct owner *owner = &path->samplers[i / OWNERS].owners[i % OWNERS];

        node_post(&owner->node, &owner->finish);
    }
    for (unsigned i = 0; i < SAMPLERS * OWNERS; i++) {
        while (sem_wait(&path->finished)) {
        }
    }
    for (unsigned i = 0; i < LB_WORKERS; i++)
        node_stop(&path->lb[i].node);
    for (unsigned i = 0; i < SAMPLERS * OWNERS; i++)
        node_stop(&path->samplers[i / OWNERS].owners[i % OWNERS].node);
    node_stop(&path->backend.node);
}

static void path_deinit(struct path *path)
{
    for (unsigned i = 0; i < LB_WORKERS; i++)
        lb_node_deinit(&path->lb[i]);
    for (unsigned i = 0; i < SAMPLERS; i++) {
        assert_int_equal(atomic_load(&path->members[i].outbox.reserved_bytes), 0);
        member_link_close(&path->members[i]);
        member_link_deinit(&path->members[i]);
        sampler_deinit(&path->samplers[i]);
    }
    metrics_deinit(&path->lb_metrics);
    ASSERT(sem_destroy(&path->lb_done) == 0 && sem_destroy(&path->finished) == 0);
}

/* Of all workers of all samplers; each one's own must balance. */
static struct path_books books_sum(const struct path *path)
{
    struct path_books sum = {0};

    for (unsigned i = 0; i < SAMPLERS * OWNERS; i++) {
        const struct owner *owner = &path->samplers[i / OWNERS].owners[i % OWNERS];
        const struct path_books *b = &owner->books;

        assert_int_equal(trace_table_count(owner->traces), 0);
        assert_int_equal(b->received, b->exported + b->not_sampled + b->late + b->duplicate + b->lost);
        assert_true(b->received > 0);
        sum.received += b->received;
        sum.exported += b->exported;
        sum.not_sampled += b->not_sampled;
        sum.late += b->late;
        sum.duplicate += b->duplicate;
        sum.lost += b->lost;
        sum.unanswered += b->unanswered;
    }
    return sum;
}

static void test_path(void **state)
{
    struct config_context *context = config_context_new();
    struct sight *sights = calloc(SPANS, sizeof(*sights));
    struct path *path = calloc(1, sizeof(*path));
    uint64_t wanted = 0, wrong = 0, acked = 0, resent = 0, accepted = 0;
    struct policy_set *set;
    struct path_books books;

    (void)state;
    assert_non_null(context);
    assert_non_null(sights);
    assert_non_null(path);
    set = policies(context);
    sights_make(sights);
    path_init(path, set, sights);
    path_start(path);
    path_drive(path);
    path_stop(path);

    /* What the backend saw. */
    assert_int_equal(path->backend.strangers, 0);
    for (uint32_t i = 0; i < SPANS; i++) {
        bool is_wanted = trace_is_wanted(sights[i].number / SPANS_A_TRACE);

        wanted += is_wanted;
        wrong += sights[i].seen != is_wanted;
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(path->backend.received, wanted);

    /* What the tiers say of it. */
    books = books_sum(path);
    assert_int_equal(books.received, SPANS + books.unanswered);
    assert_true(books.not_sampled <= SPANS - wanted && books.not_sampled + books.late >= SPANS - wanted);
    assert_int_equal(books.exported, wanted);
    assert_int_equal(books.lost, 0);
    for (unsigned i = 0; i < LB_WORKERS; i++) {
        acked += path->lb[i].acked_spans;
        resent += path->lb[i].resent_pieces;
        assert_true(path->lb[i].rings_seen > RINGS);
    }
    for (unsigned i = 0; i < SAMPLERS; i++)
        accepted += metrics_sum(&path->samplers[i].metrics, METRIC_ACCEPTED_SPANS);
    assert_int_equal(acked, SPANS);
    assert_int_equal(accepted, books.received);

    /* It was not all fair weather. */
    assert_true(resent > 0 && books.duplicate > 0);
    assert_true(atomic_load(&path->hellos) >= SAMPLERS);
    assert_true(atomic_load(&path->changes) > SAMPLERS);

    path_deinit(path);
    policy_set_unref(set);
    config_context_free(context);
    free(sights);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_path)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
