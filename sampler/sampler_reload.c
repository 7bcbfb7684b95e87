/* A new configuration is merged onto what the program was started with: keys that need a restart keep that value. All that can
 * fail (policies, TLS, credentials) is made aside; then the control thread's own share changes, and each worker gets the settings
 * as mail. A trace that is held keeps its policy set, its deadline and its place.
 */
#include "sampler/sampler_reload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "common/base/log.h"
#include "common/base/plant.h"
#include "common/config/config_diff.h"
#include "sampler/journal/journal.h"
#include "sampler/journal_run.h"
#include "sampler/sampler_setup.h"
#include "sampler/sampler_worker.h"

#define RECORD_SHARE 20u /* records may take a twentieth of the memory limit … */
#define HASH_SHARE 20u   /* … and so may hashes of exported spans */
#define BIG_TRACE_SHARE 20u

const char *const sampler_live_keys[] = {
    "processors.tail_sampling*",
    "processors.batch*",
    "processors.memory_limiter*",
    "exporters",
    "service.pipelines.*.processors",
    "service.extensions",
    "extensions.basicauth*",
    "extensions.bearertokenauth*",
    "extensions.headers_setter*",
    "service.telemetry.logs.level",
    "tailrace.memory",
    "tailrace.verdict_keep",
    "tailrace.resend_window",
    "tailrace.drain_timeout",
    "tailrace.record_policy",
    "tailrace.early_keep",
    NULL,
};

/* -- limits --------------------------------------------------------------------------------------------- */

uint64_t sampler_memory_limit(const struct sampler *sampler, const struct sampler_config *config)
{
    return config->tailrace.memory_limit_bytes > 0 ? config->tailrace.memory_limit_bytes : sampler->limits.memory_bytes / 100 * 65;
}

bool sampler_decides_early(const struct sampler_config *config)
{
    return config->tailrace.at_limit == AT_LIMIT_DECIDE_EARLY && !config->tail_sampling.block_on_overflow;
}

bool sampler_spills(const struct sampler_config *config)
{
    return config->journal.directory && config->tailrace.at_limit != AT_LIMIT_REFUSE;
}

void sampler_limits_set(struct sampler *sampler, const struct sampler_config *config)
{
    uint64_t limit = sampler_memory_limit(sampler, config);

    atomic_store_explicit(&sampler->big_trace_bytes, limit / BIG_TRACE_SHARE, memory_order_relaxed);
    atomic_store_explicit(&sampler->admission.limit_bytes, u64_min(limit / 4, 64 * MIB), memory_order_relaxed);
}

static int64_t share_of(int64_t size, unsigned workers)
{
    return size > 0 ? (size + workers - 1) / workers : size;
}

struct decision_cache_options sampler_cache_options(const struct sampler *sampler, const struct sampler_config *config)
{
    const struct tail_sampling_config *sampling = &config->tail_sampling;
    uint64_t limit = extent_pool_limit_bytes(sampler->pool);

    return (struct decision_cache_options){
        .sampled_cache_size = share_of(sampling->sampled_cache_size, sampler->worker_count),
        .non_sampled_cache_size = share_of(sampling->non_sampled_cache_size, sampler->worker_count),
        .num_traces = sampling->num_traces_set ? u64_max(sampling->num_traces / sampler->worker_count, 1) : 0,
        .verdict_keep_ns = (uint64_t)config->tailrace.verdict_keep_ns,
        .resend_window_ns = (uint64_t)config->tailrace.resend_window_ns,
        .max_bytes = limit / RECORD_SHARE / sampler->worker_count,
        .hash_bytes = limit / HASH_SHARE / sampler->worker_count,
    };
}

/* -- a worker -------------------------------------------------------------------------------------------- */

struct settings_mail {
    struct mail mail;
    struct sampler_settings *settings; /* a reference */
};

static void worker_adopt_policies(struct sampler_worker *home, struct sampler_settings *settings)
{
    uint64_t now_ns = home->worker.now_ns;

    if (settings->set != home->set) {
        struct predicate_scratch *scratch = predicate_scratch_new(policy_set_predicates(settings->set));

        ASSERT(scratch != NULL);
        if (policy_set_needs(home->set)->batch && !policy_set_needs(settings->set)->batch)
            home->batch.until_ns = now_ns + home->decision_wait_most_ns + 2 * BATCH_TICK_NS;
        past_sets_take(&home->past, home->set, home->scratch, now_ns);
        home->scratch = scratch;
        home->set = settings->set;
    }
    policy_counts_adopt(&home->policy_counts, settings);
}

