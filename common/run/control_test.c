/* The control loop runs everything on its own thread: signals with their count, timers, and mail of
 * any thread, each once and in the order of its poster; it ends when told, from anywhere, and
 * leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cleanup.h"
#include "common/run/clock.h"
#include "common/run/control.h"

struct seen {
    struct control *control;
    unsigned stops[8], stop_calls, hangups;
    unsigned break_at_stop; /* 0: never */
    struct control_timer *timer;
    unsigned ticks, break_at_tick;
    uint64_t last_ns, first_ns;
};

static void on_stop(void *context, unsigned count)
{
    struct seen *seen = context;

    seen->stops[seen->stop_calls++] = count;
    if (seen->stop_calls == seen->break_at_stop)
        control_break(seen->control);
}

static void on_hangup(void *context)
{
    struct seen *seen = context;

    seen->hangups++;
    if (!seen->break_at_stop)
        control_break(seen->control);
}

static void test_signals(void **state)
{
    struct control control;
    struct seen seen = {.control = &control, .break_at_stop = 0};
    struct sigaction before, after;

    (void)state;
    assert_int_equal(sigaction(SIGTERM, NULL, &before), 0);
    assert_int_equal(control_init(&control, on_stop, on_hangup, &seen), 0);
    raise(SIGHUP);
    control_run(&control);
    assert_int_equal(seen.hangups, 1);
    assert_int_equal(seen.stop_calls, 0);

    seen.break_at_stop = 1;
    raise(SIGTERM);
    control_run(&control);
    seen.break_at_stop = 2;
    raise(SIGINT);
    control_run(&control);
    seen.break_at_stop = 3;
    raise(SIGPIPE); /* nothing happens, or this test ends here */
    raise(SIGTERM);
    control_run(&control);
    assert_int_equal(seen.stop_calls, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(seen.stops[i], i + 1);
    assert_int_equal(seen.hangups, 1);
    control_deinit(&control);
    assert_int_equal(sigaction(SIGTERM, NULL, &after), 0);
    assert_true(before.sa_handler == after.sa_handler);
}

/* SIGHUP must not end a program that has no use for it. */
static void test_hangup_without_handler(void **state)
{
    struct control control;
    struct seen seen = {.control = &control, .break_at_stop = 1};

    (void)state;
    assert_int_equal(control_init(&control, on_stop, NULL, &seen), 0);
    raise(SIGHUP);
    raise(SIGTERM);
    control_run(&control);
    assert_int_equal(seen.stop_calls, 1);
    control_deinit(&control);
}

static void test_break_before_run(void **state)
{
    struct control control;
    struct seen seen = {.control = &control};

    (void)state;
    assert_int_equal(control_init(&control, on_stop, on_hangup, &seen), 0);
    control_break(&control);
    control_run(&control);
    control_break(&control);
    control_break(&control);
    control_run(&control);
    control_deinit(&control);
    memset(&control, 0, sizeof(control));
    control_deinit(&control);
}

/* -- timers ---------------------------------------------------------------------------------------
 */

static void on_tick(void *context, uint64_t now_ns)
{
    struct seen *seen = context;

    if (seen->ticks == 0)
        seen->first_ns = now_ns;
    if (now_ns < seen->last_ns)
        fail_msg("the clock went back");
    seen->last_ns = now_ns;
    if (++seen->ticks == seen->break_at_tick) {
        control_timer_free(seen->timer); /* in its own run */
        seen->timer = NULL;
        control_break(seen->control);
    }
}

static void test_timers(void **state)
{
    struct control control;
    struct seen seen = {.control = &control, .break_at_tick = 5};
    struct seen other = {.control = &control, .break_at_tick = 0};
    uint64_t begin_ns = clock_now_ns();

    (void)state;
    assert_int_equal(control_init(&control, on_stop, on_hangup, &seen), 0);
    assert_int_equal(control_timer_new(&control, 2000000, on_tick, &seen, &seen.timer), 0);
    assert_int_equal(
        control_timer_new(&control, 3600ull * 1000000000ull, on_tick, &other, &other.timer), 0);
    control_run(&control);
    assert_int_equal(seen.ticks, 5);
    assert_null(seen.timer);
    assert_int_equal(other.ticks, 0);
    /* Never early; how late is the machine's affair. */
    assert_true(seen.first_ns - begin_ns >= 2000000);
    assert_true(seen.last_ns - begin_ns >= 5 * 2000000 - 1000000);
    control_timer_free(other.timer);
    control_timer_free(NULL);

    /* A period of zero is the shortest there is, not "never". */
    seen.ticks = 0;
    assert_int_equal(control_timer_new(&control, 0, on_tick, &seen, &seen.timer), 0);
    control_run(&control);
    assert_int_equal(seen.ticks, 5);
    control_deinit(&control);
}

/* -- mail -----------------------------------------------------------------------------------------
 */

#define POSTERS 3
#define MAILS   2000

struct letter {
    struct mail mail;
    unsigned poster, number;
};

struct reader {
    struct control control; /* first: deliver gets its address */
    unsigned next[POSTERS], delivered, wrong;
    pthread_t thread;
};

static void on_letter(struct mail *mail, void *receiver)
{
    struct reader *reader = receiver;
    struct letter *letter = container_of(mail, struct letter, mail);

    if (letter->number != reader->next[letter->poster]++ ||
        !pthread_equal(pthread_self(), reader->thread))
        reader->wrong++;
    reader->delivered++;
    free(letter);
    if (reader->delivered == POSTERS * MAILS)
        control_break(&reader->control);
}

struct poster {
    struct reader *reader;
    unsigned index;
};

static void *post_many(void *context)
{
    struct poster *poster = context;

    for (unsigned i = 0; i < MAILS; i++) {
        struct letter *letter = malloc(sizeof(*letter));

        if (!letter)
            abort();
        letter->mail.deliver = on_letter;
        letter->poster = poster->index;
        letter->number = i;
        control_post(&poster->reader->control, &letter->mail);
        if (i % 16 == 0)
            usleep(20); /* lets the loop fall asleep between, so that waking is tested */
    }
    return NULL;
}

static void test_mail_of_many_threads(void **state)
{
    struct reader reader = {.thread = pthread_self()};
    struct poster posters[POSTERS];
    struct seen seen = {.control = &reader.control};
    pthread_t threads[POSTERS];

    (void)state;
    assert_int_equal(control_init(&reader.control, on_stop, on_hangup, &seen), 0);
    for (unsigned i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){&reader, i};
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    control_run(&reader.control); /* a lost wake would leave this waiting */
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(reader.delivered, POSTERS * MAILS);
    assert_int_equal(reader.wrong, 0);
    control_deinit(&reader.control);
}

static void *break_it(void *context)
{
    control_break(context);
    return NULL;
}

static void test_break_by_another_thread(void **state)
{
    struct control control;
    struct seen seen = {.control = &control};

    (void)state;
    assert_int_equal(control_init(&control, on_stop, on_hangup, &seen), 0);
    for (int i = 0; i < 50; i++) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, break_it, &control), 0);
        control_run(&control);
        pthread_join(thread, NULL);
    }
    control_deinit(&control);
}

/* Mail that came after the last turn is delivered before the control goes, and so can free itself.
 */
static void test_mail_left_at_deinit(void **state)
{
    struct reader reader = {.thread = pthread_self()};
    struct seen seen = {.control = &reader.control};

    (void)state;
    assert_int_equal(control_init(&reader.control, on_stop, on_hangup, &seen), 0);
    for (unsigned i = 0; i < 3; i++) {
        struct letter *letter = calloc(1, sizeof(*letter));

        assert_non_null(letter);
        letter->mail.deliver = on_letter;
        letter->number = i;
        control_post(&reader.control, &letter->mail);
    }
    control_deinit(&reader.control);
    assert_int_equal(reader.delivered, 3);
    assert_int_equal(reader.wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_hangup_without_handler),
        cmocka_unit_test(test_break_before_run),
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_mail_of_many_threads),
        cmocka_unit_test(test_break_by_another_thread),
        cmocka_unit_test(test_mail_left_at_deinit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
