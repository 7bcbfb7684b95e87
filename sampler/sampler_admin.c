/* How the back tier shows itself: /metrics, /status, /traces/{id}, and the same to its peers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/cluster/ring.h"
#include "common/export/rpc_code.h"
#include "common/run/clock.h"
#include "common/run/config_reload.h"
#include "common/run/grpc_pump.h"
#include "common/run/program.h"
#include "proto/peer.h"
#include "sampler/explain.h"
#include "sampler/handoff/cluster.h"
#include "sampler/handoff/worker_handoff.h"
#include "sampler/journal_run.h"
#include "sampler/sampler_worker.h"
#include "sampler/verdict.h"

static_assert(METRIC_BOOK_HELD - METRIC_BOOK_RECEIVED == BOOK_HELD, "metrics.def lists the books in the order of enum book");

static const char *yes_no(bool value)
{
    return value ? "true" : "false";
}

static void books_sum(struct sampler *sampler, uint64_t out_books[BOOK_COUNT])
{
    uint64_t books[BOOK_COUNT];

    memset(out_books, 0, BOOK_COUNT * sizeof(out_books[0]));
    for (unsigned i = 0; i < sampler->worker_count; i++) {
        sampler_books_read(&sampler->workers[i], books);
        for (int k = 0; k < BOOK_COUNT; k++)
            out_books[k] += books[k];
    }
}

static struct policy_sum policy_sum(struct sampler *sampler, uint32_t number)
{
    struct policy_sum sum = {.credited = 0};

    for (unsigned i = 0; i < sampler->worker_count; i++) {
        const struct policy_sum part = policy_counts_shown(&sampler->workers[i].policy_counts, number);

        sum.votes.sampled += part.votes.sampled;
        sum.votes.not_sampled += part.votes.not_sampled;
        sum.votes.dropped += part.votes.dropped;
        sum.votes.errors += part.votes.errors;
        sum.credited += part.credited;
    }
    return sum;
}

/* -- /metrics --------------------------------------------------------------------------------------------------- */

/* A policy's label, as in the Collector: its name, behind that of a component that has one. Those that a reload took away stay on
 * the page: a counter does not vanish. */
static void policy_label(struct sampler *sampler, uint32_t number, struct text *out)
{
    const char *component = sampler->settings->config.tail_sampling.component_name;

    text_append(out, "%s%s%s", component, component[0] ? "." : "", sampler->policy_roll.names[number]);
}

static void policy_line(struct text *out, struct slice policy, const char *labels, uint64_t value)
{
    text_append(out, "%s{policy=", metric_infos[METRIC_POLICY_VOTES].name);
    text_append_json(out, policy); /* Prometheus escapes what can be in a name as JSON does */
    text_append(out, ",%s} %llu\n", labels, (unsigned long long)value);
}

/* One of the families that have nothing but a policy's label. */
static void policies_family(
    struct sampler *sampler, struct text *out, enum metric_id id, uint64_t (*value)(const struct policy_sum *sum))
{
    const struct metric_info *info = &metric_infos[id];
    struct text label = {0};

    metrics_write_head(out, info->name, info->kind, info->help);
    for (uint32_t i = 0; i < sampler->policy_roll.count; i++) {
        const struct policy_sum sum = policy_sum(sampler, i);

        text_clear(&label);
        policy_label(sampler, i, &label);
        metrics_write_labeled(out, info->name, info->kind, "policy", label.at ? label.at : "", value(&sum));
    }
    text_deinit(&label);
}

static uint64_t executions(const struct policy_sum *sum)
{
    return sum->votes.sampled + sum->votes.not_sampled + sum->votes.dropped + sum->votes.errors;
}

static uint64_t credits(const struct policy_sum *sum)
{
    return sum->credited;
}

static void policies_metrics(struct sampler *sampler, struct text *out)
{
    const struct metric_info *votes = &metric_infos[METRIC_POLICY_VOTES];
    struct text label = {0};

    metrics_write_head(out, votes->name, votes->kind, votes->help);
    for (uint32_t i = 0; i < sampler->policy_roll.count; i++) {
        struct policy_sum counts = policy_sum(sampler, i);

        text_clear(&label);
        policy_label(sampler, i, &label);
        policy_line(out, slice_make(label.at, label.len), "sampled=\"true\",decision=\"sampled\"", counts.votes.sampled);
        policy_line(out, slice_make(label.at, label.len), "sampled=\"false\",decision=\"not_sampled\"", counts.votes.not_sampled);
        if (counts.votes.dropped > 0)
            policy_line(out, slice_make(label.at, label.len), "sampled=\"false\",decision=\"dropped\"", counts.votes.dropped);
    }
    policies_family(sampler, out, METRIC_POLICY_EXECUTIONS, executions);
    policies_family(sampler, out, METRIC_TRACES_CREDITED, credits);
    text_deinit(&label);
}

