/* What must have come of it: a ledger of every span that was sent, acknowledged, judged and exported, and of every fault that the
 * run caused. At the end each promise is checked on the ledger alone; what was broken must be explained by a condition of the
 * promise that the run broke before: handoff section 8.
 *
 * The single node's verdict: the policies (scenario.c's) over the spans that were acknowledged before the decision. A span that was
 * under way may have been seen or not: both verdicts are right then.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/metadata.h"
#include "common/base/slice.h"
#include "tests/sim/backend.h"
#include "tests/sim/process.h"

#define TRACES_MAX 256u
#define TRACE_SPANS_MAX 12u
#define SPAN_ARRIVALS_MAX 8u

/* Conditions of section 8 that a run breaks. */
enum cause {
    CAUSE_AWAY_LONG,    /* a member away longer than handoff_timeout */
    CAUSE_MEMORY_LOST,  /* one went without leaving what it had: no journal, no volume, or a journal that lost its tail */
    CAUSE_CUT,          /* two living members were cut from each other */
    CAUSE_CUT_LONG,     /* … for longer than handoff_timeout */
    CAUSE_OVERRAN,      /* a wait of S1 or S3 ran out */
    CAUSE_TWO_FAULTS,   /* a keeper died while the owner was down; a joiner's only known peer died */
    CAUSE_FORGOT,       /* a young verdict entry was evicted */
    CAUSE_TIMED_OUT,    /* C4: settled without an answer */
    CAUSE_NOBODY_READY, /* all drain, without journals: who leaves takes along the verdicts of slots that were its own to the last */
    CAUSE_APART,        /* L3: a drain was cut short without a journal, and decided by itself */
    CAUSE_COUNT,
};

enum span_mark { SPAN_PLAIN, SPAN_KEEP, SPAN_ERROR, SPAN_DROP };

struct sim_span {
    enum span_mark mark;
    uint64_t planned_ns;
    uint64_t sent_ns, acked_ns; /* first; 0: never */
    unsigned tenant;            /* whose it is: header x-tenant of its request; 0: nobody's */
    struct {
        unsigned exports;       /* how often it arrived */
        uint64_t numbers[SPAN_ARRIVALS_MAX]; /* of the first of them */
    } at[BACKENDS_MAX];
};

struct sim_trace {
    struct trace_id id;
    uint64_t number;
    unsigned span_count;
    struct sim_span spans[TRACE_SPANS_MAX];
    unsigned decisions;
    int first_decision; /* enum decision */
    uint64_t decided_ns; /* last */
    char decided_by[32];
    bool perhaps_void;   /* who decided was killed at once: the verdict may not have been written down */
    bool judged_apart;   /* decisions that do not agree */
};

/* Versions of the policies (fleet.c has their text); in each a trace with a span of one mark is dropped, of others sampled. */
#define POLICY_VERSIONS 3u

struct oracle {
    struct sim_trace traces[TRACES_MAX];
    unsigned trace_count;
    unsigned backend_count;
    uint64_t verdict_keep_ns, handoff_timeout_ns;
    uint64_t late_most_ns;   /* a decision may be so much later than decision_wait asks for; 0: nobody looks */
    uint64_t latest_ns, decision_wait_ns;
    uint64_t spans_sent, spans_acked, spans_exported, decided, sampled;
    unsigned explained; /* broken promises that a cause explains */
};
extern struct oracle oracle;

void oracle_begin(void);
void oracle_end(void);

void oracle_sent(struct sim_trace *trace, unsigned span);
void oracle_acked(struct sim_trace *trace, unsigned span);
uint64_t oracle_export_begins(const struct node *by, unsigned backend, uint64_t sent_ns);
/* metadata: of the request that brought it. */
void oracle_exported(uint64_t export_number, const struct trace_id *id, const uint8_t span_id[8], const struct metadata_set *metadata);
void oracle_export_ended(uint64_t export_number, int code);

/* A condition was broken from then to then. */
void oracle_cause(enum cause cause, uint64_t from_ns, uint64_t to_ns);
/* A process of that node ended without handing over what it had: what it exported in its last moments is unknown. */
void oracle_died(const struct node *node);

/* That version comes into force at that node: for what it begins from now on. */
void oracle_version(const struct node *node, unsigned version);

/* The books of all samplers that run: received + recovered + taken_over = exported + dropped + duplicate + handed_over + held. */
void oracle_books(bool quiet);
/* The end of the run: nothing is under way any more. */
void oracle_judge(void);
