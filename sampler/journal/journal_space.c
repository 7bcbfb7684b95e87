/* Files for segments, and what becomes of them. All of it is the writer's.
 *
 * A segment that is dead has its head wiped before its file is used again; and a verdict segment dies only when the data it speaks of is
 * wiped. So whatever a crash leaves behind, no span comes back whose verdict was recycled. */
#include "sampler/journal/journal_inside.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"

#define TRIM_NS (60 * NS_PER_S)

/* -- free files --------------------------------------------------------------------------------------------------------- */

/* A stack: what was emptied last is used next, as its pages are still the kernel's. A write to pages that it must find first costs ten
 * times as much. At the bottom lie those without pages, and those that failed: others get their turn first. */
static bool free_push(struct journal *journal, struct free_file file)
{
    if (journal->free_count == journal->free_capacity) {
        size_t capacity = journal->free_capacity ? journal->free_capacity * 2 : 16;
        struct free_file *files = realloc(journal->free_files, capacity * sizeof(files[0]));

        if (!files)
            return false;
        journal->free_files = files;
        journal->free_capacity = capacity;
    }
    journal->free_files[journal->free_count++] = file;
    journal->free_bytes += file.size_bytes;
    return true;
}

static struct free_file free_pop(struct journal *journal)
{
    struct free_file file = journal->free_files[--journal->free_count];

    journal->free_bytes -= file.size_bytes;
    journal->free_least = size_min(journal->free_least, journal->free_count);
    return file;
}

/* To the bottom, or from there. */
static bool free_push_last(struct journal *journal, struct free_file file)
{
    if (!free_push(journal, file))
        return false;
    memmove(&journal->free_files[1], &journal->free_files[0], (journal->free_count - 1) * sizeof(file));
    journal->free_files[0] = file;
    return true;
}

static struct free_file free_pop_last(struct journal *journal)
{
    struct free_file file = journal->free_files[0];

    journal->free_count--;
    memmove(&journal->free_files[0], &journal->free_files[1], journal->free_count * sizeof(file));
    journal->free_bytes -= file.size_bytes;
    return file;
}

static void file_remove(struct journal *journal, uint32_t number)
{
    if (journal_disk_remove(journal->disk, number) == 0)
        journal->names_changed = true;
}

void journal_file_freed(struct journal *journal, uint32_t number, uint64_t size_bytes)
{
    if (size_bytes != journal->options.segment_bytes || !free_push_last(journal, (struct free_file){number, size_bytes}))
        file_remove(journal, number);
}

/* What is used and what is free shall not be more than max_bytes; the last free file stays. */
static void files_fit(struct journal *journal)
{
    uint64_t used_bytes;

    journal_lock(journal);
    used_bytes = journal->used_bytes;
    journal_unlock(journal);
    while (journal->free_count > 1 && used_bytes + journal->free_bytes > journal->options.max_bytes)
        file_remove(journal, free_pop_last(journal).number);
}

static int file_create(struct journal *journal, uint64_t size_bytes, uint32_t *out_number, struct journal_file **out_handle)
{
    uint32_t number = journal->next_file;
    int r = journal_disk_create(journal->disk, number, size_bytes, out_handle);

    if (r && r != -EEXIST)
        return r;
    journal->next_file++; /* also past one whose directory entry we could not read */
    if (r)
        return r;
    journal->names_changed = true;
    *out_number = number;
    return 0;
}

static int file_recycle(struct journal *journal, uint32_t *out_number, struct journal_file **out_handle)
{
    struct free_file file = free_pop(journal);
    int r = journal_disk_open_file(journal->disk, file.number, out_handle);

    if (r == -ENOENT)
        return r; /* somebody removed it: forgotten */
    if (r)
        (void)free_push_last(journal, file); /* there is room: it just came out */
    *out_number = file.number;
    return r;
}

/* The last free file is not for requests: where the disk is full, verdicts make room. */
static int file_get(struct journal *journal, const struct segment *segment, uint32_t *out_number, struct journal_file **out_handle)
{
    size_t spare_count = segment->stream == STREAM_DATA ? 1 : 0;

    if (segment->size_bytes == journal->options.segment_bytes && journal->free_count > spare_count)
        return file_recycle(journal, out_number, out_handle);
    files_fit(journal); /* the segment counts already */
    return file_create(journal, segment->size_bytes, out_number, out_handle);
}

int journal_begin_segment(struct journal *journal, struct segment *segment)
{
    struct segment_head head = {.number = segment->number,
        .stream = segment->stream,
        .size_bytes = segment->size_bytes,
        .journal_id = journal->id,
        .first_sequence = segment->first_sequence,
        .created_unix_ns = segment->created_unix_ns};
    uint8_t bytes[SEGMENT_HEAD_BYTES];
    struct slice part = slice_make(bytes, sizeof(bytes));
    struct journal_file *handle = NULL;
    uint32_t number = NO_FILE;
    int r = file_get(journal, segment, &number, &handle);

    if (r)
        return r;
    segment_head_put(&head, bytes);
    r = journal_file_write(handle, 0, &part, 1);
    if (r) {
        journal_file_close(handle);
        journal_file_freed(journal, number, segment->size_bytes);
        return r;
    }
    journal_lock(journal);
    segment->file = number; /* the reader looks for it */
    journal_unlock(journal);
    segment->handle = handle;
    segment->begun = true;
    return 0;
}

