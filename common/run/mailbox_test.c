/* Whatever threads post and however often the receiver sleeps: each mail is delivered once, each poster's in the order it
 * posted them, and a sleeper is woken exactly once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

#include "common/base/cleanup.h"
#include "common/run/mailbox.h"

#define POSTERS 4u
#define MAILS 30000u /* of each poster */

struct test_mail {
    struct mail mail;
    unsigned poster, number, delivered;
};

/* What a receiver has seen. */
struct receiver {
    struct mailbox mailbox;
    unsigned next[POSTERS]; /* number expected of each poster */
    unsigned total;
    unsigned disorder;
    struct mailbox *again; /* mail that is delivered is posted here, while `again_left` > 0 */
    unsigned again_left;
};

static void on_mail(struct mail *mail, void *context)
{
    struct test_mail *test = container_of(mail, struct test_mail, mail);
    struct receiver *receiver = context;

    if (receiver->again_left > 0) {
        receiver->again_left--;
        receiver->total++;
        (void)mailbox_post(receiver->again, mail);
        return;
    }
    receiver->disorder += test->number != receiver->next[test->poster]++;
    test->delivered++;
    receiver->total++;
}

/* -- one thread ------------------------------------------------------------------------------------------- */

static void test_order(void **state)
{
    struct receiver receiver = {0};
    struct test_mail mails[5];

    (void)state;
    mailbox_init(&receiver.mailbox);
    assert_int_equal(mailbox_deliver(&receiver.mailbox, &receiver), 0);
    for (unsigned i = 0; i < 5; i++) {
        mails[i] = (struct test_mail){.mail.deliver = on_mail, .number = i};
        assert_false(mailbox_post(&receiver.mailbox, &mails[i].mail)); /* nobody sleeps */
    }
    assert_int_equal(mailbox_deliver(&receiver.mailbox, &receiver), 5);
    assert_int_equal(receiver.disorder, 0);
    assert_int_equal(receiver.next[0], 5);
    assert_int_equal(mailbox_deliver(&receiver.mailbox, &receiver), 0);
}

/* What is posted from inside a delivery comes with the next one, so that a turn ends. */
static void test_post_inside(void **state)
{
    struct receiver receiver = {.again_left = 3};
    struct test_mail mail = {.mail.deliver = on_mail};

    (void)state;
    mailbox_init(&receiver.mailbox);
    receiver.again = &receiver.mailbox;
    (void)mailbox_post(&receiver.mailbox, &mail.mail);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(mailbox_deliver(&receiver.mailbox, &receiver), 1);
    assert_int_equal(mailbox_deliver(&receiver.mailbox, &receiver), 0);
    assert_int_equal(mail.delivered, 1);
}

static void on_free(struct mail *mail, void *context)
{
    (void)context;
    free(container_of(mail, struct test_mail, mail));
}

/* A mail may be gone once it was delivered. */
static void test_free_inside(void **state)
{
    struct mailbox mailbox;

    (void)state;
    mailbox_init(&mailbox);
    for (unsigned i = 0; i < 3; i++) {
        struct test_mail *mail = calloc(1, sizeof(*mail));

        assert_non_null(mail);
        mail->mail.deliver = on_free;
        (void)mailbox_post(&mailbox, &mail->mail);
    }
    assert_int_equal(mailbox_deliver(&mailbox, NULL), 3);
}

static void test_sleep(void **state)
{
    struct receiver receiver = {0};
    struct test_mail mails[4];

    (void)state;
    mailbox_init(&receiver.mailbox);
    for (unsigned i = 0; i < 4; i++)
        mails[i] = (struct test_mail){.mail.deliver = on_mail, .number = i};

    assert_true(mailbox_sleep(&receiver.mailbox));
    assert_true(mailbox_post(&receiver.mailbox, &mails[0].mail));
    assert_false(mailbox_post(&receiver.mailbox, &mails[1].mail)); /* it is being woken already */
    mailbox_awake(&receiver.mailbox);
    assert_false(mailbox_sleep(&receiver.mailbox)); /* there is mail */
    assert_false(mailbox_post(&receiver.mailbox, &mails[2].mail)); /* ... so it did not go to sleep */
    assert_int_equal(mailbox_deliver(&receiver.mailbox, &receiver), 3);

    assert_true(mailbox_sleep(&receiver.mailbox));
    mailbox_awake(&receiver.mailbox); /* woken by something else */
    assert_false(mailbox_post(&receiver.mailbox, &mails[3].mail));
    assert_int_equal(mailbox_deliver(&receiver.mailbox, &receiver), 1);
    assert_int_equal(receiver.disorder, 0);
}

/* -- many threads ----------------------------------------------------------------------------------------- */

struct crowd {
    struct receiver receiver;
    sem_t bell; /* rung by each poster that was told to wake the receiver */
    struct test_mail *mails;
    pthread_barrier_t together;
};

struct poster {
    struct crowd *crowd;
    unsigned index, wakes;
    pthread_t thread;
};

