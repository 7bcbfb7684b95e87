/* OTLP/JSON to protobuf bytes, as a stream: what the walk reads afterwards is an ExportTraceServiceRequest like any other.
 *
 * Rules   field names in lowerCamelCase (snake_case is read too); IDs in hex of either case; integers and doubles as numbers
 *         or strings; enums as numbers or names; bytes in base64; unknown fields ignored; null is the default. A key that occurs again
 *         merges as in protobuf, and so in the Collector: the last scalar stands, lists grow, messages merge.
 * Text    is not judged: invalid UTF-8 passes, as in the protobuf form; half a surrogate pair becomes U+FFFD.
 * IDs     of a wrong length pass: they are their span's fault, not the request's.
 * Bound   depth (OTLP_JSON_DEPTH_MAX) and output bytes; memory grows with the input, not with its nesting.
 * Source  OTLP specification, JSON Protobuf encoding; protobuf's JSON mapping
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/buffer.h"
#include "common/base/slice.h"

#define OTLP_JSON_DEPTH_MAX 200
#define OTLP_JSON_E_MALFORMED 1 /* no JSON, or not of this message's shape: the reason with line and column in out_error */
#define OTLP_JSON_E_TOO_LARGE 2 /* the protobuf form passes max_bytes */

struct otlp_json; /* a reader, reused: keeps its scratch */
struct otlp_json *otlp_json_new(void); /* NULL: no memory */
void otlp_json_free(struct otlp_json *reader);
/* One ExportTraceServiceRequest. 0 and a new buffer of its protobuf form, one of the above, or -ENOMEM. */
int otlp_json_read(struct otlp_json *reader, struct slice json, size_t max_bytes, struct buffer **out_request, char *out_error,
    size_t error_size);
