/* What an HTTP client is told: which status, and the body in the format of its request.
 *
 * Source  OTLP specification, "OTLP/HTTP Response"; reference: gRPC code to HTTP status as in the Collector. Differs from the
 *         Collector: RESOURCE_EXHAUSTED without a retry delay is final, hence 413 (429 would be sent again).
 */
#pragma once

#include <stdint.h>

#include "common/base/buffer.h"
#include "common/ingest/receiver.h"

enum http_format { HTTP_TEXT, HTTP_PROTOBUF, HTTP_JSON };

const char *http_content_type(enum http_format format);
const char *http_reason(int status);
/* Of a refusal; code: not OK. */
int http_status_of(const struct answer_status *refusal);
/* Whole seconds for Retry-After, at least 1; 0: the status has none. */
uint64_t http_retry_after_s(int status, uint64_t retry_ns);
/* Bodies; NULL: no memory. A text is one line. */
struct buffer *http_refusal_body(enum http_format format, const struct answer_status *refusal);
/* ExportTraceServiceResponse; protobuf of nothing rejected is empty. */
struct buffer *http_success_body(enum http_format format, uint64_t rejected, const char *message);
