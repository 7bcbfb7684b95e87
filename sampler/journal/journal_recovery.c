/* A window slides over each segment's file; frames and payloads are checked in it and shown from it.
 *
 * Where no good frame begins, the search goes on at the next multiple of 8. What it passes before it finds one is a damaged record;
 * what it passes before the end is space that was never used, or what was torn there: the two look alike when the torn frame itself is
 * not whole. */
#include "sampler/journal/journal_recovery.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "sampler/journal/journal_inside.h"

#define WINDOW_BYTES (1024u * 1024)
#define PIECE_BYTES 4096u      /* what a bad block costs */
#define BAD_PIECES_MAX 64u     /* in one segment: a disk that answers none of them takes seconds for each */

struct journal_recovery {
    struct journal *journal;
    struct segment **segments; /* in the order in which they are read */
    size_t count, index;
    struct journal_progress progress;
    uint64_t corrupt_before, unreadable_before; /* found when the journal was opened */
    /* the segment that is being read */
    struct journal_file *file; /* NULL: none */
    uint64_t at;               /* where the next frame is looked for */
    bool gap;                  /* no frame began at the place before */
    unsigned bad_pieces;
    uint8_t *window;
    size_t window_capacity, window_len;
    uint64_t window_at;
};

static int compare_segments(const void *a, const void *b)
{
    const struct segment *x = *(struct segment *const *)a, *y = *(struct segment *const *)b;
    bool x_data = x->stream != STREAM_VERDICTS, y_data = y->stream != STREAM_VERDICTS;

    if (x_data != y_data)
        return x_data ? 1 : -1;
    return x->number < y->number ? -1 : x->number > y->number;
}

int journal_recovery_begin(struct journal *journal, struct journal_recovery **out_recovery)
{
    struct journal_recovery *recovery = calloc(1, sizeof(*recovery));

    if (!recovery)
        return error_raise(-ENOMEM);
    journal_lock(journal);
    ASSERT(!journal->recovery_begun);
    journal->recovery_begun = true;
    recovery->journal = journal;
    recovery->corrupt_before = journal->stats.corrupt_records;
    recovery->unreadable_before = journal->stats.unreadable_bytes;
    recovery->segments = calloc(journal->segment_count + 1, sizeof(struct segment *));
    for (size_t i = 0; recovery->segments && i < journal->segment_count; i++)
        if (journal->segments[i]->recovered) {
            recovery->segments[recovery->count++] = journal->segments[i];
            recovery->progress.total_bytes += journal->segments[i]->size_bytes;
        }
    journal_unlock(journal);
    recovery->window_capacity = WINDOW_BYTES;
    recovery->window = malloc(WINDOW_BYTES);
    if (!recovery->segments || !recovery->window) {
        free(recovery->segments);
        free(recovery->window);
        free(recovery);
        return error_raise(-ENOMEM);
    }
    qsort(recovery->segments, recovery->count, sizeof(struct segment *), compare_segments);
    *out_recovery = recovery;
    return 0;
}

/* -- the window -------------------------------------------------------------------------------------------------------- */

static void count_error(struct journal *journal, uint64_t *counter)
{
    journal_lock(journal);
    (*counter)++;
    journal_unlock(journal);
}

/* Reads piece by piece what could not be read at once; a piece that cannot is zeros, and counted. */
static void fill_pieces(struct journal_recovery *recovery, uint64_t from, uint8_t *to, size_t len)
{
    for (size_t done = 0; done < len; done += PIECE_BYTES) {
        size_t want = size_min(PIECE_BYTES, len - done), got = 0;
        bool give_up = recovery->bad_pieces >= BAD_PIECES_MAX;

        if (give_up || journal_file_read(recovery->file, from + done, to + done, want, &got)) {
            recovery->bad_pieces += !give_up;
            recovery->progress.unreadable_bytes += want;
            got = 0;
        }
        memset(to + done + got, 0, want - got);
    }
}

/* The bytes from `at` on, at least `want` of them, which lie in the segment; borrowed until the next call. NULL: no memory. */
static const uint8_t *window_bytes(struct journal_recovery *recovery, const struct segment *segment, uint64_t at, size_t want)
{
    size_t got = 0;

    ASSERT(at + want <= segment->size_bytes);
    if (at >= recovery->window_at && at + want <= recovery->window_at + recovery->window_len)
        return recovery->window + (at - recovery->window_at);
    if (want > recovery->window_capacity) {
        uint8_t *window = realloc(recovery->window, want);

        if (!window)
            return NULL;
        recovery->window = window;
        recovery->window_capacity = want;
    }
    recovery->window_at = at;
    recovery->window_len = (size_t)u64_min(size_max(want, WINDOW_BYTES), segment->size_bytes - at);
    if (recovery->bad_pieces >= BAD_PIECES_MAX || journal_file_read(recovery->file, at, recovery->window, recovery->window_len, &got)) {
        count_error(recovery->journal, &recovery->journal->stats.read_errors);
        fill_pieces(recovery, at, recovery->window, recovery->window_len);
    } else {
        memset(recovery->window + got, 0, recovery->window_len - got); /* a file that was cut */
    }
    return recovery->window;
}

/* -- records ------------------------------------------------------------------------------------------------------------ */

