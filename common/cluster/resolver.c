/* host, host:port, v4, v4:port, v6, [v6], [v6]:port. A text with two or more colons and no bracket can only be an
 * IPv6 address without port, which the Collector leaves undialable. */
#include "common/cluster/resolver.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/slice.h"

#define NAME_LEN_MAX 253 /* of a DNS name, RFC 1035 section 2.3.4 */

static struct slice without_scheme(const char *text)
{
    static const char *const schemes[] = {"http://", "https://", "dns:///"};

    for (size_t i = 0; i < ARRAY_COUNT(schemes); i++) {
        size_t len = strlen(schemes[i]);

        if (strncmp(text, schemes[i], len) == 0)
            return slice_text(text + len);
    }
    return slice_text(text);
}

static bool port_read(struct slice text, unsigned *out_port)
{
    unsigned port = 0;

    if (text.len == 0 || text.len > 5)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        port = port * 10 + (unsigned)(text.at[i] - '0');
    }
    if (port == 0 || port > 65535)
        return false;
    *out_port = port;
    return true;
}

static bool name_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/* Writes the host in lower case. */
static bool name_read(struct slice text, char *out_host)
{
    if (text.len == 0 || text.len > NAME_LEN_MAX || text.at[0] == '.' || text.at[0] == '-')
        return false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];

        if (c >= 'A' && c <= 'Z')
            c = (uint8_t)(c - 'A' + 'a');
        if (!name_char(c) || (c == '.' && i > 0 && text.at[i - 1] == '.'))
            return false;
        out_host[i] = (char)c;
    }
    out_host[text.len] = 0;
    return true;
}

/* Writes the address in brackets, in the one form RFC 5952 allows; a zone (%eth0) stays as it is. */
static bool v6_read(struct slice text, char *out_host, size_t size)
{
    const uint8_t *percent = text.len ? memchr(text.at, '%', text.len) : NULL;
    struct slice zone = slice_make("", 0);
    char spelled[INET6_ADDRSTRLEN], shortest[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (percent) {
        zone = slice_make(percent, (size_t)(text.at + text.len - percent));
        text.len -= zone.len;
        if (zone.len < 2 || zone.len > 32)
            return false;
        for (size_t i = 1; i < zone.len; i++) {
            if (!name_char(zone.at[i]) && !(zone.at[i] >= 'A' && zone.at[i] <= 'Z'))
                return false;
        }
    }
    if (text.len >= sizeof(spelled))
        return false;
    memcpy(spelled, text.at, text.len);
    spelled[text.len] = 0;
    if (inet_pton(AF_INET6, spelled, &address) != 1 ||
        !inet_ntop(AF_INET6, &address, shortest, sizeof(shortest)))
        return false;
    return snprintf(out_host, size, "[%s%.*s]", shortest, (int)zone.len, (const char *)zone.at) < (int)size;
}

bool resolver_address(const char *text, unsigned default_port, char *out_address, size_t size)
{
    struct slice all = text ? without_scheme(text) : slice_make("", 0), host = all, rest = slice_make("", 0);
    unsigned port = default_port;
    char name[NAME_LEN_MAX + 1], address[NAME_LEN_MAX + sizeof(":65535")];
    bool v6 = false;
    int len;

    if (all.len == 0)
        return false;
    if (all.at[0] == '[') {
        const uint8_t *close = memchr(all.at, ']', all.len);

        if (!close)
            return false;
        v6 = true;
        host = slice_make(all.at + 1, (size_t)(close - all.at) - 1);
        rest = slice_make(close + 1, all.len - host.len - 2);
    } else {
        const uint8_t *colon = memchr(all.at, ':', all.len);

        if (colon) {
            host.len = (size_t)(colon - all.at);
            rest = slice_make(colon, all.len - host.len);
            v6 = memchr(rest.at + 1, ':', rest.len - 1) != NULL;
        }
        if (v6) {
            host = all;
            rest.len = 0;
        }
    }

    if (rest.len > 0 && (rest.at[0] != ':' || !port_read(slice_make(rest.at + 1, rest.len - 1), &port)))
        return false;
    if (!(v6 ? v6_read(host, name, sizeof(name)) : name_read(host, name)))
        return false;
    len = snprintf(address, sizeof(address), "%s:%u", name, port);
    if (len < 0 || (size_t)len >= sizeof(address) || (size_t)len >= size)
        return false;
    memcpy(out_address, address, (size_t)len + 1);
    return true;
}
