#include "common/ingest/admission.h"

#include "common/base/assert.h"

bool admission_take(struct admission *admission, uint64_t bytes)
{
    return admission_grow(admission, 0, bytes);
}

bool admission_grow(struct admission *admission, uint64_t held, uint64_t bytes)
{
    uint64_t before = atomic_fetch_add_explicit(&admission->bytes, bytes, memory_order_relaxed);

    /* One request always fits, however large: the receive limit bounds it. */
    if (before > held && before + bytes > atomic_load_explicit(&admission->limit_bytes, memory_order_relaxed)) {
        atomic_fetch_sub_explicit(&admission->bytes, bytes, memory_order_relaxed);
        return false;
    }
    return true;
}

void admission_give(struct admission *admission, uint64_t bytes)
{
    uint64_t before = atomic_fetch_sub_explicit(&admission->bytes, bytes, memory_order_relaxed);

    ASSERT(before >= bytes);
}
