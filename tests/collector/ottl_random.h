/* Random OTTL conditions over random spans, as sets that run.py can give to the Collector. */
#pragma once

#include "tests/collector/case_set.h"

/* Adds sets of `count` conditions in all. A condition is two policies, which say that it is true or that it is false; where
 * neither is sampled, it was an error. Conditions that we refuse stand in sets of their own, a few. Equal arguments give
 * equal bytes. */
void case_sets_ottl(struct case_sets *sets, uint64_t seed, size_t count);
