/* Finding what is there: the head file, then each segment's head. No record is read here, and no failure of the disk but the lock stops
 * the start: what cannot be read is counted, left alone, and shown. */
#include "sampler/journal/journal_inside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"

static void queue_init(struct write_queue *queue)
{
    queue->first = NULL;
    queue->last = &queue->first;
}

/* -- the segments of a directory ------------------------------------------------------------------------------------ */

struct opening {
    struct journal *journal;
    bool id_known;
    bool unknown_heads; /* of files that could not be read: which numbers they have is not known */
    int error;
};

/* Past whatever a segment may have that could not be read. */
#define SKIP_NUMBERS (1u << 20)
#define SKIP_SEQUENCES (1ull << 40)

/* Takes the segment that the head tells of; its file is not ours to use if there is one of that number already. */
static int segment_recovered(struct journal *journal, const struct segment_head *head, uint32_t file, uint64_t file_bytes)
{
    struct segment *segment;

    if (journal_find(journal, head->number))
        return 0;
    segment = calloc(1, sizeof(*segment));
    if (!segment)
        return error_raise(-ENOMEM);
    *segment = (struct segment){.number = head->number,
        .stream = head->stream,
        .state = SEGMENT_SEALED,
        .recovered = true,
        .unread = true,
        .begun = true,
        .size_bytes = file_bytes,
        .seed = segment_seed(journal->id, head->number),
        .first_sequence = head->first_sequence,
        .created_unix_ns = head->created_unix_ns,
        .sealed_ns = journal->now.ns,
        .changed_ns = journal->now.ns,
        .tail = file_bytes,
        .file = file};
    if (journal_add_segment(journal, segment)) {
        free(segment);
        return error_raise(-ENOMEM);
    }
    journal->next_number = head->number >= journal->next_number ? head->number + 1 : journal->next_number;
    return 0;
}

static int file_head(struct journal *journal, uint32_t number, struct segment_head *out_head, enum segment_head_result *out_result)
{
    uint8_t bytes[SEGMENT_HEAD_BYTES];
    struct journal_file *file;
    size_t len;
    int r = journal_disk_open_file(journal->disk, number, &file);

    if (r)
        return r;
    r = journal_file_read(file, 0, bytes, sizeof(bytes), &len);
    journal_file_close(file);
    if (r == 0)
        *out_result = segment_head_read(slice_make(bytes, len), out_head);
    return r;
}

static void on_file(void *context, uint32_t number, uint64_t size_bytes)
{
    struct opening *opening = context;
    struct journal *journal = opening->journal;
    enum segment_head_result result = SEGMENT_FREE;
    struct segment_head head;

    journal->next_file = number >= journal->next_file && number < NO_FILE - 1 ? number + 1 : journal->next_file;
    if (file_head(journal, number, &head, &result)) {
        opening->unknown_heads = true;
        journal->stats.read_errors++;
        journal->stats.unreadable_bytes += size_bytes;
        return;
    }
    if (result == SEGMENT_GOOD && !opening->id_known) {
        /* The head file is lost; the segments say it too. */
        journal->id = head.journal_id;
        opening->id_known = true;
    }
    if (result == SEGMENT_GOOD && head.journal_id != journal->id) {
        journal->stats.unreadable_bytes += size_bytes; /* another journal's: not ours to use, nor to remove */
        return;
    }
    if (result == SEGMENT_GOOD && size_bytes > SEGMENT_HEAD_BYTES && size_bytes <= UINT32_MAX) {
        int r = segment_recovered(journal, &head, number, size_bytes);

        opening->error = opening->error ? opening->error : r;
        return;
    }
    if (result == SEGMENT_BAD) {
        /* Nothing in it can be checked without the head. */
        journal->stats.corrupt_records++;
        journal->stats.unreadable_bytes += size_bytes;
    }
    journal_file_freed(journal, number, size_bytes);
}

/* Higher than any sequence that was given out: the newest segment's first, and then as many records as all of them have room for. */
static uint64_t sequence_after(const struct journal *journal)
{
    uint64_t newest = 0, room = 0;

    for (size_t i = 0; i < journal->segment_count; i++) {
        newest = u64_max(newest, journal->segments[i]->first_sequence);
        room += journal->segments[i]->size_bytes / FRAME_BYTES;
    }
    return u64_add_cap(newest, room) + 1;
}

/* -- the head file ------------------------------------------------------------------------------------------------------ */

static void head_write(struct journal *journal)
{
    uint8_t bytes[JOURNAL_HEAD_BYTES];
    int r;

    journal_head_put(journal->id, journal->now.unix_ns, bytes);
    r = journal_disk_write_head(journal->disk, slice_make(bytes, sizeof(bytes)));
    journal->head_written = r == 0;
    if (r)
        for (unsigned i = 0; i < STREAM_COUNT; i++)
            journal_failed(journal, (enum journal_stream)i, "create", r);
}

