/* Names come from Hellos and stay with their address; the ring's members are the distinct names of what is listed, named and
 * not refused; and no answer of a resolver, short of a good one, takes a member away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cluster/member.h"

#define START 1000u
#define OTHER_HASH (RING_HASH_VERSION + 1)
#define READY 2u
#define DRAINING 3u

/* The resolver's answer: addresses apart by blanks, "-" before one that is not ready, "=name" behind one it has a name for. */
static bool resolved(struct member_book *book, const char *list)
{
    struct resolved_address addresses[64];
    size_t count = 0;

    while (*list) {
        size_t len = strcspn(list, " ");
        struct resolved_address *out = &addresses[count++];

        out->ready = list[0] != '-';
        (void)snprintf(out->address, sizeof(out->address), "%.*s", (int)len - !out->ready, list + !out->ready);
        out->name[0] = '\0';
        if (strchr(out->address, '=')) {
            (void)snprintf(out->name, sizeof(out->name), "%s", strchr(out->address, '=') + 1);
            *strchr(out->address, '=') = '\0';
        }
        list += len + strspn(list + len, " ");
    }
    return member_book_resolved(book, addresses, count);
}

static size_t index_of(const struct member_book *book, const char *address)
{
    for (size_t i = 0; i < book->count; i++) {
        if (strcmp(book->addresses[i].address, address) == 0)
            return i;
    }
    fail_msg("no address %s", address);
    return 0;
}

static void hello(struct member_book *book, const char *address, const char *name)
{
    member_book_hello(book, index_of(book, address), name, "software", RING_HASH_VERSION, READY, true);
}

/* The members' names, each followed by a blank, in the order they come. */
static const char *members(const struct member_book *book)
{
    static char text[4096];
    struct ring_member *out = calloc(book->count + 1, sizeof(*out));
    size_t count, at = 0;

    assert_non_null(out);
    count = member_book_members(book, out);
    assert_in_range(count, 0, book->count);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s ", out[i].name);
    free(out);
    return text;
}

/* -- names and addresses ---------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    struct member_book book;

    (void)state;
    member_book_init(&book, START);
    assert_string_equal(members(&book), "");
    assert_true(resolved(&book, "a:1 b:1 c:1"));
    assert_int_equal(book.count, 3);
    assert_string_equal(members(&book), ""); /* nobody has said a name */
    hello(&book, "b:1", "sampler-1");
    assert_string_equal(members(&book), "sampler-1 ");
    hello(&book, "a:1", "sampler-0");
    hello(&book, "c:1", ""); /* no Tailrace node: the address is the name */
    assert_string_equal(members(&book), "sampler-0 sampler-1 c:1 ");
    assert_string_equal(book.addresses[2].name, "c:1");
    /* It says another name: it is another one. */
    hello(&book, "b:1", "sampler-7");
    assert_string_equal(members(&book), "sampler-0 sampler-7 c:1 ");
    member_book_deinit(&book);
}

/* Two addresses with one name are one member; without one of them it is still there. */
static void test_one_name_twice(void **state)
{
    struct member_book book;

    (void)state;
    member_book_init(&book, START);
    (void)resolved(&book, "a:1 b:1 c:1");
    hello(&book, "a:1", "sampler-0");
    hello(&book, "b:1", "sampler-1");
    hello(&book, "c:1", "sampler-0");
    assert_string_equal(members(&book), "sampler-0 sampler-1 ");
    (void)resolved(&book, "b:1 c:1");
    assert_string_equal(members(&book), "sampler-1 sampler-0 ");
    (void)resolved(&book, "b:1");
    assert_string_equal(members(&book), "sampler-1 ");
    member_book_deinit(&book);
}

/* A pod that comes back with another address is the same member: the ring made of the book is the same one. */
static void test_moves(void **state)
{
    struct member_book book;
    struct ring_member list[4];
    struct ring *before, *after;

    (void)state;
    member_book_init(&book, START);
    (void)resolved(&book, "a:1 b:1");
    hello(&book, "a:1", "sampler-0");
    hello(&book, "b:1", "sampler-1");
    assert_int_equal(ring_new(list, member_book_members(&book, list), &before), 0);
    assert_true(resolved(&book, "b:1 new:1"));
    assert_string_equal(members(&book), "sampler-1 "); /* it has not said who it is */
    hello(&book, "new:1", "sampler-0");
    assert_int_equal(ring_new(list, member_book_members(&book, list), &after), 0);
    assert_true(before->fingerprint == after->fingerprint);
    assert_memory_equal(before->owner, after->owner, sizeof(before->owner));
    ring_unref(before);
    ring_unref(after);
    member_book_deinit(&book);
}

