/* What the writer does in one go: all that is queued, a stream behind the other, neighbours in one write; one sync for all; then it tells
 * those who wait.
 *
 * A segment that failed once gets nothing more: what a failed write or sync left behind is unknown (the kernel may have dropped the pages
 * and called them clean), and the next segment is a fresh start. Its stream is turned away until a probe has written and synced. */
#include "sampler/journal/journal_inside.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"

#define GROUP_RECORDS 64u                /* in one write: four parts each, well below the 1024 of a system call */
#define GROUP_BYTES (4u * 1024 * 1024)   /* more gains nothing, and keeps those in front waiting */
#define TICK_NS NS_PER_S                 /* space is looked after, and a failing disk probed, once a second */
#define SHORT_TICK_NS (NS_PER_S / 10)    /* space, when the next segment would need a new file: what is dead is better */

struct write_group {
    uint8_t frames[GROUP_RECORDS][FRAME_BYTES];
    struct slice parts[GROUP_RECORDS * 4];
    struct journal_write *writes[GROUP_RECORDS];
    size_t count, part_count;
    uint64_t bytes;
    struct segment *segment;
};

struct write_group *journal_group_new(void)
{
    return calloc(1, sizeof(struct write_group));
}

void journal_group_free(struct write_group *group)
{
    free(group);
}

static void list_init(struct write_queue *list)
{
    list->first = NULL;
    list->last = &list->first;
}

static void list_push(struct write_queue *list, struct journal_write *write)
{
    write->next = NULL;
    *list->last = write;
    list->last = &write->next;
}

static struct journal_write *list_pop(struct write_queue *list)
{
    struct journal_write *write = list->first;

    if (!write)
        return NULL;
    list->first = write->next;
    if (!list->first)
        list->last = &list->first;
    return write;
}

static uint64_t payload_len(const struct journal_write *write)
{
    return (write->head ? write->head->len : 0) + write->body.len;
}

/* -- failures --------------------------------------------------------------------------------------------------------- */

void journal_failed(struct journal *journal, enum journal_stream stream, const char *operation, int error)
{
    journal_lock(journal);
    if (!atomic_load(&journal->failing)) {
        journal->stats.failed_since_unix_ns = journal->now.unix_ns;
        journal->retry_at_ns = journal->now.ns + TICK_NS;
    }
    atomic_store(&journal->failing, true);
    journal->streams[stream].failing = true;
    if (strcmp(operation, "sync") == 0)
        journal->stats.sync_errors++;
    else
        journal->stats.write_errors++;
    journal->stats.last_error = -error;
    journal->stats.last_operation = operation;
    journal_unlock(journal);
}

static void segment_broke(struct journal *journal, struct segment *segment, const char *operation, int error)
{
    segment->error = error;
    journal_lock(journal);
    if (segment->state == SEGMENT_OPEN)
        journal_seal(journal, segment);
    journal_unlock(journal);
    journal_failed(journal, segment->stream, operation, error);
}

/* -- telling who waits -------------------------------------------------------------------------------------------------- */

/* Only one that is written takes the place of the one before. */
static void member_done(struct journal *journal, const struct journal_write *write)
{
    struct slice head = write->head ? buffer_slice(write->head) : (struct slice){NULL, 0};

    journal->members_queued--;
    if (!write->error && !write->in_memory)
        journal_member_remember(journal, head, write->body, write->sequence, write->at.segment);
}

static void count_done(struct journal *journal, struct journal_write *write)
{
    struct segment *segment = write->at.segment ? journal_find(journal, write->at.segment) : NULL;

    if (segment) {
        ASSERT(segment->pending > 0);
        segment->pending--;
        journal->streams[segment->stream].done = write->sequence;
        if (write->error || write->in_memory)
            atomic_store_explicit(&journal->lost_some, true, memory_order_relaxed);
        else
            segment->written = write->at.offset + payload_len(write);
    }
    if (segment && write->kind == JOURNAL_MEMBER)
        member_done(journal, write);
    journal->queued_bytes -= payload_len(write);
    if (write->in_memory) {
        journal->stats.memory_records++;
    } else if (write->error) {
        journal->stats.failed_records++;
    } else {
        journal->stats.records_written++;
        journal->stats.written_bytes += payload_len(write);
    }
}

