/* The control thread: one libevent loop for signals, resolvers, timers and the admin endpoint. */
#pragma once

#include <stdint.h>

#include "common/run/mailbox.h"

struct event_base;

struct control {
    struct event_base *base;
    struct mailbox mailbox;
    int wake_fd;
    void *wake_event;
    void *term_events[4];
    void (*on_stop)(void *context, unsigned count); /* SIGTERM or SIGINT; count: 1 first, 2 again … */
    void (*on_hangup)(void *context);               /* SIGHUP */
    void *context;
    unsigned stop_count;
};

/* 0 or -errno. SIGPIPE is ignored; SIGTERM, SIGINT and SIGHUP come as calls on this thread. */
int control_init(struct control *control, void (*on_stop)(void *, unsigned), void (*on_hangup)(void *), void *context);
void control_deinit(struct control *control);
/* Runs until control_break. */
void control_run(struct control *control);
void control_break(struct control *control);
/* Any thread. deliver gets the control as receiver. */
void control_post(struct control *control, struct mail *mail);

/* A repeating timer on the control thread. */
struct control_timer;
int control_timer_new(struct control *control, uint64_t period_ns, void (*run)(void *context, uint64_t now_ns),
    void *context, struct control_timer **out_timer);
void control_timer_free(struct control_timer *timer);
