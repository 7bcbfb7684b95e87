/* libcurl's transfers on a libevent loop: a multi handle, its sockets and its one timer. For OTLP/HTTP out (common/export/link_http)
 * and the Kubernetes API (common/cluster/resolve/k8s).
 *
 * Owner    one thread, that of the event base, or whoever has it before the loop runs
 * Handles  are the caller's: added by curl_multi_add_handle, from anywhere but curl's own callbacks; once it has ended, or when it is
 *          no longer wanted, a handle is removed from the multi and cleaned up by whoever added it. Connections stay with the multi.
 */
#pragma once

#include <stdbool.h>

#include <curl/curl.h>

struct event;
struct event_base;

struct curl_loop {
    struct event_base *base;
    CURLM *multi;
    struct event *timer;
    void (*on_ended)(void *context, CURL *curl, CURLcode result);
    void *context;
};

/* on_ended: the transfer is over, once for each handle that was not removed before. It may remove and add any handles, but not deinit
 * the loop. False: no memory; then it is deinited as well. */
bool curl_loop_init(struct curl_loop *loop, struct event_base *base, void (*on_ended)(void *context, CURL *curl, CURLcode result),
    void *context);
/* Closes the connections. Every handle was removed before. Accepts a loop that is all zero. */
void curl_loop_deinit(struct curl_loop *loop);
