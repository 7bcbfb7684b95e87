/* Whatever text comes: what is written of it walks, and each span reads, without a fault but that of its IDs. */
#include "common/otlp/otlp_json.h"

#include <stdlib.h>

#include "common/otlp/span_view.h"
#include "common/otlp/span_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void visit(void *context, struct slice key, struct slice value)
{
    (void)context;
    (void)key;
    (void)value_read(value);
}

/* Whether an ID has a wrong length, at any of its occurrences. is_span: field 4 is an ID as well, and 13 are links. */
static bool has_odd_id(struct slice message, bool is_span)
{
    struct wire w = wire_of(message);
    bool odd = false;

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w), field = WIRE_FIELD(tag);
        struct slice bytes;

        if ((tag & 7) != WIRE_BYTES) {
            wire_skip(&w, tag);
            continue;
        }
        bytes = wire_bytes(&w);
        if (field == 1 || field == 2 || (is_span && field == 4))
            odd |= bytes.len != 0 && bytes.len != (field == 1 ? 16 : 8);
        if (is_span && field == 13)
            odd |= has_odd_id(bytes, false);
    }
    return odd;
}

/* Wrong lengths of IDs are the only faults of a span: SPAN_MALFORMED is left for the parent's. */
static void check_span(const struct span_ref *span)
{
    struct span_view view;
    uint8_t *fields;

    if (span->fault == SPAN_OK && !span_view_read(span->bytes, visit, NULL, &view) && !has_odd_id(span->bytes, true))
        abort();
    fields = malloc(span->header->resource.len + span->header->scope.len + 1);
    if (!fields)
        abort();
    header_part_write(&span->header->resource, fields);
    if (!resource_visit(slice_make(fields, span->header->resource.len), visit, NULL))
        abort();
    header_part_write(&span->header->scope, fields);
    if (!scope_visit(slice_make(fields, span->header->scope.len), visit, NULL))
        abort();
    free(fields);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct otlp_json *reader; /* one for all inputs: what one leaves must not show in the next */
    struct buffer *request = NULL;
    struct span_walk walk;
    struct span_ref span;
    char error[200] = "";
    int r;

    if (!reader && !(reader = otlp_json_new()))
        abort();
    r = otlp_json_read(reader, slice_make(data, size), 1u << 20, &request, error, sizeof(error));
    if (r < 0 || (r == OTLP_JSON_E_MALFORMED) != (error[0] != '\0'))
        abort();
    if (r)
        return 0;
    span_walk_init(&walk, buffer_slice(request));
    while (span_walk_next(&walk, &span))
        check_span(&span);
    if (walk.bad)
        abort();
    buffer_unref(request);
    return 0;
}
