#include "sampler/handoff/advertise.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

/* The host of host:port as it stands there, IPv6 in brackets; false: it stands for every address. */
static bool own_host(const char *endpoint, char *out_host, size_t size)
{
    static const char *const every[] = {"0.0.0.0", "[::]", "", "[::0]"};
    const char *colon = strrchr(endpoint, ':');

    if (!colon || (size_t)(colon - endpoint) >= size)
        return false;
    (void)snprintf(out_host, size, "%.*s", (int)(colon - endpoint), endpoint);
    for (size_t i = 0; i < sizeof(every) / sizeof(every[0]); i++) {
        if (strcmp(out_host, every[i]) == 0)
            return false;
    }
    return true;
}

static bool usable(const struct ifaddrs *entry, int family)
{
    return entry->ifa_addr && entry->ifa_addr->sa_family == family && (entry->ifa_flags & IFF_UP) && !(entry->ifa_flags & IFF_LOOPBACK);
}

static bool address_text(const struct sockaddr *address, char *out_host, size_t size)
{
    char text[INET6_ADDRSTRLEN];
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof(v4));
        return inet_ntop(AF_INET, &v4.sin_addr, out_host, (socklen_t)size) != NULL;
    }
    memcpy(&v6, address, sizeof(v6));
    if (IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr) || !inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text)))
        return false;
    return snprintf(out_host, size, "[%s]", text) < (int)size;
}

static bool machine_host(char *out_host, size_t size)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct ifaddrs *all = NULL;
    bool found = false;

    if (getifaddrs(&all))
        return false;
    for (size_t i = 0; i < 2 && !found; i++) {
        for (const struct ifaddrs *entry = all; entry && !found; entry = entry->ifa_next)
            found = usable(entry, families[i]) && address_text(entry->ifa_addr, out_host, size);
    }
    freeifaddrs(all);
    return found;
}

bool advertise_address(const char *endpoint, int port, char *out_address, size_t size)
{
    char host[256];
    int len;

    if (!own_host(endpoint, host, sizeof(host)) && !machine_host(host, sizeof(host)))
        (void)snprintf(host, sizeof(host), "127.0.0.1");
    len = snprintf(out_address, size, "%s:%d", host, port);
    return len > 0 && (size_t)len < size;
}
