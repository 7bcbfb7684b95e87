/* Links come and go while two workers send through them: each piece is delivered once, also those given back by a link that
 * leaves, and no link is freed while a worker can still reach it, which the sanitizers see.
 *
 * For the thread sanitizer: the control thread lists, publishes and retires as lb_tend does, on a clock that leaps; the
 * workers are the programs' own. What stands in for a connection answers by mail from the other worker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/export/rpc_code.h"
#include "common/metrics/metrics.h"
#include "common/run/clock.h"
#include "common/run/grpc_pump.h"
#include "lb/route/link_table.h"

#define WORKERS 2u
#define ADDRESSES 5u
#define PIECES 4000u /* of each worker */
#define UNDER_WAY 200u
#define RINGS 20u     /* at least so many, spread over the pieces */
#define ENDED 8u      /* links that must have ended meanwhile */
#define OUTBOX_BYTES (16 * KIB) /* little: reservations fail now and then */
#define READY 2u

struct side {
    struct worker worker;
    struct turn_hook hook;
    struct churn *churn;
    struct member_set *set, *next_set; /* next: used a while later, as by a worker that is slow */
    uint64_t next_set_ns;
    struct list waiting; /* pieces that no link took */
    unsigned made, under_way, settled, given_back;
    uint64_t random;
    atomic_uint rings_seen;
    atomic_bool done;
};

struct churn {
    struct metrics metrics;
    struct side sides[WORKERS];
    /* the control thread's */
    struct mailbox mailbox;
    struct member_book book;
    struct link_table links;
    uint64_t now_ns, random;
    unsigned opened, ended, rings;
};

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return *state >> 33;
}

static struct side *side_of(void *worker)
{
    return container_of((struct worker *)worker, struct side, worker);
}

/* -- connections: a message is mail to the other worker, its answer mail back ----------------------------------- */

struct quick_link {
    struct link link;
    struct worker *owner, *peer;
};

struct delivery {
    struct mail mail;
    struct worker *owner;
    struct link_call *call;
    size_t piece_count;
    struct buffer *pieces[OUTBOX_CALL_PIECES];
    int code;
};

static void owner_on_answer(struct mail *mail, void *receiver)
{
    struct delivery *delivery = container_of(mail, struct delivery, mail);
    const struct link_result result = {.code = delivery->code};

    (void)receiver;
    delivery->call->done(delivery->call, &result);
    free(delivery);
}

static void peer_on_message(struct mail *mail, void *receiver)
{
    struct delivery *delivery = container_of(mail, struct delivery, mail);
    struct side *peer = side_of(receiver);

    for (size_t i = 0; i < delivery->piece_count; i++)
        buffer_unref(delivery->pieces[i]);
    if (delivery->code == RPC_OK && random_next(&peer->random) % 8 == 0)
        delivery->code = RPC_UNAVAILABLE;
    delivery->mail.deliver = owner_on_answer;
    worker_post(delivery->owner, &delivery->mail);
}

static void quick_send(struct link *base, const struct link_message *message, struct link_call *call)
{
    struct quick_link *link = container_of(base, struct quick_link, link);
    struct delivery *delivery = calloc(1, sizeof(*delivery));

    ASSERT(delivery != NULL && message->piece_count <= OUTBOX_CALL_PIECES);
    *delivery = (struct delivery){.mail.deliver = peer_on_message, .owner = link->owner, .call = call,
        .piece_count = message->piece_count, .code = strcmp(message->method, LINK_EXPORT) == 0 ? RPC_OK : RPC_UNIMPLEMENTED};
    for (size_t i = 0; i < message->piece_count; i++)
        delivery->pieces[i] = buffer_ref(message->pieces[i]);
    worker_post(link->peer, &delivery->mail);
}

static void quick_cancel(struct link *base, struct link_call *call)
{
    (void)base; /* the answer is on its way */
    (void)call;
}

static void quick_free(struct link *base)
{
    free(container_of(base, struct quick_link, link));
}

static const struct link_ops quick_ops = {quick_send, quick_cancel, quick_free};

