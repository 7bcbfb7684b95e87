/* What all workers together hold: asked by mail behind whatever was sent to them before, summed up when the last has answered.
 *
 * Owner   the control thread. One poll at a time; it must stay until `done` has run.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sampler/handoff/worker_handoff.h"

struct hold_question;
struct sampler;

struct holds_sum {
    uint32_t ring_no;       /* of the workers' views; 0: they differ, or there is none */
    bool swept;             /* all of them */
    uint64_t open_requests, traces, verdicts, survivors;
    bool remembers;         /* any of them */
    uint64_t oldest_ns;     /* 0: nothing foreign is held */
    uint64_t foreign_traces, foreign_bytes, exports; /* over the members */
    struct held_for *members; /* the poll's own, until the next one; NULL: not asked for */
    size_t member_count;
};

struct hold_poll {
    struct sampler *sampler;
    struct hold_question *questions; /* one a worker */
    unsigned waiting;
    struct holds_sum sum;
    size_t capacity;        /* of sum.members */
    void *context;
    void (*done)(void *context, const struct holds_sum *sum);
};

void hold_poll_init(struct hold_poll *poll, struct sampler *sampler, void *context,
    void (*done)(void *context, const struct holds_sum *sum));
void hold_poll_deinit(struct hold_poll *poll); /* no poll is under way, or all its mail was delivered */
/* members: of the view that the workers have; 0: only totals. */
void hold_poll_begin(struct hold_poll *poll, size_t member_count);
static inline bool hold_poll_under_way(const struct hold_poll *poll)
{
    return poll->waiting > 0;
}

/* A worker's own answer into the sum; exported for its test. */
void holds_sum_begin(struct holds_sum *sum, struct held_for *members, size_t member_count);
void holds_sum_add(struct holds_sum *sum, const struct holds *holds, bool first);
