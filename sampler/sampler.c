/* The life of the back tier: what it is made of, in the order of a span's way, its start, its drain and its end.
 *
 * The way itself: sampler/span_path.c (in), sampler/verdict.c (the decision), sampler/export/survivors.c (out), and
 * sampler/turn.c, which a worker does each turn.
 */
#include "sampler/sampler.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "common/security/security.h"
#include "sampler/drain_run.h"
#include "sampler/handoff/cluster.h"
#include "sampler/journal/journal.h"
#include "sampler/journal/journal_thread.h"
#include "sampler/journal_run.h"
#include "sampler/sampler_reload.h"
#include "sampler/sampler_worker.h"
#include "sampler/span_path.h"

#define TEND_PERIOD_NS (100 * NS_PER_MS)
#define READY_EXTENTS 4u       /* populated ahead of need, per worker */

static void control_on_finished(struct mail *mail, void *receiver)
{
    (void)receiver;
    sampler_drain_tend(container_of(mail, struct sampler, drain_run.finished_mail), clock_now_ns());
}

void sampler_worker_finished(struct sampler_worker *home)
{
    struct sampler *sampler = home->sampler;

    if (home->finished)
        return;
    home->finished = true;
    if (atomic_fetch_add(&sampler->workers_finished, 1) + 1 == sampler->worker_count) {
        sampler->drain_run.finished_mail.deliver = control_on_finished;
        control_post(&sampler->control, &sampler->drain_run.finished_mail);
    }
}

static void sampler_on_hangup(void *context)
{
    struct sampler *sampler = context;

    if (sampler->reload)
        config_reload_on_hangup(sampler->reload);
}

/* What gRPC's health service says is what /readyz says. */
static void health_follow(struct sampler *sampler)
{
    const char *reason;
    bool serving = sampler_ready(sampler, &reason);

    if (serving == sampler->serving)
        return;
    sampler->serving = serving;
    listeners_health(sampler->listeners, serving);
}

static void sampler_tend(void *context, uint64_t now_ns)
{
    struct sampler *sampler = context;
    struct metrics_cell *cell = &sampler->metrics.cells[sampler->worker_count];

    security_tend(sampler->security, now_ns);
    extent_pool_tend(sampler->pool, READY_EXTENTS * sampler->worker_count, now_ns);
    metric_set(cell, METRIC_STORE_COMMITTED_BYTES, extent_pool_committed_bytes(sampler->pool));
    metric_set(cell, METRIC_STORE_IDLE_BYTES, extent_pool_idle_bytes(sampler->pool));
    metric_set(cell, METRIC_STORE_LIMIT_BYTES, extent_pool_limit_bytes(sampler->pool));
    if (sampler->journal)
        budget_disk(&sampler->budget, journal_room(sampler->journal), sampler->config.journal.max_size_bytes);
    if (sampler->cluster)
        cluster_tend(sampler->cluster, now_ns);
    sampler_drain_tend(sampler, now_ns);
    if (sampler->started)
        health_follow(sampler);
}

static int sampler_listen(struct sampler *sampler, char *out_error, size_t error_size)
{
    const struct tier_entry entry = {.tier = sampler, .on_request = sampler_on_request, .methods = sampler_peer_methods};
    struct worker *workers[WORKERS_MAX];
    const struct listeners_options options = {
        .configs = sampler->config.receivers,
        .config_count = sampler->config.receiver_count,
        .workers = workers,
        .worker_count = sampler->worker_count,
        .loops = sampler->loops,
        .loop_cells = &sampler->metrics.cells[sampler->worker_count + 1],
        .loop_count = sampler->loop_count,
        .security = sampler->security,
        .forward_headers = &sampler->config.tailrace.forward_headers,
        .internal = true,
        .memory_bytes = sampler->limits.memory_bytes,
        .store_limit_bytes = sampler->config.tailrace.memory_limit_bytes,
    };

    for (unsigned i = 0; i < sampler->worker_count; i++)
        workers[i] = &sampler->workers[i].worker;
    return listeners_new(&options, &entry, &sampler->listeners, out_error, error_size);
}

static int sampler_pool(struct sampler *sampler, char *out_error, size_t error_size)
{
    uint64_t limit = sampler_memory_limit(sampler, &sampler->config);
    uint64_t least = budget_least_bytes(sampler->worker_count);

    if (limit < least) {
        (void)snprintf(out_error, error_size,
            "tailrace.memory.limit_mib: %llu MiB is too little for %u workers, they need at least %llu MiB",
            (unsigned long long)(limit / MIB), sampler->worker_count, (unsigned long long)((least + MIB - 1) / MIB));
        return error_raise(-EINVAL);
    }
    sampler_limits_set(sampler, &sampler->config);
    return extent_pool_new(limit, &sampler->pool);
}

