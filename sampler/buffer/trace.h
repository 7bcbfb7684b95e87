/* One trace in one sampler: its facts, and its spans' bytes in blocks of its own.
 *
 *   (none) --first span--> PENDING --decide: a policy wants it--> SAMPLED -----> exported, then freed
 *                             |------decide: no policy does-----> freed, a record stays
 *                             |------too large: not sampled-----> freed, a record stays
 *                             |------given away-----------------> freed
 *                             '------a verdict came along-------> SAMPLED_WAITING
 *
 *   SAMPLED --its slot was lost--> SAMPLED_WAITING --its slot is settled--> SAMPLED
 *                                         '--------given away--------> freed
 *
 * "decide" comes when decision_wait is over, or early when memory runs short. The record (decision_cache.h) remembers
 * what was decided; a late span finds no trace here and follows it. A trace that may not be decided or exported yet is
 * on hold (trace_hold): found, joined by spans, but never due; with SAMPLED_WAITING it always is, or was just released.
 */
#pragma once

#include <stdint.h>

#include "common/base/extent.h"
#include "common/base/list.h"
#include "common/export/exporter.h"
#include "sampler/buffer/header_table.h"
#include "sampler/decide/facts.h"

enum trace_state { TRACE_PENDING, TRACE_SAMPLED, TRACE_SAMPLED_WAITING };

struct span_record {       /* one buffered span; its bytes are the next `len` of the trace's chain. With a journal: and where they lie there */
    uint64_t hash;         /* of its bytes: a resend is recognised by it */
    uint32_t header_index; /* header_at; one reference held */
    uint32_t len;
};

struct trace;

/* What spans may be told of their decision on the way out. */
struct sampling_note {
    const char *policy;       /* NULL: none is named */
    const char *inner_policy; /* inside a composite; NULL: none */
    bool cached;              /* a late span that followed a decision cache */
    uint64_t threshold;
};

/* What a sampled trace takes along on its way out, in the place of its deadline; sampler/export/survivors has its rules. */
struct trace_way_out {
    struct export_unit unit;    /* its spans; where they came with several sets of metadata, those of one set */
    struct trace_parts *parts;  /* the others, a set each; NULL: none */
    uint32_t encode_left, settle_left; /* of all units */
    struct sampling_note *note; /* malloc'd; NULL: spans are told nothing */
};

/* Accessors, so that the layout can stay packed into one 512-byte block or less. */
struct trace_info {
    struct trace_id id;
    uint64_t first_ns;    /* first span arrived */
    uint64_t deadline_ns; /* 0: none, it is out of the table. May have passed */
    enum trace_state state;
    uint32_t span_count;
    uint32_t spilled_count; /* of these: bytes only in the journal */
    uint32_t mark;        /* trace_mark's; 0: none, or out of the table */
    uint8_t delivered;    /* exporters that have its spans already, a bit each (fan_out.h) */
    bool held;            /* on hold, or released and not given by trace_table_due yet */
    uint64_t bytes;       /* of spans */
};
