/* Spans that came once more, with a journal: which of the two places is kept?
 *
 *   known already ─▶ both places are held ─▶ the records are done with ─▶ the one that is written stays, the other is let go of
 *
 * A request whose record could not be written is refused, but its spans lie in memory. When they are sent again they are known, and
 * their sender is told that they are safe as soon as the second record is written: so it must not go while they are held, in
 * whatever state their trace is by then. What was exported, dropped or given away meanwhile needs neither.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sampler/buffer/trace.h"
#include "sampler/journal/journal.h"

struct worker_handoff;

struct repeat {
    struct trace_id id;
    uint64_t span_hash;
    struct journal_pos at; /* the second place; held */
    uint32_t len;
};

struct repeats {
    struct repeat *entries;
    size_t count, capacity;
    size_t due_count;   /* of these, the first: asked about when all records before `before` are done with */
    uint64_t before;    /* a journal_sequence */
    uint64_t next_ns;   /* not before, where they must be looked for */
};

void repeats_deinit(struct repeats *repeats);
/* The span is known, and lies at `at` too: that place is this one's from here on. */
void repeats_add(struct worker_handoff *handoff, const struct repeat *repeat);
/* Once a turn. */
void repeats_run(struct worker_handoff *handoff, uint64_t now_ns);
