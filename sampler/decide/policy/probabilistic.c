/* Keep a share of traces, chosen by a hash of their ID.   Source: tail_sampling `probabilistic`. */
#include "sampler/decide/policy/probabilistic.h"

#include <math.h>

#include "common/base/hash.h"
#include "sampler/decide/policy.h"
#include "sampler/decide/predicate.h"

__extension__ typedef unsigned __int128 uint128; /* the one product that 64 bits do not hold */

#define DEFAULT_SALT "default-hash-seed"

struct probabilistic {
    double sampling_percentage;
    char *hash_salt;
    uint64_t salt_state, hash_limit, threshold;
    bool use_tracestate;
};

static const struct config_key probabilistic_keys[] = {
    CONFIG_KEY(struct probabilistic, sampling_percentage, CONFIG_DOUBLE,
        "share of traces kept, in percent (default 0)"),
    CONFIG_KEY(struct probabilistic, hash_salt, CONFIG_STRING,
        "starts the hash; collectors with equal salts keep the same traces (default " DEFAULT_SALT
        ")"),
    {0},
};

/* floor(round64((2^64 - 1) * ratio)): the product is exact, then rounded to 64 significant bits, ties to even. */
uint64_t probabilistic_hash_limit(double percentage)
{
    double ratio = percentage / 100;
    uint128 product;
    uint64_t mantissa, rest, half;
    int exponent, product_bits, cut;

    if (!(ratio > 0))
        return 0;
    if (ratio >= 1)
        return UINT64_MAX;
    mantissa =
        (uint64_t)ldexp(frexp(ratio, &exponent), 53); /* ratio = mantissa * 2^(exponent - 53) */
    exponent -= 53;
    product = (uint128)mantissa * UINT64_MAX;

    /* The mantissa has its 53 bits, so the product has 116 or 117: there is always something to round away. */
    product_bits = 128 - __builtin_clzll((uint64_t)(product >> 64));
    cut = product_bits - 64;
    rest = (uint64_t)product & ((1ull << cut) - 1);
    half = 1ull << (cut - 1);
    product >>= cut;
    if (rest > half || (rest == half && (product & 1)))
        product++; /* may become 2^64; 128 bits hold it */
    exponent += cut;

    if (exponent >= 0) {
        /* ratio < 1 keeps the result within 64 bits, but for what rounding adds: saturate. */
        product <<= exponent;
        return product > UINT64_MAX ? UINT64_MAX : (uint64_t)product;
    }
    if (exponent < -64)
        return 0;
    product >>= -exponent;
    return product > UINT64_MAX ? UINT64_MAX : (uint64_t)product;
}

uint64_t probabilistic_threshold(double percentage)
{
    double probability = percentage / 100;

    if (probability >= 1)
        return 0;
    if (!(probability >= 0x1p-56))
        return SAMPLING_NEVER;
    return SAMPLING_NEVER -
           (uint64_t)round(probability * 0x1p56); /* the product is exact; halves go up */
}

uint64_t probabilistic_hash(uint64_t salt_state, const struct trace_id *id)
{
    return hash_fnv1a(salt_state, id->bytes, sizeof(id->bytes));
}

static int probabilistic_prepare(void *self, const struct policy_prepare *prepare)
{
    struct probabilistic *want = self;
    const char *salt = want->hash_salt && want->hash_salt[0] ? want->hash_salt : DEFAULT_SALT;

    if (isnan(want->sampling_percentage))
        return policy_error(prepare, "sampling_percentage is not a number");
    want->salt_state = hash_fnv1a(FNV1A_64_START, salt, strlen(salt));
    want->hash_limit = probabilistic_hash_limit(want->sampling_percentage);
    want->threshold = probabilistic_threshold(want->sampling_percentage);
    want->use_tracestate = prepare->use_tracestate;
    if (want->use_tracestate)
        predicate_ot(prepare->builder);
    return 0;
}

static struct vote probabilistic_evaluate(const void *self, const struct verdict_input *input)
{
    const struct probabilistic *want = self;
    /* Where spans say how they were sampled, by the same randomness; else by the hash. */
    bool sampled = want->use_tracestate && input->facts->ot.has_info
                       ? want->threshold <= verdict_randomness(input)
                       : probabilistic_hash(want->salt_state, input->trace_id) <= want->hash_limit;

    return (struct vote){
        sampled ? DECISION_SAMPLED : DECISION_NOT_SAMPLED, want->threshold, UINT32_MAX, NULL};
}

/* A later span may bring a randomness that the trace had none of. */
static bool probabilistic_is_lasting(const void *self, const struct facts *facts)
{
    return !((const struct probabilistic *)self)->use_tracestate || facts->ot.has_randomness;
}

const struct policy_type policy_probabilistic = {
    .name = "probabilistic",
    .size = sizeof(struct probabilistic),
    .keys = probabilistic_keys,
    .prepare = probabilistic_prepare,
    .evaluate = probabilistic_evaluate,
    .is_lasting = probabilistic_is_lasting,
};
