/* Reads a journal back after a restart, step by step, so that the node answers /livez and shows how far it is.
 *
 * Order    all verdict records first, in order of sequence; then data, segment by segment, oldest first. Data records of the two
 *          streams (journal.h) lie beside each other: among them only the sequence tells which is newer, and only verdicts need it.
 *          A span is held if no EXPORTED, GIVEN or dropping VERDICTS record of higher sequence names it.
 * Damage   a torn tail or a corrupt record is that record's loss, counted; reading goes on at the next good one. A file that cannot be
 *          opened is counted and left as it is.
 * Holding  the consumer holds what it keeps (journal_hold) while it is shown a record or later, until journal_recovery_end: from then on
 *          a segment of which nothing is held is free.
 * Threads  one; beside it, others may append already.
 */
#pragma once

#include "sampler/journal/journal.h"

struct journal_recovery;

struct journal_record {
    enum journal_kind kind;
    uint64_t sequence;
    struct journal_pos at; /* of the payload */
    struct slice payload;  /* borrowed for the call; checksummed, its inside not yet read: journal_record.h */
};

typedef void (*journal_on_record)(void *context, const struct journal_record *record);

struct journal_progress {
    uint64_t done_bytes, total_bytes;
    uint64_t records, corrupt_records, unreadable_bytes;
    bool verdicts_done; /* what follows is data */
};

/* 0 or -ENOMEM. Once a journal. */
int journal_recovery_begin(struct journal *journal, struct journal_recovery **out_recovery);
/* Reads about so many bytes. False: there is no more. */
bool journal_recovery_step(struct journal_recovery *recovery, uint64_t budget_bytes, journal_on_record on_record, void *context);
struct journal_progress journal_recovery_progress(const struct journal_recovery *recovery);
/* What nobody holds is free from now on; without it recovered segments stay, unread ones (an end before the last step) stay too.
 * Accepts NULL. */
void journal_recovery_end(struct journal_recovery *recovery);
CLEANUP_DEFINE(struct journal_recovery, journal_recovery_end);