int journal_probe(struct journal *journal)
{
    static const uint8_t zeros[SEGMENT_HEAD_BYTES];
    struct slice part = slice_make(zeros, sizeof(zeros));
    struct journal_file *handle = NULL;
    uint32_t number = NO_FILE;
    int r;

    if (!journal->head_written) {
        uint8_t bytes[JOURNAL_HEAD_BYTES];

        journal_head_put(journal->id, journal->now.unix_ns, bytes);
        r = journal_disk_write_head(journal->disk, slice_make(bytes, sizeof(bytes)));
        if (r)
            return r;
        journal->head_written = true;
    }
    r = journal->free_count > 0 ? file_recycle(journal, &number, &handle)
                                : file_create(journal, journal->options.segment_bytes, &number, &handle);
    if (r)
        return r;
    r = journal_file_write(handle, 0, &part, 1);
    if (r == 0)
        r = journal_file_sync(handle);
    journal_file_close(handle);
    journal_file_freed(journal, number, journal->options.segment_bytes);
    return r;
}

/* -- what is dead --------------------------------------------------------------------------------------------------------- */

/* With the lock. A recovered segment that recovery has not been through may hold anything. */
static bool may_die(const struct journal *journal, const struct segment *segment)
{
    if (segment->state != SEGMENT_SEALED || segment->pending > 0 || segment->live_bytes > 0)
        return false;
    return !segment->recovered || (!journal->recovering && !segment->unread);
}

/* With the lock: where the oldest data begins that verdicts may speak of without naming it. Requests count by their order, because one that
 * was sent twice lies in two places of which its holder knows one; so do recovered copies, of which it is not known who refers to them. */
static uint64_t oldest_sequence(const struct journal *journal)
{
    uint64_t oldest = UINT64_MAX;

    for (size_t i = 0; i < journal->segment_count; i++) {
        const struct segment *segment = journal->segments[i];

        if (segment->stream == STREAM_DATA || (segment->stream == STREAM_COPIES && segment->recovered))
            oldest = u64_min(oldest, segment->first_sequence);
    }
    return oldest;
}

static bool is_needed(const struct journal *journal, const struct segment *verdicts, uint64_t oldest)
{
    if (oldest < verdicts->last_sequence)
        return true;
    for (size_t i = 0; i < verdicts->refer_count; i++)
        if (journal_find(journal, verdicts->refers[i]))
            return true;
    return false;
}

static void own_write_done(struct journal_write *write)
{
    free(write);
}

/* With the lock: the newest MEMBER record once more, so that the segment where it lies can go. */
static void member_copy(struct journal *journal)
{
    struct journal_write *write = calloc(1, sizeof(*write));

    if (!write)
        return; /* the segment stays a while longer */
    write->done = own_write_done;
    write->kind = JOURNAL_MEMBER;
    write->head = buffer_ref(journal->member);
    if (journal_append_locked(journal, write)) {
        buffer_unref(write->head);
        free(write);
    }
}

static bool verdicts_may_die(struct journal *journal, const struct segment *segment, uint64_t oldest)
{
    if (journal->now.ns - segment->sealed_ns < journal->options.verdict_keep_ns || is_needed(journal, segment, oldest))
        return false;
    if (segment->number != journal->member_segment)
        return true;
    if (!journal->streams[STREAM_VERDICTS].failing && journal->members_queued == 0) /* else a newer one comes by itself */
        member_copy(journal);
    return false;
}

/* With the lock. Of an open one nothing is held, and it is not new: it goes, and with it the verdicts that it keeps, and what a restart
 * would read. */
static bool is_idle(const struct journal *journal, const struct segment *segment)
{
    return segment->state == SEGMENT_OPEN && segment->stream != STREAM_VERDICTS && segment->live_bytes == 0 && segment->pending == 0 &&
           journal->now.ns - segment->created_ns >= journal->options.verdict_keep_ns;
}

static bool find_dead(struct journal *journal)
{
    bool any = false;
    uint64_t oldest;

    journal_lock(journal);
    oldest = oldest_sequence(journal); /* what dies now is still there until it is wiped */
    for (size_t i = 0; i < journal->segment_count; i++) {
        struct segment *segment = journal->segments[i];

        if (is_idle(journal, segment))
            journal_seal(journal, segment);
        if (may_die(journal, segment) && (segment->stream != STREAM_VERDICTS || verdicts_may_die(journal, segment, oldest)))
            segment->state = SEGMENT_DEAD;
        any |= segment->state == SEGMENT_DEAD;
    }
    journal_unlock(journal);
    return any;
}

