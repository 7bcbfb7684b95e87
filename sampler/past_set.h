/* Spans of traces that another policy set will decide than the one that their request was read with.
 *
 * Around a reload a trace that is held belongs to the set before, and a span may reach its owner from a worker that is a turn
 * ahead or behind. Such a span is asked again, with the questions of its trace's set. It is rare and short: until the last trace of
 * that set is decided.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sampler/decide/facts.h"

struct header;
struct intake_span;
struct policy_set;
struct predicate_scratch;
struct sampler_worker;

#define PAST_SETS_MAX 8u /* that are kept ready; the one that was used longest ago makes room */

/* Sets that are not in force, ready to be asked. Zeroed: none. */
struct past_sets {
    struct past_set {
        struct policy_set *set; /* a reference */
        struct predicate_scratch *scratch;
        uint64_t used_ns;
    } each[PAST_SETS_MAX];
    size_t count;
};

/* The worker goes over to another set: takes the scratch of the one before, by which its last traces are asked. */
void past_sets_take(struct past_sets *past, struct policy_set *set, struct predicate_scratch *scratch, uint64_t now_ns);
/* Lets go of those that nobody has used for a while. Now and then. */
void past_sets_tend(struct past_sets *past, uint64_t now_ns);
void past_sets_deinit(struct past_sets *past);

/* The span's facts and its header's answers in the eyes of the set. */
void past_set_ask(struct sampler_worker *home, struct policy_set *set, const struct intake_span *span, const struct header *header,
    struct span_facts *out_facts, struct hits *out_header_hits);
