/* A slice is read into a struct of its own before the old one of that name goes, so that what cannot be read changes nothing.
 *
 * The list of addresses is made by sorting: all endpoints by pod, then by uid and address, which brings together what slices say of one
 * pod's life; of these runs the best stands for the pod. */
#include "common/cluster/resolve/k8s_slices.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/base/error.h"
#include "common/base/num.h"

enum family { FAMILY_IPV4, FAMILY_IPV6, FAMILY_NAME };

struct endpoint {
    char name[254];     /* of the pod; "": none is known */
    char hostname[64];
    char uid[64];
    char host[254];     /* an IP address, or a name */
    bool serving, terminating;
};

struct k8s_slice {
    struct list node;
    char name[254];
    enum family family;
    uint64_t turn;
    unsigned ports[K8S_PORTS_MAX]; /* of those that are wanted; 0: this slice has none such */
    char port_names[160];          /* those that it has, for messages */
    size_t count;
    struct endpoint endpoints[];
};

/* -- small readers of JSON ---------------------------------------------------------------------------------------- */

static void json_release(json_t *json)
{
    json_decref(json);
}
CLEANUP_DEFINE(json_t, json_release);

static json_t *json_of(struct slice text)
{
    return text.len > 0 ? json_loadb((const char *)text.at, text.len, 0, NULL) : NULL;
}

/* "" where there is none, or one that does not fit. */
static void copy_text(const json_t *json, char *out, size_t size)
{
    const char *text = json_string_value(json);
    size_t len = json_string_length(json);

    out[0] = '\0';
    if (text && len < size)
        memcpy(out, text, len + 1);
}

static bool tri_state(const json_t *conditions, const char *name, bool unsaid)
{
    const json_t *value = json_object_get(conditions, name);

    return json_is_boolean(value) ? json_is_true(value) : unsaid;
}

/* A name that could be part of an address; anything else is treated as none. */
static bool name_ok(const char *name)
{
    char address[300];

    return name[0] && !strpbrk(name, ":/[]") && resolver_address(name, 1, address, sizeof(address));
}

/* -- one slice ----------------------------------------------------------------------------------------------------- */

static unsigned number_of(const char *port)
{
    return strspn(port, "0123456789") == strlen(port) ? (unsigned)strtoul(port, NULL, 10) : 0;
}

/* The port of that name; 0: the slice has no such, or one without a number. */
static unsigned port_named(const json_t *ports, const char *name)
{
    size_t index;
    const json_t *port;

    json_array_foreach(ports, index, port) {
        const char *is = json_string_value(json_object_get(port, "name")), *protocol = json_string_value(json_object_get(port, "protocol"));
        json_int_t number = json_integer_value(json_object_get(port, "port"));

        if (strcmp(is ? is : "", name) == 0 && (!protocol || strcmp(protocol, "TCP") == 0) && number > 0 && number <= 65535)
            return (unsigned)number;
    }
    return 0;
}

static void read_ports(const struct k8s_selection *want, const json_t *ports, struct k8s_slice *slice)
{
    size_t index, len = 0;
    const json_t *port;

    for (size_t i = 0; i < want->port_count; i++)
        slice->ports[i] = number_of(want->ports[i]) ? number_of(want->ports[i]) : port_named(ports, want->ports[i]);
    if (want->port_count == 0)
        slice->ports[0] = RESOLVER_DEFAULT_PORT;
    json_array_foreach(ports, index, port) {
        const char *name = json_string_value(json_object_get(port, "name"));

        if (name && len < sizeof(slice->port_names))
            len += (size_t)snprintf(slice->port_names + len, sizeof(slice->port_names) - len, "%s%.60s", len ? ", " : "", name);
    }
}

static bool host_ok(enum family family, const char *host)
{
    uint8_t address[16];

    switch (family) {
    case FAMILY_IPV4:
        return inet_pton(AF_INET, host, address) == 1;
    case FAMILY_IPV6:
        return inet_pton(AF_INET6, host, address) == 1;
    case FAMILY_NAME:
        return name_ok(host);
    }
    return false;
}

