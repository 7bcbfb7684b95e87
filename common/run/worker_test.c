/* A worker does all that is posted to it, each time it is posted, runs its hooks when they want to run, and sleeps else: no
 * post from any thread is left lying while it sleeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"
#include "common/metrics/metrics.h"
#include "common/run/clock.h"
#include "common/run/grpc_pump.h"
#include "common/run/worker.h"

/* -- a turn, without a queue -------------------------------------------------------------------------------- */

struct test_hook {
    struct turn_hook hook;
    uint64_t wants_ns, ran_at_ns;
    unsigned runs;
};

static uint64_t hook_run(struct turn_hook *hook, uint64_t now_ns)
{
    struct test_hook *test = container_of(hook, struct test_hook, hook);

    test->runs++;
    test->ran_at_ns = now_ns;
    return test->wants_ns;
}

struct turn_mail {
    struct mail mail;
    struct test_hook *hook; /* to add while delivering */
    unsigned hook_runs_seen;
    uint64_t now_seen_ns;
};

static void on_turn_mail(struct mail *mail, void *receiver)
{
    struct turn_mail *test = container_of(mail, struct turn_mail, mail);
    struct worker *worker = receiver;

    test->hook_runs_seen = test->hook->runs;
    test->now_seen_ns = worker->now_ns;
    if (!list_linked(&test->hook->hook.node))
        worker_hook(worker, &test->hook->hook);
}

/* worker_init would make a queue: only what a turn needs. */
static void worker_bare(struct worker *worker)
{
    memset(worker, 0, sizeof(*worker));
    mailbox_init(&worker->mailbox);
    list_init(&worker->hooks);
}

static void test_turn(void **state)
{
    static const struct {
        uint64_t wants[3], next_ns;
    } cases[] = {
        {{UINT64_MAX, UINT64_MAX, UINT64_MAX}, UINT64_MAX},
        {{70, UINT64_MAX, UINT64_MAX}, 70},
        {{UINT64_MAX, 70, 60}, 60},
        {{5, 70, 60}, 5}, /* past already: at once */
    };
    struct test_hook hooks[3] = {{.hook.run = hook_run}, {.hook.run = hook_run}, {.hook.run = hook_run}};
    struct worker worker;

    (void)state;
    worker_bare(&worker);
    assert_true(worker_turn(&worker, 1) == UINT64_MAX);
    for (unsigned i = 0; i < 3; i++)
        worker_hook(&worker, &hooks[i].hook);
    for (unsigned c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (unsigned i = 0; i < 3; i++)
            hooks[i].wants_ns = cases[c].wants[i];
        assert_true(worker_turn(&worker, 50 + c) == cases[c].next_ns);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(hooks[i].runs, c + 1);
            assert_true(hooks[i].ran_at_ns == 50 + c);
        }
    }
}

/* Mail comes before hooks, and sees the turn's time; a hook that mail adds runs in the same turn. */
static void test_turn_mail(void **state)
{
    struct test_hook hook = {.hook.run = hook_run, .wants_ns = 90};
    struct turn_mail mail = {.mail.deliver = on_turn_mail, .hook = &hook};
    struct worker worker;

    (void)state;
    worker_bare(&worker);
    worker_post(&worker, &mail.mail);
    assert_true(worker_turn(&worker, 33) == 90);
    assert_int_equal(mail.hook_runs_seen, 0);
    assert_true(mail.now_seen_ns == 33);
    assert_int_equal(hook.runs, 1);
    worker_post(&worker, &mail.mail);
    assert_true(worker_turn(&worker, 44) == 90);
    assert_int_equal(mail.hook_runs_seen, 1);
    assert_int_equal(hook.runs, 2);
}

/* -- real ones, each with its queue ------------------------------------------------------------------------- */

#define POSTERS 3u
#define POSTS 34000u /* of each poster: about 100 000 in all */

struct real {
    struct metrics metrics;
    struct worker worker;
};

static struct real *real_new(void)
{
    struct real *real = calloc(1, sizeof(*real));

    assert_non_null(real);
    assert_int_equal(metrics_init(&real->metrics, 1), 0);
    assert_int_equal(worker_init(&real->worker, 0, 1, &real->metrics.cells[0]), 0);
    return real;
}

static void real_free(struct real *real)
{
    worker_deinit(&real->worker);
    metrics_deinit(&real->metrics);
    free(real);
}

struct echo {
    struct mail mail;
    sem_t *answered;
    pthread_t *ran_on;
    unsigned *delivered;
};

static void on_echo(struct mail *mail, void *receiver)
{
    struct echo *echo = container_of(mail, struct echo, mail);
    sem_t *answered = echo->answered;

    (void)receiver;
    *echo->ran_on = pthread_self();
    ++*echo->delivered;
    (void)sem_post(answered);
}