void sampler_worker_adopt(struct sampler_worker *home, struct sampler_settings *settings)
{
    const struct decision_cache_options cache = sampler_cache_options(home->sampler, &settings->config);
    struct sampler_settings *before = home->settings;

    worker_adopt_policies(home, settings);
    decision_cache_change(home->cache, &cache);
    (void)worker_backends_adopt(home->backends, settings);
    if (home->handoff)
        handoff_keep_verdicts(home->handoff, (uint64_t)settings->config.tailrace.verdict_keep_ns);
    home->decision_wait_most_ns = u64_max(home->decision_wait_most_ns, (uint64_t)settings->config.tail_sampling.decision_wait_ns);
    home->settings = sampler_settings_ref(settings);
    sampler_settings_unref(before);
}

static void worker_on_settings(struct mail *mail, void *receiver)
{
    struct settings_mail *news = container_of(mail, struct settings_mail, mail);
    struct sampler_worker *home = container_of((struct worker *)receiver, struct sampler_worker, worker);

    sampler_worker_adopt(home, news->settings);
    sampler_settings_unref(news->settings);
    free(news);
}

static void settings_publish(struct sampler *sampler)
{
    for (unsigned i = 0; i < sampler->worker_count; i++) {
        struct settings_mail *news = calloc(1, sizeof(*news));

        ASSERT(news != NULL);
        news->mail.deliver = worker_on_settings;
        news->settings = sampler_settings_ref(sampler->settings);
        worker_post(&sampler->workers[i].worker, &news->mail);
    }
}

/* -- merging ----------------------------------------------------------------------------------------------- */

static const struct otlp_exporter_config *exporter_find(const struct sampler_config *config, const struct otlp_exporter_config *like)
{
    for (size_t i = 0; i < config->exporter_count; i++)
        if (strcmp(config->exporters[i].id, like->id) == 0 && config->exporters[i].kind == like->kind)
            return &config->exporters[i];
    return NULL;
}

/* The exporters there are, each with its new configuration; one that the file has no more goes on as it was. True: there is one. */
static bool merge_exporters(const struct sampler_config *in_force, const struct sampler_config *next, struct sampler_config *into)
{
    bool borrows = false;

    into->exporter_count = in_force->exporter_count;
    for (size_t i = 0; i < in_force->exporter_count; i++) {
        const struct otlp_exporter_config *found = exporter_find(next, &in_force->exporters[i]);

        into->exporters[i] = found ? *found : in_force->exporters[i];
        borrows |= !found;
    }
    return borrows;
}

/* start: what the program was started with. */
static void merge_tailrace(const struct sampler_config *start, const struct sampler_config *next, struct sampler_config *into)
{
    into->tailrace = start->tailrace;
    into->tailrace.memory_limit_bytes = next->tailrace.memory_limit_bytes;
    into->tailrace.at_limit = next->tailrace.at_limit;
    into->tailrace.verdict_keep_ns = next->tailrace.verdict_keep_ns;
    into->tailrace.resend_window_ns = next->tailrace.resend_window_ns;
    into->tailrace.early_keep = next->tailrace.early_keep;
    into->tailrace.drain_timeout_ns = next->tailrace.drain_timeout_ns;
    into->record_policy = next->record_policy;
    into->record_policy_set = next->record_policy_set;
}

