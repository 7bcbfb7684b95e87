#include "common/config/endpoint.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/config/node.h"

#define HOST_LEN_MAX 253 /* a DNS name; an IPv6 address with its zone is shorter */

static bool port_ok(const char *port, unsigned least)
{
    unsigned value = 0;

    if (!*port || strlen(port) > 5)
        return false;
    for (const char *at = port; *at; at++) {
        if (*at < '0' || *at > '9')
            return false;
        value = value * 10 + (unsigned)(*at - '0');
    }
    return value >= least && value <= 65535;
}

static bool host_ok(const char *host)
{
    size_t len = strlen(host);

    if (len == 0 || len > HOST_LEN_MAX)
        return false;
    return host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")] == '\0';
}

/* What stands in brackets: hexadecimal, colons, an IPv4 tail, a zone. */
static bool ipv6_ok(const char *host)
{
    size_t len = strspn(host, "0123456789abcdefABCDEF:.");

    if (len < 2 || !memchr(host, ':', len) || strlen(host) > HOST_LEN_MAX)
        return false;
    return host[len] == '\0' || (host[len] == '%' && host_ok(host + len + 1));
}

static const char *fail(struct config_context *context, const struct config_node *node, const char *text, const char *why)
{
    const char *at = strrchr(text, '@'); /* what is before it may be a password */

    (void)config_error(context, node, "\"%s%.200s\" is no address of the form host:port: %s", at ? "[REDACTED]" : "", at ? at : text, why);
    return NULL;
}

/* Splits at the colon before the port; brackets are taken off the host. */
static const char *check(struct config_context *context, const struct config_node *node, const char *whole, const char *text,
    const char *default_port, const char *any_host, unsigned least_port)
{
    char *host = context_text(context, text, strlen(text));
    const char *port = default_port;
    char *colon, *result;
    bool brackets = host[0] == '[';
    uint8_t v4[4];
    size_t size;

    if (brackets) {
        char *close = strchr(host, ']');

        if (!close)
            return fail(context, node, whole, "the bracket is not closed");
        host++;
        *close = '\0';
        if (close[1] == ':')
            port = close + 2;
        else if (close[1])
            return fail(context, node, whole, "after the bracket a port is expected, as in [::1]:4317");
        if (inet_pton(AF_INET, host, v4) == 1)
            brackets = false; /* as in Go: "[${env:POD_IP}]:4317" holds for either family */
        else if (!ipv6_ok(host))
            return fail(context, node, whole, "what stands in brackets is no IP address");
    } else {
        colon = strchr(host, ':');
        if (colon && strchr(colon + 1, ':'))
            return fail(context, node, whole, "put an IPv6 address in brackets, as in [::1]:4317");
        if (colon) {
            *colon = '\0';
            port = colon + 1;
        }
        if (!*host && any_host) {
            host = context_text(context, any_host, strlen(any_host));
            brackets = true;
        } else if (!host_ok(host)) {
            return fail(context, node, whole, *host ? "the host has characters that no host name has" : "the host is missing");
        }
    }
    if (!port)
        return fail(context, node, whole, "the port is missing");
    if (!port_ok(port, least_port))
        return fail(context, node, whole, "the port is no number from 1 to 65535");
    size = strlen(host) + strlen(port) + 4;
    result = config_alloc(context, size);
    (void)snprintf(result, size, brackets ? "[%s]:%s" : "%s:%s", host, port);
    return result;
}

const char *endpoint_listen(struct config_context *context, const struct config_node *node, const char *text)
{
    return check(context, node, text, text, NULL, "::", 0);
}

const char *endpoint_call(
    struct config_context *context, const struct config_node *node, const char *text, const char *default_port)
{
    static const char *const schemes[] = {"http://", "https://", "dns:///", NULL};
    const char *at = text;

    for (size_t i = 0; schemes[i]; i++) {
        if (strncmp(text, schemes[i], strlen(schemes[i])) == 0)
            at = text + strlen(schemes[i]);
    }
    if (strstr(at, "://"))
        return fail(context, node, text, "of schemes only http://, https:// and dns:/// are understood");
    return check(context, node, text, at, default_port, NULL, 1);
}

static bool is_http_scheme(const char *text)
{
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

/* Printable ASCII without blanks, quotes and a fragment. */
static bool url_bytes_ok(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text <= 0x20 || (unsigned char)*text > 0x7e || strchr("\"<>\\^`{|}#", *text))
            return false;
    }
    return true;
}

const char *endpoint_url(struct config_context *context, const struct config_node *node, const char *text, const char *path)
{
    const char *host = strstr(text, "://");
    size_t len = strlen(text), host_len, size;
    char *url;

    if (!is_http_scheme(text)) {
        (void)config_error(context, node, "expected a URL that begins with http:// or https://");
        return NULL;
    }
    host += 3;
    host_len = strcspn(host, "/?");
    if (memchr(host, '@', host_len)) {
        (void)config_error(context, node, "not supported: credentials in a URL; use `auth` with the extension basicauth");
        return NULL;
    }
    if (!url_bytes_ok(text) || host_len == 0 || (*path && strchr(text, '?'))) {
        (void)config_error(context, node, "\"%.200s\" is no URL such as https://tempo:4318", text);
        return NULL;
    }
    /* The host alone must be one that could be called; the port may be left to the scheme. */
    url = context_text(context, host, host_len);
    if (!check(context, node, text, url, text[4] == 's' ? "443" : "80", NULL, 1))
        return NULL;
    while (*path && len > 0 && text[len - 1] == '/')
        len--;
    size = len + strlen(path) + 1;
    url = config_alloc(context, size);
    (void)snprintf(url, size, "%.*s%s", (int)len, text, path);
    return url;
}

bool endpoint_proxy_ok(const char *text)
{
    return (is_http_scheme(text) || strncmp(text, "socks5://", 9) == 0) && url_bytes_ok(text) && strstr(text, "://")[3] != '\0';
}
