/* Each rule of membership, by itself: what one member makes of the words that it hears, of silence and of time.
 *
 * The member is "b" among peers "a", "c", ... whose statuses the tests make up; views are adopted, and polls answered, as soon as
 * they are due unless a test says otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/peer.h"
#include "sampler/handoff/membership.h"

#define MS 1000000ull
#define S 1000000000ull
#define START (1000 * S)
#define ME_LIFE 500u
#define LIFE 100u /* of peers, at first */

static struct ring_cache rings;

struct node {
    struct membership *membership;
    uint64_t now_ns;
    struct view *view;      /* the newest */
    bool hold_adoption;     /* views are taken and not adopted */
    bool hold_polls;        /* polls are not begun */
    bool unswept;
    struct membership_held held; /* of each member */
    unsigned records, views, polls;
    uint64_t last_number;   /* of a peer's status */
};

struct says {               /* one status of a peer; what is left out: agrees with everything */
    const char *name;
    enum member_state state;
    uint64_t life;          /* 0: LIFE */
    uint64_t number;        /* 0: the next */
    const char *cluster;    /* NULL: ours */
    uint32_t hash_version;  /* 0: ours */
    bool called;            /* its call; else the answer to ours */
    bool deaf;              /* has not heard my ring */
    bool otherwise;         /* knows another ring */
    bool clears;            /* my claim */
    uint32_t clear_no;      /* instead of my present claim */
    bool clear_other_ring;
    uint64_t clear_life;    /* of mine; 0: the present one */
    uint32_t claim_no;      /* its own */
    bool left_clean;
    uint64_t journal_id;
    const char *member, *gone; /* lists of one */
    uint64_t listed_life;
};

static struct membership_options options_of(void)
{
    return (struct membership_options){
        .cluster = "tailrace", .name = "b", .advertise = "b:1", .software = "test", .incarnation = ME_LIFE, .journal_id = 77,
        .status_interval_ns = S, .peer_timeout_ns = 3 * S, .handoff_timeout_ns = 30 * S, .hello_wait_ns = 3 * S, .rings = &rings,
    };
}

/* What the glue around it would do, at once. */
static void drive(struct node *node)
{
    struct buffer *record;
    struct view *view;
    uint64_t view_number;
    uint32_t ring_no;

    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(membership_tend(node->membership, node->now_ns), 0);
        if (membership_take_record(node->membership, &record, &ring_no)) {
            node->records++;
            buffer_unref(record);
        }
        view = membership_take_view(node->membership, node->now_ns);
        if (view) {
            assert_true(!node->view || view->number == node->view->number + 1);
            view_unref(node->view);
            node->view = view;
            node->views++;
            if (!node->hold_adoption)
                membership_adopted(node->membership, view->ring_no, node->now_ns);
        }
        if (!node->hold_polls && membership_take_poll(node->membership, &view_number, node->now_ns)) {
            struct membership_held members[64];

            node->polls++;
            for (size_t k = 0; k < 64; k++)
                members[k] = node->held;
            membership_polled(node->membership, view_number, members, node->view->member_count, !node->unswept, node->now_ns);
        }
    }
}

static void setup_with(struct node *node, const struct membership_options *options)
{
    *node = (struct node){.now_ns = START};
    assert_int_equal(membership_new(options, node->now_ns, &node->membership), 0);
}

static void setup(struct node *node)
{
    static const char *const me[] = {"b:1"};
    struct membership_options options = options_of();

    setup_with(node, &options);
    membership_resolved(node->membership, me, 1, node->now_ns);
    drive(node);
}

static void teardown(struct node *node)
{
    view_unref(node->view);
    membership_free(node->membership);
}

static void wait_for(struct node *node, uint64_t ns)
{
    node->now_ns += ns;
    drive(node);
}

static size_t target_at(struct node *node, const char *name)
{
    char address[300];

    (void)snprintf(address, sizeof(address), "%s:1", name);
    for (size_t i = 0; i < membership_target_count(node->membership); i++)
        if (strcmp(membership_target(node->membership, i).address, address) == 0)
            return i;
    return MEMBERSHIP_CALLED;
}

static uint32_t my_claim(struct node *node, uint32_t *out_ring_no, uint64_t *out_fingerprint);

static int hear_bytes(struct node *node, size_t target, const Tailrace__V1__Status *status)
{
    uint8_t *bytes = malloc(tailrace__v1__status__get_packed_size(status) + 1);
    size_t len = tailrace__v1__status__pack(status, bytes);
    int r = membership_heard(node->membership, target, slice_make(bytes, len), node->now_ns);

    free(bytes);
    return r;
}

static int hear(struct node *node, struct says says)
{
    char name[300], cluster[300], address[304], listed[300], listed_at[304], software[] = "test";
    Tailrace__V1__Member member, *members = &member;
    Tailrace__V1__Status status;
    Tailrace__V1__Clear clear;
    uint64_t fingerprint;
    uint32_t ring_no, claim_no = my_claim(node, &ring_no, &fingerprint);

    (void)snprintf(name, sizeof(name), "%s", says.name);
    (void)snprintf(address, sizeof(address), "%s:1", says.name);
    (void)snprintf(cluster, sizeof(cluster), "%s", says.cluster ? says.cluster : "tailrace");
    tailrace__v1__status__init(&status);
    status.cluster = cluster;
    status.name = name;
    status.software = software;
    status.advertise_addr = address;
    status.hash_version = says.hash_version ? says.hash_version : RING_HASH_VERSION;
    status.incarnation = says.life ? says.life : LIFE;
    status.number = says.number ? says.number : ++node->last_number;
    status.state = (Tailrace__V1__State)(int)says.state;
    status.ring_no = 7;
    status.ring_fingerprint = says.otherwise ? 4711 : fingerprint;
    status.heard_incarnation = says.clear_life ? says.clear_life : ME_LIFE;
    status.heard_ring_no = says.deaf ? 0 : ring_no;
    status.claim_no = says.claim_no;
    status.left_clean = says.left_clean;
    status.journal_id = says.journal_id;
    status.room_bytes = 1 << 20;
    if (says.clears) {
        tailrace__v1__clear__init(&clear);
        clear.claim_no = says.clear_no ? says.clear_no : claim_no;
        clear.ring_fingerprint = says.clear_other_ring ? 4711 : fingerprint;
        status.clear = &clear;
    }
    tailrace__v1__member__init(&member);
    if (says.member || says.gone) {
        (void)snprintf(listed, sizeof(listed), "%s", says.member ? says.member : says.gone);
        (void)snprintf(listed_at, sizeof(listed_at), "%s:1", listed);
        member.name = listed;
        member.advertise_addr = listed_at;
        member.incarnation = says.listed_life ? says.listed_life : LIFE;
        member.state = says.member ? TAILRACE__V1__STATE__STATE_READY : TAILRACE__V1__STATE__STATE_LEFT;
        status.n_members = says.member ? 1 : 0;
        status.n_gone = says.gone ? 1 : 0;
        status.members = says.member ? &members : NULL;
        status.gone = says.gone ? &members : NULL;
    }
    return hear_bytes(node, says.called ? MEMBERSHIP_CALLED : target_at(node, says.name), &status);
}

