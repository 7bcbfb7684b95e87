/* Law: what was patched is patched again to the same bytes, and what span_view reads stays readable. */
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/otlp/patch.h"
#include "common/otlp/span_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct patch_attribute set[] = {
    {.key = {(const uint8_t *)"k", 1}, .text = {(const uint8_t *)"value", 5}},
    {.key = {(const uint8_t *)"b", 1}, .is_bool = true, .truth = true},
};
static const struct slice tracestate = {(const uint8_t *)"ot=th:8", 7};

static size_t patch(bool is_span, struct slice in, uint8_t *out)
{
    return is_span ? patch_span(in, set, 2, &tracestate, out) : patch_scope(in, set, 2, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int is_span = 0; is_span < 2; is_span++) {
        struct slice in = slice_make(data, size);
        size_t first = patch(is_span, in, NULL), second;
        uint8_t *once, *twice;
        struct span_view view;

        if (first == 0)
            continue;
        once = malloc(first);
        ASSERT(once != NULL);
        ASSERT(patch(is_span, in, once) == first);
        second = patch(is_span, slice_make(once, first), NULL);
        ASSERT(second == first);
        twice = malloc(second);
        ASSERT(twice != NULL);
        ASSERT(patch(is_span, slice_make(once, first), twice) == second);
        ASSERT(memcmp(once, twice, first) == 0);
        if (is_span && span_view_read(in, NULL, NULL, &view)) {
            ASSERT(span_view_read(slice_make(once, first), NULL, NULL, &view));
            ASSERT(slice_equal(view.trace_state, tracestate));
        }
        free(once);
        free(twice);
    }
    return 0;
}
