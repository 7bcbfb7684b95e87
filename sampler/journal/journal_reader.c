/* Bytes back from the disk, in the order in which they lie there: neighbours, and what lies close together, in one read. */
#include "sampler/journal/journal_inside.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/num.h"
#include "common/run/worker.h"

#define SCRATCH_BYTES (1024u * 1024)
#define GAP_BYTES (32u * 1024) /* read over rather than seek: a disk of 200 MB/s reads so much in the time of a fifth of a seek */

void journal_read(struct journal *journal, struct journal_read *read)
{
    read->next = NULL;
    journal_lock(journal);
    *journal->reads_last = read;
    journal->reads_last = &read->next;
    journal_unlock(journal);
    if (journal->thread)
        journal_thread_wake_reader(journal->thread);
}

void journal_read_done_at_worker(struct journal_read *read)
{
    worker_post(read->to, &read->mail);
}

static int compare_items(const void *a, const void *b)
{
    const struct journal_pos *x = &((const struct journal_read_item *)a)->at, *y = &((const struct journal_read_item *)b)->at;

    if (x->segment != y->segment)
        return x->segment < y->segment ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static struct journal_read *take_read(struct journal *journal)
{
    struct journal_read *read;

    journal_lock(journal);
    read = journal->reads;
    if (read) {
        journal->reads = read->next;
        if (!journal->reads)
            journal->reads_last = &journal->reads;
    }
    journal_unlock(journal);
    if (read && read->count > 0)
        qsort(read->items, read->count, sizeof(read->items[0]), compare_items);
    journal->reading_at = 0;
    return read;
}

/* How many items from `first` on one read serves, and the bytes from the first's offset to the end of it. */
static size_t items_together(const struct journal_read_item *first, size_t left, uint64_t *out_span)
{
    uint64_t end = (uint64_t)first->at.offset + first->len;
    size_t count = 1;

    for (; count < left; count++) {
        const struct journal_read_item *item = &first[count];
        uint64_t item_end = u64_max(end, (uint64_t)item->at.offset + item->len);

        if (item->at.segment != first->at.segment || item->at.offset > end + GAP_BYTES || item_end - first->at.offset > SCRATCH_BYTES)
            break;
        end = item_end;
    }
    *out_span = end - first->at.offset;
    return count;
}

static int read_bytes(struct journal *journal, struct journal_pos at, uint8_t *to, size_t len)
{
    struct journal_file *file;
    const struct segment *segment;
    uint32_t number = NO_FILE;
    size_t got = 0;
    int r;

    journal_lock(journal);
    segment = journal_find(journal, at.segment);
    if (segment)
        number = segment->file;
    journal_unlock(journal);
    if (number == NO_FILE)
        return -ENOENT;
    r = journal_disk_open_file(journal->disk, number, &file);
    if (r)
        return r;
    r = journal_file_read(file, at.offset, to, len, &got);
    journal_file_close(file);
    return r ? r : got < len ? -EIO : 0;
}

static void items_copy(struct journal_read_item *items, size_t count, const uint8_t *bytes, bool failed)
{
    for (size_t i = 0; i < count; i++) {
        items[i].failed = failed;
        if (!failed && items[i].len > 0)
            memcpy(items[i].to, bytes + (items[i].at.offset - items[0].at.offset), items[i].len);
    }
}

/* One disk read. One that failed for several is tried again for each: a bad block costs what lies in it. */
static void read_together(struct journal *journal, struct journal_read_item *items, size_t count, uint64_t span)
{
    int r = -ENOMEM;

    if (!journal->read_scratch)
        journal->read_scratch = malloc(SCRATCH_BYTES);
    if (count == 1 || !journal->read_scratch) {
        for (size_t i = 0; i < count; i++) {
            int one = read_bytes(journal, items[i].at, items[i].to, items[i].len);

            items[i].failed = one != 0;
            r = i == 0 ? one : r ? r : one;
        }
    } else {
        r = read_bytes(journal, items[0].at, journal->read_scratch, (size_t)span);
        if (r)
            for (size_t i = 0; i < count; i++)
                items[i].failed = read_bytes(journal, items[i].at, items[i].to, items[i].len) != 0;
        else
            items_copy(items, count, journal->read_scratch, false);
    }
    journal_lock(journal);
    journal->stats.reads++;
    journal->stats.read_bytes += span;
    if (r)
        journal->stats.read_errors++;
    journal_unlock(journal);
}

/* False: the cap says later. */
static bool may_read(struct journal *journal, uint64_t now_ns)
{
    if (journal->options.reads_per_second == 0)
        return true;
    if (now_ns < journal->next_read_ns)
        return false;
    /* Time that nobody used is not saved up, but for a hundredth of a second: sleeps are not exact. */
    journal->next_read_ns = u64_max(journal->next_read_ns, u64_sub_floor(now_ns, 10 * NS_PER_MS)) + NS_PER_S / journal->options.reads_per_second;
    return true;
}

uint64_t journal_run_reads(struct journal *journal, struct journal_now now)
{
    for (;;) {
        struct journal_read *read = journal->reading ? journal->reading : take_read(journal);
        uint64_t span;

        if (!read)
            return UINT64_MAX;
        journal->reading = read;
        while (journal->reading_at < read->count) {
            struct journal_read_item *first = &read->items[journal->reading_at];
            size_t count = items_together(first, read->count - journal->reading_at, &span);

            if (!may_read(journal, now.ns))
                return journal->next_read_ns;
            read_together(journal, first, count, span);
            journal->reading_at += count;
        }
        journal->reading = NULL;
        read->done(read);
    }
}