/* A status heard and what follows from it; the ring gap is over first. */
static void told(struct node *node, struct says says)
{
    wait_for(node, MEMBERSHIP_RING_GAP_NS);
    assert_int_equal(hear(node, says), 0);
    drive(node);
}

/* Met at its own address, so that it is reachable; then it has heard of the ring that came of it. */
static void meet(struct node *node, const char *name, enum member_state state)
{
    told(node, (struct says){.name = name, .state = state, .called = true});
    told(node, (struct says){.name = name, .state = state});
    told(node, (struct says){.name = name, .state = state});
}

/* What my status to a peer says. */
static Tailrace__V1__Status *status_to(struct node *node, const char *name)
{
    struct buffer *bytes = membership_answer(node->membership, name);
    Tailrace__V1__Status *status;

    if (!bytes)
        return NULL;
    status = tailrace__v1__status__unpack(NULL, bytes->len, bytes->bytes);
    buffer_unref(bytes);
    assert_non_null(status);
    return status;
}

static uint32_t my_claim(struct node *node, uint32_t *out_ring_no, uint64_t *out_fingerprint)
{
    Tailrace__V1__Status *status = status_to(node, "nobody");
    uint32_t claim_no = 0;

    *out_ring_no = 0;
    *out_fingerprint = 0;
    if (!status)
        return 0;
    claim_no = status->claim_no;
    *out_ring_no = status->ring_no;
    *out_fingerprint = status->ring_fingerprint;
    tailrace__v1__status__free_unpacked(status, NULL);
    return claim_no;
}

static uint32_t claim_no(struct node *node)
{
    uint64_t fingerprint;
    uint32_t ring_no;

    return my_claim(node, &ring_no, &fingerprint);
}

static bool clears_claim_of(struct node *node, const char *name)
{
    Tailrace__V1__Status *status = status_to(node, name);
    bool clears = status->clear != NULL;

    tailrace__v1__status__free_unpacked(status, NULL);
    return clears;
}

/* The members of the newest view, as "a=ready b=ready". */
static const char *ring_text(struct node *node)
{
    static const char *const states[] = {"?", "joining", "ready", "draining", "left"};
    static char text[1000];
    size_t len = 0;

    text[0] = '\0';
    for (size_t i = 0; i < node->view->member_count; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s=%s", i ? " " : "", node->view->members[i].name,
            states[node->view->members[i].state]);
    return text;
}

static struct membership_peer peer_named(struct node *node, const char *name)
{
    for (size_t i = 0; i < membership_peer_count(node->membership); i++) {
        struct membership_peer peer = membership_peer(node->membership, i, node->now_ns);

        if (strcmp(peer.name, name) == 0)
            return peer;
    }
    fail_msg("no peer %s", name);
    return (struct membership_peer){.name = NULL};
}

/* Ready, met "a", settled. */
static void setup_settled(struct node *node)
{
    setup(node);
    membership_replayed(node->membership, node->now_ns);
    meet(node, "a", MEMBER_READY);
    wait_for(node, 2500 * MS);
    told(node, (struct says){.name = "a", .state = MEMBER_READY, .clears = true});
    wait_for(node, 500 * MS);
    assert_true(membership_settled(node->membership));
    assert_true(membership_in_step(node->membership));
}

/* -- R1, R5: the start ---------------------------------------------------------------------------------------------- */

static void starts_joining_and_is_silent_until_adopted(void **state)
{
    struct membership_options options = options_of();
    struct node node;
    size_t target;
    struct buffer *status;
    const char *const list[] = {"a:1", "b:1"};

    (void)state;
    setup_with(&node, &options);
    node.hold_adoption = true;
    membership_resolved(node.membership, list, 2, node.now_ns);
    drive(&node);
    assert_int_equal(node.records, 1);
    assert_string_equal(ring_text(&node), "b=joining");
    assert_null(membership_answer(node.membership, "a"));
    assert_false(membership_take_status(node.membership, node.now_ns, &target, &status));
    membership_adopted(node.membership, 1, node.now_ns);
    drive(&node);
    assert_true(membership_take_status(node.membership, node.now_ns, &target, &status)); /* a knock, at a alone */
    buffer_unref(status);
    assert_string_equal(membership_target(node.membership, target).address, "a:1");
    assert_false(membership_take_status(node.membership, node.now_ns, &target, &status));
    assert_int_equal(view_owner(node.view, 0), VIEW_NOBODY);
    assert_int_equal(slot_set_count(node.view->owned), 0);
    membership_replayed(node.membership, node.now_ns);
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    node.hold_adoption = false;
    membership_adopted(node.membership, 2, node.now_ns);
    drive(&node);
    assert_string_equal(ring_text(&node), "b=ready");
    assert_int_equal(slot_set_count(node.view->owned), RING_SLOTS);
    teardown(&node);
}

static void record_brings_the_ring_back_silent(void **state)
{
    struct membership_options options = options_of();
    struct buffer *record;
    struct node node, again;
    uint32_t ring_no;

    (void)state;
    setup(&node);
    membership_replayed(node.membership, node.now_ns);
    meet(&node, "a", MEMBER_READY);
    meet(&node, "c", MEMBER_DRAINING);
    told(&node, (struct says){.name = "d", .state = MEMBER_READY, .called = true});
    membership_drain(node.membership, node.now_ns);
    node.now_ns += MEMBERSHIP_RING_GAP_NS;
    assert_int_equal(membership_tend(node.membership, node.now_ns), 0);
    assert_true(membership_take_record(node.membership, &record, &ring_no));
    assert_int_equal(membership_record_incarnation(slice_make(record->bytes, record->len)), ME_LIFE);
    options.record = slice_make(record->bytes, record->len);
    options.incarnation = ME_LIFE + 1;
    setup_with(&again, &options);
    drive(&again);
    assert_string_equal(ring_text(&again), "a=ready b=joining c=draining d=ready");
    assert_false(peer_named(&again, "a").reachable);
    assert_true(membership_target(again.membership, target_at(&again, "a")).wanted);
    assert_int_equal(again.view->members[0].incarnation, LIFE);
    teardown(&again);
    options.name = "e"; /* the same volume under another name: "b" was I */
    setup_with(&again, &options);
    drive(&again);
    assert_string_equal(ring_text(&again), "a=ready c=draining d=ready e=joining");
    teardown(&again);
    options.record = slice_make("\xff\xff\xff", 3);
    setup_with(&again, &options);
    assert_true(membership_record_bad(again.membership));
    teardown(&again);
    teardown(&node);
    buffer_unref(record);
}

