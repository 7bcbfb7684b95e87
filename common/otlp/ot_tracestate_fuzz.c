/* Law: what was written reads back with the threshold that was asked for and the same randomness, and writing it again
 * changes nothing. */
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/otlp/ot_tracestate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t commas(struct slice text)
{
    size_t count = 0;

    for (size_t i = 0; i < text.len; i++)
        count += text.at[i] == ',';
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ot_tracestate before, after;
    uint64_t threshold = 0;
    struct slice text;
    uint8_t *out, *again;
    size_t len, again_len;
    enum ot_update update;

    if (size < 8)
        return 0;
    memcpy(&threshold, data, 8);
    threshold %= OT_RANDOMNESS_COUNT + 1;
    text = slice_make(data + 8, size - 8);
    out = malloc(text.len + OT_TRACESTATE_GROWTH);
    again = malloc(text.len + 2 * OT_TRACESTATE_GROWTH);
    ASSERT(out && again);
    update = ot_tracestate_update(text, threshold, out, &len);
    ASSERT((update == OT_UNREADABLE) == !ot_tracestate_read(text, &before));
    if (update == OT_UPDATED) {
        bool readable = ot_tracestate_read(slice_make(out, len), &after);

        /* The new threshold may have made it too long, or `ot` one member too many. */
        ASSERT(readable || len > 256 || commas(slice_make(out, len)) >= 31);
        if (readable) {
            ASSERT(after.has_threshold == (threshold < OT_RANDOMNESS_COUNT));
            ASSERT(!after.has_threshold || after.threshold == threshold);
            ASSERT(after.has_randomness == before.has_randomness && after.randomness == before.randomness);
            ASSERT(ot_tracestate_update(slice_make(out, len), threshold, again, &again_len) == OT_UPDATED);
            ASSERT(slice_equal(slice_make(out, len), slice_make(again, again_len)));
        }
    }
    free(out);
    free(again);
    return 0;
}
