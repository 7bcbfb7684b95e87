/* Curl says which sockets it waits for, and until when; libevent says what came; what has ended by that is told at once. */
#include "common/run/curl_loop.h"

#include <pthread.h>

#include <event2/event.h>

#include "common/base/assert.h"

static void ended_tell(struct curl_loop *loop)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(loop->multi, &left))) {
        if (message->msg == CURLMSG_DONE)
            loop->on_ended(loop->context, message->easy_handle, message->data.result); /* message is no more */
    }
}

static void on_socket(evutil_socket_t fd, short what, void *context)
{
    struct curl_loop *loop = context;
    int running, flags = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);

    (void)curl_multi_socket_action(loop->multi, fd, flags, &running);
    ended_tell(loop);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    struct curl_loop *loop = context;
    int running;

    (void)fd;
    (void)what;
    (void)curl_multi_socket_action(loop->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    ended_tell(loop);
}

static int want_timer(CURLM *multi, long timeout_ms, void *context)
{
    struct curl_loop *loop = context;
    struct timeval wait = {timeout_ms / 1000, timeout_ms % 1000 * 1000};

    (void)multi;
    if (timeout_ms < 0)
        (void)event_del(loop->timer);
    else
        (void)event_add(loop->timer, &wait);
    return 0;
}

static int want_socket(CURL *curl, curl_socket_t fd, int what, void *context, void *socket_event)
{
    struct curl_loop *loop = context;
    struct event *event = socket_event;
    short events = (short)((what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0) | EV_PERSIST);

    (void)curl;
    if (event)
        event_free(event);
    event = NULL;
    if (what != CURL_POLL_REMOVE) {
        event = event_new(loop->base, fd, events, on_socket, loop);
        ASSERT(event != NULL);
        ASSERT(event_add(event, NULL) == 0);
    }
    (void)curl_multi_assign(loop->multi, fd, event);
    return 0;
}

/* -- life ------------------------------------------------------------------------------------------------------------- */

static CURLcode begun = CURLE_FAILED_INIT;

static void curl_begin(void)
{
    begun = curl_global_init(CURL_GLOBAL_DEFAULT);
}

bool curl_loop_init(struct curl_loop *loop, struct event_base *base, void (*on_ended)(void *context, CURL *curl, CURLcode result),
    void *context)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    *loop = (struct curl_loop){.base = base, .on_ended = on_ended, .context = context};
    (void)pthread_once(&once, curl_begin);
    if (begun != CURLE_OK)
        return false;
    loop->timer = evtimer_new(base, on_timer, loop);
    loop->multi = loop->timer ? curl_multi_init() : NULL;
    return loop->multi && curl_multi_setopt(loop->multi, CURLMOPT_SOCKETFUNCTION, want_socket) == CURLM_OK &&
           curl_multi_setopt(loop->multi, CURLMOPT_SOCKETDATA, loop) == CURLM_OK &&
           curl_multi_setopt(loop->multi, CURLMOPT_TIMERFUNCTION, want_timer) == CURLM_OK &&
           curl_multi_setopt(loop->multi, CURLMOPT_TIMERDATA, loop) == CURLM_OK;
}

void curl_loop_deinit(struct curl_loop *loop)
{
    if (loop->multi)
        (void)curl_multi_cleanup(loop->multi); /* takes the events of its connections away, and may yet ask for the timer */
    if (loop->timer)
        event_free(loop->timer);
    *loop = (struct curl_loop){0};
}
