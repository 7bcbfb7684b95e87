#include "sampler/handoff/worker_journal.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/base/plant.h"
#include "common/export/fan_out.h"
#include "common/run/clock.h"
#include "sampler/export/survivors.h"
#include "sampler/handoff/held.h"
#include "sampler/handoff/inside.h"
#include "sampler/handoff/room.h"
#include "sampler/journal/journal_record.h"
#include "sampler/verdict.h"

#define AGAIN_NS (1 * NS_PER_S)
#define GATHERED_MOST (1u << 20) /* traces and spans while the disk fails: some tens of MiB at most */

/* Data segments that a record speaks of. */
struct segments {
    uint32_t *numbers;
    size_t count, capacity;
};

struct leaving { /* a sampled trace that waits for its verdict */
    struct trace *trace;
    struct sampling_note note;
};

/* The verdicts of a turn. */
struct verdict_batch {
    struct list node; /* of batches, in order */
    struct journal_write write;
    struct worker_journal *mine;
    uint64_t number;
    struct journal_verdict *verdicts;
    size_t verdict_count, verdict_capacity;
    struct segments segments;
    struct leaving *leaving;
    size_t leaving_count, leaving_capacity;
    uint64_t span_count; /* of those */
    bool queued;         /* the journal has it */
};

/* Spans by hash, of many traces: a turn's EXPORTED or GIVEN. */
struct span_batch {
    struct journal_spans *spans; /* hashes: offsets into `hashes` until they are encoded */
    size_t count, capacity;
    uint64_t *hashes;
    size_t hash_count, hash_capacity;
    struct segments segments;
};

struct worker_journal {
    struct sampler_worker *home;
    struct journal *journal;
    struct journal_account account;
    struct verdict_batch *open; /* of this turn; NULL: none yet */
    struct list batches;        /* not written yet */
    uint64_t next_number, written_number;
    uint64_t verdict_count, span_count;
    uint64_t again_ns;          /* when a batch that was refused is tried again; 0: none is */
    struct span_batch exported, given;
    char *exporters[FAN_OUT_MAX]; /* names */
    bool ended;
};

static void segments_add(struct segments *set, uint32_t number)
{
    if (number == 0)
        return;
    for (size_t i = set->count; i > 0; i--) /* mostly the last one again */
        if (set->numbers[i - 1] == number)
            return;
    set->numbers = room_for(set->numbers, set->count, &set->capacity, sizeof(set->numbers[0]));
    set->numbers[set->count++] = number;
}

static void place_visit(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    (void)span_hash;
    (void)len;
    segments_add(context, at->segment);
}

static void segments_add_trace(struct segments *set, struct trace *trace)
{
    trace_places(trace, place_visit, set);
}

/* -- life --------------------------------------------------------------------------------------------------------------- */

struct worker_journal *worker_journal_new(struct sampler_worker *home, struct journal *journal)
{
    struct worker_journal *mine = calloc(1, sizeof(*mine));

    if (!mine)
        return NULL;
    mine->home = home;
    mine->journal = journal;
    mine->next_number = 1;
    list_init(&mine->batches);
    journal_account_init(&mine->account, journal);
    return mine;
}

static void batch_free(struct verdict_batch *batch)
{
    free(batch->verdicts);
    free(batch->segments.numbers);
    free(batch->leaving);
    free(batch);
}

static void span_batch_free(struct span_batch *batch)
{
    free(batch->spans);
    free(batch->hashes);
    free(batch->segments.numbers);
}

/* What waited in vain is let go of as memory; its segments keep it. */
static void batch_abandon(struct worker_journal *mine, struct verdict_batch *batch)
{
    for (size_t i = 0; i < batch->leaving_count; i++)
        trace_free(mine->home->traces, batch->leaving[i].trace);
    batch->leaving_count = 0;
}

