#include "common/ingest/http_listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/error.h"

#define BACKLOG 1024 /* connections that wait for the loop: a fleet of clients comes at once after a restart */

/* Two processes must not share a port silently: no SO_REUSEPORT. */
static int listen_on(const struct addrinfo *info, int port, int *out_fd)
{
    struct sockaddr_storage address;
    const int one = 1, both = 0;
    int fd, r;

    memcpy(&address, info->ai_addr, info->ai_addrlen);
    if (address.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&address)->sin6_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)port);
    fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (address.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)&address)->sin6_addr))
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof(both));
    if (bind(fd, (struct sockaddr *)&address, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *out_fd = fd;
    return 0;
}

static int port_of(int fd)
{
    struct sockaddr_storage own;
    socklen_t len = sizeof(own);

    if (getsockname(fd, (struct sockaddr *)&own, &len) < 0)
        return 0;
    return ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port : ((struct sockaddr_in *)&own)->sin_port);
}

static bool split(char *text, const char **out_host, int *out_port)
{
    char *colon = strrchr(text, ':'), *end;
    long port;

    if (!colon || colon[1] == '\0')
        return false;
    port = strtol(colon + 1, &end, 10);
    if (*end != '\0' || port < 0 || port > 65535)
        return false;
    *colon = '\0';
    if (text[0] == '[' && colon > text + 1 && colon[-1] == ']') {
        colon[-1] = '\0';
        text++;
    }
    *out_host = text;
    *out_port = (int)port;
    return true;
}

static int listen_all(const struct addrinfo *found, int port, int *fds, size_t *out_count, int *out_port)
{
    size_t count = 0;
    int r = -EADDRNOTAVAIL;

    for (const struct addrinfo *info = found; info && count < HTTP_LISTEN_MAX; info = info->ai_next) {
        r = listen_on(info, port, &fds[count]);
        if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL) /* localhost has ::1 also where the kernel has no IPv6 */
            continue;
        if (r < 0)
            break;
        port = port_of(fds[count++]);
    }
    if (count > 0 && (r == 0 || r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)) {
        *out_count = count;
        *out_port = port;
        return 0;
    }
    while (count > 0)
        close(fds[--count]);
    return r;
}

int http_listen(const char *endpoint, int out_fds[HTTP_LISTEN_MAX], size_t *out_count, int *out_port, char *out_error, size_t error_size)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char *text = strdup(endpoint);
    const char *host = NULL, *why = "expected host:port";
    int port = 0, r = -EINVAL;

    if (!text)
        return error_raise(-ENOMEM);
    if (split(text, &host, &port)) {
        r = getaddrinfo(host[0] ? host : "::", "0", &hints, &found);
        if (r) {
            why = gai_strerror(r);
            r = -EADDRNOTAVAIL;
        } else {
            r = listen_all(found, port, out_fds, out_count, out_port);
            freeaddrinfo(found);
            why = strerror(-r);
        }
    }
    if (r)
        (void)snprintf(out_error, error_size, "cannot listen on %s for HTTP: %s", endpoint, why);
    free(text);
    return r ? error_raise(r) : 0;
}
