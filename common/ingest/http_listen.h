/* Sockets to listen on. */
#pragma once

#include <stddef.h>

#define HTTP_LISTEN_MAX 8u /* addresses of one host name, such as localhost's two */

/* endpoint: host:port, [v6]:port; port 0: any free one, the same for every address. 0 and the sockets, which are the caller's, or
 * -errno with the reason in out_error. */
int http_listen(const char *endpoint, int out_fds[HTTP_LISTEN_MAX], size_t *out_count, int *out_port, char *out_error, size_t error_size);