/* R5 and section 3 of the architecture: a ring that not all workers act by is not spoken of. */
static void a_ring_says_nothing_before_it_is_adopted(void **state)
{
    struct node node;
    uint32_t ring_no, before;
    uint64_t fingerprint, after;

    (void)state;
    setup_settled(&node);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .claim_no = 9});
    assert_true(clears_claim_of(&node, "a"));
    (void)my_claim(&node, &before, &fingerprint);
    node.hold_adoption = true;
    told(&node, (struct says){.name = "c", .state = MEMBER_READY, .called = true});
    assert_string_equal(ring_text(&node), "a=ready b=ready c=ready");
    assert_false(node.view->in_step);
    assert_int_equal(my_claim(&node, &ring_no, &after), 0);
    assert_int_equal(ring_no, before);
    assert_int_equal(after, fingerprint);
    assert_false(clears_claim_of(&node, "a"));
    assert_false(membership_in_step(node.membership));
    membership_adopted(node.membership, before + 1, node.now_ns);
    (void)my_claim(&node, &ring_no, &after);
    assert_int_equal(ring_no, before + 1);
    assert_int_not_equal(after, fingerprint);
    teardown(&node);
}

/* A peer is told that it was heard only when all workers act by what it said: its claim is answered by then, or not. */
static void heard_is_said_when_all_act_by_it(void **state)
{
    struct node node;
    Tailrace__V1__Status *status;

    (void)state;
    setup_settled(&node);
    status = status_to(&node, "a");
    assert_int_equal(status->heard_ring_no, 7);
    assert_int_equal(status->heard_incarnation, LIFE);
    tailrace__v1__status__free_unpacked(status, NULL);
    node.hold_adoption = true;
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .life = LIFE + 1, .claim_no = 1});
    status = status_to(&node, "a");
    assert_int_equal(status->heard_ring_no, 0); /* of the same F: it would be in step with me */
    assert_null(status->clear);
    tailrace__v1__status__free_unpacked(status, NULL);
    membership_adopted(node.membership, node.view->ring_no, node.now_ns);
    drive(&node);
    status = status_to(&node, "a");
    assert_int_equal(status->heard_ring_no, 7);
    assert_int_equal(status->heard_incarnation, LIFE + 1);
    assert_non_null(status->clear);
    tailrace__v1__status__free_unpacked(status, NULL);
    teardown(&node);
}

/* What a status tells of others, as "c 2" for a name and a state; `gone` or members. */
static bool lists(struct node *node, bool gone, const char *name, Tailrace__V1__State as)
{
    Tailrace__V1__Status *status = status_to(node, "a");
    size_t count = gone ? status->n_gone : status->n_members;
    bool found = false;

    for (size_t i = 0; i < count; i++) {
        const Tailrace__V1__Member *member = gone ? status->gone[i] : status->members[i];

        found |= strcmp(member->name, name) == 0 && member->state == as && member->incarnation == LIFE;
    }
    tailrace__v1__status__free_unpacked(status, NULL);
    return found;
}

static void words_are_passed_on_to_who_knows_another_ring(void **state)
{
    struct membership_options options = options_of();
    struct buffer *record;
    struct node node;
    uint32_t ring_no;

    (void)state;
    setup_settled(&node);
    meet(&node, "c", MEMBER_READY);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY});
    assert_false(lists(&node, false, "c", TAILRACE__V1__STATE__STATE_READY)); /* it agrees: no need */
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .otherwise = true});
    assert_true(lists(&node, false, "c", TAILRACE__V1__STATE__STATE_READY));
    told(&node, (struct says){.name = "c", .state = MEMBER_LEFT, .left_clean = true});
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .otherwise = true});
    assert_false(lists(&node, false, "c", TAILRACE__V1__STATE__STATE_READY));
    assert_true(lists(&node, true, "c", TAILRACE__V1__STATE__STATE_LEFT));
    wait_for(&node, MEMBERSHIP_GONE_NS);
    assert_false(lists(&node, true, "c", TAILRACE__V1__STATE__STATE_LEFT));
    teardown(&node);

    /* What the record alone says is not passed on: it may be of a member long gone. */
    setup(&node);
    meet(&node, "c", MEMBER_READY);
    node.hold_adoption = true;
    membership_replayed(node.membership, node.now_ns);
    node.now_ns += MEMBERSHIP_RING_GAP_NS;
    assert_int_equal(membership_tend(node.membership, node.now_ns), 0);
    assert_true(membership_take_record(node.membership, &record, &ring_no));
    teardown(&node);
    options.record = slice_make(record->bytes, record->len);
    setup_with(&node, &options);
    drive(&node);
    assert_string_equal(ring_text(&node), "b=joining c=ready");
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .otherwise = true});
    assert_false(lists(&node, false, "c", TAILRACE__V1__STATE__STATE_READY));
    told(&node, (struct says){.name = "c", .state = MEMBER_READY});
    assert_true(lists(&node, false, "c", TAILRACE__V1__STATE__STATE_READY));
    buffer_unref(record);
    teardown(&node);
}

/* -- R2, R3, R4: words and silence ---------------------------------------------------------------------------------- */