static int head_wipe(struct journal *journal, struct segment *segment)
{
    static const uint8_t zeros[SEGMENT_HEAD_BYTES];
    struct slice part = slice_make(zeros, sizeof(zeros));
    int r = segment->handle ? 0 : journal_disk_open_file(journal->disk, segment->file, &segment->handle);

    if (r)
        return r;
    r = journal_file_write(segment->handle, 0, &part, 1);
    if (r == 0 && journal->options.sync != JOURNAL_SYNC_NONE)
        r = journal_file_sync(segment->handle);
    journal_file_close(segment->handle);
    segment->handle = NULL;
    return r;
}

/* 0: nothing of it will ever be read again. */
static int segment_wipe(struct journal *journal, struct segment *segment)
{
    int r;

    if (segment->file == NO_FILE)
        return 0;
    if (segment->size_bytes == journal->options.segment_bytes && head_wipe(journal, segment) == 0) {
        if (!free_push(journal, (struct free_file){segment->file, segment->size_bytes}))
            file_remove(journal, segment->file);
        return 0;
    }
    r = journal_disk_remove(journal->disk, segment->file);
    if (r == 0)
        journal->names_changed = true;
    if (r == 0 && journal->options.sync != JOURNAL_SYNC_NONE)
        r = journal_disk_sync_names(journal->disk);
    return r == -ENOENT ? 0 : r;
}

/* The first dead segment whose number is above; NULL: there is no more. Dead ones are the writer's alone. */
static struct segment *next_dead(struct journal *journal, uint32_t above)
{
    struct segment *found = NULL;

    journal_lock(journal);
    for (size_t i = 0; !found && i < journal->segment_count; i++)
        if (journal->segments[i]->state == SEGMENT_DEAD && journal->segments[i]->number > above)
            found = journal->segments[i];
    journal_unlock(journal);
    return found;
}

/* Segments that can be wiped now leave the list; the others are tried again at the next turn. */
static void wipe_dead(struct journal *journal)
{
    struct segment *segment = next_dead(journal, 0);

    while (segment) {
        uint32_t number = segment->number;
        int r = segment_wipe(journal, segment);

        journal_lock(journal);
        if (r == 0) {
            journal->stats.recycled_segments++;
            journal_take_segment(journal, segment);
        } else {
            journal->stats.write_errors++;
        }
        journal_unlock(journal);
        if (r == 0)
            segment_free(segment);
        segment = next_dead(journal, number);
    }
}

/* -- a turn ------------------------------------------------------------------------------------------------------------------ */

/* Full segments need no handle any more; without syncing, what they hold is the kernel's to write. */
static void close_full(struct journal *journal)
{
    struct segment **at = &journal->dirty;

    journal_lock(journal);
    while (*at) {
        struct segment *segment = *at;

        if (journal->options.sync != JOURNAL_SYNC_NONE || segment->state == SEGMENT_OPEN || segment->pending > 0) {
            at = &segment->next_dirty;
            continue;
        }
        *at = segment->next_dirty;
        segment->dirty = false;
    }
    for (size_t i = 0; i < journal->segment_count; i++) {
        struct segment *segment = journal->segments[i];

        if (segment->handle && !segment->dirty && segment->state != SEGMENT_OPEN && segment->pending == 0) {
            journal_file_close(segment->handle);
            segment->handle = NULL;
        }
    }
    journal_unlock(journal);
}

/* What no segment needed for a while is given back, but for a few. A journal breathes without making and removing files, and a burst that comes
 * every minute finds those of the last. */
static void trim_files(struct journal *journal)
{
    size_t unneeded = journal->free_least > 1 ? journal->free_least - 1 : 0; /* the last one is for need */
    size_t few;

    files_fit(journal);
    if (journal->now.ns < journal->next_trim_ns)
        return;
    journal_lock(journal);
    few = 2 + journal->segment_count / 4;
    journal_unlock(journal);
    for (; unneeded > 0 && journal->free_count > few; unneeded--)
        file_remove(journal, free_pop_last(journal).number);
    journal->free_least = journal->free_count;
    journal->next_trim_ns = journal->now.ns + TRIM_NS;
}

static void keep_spare(struct journal *journal)
{
    struct journal_file *handle;
    uint32_t number;

    if (journal->free_count > 0 || atomic_load(&journal->failing))
        return;
    if (file_create(journal, journal->options.segment_bytes, &number, &handle))
        return; /* a full disk shows when a segment needs one */
    journal_file_close(handle);
    journal_file_freed(journal, number, journal->options.segment_bytes);
}

void journal_tend_space(struct journal *journal)
{
    close_full(journal);
    if (find_dead(journal) && (journal->options.sync == JOURNAL_SYNC_NONE || journal_sync_dirty(journal) == 0)) {
        close_full(journal);
        wipe_dead(journal);
    }
    trim_files(journal);
    keep_spare(journal);
    journal_lock(journal);
    journal->stats.free_segments = journal->free_count;
    journal->stats.size_bytes = journal->used_bytes + journal->free_bytes;
    journal_unlock(journal);
}
