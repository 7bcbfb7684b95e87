#include "bench/transport.h"

#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/otlp/wire.h"

void transport_init(void)
{
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_TOP_PAD, 64 << 20);
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    grpc_init();
}

#define INT_ARG(key_text, number)                                                                  \
    {                                                                                              \
        .type = GRPC_ARG_INTEGER, .key = (char[]){key_text}, .value.integer = (number)             \
    }

static grpc_arg channel_arg_list[] = {
    INT_ARG("grpc.use_local_subchannel_pool", 1), /* each channel is a connection of its own */
    INT_ARG("grpc.enable_retries", 0),            /* we count and time our own */
    INT_ARG("grpc.enable_http_proxy", 0),
    INT_ARG("grpc.service_config_disable_resolution", 1),
    INT_ARG("grpc.http2.bdp_probe", 0),
    INT_ARG("grpc.http2.max_frame_size", 1 << 20),
    INT_ARG("grpc.initial_reconnect_backoff_ms", 100),
    INT_ARG("grpc.min_reconnect_backoff_ms", 1000),
    INT_ARG("grpc.max_reconnect_backoff_ms", 2000),
    INT_ARG("grpc.max_send_message_length", -1),
    INT_ARG("grpc.client_idle_timeout_ms", INT_MAX),
};
static const grpc_channel_args channel_args = {ARRAY_COUNT(channel_arg_list), channel_arg_list};

/* As common/ingest/receiver_grpc.c sets them: the ceiling is that of the same transport. */
#define SERVER_ARGS_COMMON                                                                         \
    INT_ARG("grpc.so_reuseport", 0), /* a port in use is an error, not a share */                  \
        INT_ARG("grpc.max_receive_message_length", 64 << 20),                                      \
        INT_ARG("grpc.max_concurrent_streams", 1024),                                              \
        INT_ARG("grpc.max_metadata_size", 16 << 10), INT_ARG("grpc.http2.max_frame_size", 1 << 20), \
        INT_ARG("grpc.http2.min_ping_interval_without_data_ms", 5000),                             \
        INT_ARG("grpc.keepalive_permit_without_calls", 1)

static grpc_arg internal_arg_list[] = {SERVER_ARGS_COMMON, INT_ARG("grpc.per_message_decompression", 0), INT_ARG("grpc.http2.lookahead_bytes", 4 << 20),
    INT_ARG("grpc.http2.bdp_probe", 0), INT_ARG("grpc.http2.max_ping_strikes", 0)};
static const grpc_channel_args internal_args = {ARRAY_COUNT(internal_arg_list), internal_arg_list};
static grpc_arg public_arg_list[] = {SERVER_ARGS_COMMON, INT_ARG("grpc.per_message_decompression", 0), INT_ARG("grpc.http2.lookahead_bytes", 1 << 20)};
static const grpc_channel_args public_args = {ARRAY_COUNT(public_arg_list), public_arg_list};

const grpc_channel_args *transport_channel_args(void)
{
    return &channel_args;
}

static grpc_arg backend_arg_list[] = {SERVER_ARGS_COMMON, INT_ARG("grpc.http2.lookahead_bytes", 4 << 20)};
static const grpc_channel_args backend_args = {ARRAY_COUNT(backend_arg_list), backend_arg_list};

const grpc_channel_args *transport_backend_args(void)
{
    return &backend_args;
}

const grpc_channel_args *transport_server_args(bool internal)
{
    return internal ? &internal_args : &public_args;
}

void transport_target(const char *endpoint, char *out)
{
    const char *scheme = endpoint[0] == '[' ? "ipv6:" : endpoint[0] >= '0' && endpoint[0] <= '9' ? "ipv4:" : "";

    (void)snprintf(out, 256, "%s%s", scheme, endpoint);
}

struct message message_open(grpc_byte_buffer *buffer, uint8_t **scratch, size_t *scratch_size)
{
    struct message message = {0};
    grpc_slice *first = NULL, *slice = NULL;
    size_t len = 0;

    if (!buffer || !grpc_byte_buffer_reader_init(&message.reader, buffer))
        return message;
    message.open = true;
    if (!grpc_byte_buffer_reader_peek(&message.reader, &first))
        return message;
    if (GRPC_SLICE_LENGTH(*first) == grpc_byte_buffer_length(buffer)) {
        message.bytes = slice_make(GRPC_SLICE_START_PTR(*first), GRPC_SLICE_LENGTH(*first));
        return message;
    }
    if (grpc_byte_buffer_length(buffer) > *scratch_size) {
        *scratch_size = grpc_byte_buffer_length(buffer) * 2;
        free(*scratch);
        *scratch = malloc(*scratch_size);
        ASSERT(*scratch);
    }
    slice = first;
    do {
        ASSERT(len + GRPC_SLICE_LENGTH(*slice) <= *scratch_size);
        memcpy(*scratch + len, GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice));
        len += GRPC_SLICE_LENGTH(*slice);
    } while (grpc_byte_buffer_reader_peek(&message.reader, &slice));
    message.bytes = slice_make(*scratch, len);
    return message;
}

