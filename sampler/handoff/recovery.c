/* The first worker reads; all own something of what it finds.
 *
 *   verdict log: VERDICTS, EXPORTED ─▶ caches        data: REQUEST, TRACES ─▶ traces, but for what was given away or exported
 *                GIVEN ─▶ remembered here, by sequence
 *
 * What is subtracted, and which traces were sampled, is kept in a table of its own until the end: the caches are bounded, and may forget what must not come twice. A
 * span that was given away may have come back later: its record's sequence tells.
 */
#include "sampler/handoff/recovery.h"

#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "sampler/handoff/cluster.h"
#include "sampler/handoff/inside.h"
#include "sampler/handoff/takeover.h"
#include "sampler/journal/journal_record.h"
#include "sampler/journal/journal_recovery.h"
#include "sampler/handoff/recovery_gone.h"

#define STEP_BYTES (256u * 1024) /* a turn: some milliseconds */
#define PROGRESS_NS (2 * NS_PER_S)
#define ROOM_AGAIN_NS (2 * NS_PER_MS)
#define STUCK_NS (10 * NS_PER_S)
#define ALWAYS UINT64_MAX

struct recovery {
    struct turn_hook hook;
    struct sampler *sampler;
    struct sampler_worker *home; /* who reads */
    struct journal_recovery *reader;
    struct gone_table gone;
    struct mail *done;
    struct mail start_mail;
    uint64_t began_ns, said_ns;
    uint64_t room_ns;        /* when there was room last, or it was said that there is none */
    uint64_t spans, traces; /* shared out */
    bool records_read;      /* the verdict log is behind us */
    bool some_partly;       /* exported by one exporter, and not by all */
    unsigned left;          /* workers that have not taken all in */
};

static struct recovery *recovery_of(struct turn_hook *hook)
{
    return container_of(hook, struct recovery, hook);
}

/* -- times ---------------------------------------------------------------------------------------------------------------- */

/* How long ago that time of day was; not below 0, whatever the clock did meanwhile. */
static uint64_t age_ns(uint64_t unix_ns)
{
    return u64_sub_floor(clock_now_unix_ns(), unix_ns);
}

static uint64_t ago(const struct recovery *recovery, uint64_t age)
{
    uint64_t now_ns = recovery->home->worker.now_ns;

    return age < now_ns ? now_ns - age : 1;
}

/* -- the verdict log --------------------------------------------------------------------------------------------------------- */

static void verdicts_read(struct recovery *recovery, const struct journal_record *record)
{
    struct journal_verdicts reader;
    struct journal_verdict in;

    journal_verdicts_begin(&reader, record->payload);
    while (journal_verdicts_next(&reader, &in)) {
        const struct join_verdict verdict = {.id = in.id,
            .decision = in.decision,
            .too_large = in.too_large,
            .policy = in.policy,
            .span_count = in.span_count,
            .evidence_span_id = in.evidence_span_id,
            .threshold = in.threshold,
            .decided_ns = ago(recovery, age_ns(in.decided_unix_ns))};

        if (in.decision == DECISION_SAMPLED)
            gone_add(&recovery->gone, gone_to_backends(&in.id), record->sequence);
        else /* the verdict may have been given away since: its spans are gone all the same */
            gone_add(&recovery->gone, gone_trace(&in.id), record->sequence);
        verdict_share_out(recovery->home, VERDICT_IS, &verdict);
    }
}

static void partly_exported(struct recovery *recovery, const struct journal_spans *in)
{
    unsigned bit = worker_backends_bit(recovery->home->backends, in->exporter);

    if (bit == 0)
        return; /* there is no such exporter any more */
    recovery->some_partly = true;
    for (size_t i = 0; i < journal_hash_count(in); i++)
        gone_add(&recovery->gone, gone_from_exporter(&in->id, journal_hash_at(in, i), (unsigned)__builtin_ctz(bit)), ALWAYS);
}