static struct crowd *crowd_new(void)
{
    struct crowd *crowd = calloc(1, sizeof(*crowd));

    assert_non_null(crowd);
    crowd->mails = calloc((size_t)POSTERS * MAILS, sizeof(*crowd->mails));
    assert_non_null(crowd->mails);
    mailbox_init(&crowd->receiver.mailbox);
    assert_int_equal(sem_init(&crowd->bell, 0, 0), 0);
    assert_int_equal(pthread_barrier_init(&crowd->together, NULL, POSTERS + 1), 0);
    return crowd;
}

static void crowd_free(struct crowd *crowd)
{
    assert_int_equal(pthread_barrier_destroy(&crowd->together), 0);
    assert_int_equal(sem_destroy(&crowd->bell), 0);
    free(crowd->mails);
    free(crowd);
}

static void crowd_start(struct crowd *crowd, struct poster *posters, void *(*run)(void *))
{
    for (unsigned i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.crowd = crowd, .index = i};
        assert_int_equal(pthread_create(&posters[i].thread, NULL, run, &posters[i]), 0);
    }
}

static void post(struct poster *poster, unsigned number)
{
    struct crowd *crowd = poster->crowd;
    struct test_mail *mail = &crowd->mails[poster->index * MAILS + number];

    *mail = (struct test_mail){.mail.deliver = on_mail, .poster = poster->index, .number = number};
    if (mailbox_post(&crowd->receiver.mailbox, &mail->mail)) {
        poster->wakes++;
        (void)sem_post(&crowd->bell);
    }
}

static void *post_all(void *argument)
{
    for (unsigned i = 0; i < MAILS; i++)
        post(argument, i);
    return NULL;
}

/* The receiver sleeps whenever it may, with nothing but the bell to wake it: a wake too few and it never comes back. */
static void test_no_wake_lost(void **state)
{
    struct crowd *crowd = crowd_new();
    struct receiver *receiver = &crowd->receiver;
    struct poster posters[POSTERS];
    unsigned announced = 0, wakes = 0;

    (void)state;
    crowd_start(crowd, posters, post_all);
    while (receiver->total < POSTERS * MAILS) {
        if (mailbox_deliver(&receiver->mailbox, receiver) > 0)
            continue;
        announced++;
        if (!mailbox_sleep(&receiver->mailbox))
            continue;
        while (sem_wait(&crowd->bell)) {
        }
        mailbox_awake(&receiver->mailbox);
    }
    for (unsigned i = 0; i < POSTERS; i++) {
        assert_int_equal(pthread_join(posters[i].thread, NULL), 0);
        wakes += posters[i].wakes;
    }
    assert_int_equal(mailbox_deliver(&receiver->mailbox, receiver), 0);
    assert_int_equal(receiver->disorder, 0);
    for (unsigned i = 0; i < POSTERS; i++)
        assert_int_equal(receiver->next[i], MAILS);
    for (size_t i = 0; i < (size_t)POSTERS * MAILS; i++)
        assert_int_equal(crowd->mails[i].delivered, 1);
    assert_in_range(wakes, 0, announced);
    crowd_free(crowd);
}

#define ROUNDS 500u

static void *post_one_a_round(void *argument)
{
    struct poster *poster = argument;

    for (unsigned i = 0; i < ROUNDS; i++) {
        (void)pthread_barrier_wait(&poster->crowd->together); /* the receiver sleeps */
        post(poster, i);
        (void)pthread_barrier_wait(&poster->crowd->together);
    }
    return NULL;
}

/* All post at once to a receiver that sleeps: one of them, whichever, is told to wake it. */
static void test_one_wake(void **state)
{
    struct crowd *crowd = crowd_new();
    struct receiver *receiver = &crowd->receiver;
    struct poster posters[POSTERS];
    unsigned wakes = 0, not_one = 0;
    int rings;

    (void)state;
    crowd_start(crowd, posters, post_one_a_round);
    for (unsigned i = 0; i < ROUNDS; i++) {
        not_one += !mailbox_sleep(&receiver->mailbox);
        (void)pthread_barrier_wait(&crowd->together);
        while (sem_wait(&crowd->bell)) {
        }
        (void)pthread_barrier_wait(&crowd->together);
        mailbox_awake(&receiver->mailbox);
        not_one += mailbox_deliver(&receiver->mailbox, receiver) != POSTERS;
        not_one += sem_getvalue(&crowd->bell, &rings) != 0 || rings != 0;
    }
    for (unsigned i = 0; i < POSTERS; i++) {
        assert_int_equal(pthread_join(posters[i].thread, NULL), 0);
        wakes += posters[i].wakes;
    }
    assert_int_equal(not_one, 0);
    assert_int_equal(wakes, ROUNDS);
    assert_int_equal(receiver->disorder, 0);
    crowd_free(crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_post_inside),
        cmocka_unit_test(test_free_inside),
        cmocka_unit_test(test_sleep),
        cmocka_unit_test(test_no_wake_lost),
        cmocka_unit_test(test_one_wake),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
