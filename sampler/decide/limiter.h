/* A token bucket, as the policies that limit a rate have it: one per node and policy, decided under the set's lock.
 *
 * Source  golang.org/x/time/rate as tail_sampling uses it: a bucket that begins full; doubles; a shortfall worth less than
 *         1 ns is let through; without enough tokens nothing is spent.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sampler/decide/policy.h"

struct token_bucket {
    atomic_uint refs; /* of policies, in the sets of several generations */
    double per_second;
    int64_t capacity;
    double tokens;
    uint64_t last_ns;   /* when tokens were last taken; 0: never */
    bool weighed;       /* token_bucket_weigh found the threshold, which decides from then on */
    uint64_t threshold;
};

/* capacity <= 0: twice the rate. A rate of 0 or less fills nothing: what it holds at first is all there ever is. */
struct token_bucket token_bucket_of(int64_t per_second, int64_t capacity);
/* Takes cost tokens, or none and says so: more than the capacity never pass. now_ns: monotonic; going back is standing still. */
bool token_bucket_take(struct token_bucket *bucket, uint64_t cost, uint64_t now_ns);

/* Under usetracestate: of traces judged together those of the highest randomness pass, as many as the tokens there are now pay
 * for; the threshold between them and the others is kept, and their tokens are taken. Of equal randomness all pass or none.
 * Without memory for its list it changes nothing. Source: tail_sampling processor, gate usetracestate. */
void token_bucket_weigh(struct token_bucket *bucket, const struct verdict_input *const *inputs, size_t count,
    uint64_t (*cost_of)(const struct verdict_input *input));
/* One trace: by the threshold where there is one, else as token_bucket_take. */
struct vote token_bucket_vote(struct token_bucket *bucket, uint64_t cost, const struct verdict_input *input);

/* The same on the heap, as policies keep it, with one reference: 0 or -ENOMEM. */
int token_bucket_new(int64_t per_second, int64_t capacity, struct token_bucket **out_bucket);
void token_bucket_unref(struct token_bucket *bucket); /* accepts NULL */
/* *bucket becomes a reference to that of the policy before, which goes on. */
void token_bucket_inherit(struct token_bucket **bucket, struct token_bucket *before);