static void exported_read(struct recovery *recovery, const struct journal_record *record)
{
    struct journal_spans_reader reader;
    struct journal_spans in;

    journal_spans_begin(&reader, record->payload);
    while (journal_spans_next(&reader, &in)) {
        size_t count = journal_hash_count(&in);
        uint64_t *hashes = worker_hash_scratch(recovery->home, count);
        const struct join_verdict known = {.id = in.id, .hashes = hashes, .hash_count = count};

        if (in.exporter.len > 0) {
            partly_exported(recovery, &in);
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            hashes[i] = journal_hash_at(&in, i);
            gone_add(&recovery->gone, gone_span(&in.id, hashes[i]), ALWAYS);
        }
        verdict_share_out(recovery->home, VERDICT_HASHES, &known);
    }
}

/* Of the latest record so far of this trace's verdict; 0: none. */
static uint64_t verdict_sequence(const struct recovery *recovery, const struct trace_id *id)
{
    return u64_max(gone_sequence(&recovery->gone, gone_to_backends(id)), gone_sequence(&recovery->gone, gone_trace(id)));
}

static void given_read(struct recovery *recovery, const struct journal_record *record)
{
    struct journal_spans_reader reader;
    struct journal_spans in;

    journal_spans_begin(&reader, record->payload);
    while (journal_spans_next(&reader, &in)) {
        const struct join_verdict gone = {.id = in.id};
        uint64_t before = in.before ? in.before : record->sequence;

        for (size_t i = 0; i < journal_hash_count(&in); i++)
            gone_add(&recovery->gone, gone_span(&in.id, journal_hash_at(&in, i)), before);
        if (!in.also_verdict)
            continue;
        gone_add(&recovery->gone, gone_verdict(&in.id), before);
        if (verdict_sequence(recovery, &in.id) < before) /* else it came back meanwhile */
            verdict_share_out(recovery->home, VERDICT_GONE, &gone);
    }
}

/* -- data ---------------------------------------------------------------------------------------------------------------------- */

/* Takes out of home->intake what is gone; holds the rest. */
static void intake_subtract(struct recovery *recovery, const struct journal_record *record)
{
    struct intake *intake = &recovery->home->intake;
    struct journal_account *account = worker_journal_account(recovery->home->journal);
    size_t kept = 0;

    for (size_t i = 0; i < intake->span_count; i++) {
        const struct intake_span *span = &intake->spans[i];

        if (gone_sequence(&recovery->gone, gone_span(&span->id, span->span_hash)) > record->sequence ||
            gone_sequence(&recovery->gone, gone_trace(&span->id)) > record->sequence)
            continue;
        journal_hold(account, record->at.segment, span->bytes.len);
        intake->spans[kept++] = *span;
    }
    intake->span_count = kept;
    journal_account_flush(account); /* other workers may let go at once */
    recovery->spans += kept;
}

/* The cache may have no room for as many verdicts as there are survivors of a long outage: each is told its own once more. */
static void verdicts_remind(const struct recovery *recovery, const struct arrival *arrival)
{
    const struct intake *intake = &recovery->home->intake;

    for (size_t i = 0; i < intake->span_count; i++) {
        const struct trace_id *id = &intake->spans[i].id;
        const struct join_verdict verdict = {.id = *id, .decision = DECISION_SAMPLED, .decided_ns = arrival->first_ns};
        uint64_t sampled = gone_sequence(&recovery->gone, gone_to_backends(id));

        if (i > 0 && trace_id_equal(id, &intake->spans[i - 1].id))
            continue;
        if (sampled > gone_sequence(&recovery->gone, gone_verdict(id)) && sampled > gone_sequence(&recovery->gone, gone_trace(id)))
            verdict_share_out(recovery->home, VERDICT_IS, &verdict);
    }
}

static uint8_t delivered_bits(const struct recovery *recovery, const struct intake_span *span)
{
    uint8_t bits = 0;

    for (unsigned i = 0; i < FAN_OUT_MAX; i++)
        if (gone_sequence(&recovery->gone, gone_from_exporter(&span->id, span->span_hash, i)) > 0)
            bits |= (uint8_t)(1u << i);
    return bits;
}