/* A name is kept per address, also while the address is not listed. */
static void test_comes_back(void **state)
{
    struct member_book book;

    (void)state;
    member_book_init(&book, START);
    assert_true(resolved(&book, "a:1 b:1"));
    hello(&book, "a:1", "sampler-0");
    hello(&book, "b:1", "sampler-1");
    assert_false(resolved(&book, "b:1"));
    assert_string_equal(members(&book), "sampler-1 ");
    assert_int_equal(book.count, 2); /* indices stay what they are */
    assert_false(resolved(&book, "a:1 b:1"));
    assert_string_equal(members(&book), "sampler-0 sampler-1 ");
    member_book_deinit(&book);
}

static void test_state_and_refusal(void **state)
{
    struct member_book book;
    struct ring_member list[4];

    (void)state;
    member_book_init(&book, START);
    (void)resolved(&book, "a:1 b:1");
    member_book_hello(&book, 0, "sampler-0", "tailrace-sampler 9", RING_HASH_VERSION, DRAINING, true);
    member_book_hello(&book, 1, "sampler-1", "tailrace-sampler 10", OTHER_HASH, READY, false);
    assert_int_equal(member_book_members(&book, list), 1); /* other hash version: shown, never used */
    assert_string_equal(list[0].name, "sampler-0");
    assert_int_equal(list[0].state, DRAINING);
    assert_true(book.addresses[1].refused);
    assert_string_equal(book.addresses[1].name, "sampler-1");
    assert_string_equal(book.addresses[1].software, "tailrace-sampler 10");
    assert_int_equal(book.addresses[1].hash_version, OTHER_HASH);
    assert_true(book.addresses[0].hands_over);
    assert_false(book.addresses[1].hands_over);
    /* It comes back with the right version. */
    member_book_hello(&book, 1, "sampler-1", "tailrace-sampler 9", RING_HASH_VERSION, READY, true);
    assert_int_equal(member_book_members(&book, list), 2);
    member_book_deinit(&book);
}

