/* Membership on the control thread: what comes in (the resolver's lists, links that come and go, statuses, answers of workers) is put
 * into it, then cluster_run takes out what follows, in membership's own order. Links are kept to the targets that it wants. */
#include "sampler/handoff/cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "common/run/control.h"
#include "common/security/security.h"
#include "sampler/drain_run.h"
#include "sampler/handoff/advertise.h"
#include "sampler/handoff/cluster_inside.h"
#include "sampler/journal/journal.h"

struct metrics_cell *cluster_cell(const struct cluster *cluster)
{
    return &cluster->sampler->metrics.cells[cluster->sampler->worker_count];
}

/* -- links ------------------------------------------------------------------------------------------------------ */

static void link_on_state(void *context, struct peer_link *link, bool up)
{
    struct cluster *cluster = context;
    size_t target = peer_link_index(link);
    struct cluster_link *slot = &cluster->links[target];

    if (cluster->stopped || slot->link != link || slot->closing)
        return;
    if (slot->up != up)
        log_event(up ? LOG_INFO : LOG_WARN, up ? "peer_up" : "peer_down", "address=%s", peer_link_address(link));
    slot->up = up;
    membership_link(cluster->membership, target, up, clock_now_ns());
    cluster_run(cluster, clock_now_ns());
}

static void link_on_closed(void *context, struct peer_link *link)
{
    struct cluster *cluster = context;
    struct cluster_link *slot = &cluster->links[peer_link_index(link)];

    ASSERT(slot->link == link && slot->closing);
    peer_link_unref(link);
    *slot = (struct cluster_link){.link = NULL};
    if (!cluster->stopped)
        cluster_run(cluster, clock_now_ns()); /* the index may be another address's now */
}

static void link_open(struct cluster *cluster, size_t target, const char *address)
{
    const struct peer_link_events events = {cluster, link_on_state, link_on_closed};
    unsigned worker = (unsigned)(hash_bytes(address, strlen(address)) % cluster->sampler->worker_count);

    cluster->links[target] = (struct cluster_link){.link = peer_link_new(address, (unsigned)target,
        cluster_worker(cluster, worker), &cluster->sampler->control, &cluster->link_options, &events)};
    ASSERT(cluster->links[target].link != NULL);
}

static void link_close(struct cluster *cluster, size_t target, uint64_t now_ns)
{
    struct cluster_link *slot = &cluster->links[target];

    slot->closing = true;
    peer_link_close(slot->link);
    if (slot->up)
        membership_link(cluster->membership, target, false, now_ns);
    slot->up = false;
}

static void links_grow(struct cluster *cluster, size_t count)
{
    if (count <= cluster->link_count)
        return;
    cluster->links = realloc(cluster->links, count * sizeof(cluster->links[0]));
    ASSERT(cluster->links != NULL);
    memset(&cluster->links[cluster->link_count], 0, (count - cluster->link_count) * sizeof(cluster->links[0]));
    cluster->link_count = count;
}

/* One to each target that is wanted, none to others. */
static void links_tend(struct cluster *cluster, uint64_t now_ns)
{
    size_t count = membership_target_count(cluster->membership);

    links_grow(cluster, count);
    for (size_t i = 0; i < cluster->link_count; i++) {
        struct cluster_link *slot = &cluster->links[i];
        struct membership_target target = {.address = ""};
        bool wanted;

        if (i < count)
            target = membership_target(cluster->membership, i);
        wanted = target.wanted && !target.is_self && target.address[0] != '\0';
        if (!slot->link && wanted)
            link_open(cluster, i, target.address);
        else if (slot->link && !slot->closing && (!wanted || strcmp(peer_link_address(slot->link), target.address) != 0))
            link_close(cluster, i, now_ns);
    }
}

/* -- a turn -------------------------------------------------------------------------------------------------------- */

static void take_records(struct cluster *cluster, uint64_t now_ns)
{
    struct buffer *record;
    uint32_t ring_no;

    while (membership_take_record(cluster->membership, &record, &ring_no))
        cluster_record_write(cluster, record, ring_no, now_ns);
    cluster_record_again(cluster);
}

