#include "common/ingest/http_stream.h"

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "common/base/error.h"
#include "common/base/num.h"
#include "common/security/tls.h"

int http_stream_init(struct http_stream *stream, int fd, struct tls *tls)
{
    SSL_CTX *context;

    *stream = (struct http_stream){.fd = fd};
    if (!tls)
        return 0;
    context = tls_ssl_ctx(tls);
    stream->ssl = context ? SSL_new(context) : NULL;
    SSL_CTX_free(context);
    if (!stream->ssl || !SSL_set_fd(stream->ssl, fd)) {
        http_stream_close(stream);
        return error_raise(-ENOMEM);
    }
    /* Idle connections give their 34 KiB of buffers back; an answer that went out in part goes on from wherever its rest lies. */
    SSL_set_mode(stream->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_set_accept_state(stream->ssl);
    return 0;
}

/* What a call of the library that did not do its work means. */
static ssize_t ssl_outcome(struct http_stream *stream, int result)
{
    int saved = errno;

    switch (SSL_get_error(stream->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        stream->wants_read = true;
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        stream->wants_write = true;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        return saved > 0 ? -saved : -EPROTO;
    default:
        ERR_clear_error();
        return -EPROTO;
    }
}

static ssize_t socket_read(int fd, void *out, size_t size)
{
    ssize_t n;

    do
        n = recv(fd, out, size, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t http_stream_read(struct http_stream *stream, void *out, size_t size)
{
    int n;

    stream->wants_write = stream->wants_read = false;
    if (!stream->ssl)
        return socket_read(stream->fd, out, size);
    ERR_clear_error();
    errno = 0;
    n = SSL_read(stream->ssl, out, (int)size_min(size, INT_MAX));
    return n > 0 ? n : ssl_outcome(stream, n);
}

ssize_t http_stream_write(struct http_stream *stream, struct slice bytes)
{
    ssize_t n;

    stream->wants_write = stream->wants_read = false;
    if (stream->ssl) {
        ERR_clear_error();
        errno = 0;
        n = SSL_write(stream->ssl, bytes.at, (int)size_min(bytes.len, INT_MAX));
        if (n > 0)
            return n;
        n = ssl_outcome(stream, (int)n);
        return n == 0 ? -EPIPE : n;
    }
    do
        n = send(stream->fd, bytes.at, bytes.len, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n == -1 && errno == EAGAIN)
        stream->wants_write = true;
    return n < 0 ? -errno : n;
}

bool http_stream_has_part(const struct http_stream *stream)
{
    return stream->ssl && SSL_is_init_finished(stream->ssl) && SSL_has_pending(stream->ssl);
}

void http_stream_finish(struct http_stream *stream)
{
    if (stream->ssl) {
        ERR_clear_error();
        (void)SSL_shutdown(stream->ssl); /* says so to the peer, and does not wait for its word */
    }
    (void)shutdown(stream->fd, SHUT_WR);
}

ssize_t http_stream_discard(struct http_stream *stream, void *scratch, size_t size)
{
    return socket_read(stream->fd, scratch, size);
}

void http_stream_close(struct http_stream *stream)
{
    if (stream->ssl) {
        SSL_set_quiet_shutdown(stream->ssl, 1);
        SSL_free(stream->ssl);
    }
    if (stream->fd >= 0)
        close(stream->fd);
    *stream = (struct http_stream){.fd = -1};
}
