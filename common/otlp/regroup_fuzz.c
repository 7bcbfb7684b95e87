/* walk(regroup(walk(x))) holds the same spans with equal headers, and regrouping what was regrouped changes nothing. */
#include "common/otlp/regroup.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct noted {
    struct slice bytes;
    struct trace_id trace_id;
    enum span_fault fault;
    uint32_t header; /* its number in the regroup */
    bool seen;
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* Walks a request into a regroup; returns the spans, NULL when it is bad. */
static struct noted *walk_into(struct slice request, struct regroup *regroup, size_t *out_count)
{
    size_t count = 0, capacity = 16;
    struct noted *spans = malloc(capacity * sizeof(*spans));
    uint32_t header_index = 0, number = 0;
    struct span_walk walk;
    struct span_ref span;

    require(spans != NULL);
    span_walk_init(&walk, request);
    while (span_walk_next(&walk, &span)) {
        if (span.header_index != header_index) {
            header_index = span.header_index;
            number = regroup_header(regroup, span.header);
            require(number != REGROUP_NO_HEADER);
        }
        if (count == capacity) {
            capacity *= 2;
            spans = realloc(spans, capacity * sizeof(*spans));
            require(spans != NULL);
        }
        spans[count++] = (struct noted){span.bytes, span.trace_id, span.fault, number, false};
        require(regroup_span(regroup, number, rope_of(span.bytes.at, span.bytes.len)) == 0);
    }
    if (walk.bad) {
        free(spans);
        return NULL;
    }
    *out_count = count;
    return spans;
}

static uint8_t *write_all(struct regroup *regroup, size_t *out_size)
{
    size_t bound = regroup_size_bound(regroup), size = regroup_size(regroup);
    uint8_t *out = malloc(size > 0 ? size : 1);

    require(out != NULL && size <= bound);
    require(regroup_write(regroup, out) == out + size);
    *out_size = size;
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct regroup *first = regroup_new(), *second = regroup_new();
    struct noted *spans, *again;
    size_t count, again_count, once_size, twice_size, next = 0;
    uint8_t *once, *twice;

    require(first && second);
    spans = walk_into(slice_make(data, size), first, &count);
    if (spans) {
        once = write_all(first, &once_size);
        again = walk_into(slice_make(once, once_size), second, &again_count);
        require(again && again_count == count);
        twice = write_all(second, &twice_size);
        require(once_size == twice_size && memcmp(once, twice, once_size) == 0);
        free(again);
        free(twice);

        /* Into the first again: equal headers must get the numbers they had. */
        again = walk_into(slice_make(once, once_size), first, &again_count);
        require(again && again_count == count);
        for (size_t i = 0; i < count; i++) {
            /* Within a header the order stays: the next one of that header is the one. */
            if (i == 0 || again[i].header != again[i - 1].header)
                next = 0;
            while (next < count && (spans[next].seen || spans[next].header != again[i].header))
                next++;
            require(next < count);
            require(slice_equal(spans[next].bytes, again[i].bytes));
            require(spans[next].fault == again[i].fault);
            require(trace_id_equal(&spans[next].trace_id, &again[i].trace_id));
            spans[next].seen = true;
        }
        free(again);
        free(once);
        free(spans);
    }
    regroup_free(first);
    regroup_free(second);
    return 0;
}
