/* Appends and accounts: what happens under the lock, without I/O.
 *
 * An append finds room in its stream's current segment, or makes the next one in memory; the file comes when the writer gets there.
 * So positions are known at once and nobody waits for a disk while he holds the lock.
 */
#include "sampler/journal/journal_inside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "common/run/control.h"
#include "common/run/worker.h"

uint64_t journal_id(const struct journal *journal)
{
    return journal->id;
}

bool journal_failing(const struct journal *journal)
{
    return atomic_load_explicit(&journal->failing, memory_order_relaxed);
}

void journal_keep(struct journal *journal, uint64_t verdict_keep_ns, uint64_t clean_age_ns)
{
    journal_lock(journal);
    journal->options.verdict_keep_ns = verdict_keep_ns;
    journal->options.clean_age_ns = clean_age_ns;
    journal_unlock(journal);
}

uint64_t journal_sequence(struct journal *journal)
{
    uint64_t next;

    journal_lock(journal);
    next = journal->next_sequence;
    journal_unlock(journal);
    return next;
}

uint64_t journal_room(const struct journal *journal)
{
    return atomic_load_explicit(&journal->room_bytes, memory_order_relaxed);
}

void journal_set_thread(struct journal *journal, struct journal_thread *thread)
{
    journal->thread = thread;
}

/* -- segments --------------------------------------------------------------------------------------------------------- */

