/* What the files of one worker's handoff share: gate.c, travel.c, takeover.c and worker_handoff.c; nobody else includes it. */
#pragma once

#include "common/base/list.h"
#include "common/otlp/regroup.h"
#include "sampler/handoff/clean.h"
#include "sampler/handoff/open_request.h"
#include "sampler/handoff/repeats.h"
#include "sampler/handoff/spill.h"
#include "sampler/handoff/travel.h"
#include "sampler/handoff/view.h"
#include "sampler/handoff/worker_handoff.h"
#include "sampler/sampler_worker.h"

struct worker_handoff {
    struct sampler_worker *home;
    struct handoff_options options;
    struct view *view;          /* a reference; NULL: none yet, or no cluster */
    bool recovering;            /* the journal is being read back: nothing is taken in, decided or exported */
    bool refusing;              /* what comes is refused */
    bool standing_still;        /* the end: nothing is given any more, and nothing decided unless home->finishing */
    struct list open;           /* struct open_request */
    uint64_t open_count;
    struct list parked;         /* struct gate_part: wait for a view, or for their time */
    uint64_t parked_count, parked_next_ns;
    bool parked_anew;           /* a new view: all of them are judged */
    struct gate_choice *choices; /* of a request's spans, scratch */
    size_t choice_capacity;
    struct regroup *regroup;    /* for what is cut out of requests */
    struct travel travel;
    struct clean clean;
    struct spill spill;
    struct repeats repeats;
};

/* The slot of hash_trace(id). */
static inline uint32_t slot_of(uint64_t id_hash)
{
    return (uint32_t)(id_hash >> (64 - RING_SLOT_BITS));
}

/* The journal was read back: what waits for that goes on. */
void handoff_recovered(struct sampler_worker *home);
/* This member as it introduces itself in Give and Forward. */
struct transfer_sender handoff_sender(const struct worker_handoff *handoff);