static void take_views(struct cluster *cluster, uint64_t now_ns)
{
    struct view *view;

    while ((view = membership_take_view(cluster->membership, now_ns)))
        cluster_view_publish(cluster, view, now_ns);
}

static void take_poll(struct cluster *cluster, uint64_t now_ns)
{
    uint64_t view_number;

    if (cluster->views_out == 0 && !hold_poll_under_way(&cluster->poll) && membership_take_poll(cluster->membership, &view_number, now_ns))
        cluster_poll_begin(cluster, view_number, now_ns);
}

static void take_statuses(struct cluster *cluster, uint64_t now_ns)
{
    struct buffer *status;
    size_t target;

    while (membership_take_status(cluster->membership, now_ns, &target, &status))
        cluster_tell(cluster, target, status, now_ns);
}

static void word_publish(struct cluster *cluster)
{
    atomic_store_explicit(&cluster->word_state, (unsigned)membership_state(cluster->membership), memory_order_relaxed);
    atomic_store_explicit(&cluster->sampler->ring_fingerprint, membership_fingerprint(cluster->membership), memory_order_relaxed);
}

static void stood_still(struct cluster *cluster, uint64_t since_ns, uint64_t now_ns)
{
    log_event(LOG_WARN, "stood_still", "milliseconds=%llu text=\"peers may have missed this node: they are asked before it decides\"",
        (unsigned long long)(u64_sub_floor(now_ns, since_ns) / NS_PER_MS));
    metric_add(cluster_cell(cluster), METRIC_CLUSTER_STANDSTILLS, 1);
    membership_stood_still(cluster->membership, now_ns);
    cluster->waking = true;
}

/* Not awake again before all workers act by the new ring. The time is taken anew: now_ns may be that of before a standstill. */
static void tend_awake(struct cluster *cluster)
{
    struct awake *awake = &cluster->sampler->awake;
    uint64_t now_ns = clock_now_ns();
    bool overslept = atomic_exchange(&awake->overslept, false);

    if (cluster->waking && membership_is_waking(cluster->membership))
        return;
    if (!cluster->waking && (overslept || awake_is_late(awake, now_ns))) {
        stood_still(cluster, atomic_load(&awake->since_ns), now_ns);
        return;
    }
    cluster->waking = false;
    atomic_store(&awake->since_ns, now_ns);
}

static void run_once(struct cluster *cluster, uint64_t now_ns)
{
    struct sampler *sampler = cluster->sampler;

    tend_awake(cluster);
    membership_room(cluster->membership, budget_handoff_room(&sampler->budget));
    if (membership_tend(cluster->membership, now_ns)) {
        log_event(LOG_ERROR, "ring_not_made", "reason=\"no memory\"");
        return;
    }
    links_tend(cluster, now_ns);
    take_records(cluster, now_ns);
    take_views(cluster, now_ns);
    take_poll(cluster, now_ns);
    take_statuses(cluster, now_ns);
    word_publish(cluster);
}

/* What is taken out may put something in: once more then, not within. */
void cluster_run(struct cluster *cluster, uint64_t now_ns)
{
    if (cluster->stopped || !cluster->membership)
        return;
    cluster->again = true;
    if (cluster->running)
        return;
    cluster->running = true;
    while (cluster->again) {
        cluster->again = false;
        run_once(cluster, now_ns);
    }
    cluster->running = false;
}

/* C4: a claim waits on as long as others still hand over. */
static void progress_look(struct cluster *cluster, uint64_t now_ns)
{
    uint64_t taken_over = metrics_sum(&cluster->sampler->metrics, METRIC_TAKEN_OVER_TRACES);

    if (taken_over != cluster->taken_over && cluster->membership)
        membership_progress(cluster->membership, now_ns);
    cluster->taken_over = taken_over;
}

void cluster_tend(struct cluster *cluster, uint64_t now_ns)
{
    progress_look(cluster, now_ns);
    cluster_run(cluster, now_ns);
}

/* -- the resolver -------------------------------------------------------------------------------------------------- */