static void worker_on_open(struct mail *mail, void *receiver)
{
    struct member_link *member = container_of(mail, struct member_link, open_mail);
    struct side *side = side_of(receiver);
    struct quick_link *link = calloc(1, sizeof(*link));

    ASSERT(link != NULL);
    *link = (struct quick_link){{.ops = &quick_ops, .state = LINK_DOWN}, &side->worker,
        &side->churn->sides[(side->worker.index + 1) % WORKERS].worker};
    member_link_adopt(member, &link->link);
    link->link.state = LINK_UP;
    link->link.on_state(&link->link, link->link.context, LINK_UP);
}

static void open_quick(struct member_link *member)
{
    member->open_mail.deliver = worker_on_open;
    worker_post(member->worker, &member->open_mail);
}

/* -- pieces ------------------------------------------------------------------------------------------------------ */

struct churn_piece {
    struct piece piece;
    struct mail mail;
    struct side *home;
    struct member_link *link;
};

static void worker_on_put(struct mail *mail, void *receiver)
{
    struct churn_piece *piece = container_of(mail, struct churn_piece, mail);

    member_link_put(piece->link, &piece->piece, ((struct worker *)receiver)->now_ns);
}

/* As lb_on_request and its kin: who reserves holds the snapshot that names the link. */
static bool piece_put(struct side *side, struct churn_piece *piece)
{
    struct member_link *link;

    if (!side->set)
        return false;
    link = side->set->members[random_next(&side->random) % side->set->ring->member_count].links[0];
    if (member_link_condition(link) != MEMBER_UP || !outbox_reserve(&link->outbox, piece->piece.bytes->len))
        return false;
    piece->link = link;
    if (link->worker == &side->worker) {
        member_link_put(link, &piece->piece, side->worker.now_ns);
    } else {
        piece->mail.deliver = worker_on_put;
        worker_post(link->worker, &piece->mail);
    }
    return true;
}

static struct churn_piece *piece_new(struct side *side)
{
    struct churn_piece *piece = calloc(1, sizeof(*piece));
    size_t len = 1 + random_next(&side->random) % 1000;

    ASSERT(piece != NULL);
    piece->home = side;
    piece->piece.bytes = buffer_new(len);
    ASSERT(piece->piece.bytes != NULL);
    memset(piece->piece.bytes->bytes, 0, len);
    piece->piece.bytes->len = len;
    piece->piece.span_count = 1;
    side->made++;
    side->under_way++;
    return piece;
}

static void home_on_delivered(struct mail *mail, void *receiver)
{
    struct churn_piece *piece = container_of(mail, struct churn_piece, mail);
    struct side *side = side_of(receiver);

    ASSERT(piece->home == side);
    side->settled++;
    side->under_way--;
    buffer_unref(piece->piece.bytes);
    free(piece);
}

static void home_on_failed(struct mail *mail, void *receiver)
{
    struct churn_piece *piece = container_of(mail, struct churn_piece, mail);

    side_of(receiver)->given_back++;
    list_add_tail(&side_of(receiver)->waiting, &piece->piece.node);
}

static void outbox_delivered(void *context, struct piece *base, uint32_t rejected_count)
{
    struct churn_piece *piece = container_of(base, struct churn_piece, piece);

    (void)context;
    ASSERT(rejected_count == 0);
    piece->mail.deliver = home_on_delivered;
    worker_post(&piece->home->worker, &piece->mail);
}

static void outbox_failed(void *context, struct piece *base, const struct link_result *result)
{
    struct churn_piece *piece = container_of(base, struct churn_piece, piece);

    (void)context;
    ASSERT(result->code == RPC_UNAVAILABLE);
    piece->mail.deliver = home_on_failed;
    worker_post(&piece->home->worker, &piece->mail);
}

/* Goes on as rings are published, so that all of them are used. */
static bool side_may_send(const struct side *side)
{
    return side->made < PIECES && side->under_way < UNDER_WAY &&
           side->made * RINGS / PIECES < atomic_load_explicit(&side->rings_seen, memory_order_relaxed);
}

static void side_adopt(struct side *side)
{
    member_set_unref(side->set);
    side->set = steal(&side->next_set);
    side->next_set_ns = UINT64_MAX;
    (void)atomic_fetch_add_explicit(&side->rings_seen, 1, memory_order_relaxed);
}

