/* Keep traces with a span or event of which an OTTL condition is true.   Source: tail_sampling `ottl_condition`.
 * With error_mode propagate an error that comes before the first true fails the policy. Spans are judged in order of arrival
 * at the trace's owner (differs from the Collector: there, in the order of its batches). */
#include <stdlib.h>
#include <strings.h>

#include "sampler/decide/policy.h"
#include "sampler/decide/predicate.h"

struct ottl_condition {
    char *error_mode;
    struct config_strings span, spanevent;
    uint32_t bit, ordered;
};

static const struct config_key ottl_condition_keys[] = {
    CONFIG_KEY(struct ottl_condition, error_mode, CONFIG_STRING,
        "what an error in a condition does: ignore (logged, counts as false), silent (counts as false; "
        "default), propagate (the policy fails for this trace)"),
    CONFIG_KEY(struct ottl_condition, span, CONFIG_STRINGS, "OTTL conditions about spans; any of them matches"),
    CONFIG_KEY(struct ottl_condition, spanevent, CONFIG_STRINGS,
        "OTTL conditions about each event of a span; any of them matches"),
    {0},
};

static int read_mode(const struct policy_prepare *prepare, const char *text, enum ottl_error_mode *out_mode)
{
    static const char *const names[] = {
        [OTTL_ERRORS_SILENT] = "silent",
        [OTTL_ERRORS_IGNORE] = "ignore",
        [OTTL_ERRORS_PROPAGATE] = "propagate",
    };

    *out_mode = OTTL_ERRORS_SILENT;
    if (!text)
        return 0;
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (strcasecmp(text, names[i]) == 0) {
            *out_mode = (enum ottl_error_mode)i;
            return 0;
        }
    }
    return policy_error(prepare, "unknown error mode %s; known are ignore, silent, propagate", text);
}

static int ottl_condition_prepare(void *self, const struct policy_prepare *prepare)
{
    struct ottl_condition *want = self;
    struct ottl_ask ask = {.name = prepare->name, .span = want->span, .spanevent = want->spanevent};
    char *error = NULL;
    int r = read_mode(prepare, want->error_mode, &ask.mode);

    if (r)
        return r;
    want->bit = predicate_ottl(prepare->builder, &ask, &want->ordered, &error);
    if (error) {
        r = policy_error(prepare, "%s", error);
        free(error);
        return r;
    }
    return policy_asked(prepare, want->bit);
}

static struct vote ottl_condition_evaluate(const void *self, const struct verdict_input *input)
{
    const struct ottl_condition *want = self;

    if (want->ordered == UINT32_MAX)
        return vote_filter(hits_has(&input->facts->hits, want->bit), want->bit);
    if ((input->facts->first_error >> want->ordered) & 1)
        return (struct vote){.decision = DECISION_ERROR, .evidence_bit = UINT32_MAX};
    return vote_filter((input->facts->first_true >> want->ordered) & 1, want->bit);
}

const struct policy_type policy_ottl_condition = {
    .name = "ottl_condition",
    .size = sizeof(struct ottl_condition),
    .keys = ottl_condition_keys,
    .prepare = ottl_condition_prepare,
    .evaluate = ottl_condition_evaluate,
    .is_lasting = policy_always_lasting,
};