/* Those that an exporter has delivered come in apart from those that it has not. */
static void spans_take_by_delivered(struct recovery *recovery, struct buffer *bytes, const struct arrival *arrival)
{
    struct intake *intake = &recovery->home->intake;
    size_t count = intake->span_count;
    struct intake_span *all = malloc(size_max(count, 1) * sizeof(*all));
    uint8_t *bits = malloc(size_max(count, 1));
    bool there[1u << FAN_OUT_MAX] = {false};

    ASSERT(all && bits);
    for (size_t i = 0; i < count; i++) {
        all[i] = intake->spans[i];
        bits[i] = delivered_bits(recovery, &all[i]);
        there[bits[i]] = true;
    }
    for (size_t want = 0; want < ARRAY_COUNT(there); want++) {
        struct arrival mine = *arrival;

        if (!there[want])
            continue;
        mine.delivered |= (uint8_t)want;
        intake->span_count = 0;
        for (size_t i = 0; i < count; i++)
            if (bits[i] == want)
                intake->spans[intake->span_count++] = all[i];
        spans_take(recovery->home, bytes, &mine);
    }
    free(all);
    free(bits);
}

static void spans_read(struct recovery *recovery, const struct journal_record *record, struct buffer *bytes, struct slice otlp,
    const struct metadata_set *metadata, struct arrival *arrival)
{
    struct sampler_worker *home = recovery->home;

    arrival->book = BOOK_RECOVERED;
    if (intake_read(&home->intake, otlp, metadata, home->set, home->scratch, home->headers)) {
        intake_subtract(recovery, record);
        verdicts_remind(recovery, arrival);
        if (UNLIKELY(recovery->some_partly))
            spans_take_by_delivered(recovery, bytes, arrival);
        else
            spans_take(home, bytes, arrival);
    }
    count(home, METRIC_TRANSFER_UNREADABLE, home->intake.rejected_count);
    intake_release(&home->intake, home->headers);
}

/* In memory of our own: other workers borrow from it for a while. */
static struct buffer *payload_copy(const struct journal_record *record)
{
    struct buffer *copy = buffer_new(record->payload.len);

    ASSERT(copy != NULL);
    memcpy(copy->bytes, record->payload.at, record->payload.len);
    copy->len = record->payload.len;
    return copy;
}

static struct arrival arrival_at(const struct recovery *recovery, uint64_t age, const struct journal_record *record, const struct buffer *bytes)
{
    int64_t wait_ns = recovery->home->settings->config.tail_sampling.decision_wait_ns;
    uint64_t now_ns = recovery->home->worker.now_ns;

    return (struct arrival){.now_ns = now_ns,
        .came_ns = ago(recovery, age),
        .first_ns = ago(recovery, age),
        .deadline_ns = now_ns + u64_sub_floor((uint64_t)(wait_ns > 0 ? wait_ns : 0), age),
        .book = BOOK_RECOVERED,
        .at = record->at,
        .base = bytes->bytes};
}

static void request_recover(struct recovery *recovery, const struct journal_record *record)
{
    struct buffer *bytes = payload_copy(record);
    struct journal_came_in in;

    if (journal_request_read(buffer_slice(bytes), &in) == 0) {
        struct arrival arrival = arrival_at(recovery, age_ns(in.received_unix_ns), record, bytes);

        spans_read(recovery, record, bytes, in.body, in.metadata, &arrival);
        metadata_set_unref(in.metadata);
    } else {
        count(recovery->home, METRIC_TRANSFER_UNREADABLE, 1);
    }
    buffer_unref(bytes);
}

static void trace_recover(struct recovery *recovery, const struct journal_record *record, struct buffer *bytes, uint64_t since_ns,
    struct transfer_trace *trace)
{
    struct wire parts = wire_of(trace->body);
    struct transfer_part part;
    uint64_t since_ms = since_ns / NS_PER_MS;
    struct arrival arrival;

    trace->age_ms = u64_add_cap(trace->age_ms, since_ms);
    trace->verdict.age_ms = u64_add_cap(trace->verdict.age_ms, since_ms);
    trace->remaining_ms = trace->remaining_ms > 0 ? (int64_t)u64_sub_floor((uint64_t)trace->remaining_ms, since_ms) : 0;
    arrival = takeover_arrival(recovery->home, trace, recovery->home->worker.now_ns);
    arrival.at = record->at;
    arrival.base = bytes->bytes;
    arrival.delivered = takeover_delivered(recovery->home, trace);
    if (trace->verdict.decision != DECISION_PENDING && gone_sequence(&recovery->gone, gone_verdict(&trace->id)) <= record->sequence)
        takeover_verdict(recovery->home, trace, arrival.now_ns);
    while (transfer_part_next(&parts, &part)) {
        struct metadata_set *metadata;

        ASSERT(transfer_part_metadata(&part, &metadata) == 0);
        spans_read(recovery, record, bytes, part.spans, metadata, &arrival);
        metadata_set_unref(metadata);
    }
    recovery->traces++;
}

