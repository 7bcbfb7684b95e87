#include "sampler/export/backends.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/metrics/metrics.h"
#include "common/run/worker.h"
#include "common/security/security.h"
#include "sampler/settings.h"

static_assert(OTLP_EXPORTERS_MAX <= FAN_OUT_MAX, "a pipeline's exporters fit one fan");

/* One exporter at one worker, as it was at the last turn's end: written there, read by anyone. */
struct shown {
    _Atomic uint64_t sent_spans, failed_spans, refused_spans, enqueue_failed_spans, rejected_spans, calls, failed_calls, retries,
        plain_bytes, packed_bytes, queue_bytes, queue_spans, calls_in_flight, links_up;
};

struct shown_sum {
    uint64_t sent_spans, failed_spans, refused_spans, enqueue_failed_spans, rejected_spans, calls, failed_calls, retries,
        plain_bytes, packed_bytes, queue_bytes, queue_spans, calls_in_flight, links_up;
};

/* A link that was replaced, until the calls on it have ended. */
struct past_link {
    struct past_link *next;
    struct link *link;
    struct sampler_settings *lender;
};

struct worker_backend { /* one exporter at one worker */
    const struct otlp_exporter_config *config;
    struct sampler_settings *lender; /* a reference: whose config that is, and what the link borrows from */
    uint32_t version;
    struct tls *tls;
    struct auth *auth;
    struct worker_backends *mine;
    struct link *link;
    struct past_link *past;
    struct exporter *exporter;
    uint64_t trouble; /* as it was when it was last looked at */
    struct shown shown;
};

struct worker_backends {
    struct backends *backends;
    struct worker *worker;
    struct fan_out *fan;
    uint64_t partly_before;
    size_t count;
    struct worker_backend each[];
};

struct backends {
    const struct otlp_exporter_config *configs; /* in force: the control thread's */
    size_t count;
    struct security *security;
    struct http_loop *const *loops;
    unsigned loop_count;
    unsigned workers, workers_ready;
    bool keeps_units;
    struct worker_backends *by_worker[WORKERS_MAX];
    _Atomic uint64_t said_ns[OTLP_EXPORTERS_MAX]; /* when an exporter's trouble was logged; 0: never */
};

/* -- links ----------------------------------------------------------------------------------------------- */

/* Once a change, by the first worker: the others see the same backend. */
static void backend_on_state(struct link *link, void *context, enum link_state state)
{
    struct worker_backend *backend = context;

    if (link != backend->link || backend->mine->worker->index != 0 || state == LINK_CONNECTING)
        return;
    log_event(state == LINK_UP ? LOG_INFO : LOG_WARN, state == LINK_UP ? "backend_up" : "backend_down", "exporter=%s endpoint=%s",
        backend->config->id, backend->config->endpoint);
}

static int link_make(struct worker_backend *backend, struct link **out_link)
{
    const struct otlp_exporter_config *config = backend->config;
    struct backends *backends = backend->mine->backends;
    struct worker *worker = backend->mine->worker;
    const struct link_options options = {
        .address = config->endpoint,
        .headers = (const struct metadata_pair *)config->header_pairs,
        .tls = backend->tls,
        .auth = backend->auth,
        .user_agent = config->user_agent,
        .authority = config->authority,
        .proxy_url = config->proxy_url,
        .forward = {(const char *const *)config->forward_headers.items, config->forward_headers.count},
        .wait_for_ready = config->wait_for_ready,
        .keepalive_time_ns = config->keepalive_time_ns,
        .keepalive_timeout_ns = config->keepalive_timeout_ns,
        .keepalive_permit_without_stream = config->keepalive_permit_without_stream,
    };

    switch (config->kind) {
    case EXPORTER_OTLP_GRPC:
        return link_grpc_new(worker, &options, backend_on_state, backend, out_link);
    case EXPORTER_OTLP_HTTP:
        return link_http_new(worker, backends->loops[worker->index % backends->loop_count], &options, backend_on_state, backend,
            out_link);
    case EXPORTER_DEBUG:
        return link_debug_new(worker, config->id, config->debug_verbosity, out_link);
    case EXPORTER_NOP:
        return link_nop_new(worker, out_link);
    }
    return error_raise(-EINVAL);
}

