/* A link is opened when its address is listed, leaves when it is not, may come back, and is freed only when no snapshot names
 * it, nothing is reserved in it and its worker has closed it; what was queued in it is given back, whole, at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/export/rpc_code.h"
#include "common/metrics/metrics.h"
#include "lb/route/link_table.h"
#include "tests/kit/fake_link.h"

#define START (100 * NS_PER_S)
#define READY 2u
#define FAKES 16u

struct fixture {
    struct metrics metrics;
    struct worker worker;
    struct member_book book;
    struct link_table table;
    struct fake_link fakes[FAKES]; /* one a link that was ever opened */
    unsigned made, closed;
    size_t given_back, delivered;
    struct member_set *set;
    uint64_t now_ns;
};

static struct fixture *fixture; /* `open` has no context */

/* -- what a link tells ----------------------------------------------------------------------------------------- */

static void on_hello(void *context, unsigned index, const struct hello_answer *answer)
{
    struct fixture *f = context;

    member_book_hello(&f->book, index, answer->name, answer->software, answer->hash_version, READY, true);
}

static void on_condition(void *context, unsigned index, enum member_condition condition)
{
    (void)context;
    (void)index;
    (void)condition;
}

static void on_closed(void *context, unsigned index)
{
    struct fixture *f = context;

    f->closed |= 1u << index; /* the test brings it to the table, as the mail does */
}

static void piece_free(struct piece *piece)
{
    buffer_unref(piece->bytes);
    free(piece);
}

static void on_delivered(void *context, struct piece *piece, uint32_t rejected_count)
{
    (void)rejected_count;
    ((struct fixture *)context)->delivered++;
    piece_free(piece);
}

static void on_failed(void *context, struct piece *piece, const struct link_result *result)
{
    assert_int_equal(result->code, RPC_UNAVAILABLE); /* which goes elsewhere */
    ((struct fixture *)context)->given_back++;
    piece_free(piece);
}

static struct member_link *make(void *context, unsigned index, const char *address)
{
    struct fixture *f = context;
    const struct member_link_events events = {f, on_hello, on_condition, on_closed};
    const struct outbox_owner pieces = {f, on_delivered, on_failed};
    struct member_link *link = malloc(sizeof(*link));

    assert_non_null(link);
    member_link_init(link, index, address, &f->worker, &events, &pieces, 64 * MIB, 30 * NS_PER_S);
    return link;
}

static void open_fake(struct member_link *link)
{
    struct fake_link *fake = &fixture->fakes[fixture->made++];

    assert_in_range(fixture->made, 1, FAKES);
    fake_link_init(fake, LINK_DOWN);
    member_link_adopt(link, &fake->link);
    fake_link_set_state(fake, LINK_UP);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    fixture = f;
    assert_int_equal(metrics_init(&f->metrics, 1), 0);
    f->worker.metrics = &f->metrics.cells[0]; /* worker_init would make a queue */
    mailbox_init(&f->worker.mailbox);
    list_init(&f->worker.hooks);
    f->now_ns = START;
    member_book_init(&f->book, START);
    link_table_init(&f->table, &f->book, f, make);
    f->table.open = open_fake;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    member_set_unref(f->set);
    for (unsigned i = 0; i < f->made; i++)
        fake_link_end_all(&f->fakes[i], RPC_CANCELLED);
    (void)worker_turn(&f->worker, f->now_ns); /* mail may still name links */
    link_table_close_all(&f->table); /* frees the fake links: one that was freed before aborts */
    link_table_deinit(&f->table);
    member_book_deinit(&f->book);
    metrics_deinit(&f->metrics);
    free(f);
    return 0;
}

/* -- steps ------------------------------------------------------------------------------------------------------- */

static void turn(struct fixture *f)
{
    (void)worker_turn(&f->worker, f->now_ns);
}

/* The resolver's list: letters, each the address "x:1". */
static void resolved(struct fixture *f, const char *letters)
{
    struct resolved_address addresses[FAKES];
    size_t count = 0;

    for (; letters[count]; count++) {
        addresses[count] = (struct resolved_address){.ready = true};
        (void)snprintf(addresses[count].address, sizeof(addresses[count].address), "%c:1", letters[count]);
    }
    (void)member_book_resolved(&f->book, addresses, count);
    assert_int_equal(link_table_resolved(&f->table), 0);
    turn(f);
}

static size_t index_of(const struct fixture *f, char letter)
{
    for (size_t i = 0; i < f->book.count; i++) {
        if (f->book.addresses[i].address[0] == letter)
            return i;
    }
    return SIZE_MAX;
}

