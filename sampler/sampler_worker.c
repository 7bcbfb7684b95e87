/* What a worker is made of, and the end of it. */
#include "sampler/sampler_worker.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/error.h"
#include "common/run/clock.h"
#include "sampler/export/survivors.h"
#include "sampler/turn.h"

int sampler_worker_init(struct sampler_worker *home, struct sampler *sampler, unsigned index, const struct decision_cache_options *cache)
{
    const struct exporter_owner owner = survivors_owner(home);
    int r;

    home->sampler = sampler;
    home->settings = sampler_settings_ref(sampler->settings);
    home->set = home->settings->set;
    home->decision_wait_most_ns = (uint64_t)sampler->config.tail_sampling.decision_wait_ns;
    intake_init(&home->intake);
    home->hook.run = sampler_worker_run;
    r = worker_init(&home->worker, index, sampler->worker_count, &sampler->metrics.cells[index]);
    if (r)
        return error_pass(r);
    r = extent_store_new(sampler->pool, &home->store);
    if (r)
        return error_fold(r);
    home->headers = header_table_new();
    home->scratch = predicate_scratch_new(policy_set_predicates(home->set));
    if (!home->headers || !home->scratch)
        return error_raise(-ENOMEM);
    r = policy_counts_init(&home->policy_counts, home->settings);
    if (r)
        return error_fold(r);
    r = trace_table_new(home->store, home->headers, clock_now_ns(), &home->traces);
    if (r)
        return error_fold(r);
    r = decision_cache_new(cache, &home->cache);
    if (r)
        return error_fold(r);
    r = worker_backends_new(sampler->backends, home->settings, &home->worker, &owner, &home->backends);
    if (r)
        return error_pass(r);
    r = worker_handoff_new(home, &sampler->handoff, &home->handoff);
    if (r)
        return error_pass(r);
    worker_hook(&home->worker, &home->hook);
    return 0;
}

void sampler_worker_deinit(struct sampler_worker *home)
{
    worker_handoff_free(home->handoff);
    home->handoff = NULL;
    worker_backends_free(home->backends);
    trace_table_free(home->traces);
    worker_journal_free(home->journal);
    decision_cache_free(home->cache);
    header_table_free(home->headers);
    extent_store_free(home->store);
    predicate_scratch_free(home->scratch);
    past_sets_deinit(&home->past);
    policy_counts_deinit(&home->policy_counts);
    sampler_settings_unref(home->settings);
    intake_deinit(&home->intake);
    free(home->batch.traces);
    free(home->batch.inputs);
    free(home->batch.decided);
    free(home->hash_scratch);
}