/* -- exporters --------------------------------------------------------------------------------------------- */

static bool is_otlp(const struct otlp_exporter_config *config)
{
    return config->kind == EXPORTER_OTLP_GRPC || config->kind == EXPORTER_OTLP_HTTP;
}

static struct exporter_options options_of(const struct otlp_exporter_config *from, unsigned workers)
{
    /* A queue a worker: each gets its share of what the user allows in all. */
    uint64_t queue_size = from->queue_size_set ? u64_max(from->queue_size / workers, 1) : 0;
    bool by_bytes = from->batch_sizer == BATCH_BYTES;

    return (struct exporter_options){
        .name = from->id,
        .timeout_ns = (uint64_t)from->timeout_ns,
        .retry = from->retry,
        .queue_requests = from->queue_sizer == QUEUE_REQUESTS ? queue_size : 0,
        .queue_spans = from->queue_sizer == QUEUE_ITEMS ? queue_size : 0,
        .queue_bytes = from->queue_sizer == QUEUE_BYTES ? queue_size : 0,
        .least_bytes = from->batch_set && by_bytes ? from->batch_min_size : 0,
        .least_spans = from->batch_set && !by_bytes ? from->batch_min_size : 0,
        .most_bytes = from->batch_set && by_bytes ? from->batch_max_size : 0,
        .most_spans = from->batch_set && !by_bytes ? from->batch_max_size : 0,
        .compression = is_otlp(from) ? from->compression : COMPRESS_NONE,
        .flush_timeout_ns = from->batch_set ? (uint64_t)from->batch_flush_timeout_ns : 200 * NS_PER_MS,
        .max_calls = (uint32_t)u64_max(from->num_consumers / workers, 1),
    };
}

static void backend_configure(struct worker_backend *backend, struct sampler_settings *settings, size_t index)
{
    backend->config = &settings->config.exporters[index];
    backend->version = settings->versions[index];
    backend->tls = settings->tls[index];
    backend->auth = settings->auth[index];
    backend->lender = sampler_settings_ref(settings);
}

static int backend_open(struct worker_backend *backend, size_t index)
{
    struct worker_backends *mine = backend->mine;
    struct exporter_options options = options_of(backend->config, mine->backends->workers);
    const struct exporter_owner owner = fan_out_owner(mine->fan, index);
    int r = link_make(backend, &backend->link);

    if (r)
        return error_pass(r);
    options.keeps_units = mine->backends->keeps_units;
    r = exporter_new(&options, backend->link, &owner, &backend->exporter);
    if (r)
        return error_fold(r);
    fan_out_set(mine->fan, index, backend->exporter);
    return 0;
}

int worker_backends_new(struct backends *backends, struct sampler_settings *settings, struct worker *worker,
    const struct exporter_owner *owner, struct worker_backends **out_mine)
{
    struct worker_backends *mine = calloc(1, sizeof(*mine) + backends->count * sizeof(mine->each[0]));
    int r;

    if (!mine)
        return error_raise(-ENOMEM);
    *out_mine = mine; /* also when it fails: freed like the rest */
    mine->backends = backends;
    mine->worker = worker;
    mine->count = backends->count;
    r = fan_out_new(owner, mine->count, &mine->fan);
    if (r)
        return error_fold(r);
    for (size_t i = 0; i < mine->count; i++) {
        mine->each[i].mine = mine;
        backend_configure(&mine->each[i], settings, i);
        r = backend_open(&mine->each[i], i);
        if (r)
            return error_pass(r);
    }
    ASSERT(backends->workers_ready < backends->workers);
    backends->by_worker[backends->workers_ready++] = mine;
    return 0;
}

/* -- reload ------------------------------------------------------------------------------------------------- */

/* No call is under way on it any more, or all were cancelled. */
static void past_link_free(struct past_link *past)
{
    link_free(past->link);
    sampler_settings_unref(past->lender);
    free(past);
}