static void complete(struct journal *journal, struct write_queue *list)
{
    struct journal_write *write;

    if (!list->first)
        return;
    journal_lock(journal);
    for (write = list->first; write; write = write->next)
        count_done(journal, write);
    journal_unlock(journal);
    while ((write = list_pop(list)) != NULL) {
        buffer_unref(write->head);
        write->head = NULL;
        write->done(write);
    }
}

/* The outcome of a write whose bytes are not on disk. */
static void write_failed(const struct journal *journal, struct journal_write *write, int error)
{
    if (journal->options.on_error == JOURNAL_MEMORY && !write->copy)
        write->in_memory = true;
    else
        write->error = error;
}

/* -- writing ------------------------------------------------------------------------------------------------------------- */

static void group_begin(struct write_group *group, struct segment *segment)
{
    group->count = group->part_count = 0;
    group->bytes = 0;
    group->segment = segment;
}

static bool group_has_room(const struct write_group *group, const struct journal_write *write)
{
    return group->count < GROUP_RECORDS && write->at.segment == group->segment->number &&
           (group->count == 0 || group->bytes + payload_len(write) <= GROUP_BYTES);
}

static void group_part(struct write_group *group, struct slice part)
{
    if (part.len > 0)
        group->parts[group->part_count++] = part;
}

static void group_add(struct write_group *group, struct journal_write *write)
{
    static const uint8_t zeros[FRAME_ALIGN];
    struct slice head = write->head ? buffer_slice(write->head) : (struct slice){NULL, 0};
    uint64_t len = payload_len(write), seed = group->segment->seed;
    struct frame frame = {.payload_sum = frame_payload_sum(seed, head, write->body),
        .sequence = write->sequence,
        .len = (uint32_t)len,
        .kind = write->kind};

    frame_put(&frame, seed, group->frames[group->count]);
    group_part(group, slice_make(group->frames[group->count], FRAME_BYTES));
    group_part(group, head);
    group_part(group, write->body);
    group_part(group, slice_make(zeros, frame_size(len) - FRAME_BYTES - len));
    group->writes[group->count++] = write;
    group->bytes += frame_size(len);
}

static void mark_dirty(struct journal *journal, struct segment *segment)
{
    if (segment->dirty)
        return;
    segment->dirty = true;
    segment->next_dirty = journal->dirty;
    journal->dirty = segment;
}

/* 0 or -errno; counted. */
static int group_write(struct journal *journal, struct write_group *group)
{
    struct segment *segment = group->segment;
    int r = segment->error;

    if (r)
        return r;
    if (!segment->begun) {
        r = journal_begin_segment(journal, segment);
        if (r) {
            segment_broke(journal, segment, "create", r);
            return r;
        }
    }
    mark_dirty(journal, segment);
    r = journal_file_write(segment->handle, group->writes[0]->at.offset - FRAME_BYTES, group->parts, group->part_count);
    if (r)
        segment_broke(journal, segment, "write", r);
    return r;
}

static struct segment *segment_of(struct journal *journal, uint32_t number)
{
    struct segment *segment;

    journal_lock(journal);
    segment = journal_find(journal, number);
    journal_unlock(journal);
    ASSERT(segment != NULL); /* it has a record pending */
    return segment;
}

/* Takes the next group off the list, writes it and puts its records on `done`. */
static void write_next(struct journal *journal, struct write_queue *list, struct write_queue *done)
{
    struct write_group *group = journal->group;
    int r;

    group_begin(group, segment_of(journal, list->first->at.segment));
    while (list->first && group_has_room(group, list->first))
        group_add(group, list_pop(list));
    r = group_write(journal, group);
    for (size_t i = 0; i < group->count; i++) {
        if (r)
            write_failed(journal, group->writes[i], r);
        list_push(done, group->writes[i]);
    }
}

static void write_stream(struct journal *journal, struct write_queue *list, struct write_queue *done)
{
    while (list->first) {
        write_next(journal, list, done);
        if (journal->options.sync != JOURNAL_SYNC_ALWAYS)
            complete(journal, done);
    }
}

/* -- syncing -------------------------------------------------------------------------------------------------------------- */

static int segment_sync(struct journal *journal, struct segment *segment)
{
    int r = journal_file_sync(segment->handle);

    journal_lock(journal);
    journal->stats.syncs++;
    journal_unlock(journal);
    if (r) {
        segment->sync_error = r;
        segment_broke(journal, segment, "sync", r);
    }
    return r;
}