/* Index of the first segment whose number is not below. */
static size_t segment_index(const struct journal *journal, uint32_t number)
{
    size_t low = 0, high = journal->segment_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (journal->segments[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct segment *journal_find(const struct journal *journal, uint32_t number)
{
    size_t index = segment_index(journal, number);

    if (index < journal->segment_count && journal->segments[index]->number == number)
        return journal->segments[index];
    return NULL;
}

int journal_add_segment(struct journal *journal, struct segment *segment)
{
    size_t index = segment_index(journal, segment->number);

    if (journal->segment_count == journal->segment_capacity) {
        size_t capacity = journal->segment_capacity ? journal->segment_capacity * 2 : 64;
        struct segment **segments = realloc(journal->segments, capacity * sizeof(struct segment *));

        if (!segments)
            return -ENOMEM;
        journal->segments = segments;
        journal->segment_capacity = capacity;
    }
    memmove(&journal->segments[index + 1], &journal->segments[index], (journal->segment_count - index) * sizeof(struct segment *));
    journal->segments[index] = segment;
    journal->segment_count++;
    journal->used_bytes += segment->size_bytes;
    return 0;
}

void journal_take_segment(struct journal *journal, struct segment *segment)
{
    size_t index = segment_index(journal, segment->number);

    ASSERT(index < journal->segment_count && journal->segments[index] == segment);
    journal->segment_count--;
    memmove(&journal->segments[index], &journal->segments[index + 1], (journal->segment_count - index) * sizeof(struct segment *));
    journal->used_bytes -= segment->size_bytes;
    journal_room_changed(journal);
}

void segment_free(struct segment *segment)
{
    journal_file_close(segment->handle);
    free(segment->refers);
    free(segment);
}

void journal_seal(struct journal *journal, struct segment *segment)
{
    ASSERT(segment->state == SEGMENT_OPEN);
    segment->state = SEGMENT_SEALED;
    segment->sealed_ns = segment->changed_ns = journal->now.ns;
    if (journal->streams[segment->stream].current == segment)
        journal->streams[segment->stream].current = NULL;
    journal_room_changed(journal);
}

/* What verdicts, and copies, may still take when requests are turned away: without them nothing would ever become free. */
static uint64_t reserve_bytes(const struct journal *journal)
{
    return u64_max(2 * journal->options.segment_bytes, journal->options.max_bytes / 16);
}

/* Bytes that new segments of the stream may take together. Verdicts go on past max_bytes: turning them away would stop what makes room. */
static uint64_t stream_allowance(const struct journal *journal, enum journal_stream stream)
{
    switch (stream) {
    case STREAM_DATA:
        return u64_sub_floor(journal->options.max_bytes, u64_add_cap(journal->used_bytes, reserve_bytes(journal)));
    case STREAM_COPIES:
        return u64_sub_floor(journal->options.max_bytes, journal->used_bytes);
    case STREAM_VERDICTS:
        return UINT64_MAX;
    }
    UNREACHABLE("all streams are there");
}

void journal_room_changed(struct journal *journal)
{
    const struct segment *current = journal->streams[STREAM_DATA].current;
    uint64_t room = stream_allowance(journal, STREAM_DATA) / journal->options.segment_bytes * journal->options.segment_bytes;

    if (current)
        room += current->size_bytes - current->tail;
    if (journal->options.on_error == JOURNAL_MEMORY)
        room = UINT64_MAX;
    atomic_store_explicit(&journal->room_bytes, room, memory_order_relaxed);
}

uint64_t journal_copies_room(const struct journal *journal)
{
    const struct segment *current = journal->streams[STREAM_COPIES].current;
    uint64_t room = stream_allowance(journal, STREAM_COPIES) / journal->options.segment_bytes * journal->options.segment_bytes;

    return current ? room + current->size_bytes - current->tail : room;
}

static uint64_t size_for(const struct journal *journal, uint64_t record_bytes)
{
    uint64_t least = SEGMENT_HEAD_BYTES + record_bytes;

    /* 4 KiB: what file systems deal in. */
    return least <= journal->options.segment_bytes ? journal->options.segment_bytes : (least + 4095) / 4096 * 4096;
}

/* The stream's next segment. 0, JOURNAL_E_FULL or -ENOMEM. */
static int next_segment(struct journal *journal, enum journal_stream stream, uint64_t record_bytes)
{
    struct segment *segment, *current = journal->streams[stream].current;
    uint64_t size_bytes = size_for(journal, record_bytes);

    if (size_bytes > stream_allowance(journal, stream))
        return JOURNAL_E_FULL;
    segment = calloc(1, sizeof(*segment));
    if (!segment)
        return -ENOMEM;
    *segment = (struct segment){.number = journal->next_number,
        .stream = stream,
        .size_bytes = size_bytes,
        .seed = segment_seed(journal->id, journal->next_number),
        .first_sequence = journal->next_sequence,
        .created_unix_ns = journal->now.unix_ns,
        .created_ns = journal->now.ns,
        .tail = SEGMENT_HEAD_BYTES,
        .written = SEGMENT_HEAD_BYTES,
        .file = NO_FILE};
    if (journal_add_segment(journal, segment)) {
        free(segment);
        return -ENOMEM;
    }
    journal->next_number++;
    if (current)
        journal_seal(journal, current);
    journal->streams[stream].current = segment;
    return 0;
}

/* -- appending -------------------------------------------------------------------------------------------------------- */

static uint64_t payload_len(const struct journal_write *write)
{
    return (write->head ? write->head->len : 0) + write->body.len;
}

static enum journal_stream stream_of(const struct journal_write *write)
{
    if (!frame_belongs(write->kind, STREAM_DATA))
        return STREAM_VERDICTS;
    return write->copy ? STREAM_COPIES : STREAM_DATA;
}

static void queue_push(struct journal *journal, struct journal_write *write)
{
    write->next = NULL;
    *journal->queue.last = write;
    journal->queue.last = &write->next;
    journal->queued_bytes += payload_len(write);
    journal->stats.appends++;
    journal->stats.appended_bytes += payload_len(write);
}

static int refers_add(struct segment *segment, uint32_t number)
{
    size_t at = segment->refer_count;

    while (at > 0 && segment->refers[at - 1] > number)
        at--;
    if (at > 0 && segment->refers[at - 1] == number)
        return 0;
    if (segment->refer_count == segment->refer_capacity) {
        size_t capacity = segment->refer_capacity ? segment->refer_capacity * 2 : 16;
        uint32_t *refers = realloc(segment->refers, capacity * sizeof(refers[0]));

        if (!refers)
            return -ENOMEM;
        segment->refers = refers;
        segment->refer_capacity = capacity;
    }
    memmove(&segment->refers[at + 1], &segment->refers[at], (segment->refer_count - at) * sizeof(segment->refers[0]));
    segment->refers[at] = number;
    segment->refer_count++;
    return 0;
}

/* And what that one's spans were copied from, as long as it is there: a span's older copy must not outlive its verdict either. */
static int refers_add_all(const struct journal *journal, struct segment *segment, uint32_t number)
{
    const struct segment *source = journal_find(journal, number);
    int r;

    if (!source || source == segment)
        return 0;
    r = refers_add(segment, number);
    for (size_t i = 0; r == 0 && source->stream == STREAM_COPIES && i < source->refer_count; i++)
        if (source->refers[i] != segment->number && journal_find(journal, source->refers[i]))
            r = refers_add(segment, source->refers[i]);
    return r;
}

void journal_member_remember(struct journal *journal, struct slice head, struct slice body, uint64_t sequence, uint32_t segment)
{
    struct buffer *member;

    if (sequence <= journal->member_sequence)
        return;
    member = buffer_new(head.len + body.len);
    ASSERT(member != NULL); /* a few hundred bytes */
    if (head.len > 0)
        memcpy(member->bytes, head.at, head.len);
    if (body.len > 0)
        memcpy(member->bytes + head.len, body.at, body.len);
    member->len = head.len + body.len;
    buffer_unref(journal->member);
    journal->member = member;
    journal->member_sequence = sequence;
    journal->member_segment = segment;
}

int journal_append_locked(struct journal *journal, struct journal_write *write)
{
    enum journal_stream stream = stream_of(write);
    struct segment *segment = journal->streams[stream].current;
    uint64_t record_bytes = frame_size(payload_len(write));
    int r;

    if (!segment || segment->size_bytes - segment->tail < record_bytes) {
        r = next_segment(journal, stream, record_bytes);
        if (r)
            return r;
        segment = journal->streams[stream].current;
    }
    for (size_t i = 0; i < write->refer_count; i++)
        if (refers_add_all(journal, segment, write->refers[i]))
            return -ENOMEM;
    write->sequence = segment->last_sequence = journal->streams[stream].appended = journal->next_sequence++;
    write->at = (struct journal_pos){segment->number, (uint32_t)segment->tail + FRAME_BYTES};
    segment->tail += record_bytes;
    segment->live_bytes += write->hold_bytes;
    segment->came_bytes += write->hold_bytes;
    segment->pending++;
    journal->live_bytes += write->hold_bytes;
    if (stream == STREAM_COPIES)
        journal->stats.copied_bytes += payload_len(write);
    if (write->kind == JOURNAL_MEMBER)
        journal->members_queued++;
    queue_push(journal, write);
    if (stream == STREAM_DATA)
        journal_room_changed(journal);
    return 0;
}

/* Done without the disk. */
static void append_to_memory(struct journal *journal, struct journal_write *write)
{
    write->sequence = journal->next_sequence++;
    write->at = (struct journal_pos){0, 0};
    write->in_memory = true;
    atomic_store_explicit(&journal->lost_some, true, memory_order_relaxed);
    queue_push(journal, write);
}

static int append_with_policy(struct journal *journal, struct journal_write *write)
{
    bool failing = journal->streams[stream_of(write)].failing, memory = journal->options.on_error == JOURNAL_MEMORY;
    int r = failing ? JOURNAL_E_FAILED : journal_append_locked(journal, write);

    if (r > 0 && memory && !write->copy) { /* a copy that cannot be made leaves what it would have replaced */
        append_to_memory(journal, write);
        return 0;
    }
    if (r == JOURNAL_E_FULL)
        journal->stats.refused_full++;
    if (r == JOURNAL_E_FAILED)
        journal->stats.refused_failed++;
    return r;
}

int journal_append(struct journal *journal, struct journal_write *write)
{
    bool first;
    int r;

    ASSERT(frame_belongs(write->kind, STREAM_DATA) || write->hold_bytes == 0);
    if (payload_len(write) > JOURNAL_SEGMENT_MAX)
        return -EMSGSIZE;
    write->error = 0;
    write->in_memory = false;
    journal_lock(journal);
    first = journal->queue.first == NULL;
    r = append_with_policy(journal, write);
    journal_unlock(journal);
    if (r == 0 && first && journal->thread)
        journal_thread_wake_writer(journal->thread);
    return r;
}

enum journal_written journal_written(const struct journal *journal, struct journal_pos at, uint64_t len)
{
    struct journal *inside = (struct journal *)(uintptr_t)journal; /* only its lock is changed */
    enum journal_written written = JOURNAL_NOT_WRITTEN;
    const struct segment *segment;

    journal_lock(inside);
    segment = journal_find(journal, at.segment);
    if (segment && (segment->recovered || at.offset + len <= segment->written))
        written = JOURNAL_WRITTEN;
    else if (segment && segment->pending > 0)
        written = JOURNAL_UNDER_WAY;
    journal_unlock(inside);
    return written;
}

static bool stream_done_before(const struct stream *stream, uint64_t sequence)
{
    return stream->done == stream->appended || stream->done + 1 >= sequence;
}

bool journal_done_before(struct journal *journal, uint64_t sequence)
{
    bool done;

    journal_lock(journal);
    done = stream_done_before(&journal->streams[STREAM_DATA], sequence) && stream_done_before(&journal->streams[STREAM_COPIES], sequence);
    journal_unlock(journal);
    return done;
}

bool journal_lost_some(const struct journal *journal)
{
    return atomic_load_explicit(&journal->lost_some, memory_order_relaxed);
}

void journal_done_at_worker(struct journal_write *write)
{
    worker_post(write->to, &write->mail);
}

void journal_done_at_control(struct journal_write *write)
{
    control_post(write->to, &write->mail);
}

/* -- accounts ----------------------------------------------------------------------------------------------------------- */

struct journal_delta {
    uint32_t segment;
    uint64_t held;
    int64_t change;
};

void journal_account_init(struct journal_account *account, struct journal *journal)
{
    *account = (struct journal_account){.journal = journal};
}

void journal_account_deinit(struct journal_account *account)
{
    if (account->count > 0)
        journal_account_flush(account);
    free(account->deltas);
    *account = (struct journal_account){0};
}

/* Of few: what a worker lets go in a turn came in together. Ascending, so that a long list is searched in halves. */
static struct journal_delta *account_find(struct journal_account *account, uint32_t segment)
{
    size_t low = 0, high = account->count;

    if (account->last && account->last->segment == segment)
        return account->last;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (account->deltas[middle].segment < segment)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == account->count || account->deltas[low].segment != segment) {
        if (account->count == account->capacity) {
            account->capacity = account->capacity ? account->capacity * 2 : 16;
            account->deltas = realloc(account->deltas, account->capacity * sizeof(account->deltas[0]));
            ASSERT(account->deltas != NULL);
        }
        memmove(&account->deltas[low + 1], &account->deltas[low], (account->count - low) * sizeof(account->deltas[0]));
        account->deltas[low] = (struct journal_delta){.segment = segment};
        account->count++;
    }
    account->last = &account->deltas[low];
    return account->last;
}

void journal_hold(struct journal_account *account, uint32_t segment, uint64_t bytes)
{
    struct journal_delta *delta;

    if (segment == 0 || bytes == 0)
        return;
    delta = account_find(account, segment);
    delta->change += (int64_t)bytes;
    delta->held += bytes;
}

void journal_release(struct journal_account *account, uint32_t segment, uint64_t bytes)
{
    if (segment != 0 && bytes > 0)
        account_find(account, segment)->change -= (int64_t)bytes;
}

static void delta_apply(struct journal *journal, const struct journal_delta *delta)
{
    struct segment *segment = journal_find(journal, delta->segment);

    ASSERT(segment != NULL && segment->stream != STREAM_VERDICTS && segment->state != SEGMENT_DEAD);
    segment->live_bytes += delta->change;
    ASSERT(segment->live_bytes >= 0); /* more was released than was held */
    segment->came_bytes += delta->held;
    segment->changed_ns = journal->now.ns;
    journal->live_bytes += delta->change;
    /* With half of the space in use the next tick is too far. */
    if (segment->live_bytes == 0 && segment->state == SEGMENT_SEALED && journal->used_bytes > journal->options.max_bytes / 2)
        journal->space_at_once = true;
}

void journal_account_flush(struct journal_account *account)
{
    struct journal *journal = account->journal;
    bool wake;

    if (account->count == 0)
        return;
    journal_lock(journal);
    for (size_t i = 0; i < account->count; i++)
        delta_apply(journal, &account->deltas[i]);
    wake = journal->space_at_once;
    journal_unlock(journal);
    if (wake && journal->thread)
        journal_thread_wake_writer(journal->thread);
    account->count = 0;
    account->last = NULL;
}

bool journal_clean_wanted(const struct journal *journal, struct journal_clean *known)
{
    struct journal *inside = (struct journal *)(uintptr_t)journal; /* only its lock is changed */

    if (atomic_load_explicit(&journal->clean_generation, memory_order_relaxed) == known->generation)
        return false;
    journal_lock(inside);
    *known = journal->clean;
    journal_unlock(inside);
    return true;
}
