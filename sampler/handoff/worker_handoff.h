/* One worker's part in the handoff between samplers and in the journal, as the process around it (cluster.h) sees it.
 *
 *   request --> gate ----- mine, or kept ---> journal, traces ---> verdict ---> survivors
 *                 '------- another's -------> Forward              ^
 *   Give ----> take-over --> journal, traces ----------------------'
 *   traces, records, survivors in slots of another's --> travel --> Give
 *
 * Owner   the worker; all here runs on its thread but for what says otherwise. What comes from the control thread comes by mail.
 * None    a sampler without cluster and without journal has no worker_handoff: NULL, and every question answers as it would
 *         for the owner of everything.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ingest/receiver.h"

struct sampler_worker;
struct view;
struct worker_handoff;

struct handoff_options { /* of the process, set before its workers are made; zeroed: neither cluster nor journal */
    bool cluster;        /* there will be views: until the first one every request waits */
    bool journal;        /* sampler->journal is there */
    bool gives_only;     /* nothing is ever decided or exported here: everything is to travel */
    const char *name;    /* this member's; borrowed */
    uint64_t incarnation;
    uint64_t ack_wait_ns, forward_timeout_ns;
    uint64_t handoff_timeout_ns, verdict_keep_ns;
};

/* 0 or -ENOMEM; *out_handoff is NULL where neither is asked for. */
int worker_handoff_new(struct sampler_worker *home, const struct handoff_options *options, struct worker_handoff **out_handoff);
/* Requests and calls still open were ended before. Accepts NULL. */
void worker_handoff_free(struct worker_handoff *handoff);

/* Live reload. On the worker's thread. */
void handoff_keep_verdicts(struct worker_handoff *handoff, uint64_t verdict_keep_ns);

/* Adopts a view: takes a reference, judges what waits anew, begins the sweep. When it returns the worker acts by it. */
void worker_on_view(struct sampler_worker *home, struct view *view);

/* What this worker holds and does not own, and what else keeps the node from leaving. */
struct held_for {
    uint64_t traces;  /* with spans, or a verdict younger than verdict_keep */
    uint64_t bytes;   /* of spans, about */
    uint64_t exports; /* in running calls */
};
struct holds {
    uint32_t ring_no;       /* of the worker's view; 0: none yet */
    bool swept;             /* all that was there when the view came is counted in members; false: more may be found */
    uint64_t open_requests; /* from clients and by Forward and Give, not answered yet */
    uint64_t traces, verdicts, survivors; /* held at all, whoever owns them; verdicts: young ones not written yet */
    bool remembers;         /* verdicts younger than verdict_keep, or had some and gave them away */
    uint64_t oldest_ns;     /* when the first of the foreign ones arrived; 0: there are none */
    struct held_for *members; /* the caller's array, of the view's member count; NULL: not asked for */
    size_t member_count;
};
/* Answers a poll. out->members and member_count are the caller's; entries past the view's members are left alone. */
void worker_holds(struct sampler_worker *home, struct holds *out);

/* Peer methods Give and Forward (struct peer_method). */
int give_serve(void *tier, struct worker *worker, struct slice request, void *call, struct buffer **out_answer);
int forward_serve(void *tier, struct worker *worker, struct slice request, void *call, struct buffer **out_answer);

/* -- the end (L1 to L4). While draining, the view of a member that owns nothing lets everything travel by itself. --------- */

/* The grace is over, or there is nobody to give to and no journal: what is still here is decided here, or dropped as
 * drop_pending_traces_on_shutdown says; owned or not. What others may decide too counts in traces_decided_apart_total. Ends as
 * sampler_worker_finished. */
void worker_decide_all(struct sampler_worker *home);
/* With a journal: nothing is decided any more, nothing new is exported; requests that wait are refused. Then the journal holds
 * all that is left. */
void worker_stand_still(struct sampler_worker *home);