/* False: an endpoint that nobody could call. */
static bool read_endpoint(enum family family, const json_t *json, struct endpoint *endpoint)
{
    const json_t *conditions = json_object_get(json, "conditions"), *target = json_object_get(json, "targetRef");
    bool ready = tri_state(conditions, "ready", true);

    *endpoint = (struct endpoint){0};
    copy_text(json_array_get(json_object_get(json, "addresses"), 0), endpoint->host, sizeof(endpoint->host));
    if (!host_ok(family, endpoint->host))
        return false;
    endpoint->serving = tri_state(conditions, "serving", ready);
    endpoint->terminating = tri_state(conditions, "terminating", false);
    copy_text(json_object_get(json, "hostname"), endpoint->hostname, sizeof(endpoint->hostname));
    if (!name_ok(endpoint->hostname))
        endpoint->hostname[0] = '\0';
    copy_text(json_object_get(target, "uid"), endpoint->uid, sizeof(endpoint->uid));
    copy_text(json_object_get(target, "name"), endpoint->name, sizeof(endpoint->name));
    if (endpoint->hostname[0])
        memcpy(endpoint->name, endpoint->hostname, sizeof(endpoint->hostname));
    if (!name_ok(endpoint->name))
        endpoint->name[0] = '\0';
    return true;
}

static bool read_family(const json_t *type, enum family *out_family)
{
    static const char *const types[] = {"IPv4", "IPv6", "FQDN"};

    for (unsigned i = 0; i < ARRAY_COUNT(types); i++) {
        if (json_is_string(type) && strcmp(json_string_value(type), types[i]) == 0) {
            *out_family = (enum family)i;
            return true;
        }
    }
    return false;
}

/* 0, K8S_E_GARBAGE, K8S_E_TOO_MANY or -ENOMEM. A slice of an address type that we do not know is one without endpoints. */
static int slice_read(const struct k8s_selection *want, const json_t *json, struct k8s_slice **out_slice)
{
    const json_t *endpoints = json_object_get(json, "endpoints"), *ports = json_object_get(json, "ports"), *endpoint;
    const json_t *name = json_object_get(json_object_get(json, "metadata"), "name");
    size_t most = json_array_size(endpoints), index;
    struct k8s_slice *slice;

    if (!json_is_string(name) || json_string_length(name) == 0 || json_string_length(name) >= sizeof(slice->name) ||
        (endpoints && !json_is_array(endpoints) && !json_is_null(endpoints)) || (ports && !json_is_array(ports) && !json_is_null(ports)))
        return K8S_E_GARBAGE;
    if (most > K8S_ENDPOINTS_MAX)
        return K8S_E_TOO_MANY;
    slice = calloc(1, sizeof(*slice) + most * sizeof(slice->endpoints[0]));
    if (!slice)
        return error_raise(-ENOMEM);
    memcpy(slice->name, json_string_value(name), json_string_length(name) + 1);
    read_ports(want, ports, slice);
    if (read_family(json_object_get(json, "addressType"), &slice->family)) {
        json_array_foreach(endpoints, index, endpoint)
            slice->count += read_endpoint(slice->family, endpoint, &slice->endpoints[slice->count]);
    }
    *out_slice = slice;
    return 0;
}

/* -- all slices ------------------------------------------------------------------------------------------------------- */

void k8s_slices_init(struct k8s_slices *slices, const struct k8s_selection *want)
{
    ASSERT(want->port_count <= K8S_PORTS_MAX);
    *slices = (struct k8s_slices){.want = *want};
    list_init(&slices->slices);
}

static void slice_drop(struct k8s_slices *slices, struct k8s_slice *slice)
{
    slices->slice_count--;
    slices->endpoint_count -= slice->count;
    list_del(&slice->node);
    free(slice);
}

void k8s_slices_deinit(struct k8s_slices *slices)
{
    while (!list_empty(&slices->slices))
        slice_drop(slices, container_of(list_first(&slices->slices), struct k8s_slice, node));
}

static struct k8s_slice *slice_find(const struct k8s_slices *slices, const char *name)
{
    LIST_FOR_EACH (node, &slices->slices) {
        struct k8s_slice *slice = container_of(node, struct k8s_slice, node);

        if (strcmp(slice->name, name) == 0)
            return slice;
    }
    return NULL;
}

static bool has_ended(const struct k8s_slices *slices, const char *uid)
{
    size_t count = size_min(slices->ended_count, K8S_ENDED_MAX);

    for (size_t i = 0; uid[0] && i < count; i++) {
        if (strcmp(slices->ended[i], uid) == 0)
            return true;
    }
    return false;
}

static void remember_ends(struct k8s_slices *slices, const struct k8s_slice *slice)
{
    for (size_t i = 0; i < slice->count; i++) {
        const struct endpoint *endpoint = &slice->endpoints[i];

        if (endpoint->terminating && endpoint->uid[0] && !has_ended(slices, endpoint->uid))
            memcpy(slices->ended[slices->ended_count++ % K8S_ENDED_MAX], endpoint->uid, sizeof(endpoint->uid));
    }
}

