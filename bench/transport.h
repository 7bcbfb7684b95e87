/* What the bench tools share of gRPC core: one thread, one completion queue, OTLP's Export and its error details. */
#pragma once

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

#define EXPORT_METHOD "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

/* Tunes malloc as the product does, so that both pay the same for gRPC's 64 KiB blocks, and starts the library. */
void transport_init(void);

/* Borrowed until the process ends. */
const grpc_channel_args *transport_channel_args(void);
/* internal: as a sampler listens; otherwise as a load balancer does, whose clients are far away. */
const grpc_channel_args *transport_server_args(bool internal);
/* As a backend listens: core takes compressed messages apart, since samplers compress by default. */
const grpc_channel_args *transport_backend_args(void);
/* "127.0.0.1:4317" as core wants it: numeric addresses go past its name resolution. out: 256 bytes. */
void transport_target(const char *endpoint, char *out);

/* A message as contiguous bytes: in place when it is one slice, else copied into a scratch that lasts until
 * the next call. slices: filled for message_release. */
struct message {
    struct slice bytes;
    grpc_byte_buffer_reader reader;
    bool open;
};
struct message message_open(grpc_byte_buffer *buffer, uint8_t **scratch, size_t *scratch_size);
void message_close(struct message *message);

gpr_timespec transport_deadline(uint64_t monotonic_ns);

/* google.rpc.Status with RetryInfo in grpc-status-details-bin. */
bool retry_info_read(const grpc_metadata_array *trailing, uint64_t *out_delay_ns);
grpc_slice retry_info_write(int code, const char *message, uint64_t delay_ns);

/* Spans rejected according to an ExportTraceServiceResponse. */
uint64_t partial_success_read(struct slice response);
