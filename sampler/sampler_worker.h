/* One worker's share of the back tier: its traces, headers, records and its way to the backend. */
#pragma once

#include <stdatomic.h>

#include "common/base/log.h"
#include "common/ingest/admission.h"
#include "common/ingest/listeners.h"
#include "common/metrics/admin_http.h"
#include "common/run/cgroup.h"
#include "common/run/control.h"
#include "common/run/http_loop.h"
#include "sampler/buffer/budget.h"
#include "sampler/buffer/trace_table.h"
#include "sampler/decide/decision_cache.h"
#include "sampler/decide/policy_set.h"
#include "sampler/export/backends.h"
#include "sampler/drain.h"
#include "sampler/handoff/awake.h"
#include "sampler/handoff/hold_poll.h"
#include "sampler/handoff/worker_handoff.h"
#include "sampler/handoff/worker_journal.h"
#include "sampler/intake.h"
#include "sampler/past_set.h"
#include "sampler/policy_counts.h"
#include "sampler/sampler_config.h"
#include "sampler/settings.h"

/* The books, in spans: received + recovered + taken_over = exported + dropped(reason) + duplicate + handed_over + held.
 * In the order of METRIC_BOOK_*. */
enum book {
    BOOK_RECEIVED,
    BOOK_RECOVERED,
    BOOK_TAKEN_OVER,
    BOOK_EXPORTED,
    BOOK_DROPPED_NOT_SAMPLED,
    BOOK_DROPPED_LATE,
    BOOK_DROPPED_SHUTDOWN,
    BOOK_DROPPED_TOO_LARGE,
    BOOK_DROPPED_EXPORT,
    BOOK_DUPLICATE,
    BOOK_HANDED_OVER,
    BOOK_HELD,
    BOOK_COUNT,
};

/* Traces that are due and judged together (policy_needs.batch). */
struct decision_batch {
    struct trace **traces;
    struct verdict_input *inputs;
    struct decided *decided;
    size_t count, capacity;
    uint64_t next_ns; /* when the next ones are; 0: there are no such policies */
    uint64_t until_ns; /* the set before had such policies: its last traces are due by then */
};

struct sampler_worker {
    struct sampler *sampler;
    struct worker worker;
    struct extent_store *store;
    struct header_table *headers;
    struct trace_table *traces;
    struct decision_cache *cache;
    struct predicate_scratch *scratch;
    struct sampler_settings *settings; /* in force at this worker: a reference */
    struct policy_set *set;            /* of these */
    uint64_t decision_wait_most_ns;    /* of all settings so far: a trace that is held waits no longer */
    struct past_sets past;
    struct intake intake;
    struct worker_backends *backends;
    void (*on_survivor_back)(struct sampler_worker *home, struct trace *trace); /* survivors_withdraw's; NULL: nobody asks */
    struct turn_hook hook;
    struct decision_batch batch;
    uint64_t *hash_scratch; /* of a trace that is being decided */
    size_t hash_capacity;
    struct log_limit ottl_log; /* errors of OTTL conditions with error_mode ignore */
    uint64_t last_ring;
    uint64_t begun;        /* traces, since the last turn */
    uint64_t beside_bytes; /* what it holds outside the extents, as the budget counts it */
    /* books: kept plainly during a turn, published at its end, so that who reads them sees them balance */
    uint64_t books[BOOK_COUNT];
    _Atomic uint64_t published_books[BOOK_COUNT];
    atomic_uint book_version; /* odd while they are being published */
    struct policy_counts policy_counts;
    bool finishing, finished;
    struct worker_handoff *handoff; /* NULL: neither cluster nor journal */
    struct worker_journal *journal; /* NULL: none */
};

/* Scratch for so many hashes of one trace; its content is gone at the next call. */
uint64_t *worker_hash_scratch(struct sampler_worker *home, size_t count);

struct drain_run { /* drain_run.c */
    struct drain drain;
    struct hold_poll poll;
    enum drain_phase asked_phase;
    uint64_t asked_ns, said_ns;
    bool idle, remembers, listeners_done;
    unsigned stops;
    struct mail listeners_mail, finished_mail;
};

struct cluster;
struct journal;
struct journal_thread;

struct config_reload;

struct sampler {
    struct sampler_config config;      /* what it was started with; what may have changed since is in settings */
    struct sampler_settings *settings; /* in force: the control thread's. A worker's may be a turn behind */
    struct policy_roll policy_roll;
    struct config_reload *reload;      /* NULL: there is no file to read again */
    struct control control;
    struct metrics metrics;
    struct cgroup_limits limits;
    unsigned worker_count;
    struct sampler_worker *workers;
    struct http_loop *loops[HTTP_LOOPS_MAX];
    unsigned loop_count;
    struct listeners *listeners;
    struct admin *admin;
    struct control_timer *tend_timer;
    struct security *security;
    struct extent_pool *pool;
    struct budget budget;
    struct backends *backends;
    struct admission admission; /* bytes on their way between workers */
    _Atomic uint64_t big_trace_bytes;   /* a trace larger than this is decided and streamed: 5 % of the budget */
    char name[256];
    struct journal *journal;             /* NULL: memory only. Set before the workers are made */
    struct journal_thread *journal_thread;
    uint64_t journal_verdict_keep_ns, journal_clean_age_ns; /* sampler_journal_keep: the longest so far */
    struct mail replayed_mail;
    struct cluster *cluster;             /* NULL: standalone */
    _Atomic uint64_t ring_fingerprint;   /* of the ring that the cluster speaks of; 0: none yet */
    struct awake awake;
    _Atomic uint32_t ring_no_out; /* the newest ring on its way to the workers, or there; 0: none */
    uint64_t incarnation, started_unix_ns;
    atomic_bool draining; /* written by the control thread; workers say it to whoever asks */
    bool started, serving;               /* serving: as gRPC's health service says */
    bool replayed;                       /* the journal, or there is none */
    atomic_uint workers_finished;
    struct handoff_options handoff;      /* set before the workers are made */
    struct drain_run drain_run;
};

/* Of a sampler whose settings, pool, backends, handoff and journal are there. 0 or -errno; deinit it also after a failure. */
int sampler_worker_init(struct sampler_worker *home, struct sampler *sampler, unsigned index, const struct decision_cache_options *cache);
/* All but its struct worker, which ends in an order of its own (worker_deinit). Accepts one that is all zero. */
void sampler_worker_deinit(struct sampler_worker *home);

/* Which worker owns a trace: bits that neither the slot nor the tables use. */
static inline unsigned sampler_owner(const struct sampler *sampler, uint64_t id_hash)
{
    return (unsigned)((id_hash >> 20) & 0xffff) % sampler->worker_count;
}

/* In spans; published at the end of the turn. */
static inline void book(struct sampler_worker *home, enum book which, uint64_t spans)
{
    home->books[which] += spans;
}

static inline void count(struct sampler_worker *home, enum metric_id id, uint64_t by)
{
    metric_add(home->worker.metrics, id, by);
}

/* Draining: this worker holds nothing any more. */
void sampler_worker_finished(struct sampler_worker *home);

/* sampler_admin.c: how the tier shows itself. */
int sampler_admin_new(struct sampler *sampler, char *out_error, size_t error_size);
extern const struct peer_method sampler_peer_methods[];
/* R1, and not draining. context: the sampler. */
bool sampler_ready(void *context, const char **out_reason);
/* A balanced reading of one worker's books; any thread. */
void sampler_books_read(struct sampler_worker *home, uint64_t out_books[BOOK_COUNT]);