static uint64_t side_run(struct turn_hook *hook, uint64_t now_ns)
{
    struct side *side = container_of(hook, struct side, hook);

    if (now_ns >= side->next_set_ns)
        side_adopt(side);
    LIST_FOR_EACH_SAFE (node, following, &side->waiting) {
        list_del(node);
        if (!piece_put(side, container_of(node, struct churn_piece, piece.node))) {
            list_add_tail(&side->waiting, node);
            break; /* the next turn picks other links */
        }
    }
    while (list_empty(&side->waiting) && side_may_send(side)) {
        struct churn_piece *piece = piece_new(side);

        if (!piece_put(side, piece))
            list_add_tail(&side->waiting, &piece->piece.node);
    }
    if (side->settled == PIECES)
        atomic_store(&side->done, true);
    return u64_min(side->next_set_ns, list_empty(&side->waiting) ? UINT64_MAX : now_ns + NS_PER_MS);
}

/* -- the control thread ------------------------------------------------------------------------------------------- */

struct control_mail {
    struct mail mail;
    unsigned index;
};

static void control_post(struct churn *churn, unsigned index, void (*deliver)(struct mail *, void *))
{
    struct control_mail *news = calloc(1, sizeof(*news));

    ASSERT(news != NULL);
    *news = (struct control_mail){{.deliver = deliver}, index};
    (void)mailbox_post(&churn->mailbox, &news->mail);
}

static void control_on_hello(struct mail *mail, void *receiver)
{
    struct control_mail *news = container_of(mail, struct control_mail, mail);

    member_book_hello(&((struct churn *)receiver)->book, news->index, "", "", RING_HASH_VERSION, READY, false);
    free(news);
}

static void control_on_closed(struct mail *mail, void *receiver)
{
    struct control_mail *news = container_of(mail, struct control_mail, mail);
    struct churn *churn = receiver;

    churn->ended++;
    link_table_closed(&churn->links, news->index);
    free(news);
}

static void on_hello(void *context, unsigned index, const struct hello_answer *answer)
{
    if (!answer->spoke)
        control_post(context, index, control_on_hello);
}

static void on_condition(void *context, unsigned index, enum member_condition condition)
{
    (void)context;
    (void)index;
    (void)condition;
}

static void on_closed(void *context, unsigned index)
{
    control_post(context, index, control_on_closed);
}

static struct member_link *make(void *context, unsigned index, const char *address)
{
    struct churn *churn = context;
    const struct member_link_events events = {churn, on_hello, on_condition, on_closed};
    const struct outbox_owner pieces = {churn, outbox_delivered, outbox_failed};
    struct member_link *link = malloc(sizeof(*link));

    ASSERT(link != NULL);
    member_link_init(link, index, address, &churn->sides[index % WORKERS].worker, &events, &pieces, OUTBOX_BYTES, 30 * NS_PER_S);
    churn->opened++;
    return link;
}

/* Any of the addresses, at least one. */
static void churn_resolve(struct churn *churn)
{
    struct resolved_address addresses[ADDRESSES] = {0};
    unsigned mask = 1 + (unsigned)random_next(&churn->random) % ((1u << ADDRESSES) - 1);
    size_t count = 0;

    for (unsigned i = 0; i < ADDRESSES; i++) {
        if (mask >> i & 1) {
            addresses[count].ready = true;
            (void)snprintf(addresses[count++].address, sizeof(addresses[0].address), "%c:1", 'a' + (int)i);
        }
    }
    (void)member_book_resolved(&churn->book, addresses, count);
    ASSERT(link_table_resolved(&churn->links) == 0);
}

static struct member_link *link_named(const struct churn *churn, const char *name)
{
    for (size_t i = 0; i < churn->book.count; i++) {
        if (strcmp(churn->book.addresses[i].address, name) == 0)
            return link_table_open(&churn->links, i);
    }
    return NULL;
}

struct ring_mail {
    struct mail mail;
    struct member_set *set;
};

static void side_on_ring(struct mail *mail, void *receiver)
{
    struct ring_mail *news = container_of(mail, struct ring_mail, mail);
    struct side *side = side_of(receiver);

    if (side->next_set)
        side_adopt(side);
    side->next_set = news->set;
    side->next_set_ns = side->worker.now_ns + random_next(&side->random) % (20 * NS_PER_MS);
    free(news);
}