/* Takes the slice, in place of the one of its name. */
static int slice_take(struct k8s_slices *slices, struct k8s_slice *slice)
{
    struct k8s_slice *old = slice_find(slices, slice->name);

    if (slices->slice_count - (old ? 1 : 0) + 1 > K8S_SLICES_MAX ||
        slices->endpoint_count - (old ? old->count : 0) + slice->count > K8S_ENDPOINTS_MAX) {
        free(slice);
        return K8S_E_TOO_MANY;
    }
    if (old)
        slice_drop(slices, old);
    slice->turn = ++slices->turn;
    remember_ends(slices, slice);
    slices->slice_count++;
    slices->endpoint_count += slice->count;
    list_add_tail(&slices->slices, &slice->node);
    return 0;
}

static void read_version(const json_t *object, char out_version[K8S_VERSION_SIZE])
{
    copy_text(json_object_get(json_object_get(object, "metadata"), "resourceVersion"), out_version, K8S_VERSION_SIZE);
}

int k8s_slices_list(struct k8s_slices *slices, struct slice text, char out_version[K8S_VERSION_SIZE])
{
    CLEANUP(json_release) json_t *json = json_of(text);
    const json_t *items = json_object_get(json, "items"), *item, *more = json_object_get(json_object_get(json, "metadata"), "continue");
    struct k8s_slices fresh;
    size_t index;
    int r = 0;

    if (!json_object_get(json, "metadata") || !items || (!json_is_array(items) && !json_is_null(items)))
        return K8S_E_GARBAGE;
    if (json_string_length(more) > 0)
        return K8S_E_GARBAGE; /* a part, where the whole was asked for */
    k8s_slices_init(&fresh, &slices->want);
    fresh.turn = slices->turn;
    json_array_foreach(items, index, item) {
        struct k8s_slice *slice;

        r = slice_read(&fresh.want, item, &slice);
        if (r == 0)
            r = slice_take(&fresh, slice);
        if (r)
            break;
    }
    if (r) {
        k8s_slices_deinit(&fresh);
        return r < 0 ? error_pass(r) : r;
    }
    k8s_slices_deinit(slices);
    slices->turn = fresh.turn;
    slices->slice_count = fresh.slice_count;
    slices->endpoint_count = fresh.endpoint_count;
    list_splice_tail(&slices->slices, &fresh.slices);
    LIST_FOR_EACH (node, &slices->slices)
        remember_ends(slices, container_of(node, struct k8s_slice, node));
    read_version(json, out_version);
    return 0;
}

/* -- one line of a watch -------------------------------------------------------------------------------------------------- */

static bool status_of(const json_t *json, struct k8s_status *out_status)
{
    const json_t *kind = json_object_get(json, "kind"), *after = json_object_get(json_object_get(json, "details"), "retryAfterSeconds");
    json_int_t code = json_integer_value(json_object_get(json, "code"));

    if (!json_is_string(kind) || strcmp(json_string_value(kind), "Status") != 0)
        return false;
    *out_status = (struct k8s_status){.code = code > 0 && code < 1000 ? (unsigned)code : 0};
    out_status->retry_after_s = json_integer_value(after) > 0 ? (uint64_t)json_integer_value(after) : 0;
    copy_text(json_object_get(json, "reason"), out_status->reason, sizeof(out_status->reason));
    (void)snprintf(out_status->message, sizeof(out_status->message), "%s",
        json_is_string(json_object_get(json, "message")) ? json_string_value(json_object_get(json, "message")) : "");
    return true;
}

bool k8s_status_read(struct slice text, struct k8s_status *out_status)
{
    CLEANUP(json_release) json_t *json = json_of(text);

    return status_of(json, out_status);
}

static int slice_deleted(struct k8s_slices *slices, const json_t *object)
{
    const char *name = json_string_value(json_object_get(json_object_get(object, "metadata"), "name"));
    struct k8s_slice *slice = name ? slice_find(slices, name) : NULL;

    if (!name)
        return K8S_E_GARBAGE;
    if (slice)
        slice_drop(slices, slice);
    return 0;
}

static int slice_changed(struct k8s_slices *slices, const json_t *object)
{
    struct k8s_slice *slice;
    int r = slice_read(&slices->want, object, &slice);

    if (r)
        return r < 0 ? error_pass(r) : r;
    return slice_take(slices, slice);
}

