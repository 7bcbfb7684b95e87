/* What to ask the API server next, and when. Pure: what became of a request in, the next request out; time and chance are passed in.
 *
 *             .--------------- 410: the version is gone ----------------.
 *             v                                                         |
 *   start -> LIST --a list, with its version--> WATCH --clean end--> WATCH, from the last version that came
 *             |                                   |
 *             '--failed: later again              '--failed: later again, from the same version
 *
 * Pauses   a clean end and the first 410 are followed at once; so is a first 401, as the token may just have been changed. Whatever
 *          failed waits a random time up to 0.5 s, doubled with each failure in a row up to 30 s, and at least what the server
 *          asks for (Retry-After). 403 and 404 begin at 8 s: who is to mend them takes longer. A watch that ends at once without having
 *          said anything counts as one that failed.
 * Source   Kubernetes API concepts, "Efficient detection of changes"
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cluster/resolve/k8s_slices.h"

enum k8s_step { K8S_LIST, K8S_WATCH };

struct k8s_watch {
    enum k8s_step step;              /* under way, or next */
    char version[K8S_VERSION_SIZE];  /* where to watch from */
    uint64_t due_ns, began_ns;
    uint64_t timeout_ns;
    unsigned failures;               /* in a row */
    unsigned gone;                   /* 410s since something was watched */
    bool unauthorized;               /* the last answer was a 401 */
    bool opened, said;               /* this watch: was accepted; has said something */
    uint64_t random;
};

/* timeout_ns: of one watch. seed: not 0. */
void k8s_watch_init(struct k8s_watch *watch, uint64_t timeout_ns, uint64_t seed, uint64_t now_ns);
/* The request of watch->step begins: writes its path and query. Returns the time in which it must be over. */
uint64_t k8s_watch_begin(struct k8s_watch *watch, const char *service, const char *service_namespace, uint64_t now_ns, char *out_path,
    size_t size);
#define K8S_PATH_SIZE 1024u          /* enough for any service and version */

/* The list came. */
void k8s_watch_listed(struct k8s_watch *watch, const char *version, uint64_t now_ns);
/* The watch was accepted. */
void k8s_watch_opened(struct k8s_watch *watch);
/* An event came; "": without a version. */
void k8s_watch_moved(struct k8s_watch *watch, const char *version);
/* The watch has ended as it should. True: that was too soon, without an event, and for the third time in a row or more. */
bool k8s_watch_ended(struct k8s_watch *watch, uint64_t now_ns);
/* It failed: status of HTTP or of an event, 0 where there was no answer. retry_after_s: what the server asks for, or 0. True: worth to be
 * told; false: it is tried anew at once. */
bool k8s_watch_failed(struct k8s_watch *watch, unsigned status, uint64_t retry_after_s, uint64_t now_ns);