static void past_links_tend(struct worker_backend *backend)
{
    struct past_link **at = &backend->past;

    while (*at) {
        struct past_link *past = *at;

        if (exporter_uses(backend->exporter, past->link)) {
            at = &past->next;
            continue;
        }
        *at = past->next;
        past_link_free(past);
    }
}

/* Everything that can fail is made first; what was there before then is either kept whole or goes as a past link. */
static bool backend_change(struct worker_backend *backend, struct sampler_settings *settings, size_t index)
{
    const struct worker_backend before = {.config = backend->config,
        .version = backend->version,
        .tls = backend->tls,
        .auth = backend->auth,
        .lender = backend->lender};
    struct past_link *past = calloc(1, sizeof(*past));
    struct exporter_options options;
    struct link *link = NULL;

    backend_configure(backend, settings, index);
    options = options_of(backend->config, backend->mine->backends->workers);
    if (past && link_make(backend, &link) == 0 && exporter_change(backend->exporter, &options, link) == 0) {
        *past = (struct past_link){backend->past, backend->link, before.lender};
        backend->past = past;
        backend->link = link;
        return true;
    }
    link_free(link);
    free(past);
    sampler_settings_unref(backend->lender);
    backend->config = before.config;
    backend->version = before.version;
    backend->tls = before.tls;
    backend->auth = before.auth;
    backend->lender = before.lender;
    return false;
}

bool worker_backends_adopt(struct worker_backends *mine, struct sampler_settings *settings)
{
    bool all = true;

    for (size_t i = 0; i < mine->count; i++) {
        struct worker_backend *backend = &mine->each[i];

        if (backend->version == settings->versions[i] || backend_change(backend, settings, i))
            continue;
        log_event(LOG_ERROR, "exporter_not_changed", "exporter=%s reason=\"out of memory\" remedy=\"restart, or reload again\"",
            backend->config->id);
        all = false;
    }
    return all;
}

/* -- the end ------------------------------------------------------------------------------------------------ */

void worker_backends_stop(struct worker_backends *mine)
{
    if (!mine)
        return;
    for (size_t i = 0; i < mine->count; i++) {
        struct worker_backend *backend = &mine->each[i];

        exporter_free(backend->exporter);
        backend->exporter = NULL;
        link_free(backend->link);
        backend->link = NULL;
        while (backend->past) {
            struct past_link *past = backend->past;

            backend->past = past->next;
            past_link_free(past);
        }
        sampler_settings_unref(backend->lender);
        backend->lender = NULL;
    }
}

void worker_backends_free(struct worker_backends *mine)
{
    if (!mine)
        return;
    worker_backends_stop(mine);
    fan_out_free(mine->fan);
    free(mine);
}

/* -- a turn -------------------------------------------------------------------------------------------------- */

void worker_backends_take(struct worker_backends *mine, struct export_unit *unit, uint8_t delivered, uint64_t now_ns)
{
    fan_out_take(mine->fan, unit, delivered, now_ns);
}

struct fan_out *worker_backends_fan(struct worker_backends *mine)
{
    return mine->fan;
}

const char *worker_backends_name(const struct worker_backends *mine, size_t index)
{
    return index < mine->count ? mine->each[index].config->id : NULL;
}

uint8_t worker_backends_bit(const struct worker_backends *mine, struct slice name)
{
    for (size_t i = 0; i < mine->count; i++) {
        if (slice_equal(slice_text(mine->each[i].config->id), name))
            return (uint8_t)(1u << i);
    }
    return 0;
}

/* Rises with everything that an operator should read of. */
static uint64_t trouble_of(const struct exporter_stats *stats)
{
    return stats->failed_spans + stats->failed_calls + stats->enqueue_failed_spans + stats->rejected_spans;
}

/* What to do when the last error is one of TLS; NULL: it is another. */
static const char *remedy_of(const struct worker_backend *backend, const char *error)
{
    if (!backend->tls || !(strcasestr(error, "ssl") || strcasestr(error, "certificate")))
        return NULL;
    return tls_remedy(error);
}

static uint64_t seen(const _Atomic uint64_t *cell)
{
    return atomic_load_explicit(cell, memory_order_relaxed);
}