int k8s_slices_event(struct k8s_slices *slices, struct slice line, struct k8s_event *out_event)
{
    CLEANUP(json_release) json_t *json = json_of(line);
    const char *type = json_string_value(json_object_get(json, "type"));
    const json_t *object = json_object_get(json, "object");
    struct k8s_event event = {.kind = K8S_EVENT_OTHER};
    int r = 0;

    if (!type || !json_is_object(object))
        return K8S_E_GARBAGE;
    if (strcmp(type, "ADDED") == 0 || strcmp(type, "MODIFIED") == 0) {
        event.kind = K8S_EVENT_SLICE;
        r = slice_changed(slices, object);
    } else if (strcmp(type, "DELETED") == 0) {
        event.kind = K8S_EVENT_SLICE;
        r = slice_deleted(slices, object);
    } else if (strcmp(type, "BOOKMARK") == 0) {
        event.kind = K8S_EVENT_BOOKMARK;
    } else if (strcmp(type, "ERROR") == 0) {
        event.kind = K8S_EVENT_ERROR;
        if (!status_of(object, &event.status))
            return K8S_E_GARBAGE;
    }
    if (r)
        return r;
    if (event.kind != K8S_EVENT_ERROR)
        read_version(object, event.version);
    *out_event = event;
    return 0;
}

/* -- what they come to ------------------------------------------------------------------------------------------------------ */

struct candidate {
    const struct k8s_slice *slice;
    const struct endpoint *endpoint;
    const char *pod;     /* what it is known by: its name, else its address */
    bool serving, terminating;
};

static int by_life(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;
    int r = strcmp(left->pod, right->pod);

    if (r == 0)
        r = strcmp(left->endpoint->uid, right->endpoint->uid);
    return r;
}

static bool ready(const struct candidate *candidate)
{
    return candidate->serving && !candidate->terminating;
}

/* Whether a stands for the pod rather than b. */
static bool better(const struct candidate *a, const struct candidate *b)
{
    if (ready(a) != ready(b))
        return ready(a);
    if (a->terminating != b->terminating)
        return b->terminating;
    if (a->serving != b->serving)
        return a->serving;
    if (a->slice->family != b->slice->family)
        return a->slice->family < b->slice->family;
    if (a->slice->turn != b->slice->turn)
        return a->slice->turn > b->slice->turn;
    return strcmp(a->endpoint->host, b->endpoint->host) < 0;
}

/* What several slices say of one pod's life is true at different times: the newest knows whether it serves, and who terminates in one
 * does so in all, as no pod comes back from that. */
static void agree_on_lives(struct candidate *candidates, size_t count)
{
    for (size_t i = 0, end; i < count; i = end) {
        const struct candidate *newest = &candidates[i];
        bool terminating = candidates[i].terminating, serving;

        for (end = i + 1; end < count && by_life(&candidates[i], &candidates[end]) == 0; end++) {
            terminating |= candidates[end].terminating;
            if (candidates[end].slice->turn > newest->slice->turn)
                newest = &candidates[end];
        }
        if (candidates[i].endpoint->uid[0] == '\0')
            continue; /* nobody's life: these may be different pods */
        serving = newest->serving;
        for (size_t k = i; k < end; k++) {
            candidates[k].terminating = terminating;
            candidates[k].serving = serving;
        }
    }
}

static void trouble(struct k8s_addresses *addresses, const char *format, ...) PRINTF_LIKE(2, 3);

/* The first is the one that is told. */
static void trouble(struct k8s_addresses *addresses, const char *format, ...)
{
    va_list args;

    if (addresses->trouble[0])
        return;
    va_start(args, format);
    (void)vsnprintf(addresses->trouble, sizeof(addresses->trouble), format, args);
    va_end(args);
}

