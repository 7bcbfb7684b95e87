#include "common/cluster/resolve/k8s_watch.h"

#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"

#define LIST_MOST_NS (30 * NS_PER_S)
#define WATCH_GRACE_NS (15 * NS_PER_S)    /* for the server to end a watch, before we do */
#define WATCH_SOON_NS NS_PER_S            /* a watch that is over sooner was none */
#define PAUSE_FIRST_NS (500 * NS_PER_MS)
#define PAUSE_DENIED_NS (8 * NS_PER_S)
#define PAUSE_MOST_NS (30 * NS_PER_S)
#define PAUSE_LEAST_NS (50 * NS_PER_MS)
#define RETRY_AFTER_MOST_S 120u

static uint64_t random_next(struct k8s_watch *watch)
{
    watch->random ^= watch->random << 13;
    watch->random ^= watch->random >> 7;
    watch->random ^= watch->random << 17;
    return watch->random;
}

static uint64_t random_below(struct k8s_watch *watch, uint64_t limit)
{
    return limit > 0 ? random_next(watch) % limit : 0;
}

void k8s_watch_init(struct k8s_watch *watch, uint64_t timeout_ns, uint64_t seed, uint64_t now_ns)
{
    ASSERT(seed != 0);
    *watch = (struct k8s_watch){.step = K8S_LIST, .due_ns = now_ns, .timeout_ns = u64_max(timeout_ns, NS_PER_S), .random = seed};
}

/* A version may hold anything; in a query only the plainest characters stay as they are. */
static void escape(const char *text, char *out, size_t size)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t len = 0;

    for (; *text && len + 4 < size; text++) {
        uint8_t byte = (uint8_t)*text;

        if ((byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '-') {
            out[len++] = (char)byte;
        } else {
            out[len++] = '%';
            out[len++] = hex[byte >> 4];
            out[len++] = hex[byte & 15];
        }
    }
    out[len] = '\0';
}

uint64_t k8s_watch_begin(struct k8s_watch *watch, const char *service, const char *service_namespace, uint64_t now_ns, char *out_path,
    size_t size)
{
    uint64_t timeout_s = watch->timeout_ns / NS_PER_S;
    char version[3 * K8S_VERSION_SIZE];
    int len;

    watch->began_ns = now_ns;
    watch->opened = watch->said = false;
    len = snprintf(out_path, size,
        "/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices?labelSelector=kubernetes.io%%2Fservice-name%%3D%s", service_namespace,
        service);
    ASSERT(len > 0 && (size_t)len < size);
    if (watch->step == K8S_LIST)
        return u64_min(watch->timeout_ns, LIST_MOST_NS);
    timeout_s -= random_below(watch, timeout_s / 5 + 1); /* balancers that started together do not come back together */
    escape(watch->version, version, sizeof(version));
    len += snprintf(out_path + len, size - (size_t)len, "&watch=1&allowWatchBookmarks=true&resourceVersion=%s&timeoutSeconds=%llu", version,
        (unsigned long long)timeout_s);
    ASSERT((size_t)len < size);
    return timeout_s * NS_PER_S + WATCH_GRACE_NS;
}

static void pause_for(struct k8s_watch *watch, uint64_t first_ns, uint64_t retry_after_s, uint64_t now_ns)
{
    unsigned doubled = watch->failures > 0 ? watch->failures - 1 : 0;
    uint64_t most_ns = u64_min(first_ns << (doubled < 8 ? doubled : 8), PAUSE_MOST_NS);
    uint64_t asked_ns = u64_min(retry_after_s, RETRY_AFTER_MOST_S) * NS_PER_S;
    uint64_t pause_ns = PAUSE_LEAST_NS + random_below(watch, most_ns);

    if (asked_ns > pause_ns) /* not all of those who were asked at the same moment */
        pause_ns = asked_ns + random_below(watch, asked_ns / 10 + 1);
    watch->due_ns = now_ns + pause_ns;
}

void k8s_watch_listed(struct k8s_watch *watch, const char *version, uint64_t now_ns)
{
    (void)snprintf(watch->version, sizeof(watch->version), "%s", version);
    watch->step = K8S_WATCH;
    watch->unauthorized = false;
    watch->due_ns = now_ns;
    if (watch->gone > 1) { /* it gives versions that it then does not know */
        watch->failures++;
        pause_for(watch, PAUSE_FIRST_NS, 0, now_ns);
    }
}

void k8s_watch_opened(struct k8s_watch *watch)
{
    watch->opened = true;
    watch->unauthorized = false;
}

/* Whether what the watch did so far makes up for what failed before it. */
static void forgive(struct k8s_watch *watch, uint64_t now_ns)
{
    if (watch->step != K8S_WATCH || !watch->opened || now_ns - watch->began_ns < WATCH_SOON_NS)
        return;
    watch->failures = 0;
    watch->gone = 0;
}

void k8s_watch_moved(struct k8s_watch *watch, const char *version)
{
    if (version[0])
        (void)snprintf(watch->version, sizeof(watch->version), "%s", version);
    watch->said = true;
    watch->failures = 0;
    watch->gone = 0;
}

bool k8s_watch_ended(struct k8s_watch *watch, uint64_t now_ns)
{
    watch->due_ns = now_ns;
    forgive(watch, now_ns);
    if (watch->said || now_ns - watch->began_ns >= WATCH_SOON_NS)
        return false;
    watch->failures++;
    pause_for(watch, PAUSE_FIRST_NS, 0, now_ns);
    return watch->failures >= 3;
}

bool k8s_watch_failed(struct k8s_watch *watch, unsigned status, uint64_t retry_after_s, uint64_t now_ns)
{
    bool first_401 = status == 401 && !watch->unauthorized;

    forgive(watch, now_ns);
    watch->unauthorized = status == 401;
    if (first_401) {
        watch->due_ns = now_ns;
        return false;
    }
    /* A version that is too old, is from before a restore (504: too large), or that the server cannot read at all: anew, by a list. */
    if (watch->step == K8S_WATCH && (status == 410 || status == 504 || status == 400)) {
        watch->step = K8S_LIST;
        if (++watch->gone == 1) {
            watch->due_ns = now_ns;
            return false;
        }
    }
    watch->failures++;
    pause_for(watch, status == 403 || status == 404 ? PAUSE_DENIED_NS : PAUSE_FIRST_NS, retry_after_s, now_ns);
    return true;
}