static void show(struct journal_recovery *recovery, const struct segment *segment, const struct frame *frame, const uint8_t *payload,
    journal_on_record on_record, void *context)
{
    struct journal_record record = {.kind = frame->kind,
        .sequence = frame->sequence,
        .at = {segment->number, (uint32_t)recovery->at + FRAME_BYTES},
        .payload = slice_make(payload, frame->len)};

    recovery->progress.records++;
    if (frame->kind == JOURNAL_MEMBER) {
        journal_lock(recovery->journal);
        journal_member_remember(recovery->journal, record.payload, (struct slice){NULL, 0}, frame->sequence, segment->number);
        journal_unlock(recovery->journal);
    }
    on_record(context, &record);
}

/* The record whose frame is at `at`; at moves behind it. */
static void read_record(struct journal_recovery *recovery, const struct segment *segment, const struct frame *frame,
    journal_on_record on_record, void *context)
{
    uint64_t size = frame_size(frame->len);
    const uint8_t *bytes = window_bytes(recovery, segment, recovery->at, FRAME_BYTES + frame->len);

    if (bytes && frame_payload_sum(segment->seed, (struct slice){NULL, 0}, slice_make(bytes + FRAME_BYTES, frame->len)) == frame->payload_sum &&
        frame_belongs(frame->kind, segment->stream))
        show(recovery, segment, frame, bytes + FRAME_BYTES, on_record, context);
    else
        recovery->progress.corrupt_records++;
    recovery->at = u64_min(recovery->at + size, segment->size_bytes);
}

/* One frame, or one place where none begins. False: the segment's end. */
static bool read_place(struct journal_recovery *recovery, const struct segment *segment, journal_on_record on_record, void *context)
{
    uint64_t room = segment->size_bytes - recovery->at;
    const uint8_t *bytes;
    struct frame frame;

    if (room < FRAME_BYTES)
        return false;
    bytes = window_bytes(recovery, segment, recovery->at, FRAME_BYTES);
    if (!bytes || !frame_read(bytes, room, segment->seed, &frame)) {
        recovery->gap = true;
        recovery->at += FRAME_ALIGN;
        return true;
    }
    if (recovery->gap)
        recovery->progress.corrupt_records++;
    recovery->gap = false;
    read_record(recovery, segment, &frame, on_record, context);
    return true;
}

/* -- segments ------------------------------------------------------------------------------------------------------------- */

/* The process may have died between a write and its sync: what is acted upon from now on must outlive the node too. */
static void make_sure(struct journal *journal, struct journal_file *file)
{
    if (journal->options.sync == JOURNAL_SYNC_NONE)
        return;
    if (journal_file_sync(file) || journal_disk_sync_names(journal->disk))
        count_error(journal, &journal->stats.sync_errors);
}

static bool segment_begin(struct journal_recovery *recovery, const struct segment *segment)
{
    int r = journal_disk_open_file(recovery->journal->disk, segment->file, &recovery->file);

    recovery->at = SEGMENT_HEAD_BYTES;
    recovery->window_at = recovery->window_len = 0;
    recovery->gap = false;
    recovery->bad_pieces = 0;
    if (r == 0)
        make_sure(recovery->journal, recovery->file);
    if (r == 0)
        return true;
    recovery->file = NULL;
    count_error(recovery->journal, &recovery->journal->stats.read_errors);
    recovery->progress.unreadable_bytes += segment->size_bytes;
    return false;
}

/* One that could not be opened stays unread, and so as it is. */
static void segment_end(struct journal_recovery *recovery, struct segment *segment)
{
    bool was_read = recovery->file != NULL;

    journal_file_close(recovery->file);
    recovery->file = NULL;
    recovery->index++;
    journal_lock(recovery->journal);
    segment->unread = !was_read;
    journal_unlock(recovery->journal);
}

static uint64_t bytes_before(const struct journal_recovery *recovery)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < recovery->index; i++)
        bytes += recovery->segments[i]->size_bytes;
    return bytes;
}

static void publish_progress(struct journal_recovery *recovery)
{
    struct journal_progress *progress = &recovery->progress;
    struct journal_stats *stats = &recovery->journal->stats;

    progress->done_bytes = bytes_before(recovery) + (recovery->file ? recovery->at : 0);
    progress->verdicts_done = recovery->index == recovery->count || recovery->segments[recovery->index]->stream != STREAM_VERDICTS;
    journal_lock(recovery->journal);
    stats->recovered_bytes = progress->done_bytes;
    stats->recovered_records = progress->records;
    stats->corrupt_records = recovery->corrupt_before + progress->corrupt_records;
    stats->unreadable_bytes = recovery->unreadable_before + progress->unreadable_bytes;
    journal_unlock(recovery->journal);
}

bool journal_recovery_step(struct journal_recovery *recovery, uint64_t budget_bytes, journal_on_record on_record, void *context)
{
    uint64_t left = u64_max(budget_bytes, 1);

    while (left > 0 && recovery->index < recovery->count) {
        struct segment *segment = recovery->segments[recovery->index];
        uint64_t before;

        if (!recovery->file && !segment_begin(recovery, segment)) {
            segment_end(recovery, segment);
            continue;
        }
        before = recovery->at;
        if (!read_place(recovery, segment, on_record, context))
            segment_end(recovery, segment);
        left = u64_sub_floor(left, recovery->at - before);
    }
    publish_progress(recovery);
    return recovery->index < recovery->count;
}

struct journal_progress journal_recovery_progress(const struct journal_recovery *recovery)
{
    return recovery->progress;
}

void journal_recovery_end(struct journal_recovery *recovery)
{
    if (!recovery)
        return;
    journal_lock(recovery->journal);
    recovery->journal->recovering = false;
    journal_unlock(recovery->journal);
    journal_file_close(recovery->file);
    free(recovery->segments);
    free(recovery->window);
    free(recovery);
}