struct posting {
    struct worker *worker;
    pthread_t thread;
    pthread_t ran_on;
    sem_t answered;
    unsigned delivered;
    bool each; /* wait for each answer: the worker falls asleep between them */
};

/* A mail in use must not be posted again, so one that hurries takes a new one each time. */
static void *posting_run(void *argument)
{
    struct posting *posting = argument;
    struct echo *echos = calloc(POSTS, sizeof(*echos));

    for (unsigned i = 0; echos && i < POSTS; i++) {
        echos[i] = (struct echo){.mail.deliver = on_echo, .answered = &posting->answered, .ran_on = &posting->ran_on,
            .delivered = &posting->delivered};
        worker_post(posting->worker, &echos[i].mail);
        if (posting->each) {
            while (sem_wait(&posting->answered)) {
            }
        }
    }
    for (unsigned i = 0; echos && !posting->each && i < POSTS; i++) {
        while (sem_wait(&posting->answered)) {
        }
    }
    free(echos);
    return NULL;
}

/* A worker without hooks sleeps without end when it has nothing: only posts wake it. One poster waits for each answer, so that
 * the worker keeps falling asleep, the others post as fast as they can; a wake that is lost leaves them waiting for ever. */
static void test_wakes(void **state)
{
    struct real *real = real_new();
    struct posting postings[POSTERS] = {{.each = true}};

    (void)state;
    assert_int_equal(worker_start(&real->worker), 0);
    for (unsigned i = 0; i < POSTERS; i++) {
        postings[i].worker = &real->worker;
        assert_int_equal(sem_init(&postings[i].answered, 0, 0), 0);
        assert_int_equal(pthread_create(&postings[i].thread, NULL, posting_run, &postings[i]), 0);
    }
    for (unsigned i = 0; i < POSTERS; i++) {
        assert_int_equal(pthread_join(postings[i].thread, NULL), 0);
        assert_int_equal(postings[i].delivered, POSTS);
        assert_true(pthread_equal(postings[i].ran_on, real->worker.thread));
        assert_int_equal(sem_destroy(&postings[i].answered), 0);
    }
    worker_stop(&real->worker);
    real_free(real);
}

struct timer_hook {
    struct turn_hook hook;
    sem_t fired;
    uint64_t at_ns, fired_at_ns;
    unsigned runs;
};

static uint64_t timer_run(struct turn_hook *hook, uint64_t now_ns)
{
    struct timer_hook *timer = container_of(hook, struct timer_hook, hook);

    timer->runs++;
    if (timer->fired_at_ns == 0 && now_ns < timer->at_ns)
        return timer->at_ns;
    if (timer->fired_at_ns == 0) {
        timer->fired_at_ns = now_ns;
        (void)sem_post(&timer->fired);
    }
    return UINT64_MAX;
}

/* A hook that wants a time gets it without any event or mail, not before it, and without being run round and round
 * until then. */
static void test_wanted_time(void **state)
{
    struct real *real = real_new();
    struct timer_hook timer = {.hook.run = timer_run, .at_ns = clock_now_ns() + 30 * NS_PER_MS};

    (void)state;
    assert_int_equal(sem_init(&timer.fired, 0, 0), 0);
    worker_hook(&real->worker, &timer.hook);
    assert_int_equal(worker_start(&real->worker), 0);
    while (sem_wait(&timer.fired)) {
    }
    worker_stop(&real->worker);
    assert_true(timer.fired_at_ns >= timer.at_ns);
    assert_in_range(timer.runs, 2, 100); /* gRPC's clock is coarser than ours: it may wake a little early, and again */
    assert_int_equal(sem_destroy(&timer.fired), 0);
    real_free(real);
}

/* What was posted before the stop is done before it; a worker that never slept, or always, stops all the same. */
static void test_stop(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        struct real *real = real_new();
        unsigned delivered = 0;
        sem_t answered;
        pthread_t ran_on;
        struct echo echos[10];

        assert_int_equal(sem_init(&answered, 0, 0), 0);
        assert_int_equal(worker_start(&real->worker), 0);
        for (unsigned i = 0; i < round % 11 && i < 10; i++) {
            echos[i] = (struct echo){.mail.deliver = on_echo, .answered = &answered, .ran_on = &ran_on, .delivered = &delivered};
            worker_post(&real->worker, &echos[i].mail);
        }
        worker_stop(&real->worker);
        assert_int_equal(delivered, size_min(round % 11, 10));
        assert_int_equal(sem_destroy(&answered), 0);
        real_free(real);
    }
}

/* Never started, it can be undone. */
static void test_not_started(void **state)
{
    struct real *real = real_new();

    (void)state;
    real_free(real);
}

static int setup(void **state)
{
    (void)state;
    pump_library_init();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pump_library_deinit();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turn),
        cmocka_unit_test(test_turn_mail),
        cmocka_unit_test(test_wakes),
        cmocka_unit_test(test_wanted_time),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_not_started),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