static void churn_publish(struct churn *churn)
{
    struct ring_member *members = calloc(churn->book.count + 1, sizeof(*members));
    size_t count = member_book_members(&churn->book, members);
    struct member_set *set = calloc(1, sizeof(*set) + count * sizeof(set->members[0]));

    ASSERT(members != NULL && set != NULL);
    atomic_init(&set->refs, 1);
    if (count == 0 || ring_new(members, count, &set->ring) != 0) { /* nobody has said Hello yet */
        free(set);
        free(members);
        return;
    }
    free(members);
    for (uint32_t i = 0; i < set->ring->member_count; i++) {
        set->members[i] = (struct member){{link_named(churn, set->ring->names[i])}, 1};
        ASSERT(set->members[i].links[0] != NULL);
    }
    member_set_count(set);
    for (unsigned i = 0; i < WORKERS; i++) {
        struct ring_mail *news = calloc(1, sizeof(*news));

        ASSERT(news != NULL);
        *news = (struct ring_mail){{.deliver = side_on_ring}, member_set_ref(set)};
        worker_post(&churn->sides[i].worker, &news->mail);
    }
    link_table_published(&churn->links, set, churn->now_ns);
    member_set_unref(set);
    churn->rings++;
}

static void pause_briefly(void)
{
    const struct timespec pause = {0, (long)NS_PER_MS};

    (void)nanosleep(&pause, NULL);
}

static bool churn_done(const struct churn *churn)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        if (!atomic_load(&churn->sides[i].done))
            return false;
    }
    return churn->ended >= ENDED;
}

static void churn_drive(struct churn *churn)
{
    while (!churn_done(churn)) {
        churn_resolve(churn);
        for (unsigned i = 0; i < 4; i++) {
            (void)mailbox_deliver(&churn->mailbox, churn);
            if (i == 0)
                churn_publish(churn);
            churn->now_ns += LINK_LINGER_NS;
            link_table_tend(&churn->links, churn->now_ns);
            pause_briefly();
        }
    }
}

/* -- all of it ----------------------------------------------------------------------------------------------------- */

static void churn_init(struct churn *churn)
{
    ASSERT(metrics_init(&churn->metrics, WORKERS) == 0);
    mailbox_init(&churn->mailbox);
    churn->random = 1;
    churn->now_ns = clock_now_ns();
    member_book_init(&churn->book, churn->now_ns);
    link_table_init(&churn->links, &churn->book, churn, make);
    churn->links.open = open_quick;
    for (unsigned i = 0; i < WORKERS; i++) {
        struct side *side = &churn->sides[i];

        ASSERT(worker_init(&side->worker, i, WORKERS, &churn->metrics.cells[i]) == 0);
        side->churn = churn;
        side->random = 2 + i;
        side->next_set_ns = UINT64_MAX;
        side->hook.run = side_run;
        list_init(&side->waiting);
        worker_hook(&side->worker, &side->hook);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        ASSERT(worker_start(&churn->sides[i].worker) == 0);
}

/* In the order of lb_run and lb_free. Answers that are still on their way come from one worker to the other. */
static void churn_deinit(struct churn *churn)
{
    size_t delivered;

    for (unsigned i = 0; i < WORKERS; i++)
        worker_stop(&churn->sides[i].worker);
    do {
        delivered = 0;
        for (unsigned i = 0; i < WORKERS; i++)
            delivered += mailbox_deliver(&churn->sides[i].worker.mailbox, &churn->sides[i].worker);
    } while (delivered > 0);
    link_table_close_all(&churn->links);
    for (unsigned i = 0; i < WORKERS; i++) {
        worker_deinit(&churn->sides[i].worker);
        member_set_unref(churn->sides[i].set);
        member_set_unref(churn->sides[i].next_set);
    }
    (void)mailbox_deliver(&churn->mailbox, churn);
    link_table_deinit(&churn->links);
    member_book_deinit(&churn->book);
    metrics_deinit(&churn->metrics);
}

static void test_churn(void **state)
{
    struct churn *churn = calloc(1, sizeof(*churn));

    (void)state;
    assert_non_null(churn);
    churn_init(churn);
    churn_drive(churn);
    churn_deinit(churn);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(churn->sides[i].made, PIECES);
        assert_int_equal(churn->sides[i].settled, PIECES);
        assert_int_equal(churn->sides[i].under_way, 0);
        assert_true(churn->sides[i].given_back > 0);
    }
    assert_true(churn->rings >= RINGS);
    assert_true(churn->opened >= ENDED);
    free(churn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_churn)};
    int r;

    pump_library_init();
    r = cmocka_run_group_tests(tests, NULL, NULL);
    pump_library_deinit();
    return r;
}