static bool is_own_address(const struct cluster *cluster, const char *address)
{
    if (strcmp(address, cluster->advertise) == 0)
        return true;
    for (size_t i = 0; i < membership_target_count(cluster->membership); i++) {
        const struct membership_target target = membership_target(cluster->membership, i);

        if (target.is_self && strcmp(target.address, address) == 0)
            return true;
    }
    return false;
}

/* R4: a resolver that says so of this very node is believed before the signal comes. */
static void look_for_own_end(struct cluster *cluster, const struct resolved_address *addresses, size_t count)
{
    for (size_t i = 0; i < count && !cluster->sampler->draining; i++) {
        if (!addresses[i].terminating || !is_own_address(cluster, addresses[i].address))
            continue;
        log_event(LOG_INFO, "terminating", "resolver=%s address=%s", cluster->sampler->config.cluster.resolver.name, addresses[i].address);
        sampler_on_stop(cluster->sampler, 1);
    }
}

static void on_resolved(void *context, const struct resolved_address *addresses, size_t count)
{
    struct cluster *cluster = context;
    uint64_t now_ns = clock_now_ns();
    const char **texts = calloc(count + 1, sizeof(*texts));

    ASSERT(texts != NULL);
    for (size_t i = 0; i < count; i++)
        texts[i] = addresses[i].address; /* ready or not: who joins is knocked at too */
    cluster->resolved_ns = now_ns;
    cluster->resolve_failing = false;
    log_event(LOG_INFO, "resolved", "resolver=%s addresses=%zu", cluster->sampler->config.cluster.resolver.name, count);
    membership_resolved(cluster->membership, texts, count, now_ns);
    free(texts);
    cluster_run(cluster, now_ns);
    look_for_own_end(cluster, addresses, count);
}

static void on_resolve_failed(void *context, const char *reason)
{
    struct cluster *cluster = context;
    bool again = cluster->resolve_failing && strcmp(cluster->resolve_failure, reason) == 0;

    cluster->resolve_failing = true;
    (void)snprintf(cluster->resolve_failure, sizeof(cluster->resolve_failure), "%s", reason);
    metric_add(cluster_cell(cluster), METRIC_CLUSTER_RESOLVE_FAILURES, 1);
    if (!again) /* the same reason every few seconds is no news; /status has it */
        log_event(LOG_WARN, "resolve_failed", "resolver=%s reason=\"%s\"", cluster->sampler->config.cluster.resolver.name, reason);
}

static void on_resolve_unchanged(void *context)
{
    struct cluster *cluster = context;

    cluster->resolved_ns = clock_now_ns();
    cluster->resolve_failing = false;
}

/* -- life ------------------------------------------------------------------------------------------------------------ */

static int secure(struct cluster *cluster, char *out_error, size_t error_size)
{
    struct sampler *sampler = cluster->sampler;
    const struct cluster_config *config = &sampler->config.cluster;
    struct tls_options tls = config->tls ? *config->tls : (struct tls_options){.insecure = true};
    char name[200];

    tls.grpc = true;
    if (!tls.insecure && security_tls(sampler->security, "tailrace.cluster.tls", &tls, false, &cluster->link_options.tls, out_error, error_size))
        return error_raise(-EINVAL);
    if (!config->auth)
        return 0;
    (void)snprintf(name, sizeof(name), "extensions.%s", config->auth->id);
    if (security_auth(sampler->security, name, config->auth, false, &cluster->link_options.auth, out_error, error_size))
        return error_raise(-EINVAL);
    return 0;
}

static const char *grpc_endpoint(const struct sampler_config *config)
{
    for (size_t i = 0; i < config->receiver_count; i++) {
        if (config->receivers[i].grpc_set)
            return config->receivers[i].grpc_endpoint;
    }
    UNREACHABLE("a cluster without gRPC was refused");
}

static int find_own_address(struct cluster *cluster, char *out_error, size_t error_size)
{
    const struct sampler_config *config = &cluster->sampler->config;
    bool fits;

    if (config->cluster.advertise)
        fits = snprintf(cluster->advertise, sizeof(cluster->advertise), "%s", config->cluster.advertise) < (int)sizeof(cluster->advertise);
    else
        fits = advertise_address(grpc_endpoint(config), listeners_grpc_port(cluster->sampler->listeners), cluster->advertise,
            sizeof(cluster->advertise));
    if (fits)
        return 0;
    (void)snprintf(out_error, error_size, "tailrace.cluster.advertise: the address is too long");
    return error_raise(-EINVAL);
}

