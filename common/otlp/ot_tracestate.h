/* What a span's W3C tracestate says of sampling: the `ot` member's rv (randomness) and th (threshold), 56 bits each.
 *
 * Read    the whole tracestate must be right, not the `ot` member alone: at most 1024 bytes and 31 members, blanks around
 *         members and empty members allowed, W3C's keys and values; `ot` at most 256 bytes of `;`-separated key:value.
 *         Of several `ot` members, rv or th the last counts. Empty reads as one that says nothing.
 * Write   `ot` moves to the front, in it rv, th and then the rest; other members keep their order, blanks go.
 * Source  OpenTelemetry tracestate probability sampling; W3C Trace Context 3.3; tail_sampling processor, gate usetracestate.
 *         The policy `trace_state` reads tracestates by other rules of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"

#define OT_RANDOMNESS_COUNT (1ull << 56) /* as a threshold: never */
#define OT_TRACESTATE_GROWTH 32u         /* bytes that an update may add */

struct ot_tracestate {
    bool has_randomness, has_threshold;
    uint64_t randomness, threshold; /* a trace passes when threshold <= randomness */
};

/* False: it cannot be read, and *out_state says nothing. */
bool ot_tracestate_read(struct slice text, struct ot_tracestate *out_state);

enum ot_update {
    OT_UPDATED,    /* written */
    OT_STRICTER,   /* its own th is larger: it stays as it is */
    OT_UNREADABLE, /* it stays as it is */
};
/* Sets th. out must hold text.len + OT_TRACESTATE_GROWTH bytes. threshold: up to OT_RANDOMNESS_COUNT, which takes th away. */
enum ot_update ot_tracestate_update(struct slice text, uint64_t threshold, uint8_t *out, size_t *out_len);

/* The randomness of an ID whose spans name none: its low 56 bits. */
uint64_t ot_randomness_of(const struct trace_id *id);
