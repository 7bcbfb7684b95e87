/* Questions about one span or one header, over the wire format.
 *
 * Shape   compiled once with the policy set into an immutable program: attribute keys in one table, so that equal keys
 *         are looked up once a span, not once a policy; all regexes of a key in one RE2 set (a per-worker result cache in front).
 * Source  tail_sampling processor: the first entry with a key counts; resource and span attributes, never scope, event or link.
 *         A value that is no string reads as ""; on a span an empty value answers nothing, on a resource a regex is asked about "".
 * Bits    a header and its spans answer the same question with the same bit: a policy asks whether any of them matched.
 */
#pragma once

#include <stdint.h>

#include "common/config/config.h"
#include "common/otlp/span_view.h"
#include "common/otlp/span_walk.h"
#include "sampler/decide/facts.h"
#include "sampler/decide/ottl_questions.h"

struct predicate_builder;
struct predicates;        /* the program: immutable, shared by all workers */
struct predicate_scratch; /* a worker's own: regexes, their result caches, first-key marks */

struct predicate_builder *predicate_builder_new(void); /* NULL: no memory */
/* Accepts NULL. */
void predicate_builder_free(struct predicate_builder *builder);

/* Each returns the bit of its question, the same bit for the same question; UINT32_MAX when PREDICATES_MAX is reached. */
#define PREDICATE_NONE UINT32_MAX
uint32_t predicate_status(struct predicate_builder *builder, uint32_t status_mask); /* 1 << enum span_status */
/* Empty values are left out; without any value nothing ever matches. */
uint32_t predicate_string_exact(struct predicate_builder *builder, const char *key, char *const *values, size_t count);
/* A whole number in [min, max]; a value of another type reads as 0, and so it does on a resource. */
uint32_t predicate_int_range(struct predicate_builder *builder, const char *key, int64_t min, int64_t max);
/* A bool; a value of another type reads as false. */
uint32_t predicate_bool(struct predicate_builder *builder, const char *key, bool value);
/* Bit 0 of a span's flags. */
uint32_t predicate_sampled_flag(struct predicate_builder *builder);
/* The tracestate can be read (w3c_tracestate.h) and has one of the values under the key. Empty values never match, nor
 * those that are too long for a tracestate: 256 or more bytes with the key. */
uint32_t predicate_trace_state(struct predicate_builder *builder, const char *key, char *const *values, size_t count);
/* *out_error: a pattern's compile error (lives as long as the builder), then PREDICATE_NONE is returned; else NULL. */
uint32_t predicate_string_regex(struct predicate_builder *builder, const char *key, char *const *patterns, size_t count,
    const char **out_error);

/* A question of OTTL conditions. *out_ordered: its number where errors are outcomes (facts.h), else UINT32_MAX. *out_error:
 * malloc'd, what is wrong, then PREDICATE_NONE is returned; else NULL. Each call is a question of its own. */
uint32_t predicate_ottl(struct predicate_builder *builder, const struct ottl_ask *ask, uint32_t *out_ordered, char **out_error);
/* From now on span_facts.ot is filled: what tracestates say of sampling. */
void predicate_ot(struct predicate_builder *builder);

/* Compiles what was asked; the builder can be freed afterwards. 0 or -ENOMEM. */
int predicates_new(struct predicate_builder *builder, struct predicates **out_predicates);
/* Accepts NULL. All scratches must be gone. */
void predicates_free(struct predicates *predicates);
/* How many distinct questions there are. */
uint32_t predicates_count(const struct predicates *predicates);
/* What a bit asks, for people: "status ERROR", "http.status_code in [500, 599]"; "" for a bit that nobody asked. */
const char *predicate_description(const struct predicates *predicates, uint32_t bit);
/* NULL: no memory. */
struct predicate_scratch *predicate_scratch_new(const struct predicates *predicates);
/* Accepts NULL. */
void predicate_scratch_free(struct predicate_scratch *scratch);

/* Answers for a header's resource attributes. False: malformed; it answered as far as it could be read. */
bool predicates_header(const struct predicates *predicates, struct predicate_scratch *scratch, const struct span_header *header,
    struct hits *out_hits);
/* Checks the span (span_view_read) and answers for it in one pass. header: its resource and scope, well-formed, which an
 * OTTL condition may ask about beside the span; NULL: none. False: malformed. */
bool predicates_span(const struct predicates *predicates, struct predicate_scratch *scratch, const struct span_header *header,
    struct slice span, struct span_view *out_view, struct span_facts *out_facts);
/* An OTTL error under error_mode `ignore` since the last call, for the log. False: there was none. */
bool predicates_take_error(struct predicate_scratch *scratch, struct ottl_noted_error *out_error);