/* The books are read as they balanced at a turn's end and shown from the control thread's own cell. */
static void sampler_metrics(void *context, struct text *out)
{
    struct sampler *sampler = context;
    struct metrics_cell *cell = &sampler->metrics.cells[sampler->worker_count];
    uint64_t books[BOOK_COUNT];

    books_sum(sampler, books);
    for (int i = 0; i < BOOK_COUNT; i++)
        metric_set(cell, (enum metric_id)(METRIC_BOOK_RECEIVED + i), books[i]);
    if (sampler->cluster)
        cluster_gauges(sampler->cluster);
    sampler_journal_gauges(sampler);
    metrics_write(&sampler->metrics, METRICS_SAMPLER, out);
    if (sampler->cluster)
        cluster_metrics(sampler->cluster, out);
    backends_metrics(sampler->backends, out);
    policies_metrics(sampler, out);
}

/* -- /status ---------------------------------------------------------------------------------------------------- */

bool sampler_ready(void *context, const char **out_reason)
{
    struct sampler *sampler = context;

    if (sampler->draining) {
        *out_reason = "draining";
        return false;
    }
    if (!sampler->replayed) {
        *out_reason = "the journal is being read";
        return false;
    }
    return !sampler->cluster || cluster_is_ready(sampler->cluster, out_reason);
}

static void status_policies(struct sampler *sampler, struct text *out)
{
    const struct policy_numbers *policies = sampler->settings->policies;

    for (size_t i = 0; i < policies->count; i++) {
        struct policy_sum counts = policy_sum(sampler, policies->each[i].number);

        text_append(out, "%s\n    {\"name\": ", i ? "," : "");
        text_append_json(out, slice_text(policies->each[i].name));
        text_append(out, ", \"sampled\": %llu, \"not_sampled\": %llu, \"dropped\": %llu, \"errors\": %llu, \"credited\": %llu}",
            (unsigned long long)counts.votes.sampled, (unsigned long long)counts.votes.not_sampled, (unsigned long long)counts.votes.dropped,
            (unsigned long long)counts.votes.errors, (unsigned long long)counts.credited);
    }
}

static void status_books(struct sampler *sampler, struct text *out)
{
    uint64_t b[BOOK_COUNT], in, dropped;

    books_sum(sampler, b);
    in = b[BOOK_RECEIVED] + b[BOOK_RECOVERED] + b[BOOK_TAKEN_OVER];
    dropped = b[BOOK_DROPPED_NOT_SAMPLED] + b[BOOK_DROPPED_LATE] + b[BOOK_DROPPED_SHUTDOWN] + b[BOOK_DROPPED_TOO_LARGE] +
        b[BOOK_DROPPED_EXPORT];
    text_append(out, "  \"books\": {\"received\": %llu, \"recovered\": %llu, \"taken_over\": %llu, \"exported\": %llu, "
        "\"dropped\": %llu, \"duplicate\": %llu, \"handed_over\": %llu, \"held\": %llu, \"balance\": %s}\n",
        (unsigned long long)b[BOOK_RECEIVED], (unsigned long long)b[BOOK_RECOVERED], (unsigned long long)b[BOOK_TAKEN_OVER],
        (unsigned long long)b[BOOK_EXPORTED], (unsigned long long)dropped, (unsigned long long)b[BOOK_DUPLICATE],
        (unsigned long long)b[BOOK_HANDED_OVER], (unsigned long long)b[BOOK_HELD],
        yes_no(in == b[BOOK_EXPORTED] + dropped + b[BOOK_DUPLICATE] + b[BOOK_HANDED_OVER] + b[BOOK_HELD]));
}

