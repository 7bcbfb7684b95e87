#include "sampler/journal_run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/error.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "sampler/drain_run.h"
#include "sampler/handoff/cluster.h"
#include "sampler/handoff/recovery.h"
#include "sampler/journal/journal.h"
#include "sampler/journal/journal_thread.h"
#include "sampler/sampler_worker.h"

#define CLEAN_AFTER_NS (10 * NS_PER_S) /* beyond decision_wait: what is decided has been exported by then, if the backend is there */

/* Not guessed by others, only different from theirs: no two directories are made by one name at one nanosecond. */
static uint64_t new_journal_id(const struct sampler *sampler)
{
    uint64_t id = hash_bytes(sampler->name, strlen(sampler->name)) ^ (clock_now_unix_ns() * 0x9e3779b97f4a7c15ull);

    return id ? id : 1;
}

int sampler_journal_open(struct sampler *sampler, char *out_error, size_t error_size)
{
    const struct journal_config *config = &sampler->config.journal;
    const struct journal_options options = {
        .directory = config->directory,
        .sync = config->sync,
        .on_error = config->on_error,
        .sync_interval_ns = (uint64_t)config->sync_interval_ns,
        .segment_bytes = config->segment_bytes,
        .max_bytes = config->max_size_bytes,
        .verdict_keep_ns = (uint64_t)sampler->config.tailrace.verdict_keep_ns,
        .clean_age_ns = (uint64_t)sampler->config.tail_sampling.decision_wait_ns + CLEAN_AFTER_NS,
        .new_id = new_journal_id(sampler),
    };
    const struct journal_now now = {clock_now_ns(), clock_now_unix_ns()};
    char reason[400] = "";
    int r = journal_open(&options, now, &sampler->journal, reason, sizeof(reason));

    if (r <= 0)
        return error_pass(r);
    (void)snprintf(out_error, error_size, "tailrace.journal.directory: %s", reason);
    return error_fold(r);
}

static void control_on_replayed(struct mail *mail, void *receiver)
{
    struct sampler *sampler = container_of(mail, struct sampler, replayed_mail);
    uint64_t now_ns = clock_now_ns();

    (void)receiver;
    sampler->replayed = true;
    if (sampler->config.gives_only)
        sampler_on_stop(sampler, 0); /* the drain begins where a sampler's life does */
    else if (sampler->cluster)
        cluster_replayed(sampler->cluster, now_ns);
}

int sampler_journal_start(struct sampler *sampler)
{
    int r = journal_thread_start(sampler->journal, &sampler->journal_thread);

    if (r)
        return error_pass(r);
    sampler->replayed_mail.deliver = control_on_replayed;
    recovery_start(sampler, &sampler->replayed_mail);
    return 0;
}

/* Traces that are held may wait longer than the settings say now: times only ever grow. */
void sampler_journal_keep(struct sampler *sampler)
{
    const struct sampler_config *config = &sampler->settings->config;

    sampler->journal_verdict_keep_ns = u64_max(sampler->journal_verdict_keep_ns, (uint64_t)config->tailrace.verdict_keep_ns);
    sampler->journal_clean_age_ns = u64_max(sampler->journal_clean_age_ns, (uint64_t)config->tail_sampling.decision_wait_ns + CLEAN_AFTER_NS);
    journal_keep(sampler->journal, sampler->journal_verdict_keep_ns, sampler->journal_clean_age_ns);
}

void sampler_journal_status(struct sampler *sampler, struct text *out)
{
    struct journal_stats stats;

    if (!sampler->journal) {
        text_append(out, "\"none: spans are held in memory only\"");
        return;
    }
    journal_stats(sampler->journal, &stats);
    journal_status(&stats, clock_now_unix_ns(), out);
}

void sampler_journal_gauges(struct sampler *sampler)
{
    struct journal_stats stats;

    if (!sampler->journal)
        return;
    journal_stats(sampler->journal, &stats);
    journal_metrics(&stats, clock_now_unix_ns(), &sampler->metrics.cells[sampler->worker_count]);
}