static int sampler_backends(struct sampler *sampler, char *out_error, size_t error_size)
{
    const struct backends_options options = {
        .settings = sampler->settings,
        .workers = sampler->worker_count,
        .loops = sampler->loops,
        .loop_count = sampler->loop_count,
        .security = sampler->security,
        .keeps_units = sampler->handoff.cluster || sampler->handoff.journal,
    };

    return backends_new(&options, &sampler->backends, out_error, error_size);
}

static void sampler_handoff_options(struct sampler *sampler)
{
    const struct cluster_config *cluster = &sampler->config.cluster;

    sampler->handoff = (struct handoff_options){.cluster = cluster->on,
        .journal = sampler->config.journal.directory != NULL,
        .gives_only = sampler->config.gives_only,
        .name = sampler->name,
        .ack_wait_ns = (uint64_t)cluster->ack_wait_ns,
        .forward_timeout_ns = (uint64_t)cluster->forward_timeout_ns,
        .handoff_timeout_ns = (uint64_t)cluster->handoff_timeout_ns,
        .verdict_keep_ns = (uint64_t)sampler->config.tailrace.verdict_keep_ns};
}

int sampler_new(const struct sampler_config *config, struct policy_set *set, struct sampler **out_sampler, char *out_error,
    size_t error_size)
{
    struct sampler *sampler = calloc(1, sizeof(*sampler));
    struct decision_cache_options cache;
    int r;

    if (!sampler)
        return error_raise(-ENOMEM);
    *out_sampler = sampler;
    sampler->config = *config;
    sampler->settings = sampler_settings_new(config, NULL, set, NULL, &sampler->policy_roll);
    sampler->security = security_new();
    if (!sampler->security)
        return error_raise(-ENOMEM);
    sampler->started_unix_ns = sampler->incarnation = clock_now_unix_ns();
    cgroup_limits_read(&sampler->limits);
    sampler->worker_count = worker_count_of(config->tailrace.workers, sampler->limits.cpu_count);
    if (config->tailrace.cluster_self && config->tailrace.cluster_self[0])
        (void)snprintf(sampler->name, sizeof(sampler->name), "%s", config->tailrace.cluster_self);
    else if (gethostname(sampler->name, sizeof(sampler->name) - 1) != 0)
        (void)snprintf(sampler->name, sizeof(sampler->name), "sampler");
    sampler_handoff_options(sampler);
    sampler->loop_count = http_loop_count_of(config->tailrace.http_threads);
    r = metrics_init(&sampler->metrics, sampler->worker_count + sampler->loop_count);
    if (r)
        return error_pass(r);
    r = control_init(&sampler->control, sampler_on_stop, sampler_on_hangup, sampler);
    if (r)
        return error_pass(r);
    r = sampler_pool(sampler, out_error, error_size);
    if (r)
        return error_fold(r);
    sampler->budget = (struct budget){.pool = sampler->pool, .decide_early_allowed = sampler_decides_early(config),
        .handoff = config->cluster.on,
        .spill_allowed = sampler_spills(config),
        .workers = sampler->worker_count};
    if (config->journal.directory) {
        r = sampler_journal_open(sampler, out_error, error_size);
        if (r)
            return error_pass(r);
    }
    r = http_loops_new(sampler->loops, sampler->loop_count);
    if (r)
        return error_pass(r);
    r = sampler_backends(sampler, out_error, error_size);
    if (r)
        return error_pass(r);
    sampler->workers = calloc(sampler->worker_count, sizeof(*sampler->workers));
    if (!sampler->workers)
        return error_raise(-ENOMEM);
    cache = sampler_cache_options(sampler, &sampler->config);
    for (unsigned i = 0; i < sampler->worker_count; i++) {
        r = sampler_worker_init(&sampler->workers[i], sampler, i, &cache);
        if (r)
            return error_pass(r);
    }
    r = sampler_listen(sampler, out_error, error_size);
    if (r)
        return error_pass(r);
    if (config->cluster.on) {
        r = cluster_new(sampler, &sampler->cluster, out_error, error_size);
        if (r)
            return error_pass(r);
    }
    r = sampler_admin_new(sampler, out_error, error_size);
    if (r)
        return error_pass(r);
    sampler_tend(sampler, clock_now_ns());
    return control_timer_new(&sampler->control, TEND_PERIOD_NS, sampler_tend, sampler, &sampler->tend_timer);
}

