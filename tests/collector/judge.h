/* A sampler's judgement without a sampler: walk, facts, fold, decide, on one request that holds one trace. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sampler/decide/policy_set.h"
#include "tests/collector/case_set.h"

struct judge;

/* NULL when the settings are refused: then *out_error (malloc'd) says why. */
struct judge *judge_new(const char *settings, char **out_error);
void judge_free(struct judge *judge);

struct judged {
    enum case_decision decision;
    char policy[32]; /* credited, cut; "" for none */
};

/* backward: fold the spans last to first, which must not matter. */
struct judged judge_trace(struct judge *judge, const struct case_trace *trace, bool backward);