/* One word of "c" after "a" is known as ready; then the ring. */
static void words_change_the_ring(void **state)
{
    static const struct {
        const char *what;
        struct says words[3];
        const char *ring;
    } cases[] = {
        {"ready", {{.name = "c", .state = MEMBER_READY}}, "a=ready b=ready c=ready"},
        {"draining, never met before", {{.name = "c", .state = MEMBER_DRAINING}}, "a=ready b=ready c=draining"},
        {"joining", {{.name = "c", .state = MEMBER_JOINING}}, "a=ready b=ready"},
        {"ready, then joining of the same life: late", {{.name = "c", .state = MEMBER_READY}, {.name = "c", .state = MEMBER_JOINING}},
            "a=ready b=ready c=ready"},
        {"draining, then an older status", {{.name = "c", .state = MEMBER_DRAINING, .number = 50},
            {.name = "c", .state = MEMBER_READY, .number = 49}}, "a=ready b=ready c=draining"},
        {"draining, then ready in a new life", {{.name = "c", .state = MEMBER_DRAINING}, {.name = "c", .state = MEMBER_READY, .life = 101}},
            "a=ready b=ready c=ready"},
        {"a word of an earlier life", {{.name = "c", .state = MEMBER_DRAINING}, {.name = "c", .state = MEMBER_READY, .life = 99}},
            "a=ready b=ready c=draining"},
        {"left, clean", {{.name = "c", .state = MEMBER_DRAINING}, {.name = "c", .state = MEMBER_LEFT, .left_clean = true}},
            "a=ready b=ready"},
        {"left with state", {{.name = "c", .state = MEMBER_READY}, {.name = "c", .state = MEMBER_LEFT}}, "a=ready b=ready c=draining"},
        {"left, unknown before", {{.name = "c", .state = MEMBER_LEFT}}, "a=ready b=ready"},
        {"back and replaying: keeps its place", {{.name = "c", .state = MEMBER_READY}, {.name = "c", .state = MEMBER_JOINING, .life = 101}},
            "a=ready b=ready c=ready"},
        {"a clean leaver comes back", {{.name = "c", .state = MEMBER_LEFT, .left_clean = true}, {.name = "c", .state = MEMBER_READY, .life = 101}},
            "a=ready b=ready c=ready"},
        {"another name on its volume", {{.name = "c", .state = MEMBER_READY, .journal_id = 5},
            {.name = "d", .state = MEMBER_READY, .journal_id = 5, .life = 101}}, "a=ready b=ready d=ready"},
        {"another name on its volume still replays", {{.name = "c", .state = MEMBER_READY, .journal_id = 5},
            {.name = "d", .state = MEMBER_JOINING, .journal_id = 5, .life = 101}}, "a=ready b=ready c=ready"},
        {"no volume is not the same volume", {{.name = "c", .state = MEMBER_READY}, {.name = "d", .state = MEMBER_READY, .life = 101}},
            "a=ready b=ready c=ready d=ready"},
        {"passed on by a peer", {{.name = "a", .state = MEMBER_READY, .member = "c"}}, "a=ready b=ready c=ready"},
        {"passed on, of a life that has left", {{.name = "c", .state = MEMBER_LEFT, .left_clean = true},
            {.name = "a", .state = MEMBER_READY, .member = "c"}}, "a=ready b=ready"},
        {"passed on, of a later life", {{.name = "c", .state = MEMBER_LEFT, .left_clean = true},
            {.name = "a", .state = MEMBER_READY, .member = "c", .listed_life = 101}}, "a=ready b=ready c=ready"},
        {"said to be gone, silent here too", {{.name = "c", .state = MEMBER_READY, .called = true},
            {.name = "a", .state = MEMBER_READY, .gone = "c"}}, "a=ready b=ready"},
        {"said to be gone in an earlier life", {{.name = "c", .state = MEMBER_READY, .called = true},
            {.name = "a", .state = MEMBER_READY, .gone = "c", .listed_life = 99}}, "a=ready b=ready c=ready"},
        {"myself passed on", {{.name = "a", .state = MEMBER_READY, .gone = "b", .listed_life = 9000}}, "a=ready b=ready"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct node node;

        setup(&node);
        membership_replayed(node.membership, node.now_ns);
        meet(&node, "a", MEMBER_READY);
        node.last_number = 10;
        for (size_t k = 0; k < 3 && cases[i].words[k].name; k++)
            told(&node, cases[i].words[k]);
        wait_for(&node, MEMBERSHIP_RING_GAP_NS);
        if (strcmp(ring_text(&node), cases[i].ring) != 0)
            fail_msg("%s: %s instead of %s", cases[i].what, ring_text(&node), cases[i].ring);
        teardown(&node);
    }
}

/* A change of incarnation is a new ring of the same F. */
static void a_new_life_is_a_new_ring(void **state)
{
    struct node node;
    uint32_t before, after;
    uint64_t fingerprint_before, fingerprint_after;

    (void)state;
    setup_settled(&node);
    (void)my_claim(&node, &before, &fingerprint_before);
    told(&node, (struct says){.name = "a", .state = MEMBER_JOINING, .life = LIFE + 1, .deaf = true});
    (void)my_claim(&node, &after, &fingerprint_after);
    assert_int_equal(after, before); /* silent as yet */
    assert_false(peer_named(&node, "a").reachable);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .life = LIFE + 1, .deaf = true});
    (void)my_claim(&node, &after, &fingerprint_after);
    assert_int_equal(after, before + 1);
    assert_int_equal(fingerprint_after, fingerprint_before);
    assert_false(membership_in_step(node.membership));
    assert_true(membership_settled(node.membership)); /* nothing was gained */
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .life = LIFE + 1});
    assert_true(membership_in_step(node.membership));
    teardown(&node);
}

/* After a standstill nothing is settled before all have cleared again, though the ring is of the same members. */
static void a_standstill_claims_everything_anew(void **state)
{
    struct node node;
    uint32_t ring_before, ring_after;
    uint64_t before, after, claims_before;

    (void)state;
    setup_settled(&node);
    (void)my_claim(&node, &ring_before, &before);
    claims_before = membership_counters(node.membership).claims;
    node.hold_adoption = true;
    membership_stood_still(node.membership, node.now_ns);
    assert_true(membership_is_waking(node.membership));
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    assert_true(membership_is_waking(node.membership)); /* workers may still act by the old view */
    assert_int_equal(slot_set_count(node.view->settled), 0);
    node.hold_adoption = false;
    membership_adopted(node.membership, node.view->ring_no, node.now_ns);
    drive(&node);
    assert_false(membership_is_waking(node.membership));
    (void)my_claim(&node, &ring_after, &after);
    assert_int_equal(ring_after, ring_before + 1);
    assert_int_equal(after, before);
    assert_int_equal(membership_counters(node.membership).claims, claims_before + 1);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY});
    assert_true(membership_in_step(node.membership));
    assert_false(membership_settled(node.membership));
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .clears = true});
    assert_true(membership_settled(node.membership));
    assert_true(slot_set_count(node.view->settled) > 0);
    teardown(&node);
}

static void silence_drops_after_handoff_timeout(void **state)
{
    struct node node;

    (void)state;
    setup_settled(&node);
    wait_for(&node, 2900 * MS - 500 * MS);
    assert_true(peer_named(&node, "a").reachable);
    wait_for(&node, 600 * MS);
    assert_false(peer_named(&node, "a").reachable); /* peer_timeout */
    assert_string_equal(ring_text(&node), "a=ready b=ready");
    assert_false(node.view->members[0].reachable);
    assert_false(node.view->all_reachable);
    assert_true(membership_in_step(node.membership)); /* with everyone reachable */
    wait_for(&node, 29 * S);
    assert_string_equal(ring_text(&node), "a=ready b=ready");
    wait_for(&node, 1100 * MS);
    assert_string_equal(ring_text(&node), "b=ready");
    assert_int_equal(membership_counters(node.membership).members_dropped, 1);
    /* Cut off for all that time, not dead: once it answers again it is a member again; a call alone does not do. */
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .called = true});
    assert_string_equal(ring_text(&node), "b=ready");
    told(&node, (struct says){.name = "a", .state = MEMBER_READY});
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    assert_string_equal(ring_text(&node), "a=ready b=ready");
    teardown(&node);
}

