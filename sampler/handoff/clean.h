/* Emptying a journal's segments: what is still held in them is copied forward (journal_clean_wanted).
 *
 * What    traces in the table and survivors, those of their spans that lie there; with all that is known of the trace, as in a Give.
 * When    a set of segments a pass; so much a turn, that requests do not notice. Spilled traces, and those that wait for their
 *         verdict to be written, are passed over: the journal asks again.
 * Then    places point to the copy at once, the old bytes are let go of when it is written. If it cannot be, they stay held, and come back
 *         after a restart.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sampler/buffer/trace.h"
#include "sampler/journal/journal.h"

struct worker_handoff;

struct clean {
    struct journal_clean wanted; /* the set that this worker is about, or was */
    enum { CLEAN_IDLE, CLEAN_TABLE, CLEAN_SURVIVORS } stage;
    uint64_t cursor;
    struct trace **found; /* scratch: traces with spans there */
    size_t found_count, found_capacity;
    struct clean_copy *copy; /* being filled */
};

void clean_deinit(struct clean *clean);
/* Once a turn; true: there is more to do. */
bool clean_run(struct worker_handoff *handoff);