int journal_sync_dirty(struct journal *journal)
{
    int r = 0;

    if (journal->names_changed) {
        r = journal_disk_sync_names(journal->disk);
        journal->names_changed = r != 0;
    }
    while (journal->dirty) {
        struct segment *segment = journal->dirty;
        int failed;

        journal->dirty = segment->next_dirty;
        segment->dirty = false;
        failed = r && !segment->error ? r : segment_sync(journal, segment);
        if (failed && !segment->sync_error) { /* its name may not be there after a crash */
            segment->sync_error = failed;
            segment_broke(journal, segment, "sync", failed);
        }
        r = r ? r : failed;
    }
    return r;
}

/* Group commit: what a failed sync leaves unknown was not written. */
static void sync_group(struct journal *journal, struct write_queue *done)
{
    if (!done->first || journal_sync_dirty(journal) == 0)
        return;
    for (struct journal_write *write = done->first; write; write = write->next) {
        struct segment *segment = write->at.segment ? segment_of(journal, write->at.segment) : NULL;

        if (segment && segment->sync_error && !write->error && !write->in_memory)
            write_failed(journal, write, segment->sync_error);
    }
}

static void sync_on_time(struct journal *journal, uint64_t now_ns)
{
    if (journal->options.sync != JOURNAL_SYNC_INTERVAL || !journal->dirty || now_ns < journal->next_sync_ns)
        return;
    (void)journal_sync_dirty(journal);
    journal->next_sync_ns = now_ns + journal->options.sync_interval_ns;
}

/* -- a run ------------------------------------------------------------------------------------------------------------------ */

static void take_queue(struct journal *journal, struct journal_now now, struct write_queue *out_queue)
{
    journal_lock(journal);
    journal->now = now;
    *out_queue = journal->queue;
    if (!out_queue->first)
        list_init(out_queue);
    else
        journal->stats.batches++;
    list_init(&journal->queue);
    journal_unlock(journal);
}

static enum journal_stream stream_of(const struct journal_write *write)
{
    if (!frame_belongs(write->kind, STREAM_DATA))
        return STREAM_VERDICTS;
    return write->copy ? STREAM_COPIES : STREAM_DATA;
}

static void write_all_queued(struct journal *journal, struct journal_now now)
{
    struct write_queue queue, lists[STREAM_COUNT], done;
    struct journal_write *write;

    take_queue(journal, now, &queue);
    list_init(&done);
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        list_init(&lists[i]);
    while ((write = list_pop(&queue)) != NULL)
        list_push(write->at.segment ? &lists[stream_of(write)] : &done, write);
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        write_stream(journal, &lists[i], &done);
    if (journal->options.sync == JOURNAL_SYNC_ALWAYS)
        sync_group(journal, &done);
    complete(journal, &done);
}

static void probe_on_time(struct journal *journal, uint64_t now_ns)
{
    bool failed;

    if (!atomic_load(&journal->failing) || now_ns < journal->retry_at_ns)
        return;
    failed = journal_probe(journal) != 0;
    journal_lock(journal);
    journal->retry_at_ns = now_ns + TICK_NS;
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        journal->streams[i].failing &= failed;
    atomic_store(&journal->failing, failed);
    journal_unlock(journal);
}

static bool space_is_due(struct journal *journal, uint64_t now_ns)
{
    uint64_t sooner_ns = journal->free_count <= 1 ? TICK_NS - SHORT_TICK_NS : 0;
    bool at_once;

    journal_lock(journal);
    at_once = journal->space_at_once;
    journal->space_at_once = false;
    journal_unlock(journal);
    return at_once || now_ns + sooner_ns >= journal->next_tick_ns;
}

uint64_t journal_run(struct journal *journal, struct journal_now now)
{
    uint64_t next_ns;

    write_all_queued(journal, now);
    sync_on_time(journal, now.ns);
    if (space_is_due(journal, now.ns)) {
        journal->next_tick_ns = now.ns + TICK_NS;
        journal_tend_space(journal);
        journal_lock(journal);
        journal_choose_clean(journal);
        journal_unlock(journal);
    }
    probe_on_time(journal, now.ns);
    next_ns = journal->next_tick_ns;
    if (journal->options.sync == JOURNAL_SYNC_INTERVAL && journal->dirty)
        next_ns = u64_min(next_ns, journal->next_sync_ns);
    return next_ns;
}