void worker_journal_end(struct worker_journal *mine)
{
    if (!mine)
        return;
    journal_account_flush(&mine->account);
    mine->ended = true;
    LIST_FOR_EACH (node, &mine->batches)
        batch_abandon(mine, container_of(node, struct verdict_batch, node));
    if (mine->open)
        batch_abandon(mine, mine->open);
}

void worker_journal_free(struct worker_journal *mine)
{
    if (!mine)
        return;
    for (struct list *node; (node = list_take_first(&mine->batches));)
        batch_free(container_of(node, struct verdict_batch, node));
    if (mine->open)
        batch_free(mine->open);
    span_batch_free(&mine->exported);
    span_batch_free(&mine->given);
    for (size_t i = 0; i < FAN_OUT_MAX; i++)
        free(mine->exporters[i]);
    journal_account_deinit(&mine->account);
    free(mine);
}

struct journal_account *worker_journal_account(struct worker_journal *mine)
{
    return &mine->account;
}

/* -- what comes in --------------------------------------------------------------------------------------------------------- */

struct data_write {
    struct journal_write write;
    struct open_request *open; /* NULL: it was answered already */
    struct buffer *bytes;      /* one reference */
};

static void worker_on_data_written(struct mail *mail, void *receiver)
{
    struct data_write *data = container_of(container_of(mail, struct journal_write, mail), struct data_write, write);
    struct answer_status status = refusal_status(REFUSED_DELIVERY);

    (void)receiver;
    if (data->open && data->write.error) {
        status.message = "the journal could not be written";
        open_refuse(data->open, REFUSED_JOURNAL, status);
        open_outcome(data->open, TRANSFER_BUSY, status.retry_ns / NS_PER_MS);
        open_not_accepted(data->open);
    }
    if (data->open)
        open_done(data->open);
    buffer_unref(data->bytes);
    free(data);
}

static int data_append(struct worker_journal *mine, enum journal_kind kind, struct buffer *head, struct open_request *open,
    struct buffer *bytes, struct slice body, uint64_t hold_bytes, struct journal_pos *out_at)
{
    struct data_write *data = calloc(1, sizeof(*data));
    size_t head_len = head ? head->len : 0;
    int r;

    ASSERT(data != NULL && head != NULL);
    data->write = (struct journal_write){.mail = {.deliver = worker_on_data_written},
        .done = journal_done_at_worker,
        .to = &mine->home->worker,
        .kind = kind,
        .head = head,
        .body = body,
        .hold_bytes = (uint32_t)hold_bytes};
    data->bytes = buffer_ref(bytes);
    data->open = planted(PLANT_ACKNOWLEDGE_BEFORE_WRITE) ? NULL : open;
    if (data->open)
        open_wait(data->open);
    r = journal_append(mine->journal, &data->write);
    if (r) {
        if (data->open)
            data->open->waits--; /* never the last: its maker's is there */
        buffer_unref(head);
        buffer_unref(data->bytes);
        free(data);
        return r;
    }
    *out_at = data->write.at;
    out_at->offset += (uint32_t)head_len;
    return 0;
}

static uint64_t unix_of(uint64_t at_ns, uint64_t now_ns)
{
    return clock_now_unix_ns() - u64_sub_floor(now_ns, at_ns);
}

int worker_journal_request(struct worker_journal *mine, struct open_request *open, struct buffer *bytes, struct slice body,
    uint64_t hold_bytes, struct journal_pos *out_at)
{
    struct buffer *head = journal_request_head(unix_of(open->received_ns, mine->home->worker.now_ns), open->metadata);

    return data_append(mine, JOURNAL_REQUEST, head, open, bytes, body, hold_bytes, out_at);
}

int worker_journal_traces(struct worker_journal *mine, struct open_request *open, struct buffer *bytes, uint64_t hold_bytes, struct journal_pos *out_at)
{
    struct buffer *head = journal_traces_head(clock_now_unix_ns());

    return data_append(mine, JOURNAL_TRACES, head, open, bytes, buffer_slice(bytes), hold_bytes, out_at);
}