static void a_lost_link_counts_at_once(void **state)
{
    struct node node;

    (void)state;
    setup_settled(&node);
    membership_link(node.membership, target_at(&node, "a"), false, node.now_ns);
    drive(&node);
    assert_false(peer_named(&node, "a").reachable);
    assert_false(node.view->members[0].reachable);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .called = true});
    assert_false(peer_named(&node, "a").reachable); /* it reaches me; I do not reach it */
    membership_link(node.membership, target_at(&node, "a"), true, node.now_ns);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY});
    assert_true(peer_named(&node, "a").reachable);
    teardown(&node);
}

static void replaying_does_not_stop_the_clock(void **state)
{
    struct node node;

    (void)state;
    setup_settled(&node);
    membership_link(node.membership, target_at(&node, "a"), false, node.now_ns);
    drive(&node);
    for (unsigned i = 0; i < 29; i++) {
        wait_for(&node, 900 * MS);
        told(&node, (struct says){.name = "a", .state = MEMBER_JOINING, .life = LIFE + 1});
    }
    assert_string_equal(ring_text(&node), "a=ready b=ready");
    wait_for(&node, 1100 * MS);
    assert_string_equal(ring_text(&node), "b=ready");
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .life = LIFE + 1});
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    assert_string_equal(ring_text(&node), "a=ready b=ready");
    teardown(&node);
}

static void the_resolver_changes_no_ring(void **state)
{
    static const char *const wide[] = {"a:1", "x:1", "b:1"}, *const narrow[] = {"b:1"};
    struct node node;
    uint32_t before, after;
    uint64_t fingerprint;

    (void)state;
    setup_settled(&node);
    (void)my_claim(&node, &before, &fingerprint);
    membership_resolved(node.membership, wide, 3, node.now_ns);
    drive(&node);
    assert_true(membership_target(node.membership, target_at(&node, "x")).wanted);
    assert_false(membership_target(node.membership, target_at(&node, "b")).wanted); /* myself */
    membership_resolved(node.membership, NULL, 0, node.now_ns);
    drive(&node);
    assert_true(membership_target(node.membership, target_at(&node, "x")).wanted);
    membership_resolved(node.membership, narrow, 1, node.now_ns);
    drive(&node);
    assert_int_equal(target_at(&node, "x"), MEMBERSHIP_CALLED); /* nobody was ever there */
    assert_true(membership_target(node.membership, target_at(&node, "a")).wanted);
    (void)my_claim(&node, &after, &fingerprint);
    assert_int_equal(after, before);
    assert_true(membership_in_step(node.membership));
    teardown(&node);
}

/* -- in step -------------------------------------------------------------------------------------------------------- */

static void in_step_needs_every_reachable_peer(void **state)
{
    static const struct {
        const char *what;
        struct says a, c;
        bool in_step;
    } cases[] = {
        {"both heard", {.name = "a", .state = MEMBER_READY}, {.name = "c", .state = MEMBER_READY}, true},
        {"one is deaf", {.name = "a", .state = MEMBER_READY}, {.name = "c", .state = MEMBER_READY, .deaf = true}, false},
        {"one knows another ring", {.name = "a", .state = MEMBER_READY, .otherwise = true}, {.name = "c", .state = MEMBER_READY}, false},
        {"one heard a former life of mine", {.name = "a", .state = MEMBER_READY, .clear_life = 499}, {.name = "c", .state = MEMBER_READY}, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct node node;
        char why[500];

        setup(&node);
        membership_replayed(node.membership, node.now_ns);
        wait_for(&node, 3 * S);
        meet(&node, "a", MEMBER_READY);
        meet(&node, "c", MEMBER_READY);
        told(&node, cases[i].a);
        told(&node, cases[i].c);
        (void)membership_why_not_in_step(node.membership, why, sizeof(why));
        if (membership_in_step(node.membership) != cases[i].in_step || (why[0] == '\0') != cases[i].in_step ||
            node.view->in_step != cases[i].in_step)
            fail_msg("%s: in step %d (%s)", cases[i].what, membership_in_step(node.membership), why);
        teardown(&node);
    }
}

/* Before hello_wait is over somebody unknown may be the owner. */
static void in_step_waits_until_all_were_met(void **state)
{
    static const char *const list[] = {"a:1", "b:1", "c:1"};
    struct node node;

    (void)state;
    setup(&node);
    membership_replayed(node.membership, node.now_ns);
    wait_for(&node, 100 * MS);
    assert_false(membership_in_step(node.membership)); /* nobody known, and time not over */
    membership_resolved(node.membership, list, 3, node.now_ns);
    meet(&node, "a", MEMBER_READY);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY});
    assert_false(membership_in_step(node.membership)); /* c is listed */
    assert_false(membership_serving(node.membership));
    meet(&node, "c", MEMBER_READY);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY});
    told(&node, (struct says){.name = "c", .state = MEMBER_READY});
    assert_true(node.now_ns < START + 3 * S);
    assert_true(membership_in_step(node.membership));
    assert_true(membership_serving(node.membership));
    teardown(&node);
    setup(&node);
    membership_replayed(node.membership, node.now_ns);
    wait_for(&node, 3100 * MS);
    assert_true(membership_in_step(node.membership)); /* nobody came */
    teardown(&node);
}

static void readiness_comes_at_the_latest_after_handoff_timeout(void **state)
{
    struct node node;

    (void)state;
    setup(&node);
    wait_for(&node, 20 * S);
    assert_false(membership_serving(node.membership));
    meet(&node, "a", MEMBER_READY);
    membership_replayed(node.membership, node.now_ns);
    for (unsigned i = 0; i < 60; i++) {
        told(&node, (struct says){.name = "a", .state = MEMBER_READY, .otherwise = true});
        assert_int_equal(membership_serving(node.membership), node.now_ns >= START + 30 * S);
        wait_for(&node, 100 * MS);
    }
    assert_true(membership_serving(node.membership));
    assert_false(membership_in_step(node.membership));
    membership_drain(node.membership, node.now_ns);
    assert_false(membership_serving(node.membership));
    teardown(&node);
}

/* -- C1 to C4 ------------------------------------------------------------------------------------------------------- */