/* Every Hello under way is answered: none of these is a Tailrace node, so its address is its name. */
static void say_hello(struct fixture *f)
{
    turn(f);
    for (unsigned i = 0; i < f->made; i++) {
        struct fake_message *message = fake_link_pending(&f->fakes[i], 0);

        if (message && strcmp(message->method, "/tailrace.v1.Peer/Hello") == 0)
            fake_link_end_code(&f->fakes[i], message, RPC_UNIMPLEMENTED);
    }
    turn(f);
}

/* What lb_tend does: a ring of those listed, named and open, published to nobody but the table. */
static void publish(struct fixture *f)
{
    struct ring_member *members = calloc(f->book.count, sizeof(*members));
    size_t count = member_book_members(&f->book, members);
    struct member_set *set = calloc(1, sizeof(*set) + count * sizeof(set->members[0]));

    assert_non_null(set);
    atomic_init(&set->refs, 1);
    assert_int_equal(ring_new(members, count, &set->ring), 0);
    free(members);
    for (uint32_t i = 0; i < set->ring->member_count; i++) {
        struct member_link *link = link_table_open(&f->table, index_of(f, set->ring->names[i][0]));

        assert_non_null(link);
        set->members[i] = (struct member){{link}, 1};
    }
    member_set_count(set);
    member_set_unref(f->set);
    f->set = set;
    link_table_published(&f->table, set, f->now_ns);
    turn(f);
}

static void tend(struct fixture *f)
{
    link_table_tend(&f->table, f->now_ns);
    turn(f);
    for (unsigned i = 0; i < LINKS_MAX && i < 32; i++) {
        if (f->closed >> i & 1)
            link_table_closed(&f->table, i);
    }
    f->closed = 0;
}

static void put(struct fixture *f, struct member_link *link)
{
    struct piece *piece = calloc(1, sizeof(*piece));

    assert_non_null(piece);
    piece->bytes = buffer_new(1000);
    assert_non_null(piece->bytes);
    memset(piece->bytes->bytes, 0, 1000);
    piece->bytes->len = 1000;
    piece->span_count = 1;
    assert_true(outbox_reserve(&link->outbox, 1000));
    member_link_put(link, piece, f->now_ns);
}

static struct member_link *link_of(struct fixture *f, char letter)
{
    size_t index = index_of(f, letter);

    return index == SIZE_MAX ? NULL : f->table.slots[index].link;
}

/* -- cases ------------------------------------------------------------------------------------------------------- */

/* A member that is not listed any more: no longer in the ring, then a while as it was, then gone with its index. */
static void test_life(void **state)
{
    struct fixture *f = *state;

    resolved(f, "abc");
    say_hello(f);
    publish(f);
    assert_int_equal(f->made, 3);
    resolved(f, "ac");
    assert_null(link_table_open(&f->table, 1));
    f->now_ns += 10 * LINK_LINGER_NS;
    tend(f); /* the old ring names it still: it serves */
    assert_non_null(link_of(f, 'b'));
    publish(f);
    tend(f); /* the while begins when the ring is out */
    assert_non_null(link_of(f, 'b'));
    f->now_ns += LINK_LINGER_NS - 1;
    tend(f);
    assert_non_null(link_of(f, 'b'));
    f->now_ns += 1;
    tend(f);
    assert_null(link_of(f, 'b'));
    assert_int_equal(index_of(f, 'b'), SIZE_MAX);
    assert_int_equal(member_book_used(&f->book), 2);
    resolved(f, "acd");
    assert_int_equal(index_of(f, 'd'), 1);
    assert_int_equal(f->made, 4);
}

/* Listed again while it leaves: the same link goes on, and takes pieces again. */
static void test_revived(void **state)
{
    struct fixture *f = *state;
    struct member_link *link;

    resolved(f, "ab");
    say_hello(f);
    publish(f);
    link = link_of(f, 'b');
    resolved(f, "a");
    publish(f);
    f->now_ns += LINK_LINGER_NS / 2;
    resolved(f, "ab");
    publish(f);
    assert_ptr_equal(link_of(f, 'b'), link);
    assert_int_equal(f->made, 2);
    f->now_ns += 10 * LINK_LINGER_NS;
    tend(f);
    assert_ptr_equal(link_of(f, 'b'), link);
    put(f, link);
    turn(f);
    assert_int_equal(f->given_back, 0);
    assert_int_equal(f->fakes[1].pending, 1);
    fake_link_end_all(&f->fakes[1], RPC_OK);
    assert_int_equal(f->delivered, 1);
}

/* What is queued when a member leaves, and what others put before they saw the new ring, is given back; what is under way is
 * left to end, and the link stays until it has. */