static int make_resolver(struct cluster *cluster, char *out_error, size_t error_size)
{
    const struct resolver_events events = {cluster, on_resolved, on_resolve_failed, on_resolve_unchanged};
    struct sampler_config *config = &cluster->sampler->config;
    int r;

    cluster->resolver_plan = (struct resolver_plan){.control = &cluster->sampler->control,
        .resolver = &config->cluster.resolver,
        .fallback = &config->cluster.fallback,
        .dns = &config->dns,
        .kubernetes = &config->kubernetes};
    r = resolver_new(&cluster->resolver_plan, &events, &cluster->resolver, out_error, error_size);
    if (r > 0 && out_error[0] == '\0')
        (void)snprintf(out_error, error_size, "tailrace.cluster.resolver.%s: no usable address", config->cluster.resolver.name);
    return r > 0 ? error_fold(r) : error_pass(r);
}

int cluster_new(struct sampler *sampler, struct cluster **out_cluster, char *out_error, size_t error_size)
{
    struct cluster *cluster = calloc(1, sizeof(*cluster));
    int r;

    if (!cluster)
        return error_raise(-ENOMEM);
    *out_cluster = cluster;
    cluster->sampler = sampler;
    atomic_init(&cluster->word_state, MEMBER_JOINING);
    atomic_init(&cluster->word_incarnation, sampler->incarnation);
    /* Peers miss this node when they hear nothing for peer_timeout, and the last word may have been a status_interval old. */
    sampler->awake.limit_ns = (uint64_t)(sampler->config.cluster.peer_timeout_ns - sampler->config.cluster.status_interval_ns);
    hold_poll_init(&cluster->poll, sampler, cluster, cluster_on_holds);
    r = secure(cluster, out_error, error_size);
    if (r)
        return error_pass(r);
    r = find_own_address(cluster, out_error, error_size);
    if (r)
        return error_pass(r);
    return error_pass(make_resolver(cluster, out_error, error_size));
}

/* The newest ring record is known, or there is none: from here on there is a member. */
static void begin(struct cluster *cluster, uint64_t now_ns)
{
    struct sampler *sampler = cluster->sampler;
    const struct cluster_config *config = &sampler->config.cluster;
    struct slice record = cluster->record ? buffer_slice(cluster->record) : slice_make(NULL, 0);
    struct membership_options options = {
        .cluster = config->name,
        .name = sampler->name,
        .advertise = cluster->advertise,
        .software = "tailrace-sampler " TAILRACE_VERSION,
        .journal_id = sampler->journal ? journal_id(sampler->journal) : 0,
        .record = record,
        .static_resolver = config->resolver.static_set,
        .status_interval_ns = (uint64_t)config->status_interval_ns,
        .peer_timeout_ns = (uint64_t)config->peer_timeout_ns,
        .handoff_timeout_ns = (uint64_t)config->handoff_timeout_ns,
        .hello_wait_ns = (uint64_t)config->hello_wait_ns,
    };

    if (record.len > 0)
        sampler->incarnation = u64_max(sampler->incarnation, membership_record_incarnation(record) + 1);
    options.incarnation = sampler->incarnation;
    atomic_store_explicit(&cluster->word_incarnation, sampler->incarnation, memory_order_relaxed);
    ASSERT(membership_new(&options, now_ns, &cluster->membership) == 0); /* at start: there is memory, or there is no use in going on */
    if (membership_record_bad(cluster->membership))
        log_event(LOG_WARN, "ring_record_unreadable", "text=\"the members before this start are not known\"");
    log_event(LOG_INFO, "cluster", "name=%s member=%s advertise=%s resolver=%s", config->name, sampler->name, cluster->advertise,
        config->resolver.name);
    resolver_start(cluster->resolver);
    if (cluster->replayed)
        membership_replayed(cluster->membership, now_ns);
    if (cluster->drain_asked)
        membership_drain(cluster->membership, now_ns);
    cluster_run(cluster, now_ns);
}