static void gained_slots_are_claimed_and_old_ones_stay_settled(void **state)
{
    struct node node;
    size_t owned, settled;

    (void)state;
    setup_settled(&node);
    owned = slot_set_count(node.view->owned);
    assert_int_equal(slot_set_count(node.view->settled), owned);
    assert_int_equal(claim_no(&node), 0);
    told(&node, (struct says){.name = "c", .state = MEMBER_READY}); /* slots are lost */
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    assert_true(slot_set_count(node.view->owned) < owned);
    assert_int_equal(claim_no(&node), 0);
    settled = slot_set_count(node.view->settled);
    assert_int_equal(settled, slot_set_count(node.view->owned));
    told(&node, (struct says){.name = "c", .state = MEMBER_DRAINING}); /* and come back */
    assert_int_equal(slot_set_count(node.view->owned), owned);
    assert_int_equal(slot_set_count(node.view->settled), settled);
    for (uint32_t slot = 0; slot < RING_SLOTS; slot++) {
        if (view_settled(node.view, slot))
            assert_true(view_owns(node.view, slot));
        assert_int_equal(view_owns(node.view, slot), view_owner(node.view, slot) == node.view->self);
    }
    assert_int_not_equal(claim_no(&node), 0);
    teardown(&node);
}

static void a_claim_changes_its_number_with_the_ring(void **state)
{
    struct node node;
    uint32_t before;

    (void)state;
    setup(&node);
    membership_replayed(node.membership, node.now_ns);
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    before = claim_no(&node);
    assert_int_equal(before, 1);
    meet(&node, "a", MEMBER_READY);
    assert_int_equal(claim_no(&node), before + 1);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .life = LIFE + 1});
    assert_int_equal(claim_no(&node), before + 2);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .life = LIFE + 1});
    assert_int_equal(claim_no(&node), before + 2);
    teardown(&node);
}

