/* HTTP/1.0 and 1.1 requests, as far as an OTLP receiver needs them: the head in one piece, and bodies sent in chunks.
 *
 * Strict  lines end with CRLF; no folded lines; one Content-Length, or one Transfer-Encoding that says `chunked`, never both: what
 *         proxies could read in two ways is refused.
 * Bound   HTTP_HEAD_BYTES_MAX and HTTP_HEADERS_MAX for a head; a chunk's line and all trailers are bounded, and thrown away.
 * Source  RFC 9110, RFC 9112
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"

#define HTTP_HEAD_BYTES_MAX (64u * 1024) /* as large as common proxies pass on */
#define HTTP_HEADERS_MAX 100u

struct http_header {
    struct slice name, value; /* value: without blanks at its ends */
};

/* Slices into the bytes it was read from. */
struct http_head {
    struct slice method, path; /* path: without query; as sent, escapes are not read */
    unsigned minor;            /* HTTP/1.minor */
    bool keep_alive, expect_continue, chunked, has_length;
    uint64_t content_length;
    size_t header_count;
    struct http_header headers[HTTP_HEADERS_MAX];
    const char *error;         /* why it was refused */
};

#define HTTP_HEAD_E_MORE 1
#define HTTP_HEAD_E_BAD 2 /* these bytes never become a request */
/* Looks for the end of a head. *scanned: bytes looked at before, 0 first. Empty lines before a head are taken off by the caller (RFC
 * 9112 section 2.2). 0 and the head's length, or one of the above. */
int http_head_find(struct slice bytes, size_t *scanned, size_t *out_len);
/* Reads a head that http_head_find found, its empty line included. 0, or the status to answer (400, 431, 501, 505) with out->error. */
int http_head_parse(struct slice bytes, struct http_head *out);
/* Letters in any case. */
bool http_same_word(struct slice text, const char *word);
/* The first header of that name (any case); NULL when there is none. */
const struct http_header *http_head_find_header(const struct http_head *head, const char *name);
/* Its value, or an empty slice. */
struct slice http_head_value(const struct http_head *head, const char *name);

/* A body in chunks. All zero at the start. */
struct http_chunks {
    enum {
        CHUNK_SIZE_FIRST, CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_SIZE_LF, CHUNK_DATA, CHUNK_DATA_CR, CHUNK_DATA_LF, CHUNK_TRAILER_FIRST,
        CHUNK_TRAILER, CHUNK_TRAILER_LF, CHUNK_END_LF, CHUNK_OVER,
    } state;
    uint64_t left;        /* of this chunk */
    uint32_t line_bytes;  /* of this chunk's line, or of all trailers */
};

enum http_chunk { HTTP_CHUNK_MORE, HTTP_CHUNK_DATA, HTTP_CHUNK_END, HTTP_CHUNK_BAD };
/* Goes on until there is data, or the end, or nothing left to read. *out_taken: bytes of `bytes` that are done with, those of
 * *out_data among them. */
enum http_chunk http_chunks_read(struct http_chunks *chunks, struct slice bytes, size_t *out_taken, struct slice *out_data);
