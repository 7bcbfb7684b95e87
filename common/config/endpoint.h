/* host:port, taken apart and checked. */
#pragma once

#include <stdbool.h>

#include "common/config/config.h"

/* Checks an address to listen on or to call and brings it to the form host:port, IPv6 in brackets; an IPv4 address may stand in
 * brackets too, and loses them. node: where it was written, for messages. A listener may say `:4317` (every address, becomes
 * [::]:4317) and port 0 (any free one); an address to call may carry http://, https:// or dns:///, which are taken off, and lacks a
 * port only when default_port is given ("4317").
 * Returns NULL after an error was reported. */
const char *endpoint_listen(struct config_context *context, const struct config_node *node, const char *text);
const char *endpoint_call(
    struct config_context *context, const struct config_node *node, const char *text, const char *default_port);
/* Checks the URL of an OTLP/HTTP backend and adds path to it (a slash at its end is taken off first). NULL after an error. */
const char *endpoint_url(struct config_context *context, const struct config_node *node, const char *text, const char *path);
/* http://, https:// or socks5://; what follows may hold credentials and is not shown in messages. */
bool endpoint_proxy_ok(const char *text);
