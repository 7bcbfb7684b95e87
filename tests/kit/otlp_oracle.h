/* Holds what the span path reads in place against protobuf-c's decode of the same bytes.
 *
 * Use     sources of the test: files('.../tests/kit/otlp_oracle.c'), otlp_proto_sources
 * Verdict ours and theirs say who accepted the bytes; when both did, difference is NULL or what is not equal.
 *         The two need not accept the same: protobuf-c knows no ID lengths, no depth bound and no long spellings of
 *         tags and lengths. Tests that know their bytes to be canonical look at both.
 */
#pragma once

#include <stdbool.h>

#include "common/base/slice.h"

struct oracle_verdict {
    bool ours, theirs;
    const char *difference;
    size_t spans; /* that were compared */
};

/* Spans in order, each span's and each header's content, unknown fields included. */
struct oracle_verdict oracle_walk(struct slice request);
/* All members of struct span_view, and the attributes with their values as visited. */
struct oracle_verdict oracle_view(struct slice span);
/* The attributes of a header part: resource_visit, scope_visit. */
struct oracle_verdict oracle_resource(struct slice header_fields);
struct oracle_verdict oracle_scope(struct slice header_fields);
