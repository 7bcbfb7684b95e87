/* The network between nodes: unary calls that take their time, get lost with their connection, wait behind a cut.
 *
 *   phase:  WAITING --connected--> OUT --arrives--> SERVED --answer--> BACK --arrives--> OVER
 *
 * A call has two ends. The caller's is over when it was answered, its deadline passed or its connection broke; the server may still
 * be at work then, and never learns: that is an answer lost. As over TCP nothing is lost on a connection that lives: what meets a
 * cut waits, until the cut is healed or keepalive ends the connection.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buffer.h"
#include "common/base/list.h"
#include "common/export/link.h"
#include "tests/sim/process.h"

enum call_phase { CALL_WAITING, CALL_OUT, CALL_SERVED, CALL_BACK, CALL_OVER };

struct net_call {
    struct list node;       /* of its link's calls; or nowhere */
    struct list all;        /* of the net's */
    enum call_phase phase;
    struct sim_event travel, expiry;
    struct node *from, *to;
    uint32_t to_life;       /* the process it was connected to: memory owner; 0: whoever is there */
    char method[64];
    struct buffer *bytes;   /* all of it */
    struct metadata_set *metadata; /* NULL: none; the call's own */
    uint64_t ring, sent_ns, deadline_ns;
    /* the caller's end; NULL: it is over */
    void (*ended)(struct net_call *call, const struct link_result *result);
    void *context;
    struct served *served;  /* at the server */
    void (*watch)(struct net_call *call, int code); /* told how it ended for the caller; NULL: nobody asks */
    uint64_t number;        /* the watcher's */
    /* the answer */
    int code;
    bool has_retry, too_large, draining;
    uint64_t retry_ns;
    char message[160];
    struct buffer *response, *rejected;
};

struct net {
    struct node *nodes[NODES_MAX];
    unsigned node_count;
    bool cut[NODES_MAX][NODES_MAX]; /* from, to */
    struct list calls, links;
    /* how bad it is today */
    unsigned slow_per_mille;   /* messages that take up to slow_most_ns */
    uint64_t slow_most_ns;
    unsigned reset_per_mille;  /* answers that meet a reset connection */
    unsigned repeat_per_mille; /* calls of the peer protocol that arrive twice */
    uint64_t (*extra_delay)(const struct net_call *call); /* a scenario's own; NULL: none */
};
extern struct net net;

void net_begin(void);
void net_end(void);

struct node *net_node_add(enum node_kind kind, const char *name, const char *address);
struct node *net_find(const char *address);

/* Both directions, or what goes from a to b only. */
void net_cut(struct node *a, struct node *b, bool both);
void net_heal(struct node *a, struct node *b);
void net_heal_all(void);
bool net_is_cut(const struct node *from, const struct node *to);
/* Connections between them break now. */
void net_reset(struct node *a, struct node *b);

/* pieces are copied. It is not sent yet. */
struct net_call *net_call_new(struct node *from, const char *method, struct buffer *const *pieces, size_t count, uint64_t deadline_ns,
    void (*ended)(struct net_call *call, const struct link_result *result), void *context);
/* A copy of what a header's list lets through, the owner's whose code runs; NULL: nothing. */
struct metadata_set *metadata_wanted(const struct metadata_set *set, const struct forward *forward);
/* Starts its way; the caller's end may be over before it arrives. */
void net_call_send(struct net_call *call, struct node *to, uint32_t to_life);
/* The caller's end is over with that; `ended` is called. */
void net_call_end(struct net_call *call, int code, const char *message);
/* Likewise, but nobody is told any more. */
void net_call_orphan(struct net_call *call);
/* From the server: an answer, in call's fields, goes back. */
void net_call_answer(struct net_call *call);
/* A server was lost while it served. */
void net_call_lost(struct net_call *call);

/* Its process ended or was killed: connections to it break. */
void net_process_gone(struct process *process, bool machine_too);

/* -- links: fake_links.c ----------------------------------------------------------------------------------------------------- */

struct worker;
/* Calls whose links were freed, or that were cancelled, end now. */
void links_drain(struct worker *worker);
/* The other end is away: each learns of it in its own time. slow: by keepalive only. */
void links_peer_gone(const struct node *node, uint32_t life, bool slow);
/* A cut stands between them: keepalive will find out. */
void links_cut(const struct node *a, const struct node *b);
void links_reset(const struct node *a, const struct node *b);

/* -- servers ------------------------------------------------------------------------------------------------------------------ */

/* fake_ingest.c: takes a call that arrived; it answers by net_call_answer. False: nobody listens. */
bool listeners_serve(struct process *process, struct net_call *call);
bool listeners_open(const struct process *process);
/* backend.c */
void backend_serve(struct net_call *call);
bool backend_open(const struct node *node);
