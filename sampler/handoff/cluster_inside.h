/* The inside of a cluster, for the files cluster*.c alone: cluster.c (life, links, what comes in), cluster_tell.c (statuses out and
 * in), cluster_publish.c (views, records, polls), cluster_show.c (what it shows). */
#pragma once

#include <stdatomic.h>

#include "common/cluster/resolver_new.h"
#include "common/export/link.h"
#include "sampler/handoff/cluster.h"
#include "sampler/handoff/hold_poll.h"
#include "sampler/handoff/membership.h"
#include "sampler/handoff/peer_link.h"
#include "sampler/sampler_worker.h"

struct cluster_link { /* to a target of membership, at the same index */
    struct peer_link *link; /* a reference; NULL: none */
    bool closing, up;
};

/* The newest ring on its way to the workers and to the disk. */
struct ring_adoption {
    uint32_t ring_no;     /* 0: none is */
    unsigned workers_left;
    bool view_out;        /* a view of it was published */
    bool record_out;      /* its record is written, or there is no journal */
};

struct cluster {
    struct sampler *sampler;
    struct membership *membership; /* NULL: the journal's last record is not read yet */
    struct resolver_plan resolver_plan;
    struct resolver *resolver;
    struct link_options link_options;
    char advertise[264];
    struct buffer *record;         /* the newest one read from the journal */
    struct cluster_link *links;
    size_t link_count;
    struct view *view;             /* the last one published */
    struct ring_adoption adoption;
    unsigned views_out;            /* mails with views that their workers have not acted upon yet */
    struct buffer *unwritten;      /* a ring record that the disk did not take, to be tried again; NULL: none */
    struct hold_poll poll;
    uint64_t poll_view;            /* number of the view it asks about */
    struct holds_sum held;         /* the last answer */
    uint64_t held_ns;              /* when it came; 0: never */
    struct membership_held *held_members;
    uint64_t taken_over;           /* traces, when it was last looked at */
    struct log_limit refusal_log;
    bool replayed, drain_asked, running, again;
    bool waking;                   /* from a standstill until the ring made for it is adopted */
    bool stopped;                  /* nothing more goes out; what comes is let go */
    uint64_t resolved_ns;
    bool resolve_failing;
    char resolve_failure[256], reason[256];
    /* read by any thread */
    _Atomic unsigned word_state;
    _Atomic uint64_t word_incarnation;
};

/* cluster.c: makes what follows from what came in; from every event. */
void cluster_run(struct cluster *cluster, uint64_t now_ns);
static inline struct worker *cluster_worker(const struct cluster *cluster, unsigned index)
{
    return &cluster->sampler->workers[index].worker;
}
struct metrics_cell *cluster_cell(const struct cluster *cluster);

/* cluster_tell.c */
void cluster_tell(struct cluster *cluster, size_t target, struct buffer *status, uint64_t now_ns);

/* cluster_publish.c */
void cluster_record_write(struct cluster *cluster, struct buffer *record, uint32_t ring_no, uint64_t now_ns);
void cluster_record_again(struct cluster *cluster);
void cluster_view_publish(struct cluster *cluster, struct view *view, uint64_t now_ns);
void cluster_on_holds(void *cluster, const struct holds_sum *sum);
void cluster_poll_begin(struct cluster *cluster, uint64_t view_number, uint64_t now_ns);