/* What came and went between samplers. */
static void status_handoff(const struct metrics *metrics, struct text *out)
{
    static const struct {
        const char *name;
        enum metric_id id;
    } shown[] = {
        {"given_traces", METRIC_GIVEN_TRACES},
        {"given_spans", METRIC_GIVEN_SPANS},
        {"given_bytes", METRIC_GIVEN_BYTES},
        {"gives_in_vain", METRIC_GIVES_IN_VAIN},
        {"taken_over_traces", METRIC_TAKEN_OVER_TRACES},
        {"taken_over_bytes", METRIC_TAKEN_OVER_BYTES},
        {"forwarded_spans", METRIC_FORWARDED_SPANS},
        {"forwards_in_vain", METRIC_FORWARDS_IN_VAIN},
        {"kept_spans", METRIC_KEPT_SPANS},
        {"parked_requests", METRIC_PARKED_REQUESTS},
        {"taken_out_of_step", METRIC_TAKEN_OUT_OF_STEP},
        {"foreign_traces", METRIC_FOREIGN_TRACES},
        {"foreign_bytes", METRIC_FOREIGN_BYTES},
        {"verdict_conflicts", METRIC_VERDICT_CONFLICTS},
        {"decided_apart", METRIC_DECIDED_APART},
    };

    text_append(out, "  \"handoff\": {");
    for (size_t i = 0; i < ARRAY_COUNT(shown); i++)
        text_append(out, "%s\"%s\": %llu", i ? ", " : "", shown[i].name, (unsigned long long)metrics_sum(metrics, shown[i].id));
    text_append(out, "},\n");
}

static void sampler_status(void *context, struct text *out)
{
    static const char *const rungs[] = {"none", "spill", "decide_early", "refuse"};
    static const char *const at_limits[] = {"refuse", "decide_early", "spill"};
    struct sampler *sampler = context;
    const struct metrics *metrics = &sampler->metrics;
    const char *reason = "";
    bool ready = sampler_ready(sampler, &reason);

    text_append(out, "{\n  \"program\": \"tailrace-sampler\", \"version\": \"%s\", \"grpc\": \"%s\", \"member\": ", TAILRACE_VERSION,
        pump_library_version());
    text_append_json(out, slice_text(sampler->name));
    text_append(out, ",\n  \"started_unix_ns\": %llu, \"ready\": %s, \"reason\": ",
        (unsigned long long)sampler->started_unix_ns, yes_no(ready));
    text_append_json(out, slice_text(ready ? "" : reason));
    text_append(out, ", \"draining\": %s, \"workers\": %u,\n  \"cluster\": ", yes_no(sampler->draining), sampler->worker_count);
    if (sampler->cluster)
        cluster_status(sampler->cluster, out);
    else
        text_append(out, "\"standalone: traces are not handed over\"");
    text_append(out, ",\n");
    if (sampler->cluster)
        status_handoff(metrics, out);
    text_append(out, "  \"drain\": \"%s\", \"journal\": ", drain_phase_name(sampler->drain_run.drain.phase));
    sampler_journal_status(sampler, out);
    text_append(out, ",\n  \"config\": ");
    config_reload_status(sampler->reload, out);
    text_append(out, ",\n  \"policy_generation\": %llu,\n", (unsigned long long)policy_set_generation(sampler->settings->set));
    text_append(out, "  \"traces_held\": %llu, \"headers\": %llu, \"ring_disagreements\": %llu,\n",
        (unsigned long long)metrics_sum(metrics, METRIC_TRACES_HELD), (unsigned long long)metrics_sum(metrics, METRIC_HEADERS),
        (unsigned long long)metrics_sum(metrics, METRIC_RING_DISAGREEMENTS));
    text_append(out, "  \"records\": {\"count\": %llu, \"hashes\": %llu, \"evicted_young\": %llu, \"horizon_ns\": %lld, \"verdict_keep_ns\": %lld, "
        "\"resend_window_ns\": %lld},\n",
        (unsigned long long)metrics_sum(metrics, METRIC_RECORDS), (unsigned long long)metrics_sum(metrics, METRIC_RESEND_HASHES),
        (unsigned long long)metrics_sum(metrics, METRIC_RECORDS_EVICTED_YOUNG),
        (long long)metrics_sum(metrics, METRIC_RECORD_HORIZON_NS), (long long)sampler->settings->config.tailrace.verdict_keep_ns,
        (long long)sampler->settings->config.tailrace.resend_window_ns);
    text_append(out, "  \"memory\": {\"limit_bytes\": %llu, \"committed_bytes\": %llu, \"used_bytes\": %llu, \"rung\": \"%s\", \"at_limit\": \"%s\"},\n",
        (unsigned long long)extent_pool_limit_bytes(sampler->pool), (unsigned long long)extent_pool_committed_bytes(sampler->pool),
        (unsigned long long)metrics_sum(metrics, METRIC_STORE_USED_BYTES), rungs[metrics_sum(metrics, METRIC_LADDER_RUNG) & 3],
        at_limits[sampler->settings->config.tailrace.at_limit]);
    text_append(out, "  \"exporters\": ");
    backends_status(sampler->backends, out);
    text_append(out, ",\n");
    text_append(out, "  \"policies\": [");
    status_policies(sampler, out);
    text_append(out, "\n  ],\n");
    status_books(sampler, out);
    text_append(out, "}\n");
}