void worker_journal_let_go(struct worker_journal *mine, uint32_t segment, uint64_t bytes)
{
    if (!mine->ended)
        journal_release(&mine->account, segment, bytes);
}

/* -- verdicts --------------------------------------------------------------------------------------------------------------- */

static struct verdict_batch *batch_open(struct worker_journal *mine)
{
    struct verdict_batch *batch = mine->open;

    if (batch)
        return batch;
    batch = calloc(1, sizeof(*batch));
    ASSERT(batch != NULL);
    batch->mine = mine;
    batch->number = mine->next_number++;
    mine->open = batch;
    return batch;
}

static void batch_add(struct worker_journal *mine, const struct trace_id *id, const struct decision_record *record)
{
    struct verdict_batch *batch = batch_open(mine);
    const char *policy = record_policy_name(mine->home, record);

    batch->verdicts = room_for(batch->verdicts, batch->verdict_count, &batch->verdict_capacity, sizeof(batch->verdicts[0]));
    batch->verdicts[batch->verdict_count++] = (struct journal_verdict){.id = *id,
        .decision = record->decision,
        .too_large = record->too_large,
        .policy = policy ? slice_text(policy) : (struct slice){NULL, 0},
        .decided_unix_ns = unix_of(record->decided_ns, mine->home->worker.now_ns),
        .span_count = record->span_count,
        .evidence_span_id = record->evidence_span_id,
        .evidence_bit = record->evidence_bit,
        .threshold = record->threshold};
    mine->verdict_count++;
}

void worker_journal_verdict(struct worker_journal *mine, struct trace *trace, const struct decision_record *record)
{
    batch_add(mine, trace_id_of(trace), record);
    segments_add_trace(&mine->open->segments, trace);
}

void worker_journal_learned(struct worker_journal *mine, const struct trace_id *id, const struct decision_record *record, struct trace *const *traces,
    size_t trace_count)
{
    batch_add(mine, id, record);
    for (size_t i = 0; i < trace_count; i++)
        segments_add_trace(&mine->open->segments, traces[i]);
}

void worker_journal_late(struct worker_journal *mine, const struct trace_id *id, const struct decision_record *record, uint32_t segment)
{
    const struct verdict_batch *batch = mine->open;

    if (segment == 0)
        return;
    if (!batch || batch->verdict_count == 0 || !trace_id_equal(&batch->verdicts[batch->verdict_count - 1].id, id))
        batch_add(mine, id, record);
    segments_add(&mine->open->segments, segment);
}

static void leave(struct sampler_worker *home, const struct leaving *leaving, uint64_t now_ns)
{
    uint64_t id_hash = hash_trace(trace_id_of(leaving->trace));

    if (handoff_may_decide(home, id_hash))
        survivors_take(home, leaving->trace, &leaving->note, now_ns);
    else /* the slot was lost meanwhile */
        handoff_await_export(home, leaving->trace, id_hash, trace_info(leaving->trace).delivered);
}

static struct verdict_batch *last_batch(struct worker_journal *mine)
{
    if (mine->open)
        return mine->open;
    return list_empty(&mine->batches) ? NULL : container_of(mine->batches.prev, struct verdict_batch, node);
}

static void leaving_add(struct verdict_batch *batch, const struct leaving *leaving)
{
    batch->leaving = room_for(batch->leaving, batch->leaving_count, &batch->leaving_capacity, sizeof(*leaving));
    batch->leaving[batch->leaving_count++] = *leaving;
    batch->span_count += trace_info(leaving->trace).span_count;
}

void worker_journal_leave(struct worker_journal *mine, struct trace *trace, const struct sampling_note *note, uint64_t now_ns)
{
    const struct leaving leaving = {trace, *note};
    struct verdict_batch *batch = last_batch(mine);

    if (!batch) {
        leave(mine->home, &leaving, now_ns);
        return;
    }
    leaving_add(batch, &leaving);
    mine->span_count += trace_info(trace).span_count;
}