void cluster_start(struct cluster *cluster)
{
    if (cluster->sampler->journal)
        return; /* recovery says what it reads */
    begin(cluster, clock_now_ns());
    cluster_replayed(cluster, clock_now_ns());
}

struct record_mail {
    struct mail mail;
    struct cluster *cluster;
    struct buffer *record; /* NULL: there is no further one */
};

static void control_on_record_read(struct mail *mail, void *receiver)
{
    struct record_mail *news = container_of(mail, struct record_mail, mail);
    struct cluster *cluster = news->cluster;

    (void)receiver;
    if (news->record) {
        buffer_unref(cluster->record);
        cluster->record = news->record; /* the later the newer */
    } else if (!cluster->stopped && !cluster->membership) {
        begin(cluster, clock_now_ns());
    }
    free(news);
}

static void record_post(struct sampler *sampler, struct buffer *record)
{
    struct record_mail *news = calloc(1, sizeof(*news));

    ASSERT(news != NULL);
    news->mail.deliver = control_on_record_read;
    news->cluster = sampler->cluster;
    news->record = record;
    control_post(&sampler->control, &news->mail);
}

void cluster_record_read(struct sampler *sampler, struct slice record)
{
    struct buffer *copy;

    if (!sampler->cluster || record.len == 0)
        return;
    copy = buffer_new(record.len);
    ASSERT(copy != NULL);
    memcpy(copy->bytes, record.at, record.len);
    copy->len = record.len;
    record_post(sampler, copy);
}

void cluster_records_read(struct sampler *sampler)
{
    if (sampler->cluster)
        record_post(sampler, NULL);
}

void cluster_replayed(struct cluster *cluster, uint64_t now_ns)
{
    cluster->replayed = true;
    if (!cluster->membership)
        return;
    membership_replayed(cluster->membership, now_ns);
    cluster_run(cluster, now_ns);
}

void cluster_drain(struct cluster *cluster, uint64_t now_ns)
{
    cluster->drain_asked = true;
    if (!cluster->membership)
        return;
    membership_drain(cluster->membership, now_ns);
    cluster_run(cluster, now_ns);
}

void cluster_leave(struct cluster *cluster, bool clean, uint64_t now_ns)
{
    if (!cluster->membership)
        return;
    membership_left(cluster->membership, clean, now_ns);
    cluster_run(cluster, now_ns);
}

bool cluster_is_draining(const struct cluster *cluster)
{
    return cluster->membership && membership_state(cluster->membership) == MEMBER_DRAINING;
}

bool cluster_heard(const struct cluster *cluster)
{
    return !cluster->membership || membership_told(cluster->membership);
}

/* One that drains too counts: while nobody is ready, draining members own. */
bool cluster_has_fellows(const struct cluster *cluster)
{
    const struct view *view = cluster->view;

    for (size_t i = 0; view && i < view->member_count; i++) {
        if (i != view->self && view->members[i].reachable)
            return true;
    }
    return false;
}

bool cluster_owns_some(const struct cluster *cluster)
{
    const struct view *view = cluster->view;

    for (uint32_t i = 0; view && view->ring && i < view->ring->member_count; i++)
        if (view->members_of_ring[i] == view->self)
            return true;
    return false;
}

size_t cluster_view_members(const struct cluster *cluster)
{
    return cluster->view ? cluster->view->member_count : 0;
}

void cluster_stop(struct cluster *cluster)
{
    if (!cluster)
        return;
    cluster->stopped = true;
    for (size_t i = 0; i < cluster->link_count; i++) {
        if (cluster->links[i].link)
            peer_link_stop(cluster->links[i].link);
    }
}

void cluster_free(struct cluster *cluster)
{
    if (!cluster)
        return;
    if (cluster->resolver)
        resolver_free(cluster->resolver);
    view_unref(cluster->view);
    for (size_t i = 0; i < cluster->link_count; i++)
        peer_link_unref(cluster->links[i].link);
    free(cluster->links);
    hold_poll_deinit(&cluster->poll);
    free(cluster->held_members);
    buffer_unref(cluster->record);
    buffer_unref(cluster->unwritten);
    membership_free(cluster->membership);
    free(cluster);
}