static void add_port(const struct k8s_slices *slices, const struct candidate *best, size_t port_at, struct k8s_addresses *out)
{
    const struct k8s_selection *want = &slices->want;
    struct resolved_address *address = &out->items[out->count];
    unsigned port = best->slice->ports[port_at];
    char host[600];

    if (port == 0) {
        trouble(out, "service %s/%s has no port %s; its ports: %s", want->service_namespace, want->service, want->ports[port_at],
            best->slice->port_names[0] ? best->slice->port_names : "none");
        return;
    }
    if (want->return_hostnames && best->endpoint->hostname[0] == '\0') {
        trouble(out, "pod %s of service %s/%s has no hostname, which return_hostnames needs: is it the serviceName of a StatefulSet?",
            best->pod, want->service_namespace, want->service);
        return;
    }
    if (want->return_hostnames)
        (void)snprintf(host, sizeof(host), "%s.%s.%s", best->endpoint->hostname, want->service, want->service_namespace);
    else
        (void)snprintf(host, sizeof(host), "%s", best->endpoint->host);
    *address = (struct resolved_address){.ready = ready(best), .terminating = best->terminating};
    if (!resolver_address(host, port, address->address, sizeof(address->address)))
        return;
    /* Several ports of a pod are several backends. */
    if (best->endpoint->name[0] && want->port_count > 1)
        (void)snprintf(address->name, sizeof(address->name), "%s:%u", best->endpoint->name, (unsigned)(uint16_t)port);
    else
        (void)snprintf(address->name, sizeof(address->name), "%s", best->endpoint->name);
    out->count++;
}

static int by_address(const void *a, const void *b)
{
    const struct resolved_address *left = a, *right = b;
    int r = strcmp(left->address, right->address);

    if (r == 0)
        r = (int)right->ready - (int)left->ready;
    if (r == 0)
        r = strcmp(left->name, right->name);
    return r;
}

static void sort_once(struct k8s_addresses *addresses)
{
    size_t kept = 0;

    if (addresses->count > 0)
        qsort(addresses->items, addresses->count, sizeof(addresses->items[0]), by_address);
    for (size_t i = 0; i < addresses->count; i++) {
        if (kept == 0 || strcmp(addresses->items[kept - 1].address, addresses->items[i].address) != 0)
            addresses->items[kept++] = addresses->items[i];
    }
    addresses->count = kept;
}

static struct candidate *candidates_of(const struct k8s_slices *slices)
{
    struct candidate *candidates = calloc(slices->endpoint_count + 1, sizeof(*candidates));
    size_t count = 0;

    LIST_FOR_EACH (node, &slices->slices) {
        const struct k8s_slice *slice = container_of(node, struct k8s_slice, node);

        for (size_t i = 0; candidates && i < slice->count; i++) {
            const struct endpoint *endpoint = &slice->endpoints[i];

            candidates[count++] = (struct candidate){slice, endpoint, endpoint->name[0] ? endpoint->name : endpoint->host,
                endpoint->serving, endpoint->terminating || has_ended(slices, endpoint->uid)};
        }
    }
    return candidates;
}

int k8s_slices_addresses(const struct k8s_slices *slices, struct k8s_addresses *out_addresses)
{
    size_t ports = size_max(slices->want.port_count, 1), count = slices->endpoint_count;
    struct candidate *candidates = candidates_of(slices);
    struct k8s_addresses addresses = {.items = calloc(count * ports + 1, sizeof(*addresses.items))};

    if (!candidates || !addresses.items) {
        free(candidates);
        free(addresses.items);
        return error_raise(-ENOMEM);
    }
    qsort(candidates, count, sizeof(*candidates), by_life);
    agree_on_lives(candidates, count);
    for (size_t i = 0, end; i < count; i = end) {
        const struct candidate *best = &candidates[i];

        for (end = i + 1; end < count && strcmp(candidates[i].pod, candidates[end].pod) == 0; end++) {
            if (better(&candidates[end], best))
                best = &candidates[end];
        }
        for (size_t k = 0; k < ports; k++)
            add_port(slices, best, k, &addresses);
    }
    free(candidates);
    sort_once(&addresses);
    if (addresses.count == 0 && slices->slice_count == 0)
        trouble(&addresses, "service %s/%s has no EndpointSlice: is there such a service, and does it select pods?",
            slices->want.service_namespace, slices->want.service);
    else if (addresses.count == 0)
        trouble(&addresses, "service %s/%s has no endpoint", slices->want.service_namespace, slices->want.service);
    *out_addresses = addresses;
    return 0;
}

void k8s_addresses_deinit(struct k8s_addresses *addresses)
{
    free(addresses->items);
    *addresses = (struct k8s_addresses){0};
}

bool k8s_addresses_same(const struct k8s_addresses *a, const struct k8s_addresses *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct resolved_address *left = &a->items[i], *right = &b->items[i];

        if (strcmp(left->address, right->address) != 0 || strcmp(left->name, right->name) != 0 || left->ready != right->ready ||
            left->terminating != right->terminating)
            return false;
    }
    return true;
}