static void test_pieces(void **state)
{
    struct fixture *f = *state;
    struct member_link *link;

    resolved(f, "ab");
    say_hello(f);
    publish(f);
    link = link_of(f, 'b');
    for (unsigned i = 0; i < 5; i++) {
        put(f, link);
        if (i < 2)
            turn(f); /* a call each; the others wait for room */
    }
    turn(f);
    assert_int_equal(f->fakes[1].pending, 2);
    resolved(f, "a");
    turn(f);
    assert_int_equal(f->given_back, 0); /* the ring still names it */
    publish(f);
    assert_int_equal(f->given_back, 3);
    put(f, link);
    turn(f);
    assert_int_equal(f->given_back, 4);
    assert_int_equal(f->fakes[1].pending, 2); /* nothing new was started */

    f->now_ns += 2 * LINK_LINGER_NS;
    tend(f);
    assert_ptr_equal(link_of(f, 'b'), link);
    fake_link_end(&f->fakes[1], fake_link_pending(&f->fakes[1], 0), &(struct link_result){.code = RPC_OK});
    tend(f);
    assert_ptr_equal(link_of(f, 'b'), link);
    fake_link_end(&f->fakes[1], fake_link_pending(&f->fakes[1], 0), &(struct link_result){.code = RPC_UNAVAILABLE});
    assert_int_equal(f->delivered, 1);
    assert_int_equal(f->given_back, 5);
    tend(f);
    assert_null(link_of(f, 'b'));
}

/* A snapshot that a worker has not let go of holds the link. */
static void test_snapshot_holds(void **state)
{
    struct fixture *f = *state;
    struct member_set *kept;

    resolved(f, "ab");
    say_hello(f);
    publish(f);
    kept = member_set_ref(f->set);
    resolved(f, "a");
    publish(f);
    f->now_ns += 2 * LINK_LINGER_NS;
    tend(f);
    assert_non_null(link_of(f, 'b'));
    member_set_unref(kept);
    tend(f);
    assert_null(link_of(f, 'b'));
}

/* Listed again while its worker closes it: a new link under the old index, in no ring until it has said Hello. */
static void test_back_while_closing(void **state)
{
    struct fixture *f = *state;
    struct member_link *before;
    size_t index;

    resolved(f, "ab");
    say_hello(f);
    publish(f);
    before = link_of(f, 'b');
    index = index_of(f, 'b');
    resolved(f, "a");
    publish(f);
    f->now_ns += LINK_LINGER_NS;
    link_table_tend(&f->table, f->now_ns);
    assert_int_equal(f->table.slots[index].life, LINK_LIFE_CLOSING);
    resolved(f, "ab"); /* its turn closes the old one */
    assert_int_equal(f->made, 2);
    assert_ptr_equal(link_of(f, 'b'), before);
    assert_false(f->book.addresses[index].named);
    publish(f);
    assert_int_equal(f->set->ring->member_count, 1);
    tend(f);
    assert_int_equal(f->made, 3);
    assert_int_equal(index_of(f, 'b'), index);
    say_hello(f);
    publish(f);
    assert_int_equal(f->set->ring->member_count, 2);
}

/* A link that never connected leaves like any other; Hello under way does not hold it. */
static void test_hello_under_way(void **state)
{
    struct fixture *f = *state;

    resolved(f, "a");
    say_hello(f);
    publish(f);
    resolved(f, "ab");
    turn(f);
    assert_int_equal(f->fakes[1].pending, 1);
    resolved(f, "a");
    publish(f);
    f->now_ns += LINK_LINGER_NS;
    tend(f);
    assert_true(fake_link_pending(&f->fakes[1], 0)->cancelled);
    assert_non_null(link_of(f, 'b'));
    fake_link_end_all(&f->fakes[1], RPC_CANCELLED);
    tend(f);
    assert_null(link_of(f, 'b'));
}

/* More addresses than links may be: those beyond are said, and not kept once they are gone. */
static void test_bound(void **state)
{
    static struct resolved_address addresses[LINKS_MAX + 5];
    struct fixture *f = *state;

    for (size_t i = 0; i < LINKS_MAX + 5; i++) {
        addresses[i] = (struct resolved_address){.ready = true};
        (void)snprintf(addresses[i].address, sizeof(addresses[i].address), "m%zu:1", i);
    }
    f->book.started_ns = f->now_ns;
    (void)member_book_resolved(&f->book, addresses, LINKS_MAX + 5);
    f->table.count = LINKS_MAX; /* as if all had been opened: what counts is who has no room */
    for (size_t i = 0; i < LINKS_MAX; i++)
        f->table.slots[i].life = LINK_LIFE_OPEN;
    assert_int_equal(link_table_resolved(&f->table), 5);
    (void)member_book_resolved(&f->book, addresses, LINKS_MAX);
    assert_int_equal(link_table_resolved(&f->table), 0);
    assert_int_equal(f->book.count, LINKS_MAX);
    memset(f->table.slots, 0, sizeof(f->table.slots));
    f->table.count = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revived, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshot_holds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_back_while_closing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hello_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bound, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