/* -- Hello --------------------------------------------------------------------------------------------------------- */

static int peer_hello(void *tier, struct worker *worker, struct slice request, void *call, struct buffer **out_answer)
{
    struct sampler *sampler = tier;
    Tailrace__V1__Status *theirs = tailrace__v1__status__unpack(NULL, request.len, request.at);
    Tailrace__V1__Status mine;
    char software[] = "tailrace-sampler " TAILRACE_VERSION, cluster[132];
    uint64_t room;

    (void)worker;
    (void)call;
    if (!theirs)
        return RPC_INVALID_ARGUMENT;
    tailrace__v1__status__free_unpacked(theirs, NULL);
    room = u64_sub_floor(extent_pool_limit_bytes(sampler->pool),
        extent_pool_committed_bytes(sampler->pool) - extent_pool_idle_bytes(sampler->pool));
    tailrace__v1__status__init(&mine);
    mine.hash_version = RING_HASH_VERSION;
    mine.name = sampler->name;
    mine.incarnation = sampler->incarnation;
    mine.state = sampler->draining ? TAILRACE__V1__STATE__STATE_DRAINING : TAILRACE__V1__STATE__STATE_READY;
    mine.room_bytes = room;
    mine.hands_over = sampler->cluster != NULL;
    if (sampler->cluster) {
        const struct cluster_word word = cluster_word(sampler->cluster);

        (void)snprintf(cluster, sizeof(cluster), "%s", sampler->config.cluster.name);
        mine.cluster = cluster;
        mine.incarnation = word.incarnation;
        mine.state = (Tailrace__V1__State)word.state;
        mine.ring_fingerprint = word.fingerprint;
    }
    mine.software = software;
    *out_answer = buffer_new(tailrace__v1__status__get_packed_size(&mine));
    if (!*out_answer)
        return RPC_RESOURCE_EXHAUSTED;
    (*out_answer)->len = tailrace__v1__status__pack(&mine, (*out_answer)->bytes);
    return 0;
}

const struct peer_method sampler_peer_methods[] = {
    {"/tailrace.v1.Peer/Hello", peer_hello},
    {"/tailrace.v1.Peer/Tell", cluster_serve_tell},
    {"/tailrace.v1.Peer/Give", give_serve},
    {"/tailrace.v1.Peer/Forward", forward_serve},
    {"/tailrace.v1.Peer/Explain", explain_serve},
    {NULL, NULL},
};

static bool sampler_serving(void *context)
{
    const struct sampler *sampler = context;

    return !sampler->draining;
}

static int sampler_reload(void *context, struct text *out)
{
    struct sampler *sampler = context;

    if (sampler->reload)
        return config_reload_serve(sampler->reload, out) ? 0 : -1;
    text_append(out, "{\"error\": \"there is no file to read again\"}\n");
    return -1;
}

int sampler_admin_new(struct sampler *sampler, char *out_error, size_t error_size)
{
    const struct admin_routes routes = {
        .context = sampler,
        .ready = sampler_ready,
        .serving = sampler_serving,
        .metrics = sampler_metrics,
        .status = sampler_status,
        .explain = explain_ask,
        .reload = sampler_reload,
    };
    const struct admin_options options = program_admin_options(&sampler->config.tailrace);

    if (!program_has_admin(&sampler->config.tailrace))
        return 0;
    return admin_new(&sampler->control, &options, &routes, &sampler->admin, out_error, error_size);
}
