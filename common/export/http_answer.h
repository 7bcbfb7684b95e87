/* What an answer to OTLP over HTTP means to an exporter, which knows gRPC's words only.
 *
 * Codes   429, 502, 503 and 504 are tried again: UNAVAILABLE, because RESOURCE_EXHAUSTED would need a delay to be retried.
 *         413 is RESOURCE_EXHAUSTED, so that what was too large goes in halves. All else but success is final.
 * Source  OTLP specification, "OTLP/HTTP response"; collector otlphttpexporter; RFC 9110, "Retry-After"
 */
#pragma once

#include "common/export/link.h"

#define HTTP_ANSWER_BODY_MAX (64u * 1024) /* more of it is not read */
#define HTTP_MESSAGE_MAX 512u             /* of a message text, with its NUL */

struct http_answer {
    int status;                 /* 200 … */
    struct slice content_type;  /* empty: none */
    struct slice retry_after;
    struct slice body;          /* its first HTTP_ANSWER_BODY_MAX bytes */
};

/* Sets *out_result; its message lies in out_message, its response in the answer's body. */
void http_answer_read(const struct http_answer *answer, uint64_t now_unix_ns, struct link_result *out_result,
    char out_message[HTTP_MESSAGE_MAX]);
/* Retry-After: whole seconds, or a date as RFC 9110 wants them to be sent. False: neither. At most a day. */
bool http_retry_after(struct slice text, uint64_t now_unix_ns, uint64_t *out_ns);