int sampler_start(struct sampler *sampler)
{
    char ports[LISTENERS_PORTS_SIZE];
    int r;

    for (unsigned i = 0; i < sampler->worker_count; i++) {
        r = worker_start(&sampler->workers[i].worker);
        if (r)
            return error_pass(r);
    }
    r = http_loops_start(sampler->loops, sampler->loop_count);
    if (r)
        return error_pass(r);
    listeners_start(sampler->listeners);
    sampler->started = true;
    sampler->replayed = !sampler->journal;
    if (sampler->journal) {
        r = sampler_journal_start(sampler);
        if (r)
            return error_pass(r);
    }
    log_event(LOG_INFO, "started", "member=%s %s admin_port=%d workers=%u policies=%zu memory_limit_bytes=%llu",
        sampler->name, listeners_ports(sampler->listeners, ports, sizeof(ports)), sampler->admin ? admin_port(sampler->admin) : 0, sampler->worker_count,
        policy_set_count(sampler->settings->set), (unsigned long long)extent_pool_limit_bytes(sampler->pool));
    if (sampler->cluster)
        cluster_start(sampler->cluster);
    else
        log_event(LOG_INFO, "standalone", "text=\"traces are not handed over\"");
    health_follow(sampler);
    return 0;
}

int sampler_stop(struct sampler *sampler)
{
    uint64_t books[BOOK_COUNT], held = 0;

    http_loops_stop(sampler->loops, sampler->loop_count);
    for (unsigned i = 0; i < sampler->worker_count; i++)
        worker_stop(&sampler->workers[i].worker);
    for (unsigned i = 0; i < sampler->worker_count; i++) {
        sampler_books_read(&sampler->workers[i], books);
        held += books[BOOK_HELD];
    }
    log_event(held ? LOG_WARN : LOG_INFO, "stopped", "traces_left=%llu spans_left=%llu left_in=%s clean=%s",
        (unsigned long long)metrics_sum(&sampler->metrics, METRIC_TRACES_HELD), (unsigned long long)held,
        held == 0 ? "nothing" : sampler->journal ? "journal" : "nowhere", sampler->drain_run.drain.cut ? "false" : "true");
    return sampler->drain_run.drain.cut ? 1 : 0;
}

int sampler_run(struct sampler *sampler)
{
    int r = sampler_start(sampler);

    if (r)
        return error_pass(r);
    control_run(&sampler->control);
    return sampler_stop(sampler);
}

static void workers_deliver(struct sampler *sampler)
{
    for (unsigned i = 0; sampler->workers && i < sampler->worker_count; i++)
        (void)mailbox_deliver(&sampler->workers[i].worker.mailbox, &sampler->workers[i].worker);
}

/* In reverse order of sampler_new; also after it failed halfway. */
void sampler_free(struct sampler *sampler)
{
    if (!sampler)
        return;
    cluster_stop(sampler->cluster);
    (void)mailbox_deliver(&sampler->control.mailbox, &sampler->control);
    /* Mail that came after a loop had ended: twice, because an answer goes back to the worker that asked. */
    workers_deliver(sampler);
    workers_deliver(sampler);
    journal_thread_stop(sampler->journal_thread);
    workers_deliver(sampler); /* what was written says so */
    http_loops_stop(sampler->loops, sampler->loop_count); /* a start that failed halfway */
    listeners_stop(sampler->listeners);
    for (unsigned i = 0; sampler->workers && i < sampler->worker_count; i++)
        worker_journal_end(sampler->workers[i].journal);
    for (unsigned i = 0; sampler->workers && i < sampler->worker_count; i++)
        worker_backends_stop(sampler->workers[i].backends); /* what was not delivered is settled as stopped */
    http_loops_drain(sampler->loops, sampler->loop_count); /* calls cancelled */
    for (unsigned i = 0; sampler->workers && i < sampler->worker_count; i++) {
        struct worker *worker = &sampler->workers[i].worker;

        (void)mailbox_deliver(&worker->mailbox, worker); /* ... and ended; their links may say so to the loops once more */
        worker_deinit(worker);                           /* runs what gRPC still has for us */
    }
    workers_deliver(sampler); /* calls to peers that were cancelled come home */
    listeners_free(sampler->listeners);
    http_loops_free(sampler->loops, sampler->loop_count);
    for (unsigned i = 0; sampler->workers && i < sampler->worker_count; i++)
        sampler_worker_deinit(&sampler->workers[i]);
    admin_free(sampler->admin);
    config_reload_free(sampler->reload);
    control_timer_free(sampler->tend_timer);
    (void)mailbox_deliver(&sampler->control.mailbox, &sampler->control);
    cluster_free(sampler->cluster);
    sampler_drain_deinit(sampler);
    control_deinit(&sampler->control);
    journal_close(sampler->journal);
    extent_pool_free(sampler->pool);
    sampler_settings_unref(sampler->settings);
    policy_roll_deinit(&sampler->policy_roll);
    security_free(sampler->security); /* after all that connects */
    metrics_deinit(&sampler->metrics);
    backends_free(sampler->backends);
    free(sampler->workers);
    free(sampler);
}
