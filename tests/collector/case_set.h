/* What is fed to us and to the Collector: policies, traces, and what is expected of them.
 *
 * A .cases file is read by people first. Lines that begin in the first column are settings of `tail_sampling`, those with
 * a dash its policies; indented lines below are traces and the decision on them, up to the next settings:
 *
 *     - {name: p, type: string_attribute, string_attribute: {key: k, values: [value1]}}
 *         span k="value1"                       => sampled
 *         resource k="value1"; span; span       => sampled
 *         id 00..01; 2*span status=OK           => not
 *         span start=0                          => sampled differs: why the Collector decides otherwise
 *     - {name: p, type: status_code}
 *         => refused: what the error says, also the Collector's, unless followed by differs: and why
 *
 *   statements  `id HEX` (else one is made from the place in the file), `resource ATTRIBUTES`, `scope ATTRIBUTES`,
 *               `span FIELDS ATTRIBUTES`; `N*` before one repeats it. A resource or a scope holds for what follows.
 *   fields      status=UNSET|OK|ERROR|number  start=TIME  end=TIME  parent=NUMBER  flags=NUMBER  trace_state="TEXT"
 *               message="TEXT" (of the status); an attribute of such a name is quoted
 *   TIME        nanoseconds, or terms relative to a fixed day: +100ms+999999ns -1ms (units ns us ms s)
 *   ATTRIBUTE   key=VALUE or "key"=VALUE; VALUE is "text" (escapes \n \t \\ \" \xHH), 5, 5.0, true, [VALUE, …], empty
 *   decision    sampled (by the only policy), sampled policy=NAME, not, rejected (no span was accepted)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "tests/kit/otlp_build.h"

enum case_decision { CASE_NOT, CASE_SAMPLED, CASE_REJECTED };

struct case_trace {
    struct trace_id id;
    uint8_t *request; /* one ExportTraceServiceRequest, or several, one after the other, which is one as well */
    size_t request_len;
    size_t *ends;     /* where each of them ends */
    size_t end_count;
    char *place;      /* "latency.cases:12", or the number in a random run */
    bool is_stated;   /* else only we and the Collector are compared */
    enum case_decision decision;
    char *policy;     /* credited; NULL: none is stated, so the only one */
    char *differs;    /* why the Collector decides otherwise; NULL: it does not */
};

struct case_set {
    char *name;     /* "latency-3" */
    char *settings; /* YAML of tail_sampling */
    char *refused;  /* what the error must contain; NULL: the settings are right */
    char *differs;  /* why the Collector accepts them nevertheless; NULL: it refuses them too */
    uint64_t shuffle_seed; /* not 0: requests are sent in another order, some joined */
    struct case_trace *traces;
    size_t count;
};

struct case_sets {
    struct case_set *sets;
    size_t count;
};

/* Reads a file; a fault in it is printed with its line and ends the program: cases that do not run prove nothing. */
void case_sets_read(struct case_sets *sets, const char *path);

/* `count` traces spread over `set_count` random policy sets: equal arguments give equal bytes. */
void case_sets_random(struct case_sets *sets, uint64_t seed, size_t count, size_t set_count);

void case_sets_deinit(struct case_sets *sets);

/* For those two: a new set at the end (takes name and settings), a new trace at the end of a set (request copied). */
struct case_set *case_sets_add(struct case_sets *sets, char *name, char *settings);
struct case_trace *case_set_add(struct case_set *set, const struct trace_id *id, struct slice request, char *place);
/* Several requests where one was. */
void case_trace_cut(struct case_trace *trace, const size_t *ends, size_t end_count);
/* asprintf and strdup that end the program when memory is out. */
char *case_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
