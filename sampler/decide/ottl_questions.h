/* Questions that OTTL conditions ask of a span, beside its resource and scope: the OTTL part of predicate.h, which alone
 * uses it.
 *
 * A question is a policy's two lists: conditions about the span, then about each of its events; any of them true is a yes.
 * What an error does, the error mode says: it counts as false, or it is the outcome (then the question is ordered: of all
 * spans of a trace, the first to have an outcome decides, see facts.h).
 */
#pragma once

#include "common/config/config.h"
#include "common/otlp/span_view.h"
#include "common/otlp/span_walk.h"
#include "sampler/decide/facts.h"

enum ottl_error_mode { OTTL_ERRORS_SILENT, OTTL_ERRORS_IGNORE, OTTL_ERRORS_PROPAGATE };

struct ottl_ask { /* what a policy configured */
    const char *name; /* of the policy */
    struct config_strings span, spanevent;
    enum ottl_error_mode mode;
};

struct ottl_questions; /* immutable once all are added */
struct ottl_asker;     /* a worker's own */

struct ottl_questions *ottl_questions_new(void); /* NULL: no memory */
void ottl_questions_free(struct ottl_questions *questions);

#define OTTL_QUESTION_E_INVALID 1
/* Adds a question whose answer is `bit`, and a number for an ordered one (below ORDERED_MAX; else UINT32_MAX). 0;
 * OTTL_QUESTION_E_INVALID with *out_error (malloc'd); or -ENOMEM. */
int ottl_questions_add(struct ottl_questions *questions, const struct ottl_ask *ask, uint32_t bit, uint32_t *out_ordered, char **out_error);

/* Span attributes asked for by literal key: whoever reads the span can look them up on its way. */
uint32_t ottl_questions_key_count(const struct ottl_questions *questions);
struct slice ottl_questions_key(const struct ottl_questions *questions, uint32_t key);

struct ottl_asker *ottl_asker_new(const struct ottl_questions *questions); /* NULL: no memory */
void ottl_asker_free(struct ottl_asker *asker);
/* Asks everything of a well-formed span; sets bits of facts. attributes: by key, `at` NULL where there is none; NULL: the
 * span is searched. */
void ottl_asker_span(struct ottl_asker *asker, const struct span_header *header, struct slice span, const struct span_view *view,
    const struct slice *attributes, struct span_facts *facts);

/* An error under error_mode `ignore` since the last call, for the log: the first one. False: there was none. */
struct ottl_noted_error {
    const char *policy, *condition, *text;
};
bool ottl_asker_take_error(struct ottl_asker *asker, struct ottl_noted_error *out_error);
