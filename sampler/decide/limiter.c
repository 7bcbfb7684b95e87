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

int token_bucket_new(int64_t per_second, int64_t capacity, struct token_bucket **out_bucket)
{
    struct token_bucket *bucket = malloc(sizeof(*bucket));

    if (!bucket)
        return error_raise(-ENOMEM);
    *bucket = token_bucket_of(per_second, capacity);
    *out_bucket = bucket;
    return 0;
}

void token_bucket_free(struct token_bucket *bucket)
{
    free(bucket);
}
