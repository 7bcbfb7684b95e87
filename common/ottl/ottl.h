/* OTTL conditions over spans: compiled once, evaluated on the bytes of a span as it was received.
 *
 * Shape   a program holds the conditions of one configuration, immutable and shared; a run is a worker's own: scratch
 *         memory, regexes, what is known of the header and the span at hand.
 * Cost    no allocation per evaluation on the common path; attributes by literal key are looked up once a span or header,
 *         whoever asks; parts that ask only about resource and scope are answered once a header.
 * Bound   what one condition makes of a span (texts joined, JSON parsed) is at most OTTL_EVALUATION_BYTES: past it, an error.
 * Source  OTTL of the Collector; what is supported and what differs: docs/ottl.md. Statements (editors) are not compiled.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/otlp/span_view.h"
#include "common/otlp/span_walk.h"

#define OTTL_EVALUATION_BYTES (1 << 20)

/* Where a condition stands: it says which paths may be used, and which one a path without context belongs to. */
enum ottl_context { OTTL_CONTEXT_SPAN, OTTL_CONTEXT_SPAN_EVENT };

enum ottl_result { OTTL_FALSE, OTTL_TRUE, OTTL_ERROR };

struct ottl_program;
struct ottl_run;

struct ottl_program *ottl_program_new(void); /* NULL: no memory */
/* Accepts NULL. All runs must be gone. */
void ottl_program_free(struct ottl_program *program);

/* Compiles a condition, or finds its equal. 0; OTTL_E_INVALID with *out_error (malloc'd: what is wrong, with column and
 * caret); or -ENOMEM. Not once there are runs. */
#define OTTL_E_INVALID 1
int ottl_program_add(struct ottl_program *program, enum ottl_context context, const char *text, uint32_t *out_condition,
    char **out_error);
const char *ottl_program_text(const struct ottl_program *program, uint32_t condition);

/* Span attributes that conditions ask for by literal key: a caller who reads the span anyway can look them up as it goes. */
uint32_t ottl_program_key_count(const struct ottl_program *program);
struct slice ottl_program_key(const struct ottl_program *program, uint32_t key);

/* unix_ns: what Now() reads; NULL: the wall clock. NULL: no memory. */
struct ottl_run *ottl_run_new(const struct ottl_program *program, uint64_t (*unix_ns)(void));
/* Accepts NULL. */
void ottl_run_free(struct ottl_run *run);

/* The header of the spans that follow; NULL: none. Borrowed while they are asked about; well-formed (resource_visit,
 * scope_visit). Calling it again with the same header costs next to nothing. */
void ottl_run_header(struct ottl_run *run, const struct span_header *header);
/* The span to be asked about: well-formed bytes (span_view_read said so) and their view, borrowed.
 * attributes: an AnyValue for each key of the program, `at` NULL where the span has none; or NULL: they are looked up. */
void ottl_run_span(struct ottl_run *run, struct slice span, const struct span_view *view, const struct slice *attributes);
/* Asks a condition of the span context. */
enum ottl_result ottl_run_condition(struct ottl_run *run, uint32_t condition);
/* Asks a condition of the spanevent context about one event of the span. event: a Span.Event's bytes. */
enum ottl_result ottl_run_event_condition(struct ottl_run *run, struct slice event, uint32_t condition);
/* Steps through the events of a span. start: zeroed before the first; false: no more. */
struct ottl_events {
    struct wire wire;
};
void ottl_events_start(struct ottl_events *events, struct slice span);
bool ottl_events_next(struct ottl_events *events, struct slice *out_event);

/* What the last OTTL_ERROR was about, in words: written into text, cut to size. Returns text. */
const char *ottl_run_error(const struct ottl_run *run, char *text, size_t size);
