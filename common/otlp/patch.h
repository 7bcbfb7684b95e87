/* Spans and scopes on their way out with something added: attributes that say why a trace was kept, a changed tracestate.
 *
 * Shape   bytes in, new bytes out: everything else is carried over as it was, in its order; what is set comes last, and
 *         what had the same key is gone.
 * Input   what the walk and span_view accepted. Of anything else nothing is written (0 is returned): send it as it was.
 * Source  trace.proto ScopeSpans and Span, common.proto InstrumentationScope and KeyValue
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"

struct patch_attribute { /* keys must differ */
    struct slice key;
    struct slice text; /* the value, unless is_bool */
    bool is_bool, truth;
};

/* Sets attributes of the scope. fields: those of a ScopeSpans but its spans, as header_part_write writes; a scope that came in
 * pieces becomes one. out: NULL to learn the size, which is returned. */
size_t patch_scope(struct slice fields, const struct patch_attribute *attributes, size_t count, uint8_t *out);
/* Sets attributes of a span and, unless NULL, its tracestate (empty: it has none then). */
size_t patch_span(struct slice span, const struct patch_attribute *attributes, size_t count, const struct slice *tracestate,
    uint8_t *out);
