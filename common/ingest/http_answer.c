#include "common/ingest/http_answer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/num.h"
#include "common/export/rpc_code.h"
#include "common/metrics/text.h"
#include "common/otlp/rpc_status.h"

#define MESSAGE_BYTES_MAX 300 /* as rpc_status.c cuts them */

const char *http_content_type(enum http_format format)
{
    switch (format) {
    case HTTP_PROTOBUF:
        return "application/x-protobuf";
    case HTTP_JSON:
        return "application/json";
    case HTTP_TEXT:
        break;
    }
    return "text/plain; charset=utf-8";
}

const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"}, {204, "No Content"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"},
        {405, "Method Not Allowed"}, {408, "Request Timeout"}, {413, "Content Too Large"}, {415, "Unsupported Media Type"},
        {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
        {501, "Not Implemented"}, {503, "Service Unavailable"}, {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(reasons); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Other";
}

int http_status_of(const struct answer_status *refusal)
{
    switch (refusal->code) {
    case RPC_CANCELLED:
    case RPC_DEADLINE_EXCEEDED:
    case RPC_ABORTED:
    case RPC_OUT_OF_RANGE:
    case RPC_UNAVAILABLE:
    case RPC_DATA_LOSS:
        return 503;
    case RPC_RESOURCE_EXHAUSTED:
        return refusal->retry_ns > 0 ? 429 : 413;
    case RPC_INVALID_ARGUMENT:
        return 400;
    case RPC_UNAUTHENTICATED:
        return 401;
    case RPC_PERMISSION_DENIED:
        return 403;
    case RPC_UNIMPLEMENTED:
        return 404;
    default:
        return 500;
    }
}

uint64_t http_retry_after_s(int status, uint64_t retry_ns)
{
    if (status != 429 && status != 503)
        return 0;
    return u64_max(retry_ns / NS_PER_S + (retry_ns % NS_PER_S > 0), 1);
}

static struct buffer *buffer_of(const void *bytes, size_t len)
{
    struct buffer *buffer = buffer_new(len);

    if (buffer && len > 0)
        memcpy(buffer->bytes, bytes, len);
    if (buffer)
        buffer->len = len;
    return buffer;
}

static struct buffer *buffer_of_text(struct text *text)
{
    struct buffer *buffer = text->failed ? NULL : buffer_of(text->at, text->len);

    text_deinit(text);
    return buffer;
}

static struct slice cut(const char *message)
{
    return slice_make(message, strnlen(message, MESSAGE_BYTES_MAX));
}

/* google.protobuf.Duration in JSON: seconds with 0, 3, 6 or 9 digits behind the point. */
static void append_duration(struct text *text, uint64_t ns)
{
    unsigned long long seconds = ns / NS_PER_S, part = ns % NS_PER_S;

    if (part == 0)
        text_append(text, "\"%llus\"", seconds);
    else if (part % NS_PER_MS == 0)
        text_append(text, "\"%llu.%03llus\"", seconds, part / NS_PER_MS);
    else
        text_append(text, "\"%llu.%09llus\"", seconds, part);
}

static void append_status(struct text *text, const struct answer_status *refusal)
{
    text_append(text, "{\"code\":%d,\"message\":", refusal->code);
    text_append_json(text, cut(refusal->message));
    if (refusal->retry_ns > 0) {
        text_append(text, ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":");
        append_duration(text, refusal->retry_ns);
        text_append(text, "}]");
    }
    text_append(text, "}");
}

struct buffer *http_refusal_body(enum http_format format, const struct answer_status *refusal)
{
    uint8_t bytes[RPC_STATUS_BYTES_MAX];
    struct text text = {0};

    switch (format) {
    case HTTP_PROTOBUF:
        return buffer_of(bytes, rpc_status_write(refusal->code, refusal->message, refusal->retry_ns, bytes));
    case HTTP_JSON:
        append_status(&text, refusal);
        break;
    case HTTP_TEXT:
        text_append_slice(&text, cut(refusal->message));
        text_append(&text, "\n");
        break;
    }
    return buffer_of_text(&text);
}

struct buffer *http_success_body(enum http_format format, uint64_t rejected, const char *message)
{
    uint8_t bytes[RPC_STATUS_BYTES_MAX];
    struct text text = {0};

    if (format == HTTP_PROTOBUF)
        return buffer_of(bytes, rejected > 0 ? partial_success_write(rejected, message, bytes) : 0);
    text_append(&text, "{");
    if (rejected > 0) {
        text_append(&text, "\"partialSuccess\":{\"rejectedSpans\":\"%" PRIu64 "\",\"errorMessage\":", rejected);
        text_append_json(&text, cut(message));
        text_append(&text, "}");
    }
    text_append(&text, "}");
    return buffer_of_text(&text);
}
