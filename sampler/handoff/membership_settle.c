/* In step, and the question that settles slots.
 *
 *            ring adopted, slots gained                all others cleared it, hello_wait over, a list, nobody expected
 *   settled ----------------------------> claim open ---------------------------------------------------------> settled
 *               (or a start)               |    ^     '-- handoff_timeout without progress, counted ----------->
 *                                          '----'
 *                              ring adopted: the next claim_no
 *
 * "In step" holds from the time at which every reachable peer says my present ring_no and my F. Before hello_wait is over it also
 * wants everyone met of whom I have heard, and somebody: a peer that was not called yet is not silent, and may own what I take.
 *
 * A clearing rests on a poll that was sent after every worker had a view with the claimer reachable in this very ring. By such a
 * view nothing new is kept for it, so what was not there then does not come. */
#include "sampler/handoff/membership_inside.h"

/* -- in step -------------------------------------------------------------------------------------------------------- */

static bool may_be_judged(const struct membership *membership)
{
    return membership_is_adopted(membership) &&
        (membership->adopted_state == MEMBER_READY || membership->adopted_state == MEMBER_DRAINING) &&
        membership->state != MEMBER_LEFT;
}

static bool hello_is_over(const struct membership *membership)
{
    return membership->now_ns >= after_ns(membership->started_ns, membership->options.hello_wait_ns);
}

static bool is_in_step_with(const struct membership *membership, const struct peer *peer)
{
    return peer->heard_ring_no == membership->adopted_no && peer->fingerprint == membership->adopted_fingerprint;
}

/* Nobody can be about who is neither silent nor known to me. A peer of the same F says so, and hello_wait does: a list that
 * names me alone may just be behind. */
static bool is_met(const struct membership *membership)
{
    if (hello_is_over(membership) || targets_alone(membership))
        return true;
    if (!targets_all_met(membership))
        return false;
    for (size_t i = 0; i < membership->peer_count; i++)
        if (membership->peers[i]->reachable)
            return true;
    return false;
}

bool settle_judge_in_step(const struct membership *membership)
{
    if (!may_be_judged(membership) || !is_met(membership))
        return false;
    for (size_t i = 0; i < membership->peer_count; i++)
        if (membership->peers[i]->reachable && !is_in_step_with(membership, membership->peers[i]))
            return false;
    return true;
}

/* -- clearing others' claims: C2 ------------------------------------------------------------------------------------ */

static bool holds_nothing_of(const struct membership *membership, const struct peer *peer)
{
    return membership->swept && peer->view_since != 0 && peer->held_view >= peer->view_since && peer->held.traces == 0 &&
        peer->held.exports == 0;
}

bool settle_may_clear(const struct membership *membership, const struct peer *peer)
{
    return peer->claim_no != 0 && may_be_judged(membership) && peer->reachable && counts(peer->in_adopted) &&
        peer->fingerprint == membership->adopted_fingerprint && !membership_dirty(membership) &&
        holds_nothing_of(membership, peer);
}

bool settle_asks_poll(const struct membership *membership)
{
    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];

        if (peer->held.traces != 0 || peer->held.exports != 0)
            return true;
        if (peer->claim_no != 0 && peer->claim_no != peer->clear_told_no && peer->reachable)
            return true;
    }
    return false;
}

/* -- my own claim --------------------------------------------------------------------------------------------------- */

void settle_progress(struct membership *membership)
{
    membership->progress_ns = membership->now_ns;
}

void membership_progress(struct membership *membership, uint64_t now_ns)
{
    membership->now_ns = now_ns;
    settle_progress(membership);
}

static void settle_all(struct membership *membership)
{
    slot_set_unref(membership->settled);
    membership->settled = slot_set_ref(membership->owned);
    membership->settled_count = membership->owned_count;
    membership->claim_open = false;
    membership->view_due = true;
}

void settle_claim(struct membership *membership, bool gained)
{
    bool was_open = membership->claim_open;

    membership->claim_open = membership->settled_count < membership->owned_count;
    if (!membership->claim_open)
        return;
    membership->claim_no++;
    membership->counters.claims = membership->claim_no;
    if (!was_open || gained) {
        settle_progress(membership);
        for (size_t i = 0; i < membership->peer_count; i++)
            membership->peers[i]->progressed = false;
    }
}

void settle_cleared(struct membership *membership, struct peer *peer, uint32_t claim_no, uint64_t fingerprint)
{
    if (!membership->claim_open || !membership_is_adopted(membership) || claim_no != membership->claim_no ||
        fingerprint != membership->adopted_fingerprint)
        return;
    peer->cleared_no = claim_no;
    if (!peer->progressed)
        settle_progress(membership);
    peer->progressed = true;
}

static bool all_cleared(const struct membership *membership)
{
    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];

        if (counts(peer->in_adopted) && peer->cleared_no != membership->claim_no)
            return false;
    }
    return true;
}

static bool is_answered(const struct membership *membership) /* C3 */
{
    uint64_t until_ns;

    if (targets_alone(membership))
        return true;
    return hello_is_over(membership) && targets_listed(membership) && !membership_dirty(membership) && all_cleared(membership) &&
        !targets_expected(membership, &until_ns);
}

void settle_tend(struct membership *membership)
{
    if (!membership->claim_open || !membership_is_adopted(membership))
        return;
    if (is_answered(membership)) {
        settle_all(membership);
    } else if (membership->now_ns >= after_ns(membership->progress_ns, membership->options.handoff_timeout_ns)) { /* C4 */
        membership->counters.settle_timeouts++;
        settle_all(membership);
    }
}

static void sooner(const struct membership *membership, uint64_t when_ns, uint64_t *next_ns)
{
    if (when_ns > membership->now_ns && when_ns < *next_ns)
        *next_ns = when_ns;
}

uint64_t settle_next_ns(const struct membership *membership)
{
    uint64_t next_ns = NEVER, until_ns;

    if (!membership->in_step || membership->claim_open)
        sooner(membership, after_ns(membership->started_ns, membership->options.hello_wait_ns), &next_ns);
    if (membership->claim_open) {
        sooner(membership, after_ns(membership->progress_ns, membership->options.handoff_timeout_ns), &next_ns);
        if (targets_expected(membership, &until_ns))
            sooner(membership, until_ns, &next_ns);
        if (!targets_listed(membership))
            sooner(membership, after_ns(membership->started_ns, membership->options.handoff_timeout_ns), &next_ns);
    }
    return next_ns;
}

bool membership_in_step(const struct membership *membership)
{
    return membership->in_step;
}

bool membership_settled(const struct membership *membership)
{
    return membership_is_adopted(membership) && membership->settled_count == membership->owned_count;
}
