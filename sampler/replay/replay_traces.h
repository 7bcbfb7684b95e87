/* The traces of a replay: facts by trace ID, as if all spans had come within one decision period.
 *
 * Same      spans are read by intake.h and folded by facts.h, as the sampler does; a span whose bytes were there before is a
 *           duplicate and counts once.
 * Sides     one policy set, or two that judge the same spans.
 * Memory    no spans: some 250 bytes a trace and side, 12 to 24 bytes a span, 24 a service of a trace.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/otlp/span_walk.h"
#include "sampler/decide/policy_set.h"
#include "sampler/sampler_config.h"

#define REPLAY_SIDES 2

struct replay_judged {
    struct facts facts;
    struct decided decided; /* after replay_traces_decide */
    bool too_large;
};

struct replay_trace {
    struct trace_id id;
    uint32_t share;        /* 1 + index of its first share; 0: none */
    uint64_t header_bytes; /* of distinct headers; kept only under maximum_trace_size_bytes */
    struct replay_judged sides[];
};

/* What one service has in one trace. */
struct replay_share {
    uint32_t service; /* replay_traces_service */
    uint32_t next;    /* 1 + index of the trace's next share; 0: none */
    uint32_t spans;
    uint64_t bytes;
};

/* What came, whatever was decided. */
struct replay_totals {
    uint64_t spans, bytes, duplicates, rejected;
    uint64_t first_unix_ns, last_unix_ns; /* earliest start, latest end; 0: none said */
};

struct replay_traces;

struct replay_traces *replay_traces_new(void);
void replay_traces_free(struct replay_traces *traces);
/* Before the first request. set: kept until replay_traces_free. with_services: count shares. */
void replay_traces_judge_by(struct replay_traces *traces, struct policy_set *set, uint64_t maximum_trace_size_bytes);
void replay_traces_count_services(struct replay_traces *traces);
/* False: its framing is broken, nothing of it was taken. */
bool replay_traces_add(struct replay_traces *traces, struct slice request);
/* All of them, once: in the order of their first spans' starts, with the clock at that time, so that rates mean something. votes:
 * a row a policy of that side. */
void replay_traces_decide(struct replay_traces *traces, size_t side, struct policy_votes *votes);

uint64_t replay_traces_count(const struct replay_traces *traces);
/* Sorts by trace ID; index: below the count. */
void replay_traces_sort(struct replay_traces *traces);
const struct replay_trace *replay_traces_at(const struct replay_traces *traces, uint64_t index);
const struct replay_totals *replay_traces_totals(const struct replay_traces *traces);
/* NULL for 0. */
const struct replay_share *replay_traces_share(const struct replay_traces *traces, uint32_t number);
uint32_t replay_traces_service_count(const struct replay_traces *traces);
struct slice replay_traces_service(const struct replay_traces *traces, uint32_t service);
