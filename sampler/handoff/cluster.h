/* One sampler among its fellows: membership (sampler/handoff/membership.h) given eyes, ears and hands.
 *
 *   resolver, links, Tell --> membership --> views to the workers, ring records to the journal, statuses to the peers
 *
 * A new ring is atomic for the node: a view of it goes to all workers and its record to the journal; only when every worker has
 * adopted it and the record is written does membership speak of it. What is held of each member is asked of the workers by a poll
 * that travels behind the views.
 *
 * Threads everything here runs on the control thread, but for what says otherwise.
 * Standalone: a sampler without tailrace.cluster.resolver has no cluster (NULL), and its workers no view.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/ingest/receiver.h"
#include "common/metrics/text.h"

struct cluster;
struct peer_link;
struct sampler;

/* After the workers, the control loop, the listeners and the journal are there, before any of them runs. 0, or < 0 with a line in
 * out_error. */
int cluster_new(struct sampler *sampler, struct cluster **out_cluster, char *out_error, size_t error_size);
/* The loops run. Without a journal: look for the others at once, as ready. */
void cluster_start(struct cluster *cluster);
/* From recovery, on its worker: a MEMBER record was read, in the order of the log; then, once, that there is no further one. Only
 * then this node knows whom to look for and which incarnation it is: views say it (members[self].incarnation). Both do nothing
 * without a cluster. */
void cluster_record_read(struct sampler *sampler, struct slice record);
void cluster_records_read(struct sampler *sampler);
/* The journal is replayed: joining becomes ready. */
void cluster_replayed(struct cluster *cluster, uint64_t now_ns);
/* From the sampler's timer. */
void cluster_tend(struct cluster *cluster, uint64_t now_ns);

/* -- drain: L1, L2, L3 ------------------------------------------------------------------------------------------ */

/* Draining from here on; said to all at once. */
void cluster_drain(struct cluster *cluster, uint64_t now_ns);
/* Nothing is held any more (clean), or the grace is over: left, said to all. */
void cluster_leave(struct cluster *cluster, bool clean, uint64_t now_ns);
/* All workers act by a ring in which this one drains: what is held for others is known as theirs. */
bool cluster_is_draining(const struct cluster *cluster);
/* Every reachable peer has heard the present state. */
bool cluster_heard(const struct cluster *cluster);
/* Is there a ready member, reachable, that takes what this one gives away? */
bool cluster_has_fellows(const struct cluster *cluster);
/* Some slots are its own, by the ring of that view: it is ready, or nobody is. */
bool cluster_owns_some(const struct cluster *cluster);
/* Of the view that the workers have last been sent. */
size_t cluster_view_members(const struct cluster *cluster);

/* -- what it shows ---------------------------------------------------------------------------------------------- */

/* R1: in step, or handoff_timeout since the start is over. */
bool cluster_is_ready(struct cluster *cluster, const char **out_reason);
/* What a balancer is told; any thread. */
struct cluster_word {
    unsigned state;       /* as in peer.proto */
    uint64_t fingerprint; /* 0: there is no ring yet */
    uint64_t incarnation;
};
struct cluster_word cluster_word(const struct cluster *cluster);
void cluster_status(struct cluster *cluster, struct text *out);
/* Gauges into the control thread's cell; then the families with a label for each peer. */
void cluster_gauges(struct cluster *cluster);
void cluster_metrics(struct cluster *cluster, struct text *out);
/* A reachable link to the present owner of a trace, with a reference (NULL: it is this node, or cannot be asked); its name
 * in *out_name, borrowed until the next turn. */
struct peer_link *cluster_owner(struct cluster *cluster, const struct trace_id *id, const char **out_name);

/* -- served to others, on the worker that the call came to --------------------------------------------------------- */

int cluster_serve_tell(void *sampler, struct worker *worker, struct slice request, void *call, struct buffer **out_answer);

/* After the workers were joined: links end. Then, after the workers' queues were drained, free. Both accept NULL. */
void cluster_stop(struct cluster *cluster);
void cluster_free(struct cluster *cluster);