static void batch_each_leaving(struct verdict_batch *batch, void (*visit)(void *context, struct trace *trace), void *context)
{
    for (size_t i = 0; i < batch->leaving_count; i++)
        visit(context, batch->leaving[i].trace);
}

void worker_journal_each_leaving(struct worker_journal *mine, void (*visit)(void *context, struct trace *trace), void *context)
{
    LIST_FOR_EACH (node, &mine->batches)
        batch_each_leaving(container_of(node, struct verdict_batch, node), visit, context);
    if (mine->open)
        batch_each_leaving(mine->open, visit, context);
}

/* Later batches may be written before one that failed. */
static uint64_t all_written_up_to(const struct worker_journal *mine)
{
    if (!list_empty(&mine->batches))
        return container_of(mine->batches.next, struct verdict_batch, node)->number - 1;
    return (mine->open ? mine->open->number : mine->next_number) - 1;
}

static void worker_on_verdicts_written(struct mail *mail, void *receiver)
{
    struct verdict_batch *batch = container_of(container_of(mail, struct journal_write, mail), struct verdict_batch, write);
    struct worker_journal *mine = batch->mine;
    uint64_t now_ns = mine->home->worker.now_ns;
    struct verdict_batch *before = NULL; /* one that failed: a late span waits for the verdict in it */

    (void)receiver;
    batch->queued = false;
    if (batch->write.error) {
        mine->again_ns = now_ns + AGAIN_NS;
        return;
    }
    if (batch->node.prev != &mine->batches)
        before = container_of(batch->node.prev, struct verdict_batch, node);
    list_del(&batch->node);
    mine->written_number = all_written_up_to(mine);
    mine->verdict_count -= batch->verdict_count;
    for (size_t i = 0; before && i < batch->leaving_count; i++)
        leaving_add(before, &batch->leaving[i]);
    mine->span_count -= before ? 0 : batch->span_count;
    for (size_t i = 0; !before && i < batch->leaving_count; i++)
        leave(mine->home, &batch->leaving[i], now_ns);
    batch_free(batch);
}

/* False: the journal does not take it now. */
static bool batch_queue(struct verdict_batch *batch)
{
    struct worker_journal *mine = batch->mine;
    struct buffer *head = journal_verdicts_encode(batch->verdicts, batch->verdict_count);

    ASSERT(head != NULL);
    batch->write = (struct journal_write){.mail = {.deliver = worker_on_verdicts_written},
        .done = journal_done_at_worker,
        .to = &mine->home->worker,
        .kind = JOURNAL_VERDICTS,
        .head = head,
        .refers = batch->segments.numbers,
        .refer_count = batch->segments.count};
    batch->queued = journal_append(mine->journal, &batch->write) == 0;
    if (!batch->queued)
        buffer_unref(head);
    return batch->queued;
}

static void batches_queue(struct worker_journal *mine, uint64_t now_ns)
{
    if (now_ns < mine->again_ns)
        return;
    mine->again_ns = 0;
    LIST_FOR_EACH (node, &mine->batches) {
        struct verdict_batch *batch = container_of(node, struct verdict_batch, node);

        if (!batch->queued && !batch_queue(batch)) {
            mine->again_ns = now_ns + AGAIN_NS;
            return;
        }
    }
}

uint64_t worker_journal_now(const struct worker_journal *mine)
{
    return mine->next_number - 1;
}

bool worker_journal_wrote(const struct worker_journal *mine, uint64_t number)
{
    return mine->written_number >= number;
}

uint64_t worker_journal_spans(const struct worker_journal *mine)
{
    return mine->span_count;
}

uint64_t worker_journal_unwritten(const struct worker_journal *mine)
{
    return mine->verdict_count;
}

/* -- exported, given --------------------------------------------------------------------------------------------------------- */

