/* The small messages that answers carry: google.rpc.Status with RetryInfo, and OTLP's partial success.
 * Source: google/rpc/status.proto, error_details.proto; OTLP specification, "Failures", "Partial Success". */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

#define RPC_STATUS_BYTES_MAX 512 /* message texts are cut to fit, and what is not ASCII in them becomes '?' */

/* Writes Status{code, message, details=[RetryInfo]} (details only when retry_ns > 0); returns its size. */
size_t rpc_status_write(int code, const char *message, uint64_t retry_ns, uint8_t out[RPC_STATUS_BYTES_MAX]);

/* True when a serialized Status carries RetryInfo; a delay out of range is capped. */
bool rpc_status_retry(struct slice status, uint64_t *out_retry_ns);

/* Writes ExportTraceServiceResponse{partial_success{rejected, message}}; returns its size. */
size_t partial_success_write(uint64_t rejected, const char *message, uint8_t out[RPC_STATUS_BYTES_MAX]);

/* Reads it back: 0 rejected and an empty message when there is none. False: malformed. */
bool partial_success_read(struct slice response, uint64_t *out_rejected, struct slice *out_message);