/* C2: of "a", whose claim 9 is open, each condition missing once. */
static void a_claim_is_cleared_only_when_nothing_is_held(void **state)
{
    static const struct {
        const char *what;
        struct membership_held held;
        bool unswept, unpolled, silent, otherwise, no_claim, replaying;
        bool clears;
    } cases[] = {
        {.what = "all is well", .clears = true},
        {.what = "bytes without traces", .held = {.bytes = 5}, .clears = true},
        {.what = "traces held", .held = {.traces = 1}},
        {.what = "an export in flight", .held = {.exports = 1}},
        {.what = "not all counted", .unswept = true},
        {.what = "not polled since it is reachable", .unpolled = true},
        {.what = "silent", .silent = true},
        {.what = "another ring", .otherwise = true},
        {.what = "no claim", .no_claim = true},
        {.what = "myself not ready", .replaying = true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct node node;
        struct says words = {.name = "a", .state = MEMBER_READY, .otherwise = cases[i].otherwise,
            .claim_no = cases[i].no_claim ? 0 : 9};

        setup(&node);
        if (!cases[i].replaying)
            membership_replayed(node.membership, node.now_ns);
        wait_for(&node, 100 * MS);
        node.held = cases[i].held;
        node.unswept = cases[i].unswept;
        node.hold_polls = cases[i].unpolled;
        meet(&node, "a", MEMBER_READY);
        told(&node, words);
        if (cases[i].silent)
            membership_link(node.membership, target_at(&node, "a"), false, node.now_ns);
        wait_for(&node, 150 * MS);
        if (clears_claim_of(&node, "a") != cases[i].clears)
            fail_msg("%s: cleared %d", cases[i].what, !cases[i].clears);
        /* Not yet is not never: once nothing is in the way, it is answered unasked. */
        if (cases[i].held.traces || cases[i].held.exports || cases[i].unswept) {
            uint8_t found = 0;
            struct buffer *status;
            size_t target;

            while (membership_take_status(node.membership, node.now_ns, &target, &status)) {
                buffer_unref(status);
                assert_int_equal(hear(&node, words), 0);
            }
            node.held = (struct membership_held){0};
            node.unswept = false;
            wait_for(&node, MEMBERSHIP_POLL_GAP_NS);
            while (membership_take_status(node.membership, node.now_ns, &target, &status)) {
                Tailrace__V1__Status *read = tailrace__v1__status__unpack(NULL, status->len, status->bytes);

                found |= read->clear && read->clear->claim_no == 9 && read->heard_incarnation == LIFE;
                tailrace__v1__status__free_unpacked(read, NULL);
                buffer_unref(status);
            }
            if (!found)
                fail_msg("%s: not answered when it was over", cases[i].what);
        }
        teardown(&node);
    }
}

/* What was found before it fell silent proves nothing after: it was kept for in between. */
static void a_poll_from_before_a_silence_clears_nothing(void **state)
{
    struct node node;

    (void)state;
    setup_settled(&node);
    node.hold_polls = true;
    membership_link(node.membership, target_at(&node, "a"), false, node.now_ns);
    drive(&node);
    membership_link(node.membership, target_at(&node, "a"), true, node.now_ns);
    told(&node, (struct says){.name = "a", .state = MEMBER_READY, .claim_no = 9});
    assert_true(peer_named(&node, "a").reachable);
    assert_false(clears_claim_of(&node, "a"));
    node.hold_polls = false;
    drive(&node);
    assert_true(clears_claim_of(&node, "a"));
    teardown(&node);
}

/* C3: two peers, one has cleared; the answer of the other, and what else may be missing. */
static void slots_settle_when_all_have_cleared(void **state)
{
    static const char *const listed[] = {"a:1", "b:1", "c:1", "x:1"};
    static const struct {
        const char *what;
        struct says c;
        bool early, expected, passed_by, settled;
    } cases[] = {
        {.what = "cleared", .c = {.clears = true}, .settled = true},
        {.what = "not cleared", .c = {.clears = false}},
        {.what = "cleared by one that is silent since", .c = {.clears = true, .called = true}, .settled = true},
        {.what = "another claim", .c = {.clears = true, .clear_no = 7}},
        {.what = "another ring", .c = {.clears = true, .clear_other_ring = true}},
        {.what = "a former life of mine", .c = {.clears = true, .clear_life = 499}},
        {.what = "hello_wait is not over", .c = {.clears = true}, .early = true},
        {.what = "somebody listed has not spoken", .c = {.clears = true}, .expected = true},
        {.what = "somebody listed has called, and left", .c = {.clears = true}, .expected = true, .passed_by = true, .settled = true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct says c = cases[i].c;
        struct node node;
        char why[500];

        c.name = "c";
        c.state = MEMBER_READY;
        setup(&node);
        if (!cases[i].early)
            wait_for(&node, 3 * S);
        if (cases[i].expected)
            membership_resolved(node.membership, listed, 4, node.now_ns);
        if (cases[i].passed_by)
            told(&node, (struct says){.name = "x", .state = MEMBER_LEFT, .left_clean = true, .called = true});
        told(&node, (struct says){.name = "a", .state = MEMBER_READY});
        told(&node, (struct says){.name = "c", .state = MEMBER_READY, .called = true});
        membership_replayed(node.membership, node.now_ns);
        wait_for(&node, MEMBERSHIP_RING_GAP_NS);
        assert_int_equal(claim_no(&node), 1);
        told(&node, (struct says){.name = "a", .state = MEMBER_READY, .clears = true});
        if (membership_settled(node.membership))
            fail_msg("%s: settled before the last had cleared", cases[i].what);
        told(&node, c);
        (void)membership_why_not_settled(node.membership, why, sizeof(why));
        if (membership_settled(node.membership) != cases[i].settled || (why[0] == '\0') != cases[i].settled)
            fail_msg("%s: settled %d (%s)", cases[i].what, membership_settled(node.membership), why);
        assert_int_equal(claim_no(&node) == 0, cases[i].settled);
        assert_int_equal(slot_set_count(node.view->settled) == slot_set_count(node.view->owned), cases[i].settled);
        assert_int_equal(membership_counters(node.membership).settle_timeouts, 0);
        teardown(&node);
    }
}

/* C3: while no list has come nobody knows who is expected. */
static void nothing_settles_before_the_first_list(void **state)
{
    static const char *const list[] = {"b:1"};
    struct membership_options options = options_of();
    uint64_t next_ns;
    struct node node;
    char why[500];

    (void)state;
    for (int came = 0; came < 2; came++) {
        setup_with(&node, &options);
        drive(&node);
        membership_replayed(node.membership, node.now_ns);
        wait_for(&node, 29 * S);
        membership_resolved(node.membership, NULL, 0, node.now_ns); /* says nothing */
        drive(&node);
        assert_false(membership_settled(node.membership));
        assert_non_null(strstr(membership_why_not_settled(node.membership, why, sizeof(why)), "resolver"));
        if (came)
            membership_resolved(node.membership, list, 1, node.now_ns);
        for (unsigned i = 0; !came && i < 100 && (next_ns = membership_next_ns(node.membership)) <= START + 30 * S; i++) {
            node.now_ns = next_ns > node.now_ns ? next_ns : node.now_ns; /* it asks for the time itself */
            drive(&node);
        }
        drive(&node);
        assert_true(membership_settled(node.membership));
        assert_int_equal(membership_counters(node.membership).settle_timeouts, 0);
        teardown(&node);
    }
}

static void one_member_alone(void **state)
{
    static const char *const list[] = {"b:1"}, *const other[] = {"vip:1"};
    struct membership_options options = options_of();
    struct buffer *status;
    struct node node;
    size_t target;

    (void)state;
    options.static_resolver = true;
    setup_with(&node, &options);
    membership_resolved(node.membership, list, 1, node.now_ns);
    drive(&node);
    membership_replayed(node.membership, node.now_ns);
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    assert_true(membership_in_step(node.membership)); /* at once */
    assert_true(membership_settled(node.membership));
    teardown(&node);

    setup_with(&node, &options); /* by another spelling, which I answer myself */
    membership_resolved(node.membership, other, 1, node.now_ns);
    drive(&node);
    membership_replayed(node.membership, node.now_ns);
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    assert_false(membership_settled(node.membership));
    assert_true(membership_take_status(node.membership, node.now_ns, &target, &status));
    assert_int_equal(membership_heard(node.membership, target, slice_make(status->bytes, status->len), node.now_ns), 0);
    buffer_unref(status);
    drive(&node);
    assert_true(membership_target(node.membership, target).is_self);
    assert_true(membership_settled(node.membership));
    teardown(&node);

    options.static_resolver = false;
    setup_with(&node, &options);
    membership_resolved(node.membership, list, 1, node.now_ns);
    drive(&node);
    membership_replayed(node.membership, node.now_ns);
    wait_for(&node, 2900 * MS);
    assert_false(membership_settled(node.membership));
    wait_for(&node, 200 * MS);
    assert_true(membership_settled(node.membership));
    teardown(&node);
}

static void a_claim_without_progress_ends(void **state)
{
    struct node node;

    (void)state;
    setup(&node);
    membership_replayed(node.membership, node.now_ns);
    meet(&node, "a", MEMBER_READY);
    for (unsigned i = 0; i < 20; i++) {
        wait_for(&node, 900 * MS);
        told(&node, (struct says){.name = "a", .state = MEMBER_READY}); /* hears, never answers */
    }
    membership_progress(node.membership, node.now_ns); /* something was taken over: 30 s more */
    for (unsigned i = 0; i < 29; i++) {
        wait_for(&node, 900 * MS);
        told(&node, (struct says){.name = "a", .state = MEMBER_READY});
        assert_false(membership_settled(node.membership));
    }
    wait_for(&node, 1500 * MS);
    assert_true(membership_settled(node.membership));
    assert_int_equal(membership_counters(node.membership).settle_timeouts, 1);
    assert_int_equal(claim_no(&node), 0);
    teardown(&node);
}

/* -- L: leaving ----------------------------------------------------------------------------------------------------- */

static void who_drains_owns_nothing_unless_all_do(void **state)
{
    struct node node;

    (void)state;
    setup_settled(&node);
    membership_drain(node.membership, node.now_ns);
    assert_int_equal(membership_state(node.membership), MEMBER_READY); /* as of the adopted ring */
    assert_false(membership_told(node.membership));
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    assert_int_equal(membership_state(node.membership), MEMBER_DRAINING);
    assert_string_equal(ring_text(&node), "a=ready b=draining");
    assert_int_equal(slot_set_count(node.view->owned), 0);
    assert_int_equal(slot_set_count(node.view->settled), 0);
    told(&node, (struct says){.name = "a", .state = MEMBER_DRAINING});
    assert_int_not_equal(slot_set_count(node.view->owned), 0); /* nobody is ready */
    assert_int_not_equal(claim_no(&node), 0);
    teardown(&node);
}

static void who_leaves_knows_when_all_have_heard(void **state)
{
    struct buffer *status;
    struct node node;
    size_t target;
    bool told_left = false;

    (void)state;
    setup_settled(&node);
    membership_drain(node.membership, node.now_ns);
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    membership_left(node.membership, true, node.now_ns);
    drive(&node);
    assert_int_equal(membership_state(node.membership), MEMBER_LEFT);
    assert_false(membership_told(node.membership));
    while (membership_take_status(node.membership, node.now_ns, &target, &status)) {
        Tailrace__V1__Status *read = tailrace__v1__status__unpack(NULL, status->len, status->bytes);

        told_left = read->state == TAILRACE__V1__STATE__STATE_LEFT && read->left_clean;
        tailrace__v1__status__free_unpacked(read, NULL);
        buffer_unref(status);
        assert_int_equal(hear(&node, (struct says){.name = "a", .state = MEMBER_READY}), 0);
    }
    assert_true(told_left);
    drive(&node);
    assert_true(membership_told(node.membership));
    membership_drain(node.membership, node.now_ns); /* forward only */
    membership_replayed(node.membership, node.now_ns);
    assert_int_equal(membership_state(node.membership), MEMBER_LEFT);
    teardown(&node);
}

static void drain_before_the_replay_waits_for_it(void **state)
{
    struct node node;

    (void)state;
    setup(&node);
    membership_drain(node.membership, node.now_ns);
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    assert_int_equal(membership_state(node.membership), MEMBER_JOINING);
    membership_replayed(node.membership, node.now_ns);
    wait_for(&node, MEMBERSHIP_RING_GAP_NS);
    assert_int_equal(membership_state(node.membership), MEMBER_DRAINING);
    teardown(&node);
}

/* -- statuses ------------------------------------------------------------------------------------------------------- */

static void what_is_refused_is_shown(void **state)
{
    struct node node;
    const char *refusal;

    (void)state;
    setup_settled(&node);
    assert_int_equal(hear(&node, (struct says){.name = "x", .state = MEMBER_READY, .cluster = "other", .called = true}),
        MEMBERSHIP_E_OTHER_CLUSTER);
    assert_non_null(strstr(membership_refusal(node.membership, 0), "\"other\""));
    assert_int_equal(hear(&node, (struct says){.name = "x", .state = MEMBER_READY, .hash_version = 99, .called = true}),
        MEMBERSHIP_E_HASH_VERSION);
    assert_non_null(strstr(membership_refusal(node.membership, 0), "hash version 99"));
    assert_int_equal(hear(&node, (struct says){.name = "b", .state = MEMBER_READY, .life = 9, .called = true}), MEMBERSHIP_E_MY_NAME);
    assert_int_equal(hear(&node, (struct says){.name = "", .state = MEMBER_READY, .called = true}), MEMBERSHIP_E_MALFORMED);
    assert_int_equal(hear(&node, (struct says){.name = "x", .state = MEMBER_UNKNOWN, .called = true}), MEMBERSHIP_E_MALFORMED);
    assert_int_equal(hear(&node, (struct says){.name = "x", .state = (enum member_state)9, .called = true}), MEMBERSHIP_E_MALFORMED);
    refusal = membership_refusal(node.membership, 3);
    assert_non_null(refusal);
    assert_null(membership_refusal(node.membership, 4)); /* the malformed ones are one line */
    assert_null(membership_refusal(node.membership, 999));
    assert_int_equal(membership_counters(node.membership).statuses_refused, 6);
    assert_string_equal(ring_text(&node), "a=ready b=ready");
    teardown(&node);
}

static void a_target_has_one_tell_under_way(void **state)
{
    static const char *const list[] = {"x:1"};
    struct buffer *status;
    struct node node;
    size_t target, again;

    (void)state;
    setup(&node);
    membership_resolved(node.membership, list, 1, node.now_ns);
    drive(&node);
    assert_true(membership_take_status(node.membership, node.now_ns, &target, &status));
    buffer_unref(status);
    wait_for(&node, 5 * S);
    assert_false(membership_take_status(node.membership, node.now_ns, &again, &status));
    membership_unanswered(node.membership, target, true, "no sampler", node.now_ns);
    drive(&node);
    assert_string_equal(membership_target(node.membership, target).trouble, "no sampler");
    assert_false(membership_take_status(node.membership, node.now_ns, &again, &status)); /* not in a circle */
    wait_for(&node, S);
    assert_true(membership_take_status(node.membership, node.now_ns, &again, &status));
    buffer_unref(status);
    teardown(&node);
}

/* Nothing is due once all that is due was taken: a driver that follows membership_next_ns does not spin. */
static void time_goes_on(void **state)
{
    struct buffer *status;
    struct node node;
    size_t target;
    unsigned turns = 0;

    (void)state;
    setup_settled(&node);
    for (uint64_t end_ns = node.now_ns + 120 * S; node.now_ns < end_ns; turns++) {
        uint64_t next_ns;

        while (membership_take_status(node.membership, node.now_ns, &target, &status)) {
            buffer_unref(status);
            membership_unanswered(node.membership, target, false, "away", node.now_ns);
        }
        next_ns = membership_next_ns(node.membership);
        assert_true(next_ns > node.now_ns);
        node.now_ns = next_ns;
        drive(&node);
    }
    assert_true(turns < 120 * 15);
    assert_string_equal(ring_text(&node), "b=ready");
    assert_true(membership_settled(node.membership)); /* what came from "a" has nobody to be asked */
    teardown(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_joining_and_is_silent_until_adopted),
        cmocka_unit_test(record_brings_the_ring_back_silent),
        cmocka_unit_test(a_ring_says_nothing_before_it_is_adopted),
        cmocka_unit_test(heard_is_said_when_all_act_by_it),
        cmocka_unit_test(words_are_passed_on_to_who_knows_another_ring),
        cmocka_unit_test(words_change_the_ring),
        cmocka_unit_test(a_new_life_is_a_new_ring),
        cmocka_unit_test(a_standstill_claims_everything_anew),
        cmocka_unit_test(silence_drops_after_handoff_timeout),
        cmocka_unit_test(a_lost_link_counts_at_once),
        cmocka_unit_test(replaying_does_not_stop_the_clock),
        cmocka_unit_test(the_resolver_changes_no_ring),
        cmocka_unit_test(in_step_needs_every_reachable_peer),
        cmocka_unit_test(in_step_waits_until_all_were_met),
        cmocka_unit_test(readiness_comes_at_the_latest_after_handoff_timeout),
        cmocka_unit_test(gained_slots_are_claimed_and_old_ones_stay_settled),
        cmocka_unit_test(a_claim_changes_its_number_with_the_ring),
        cmocka_unit_test(a_claim_is_cleared_only_when_nothing_is_held),
        cmocka_unit_test(a_poll_from_before_a_silence_clears_nothing),
        cmocka_unit_test(slots_settle_when_all_have_cleared),
        cmocka_unit_test(nothing_settles_before_the_first_list),
        cmocka_unit_test(one_member_alone),
        cmocka_unit_test(a_claim_without_progress_ends),
        cmocka_unit_test(who_drains_owns_nothing_unless_all_do),
        cmocka_unit_test(who_leaves_knows_when_all_have_heard),
        cmocka_unit_test(drain_before_the_replay_waits_for_it),
        cmocka_unit_test(what_is_refused_is_shown),
        cmocka_unit_test(a_target_has_one_tell_under_way),
        cmocka_unit_test(time_goes_on),
    };
    int failed;

    ring_cache_init(&rings, RING_CACHE_ENTRIES_MAX);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    ring_cache_deinit(&rings);
    return failed;
}
