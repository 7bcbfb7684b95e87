/* The bytes of one connection, in plain text or over TLS, without blocking: what a caller sees is the same. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/base/slice.h"

struct ssl_st;
struct tls;

struct http_stream {
    int fd;
    struct ssl_st *ssl;  /* NULL: plain text */
    bool wants_write;    /* TLS: reading goes on when the socket can be written; or the other way round */
    bool wants_read;
};

/* Takes fd. tls: NULL for plain text. 0, or -ENOMEM: then fd is closed. */
int http_stream_init(struct http_stream *stream, int fd, struct tls *tls);
/* > 0 bytes, 0: the peer sends no more, -EAGAIN: later, or another -errno (-EPROTO: TLS failed). */
ssize_t http_stream_read(struct http_stream *stream, void *out, size_t size);
ssize_t http_stream_write(struct http_stream *stream, struct slice bytes);
/* Under TLS: some of a record has come of which read has not given anything. */
bool http_stream_has_part(const struct http_stream *stream);
/* Nothing is written any more; what comes is thrown away by http_stream_discard, which is as http_stream_read. */
void http_stream_finish(struct http_stream *stream);
ssize_t http_stream_discard(struct http_stream *stream, void *scratch, size_t size);
void http_stream_close(struct http_stream *stream);
