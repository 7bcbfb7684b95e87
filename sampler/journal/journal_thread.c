/* Two loops of one kind. A waker sets `called` and only knocks if it was not set before: the loop clears it before it looks. */
#include "sampler/journal/journal_thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/cleanup.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "sampler/journal/journal.h"

struct journal_loop {
    struct journal *journal;
    uint64_t (*run)(struct journal *journal, struct journal_now now);
    const char *name; /* as ps shows it: at most 15 letters */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t knock;
    atomic_bool called, stopping;
};

struct journal_thread {
    struct journal_loop writer, reader;
};

static void loop_sleep(struct journal_loop *loop, uint64_t until_ns)
{
    struct timespec until = {(time_t)(until_ns / NS_PER_S), (long)(until_ns % NS_PER_S)};
    int r = 0;

    (void)pthread_mutex_lock(&loop->mutex);
    while (r == 0 && !atomic_load(&loop->called))
        r = until_ns == UINT64_MAX ? pthread_cond_wait(&loop->knock, &loop->mutex)
                                   : pthread_cond_timedwait(&loop->knock, &loop->mutex, &until);
    (void)pthread_mutex_unlock(&loop->mutex);
}

static void *loop_run(void *argument)
{
    struct journal_loop *loop = argument;
    uint64_t until_ns;
    bool last;

    (void)pthread_setname_np(pthread_self(), loop->name);
    do {
        atomic_store(&loop->called, false);
        last = atomic_load(&loop->stopping); /* before the last run, so that it finds all that was queued */
        until_ns = loop->run(loop->journal, (struct journal_now){clock_now_ns(), clock_now_unix_ns()});
        if (!last)
            loop_sleep(loop, until_ns);
    } while (!last);
    return NULL;
}

static void loop_wake(struct journal_loop *loop)
{
    if (atomic_load_explicit(&loop->called, memory_order_relaxed) || atomic_exchange(&loop->called, true))
        return;
    (void)pthread_mutex_lock(&loop->mutex);
    (void)pthread_cond_signal(&loop->knock);
    (void)pthread_mutex_unlock(&loop->mutex);
}

static void loop_init(struct journal_loop *loop)
{
    pthread_condattr_t attributes;

    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&loop->knock, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&loop->mutex, NULL);
    atomic_init(&loop->called, false);
    atomic_init(&loop->stopping, false);
}

/* Signals are the control thread's. */
static int loop_start(struct journal_loop *loop)
{
    sigset_t all, before;
    int r;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    r = -pthread_create(&loop->thread, NULL, loop_run, loop);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

static void loop_stop(struct journal_loop *loop)
{
    atomic_store(&loop->stopping, true);
    (void)pthread_mutex_lock(&loop->mutex);
    atomic_store(&loop->called, true);
    (void)pthread_cond_signal(&loop->knock);
    (void)pthread_mutex_unlock(&loop->mutex);
    (void)pthread_join(loop->thread, NULL);
}

static void loop_deinit(struct journal_loop *loop)
{
    (void)pthread_cond_destroy(&loop->knock);
    (void)pthread_mutex_destroy(&loop->mutex);
}

static void thread_free(struct journal_thread *thread)
{
    loop_deinit(&thread->writer);
    loop_deinit(&thread->reader);
    free(thread);
}
CLEANUP_DEFINE(struct journal_thread, thread_free);

int journal_thread_start(struct journal *journal, struct journal_thread **out_thread)
{
    CLEANUP(thread_free) struct journal_thread *thread = calloc(1, sizeof(*thread));
    int r;

    if (!thread)
        return error_raise(-ENOMEM);
    thread->writer = (struct journal_loop){.journal = journal, .run = journal_run, .name = "journal-write"};
    thread->reader = (struct journal_loop){.journal = journal, .run = journal_run_reads, .name = "journal-read"};
    loop_init(&thread->writer);
    loop_init(&thread->reader);
    r = loop_start(&thread->writer);
    if (r)
        return error_raise(r);
    r = loop_start(&thread->reader);
    if (r) {
        loop_stop(&thread->writer);
        return error_raise(r);
    }
    journal_set_thread(journal, thread);
    *out_thread = steal(&thread);
    return 0;
}

void journal_thread_stop(struct journal_thread *thread)
{
    if (!thread)
        return;
    journal_set_thread(thread->writer.journal, NULL);
    loop_stop(&thread->reader);
    loop_stop(&thread->writer);
    thread_free(thread);
}

void journal_thread_wake_writer(struct journal_thread *thread)
{
    loop_wake(&thread->writer);
}

void journal_thread_wake_reader(struct journal_thread *thread)
{
    loop_wake(&thread->reader);
}
