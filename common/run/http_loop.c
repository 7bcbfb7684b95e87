/* One turn, as in control.c: deliver mail, announce sleep, let libevent wait for and run what is ready. A poster that
 * finds the announcement writes to an eventfd, so libevent itself never needs to know of threads. */
#include "common/run/http_loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/base/assert.h"
#include "common/base/error.h"

struct http_loop {
    struct event_base *base;
    struct mailbox mailbox;
    int wake_fd;
    struct event *wake_event;
    pthread_t thread;
    bool started, stopping;
};

static void loop_on_wake(evutil_socket_t fd, short what, void *argument)
{
    uint64_t count;

    /* The mail itself is delivered at the start of the next turn. */
    (void)what;
    (void)argument;
    if (read(fd, &count, sizeof(count)) < 0)
        ASSERT(errno == EAGAIN || errno == EINTR);
}

static int loop_open(struct http_loop *loop)
{
    struct event_config *config;

    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0)
        return error_raise(-errno);
    config = event_config_new();
    /* One thread, so no locks; the coarse clock that libevent reads else steps by 4 ms: a timer could be early. */
    if (config && event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER | EVENT_BASE_FLAG_NOLOCK) == 0)
        loop->base = event_base_new_with_config(config);
    if (config)
        event_config_free(config);
    if (!loop->base)
        return error_raise(-ENOMEM);
    loop->wake_event = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, loop_on_wake, loop);
    if (!loop->wake_event || event_add(loop->wake_event, NULL) < 0)
        return error_raise(-ENOMEM);
    return 0;
}

int http_loop_new(struct http_loop **out_loop)
{
    struct http_loop *loop = calloc(1, sizeof(*loop));
    int r;

    if (!loop)
        return error_raise(-ENOMEM);
    loop->wake_fd = -1;
    mailbox_init(&loop->mailbox);
    r = loop_open(loop);
    if (r) {
        http_loop_free(loop);
        return error_pass(r);
    }
    *out_loop = loop;
    return 0;
}

static void *loop_run(void *argument)
{
    struct http_loop *loop = argument;

    for (;;) {
        (void)mailbox_deliver(&loop->mailbox, loop);
        if (loop->stopping)
            return NULL;
        if (!mailbox_sleep(&loop->mailbox))
            continue;
        (void)event_base_loop(loop->base, EVLOOP_ONCE);
        mailbox_awake(&loop->mailbox);
    }
}

int http_loop_start(struct http_loop *loop)
{
    int r = pthread_create(&loop->thread, NULL, loop_run, loop);

    if (r)
        return error_raise(-r);
    loop->started = true;
    return 0;
}

void http_loop_post(struct http_loop *loop, struct mail *mail)
{
    const uint64_t one = 1;

    if (!mailbox_post(&loop->mailbox, mail))
        return;
    /* A full counter means that a wake is already waiting. */
    while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void loop_on_stop(struct mail *mail, void *receiver)
{
    (void)mail;
    ((struct http_loop *)receiver)->stopping = true;
}

void http_loop_stop(struct http_loop *loop)
{
    struct mail stop = {.deliver = loop_on_stop};

    if (!loop || !loop->started)
        return;
    http_loop_post(loop, &stop);
    (void)pthread_join(loop->thread, NULL);
    loop->started = false;
    loop->stopping = false;
}

void http_loop_drain(struct http_loop *loop)
{
    ASSERT(!loop->started);
    while (mailbox_deliver(&loop->mailbox, loop) > 0)
        ;
}

void http_loop_free(struct http_loop *loop)
{
    if (!loop)
        return;
    http_loop_drain(loop);
    if (loop->wake_event)
        event_free(loop->wake_event);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    free(loop);
}

struct event_base *http_loop_base(struct http_loop *loop)
{
    return loop->base;
}

int http_loops_new(struct http_loop **loops, unsigned count)
{
    int r = 0;

    for (unsigned i = 0; i < count && r == 0; i++)
        r = http_loop_new(&loops[i]);
    return error_pass(r);
}

int http_loops_start(struct http_loop *const *loops, unsigned count)
{
    int r = 0;

    for (unsigned i = 0; i < count && r == 0; i++)
        r = http_loop_start(loops[i]);
    return error_pass(r);
}

void http_loops_stop(struct http_loop *const *loops, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        http_loop_stop(loops[i]);
}

void http_loops_drain(struct http_loop *const *loops, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (loops[i])
            http_loop_drain(loops[i]);
    }
}

void http_loops_free(struct http_loop **loops, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        http_loop_free(loops[i]);
        loops[i] = NULL;
    }
}
