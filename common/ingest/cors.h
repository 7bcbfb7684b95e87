/* Which web pages may send to us from a browser, and what their browsers are told.
 *
 * Off unless allowed_origins names somebody: then nothing here is answered.
 * Source  Fetch standard, "CORS protocol"; collector confighttp `cors` (credentials allowed; Accept, Accept-Language, Content-Type and
 *         Content-Language always allowed)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/base/slice.h"
#include "common/config/otlp_config.h"

struct http_head;

/* A pattern is an origin in which `*` stands for any characters; letters in any case. */
bool cors_pattern_matches(const char *pattern, struct slice origin);
bool cors_origin_allowed(const struct cors_config *cors, struct slice origin);
/* A list as in Access-Control-Request-Headers: each name is allowed. */
bool cors_headers_allowed(const struct cors_config *cors, struct slice names);

/* An OPTIONS request that asks whether another may be sent. */
bool cors_is_preflight(const struct cors_config *cors, const struct http_head *head);
/* Header lines, each with its CRLF, for the answer to a preflight, and for that to any other request. Returns their size; what does
 * not fit is left out whole. */
size_t cors_preflight_headers(const struct cors_config *cors, const struct http_head *head, char *out, size_t size);
size_t cors_headers(const struct cors_config *cors, const struct http_head *head, char *out, size_t size);
