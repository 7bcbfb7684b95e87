/* Takes a request apart into smaller requests, one walk for all of them. */
#pragma once

#include "common/base/buffer.h"
#include "common/otlp/regroup.h"
#include "common/otlp/span_walk.h"

struct cut {
    struct span_walk walk;
    struct span_ref span; /* the first of the next part */
    bool more;
};

/* request stays borrowed until the last part was taken; it is one that regroup wrote. */
void cut_init(struct cut *cut, struct slice request);
/* The next spans as a request: at least one, at most most_spans, and no further one that would take it past most_bytes.
 * *out_count: how many; 0: none were left. NULL then, or without memory. */
struct buffer *cut_next(struct cut *cut, struct regroup *regroup, uint64_t most_spans, size_t most_bytes, uint64_t *out_count);
