/* Each fresh span goes the way that rules S1 to S3 say, for every state of slot, owner and step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "sampler/handoff/gate.h"
#include "sampler/handoff/view.h"

#define LINK ((struct peer_link *)(uintptr_t)8) /* never called here */

enum slot { SETTLED = 1, CLAIMED, ANOTHERS, NOBODYS }; /* slot numbers */

struct fixture {
    struct view view;
    struct view_member members[2];
    struct ring *ring;
    uint16_t members_of_ring[2];
};

static void fixture_init(struct fixture *f, bool in_step, bool reachable, bool linked, enum slot slot)
{
    f->ring = calloc(1, sizeof(*f->ring));
    assert_non_null(f->ring);
    f->members_of_ring[1] = 1;
    f->ring->owner[ANOTHERS] = 1;
    f->members[1] = (struct view_member){.state = MEMBER_READY, .reachable = reachable, .link = linked ? LINK : NULL};
    f->view = (struct view){.ring_no = 1,
        .in_step = in_step,
        .member_count = 2,
        .members = f->members,
        .ring = slot == NOBODYS ? NULL : f->ring,
        .members_of_ring = f->members_of_ring,
        .owned = slot_set_new(),
        .settled = slot_set_new()};
    assert_true(f->view.owned && f->view.settled);
    slot_set_add(f->view.owned, SETTLED);
    slot_set_add(f->view.owned, CLAIMED);
    slot_set_add(f->view.settled, SETTLED);
}

static void fixture_deinit(struct fixture *f)
{
    slot_set_unref(f->view.owned);
    slot_set_unref(f->view.settled);
    free(f->ring);
}

static void a_span_goes_its_way(void **state)
{
    enum { TAKE, TAKE_OUT, KEEP, KEEP_OUT, FORWARD, WAIT, NOT_OWNER };
    static const struct {
        const char *what;
        enum slot slot;
        bool in_step, reachable, unlinked, by_forward, overdue, recovering;
        int way;
    } cases[] = {
        {"S1: mine and settled", SETTLED, false, false, false, false, false, false, TAKE},
        {"S1: mine, claimed, in step", CLAIMED, true, true, false, false, false, false, TAKE},
        {"S1: mine, claimed, out of step", CLAIMED, false, true, false, false, false, false, WAIT},
        {"S1: the same, overdue", CLAIMED, false, true, false, false, true, false, TAKE_OUT},
        {"S1: overdue, but settled", SETTLED, false, true, false, false, true, false, TAKE},
        {"S1: overdue, but in step", CLAIMED, true, true, false, false, true, false, TAKE},
        {"while the journal is read back", SETTLED, true, true, false, false, true, true, WAIT},
        {"S2: the owner is reachable", ANOTHERS, false, true, false, false, false, false, FORWARD},
        {"S2: in step too", ANOTHERS, true, true, false, false, true, false, FORWARD},
        {"S2: passed on while the journal is read back", ANOTHERS, false, true, false, false, false, true, FORWARD},
        {"S3: the owner is away, in step", ANOTHERS, true, false, false, false, false, false, KEEP},
        {"C2: reachable, and there is no connection now", ANOTHERS, true, true, true, false, false, false, WAIT},
        {"C2: the same, overdue: not even then", ANOTHERS, true, true, true, false, true, false, WAIT},
        {"S3: the owner is away, out of step", ANOTHERS, false, false, false, false, false, false, WAIT},
        {"S3: the same, overdue", ANOTHERS, false, false, false, false, true, false, KEEP_OUT},
        {"S3: not while the journal is read back", ANOTHERS, true, false, false, false, true, true, WAIT},
        {"nobody owns it", NOBODYS, true, true, false, false, true, false, WAIT},
        {"forwarded to its owner", SETTLED, false, false, false, true, false, false, TAKE},
        {"forwarded to a claimer out of step", CLAIMED, false, false, false, true, false, false, WAIT},
        {"forwarded, and another's: never again", ANOTHERS, true, true, false, true, true, false, NOT_OWNER},
        {"forwarded, and nobody's", NOBODYS, true, true, false, true, false, false, NOT_OWNER},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture f = {.ring = NULL};
        struct gate_choice choice;
        int way = WAIT;

        fixture_init(&f, cases[i].in_step, cases[i].reachable, !cases[i].unlinked, cases[i].slot);
        choice = gate_choose(
            &(struct gate_question){&f.view, cases[i].by_forward, cases[i].overdue, cases[i].recovering}, cases[i].slot);
        switch (choice.way) {
        case GATE_TAKE:
            way = choice.out_of_step ? TAKE_OUT : TAKE;
            break;
        case GATE_KEEP:
            way = choice.out_of_step ? KEEP_OUT : KEEP;
            break;
        case GATE_FORWARD:
            way = FORWARD;
            assert_int_equal(choice.owner, 1);
            break;
        case GATE_WAIT:
            break;
        case GATE_NOT_OWNER:
            way = NOT_OWNER;
            break;
        }
        if (way != cases[i].way)
            fail_msg("%s: way %d, expected %d", cases[i].what, way, cases[i].way);
        fixture_deinit(&f);
    }
}

static void without_a_view_all_waits(void **state)
{
    (void)state;
    for (int bits = 0; bits < 8; bits++) {
        const struct gate_question question = {NULL, bits & 1, bits & 2, bits & 4};

        assert_int_equal(gate_choose(&question, SETTLED).way, GATE_WAIT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_span_goes_its_way),
        cmocka_unit_test(without_a_view_all_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