static int head_find(struct journal *journal, struct opening *opening, char *out_error, size_t error_size)
{
    uint8_t bytes[JOURNAL_HEAD_BYTES];
    uint32_t version = 0;
    size_t len = 0;

    journal->id = journal->options.new_id;
    if (journal_disk_read_head(journal->disk, bytes, sizeof(bytes), &len)) {
        journal->stats.read_errors++;
        return 0;
    }
    if (len == 0)
        return 0;
    switch (journal_head_read(slice_make(bytes, len), &journal->id, &version)) {
    case JOURNAL_HEAD_GOOD:
        opening->id_known = journal->head_written = true;
        return 0;
    case JOURNAL_HEAD_DAMAGED:
        journal->stats.corrupt_records++;
        return 0;
    case JOURNAL_HEAD_FOREIGN:
        (void)snprintf(out_error, error_size, "journal directory %s: its file \"journal\" was not written by Tailrace", journal->options.directory);
        return JOURNAL_E_VERSION;
    case JOURNAL_HEAD_OTHER_VERSION:
        (void)snprintf(out_error, error_size, "journal directory %s has format version %u, this program knows version %u",
            journal->options.directory, version, JOURNAL_FORMAT_VERSION);
        return JOURNAL_E_VERSION;
    }
    UNREACHABLE("all results are there");
}

/* -- life --------------------------------------------------------------------------------------------------------------- */

static int options_check(const struct journal_options *options, char *out_error, size_t error_size)
{
    const char *wrong = NULL;

    if (options->segment_bytes < JOURNAL_SEGMENT_MIN || options->segment_bytes > JOURNAL_SEGMENT_MAX)
        wrong = "a segment has at least 64 KiB and at most 1 GiB";
    else if (options->max_bytes / 4 < options->segment_bytes)
        wrong = "its size must have room for four segments";
    else if (options->sync == JOURNAL_SYNC_INTERVAL && options->sync_interval_ns == 0)
        wrong = "sync: interval needs an interval above zero";
    if (!wrong)
        return 0;
    (void)snprintf(out_error, error_size, "journal: %s", wrong);
    return JOURNAL_E_OPTIONS;
}

static int disk_open(struct journal *journal, char *out_error, size_t error_size)
{
    const char *directory = journal->options.directory;
    int r = journal_disk_open(directory, &journal->disk);

    if (r == -EWOULDBLOCK) {
        (void)snprintf(out_error, error_size, "journal directory %s is in use by another process: two samplers must not share one", directory);
        return JOURNAL_E_LOCKED;
    }
    if (r) {
        (void)snprintf(out_error, error_size, "journal directory %s cannot be used: %s", directory, strerror(-r));
        return JOURNAL_E_DIRECTORY;
    }
    return 0;
}

static int find_all(struct journal *journal, struct opening *opening, char *out_error, size_t error_size)
{
    int r = journal_disk_list(journal->disk, on_file, opening);

    if (opening->error)
        return opening->error;
    if (r) {
        (void)snprintf(out_error, error_size, "journal directory %s cannot be read: %s", journal->options.directory, strerror(-r));
        return JOURNAL_E_DIRECTORY;
    }
    journal->next_sequence = sequence_after(journal);
    if (opening->unknown_heads) {
        journal->next_number += SKIP_NUMBERS;
        journal->next_sequence += SKIP_SEQUENCES;
    }
    journal->recovering = journal->segment_count > 0;
    for (size_t i = 0; i < journal->segment_count; i++) {
        journal->segments[i]->last_sequence = journal->next_sequence;
        journal->stats.recovery_total_bytes += journal->segments[i]->size_bytes;
    }
    if (!journal->head_written)
        head_write(journal);
    journal_room_changed(journal);
    return 0;
}

static int journal_begin(struct journal *journal, char *out_error, size_t error_size)
{
    struct opening opening = {.journal = journal};
    int r = disk_open(journal, out_error, error_size);

    if (r == 0)
        r = head_find(journal, &opening, out_error, error_size);
    return r ? r : find_all(journal, &opening, out_error, error_size);
}

int journal_open(const struct journal_options *options, struct journal_now now, struct journal **out_journal, char *out_error, size_t error_size)
{
    CLEANUP(journal_close) struct journal *journal = NULL;
    int r = options_check(options, out_error, error_size);

    if (r)
        return r;
    journal = calloc(1, sizeof(*journal));
    if (!journal)
        return error_raise(-ENOMEM);
    journal->options = *options;
    journal->options.directory = strdup(options->directory);
    journal->group = journal_group_new();
    journal->now = now;
    journal->next_number = 1;
    journal->reads_last = &journal->reads;
    queue_init(&journal->queue);
    (void)pthread_mutex_init(&journal->lock, NULL);
    if (!journal->options.directory || !journal->group)
        return error_raise(-ENOMEM);
    r = journal_begin(journal, out_error, error_size);
    if (r)
        return r;
    journal->opened = true;
    *out_journal = steal(&journal);
    return 0;
}

static void fail_reads(struct journal *journal)
{
    struct journal_read *read = journal->reading ? journal->reading : journal->reads;

    if (journal->reading)
        journal->reading->next = journal->reads;
    while (read) {
        struct journal_read *next = read->next;

        for (size_t i = 0; i < read->count; i++)
            read->items[i].failed = true;
        read->done(read);
        read = next;
    }
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    if (journal->opened) {
        (void)journal_run(journal, journal->now);
        (void)journal_sync_dirty(journal);
        fail_reads(journal);
    }
    for (size_t i = 0; i < journal->segment_count; i++)
        segment_free(journal->segments[i]);
    free(journal->segments);
    free(journal->free_files);
    journal_group_free(journal->group);
    free(journal->read_scratch);
    buffer_unref(journal->member);
    journal_disk_close(journal->disk);
    (void)pthread_mutex_destroy(&journal->lock);
    free((char *)(uintptr_t)journal->options.directory);
    free(journal);
}
