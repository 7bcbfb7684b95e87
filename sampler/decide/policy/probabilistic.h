/* The numbers behind `probabilistic`, bit for bit those of the Collector; apart so that tests can name them. */
#pragma once

#include <stdint.h>

#include "common/base/slice.h"

/* A trace is kept when its hash is at most this. percentage is no NaN. */
uint64_t probabilistic_hash_limit(double percentage);
/* The 56-bit sampling threshold that the percentage stands for: it decides who takes the credit. */
uint64_t probabilistic_threshold(double percentage);
/* FNV-1a of the salt and the ID's 16 bytes. salt_state: hash_fnv1a of the salt. */
uint64_t probabilistic_hash(uint64_t salt_state, const struct trace_id *id);