void message_close(struct message *message)
{
    if (message->open)
        grpc_byte_buffer_reader_destroy(&message->reader);
    message->open = false;
}

gpr_timespec transport_deadline(uint64_t monotonic_ns)
{
    if (monotonic_ns == UINT64_MAX)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return (gpr_timespec){(int64_t)(monotonic_ns / NS_PER_S), (int32_t)(monotonic_ns % NS_PER_S), GPR_CLOCK_MONOTONIC};
}

/* -- error details: google.rpc.Status{3: Any{1: type, 2: RetryInfo{1: Duration{1: seconds, 2: nanos}}}} -- */

#define RETRY_INFO_TYPE "type.googleapis.com/google.rpc.RetryInfo"

static uint64_t duration_read(struct slice retry_info)
{
    struct wire w = wire_of(retry_info);
    uint64_t seconds = 0, nanos = 0;

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);
        struct wire duration;

        if (tag != WIRE_TAG(1, WIRE_BYTES)) {
            wire_skip(&w, tag);
            continue;
        }
        duration = wire_of(wire_bytes(&w));
        while (wire_more(&duration)) {
            tag = wire_tag(&duration);
            if (tag == WIRE_TAG(1, WIRE_VARINT))
                seconds = wire_varint(&duration);
            else if (tag == WIRE_TAG(2, WIRE_VARINT))
                nanos = wire_varint(&duration);
            else
                wire_skip(&duration, tag);
        }
    }
    return u64_min(seconds, 3600) * NS_PER_S + u64_min(nanos, NS_PER_S);
}

static bool any_read(struct slice any, uint64_t *out_delay_ns)
{
    struct wire w = wire_of(any);
    struct slice type = {0}, value = {0};

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(1, WIRE_BYTES))
            type = wire_bytes(&w);
        else if (tag == WIRE_TAG(2, WIRE_BYTES))
            value = wire_bytes(&w);
        else
            wire_skip(&w, tag);
    }
    if (!slice_equal(type, SLICE_LITERAL(RETRY_INFO_TYPE)))
        return false;
    *out_delay_ns = duration_read(value);
    return true;
}

bool retry_info_read(const grpc_metadata_array *trailing, uint64_t *out_delay_ns)
{
    for (size_t i = 0; i < trailing->count; i++) {
        const grpc_metadata *item = &trailing->metadata[i];
        struct wire w;

        if (grpc_slice_str_cmp(item->key, "grpc-status-details-bin") != 0)
            continue;
        w = wire_of(slice_make(GRPC_SLICE_START_PTR(item->value), GRPC_SLICE_LENGTH(item->value)));
        while (wire_more(&w)) {
            uint32_t tag = wire_tag(&w);

            if (tag != WIRE_TAG(3, WIRE_BYTES))
                wire_skip(&w, tag);
            else if (any_read(wire_bytes(&w), out_delay_ns))
                return true;
        }
    }
    return false;
}

grpc_slice retry_info_write(int code, const char *message, uint64_t delay_ns)
{
    uint8_t duration[32], info[40], any[128], status[512], *end;
    size_t duration_len, info_len, any_len;

    end = wire_put_varint(duration, WIRE_TAG(1, WIRE_VARINT));
    end = wire_put_varint(end, delay_ns / NS_PER_S);
    end = wire_put_varint(end, WIRE_TAG(2, WIRE_VARINT));
    end = wire_put_varint(end, delay_ns % NS_PER_S);
    duration_len = (size_t)(end - duration);
    info_len = (size_t)(wire_put_bytes(info, WIRE_TAG(1, WIRE_BYTES), duration, duration_len) - info);
    end = wire_put_bytes(any, WIRE_TAG(1, WIRE_BYTES), RETRY_INFO_TYPE, sizeof(RETRY_INFO_TYPE) - 1);
    end = wire_put_bytes(end, WIRE_TAG(2, WIRE_BYTES), info, info_len);
    any_len = (size_t)(end - any);
    end = wire_put_varint(status, WIRE_TAG(1, WIRE_VARINT));
    end = wire_put_varint(end, (uint64_t)code);
    end = wire_put_bytes(end, WIRE_TAG(2, WIRE_BYTES), message, size_min(strlen(message), 256));
    end = wire_put_bytes(end, WIRE_TAG(3, WIRE_BYTES), any, any_len);
    return grpc_slice_from_copied_buffer((const char *)status, (size_t)(end - status));
}

uint64_t partial_success_read(struct slice response)
{
    struct wire w = wire_of(response);
    uint64_t rejected = 0;

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);
        struct wire partial;

        if (tag != WIRE_TAG(1, WIRE_BYTES)) {
            wire_skip(&w, tag);
            continue;
        }
        partial = wire_of(wire_bytes(&w));
        while (wire_more(&partial)) {
            tag = wire_tag(&partial);
            if (tag == WIRE_TAG(1, WIRE_VARINT))
                rejected = wire_varint(&partial);
            else
                wire_skip(&partial, tag);
        }
    }
    return rejected;
}
