/* Which spans arrived, by trace: one cache line for 64 spans of a trace, open addressing.
 *
 * A span of ours (model.h) has a bit; a stranger's is only counted. A node is whoever names itself in the
 * metadata `tailrace-node` of the export call; index 0 is "no name".
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

#define ARRIVALS_NODES_MOST 64
#define ARRIVALS_NAME_SIZE 64

struct arrival { /* 64 spans of one trace; as in the file */
    struct trace_id id;
    uint64_t arrived, doubled; /* bits by span index within the group; doubled: arrived more than once */
    uint64_t nodes;            /* bits: who sent some of it */
    uint64_t content;          /* sum of the hashes of the bytes of the first arrival of each span */
    uint32_t group;            /* span index / 64 */
    uint32_t repeats;          /* arrivals beyond the first, all spans */
    uint32_t strangers;        /* spans whose ID does not follow from the trace ID */
    uint16_t used;
    uint16_t content_open;     /* several sinks saw parts that overlap: content says nothing */
};

struct arrivals {
    struct arrival *slots;
    uint64_t slot_count, used_count;
    char nodes[ARRIVALS_NODES_MOST][ARRIVALS_NAME_SIZE];
    uint32_t node_count;
    /* running sums, for live progress */
    uint64_t spans, traces, repeats, strangers;
    uint64_t traces_of_two_nodes; /* counted when a group's second node appears; exact up to 64 spans a trace */
    uint64_t malformed_requests, invalid_spans;
};

void arrivals_init(struct arrivals *arrivals);
void arrivals_deinit(struct arrivals *arrivals);
/* Index of a node by its name, new or known; the last index collects what is over the limit. */
uint32_t arrivals_node(struct arrivals *arrivals, struct slice name);
/* index: model_span_index's answer, -1 for a stranger. */
void arrivals_add(struct arrivals *arrivals, const struct trace_id *id, int index, uint32_t node, uint64_t content);
const struct arrival *arrivals_find(const struct arrivals *arrivals, const struct trace_id *id, uint32_t group);
int arrivals_write(const struct arrivals *arrivals, const char *path);
/* Adds what a file holds to what is there: several sinks are judged as one backend. */
int arrivals_read(struct arrivals *arrivals, const char *path);
