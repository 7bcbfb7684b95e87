#include "common/otlp/rpc_status.h"

#include "common/base/num.h"
#include "common/otlp/wire.h"

#define RETRY_INFO_TYPE "type.googleapis.com/google.rpc.RetryInfo"
#define TEXT_BYTES_MAX 300 /* leaves room for everything else in RPC_STATUS_BYTES_MAX */
#define RETRY_SECONDS_MAX 86400

enum {
    STATUS_CODE = WIRE_TAG(1, WIRE_VARINT),
    STATUS_MESSAGE = WIRE_TAG(2, WIRE_BYTES),
    STATUS_DETAILS = WIRE_TAG(3, WIRE_BYTES),
    ANY_TYPE_URL = WIRE_TAG(1, WIRE_BYTES),
    ANY_VALUE = WIRE_TAG(2, WIRE_BYTES),
    RETRY_DELAY = WIRE_TAG(1, WIRE_BYTES),
    DURATION_SECONDS = WIRE_TAG(1, WIRE_VARINT),
    DURATION_NANOS = WIRE_TAG(2, WIRE_VARINT),
    RESPONSE_PARTIAL = WIRE_TAG(1, WIRE_BYTES),
    PARTIAL_REJECTED = WIRE_TAG(1, WIRE_VARINT),
    PARTIAL_MESSAGE = WIRE_TAG(2, WIRE_BYTES),
};

/* A text field of at most TEXT_BYTES_MAX. What is not ASCII becomes '?': a text cut inside a character, or bytes that a peer sent,
 * would make the whole message unreadable for a strict decoder, RetryInfo with it. */
static uint8_t *put_text(uint8_t *out, uint32_t tag, const char *text)
{
    size_t len = strnlen(text, TEXT_BYTES_MAX);

    out = wire_put_bytes(out, tag, text, len);
    for (uint8_t *at = out - len; at < out; at++) {
        if (*at >= 0x80)
            *at = '?';
    }
    return out;
}

size_t rpc_status_write(int code, const char *message, uint64_t retry_ns, uint8_t out[RPC_STATUS_BYTES_MAX])
{
    uint8_t *at = out;

    at = wire_put_varint(at, STATUS_CODE);
    at = wire_put_varint(at, (uint64_t)code);
    at = put_text(at, STATUS_MESSAGE, message);
    if (retry_ns > 0) {
        uint8_t duration[32], info[48], any[128];
        uint8_t *end;

        end = wire_put_varint(duration, DURATION_SECONDS);
        end = wire_put_varint(end, retry_ns / NS_PER_S);
        end = wire_put_varint(end, DURATION_NANOS);
        end = wire_put_varint(end, retry_ns % NS_PER_S);
        end = wire_put_bytes(info, RETRY_DELAY, duration, (size_t)(end - duration));
        size_t info_len = (size_t)(end - info);
        end = wire_put_bytes(any, ANY_TYPE_URL, RETRY_INFO_TYPE, sizeof(RETRY_INFO_TYPE) - 1);
        end = wire_put_bytes(end, ANY_VALUE, info, info_len);
        at = wire_put_bytes(at, STATUS_DETAILS, any, (size_t)(end - any));
    }
    return (size_t)(at - out);
}

static uint64_t duration_read(struct slice bytes)
{
    struct wire w = wire_of(bytes);
    uint64_t seconds = 0, nanos = 0;

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == DURATION_SECONDS)
            seconds = wire_varint(&w);
        else if (tag == DURATION_NANOS)
            nanos = wire_varint(&w);
        else
            wire_skip(&w, tag);
    }
    /* Negative numbers arrive as huge ones: a server that names no sane delay names none. */
    if (w.bad || seconds > INT64_MAX || nanos >= NS_PER_S)
        return 0;
    return u64_min(seconds, RETRY_SECONDS_MAX) * NS_PER_S + nanos;
}

/* The value of the last length-delimited field `tag` of a message. */
static struct slice field_bytes(struct slice message, uint32_t wanted)
{
    struct wire w = wire_of(message);
    struct slice found = {NULL, 0};

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == wanted)
            found = wire_bytes(&w);
        else
            wire_skip(&w, tag);
    }
    return w.bad ? (struct slice){NULL, 0} : found;
}

bool rpc_status_retry(struct slice status, uint64_t *out_retry_ns)
{
    struct wire w = wire_of(status);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);
        struct slice any;

        if (tag != STATUS_DETAILS) {
            wire_skip(&w, tag);
            continue;
        }
        any = wire_bytes(&w);
        if (!w.bad && slice_equal(field_bytes(any, ANY_TYPE_URL), SLICE_LITERAL(RETRY_INFO_TYPE))) {
            *out_retry_ns = duration_read(field_bytes(field_bytes(any, ANY_VALUE), RETRY_DELAY));
            return true;
        }
    }
    return false;
}

size_t partial_success_write(uint64_t rejected, const char *message, uint8_t out[RPC_STATUS_BYTES_MAX])
{
    uint8_t partial[TEXT_BYTES_MAX + 32];
    uint8_t *end;

    end = wire_put_varint(partial, PARTIAL_REJECTED);
    end = wire_put_varint(end, rejected);
    end = put_text(end, PARTIAL_MESSAGE, message);
    return (size_t)(wire_put_bytes(out, RESPONSE_PARTIAL, partial, (size_t)(end - partial)) - out);
}

bool partial_success_read(struct slice response, uint64_t *out_rejected, struct slice *out_message)
{
    struct wire w = wire_of(response);
    uint64_t rejected = 0;
    struct slice message = {NULL, 0};

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == RESPONSE_PARTIAL) {
            struct wire p = wire_of(wire_bytes(&w));

            while (wire_more(&p)) {
                uint32_t inner = wire_tag(&p);

                if (inner == PARTIAL_REJECTED)
                    rejected = wire_varint(&p);
                else if (inner == PARTIAL_MESSAGE)
                    message = wire_bytes(&p);
                else
                    wire_skip(&p, inner);
            }
            if (p.bad)
                wire_fail(&w);
        } else {
            wire_skip(&w, tag);
        }
    }
    if (w.bad)
        return false;
    *out_rejected = rejected;
    *out_message = message;
    return true;
}