static struct shown_sum backend_sum(const struct backends *backends, size_t index)
{
    struct shown_sum sum = {0};

    for (unsigned i = 0; i < backends->workers_ready; i++) {
        const struct shown *shown = &backends->by_worker[i]->each[index].shown;

        sum.sent_spans += seen(&shown->sent_spans);
        sum.failed_spans += seen(&shown->failed_spans);
        sum.refused_spans += seen(&shown->refused_spans);
        sum.enqueue_failed_spans += seen(&shown->enqueue_failed_spans);
        sum.rejected_spans += seen(&shown->rejected_spans);
        sum.calls += seen(&shown->calls);
        sum.failed_calls += seen(&shown->failed_calls);
        sum.retries += seen(&shown->retries);
        sum.plain_bytes += seen(&shown->plain_bytes);
        sum.packed_bytes += seen(&shown->packed_bytes);
        sum.queue_bytes += seen(&shown->queue_bytes);
        sum.queue_spans += seen(&shown->queue_spans);
        sum.calls_in_flight += seen(&shown->calls_in_flight);
        sum.links_up += seen(&shown->links_up);
    }
    return sum;
}

/* Once a period for all workers together: the one that comes first says what all of them count. */
static bool trouble_may_be_said(struct backends *backends, size_t index, uint64_t now_ns)
{
    uint64_t said_ns = seen(&backends->said_ns[index]);

    if (said_ns > 0 && u64_sub_floor(now_ns, said_ns) < LOG_LIMIT_PERIOD_NS)
        return false;
    return atomic_compare_exchange_strong(&backends->said_ns[index], &said_ns, now_ns);
}

static void trouble_log(struct worker_backend *backend, const struct exporter_stats *stats, uint64_t now_ns)
{
    struct backends *backends = backend->mine->backends;
    size_t index = (size_t)(backend - backend->mine->each);
    uint64_t trouble = trouble_of(stats);
    const char *remedy;
    struct shown_sum sum;

    if (trouble == backend->trouble)
        return;
    backend->trouble = trouble;
    if (!trouble_may_be_said(backends, index, now_ns))
        return;
    remedy = remedy_of(backend, stats->last_error);
    sum = backend_sum(backends, index);
    log_event(LOG_WARN, "export_trouble",
        "exporter=%s retries=%llu given_up_spans=%llu refused_spans=%llu rejected_spans=%llu queue_full_spans=%llu queue_spans=%llu "
        "last_error=\"%s\"%s%s%s",
        backend->config->id, (unsigned long long)sum.retries, (unsigned long long)sum.failed_spans,
        (unsigned long long)sum.refused_spans, (unsigned long long)sum.rejected_spans,
        (unsigned long long)sum.enqueue_failed_spans, (unsigned long long)sum.queue_spans, stats->last_error,
        remedy ? " remedy=\"" : "", remedy ? remedy : "", remedy ? "\"" : "");
}

static void show(_Atomic uint64_t *cell, uint64_t value)
{
    atomic_store_explicit(cell, value, memory_order_relaxed);
}

static void backend_show(struct worker_backend *backend, const struct exporter_stats *stats)
{
    struct shown *shown = &backend->shown;

    show(&shown->sent_spans, stats->sent_spans);
    show(&shown->failed_spans, stats->failed_spans);
    show(&shown->refused_spans, stats->refused_spans);
    show(&shown->enqueue_failed_spans, stats->enqueue_failed_spans);
    show(&shown->rejected_spans, stats->rejected_spans);
    show(&shown->calls, stats->calls);
    show(&shown->failed_calls, stats->failed_calls);
    show(&shown->retries, stats->retries);
    show(&shown->plain_bytes, stats->plain_bytes);
    show(&shown->packed_bytes, stats->packed_bytes);
    show(&shown->queue_bytes, stats->queue_bytes);
    show(&shown->queue_spans, stats->queue_spans);
    show(&shown->calls_in_flight, stats->calls_in_flight);
    show(&shown->links_up, backend->link->state == LINK_UP);
}

