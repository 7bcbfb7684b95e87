/* Keep traces with a span of one of the named status codes.   Source: tail_sampling `status_code`. */
#include <string.h>

#include "sampler/decide/policy.h"
#include "sampler/decide/predicate.h"

struct status_code {
    struct config_strings status_codes;
    uint32_t bit;
};

static const struct config_key status_code_keys[] = {
    CONFIG_KEY(struct status_code, status_codes, CONFIG_STRINGS,
        "OK, ERROR or UNSET (a span without status), at least one"),
    {0},
};

static const char *const status_names[] = {
    [SPAN_STATUS_UNSET] = "UNSET",
    [SPAN_STATUS_OK] = "OK",
    [SPAN_STATUS_ERROR] = "ERROR",
};

static int status_code_prepare(void *self, const struct policy_prepare *prepare)
{
    struct status_code *want = self;
    uint32_t mask = 0;

    if (want->status_codes.count == 0)
        return policy_error(prepare, "expected at least one status code to filter on");
    for (size_t i = 0; i < want->status_codes.count; i++) {
        uint32_t status = 0;

        while (status < ARRAY_COUNT(status_names) &&
               strcmp(status_names[status], want->status_codes.items[i]) != 0)
            status++;
        if (status == ARRAY_COUNT(status_names))
            return policy_error(prepare, "unknown status code \"%s\", supported: OK, ERROR, UNSET",
                want->status_codes.items[i]);
        mask |= 1u << status;
    }
    want->bit = predicate_status(prepare->builder, mask);
    return policy_asked(prepare, want->bit);
}

static struct vote status_code_evaluate(const void *self, const struct verdict_input *input)
{
    const struct status_code *want = self;

    return vote_filter(hits_has(&input->facts->hits, want->bit), want->bit);
}

const struct policy_type policy_status_code = {
    .name = "status_code",
    .size = sizeof(struct status_code),
    .keys = status_code_keys,
    .prepare = status_code_prepare,
    .evaluate = status_code_evaluate,
    .is_lasting = policy_always_lasting,
};
