/* The EndpointSlices of one service, and the addresses they come to. Pure: the API server's JSON in, a list out.
 *
 * Events     each carries a whole slice; a slice is known by its name. The list of addresses is made anew from all of them.
 * Conditions three-valued: `ready` unsaid is true, `serving` unsaid is what `ready` says, `terminating` unsaid is false. An address is ready
 *            when it is serving and not terminating: with publishNotReadyAddresses `ready` alone says nothing.
 * Pods       a pod that several slices show (two families, a move from one slice to another) is one address a port: IPv4, then what
 *            came last. What they say of one life (uid) is true at different times: the newest counts, and who has terminated in one does so
 *            in all, also once that one has dropped it. Of two lives the better one is the pod.
 * Names      the pod's hostname, else its name: what stays while a StatefulSet's pod changes its address.
 * Source     Kubernetes API, EndpointSlice in discovery.k8s.io/v1; load-balancing exporter, resolver.k8s
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/list.h"
#include "common/base/slice.h"
#include "common/cluster/resolver.h"

#define K8S_VERSION_SIZE 128     /* of a resourceVersion, which says nothing but which it is */
#define K8S_PORTS_MAX 16u
#define K8S_SLICES_MAX 4096u
#define K8S_ENDPOINTS_MAX 65536u /* in all slices together */
#define K8S_ENDED_MAX 256u       /* of the newest pods that end; more are forgotten, and a slice that lags shows them a moment longer */
#define K8S_E_GARBAGE 1          /* not what an API server says; nothing was changed */
#define K8S_E_TOO_MANY 2         /* more slices or endpoints than the limits; nothing was changed */

struct k8s_selection {
    const char *service, *service_namespace; /* for names of pods, and for messages */
    const char *const *ports;                /* numbers, or names of the service's ports; none: 4317 */
    size_t port_count;                       /* at most K8S_PORTS_MAX */
    bool return_hostnames;                   /* HOSTNAME.SERVICE.NAMESPACE in place of addresses */
};

struct k8s_slices {
    struct k8s_selection want;
    struct list slices;
    size_t slice_count, endpoint_count;
    uint64_t turn;                           /* grows with each slice that comes */
    char ended[K8S_ENDED_MAX][64];           /* uids of pods that were seen to terminate, the oldest is overwritten */
    size_t ended_count;                      /* ever */
};

/* What the server says of a request that it did not like, HTTP status or event. */
struct k8s_status {
    unsigned code;                           /* 0: it does not say */
    uint64_t retry_after_s;
    char reason[64], message[256];
};

struct k8s_event {
    enum { K8S_EVENT_SLICE, K8S_EVENT_BOOKMARK, K8S_EVENT_ERROR, K8S_EVENT_OTHER } kind;
    char version[K8S_VERSION_SIZE];          /* "": it has none */
    struct k8s_status status;                /* K8S_EVENT_ERROR */
};

void k8s_slices_init(struct k8s_slices *slices, const struct k8s_selection *want);
void k8s_slices_deinit(struct k8s_slices *slices);
/* An EndpointSliceList: takes the place of all that was there. 0, K8S_E_GARBAGE, K8S_E_TOO_MANY or -ENOMEM. */
int k8s_slices_list(struct k8s_slices *slices, struct slice json, char out_version[K8S_VERSION_SIZE]);
/* One line of a watch. The same outcomes. */
int k8s_slices_event(struct k8s_slices *slices, struct slice line, struct k8s_event *out_event);
/* A Status object. False: it is none. */
bool k8s_status_read(struct slice json, struct k8s_status *out_status);

struct k8s_addresses {
    struct resolved_address *items;          /* sorted by address, each once */
    size_t count;
    char trouble[256];                       /* why an endpoint was left out, or why there is none; "": no trouble */
};
/* 0 or -ENOMEM. */
int k8s_slices_addresses(const struct k8s_slices *slices, struct k8s_addresses *out_addresses);
void k8s_addresses_deinit(struct k8s_addresses *addresses);
bool k8s_addresses_same(const struct k8s_addresses *a, const struct k8s_addresses *b);
