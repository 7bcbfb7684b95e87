#include "common/export/http_answer.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/base/num.h"
#include "common/export/rpc_code.h"
#include "common/otlp/wire.h"

#define RETRY_SECONDS_MAX 86400u
#define BODY_SHOWN 200 /* bytes of a body that is no Status */

static int code_of(int status)
{
    switch (status) {
    case 400:
        return RPC_INVALID_ARGUMENT;
    case 401:
        return RPC_UNAUTHENTICATED;
    case 403:
        return RPC_PERMISSION_DENIED;
    case 404:
    case 405:
    case 415:
        return RPC_UNIMPLEMENTED;
    case 413:
        return RPC_RESOURCE_EXHAUSTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return RPC_UNAVAILABLE;
    case 500:
        return RPC_INTERNAL;
    default:
        return status >= 200 && status < 300 ? RPC_OK : RPC_UNKNOWN;
    }
}

/* -- Retry-After -------------------------------------------------------------------------------------------- */

static bool seconds_read(struct slice text, uint64_t *out_seconds)
{
    uint64_t seconds = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        seconds = u64_min(seconds * 10 + (uint64_t)(text.at[i] - '0'), RETRY_SECONDS_MAX);
    }
    *out_seconds = seconds;
    return text.len > 0;
}

static bool date_read(struct slice text, uint64_t now_unix_ns, uint64_t *out_seconds)
{
    char date[40];
    struct tm tm = {0};
    const char *end;
    time_t at;

    if (text.len >= sizeof(date))
        return false;
    memcpy(date, text.at, text.len);
    date[text.len] = '\0';
    end = strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    if (!end || *end != '\0')
        return false;
    at = timegm(&tm);
    *out_seconds = at > 0 ? u64_min(u64_sub_floor((uint64_t)at, now_unix_ns / NS_PER_S), RETRY_SECONDS_MAX) : 0;
    return true;
}

bool http_retry_after(struct slice text, uint64_t now_unix_ns, uint64_t *out_ns)
{
    uint64_t seconds;

    if (!seconds_read(text, &seconds) && (text.len == 0 || !date_read(text, now_unix_ns, &seconds)))
        return false;
    *out_ns = seconds * NS_PER_S;
    return true;
}

/* -- what the server says --------------------------------------------------------------------------------------- */

static bool type_is(struct slice content_type, const char *type)
{
    size_t len = strlen(type);

    return content_type.len >= len && strncasecmp((const char *)content_type.at, type, len) == 0;
}

/* google.rpc.Status in protobuf: field 2. */
static struct slice status_message(struct slice body)
{
    struct slice message = slice_make("", 0);
    struct wire w = wire_of(body);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(2, WIRE_BYTES))
            message = wire_bytes(&w);
        else
            wire_skip(&w, tag);
    }
    return w.bad ? slice_make("", 0) : message;
}

/* ... and in JSON: "message". Written to out; false: it is none. */
static bool json_message(struct slice body, char *out, size_t size)
{
    json_t *root = json_loadb((const char *)body.at, body.len, JSON_ALLOW_NUL, NULL);
    const json_t *message = json_object_get(root, "message");
    bool found = json_is_string(message);

    if (found)
        (void)snprintf(out, size, "%s", json_string_value(message));
    json_decref(root);
    return found;
}

static void message_write(const struct http_answer *answer, char out[HTTP_MESSAGE_MAX])
{
    int at = snprintf(out, HTTP_MESSAGE_MAX, "HTTP %d", answer->status);
    struct slice shown = answer->body;

    if (answer->body.len == 0)
        return;
    at += snprintf(out + at, HTTP_MESSAGE_MAX - (size_t)at, ": ");
    if (type_is(answer->content_type, "application/json") && json_message(answer->body, out + at, HTTP_MESSAGE_MAX - (size_t)at))
        return;
    if (type_is(answer->content_type, "application/x-protobuf"))
        shown = status_message(answer->body);
    (void)snprintf(out + at, HTTP_MESSAGE_MAX - (size_t)at, "%.*s", (int)size_min(shown.len, BODY_SHOWN), (const char *)shown.at);
}

void http_answer_read(const struct http_answer *answer, uint64_t now_unix_ns, struct link_result *out_result,
    char out_message[HTTP_MESSAGE_MAX])
{
    *out_result = (struct link_result){.code = code_of(answer->status)};
    out_result->too_large = answer->status == 413;
    out_message[0] = '\0';
    if (out_result->code == RPC_OK) {
        if (answer->content_type.len == 0 || type_is(answer->content_type, "application/x-protobuf"))
            out_result->response = answer->body;
        return;
    }
    if (answer->status == 429 || answer->status == 503)
        out_result->has_retry = http_retry_after(answer->retry_after, now_unix_ns, &out_result->retry_ns);
    message_write(answer, out_message);
    out_result->message = slice_text(out_message);
}
