/* A request's body as it came, to the protobuf bytes that a tier reads: content coding, then JSON.
 *
 * Bound   max_bytes for what comes out of each step; zstd and JSON keep scratch memory of their own, one reader a thread.
 * Source  RFC 9110 section 8.4; OTLP specification, OTLP/HTTP
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buffer.h"
#include "common/base/slice.h"
#include "common/ingest/receiver.h"

enum http_coding { HTTP_IDENTITY, HTTP_GZIP, HTTP_ZLIB, HTTP_ZSTD };
/* Content-Encoding; an empty one is identity. False: not understood here. */
bool http_coding_of(struct slice value, enum http_coding *out_coding);

struct http_body_reader;
struct http_body_reader *http_body_reader_new(void); /* NULL: no memory */
void http_body_reader_free(struct http_body_reader *reader); /* accepts NULL */

/* Why a body was refused. */
struct http_body_error {
    enum refusal refusal; /* MALFORMED, ENCODING, TOO_LARGE or MEMORY */
    char message[200];
};
/* Takes the body, and gives the one to read (the same, where nothing was to be done); NULL: refused, and said why. */
struct buffer *http_body_read(struct http_body_reader *reader, struct buffer *body, enum http_coding coding, bool json, size_t max_bytes,
    struct http_body_error *out_error);
