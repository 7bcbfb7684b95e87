/* A span's tracestate as a list of members, read strictly: one fault anywhere and there is none.
 *
 * Lenient  empty members between commas are passed over; blanks and tabs may stand before a key and after a value.
 * Source   W3C Trace Context, section 3.3, as go.opentelemetry.io/otel/trace reads it. How the `ot` member is read for its
 *          sampling threshold follows other rules: ot_tracestate.h.
 */
#pragma once

#include <stddef.h>

#include "common/base/slice.h"

#define W3C_MEMBERS_MAX 32
#define W3C_MALFORMED   SIZE_MAX

struct w3c_member {
    struct slice key, value; /* borrowed from the text */
};

/* How many members there are, or W3C_MALFORMED (nothing of the array may then be used). */
size_t w3c_tracestate_read(struct slice text, struct w3c_member out_members[W3C_MEMBERS_MAX]);
