/* The control thread: one libevent loop for signals, resolvers, timers and the admin endpoint.
 *
 * Everything here is called on the control thread, save control_post and control_break. Only one
 * control may exist at a time in a process: signals have one owner.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "common/run/mailbox.h"

struct event;
struct event_base;

struct control {
    struct event_base *base;
    struct mailbox mailbox;
    int wake_fd;
    struct event *wake_event;
    struct event *signal_events[3]; /* SIGTERM, SIGINT, SIGHUP */
    void (*on_stop)(
        void *context, unsigned count); /* SIGTERM or SIGINT; count: 1 first, 2 again … */
    void (*on_hangup)(void *context);   /* SIGHUP */
    void *context;
    unsigned stop_count;
    unsigned timer_count; /* not freed yet */
    atomic_bool breaking;
};

/* 0 or -errno. on_hangup: NULL when SIGHUP means nothing; it is then ignored. SIGPIPE is ignored
 * for the process; SIGTERM, SIGINT and SIGHUP come as calls on this thread until control_deinit. */
int control_init(struct control *control, void (*on_stop)(void *, unsigned),
    void (*on_hangup)(void *), void *context);
/* Delivers the mail still there, then gives the signals back. Every timer must have been freed.
 * Accepts a control that is all zero. */
void control_deinit(struct control *control);
/* Runs until control_break, which may have come before. */
void control_run(struct control *control);
/* Any thread: control_run returns after the turn that is under way. */
void control_break(struct control *control);
/* Any thread. deliver gets the control as receiver. */
void control_post(struct control *control, struct mail *mail);

/* A repeating timer on the control thread. run may free the timer. */
struct control_timer;
int control_timer_new(struct control *control, uint64_t period_ns,
    void (*run)(void *context, uint64_t now_ns), void *context, struct control_timer **out_timer);
/* Accepts NULL. */
void control_timer_free(struct control_timer *timer);