static void span_batch_add(struct span_batch *batch, const struct trace_id *id, const uint64_t *hashes, size_t count, bool also_verdict)
{
    batch->spans = room_for(batch->spans, batch->count, &batch->capacity, sizeof(batch->spans[0]));
    batch->spans[batch->count++] = (struct journal_spans){.id = *id, .also_verdict = also_verdict, .hashes = {NULL, count * sizeof(hashes[0])}};
    for (size_t i = 0; i < count; i++) {
        batch->hashes = room_for(batch->hashes, batch->hash_count, &batch->hash_capacity, sizeof(batch->hashes[0]));
        batch->hashes[batch->hash_count++] = hashes[i];
    }
}

/* The name, for as long as the worker lives: there are few. */
static struct slice exporter_name(struct worker_journal *mine, const char *name)
{
    size_t i = 0;

    while (i < FAN_OUT_MAX && mine->exporters[i] && strcmp(mine->exporters[i], name) != 0)
        i++;
    ASSERT(i < FAN_OUT_MAX);
    if (!mine->exporters[i])
        mine->exporters[i] = strdup(name);
    ASSERT(mine->exporters[i] != NULL);
    return slice_text(mine->exporters[i]);
}

void worker_journal_exported(struct worker_journal *mine, struct trace *trace, const uint64_t *hashes, size_t count, const char *exporter)
{
    span_batch_add(&mine->exported, trace_id_of(trace), hashes, count, false);
    if (exporter)
        mine->exported.spans[mine->exported.count - 1].exporter = exporter_name(mine, exporter);
    segments_add_trace(&mine->exported.segments, trace);
}

void worker_journal_exported_there(struct worker_journal *mine, const struct trace_id *id, const uint64_t *hashes, size_t count)
{
    if (count > 0)
        span_batch_add(&mine->exported, id, hashes, count, false);
}

void worker_journal_given(struct worker_journal *mine, const struct trace_id *id, struct trace *trace, const uint64_t *hashes, size_t count,
    bool also_verdict)
{
    span_batch_add(&mine->given, id, hashes, count, also_verdict);
    mine->given.spans[mine->given.count - 1].before = journal_sequence(mine->journal); /* what comes back before this is written is held again */
    if (trace)
        segments_add_trace(&mine->given.segments, trace);
}

static void write_free(struct journal_write *write)
{
    free(write);
}

/* Nobody waits: losing one costs a repeat. One that is refused is gathered on, for as long as it takes but not without end. */
static void span_batch_queue(struct worker_journal *mine, struct span_batch *batch, enum journal_kind kind)
{
    struct journal_write *write;
    size_t next = 0;

    if (batch->count == 0)
        return;
    if (journal_failing(mine->journal)) {
        if (batch->count + batch->hash_count > GATHERED_MOST)
            batch->count = batch->hash_count = batch->segments.count = 0;
        return;
    }
    for (size_t i = 0; i < batch->count; i++) {
        batch->spans[i].hashes.at = (const uint8_t *)(batch->hashes + next);
        next += batch->spans[i].hashes.len / sizeof(uint64_t);
    }
    write = calloc(1, sizeof(*write));
    ASSERT(write != NULL);
    *write = (struct journal_write){.done = write_free,
        .kind = kind,
        .head = journal_spans_encode(batch->spans, batch->count),
        .refers = batch->segments.numbers,
        .refer_count = batch->segments.count};
    ASSERT(write->head != NULL);
    if (journal_append(mine->journal, write) != 0) {
        buffer_unref(write->head);
        free(write);
        return;
    }
    batch->count = batch->hash_count = batch->segments.count = 0;
}

/* -- a turn ---------------------------------------------------------------------------------------------------------------------- */

uint64_t worker_journal_run(struct worker_journal *mine, uint64_t now_ns)
{
    if (mine->open) {
        list_add_tail(&mine->batches, &mine->open->node);
        mine->open = NULL;
    }
    if (!list_empty(&mine->batches))
        batches_queue(mine, now_ns);
    span_batch_queue(mine, &mine->exported, JOURNAL_EXPORTED);
    span_batch_queue(mine, &mine->given, JOURNAL_GIVEN);
    journal_account_flush(&mine->account);
    return mine->again_ns ? mine->again_ns : UINT64_MAX;
}
