/* Which segments shall be emptied.
 *
 * A data segment holds many traces; after their decisions a few of them wait for a backend, and pin the whole of it. During an outage of
 * 300 s with 10 % kept, 90 % of each segment would be waste. So a segment whose traces are decided (clean_age) and of which
 * less than 1/1.3 is still held is emptied by copying: what is left takes then at most 1.3 times what survivors came with. Not sooner,
 * because undecided traces leave by themselves; and not while it is being emptied anyhow by exports (it changed in the last seconds),
 * unless the disk runs short. Copies have a stream of their own: beside fresh requests, of which nine in ten go, they would be
 * copied again with every round; among themselves they are copied once, as long as their backend is away.
 *
 * Copies need room before they make some. Where max_bytes leaves little of it, a set is no larger than what fits, and a record no larger
 * than a part of a segment: else a full journal could not be emptied for want of space, and would take nothing in.
 *
 * What is held is compared with what was ever held there, not with the file's bytes: requests carry more than spans, and a segment
 * full of held spans must not look half empty for it. For recovered segments what was held is not known, the file's bytes are; they
 * are emptied below a half. */
#include "sampler/journal/journal_inside.h"

#include "common/base/num.h"

#define QUIET_NS (10 * NS_PER_S)      /* nothing was let go so long: no export is emptying it */
#define PATIENCE_NS (30 * NS_PER_S)   /* for a set; what is left then waits for a running export, and is asked for in a later one */
#define AGAIN_NS (60 * NS_PER_S)
#define COPY_BYTES (1u << 20)
#define COPY_LEAST_BYTES 4096u        /* of less it is not worth to begin */
#define RECORD_BYTES 64u              /* frame, head and padding */

/* Three quarters of the space are in use. */
static bool short_of_space(const struct journal *journal)
{
    return journal->used_bytes / 3 >= journal->options.max_bytes / 4;
}

static bool mostly_gone(const struct segment *segment)
{
    uint64_t live = (uint64_t)segment->live_bytes;

    return segment->recovered ? live < segment->size_bytes / 2 : live < segment->came_bytes / 13 * 10;
}

static bool worth_cleaning(const struct journal *journal, const struct segment *segment)
{
    uint64_t now_ns = journal->now.ns;

    if (segment->stream == STREAM_VERDICTS || segment->state != SEGMENT_SEALED || segment->live_bytes == 0 || segment->pending > 0)
        return false;
    if (segment->recovered && (journal->recovering || segment->unread))
        return false;
    if (now_ns - segment->sealed_ns < journal->options.clean_age_ns || now_ns < segment->clean_again_ns)
        return false;
    return mostly_gone(segment) && (short_of_space(journal) || now_ns - segment->changed_ns >= QUIET_NS);
}

/* Drops those that are gone; false: none is left, or they were given time enough. */
static bool set_in_work(struct journal *journal)
{
    struct journal_clean *clean = &journal->clean;
    uint32_t left = 0;

    for (uint32_t i = 0; i < clean->count; i++) {
        const struct segment *segment = journal_find(journal, clean->segments[i]);

        if (segment && segment->state != SEGMENT_DEAD && segment->live_bytes > 0)
            clean->segments[left++] = clean->segments[i];
    }
    journal->stats.cleaned_segments += clean->count - left;
    clean->count = left;
    return left > 0 && journal->now.ns < journal->clean_until_ns;
}

static uint64_t live_in(const struct journal *journal, uint32_t number)
{
    return (uint64_t)journal_find(journal, number)->live_bytes;
}

static uint32_t set_fullest(const struct journal *journal, const struct journal_clean *clean)
{
    uint32_t fullest = 0;

    for (uint32_t i = 1; i < clean->count; i++)
        if (live_in(journal, clean->segments[i]) > live_in(journal, clean->segments[fullest]))
            fullest = i;
    return fullest;
}

/* Returns what is held there. */
static uint64_t set_drop_fullest(const struct journal *journal, struct journal_clean *clean)
{
    uint32_t fullest = set_fullest(journal, clean);
    uint64_t live = live_in(journal, clean->segments[fullest]);

    clean->count--;
    memmove(&clean->segments[fullest], &clean->segments[fullest + 1], (clean->count - fullest) * sizeof(clean->segments[0]));
    return live;
}

/* The emptiest first where there are more than fit. Kept in order of number. */
static void set_add(const struct journal *journal, struct journal_clean *clean, const struct segment *segment)
{
    if (clean->count == JOURNAL_CLEAN_MAX) {
        if (live_in(journal, clean->segments[set_fullest(journal, clean)]) <= (uint64_t)segment->live_bytes)
            return;
        (void)set_drop_fullest(journal, clean);
    }
    clean->segments[clean->count++] = segment->number;
}

/* Leaves away the fullest until what is copied fits: spans, a quarter for what stands beside them. The emptiest stays. */
static void set_fit(const struct journal *journal, struct journal_clean *clean)
{
    uint64_t room = journal_copies_room(journal), live = 0;

    for (uint32_t i = 0; i < clean->count; i++)
        live += (uint64_t)journal_find(journal, clean->segments[i])->live_bytes;
    while (clean->count > 1 && live + live / 4 > room)
        live -= set_drop_fullest(journal, clean);
}

uint64_t journal_copy_bytes(struct journal *journal)
{
    uint64_t room;

    journal_lock(journal);
    room = journal_copies_room(journal);
    journal_unlock(journal);
    if (room < COPY_LEAST_BYTES)
        return 0;
    return u64_min(room - RECORD_BYTES, u64_min(COPY_BYTES, journal->options.segment_bytes / 4));
}

void journal_choose_clean(struct journal *journal)
{
    struct journal_clean *clean = &journal->clean;

    if (set_in_work(journal))
        return;
    for (uint32_t i = 0; i < clean->count; i++)
        journal_find(journal, clean->segments[i])->clean_again_ns = journal->now.ns + AGAIN_NS;
    clean->count = 0;
    for (size_t i = 0; i < journal->segment_count; i++)
        if (worth_cleaning(journal, journal->segments[i]))
            set_add(journal, clean, journal->segments[i]);
    set_fit(journal, clean);
    if (clean->count == 0)
        return; /* workers know the last set, of which nothing is left to do */
    clean->generation++;
    journal->clean_until_ns = journal->now.ns + PATIENCE_NS;
    atomic_store_explicit(&journal->clean_generation, clean->generation, memory_order_relaxed);
}