/* Hashes of spans that were exported before the trace came here must not come back either. */
static void exported_note(struct recovery *recovery, const struct transfer_trace *trace)
{
    struct transfer_hashes hashes = transfer_hashes(trace);
    uint64_t hash;

    while (transfer_hash_next(&hashes, &hash))
        gone_add(&recovery->gone, gone_span(&trace->id, hash), ALWAYS);
}

static void traces_recover(struct recovery *recovery, const struct journal_record *record)
{
    struct buffer *bytes = payload_copy(record);
    struct journal_came_in in;
    struct transfer_sender sender;
    struct transfer_trace trace;
    struct wire w;
    size_t count_traces;

    if (journal_traces_read(buffer_slice(bytes), &in) == 0 && transfer_give_read(in.body, &sender, &count_traces)) {
        w = wire_of(in.body);
        while (transfer_trace_next(&w, &trace)) {
            exported_note(recovery, &trace);
            trace_recover(recovery, record, bytes, age_ns(in.received_unix_ns), &trace);
        }
    } else {
        count(recovery->home, METRIC_TRANSFER_UNREADABLE, 1);
    }
    buffer_unref(bytes);
}

static void verdicts_are_read(struct recovery *recovery)
{
    if (recovery->records_read)
        return;
    recovery->records_read = true;
    cluster_records_read(recovery->sampler);
}

static void on_record(void *context, const struct journal_record *record)
{
    struct recovery *recovery = context;

    switch (record->kind) {
    case JOURNAL_REQUEST:
        verdicts_are_read(recovery);
        request_recover(recovery, record);
        break;
    case JOURNAL_TRACES:
        verdicts_are_read(recovery);
        traces_recover(recovery, record);
        break;
    case JOURNAL_VERDICTS:
        verdicts_read(recovery, record);
        break;
    case JOURNAL_EXPORTED:
        exported_read(recovery, record);
        break;
    case JOURNAL_GIVEN:
        given_read(recovery, record);
        break;
    case JOURNAL_MEMBER:
        cluster_record_read(recovery->sampler, record->payload);
        break;
    }
}

/* -- its life --------------------------------------------------------------------------------------------------------------------- */

struct end_mail { /* there to each worker and back */
    struct mail mail;
    struct recovery *recovery;
    struct sampler_worker *home;
};

static void recovery_free(struct recovery *recovery)
{
    journal_recovery_end(recovery->reader);
    gone_deinit(&recovery->gone);
    list_del(&recovery->hook.node);
    free(recovery);
}

/* At the reader, when a worker has taken everything in. */
static void reader_on_taken(struct mail *mail, void *receiver)
{
    struct end_mail *news = container_of(mail, struct end_mail, mail);
    struct recovery *recovery = news->recovery;
    const struct journal_progress progress = journal_recovery_progress(recovery->reader);

    (void)receiver;
    free(news);
    if (--recovery->left > 0)
        return;
    log_event(LOG_INFO, "recovered", "records=%llu bytes=%llu spans=%llu corrupt_records=%llu milliseconds=%llu",
        (unsigned long long)progress.records, (unsigned long long)progress.done_bytes, (unsigned long long)recovery->spans,
        (unsigned long long)progress.corrupt_records,
        (unsigned long long)((recovery->home->worker.now_ns - recovery->began_ns) / NS_PER_MS));
    atomic_store_explicit(&recovery->sampler->budget.recovering, false, memory_order_relaxed);
    control_post(&recovery->sampler->control, recovery->done);
    recovery_free(recovery);
}

