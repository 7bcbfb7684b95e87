/* Node-wide count of request bytes taken in and not yet answered, against a bound. Any thread. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct admission {
    _Atomic uint64_t bytes;
    _Atomic uint64_t limit_bytes;
};

/* False: over the bound, nothing taken. */
bool admission_take(struct admission *admission, uint64_t bytes);
/* The same for one who holds so many bytes of it already. */
bool admission_grow(struct admission *admission, uint64_t held, uint64_t bytes);
void admission_give(struct admission *admission, uint64_t bytes);
