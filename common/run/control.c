/* One turn: deliver mail, announce sleep, let libevent wait for and run what is ready. A poster
 * that finds the announcement writes to an eventfd, so libevent itself never needs to know of
 * threads. */
#include "common/run/control.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "common/run/clock.h"

struct control_timer {
    struct control *control;
    struct event *event;
    void (*run)(void *context, uint64_t now_ns);
    void *context;
};

static void control_on_signal(evutil_socket_t number, short what, void *argument)
{
    struct control *control = argument;

    (void)what;
    if (number == SIGHUP) {
        if (control->on_hangup)
            control->on_hangup(control->context);
        return;
    }
    control->on_stop(control->context, ++control->stop_count);
}

static void control_on_wake(evutil_socket_t fd, short what, void *argument)
{
    uint64_t count;

    /* The mail itself is delivered at the start of the next turn. */
    (void)what;
    (void)argument;
    if (read(fd, &count, sizeof(count)) < 0)
        ASSERT(errno == EAGAIN || errno == EINTR);
}

static void control_wake(struct control *control)
{
    const uint64_t one = 1;

    /* A full counter means that a wake is already waiting. */
    while (write(control->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static int control_add_events(struct control *control)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

    static_assert(ARRAY_COUNT(numbers) == ARRAY_COUNT(control->signal_events), "an event a signal");
    control->wake_event =
        event_new(control->base, control->wake_fd, EV_READ | EV_PERSIST, control_on_wake, control);
    if (!control->wake_event || event_add(control->wake_event, NULL) < 0)
        return error_raise(-ENOMEM);
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        control->signal_events[i] =
            evsignal_new(control->base, numbers[i], control_on_signal, control);
        if (!control->signal_events[i] || event_add(control->signal_events[i], NULL) < 0)
            return error_raise(-ENOMEM);
    }
    return 0;
}

int control_init(struct control *control, void (*on_stop)(void *, unsigned),
    void (*on_hangup)(void *), void *context)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct event_config *config;
    int r;

    memset(control, 0, sizeof(*control));
    mailbox_init(&control->mailbox);
    atomic_init(&control->breaking, false);
    control->on_stop = on_stop;
    control->on_hangup = on_hangup;
    control->context = context;

    /* A peer that closes its end is an error of that write, not the end of us. */
    if (sigaction(SIGPIPE, &ignore, NULL) < 0)
        return error_raise(-errno);
    control->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (control->wake_fd < 0)
        return error_raise(-errno);
    config = event_config_new();
    /* The coarse clock that libevent reads else steps by 4 ms: a timer could be early. */
    if (config && event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER) == 0)
        control->base = event_base_new_with_config(config);
    if (config)
        event_config_free(config);
    if (!control->base) {
        close(control->wake_fd);
        return error_raise(-ENOMEM);
    }
    r = control_add_events(control);
    if (r)
        control_deinit(control);
    return error_pass(r);
}

void control_deinit(struct control *control)
{
    if (!control->base)
        return;
    while (mailbox_deliver(&control->mailbox, control) > 0)
        ;
    ASSERT(control->timer_count == 0);
    for (size_t i = 0; i < ARRAY_COUNT(control->signal_events); i++)
        if (control->signal_events[i])
            event_free(control->signal_events[i]);
    if (control->wake_event)
        event_free(control->wake_event);
    event_base_free(control->base);
    close(control->wake_fd);
    memset(control, 0, sizeof(*control));
}

void control_run(struct control *control)
{
    while (!atomic_exchange(&control->breaking, false)) {
        (void)mailbox_deliver(&control->mailbox, control);
        /* A break meanwhile has written to the eventfd: the loop comes back at once. */
        if (!mailbox_sleep(&control->mailbox))
            continue;
        (void)event_base_loop(control->base, EVLOOP_ONCE);
        mailbox_awake(&control->mailbox);
    }
}

void control_break(struct control *control)
{
    atomic_store(&control->breaking, true);
    control_wake(control);
}

void control_post(struct control *control, struct mail *mail)
{
    if (mailbox_post(&control->mailbox, mail))
        control_wake(control);
}

/* -- timers ---------------------------------------------------------------------------------------
 */

static void control_on_timer(evutil_socket_t fd, short what, void *argument)
{
    struct control_timer *timer = argument;

    (void)fd;
    (void)what;
    timer->run(timer->context, clock_now_ns()); /* the timer may be gone now */
}

int control_timer_new(struct control *control, uint64_t period_ns,
    void (*run)(void *context, uint64_t now_ns), void *context, struct control_timer **out_timer)
{
    uint64_t period_us = u64_max(period_ns / NS_PER_US, 1); /* libevent counts microseconds */
    struct timeval period = {
        .tv_sec = (time_t)(period_us / 1000000u),
        .tv_usec = (suseconds_t)(period_us % 1000000u),
    };
    struct control_timer *timer = calloc(1, sizeof(*timer));

    if (!timer)
        return error_raise(-ENOMEM);
    timer->control = control;
    timer->run = run;
    timer->context = context;
    timer->event = event_new(control->base, -1, EV_PERSIST, control_on_timer, timer);
    if (!timer->event || event_add(timer->event, &period) < 0) {
        if (timer->event)
            event_free(timer->event);
        free(timer);
        return error_raise(-ENOMEM);
    }
    control->timer_count++;
    *out_timer = timer;
    return 0;
}

void control_timer_free(struct control_timer *timer)
{
    if (!timer)
        return;
    event_free(timer->event);
    timer->control->timer_count--;
    free(timer);
}