static void worker_on_end(struct mail *mail, void *receiver)
{
    struct end_mail *news = container_of(mail, struct end_mail, mail);

    (void)receiver;
    handoff_recovered(news->home);
    journal_account_flush(worker_journal_account(news->home->journal));
    mail->deliver = reader_on_taken;
    worker_post(&news->recovery->home->worker, mail);
}

static void recovery_close(struct recovery *recovery)
{
    verdicts_are_read(recovery);
    recovery->left = recovery->sampler->worker_count;
    for (unsigned i = 0; i < recovery->sampler->worker_count; i++) {
        struct end_mail *news = malloc(sizeof(*news));

        ASSERT(news != NULL);
        *news = (struct end_mail){{.deliver = worker_on_end}, recovery, &recovery->sampler->workers[i]};
        worker_post(&recovery->sampler->workers[i].worker, &news->mail);
    }
}

static void progress_say(struct recovery *recovery, uint64_t now_ns)
{
    const struct journal_progress progress = journal_recovery_progress(recovery->reader);

    if (now_ns - recovery->said_ns < PROGRESS_NS)
        return;
    recovery->said_ns = now_ns;
    log_event(LOG_INFO, "recovering", "done_bytes=%llu total_bytes=%llu records=%llu spans=%llu seconds=%llu",
        (unsigned long long)progress.done_bytes, (unsigned long long)progress.total_bytes, (unsigned long long)progress.records,
        (unsigned long long)recovery->spans, (unsigned long long)((now_ns - recovery->began_ns) / NS_PER_S));
}

/* Not even its spans' records fit, or the disk takes nothing back. */
static void stuck_say(struct recovery *recovery, uint64_t now_ns)
{
    if (now_ns - recovery->room_ns < STUCK_NS)
        return;
    recovery->room_ns = now_ns;
    log_event(LOG_ERROR, "recovery_waits_for_memory", "spans=%llu text=\"the journal holds more than tailrace.memory.limit_mib has room for\"",
        (unsigned long long)recovery->spans);
}

/* The journal may hold more than memory does: what was read goes back there, and the reader waits for that. */
static bool has_room(const struct recovery *recovery)
{
    struct sampler *sampler = recovery->sampler;
    uint64_t under_way = atomic_load_explicit(&sampler->admission.bytes, memory_order_relaxed);
    bool more_to_spill = false;

    (void)budget_rung(&sampler->budget);
    for (unsigned i = 0; i < sampler->worker_count; i++)
        more_to_spill |= atomic_load_explicit(&sampler->workers[i].handoff->spill.more, memory_order_relaxed);
    return budget_recovery_may_read(&sampler->budget, under_way, more_to_spill);
}

static uint64_t recovery_run(struct turn_hook *hook, uint64_t now_ns)
{
    struct recovery *recovery = recovery_of(hook);

    if (recovery->left > 0)
        return UINT64_MAX;
    progress_say(recovery, now_ns);
    if (!has_room(recovery)) {
        stuck_say(recovery, now_ns);
        return now_ns + ROOM_AGAIN_NS;
    }
    recovery->room_ns = now_ns;
    if (journal_recovery_step(recovery->reader, STEP_BYTES, on_record, recovery))
        return now_ns;
    recovery_close(recovery);
    return UINT64_MAX;
}

static void worker_on_start(struct mail *mail, void *receiver)
{
    struct recovery *recovery = container_of(mail, struct recovery, start_mail);

    (void)receiver;
    recovery->began_ns = recovery->said_ns = recovery->room_ns = recovery->home->worker.now_ns;
    atomic_store_explicit(&recovery->sampler->budget.recovering, true, memory_order_relaxed);
    ASSERT(journal_recovery_begin(recovery->sampler->journal, &recovery->reader) == 0);
    recovery->hook.run = recovery_run;
    worker_hook(&recovery->home->worker, &recovery->hook);
}

void recovery_start(struct sampler *sampler, struct mail *done)
{
    struct recovery *recovery = calloc(1, sizeof(*recovery));

    ASSERT(recovery != NULL);
    recovery->sampler = sampler;
    recovery->home = &sampler->workers[0];
    recovery->done = done;
    recovery->start_mail.deliver = worker_on_start;
    worker_post(&recovery->home->worker, &recovery->start_mail);
}