/* Texts that a peer sends may be as long as it likes. */
static void test_long_texts(void **state)
{
    struct member_book book;
    char text[2000];

    (void)state;
    memset(text, 'n', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    member_book_init(&book, START);
    (void)resolved(&book, "a:1");
    member_book_hello(&book, 0, text, text, RING_HASH_VERSION, READY, true);
    assert_int_equal(strlen(book.addresses[0].name), sizeof(book.addresses[0].name) - 1);
    assert_int_equal(strlen(book.addresses[0].software), sizeof(book.addresses[0].software) - 1);
    member_book_failed(&book, text);
    assert_int_equal(strlen(book.last_failure), sizeof(book.last_failure) - 1);
    member_book_deinit(&book);
}

/* -- the resolver ------------------------------------------------------------------------------------------- */

/* Who cannot say a name is called as the resolver says, so that it stays one member when its address changes; and by its
 * address where the resolver says nothing. Who says one is called that. */
static void test_hints(void **state)
{
    struct member_book book;

    (void)state;
    member_book_init(&book, START);
    assert_true(resolved(&book, "a:1=pod-0 b:1 c:1=pod-2"));
    hello(&book, "a:1", "");
    hello(&book, "b:1", "");
    hello(&book, "c:1", "sampler-2");
    assert_string_equal(members(&book), "pod-0 b:1 sampler-2 ");
    assert_true(resolved(&book, "d:1=pod-0 b:1 c:1=pod-2"));
    hello(&book, "d:1", "");
    assert_string_equal(members(&book), "b:1 sampler-2 pod-0 ");
    member_book_deinit(&book);
}

/* An index belongs to its address until that is forgotten, and then to the next that comes; the others keep theirs. */
static void test_forget(void **state)
{
    struct member_book book;

    (void)state;
    member_book_init(&book, START);
    assert_true(resolved(&book, "a:1 b:1 c:1"));
    hello(&book, "b:1", "sampler-b");
    assert_false(resolved(&book, "a:1 c:1"));
    assert_int_equal(member_book_used(&book), 3);
    assert_int_equal(member_book_listed(&book), 2);
    assert_int_equal(index_of(&book, "b:1"), 1);
    member_book_forget(&book, 1);
    assert_int_equal(member_book_used(&book), 2);
    assert_int_equal(index_of(&book, "c:1"), 2);
    assert_true(resolved(&book, "a:1 c:1 d:1 e:1"));
    assert_int_equal(index_of(&book, "d:1"), 1);
    assert_int_equal(index_of(&book, "e:1"), 3);
    assert_false(book.addresses[1].named); /* nothing of b is left */
    assert_false(resolved(&book, "a:1"));
    for (size_t i = book.count; i-- > 1;)
        member_book_forget(&book, i);
    assert_int_equal(book.count, 1);
    member_book_deinit(&book);
}

static void test_failures(void **state)
{
    struct member_book book;

    (void)state;
    member_book_init(&book, START);
    (void)resolved(&book, "a:1 b:1");
    hello(&book, "a:1", "sampler-0");
    hello(&book, "b:1", "sampler-1");
    assert_false(resolved(&book, "")); /* an empty answer is a failure */
    assert_int_equal(book.failures, 1);
    assert_string_not_equal(book.last_failure, "");
    assert_string_equal(members(&book), "sampler-0 sampler-1 ");
    member_book_failed(&book, "no such host");
    assert_int_equal(book.failures, 2);
    assert_string_equal(book.last_failure, "no such host");
    assert_string_equal(members(&book), "sampler-0 sampler-1 ");
    assert_true(member_book_ready(&book, START));
    member_book_deinit(&book);
}

/* Not ready there: known, but no member until it is. */
static void test_not_ready(void **state)
{
    struct member_book book;

    (void)state;
    member_book_init(&book, START);
    assert_true(resolved(&book, "a:1 -b:1"));
    hello(&book, "a:1", "sampler-0");
    hello(&book, "b:1", "sampler-1");
    assert_string_equal(members(&book), "sampler-0 ");
    assert_false(resolved(&book, "a:1 b:1"));
    assert_string_equal(members(&book), "sampler-0 sampler-1 ");
    assert_false(resolved(&book, "-a:1 -b:1"));
    assert_false(member_book_ready(&book, START)); /* no ring is made of nobody: the one there was stays */
    member_book_deinit(&book);
}

/* New addresses are the last ones, in the resolver's order, and the old keep their places while the table grows. */
static void test_growth(void **state)
{
    struct member_book book;
    char list[64 * 8];

    (void)state;
    member_book_init(&book, START);
    for (size_t count = 1; count <= 60; count += count < 9 ? 1 : 17) {
        size_t before = book.count, at = 0;

        for (size_t i = 0; i < count; i++) /* the newest first */
            at += (size_t)snprintf(list + at, sizeof(list) - at, "h%zu:1 ", count - 1 - i);
        assert_true(resolved(&book, list));
        assert_false(resolved(&book, list));
        assert_int_equal(book.count, count);
        for (size_t i = before; i < count; i++) {
            (void)snprintf(list, sizeof(list), "h%zu:1", count - 1 - (i - before));
            assert_string_equal(book.addresses[i].address, list);
            hello(&book, list, list);
        }
        for (size_t i = 0; i < count; i++)
            assert_string_equal(book.addresses[i].name, book.addresses[i].address);
    }
    member_book_deinit(&book);
}

/* -- the first ring ------------------------------------------------------------------------------------------- */

static void test_ready(void **state)
{
    const uint64_t over = START + MEMBER_HELLO_WAIT_NS;
    struct member_book book;

    (void)state;
    member_book_init(&book, START);
    assert_false(member_book_ready(&book, over)); /* nobody is listed */
    (void)resolved(&book, "a:1 b:1 -c:1");
    assert_false(member_book_ready(&book, over)); /* nobody has said Hello */
    member_book_hello(&book, 0, "old", "", OTHER_HASH, READY, true);
    assert_false(member_book_ready(&book, over)); /* one that is refused is nobody */
    hello(&book, "a:1", "sampler-0");
    assert_false(member_book_ready(&book, START));
    assert_false(member_book_ready(&book, over - 1)); /* the other one may still come */
    assert_true(member_book_ready(&book, over));
    hello(&book, "b:1", "sampler-1");
    assert_true(member_book_ready(&book, START)); /* all that are ready are there: c is not waited for */

    /* After the first ring nobody is waited for. */
    (void)resolved(&book, "a:1 b:1 d:1");
    assert_false(member_book_ready(&book, START));
    book.formed = true;
    assert_true(member_book_ready(&book, START));
    member_book_deinit(&book);
}

/* Refused ones have said Hello: they hold nobody up. */
static void test_ready_refused(void **state)
{
    struct member_book book;

    (void)state;
    member_book_init(&book, START);
    (void)resolved(&book, "a:1 b:1");
    member_book_hello(&book, 0, "old", "", OTHER_HASH, READY, true);
    hello(&book, "b:1", "sampler-1");
    assert_true(member_book_ready(&book, START));
    assert_string_equal(members(&book), "sampler-1 ");
    member_book_deinit(&book);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_one_name_twice),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_comes_back),
        cmocka_unit_test(test_state_and_refusal),
        cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_hints),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_not_ready),
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_ready_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
