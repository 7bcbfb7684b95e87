/* Mail to an HTTP thread is delivered there, once, in each poster's order, and all of it before the thread ends. */
#include "common/run/http_loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <event2/event.h>

#include "common/base/cleanup.h"

#define POSTERS 4
#define MAILS_EACH 2000u

static struct {
    struct http_loop *loop;
    pthread_t thread;
    unsigned next[POSTERS];
    unsigned delivered, wrong;
} test;

struct numbered {
    struct mail mail;
    unsigned poster, number;
};

static void on_numbered(struct mail *mail, void *receiver)
{
    struct numbered *numbered = container_of(mail, struct numbered, mail);

    if (test.delivered++ == 0)
        test.thread = pthread_self();
    if (receiver != test.loop || !pthread_equal(test.thread, pthread_self()) ||
        numbered->number != test.next[numbered->poster]++)
        test.wrong++;
    free(numbered);
}

static void *post_many(void *argument)
{
    for (unsigned i = 0; i < MAILS_EACH; i++) {
        struct numbered *numbered = calloc(1, sizeof(*numbered));

        numbered->mail.deliver = on_numbered;
        numbered->poster = *(unsigned *)argument;
        numbered->number = i;
        http_loop_post(test.loop, &numbered->mail);
    }
    return NULL;
}

static void mail_arrives_in_order(void **state)
{
    unsigned numbers[POSTERS];
    pthread_t posters[POSTERS];

    (void)state;
    assert_int_equal(http_loop_new(&test.loop), 0);
    assert_int_equal(http_loop_start(test.loop), 0);
    for (unsigned i = 0; i < POSTERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&posters[i], NULL, post_many, &numbers[i]), 0);
    }
    for (unsigned i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_join(posters[i], NULL), 0);
    http_loop_stop(test.loop);
    assert_int_equal(test.delivered, POSTERS * MAILS_EACH);
    assert_int_equal(test.wrong, 0);
    assert_false(pthread_equal(test.thread, pthread_self()));
    http_loop_free(test.loop);
}

/* An event of libevent on the loop ends it: posted from its own thread, that mail wakes nobody and is delivered all the same. */
struct ender {
    struct mail mail;
    struct http_loop *loop;
    struct event *timer;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool fired;
};

static void ender_on_mail(struct mail *mail, void *receiver)
{
    struct ender *ender = container_of(mail, struct ender, mail);

    (void)receiver;
    event_free(ender->timer);
    pthread_mutex_lock(&ender->lock);
    ender->fired = true;
    pthread_cond_signal(&ender->changed);
    pthread_mutex_unlock(&ender->lock);
}

static void ender_on_timer(evutil_socket_t fd, short what, void *argument)
{
    struct ender *ender = argument;

    (void)fd;
    (void)what;
    ender->mail.deliver = ender_on_mail;
    http_loop_post(ender->loop, &ender->mail);
}

static void events_and_mail_mix(void **state)
{
    struct ender ender = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    const struct timeval soon = {.tv_usec = 1000};

    (void)state;
    assert_int_equal(http_loop_new(&ender.loop), 0);
    ender.timer = event_new(http_loop_base(ender.loop), -1, 0, ender_on_timer, &ender);
    assert_int_equal(event_add(ender.timer, &soon), 0);
    assert_int_equal(http_loop_start(ender.loop), 0);
    pthread_mutex_lock(&ender.lock);
    while (!ender.fired)
        pthread_cond_wait(&ender.changed, &ender.lock);
    pthread_mutex_unlock(&ender.lock);
    http_loop_stop(ender.loop);
    http_loop_free(ender.loop);
}

static void one_that_never_began_is_ended(void **state)
{
    struct http_loop *loop;

    (void)state;
    assert_int_equal(http_loop_new(&loop), 0);
    http_loop_stop(loop);
    http_loop_free(loop);
    http_loop_free(NULL);
    http_loop_stop(NULL);
}

/* Mail that comes after the thread has ended belongs to somebody too. */
static void late_mail_is_delivered_by_free(void **state)
{
    struct numbered *numbered = calloc(1, sizeof(*numbered));

    (void)state;
    test.delivered = test.wrong = 0;
    test.next[0] = 0;
    numbered->mail.deliver = on_numbered;
    assert_int_equal(http_loop_new(&test.loop), 0);
    assert_int_equal(http_loop_start(test.loop), 0);
    http_loop_stop(test.loop);
    http_loop_post(test.loop, &numbered->mail);
    http_loop_free(test.loop);
    assert_int_equal(test.delivered, 1);
    assert_int_equal(test.wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_arrives_in_order),
        cmocka_unit_test(events_and_mail_mix),
        cmocka_unit_test(one_that_never_began_is_ended),
        cmocka_unit_test(late_mail_is_delivered_by_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
