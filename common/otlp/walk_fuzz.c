/* Whatever the bytes: the walk and the views stay inside them, and what both we and protobuf-c accept is read
 * the same by both. A span without fault in its own fields is one that a strict look at it accepts so far. */
#include <stdlib.h>

#include "common/otlp/span_view.h"
#include "common/otlp/span_walk.h"
#include "tests/kit/otlp_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct oracle_verdict verdict)
{
    if (verdict.difference)
        abort();
}

static bool lies_within(struct slice part, const uint8_t *data, size_t size)
{
    return part.len == 0 || (part.at >= data && part.len <= size && (size_t)(part.at - data) <= size - part.len);
}

static void check_part(const struct header_part *part, struct oracle_verdict (*oracle)(struct slice))
{
    uint8_t *fields = malloc(part->len + 1u);
    struct header_part again;

    if (!fields || header_part_write(part, fields) != fields + part->len)
        abort();
    again = header_part_of(slice_make(fields, part->len), header_part_hash(slice_make(fields, part->len)));
    if (again.hash != part->hash || !header_part_equal(part, &again) || !header_part_equal(&again, part))
        abort();
    check(oracle(slice_make(fields, part->len)));
    free(fields);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice request = slice_make(data, size);
    struct span_walk walk;
    struct span_ref span;
    uint32_t header_index = 0;

    span_walk_init(&walk, request);
    while (span_walk_next(&walk, &span)) {
        struct span_view view;

        if (!lies_within(span.bytes, data, size))
            abort();
        check(oracle_view(span.bytes));
        /* The view is the stricter one: what it accepts has no malformed field. */
        if (span_view_read(span.bytes, NULL, NULL, &view) && span.fault == SPAN_MALFORMED)
            abort();
        if (span.header_index == header_index)
            continue;
        header_index = span.header_index;
        check_part(&span.header->resource, oracle_resource);
        check_part(&span.header->scope, oracle_scope);
    }
    check(oracle_walk(request));
    /* The bytes as a span, too: so the corpus of one serves the other. */
    check(oracle_view(request));
    return 0;
}