uint64_t worker_backends_run(struct worker_backends *mine, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX, partly = fan_out_stats(mine->fan)->partly_spans;

    for (size_t i = 0; i < mine->count; i++) {
        struct worker_backend *backend = &mine->each[i];
        const struct exporter_stats *stats = exporter_stats(backend->exporter);

        next_ns = u64_min(next_ns, exporter_run(backend->exporter, now_ns));
        if (UNLIKELY(backend->past != NULL))
            past_links_tend(backend);
        backend_show(backend, stats);
        trouble_log(backend, stats, now_ns);
    }
    metric_add(mine->worker->metrics, METRIC_EXPORTED_PARTLY, partly - mine->partly_before);
    mine->partly_before = partly;
    return next_ns;
}

void worker_backends_hurry(struct worker_backends *mine)
{
    for (size_t i = 0; i < mine->count; i++)
        exporter_hurry(mine->each[i].exporter);
}

uint64_t worker_backends_units(const struct worker_backends *mine)
{
    return fan_out_stats(mine->fan)->units;
}

uint64_t worker_backends_spans(const struct worker_backends *mine)
{
    return fan_out_stats(mine->fan)->spans;
}

uint64_t worker_backends_bytes(const struct worker_backends *mine)
{
    uint64_t bytes = fan_out_stats(mine->fan)->job_bytes;

    for (size_t i = 0; i < mine->count; i++)
        bytes += exporter_stats(mine->each[i].exporter)->request_bytes;
    return bytes;
}

/* -- the process's part ------------------------------------------------------------------------------------------ */

static bool wants_tls(const struct otlp_exporter_config *config)
{
    if (!config->tls || !is_otlp(config))
        return false;
    if (config->kind == EXPORTER_OTLP_HTTP) /* the URL says which */
        return strncasecmp(config->endpoint, "https:", 6) == 0;
    return !config->tls->insecure;
}

static int backend_secure(struct security *security, struct sampler_settings *settings, size_t index, char *out_error, size_t error_size)
{
    const struct otlp_exporter_config *config = &settings->config.exporters[index];
    struct tls_options tls = config->tls ? *config->tls : (struct tls_options){.insecure = true};
    char name[256];

    tls.grpc = config->kind == EXPORTER_OTLP_GRPC;
    (void)snprintf(name, sizeof(name), "exporters.%s.tls", config->id);
    if (wants_tls(config) && security_tls(security, name, &tls, false, &settings->tls[index], out_error, error_size))
        return error_raise(-EINVAL);
    (void)snprintf(name, sizeof(name), "extensions.%s", config->auth ? config->auth->id : "");
    if (is_otlp(config) && config->auth && config->auth->kind != AUTH_NONE &&
        security_auth(security, name, config->auth, false, &settings->auth[index], out_error, error_size))
        return error_raise(-EINVAL);
    return 0;
}

/* What the one has and the other has not. */
static void secure_retire(struct security *security, const struct sampler_settings *old, const struct sampler_settings *kept)
{
    for (size_t i = 0; i < OTLP_EXPORTERS_MAX; i++) {
        if (!kept || old->tls[i] != kept->tls[i])
            security_retire_tls(security, old->tls[i]);
        if (!kept || old->auth[i] != kept->auth[i])
            security_retire_auth(security, old->auth[i]);
    }
}

int backends_secure(struct backends *backends, struct sampler_settings *settings, const struct sampler_settings *before, const bool *renew,
    char *out_error, size_t error_size)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < backends->count; i++) {
        if (!before || renew[i]) {
            r = backend_secure(backends->security, settings, i, out_error, error_size);
        } else {
            settings->tls[i] = before->tls[i];
            settings->auth[i] = before->auth[i];
        }
    }
    if (r && before)
        secure_retire(backends->security, settings, before);
    return error_pass(r);
}

void backends_adopt(struct backends *backends, const struct sampler_settings *settings, const struct sampler_settings *before)
{
    backends->configs = settings->config.exporters;
    secure_retire(backends->security, before, settings);
}