static bool same_texts(const struct config_strings *a, const struct config_strings *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

/* Keys that the lists of live keys cannot tell, because another key makes them so. */
static void more_needs_restart(struct sampler *sampler, const struct sampler_config *next, struct config_try *try)
{
    const struct health_check_config *health = &sampler->config.tailrace.health, *asked = &next->tailrace.health;
    char path[300];

    if (!health->endpoint != !asked->endpoint || (health->endpoint && strcmp(health->endpoint, asked->endpoint) != 0))
        config_try_needs_restart(try, "extensions.health_check");
    if (!same_texts(&sampler->config.tailrace.forward_headers, &next->tailrace.forward_headers))
        config_try_needs_restart(try, "tailrace.forward_headers"); /* batch.metadata_keys and others add to it */
    for (size_t i = 0; i < sampler->config.receiver_count; i++) {
        const struct otlp_receiver_config *receiver = &sampler->config.receivers[i];
        const struct auth_options *const auths[] = {receiver->grpc_auth, receiver->http_auth};

        for (size_t k = 0; k < 2; k++) {
            if (!auths[k] || !auths[k]->id)
                continue;
            (void)snprintf(path, sizeof(path), "extensions.%s", auths[k]->id);
            if (config_paths_have(&try->changed, path))
                config_try_needs_restart(try, path); /* for the receiver; exporters take it over */
        }
    }
}

/* -- a try --------------------------------------------------------------------------------------------------- */

static int reload_read(
    void *tier, struct config_context *context, const struct config_node *root, uint64_t generation, void **out_config)
{
    struct sampler_setup *setup = calloc(1, sizeof(*setup));

    (void)tier;
    ASSERT(setup != NULL);
    *out_config = setup;
    return sampler_setup_read(context, root, generation, setup);
}

static void reload_release(void *tier, void *config)
{
    (void)tier;
    if (config)
        sampler_setup_deinit(config);
    free(config);
}

/* Policies that are as they were keep their set: no trace then belongs to another one. */
static struct policy_set *set_choose(
    const struct sampler_settings *before, const struct sampler_setup *setup)
{
    const struct tail_sampling_config *was = &before->config.tail_sampling, *is = &setup->config.tail_sampling;

    if (!setup->set && planted(PLANT_RELOAD_HALF_APPLIED))
        return before->set;
    if (config_node_equal(was->policies, is->policies) && was->sample_on_first_match == is->sample_on_first_match)
        return before->set;
    policy_set_inherit(setup->set, is->policies, before->set, was->policies);
    return setup->set;
}

static bool affects_exporter(const struct config_paths *changed, const char *id, bool *out_secrets)
{
    char path[300];
    bool all = config_paths_have(changed, "processors.batch*") || config_paths_have(changed, "service.pipelines");
    bool secrets = config_paths_have(changed, "extensions") || config_paths_have(changed, "service.extensions");
    bool own;

    (void)snprintf(path, sizeof(path), "exporters.%s", id);
    own = config_paths_have(changed, path) || strchr(id, '.') || strpbrk(id, "*?[\\"); /* IDs that are no pattern: be safe */
    *out_secrets = secrets || own;
    return all || secrets || own;
}

/* Which exporters are new in what; then what TLS and credentials make of it, which may fail. */
static int settings_secure(struct sampler *sampler, struct sampler_settings *settings, struct config_try *try)
{
    bool renew[OTLP_EXPORTERS_MAX] = {false};
    char error[512] = "";

    for (size_t i = 0; i < settings->config.exporter_count; i++)
        settings->versions[i] = sampler->settings->versions[i] + affects_exporter(&try->changed, settings->config.exporters[i].id, &renew[i]);
    if (backends_secure(sampler->backends, settings, sampler->settings, renew, error, sizeof(error)) == 0)
        return 0;
    return config_error(try->context, NULL, "%s", error[0] ? error : "out of memory");
}

/* The control thread's share. */
static void sampler_take(struct sampler *sampler, struct sampler_settings *settings)
{
    const struct sampler_config *config = &settings->config;
    struct sampler_settings *before = sampler->settings;

    extent_pool_set_limit(sampler->pool, sampler_memory_limit(sampler, config));
    sampler_limits_set(sampler, config);
    budget_allow(&sampler->budget, sampler_decides_early(config), sampler_spills(config));
    log_level_set(config->telemetry.log_level);
    backends_adopt(sampler->backends, settings, before);
    sampler->settings = settings;
    sampler_settings_unref(before);
    if (sampler->journal)
        sampler_journal_keep(sampler);
}

static int reload_apply(void *tier, struct config_try *try)
{
    struct sampler *sampler = tier;
    struct sampler_settings *before = sampler->settings, *settings;
    struct sampler_setup *setup = try->config;
    struct sampler_config config = sampler->config; /* as it was started */
    bool borrows;

    if (sampler_memory_limit(sampler, &setup->config) < budget_least_bytes(sampler->worker_count))
        return config_error(try->context, config_node_get(config_node_get(try->root, "tailrace"), "memory"),
            "%llu MiB is too little for the %u workers that run", (unsigned long long)(sampler_memory_limit(sampler, &setup->config) / MIB),
            sampler->worker_count);
    config.tail_sampling = setup->config.tail_sampling;
    config.telemetry.log_level = setup->config.telemetry.log_level;
    merge_tailrace(&sampler->config, &setup->config, &config);
    borrows = merge_exporters(&before->config, &setup->config, &config);
    settings = sampler_settings_new(&config, NULL, set_choose(before, setup), before, &sampler->policy_roll);
    settings->lender = borrows ? sampler_settings_ref(before) : NULL;
    if (settings_secure(sampler, settings, try)) {
        sampler_settings_unref(settings);
        return CONFIG_E_INVALID;
    }
    settings->context = try->context;
    more_needs_restart(sampler, &setup->config, try);
    sampler_take(sampler, settings);
    settings_publish(sampler);
    reload_release(sampler, setup);
    return 0;
}

int sampler_reload_new(struct sampler *sampler, const struct config_source *source)
{
    const struct config_reload_tier tier = {
        .tier = sampler, .live = sampler_live_keys, .read = reload_read, .apply = reload_apply, .release = reload_release};

    return config_reload_new(&sampler->control, source, &tier, &sampler->metrics.cells[sampler->worker_count], &sampler->reload);
}
