/* Nodes and their processes: the programs' own code, one life at a time, turned by the simulator.
 *
 *   node      a pod: a name, an address, a clock, perhaps a volume. It may be away
 *   process   one life of it: a struct lb or struct sampler with its workers and its control loop, all on one thread
 *
 * Code of a process runs between process_enter and process_leave: so the fakes know whose call it is, and its memory is its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/list.h"
#include "common/ingest/receiver.h"
#include "common/metrics/admin_http.h"
#include "common/run/config_reload.h"
#include "common/run/control.h"
#include "common/run/worker.h"
#include "lb/lb_config.h"
#include "sampler/sampler_config.h"
#include "tests/sim/world.h"

#define NODES_MAX 128u
#define PROCESS_WORKERS_MAX 3u

enum node_kind { NODE_CLIENTS, NODE_BACKEND, NODE_LB, NODE_SAMPLER };

struct process;

struct node {
    enum node_kind kind;
    unsigned index;         /* of the host, for cuts */
    unsigned number;        /* among those of its kind */
    char name[32];
    char address[64];
    int64_t wall_offset_ns; /* its clock's error */
    uint64_t mono_offset_ns;
    struct process *process; /* NULL: away */
    unsigned lives;
    uint64_t left_ns;       /* when it went away last; 0: never */
    bool stopped_cleanly;   /* how its last life ended */
    bool left_clean;        /* … and that nothing stayed in its journal */
    bool frozen_resolver;   /* its resolver answers nothing new */
    uint64_t slow_ns;       /* added to each turn's delay */
    struct volume *volume;  /* survives processes; NULL: none */
};

struct sim_worker {
    struct process *process;
    struct worker *worker;
    struct sim_event turn;
};

struct process {
    struct node *node;
    uint32_t owner;          /* of its memory */
    struct lb *lb;
    struct sampler *sampler;
    struct config_context *context;
    union {
        struct lb_config lb;
        struct sampler_config sampler;
    } config;
    struct policy_set *set;
    int config_file;         /* without a name; samplers read it again */
    char config_path[32];
    const char *config_files[1];
    struct config_command_line line;
    struct config_source source;
    struct sim_worker workers[PROCESS_WORKERS_MAX];
    unsigned worker_count;
    struct control *control;
    struct sim_event control_turn;
    struct list timers, links, served, resolvers, threads;
    struct listeners *listeners;
    struct admin_routes routes;
    uint64_t began_ns, stop_asked_ns;
    uint64_t counted[4]; /* fleet.c's: conditions that it counted as broken */
    bool started, has_routes, wants_end;
};

extern struct process *process_now; /* whose code runs; NULL: the simulator's */

/* Nested calls are mistakes. */
void process_enter(struct process *process);
void process_leave(void);

/* A process's own clock. */
uint64_t local_of(const struct node *node, uint64_t sim_ns);
uint64_t sim_of(const struct node *node, uint64_t local_ns); /* UINT64_MAX stays */

/* Told before a process that ends, or is killed, is gone; NULL: nobody asks. */
extern void (*process_on_end)(struct node *node);
/* Starts a life with that configuration (YAML). */
void process_start(struct node *node, const char *yaml);
/* Its file is that from now on, and it gets SIGHUP; a sampler that runs. */
void process_reload(struct node *node, const char *yaml);
/* SIGTERM. */
void process_term(struct node *node);
/* SIGKILL: nothing of it runs any more. What it had in memory is gone; peers see resets, or nothing at all when the machine died
 * with it. */
void process_kill(struct node *node, bool machine_too);

/* -- for the fakes --------------------------------------------------------------------------------------------------------- */

/* A worker runs a turn soon: mail or an event came. */
void worker_wake(struct sim_worker *worker);
struct sim_worker *sim_worker_of(const struct worker *worker);
/* listeners.c's, links' and resolvers' part in the end of a process; nothing of it runs. */
void listeners_forget(struct process *process);
void links_forget(struct process *process);
void resolvers_forget(struct process *process);
void threads_forget(struct process *process);