int backends_new(const struct backends_options *options, struct backends **out_backends, char *out_error, size_t error_size)
{
    struct backends *backends = calloc(1, sizeof(*backends));

    if (!backends)
        return error_raise(-ENOMEM);
    *out_backends = backends; /* also when it fails */
    backends->configs = options->settings->config.exporters;
    backends->count = options->settings->config.exporter_count;
    backends->workers = options->workers;
    backends->keeps_units = options->keeps_units;
    backends->loops = options->loops;
    backends->loop_count = options->loop_count;
    backends->security = options->security;
    return error_pass(backends_secure(backends, options->settings, NULL, NULL, out_error, error_size));
}

void backends_free(struct backends *backends)
{
    free(backends);
}

/* -- for who asks ------------------------------------------------------------------------------------------------- */

/* Which metric shows which sum. */
static const struct shown_metric {
    enum metric_id id;
    size_t offset;
} shown_metrics[] = {
#define SHOWN(id_, field) {METRIC_EXPORTER_##id_, offsetof(struct shown_sum, field)}
    SHOWN(SENT_SPANS, sent_spans),
    SHOWN(FAILED_SPANS, failed_spans),
    SHOWN(REFUSED_SPANS, refused_spans),
    SHOWN(ENQUEUE_FAILED_SPANS, enqueue_failed_spans),
    SHOWN(REJECTED_SPANS, rejected_spans),
    SHOWN(CALLS, calls),
    SHOWN(FAILED_CALLS, failed_calls),
    SHOWN(RETRIES, retries),
    SHOWN(PLAIN_BYTES, plain_bytes),
    SHOWN(PACKED_BYTES, packed_bytes),
    SHOWN(QUEUE_BYTES, queue_bytes),
    SHOWN(QUEUE_SPANS, queue_spans),
    SHOWN(IN_FLIGHT, calls_in_flight),
    SHOWN(LINKS_UP, links_up),
#undef SHOWN
};

void backends_metrics(struct backends *backends, struct text *out)
{
    struct shown_sum sums[OTLP_EXPORTERS_MAX];

    for (size_t i = 0; i < backends->count; i++)
        sums[i] = backend_sum(backends, i);
    for (size_t m = 0; m < sizeof(shown_metrics) / sizeof(shown_metrics[0]); m++) {
        const struct metric_info *info = &metric_infos[shown_metrics[m].id];

        metrics_write_head(out, info->name, info->kind, info->help);
        for (size_t i = 0; i < backends->count; i++)
            metrics_write_labeled(out, info->name, info->kind, "exporter", backends->configs[i].id,
                *(const uint64_t *)(const void *)((const char *)&sums[i] + shown_metrics[m].offset));
    }
}

static void backend_status(struct backends *backends, size_t index, struct text *out)
{
    const struct otlp_exporter_config *config = &backends->configs[index];
    const struct shown_sum sum = backend_sum(backends, index);

    text_append(out, "{\"name\": ");
    text_append_json(out, slice_text(config->id));
    text_append(out, ", \"endpoint\": ");
    text_append_json(out, slice_text(config->endpoint ? config->endpoint : ""));
    text_append(out,
        ", \"links_up\": %llu, \"sent_spans\": %llu, \"failed_spans\": %llu, \"refused_spans\": %llu, \"queue_full_spans\": %llu, "
        "\"rejected_spans\": %llu, \"queue_spans\": %llu, \"queue_bytes\": %llu, \"calls\": %llu, \"failed_calls\": %llu, "
        "\"retries\": %llu, \"compression\": \"%s\"}",
        (unsigned long long)sum.links_up, (unsigned long long)sum.sent_spans, (unsigned long long)sum.failed_spans,
        (unsigned long long)sum.refused_spans, (unsigned long long)sum.enqueue_failed_spans, (unsigned long long)sum.rejected_spans,
        (unsigned long long)sum.queue_spans, (unsigned long long)sum.queue_bytes, (unsigned long long)sum.calls,
        (unsigned long long)sum.failed_calls, (unsigned long long)sum.retries, compression_name(config->compression));
}

void backends_status(struct backends *backends, struct text *out)
{
    text_append(out, "[");
    for (size_t i = 0; i < backends->count; i++) {
        text_append(out, "%s\n    ", i ? "," : "");
        backend_status(backends, i, out);
    }
    text_append(out, "\n  ]");
}
