#include "sampler/decide/limiter.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/error.h"
#include "common/base/num.h"

struct token_bucket token_bucket_of(int64_t per_second, int64_t capacity)
{
    struct token_bucket bucket = {.per_second = (double)per_second, .capacity = capacity};

    if (capacity <= 0 && __builtin_mul_overflow(per_second, (int64_t)2, &bucket.capacity))
        bucket.capacity = per_second > 0 ? INT64_MAX : INT64_MIN;
    bucket.tokens = (double)bucket.capacity;
    return bucket;
}

static double tokens_at(const struct token_bucket *bucket, uint64_t now_ns)
{
    uint64_t elapsed_ns = bucket->last_ns == 0 ? 0 : u64_sub_floor(now_ns, bucket->last_ns);
    double seconds =
        (double)(elapsed_ns / NS_PER_S) + (double)(elapsed_ns % NS_PER_S) / (double)NS_PER_S;
    double tokens = bucket->tokens;

    if (bucket->per_second > 0)
        tokens += seconds * bucket->per_second;
    return tokens > (double)bucket->capacity ? (double)bucket->capacity : tokens;
}

/* What is lacking comes within the nanosecond. */
static bool comes_at_once(const struct token_bucket *bucket, double lacking)
{
    return bucket->per_second > 0 && lacking / bucket->per_second * (double)NS_PER_S < 1;
}

bool token_bucket_take(struct token_bucket *bucket, uint64_t cost, uint64_t now_ns)
{
    double rest = tokens_at(bucket, now_ns) - (double)cost;

    if (cost > INT64_MAX || (int64_t)cost > bucket->capacity)
        return false;
    if (rest < 0 && !comes_at_once(bucket, -rest))
        return false;
    bucket->tokens = rest;
    bucket->last_ns = now_ns;
    return true;
}

struct weighed {
    uint64_t randomness, cost;
};

static int by_randomness_falling(const void *a, const void *b)
{
    const struct weighed *left = a, *right = b;

    return left->randomness > right->randomness ? -1 : left->randomness < right->randomness;
}

/* How many of the list, from its head, the tokens pay for. */
static size_t affordable(const struct weighed *list, size_t count, uint64_t tokens, uint64_t *out_cost)
{
    size_t kept = 0;

    *out_cost = 0;
    while (kept < count && *out_cost + list[kept].cost <= tokens)
        *out_cost += list[kept++].cost;
    while (kept > 0 && kept < count && list[kept - 1].randomness == list[kept].randomness)
        *out_cost -= list[--kept].cost;
    return kept;
}

void token_bucket_weigh(struct token_bucket *bucket, const struct verdict_input *const *inputs, size_t count,
    uint64_t (*cost_of)(const struct verdict_input *input))
{
    struct weighed *list = malloc((count + 1) * sizeof(*list));
    size_t list_count = 0, kept;
    double tokens;
    uint64_t cost;

    if (!list)
        return;
    for (size_t i = 0; i < count; i++) {
        cost = cost_of(inputs[i]);
        if (cost <= INT64_MAX && (int64_t)cost <= bucket->capacity) /* others never pass and must not starve these */
            list[list_count++] = (struct weighed){verdict_randomness(inputs[i]), cost};
    }
    qsort(list, list_count, sizeof(*list), by_randomness_falling);
    tokens = count > 0 ? tokens_at(bucket, inputs[0]->now_ns) : 0;
    kept = affordable(list, list_count, tokens > 0 ? (uint64_t)tokens : 0, &cost);
    bucket->weighed = true;
    bucket->threshold = kept == list_count ? 0 : kept == 0 ? SAMPLING_NEVER : list[kept].randomness + 1;
    if (cost > 0)
        (void)token_bucket_take(bucket, cost, inputs[0]->now_ns);
    free(list);
}

struct vote token_bucket_vote(struct token_bucket *bucket, uint64_t cost, const struct verdict_input *input)
{
    struct vote vote;

    if (!bucket->weighed)
        return vote_filter(token_bucket_take(bucket, cost, input->now_ns), UINT32_MAX);
    vote = vote_filter(cost <= INT64_MAX && (int64_t)cost <= bucket->capacity && bucket->threshold <= verdict_randomness(input),
        UINT32_MAX);
    vote.threshold = vote.decision == DECISION_SAMPLED ? bucket->threshold : 0;
    return vote;
}

int token_bucket_new(int64_t per_second, int64_t capacity, struct token_bucket **out_bucket)
{
    struct token_bucket *bucket = malloc(sizeof(*bucket));

    if (!bucket)
        return error_raise(-ENOMEM);
    *bucket = token_bucket_of(per_second, capacity);
    atomic_init(&bucket->refs, 1);
    *out_bucket = bucket;
    return 0;
}

void token_bucket_unref(struct token_bucket *bucket)
{
    if (bucket && atomic_fetch_sub_explicit(&bucket->refs, 1, memory_order_acq_rel) == 1)
        free(bucket);
}

void token_bucket_inherit(struct token_bucket **bucket, struct token_bucket *before)
{
    atomic_fetch_add_explicit(&before->refs, 1, memory_order_relaxed);
    token_bucket_unref(*bucket);
    *bucket = before;
}
