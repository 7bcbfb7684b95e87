/* What peers say they are, and what their silence means.
 *
 *                 ready, draining                silent for handoff_timeout, or another says "gone" and it is silent here too
 *   not counted ------------------> counted ------------------------------------------------------------> gone
 *       ^                            |   ^  '--- left, clean; another name on its volume is ready -------->  |
 *       |                 joining,   |   |                                                                   |
 *       |                 left with  v   | ready                                                             |
 *       |                 state     silent, keeps its slots                                                  |
 *       '------------- a later incarnation, or the same one reachable again --------------------------------'
 *
 * A crash does not change the ring: a member that is back and replays its journal (joining, a new incarnation) is counted as
 * what it was, and as silent, until it says ready or the time is over. Else its slots would go to others, who would settle
 * without what it is about to bring back.
 *
 * A peer may pass on another's word: it is still that member's word, with its incarnation. It counts only where that member is
 * not reachable, and only if whoever passes it on has it from a living one: a record of an old life resurrects nobody. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sampler/handoff/membership_inside.h"

/* -- the table ------------------------------------------------------------------------------------------------------ */

/* Where a name stands or would stand. */
static size_t place_of(const struct membership *membership, const char *name)
{
    size_t from = 0, to = membership->peer_count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (strcmp(membership->peers[middle]->name, name) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

struct peer *peer_find(const struct membership *membership, const char *name)
{
    size_t place = place_of(membership, name);

    if (place < membership->peer_count && strcmp(membership->peers[place]->name, name) == 0)
        return membership->peers[place];
    return NULL;
}

void peer_free(struct peer *peer)
{
    if (!peer)
        return;
    free(peer->name);
    free(peer->software);
    free(peer);
}

static struct peer *peer_new(const struct membership *membership, const char *name)
{
    struct peer *peer = calloc(1, sizeof(*peer));

    if (!peer)
        return NULL;
    peer->name = strdup(name);
    peer->software = strdup("");
    if (!peer->name || !peer->software) {
        peer_free(peer);
        return NULL;
    }
    peer->home = peer->reached_at = peer->view_target = NO_TARGET;
    peer->view_index = SIZE_MAX;
    peer->silent_since_ns = membership->now_ns;
    return peer;
}

static bool room_for_peer(struct membership *membership)
{
    size_t capacity = membership->peer_capacity ? 2 * membership->peer_capacity : 16;
    struct peer **peers;

    if (membership->peer_count >= MEMBERSHIP_PEERS_MAX) {
        membership->counters.over_bounds++;
        return false;
    }
    if (membership->peer_count < membership->peer_capacity)
        return true;
    peers = realloc(membership->peers, capacity * sizeof(struct peer *));
    if (!peers)
        return false;
    membership->peers = peers;
    membership->peer_capacity = capacity;
    return true;
}

struct peer *peer_get(struct membership *membership, const char *name)
{
    size_t place = place_of(membership, name);
    struct peer *peer = peer_find(membership, name);

    if (peer)
        return peer;
    if (!room_for_peer(membership))
        return NULL;
    peer = peer_new(membership, name);
    if (!peer)
        return NULL;
    memmove(&membership->peers[place + 1], &membership->peers[place],
        (membership->peer_count - place) * sizeof(struct peer *));
    membership->peers[place] = peer;
    membership->peer_count++;
    return peer;
}

static void forget(struct membership *membership, size_t index)
{
    struct peer *peer = membership->peers[index];

    for (size_t i = 0; i < membership->target_count; i++)
        if (membership->targets[i].peer == peer)
            membership->targets[i].peer = NULL;
    membership->peer_count--;
    memmove(&membership->peers[index], &membership->peers[index + 1],
        (membership->peer_count - index) * sizeof(struct peer *));
    peer_free(peer);
}

/* -- words ---------------------------------------------------------------------------------------------------------- */

static void leave_ring(struct membership *membership, struct peer *peer, bool left)
{
    peer->gone = true;
    peer->gone_left = left;
    peer->gone_incarnation = peer->incarnation;
    peer->gone_ns = membership->now_ns;
    peer->counted = (struct counted){MEMBER_UNKNOWN, 0};
}

static void fall_silent(struct membership *membership, struct peer *peer)
{
    if (peer->reachable)
        peer->silent_since_ns = membership->now_ns;
    peer->reachable = false;
    peer->reached_at = NO_TARGET;
}

/* It must answer anew before it is reachable. */
static void distrust_links(struct membership *membership, const struct peer *peer)
{
    for (size_t i = 0; i < membership->target_count; i++)
        if (membership->targets[i].peer == peer)
            membership->targets[i].answered_ns = 0;
}

/* R3: a volume has one user at a time, so whoever used it before under another name is no more. */
static void take_over_volume(struct membership *membership, const struct peer *heir)
{
    if (heir->journal_id == 0)
        return;
    for (size_t i = 0; i < membership->peer_count; i++) {
        struct peer *peer = membership->peers[i];

        if (peer == heir || peer->journal_id != heir->journal_id || !counts(peer->counted) ||
            peer->incarnation >= heir->incarnation)
            continue;
        distrust_links(membership, peer);
        fall_silent(membership, peer);
        leave_ring(membership, peer, true);
        membership->counters.members_left++;
    }
}

/* What it said in its former life stands no more. */
static void begin_life(struct membership *membership, struct peer *peer, uint64_t incarnation)
{
    fall_silent(membership, peer);
    peer->incarnation = incarnation;
    peer->number = 0;
    peer->word = MEMBER_UNKNOWN;
    peer->fingerprint = 0;
    peer->ring_no = peer->claim_no = peer->heard_ring_no = 0;
    peer->cleared_no = peer->clear_told_no = 0;
    peer->told = peer->state_heard = 0;
    peer->holds_traces = peer->holds_bytes = 0;
}

static void take_left(struct membership *membership, struct peer *peer, bool clean)
{
    fall_silent(membership, peer);
    if (!counts(peer->counted)) {
        if (clean && !peer->gone)
            leave_ring(membership, peer, true);
    } else if (clean) {
        leave_ring(membership, peer, true);
        membership->counters.members_left++;
    } else { /* it comes back with what it holds, or handoff_timeout drops it */
        peer->counted = (struct counted){MEMBER_DRAINING, peer->incarnation};
    }
}

void peer_take_word(struct membership *membership, struct peer *peer, uint64_t incarnation, enum member_state word, bool left_clean)
{
    if (incarnation > peer->incarnation)
        begin_life(membership, peer, incarnation);
    else if (word <= peer->word)
        return; /* forward only, whatever the order in which words come */
    peer->word = word;
    switch (word) {
    case MEMBER_UNKNOWN:
    case MEMBER_JOINING:
        fall_silent(membership, peer);
        break;
    case MEMBER_READY:
    case MEMBER_DRAINING:
        if (peer->gone && peer->gone_incarnation >= incarnation)
            break; /* counted again when it is reachable again: peers_tend */
        peer->gone = false;
        peer->counted = (struct counted){word, incarnation};
        if (word == MEMBER_READY)
            take_over_volume(membership, peer);
        break;
    case MEMBER_LEFT:
        take_left(membership, peer, left_clean);
        break;
    }
}

/* -- words passed on ------------------------------------------------------------------------------------------------ */

/* R3: another has seen it go, and it is silent here too. */
static void take_gone(struct membership *membership, const Tailrace__V1__Member *member)
{
    struct peer *peer = peer_find(membership, member->name);

    if (!peer || peer->reachable || peer->gone || peer->incarnation > member->incarnation || !counts(peer->counted))
        return;
    if (member->incarnation > peer->incarnation)
        begin_life(membership, peer, member->incarnation);
    leave_ring(membership, peer, member->state == TAILRACE__V1__STATE__STATE_LEFT);
    membership->counters.members_left++;
}

static void take_passed_on(struct membership *membership, const Tailrace__V1__Member *member)
{
    enum member_state word = (enum member_state)member->state;
    struct peer *peer;

    if (word != MEMBER_READY && word != MEMBER_DRAINING)
        return;
    peer = peer_get(membership, member->name);
    if (!peer || peer->reachable || peer->incarnation > member->incarnation)
        return;
    if (peer->gone && peer->gone_incarnation >= member->incarnation)
        return;
    peer_take_word(membership, peer, member->incarnation, word, false);
    peer->vouched = true;
    if (peer->journal_id == 0)
        peer->journal_id = member->journal_id;
    if (peer->home == NO_TARGET)
        peer_set_home(membership, peer, member->advertise_addr);
}

static bool is_name(const char *name)
{
    size_t len = strnlen(name, MEMBERSHIP_NAME_MAX + 1);

    return len > 0 && len <= MEMBERSHIP_NAME_MAX;
}

void peers_take_list(struct membership *membership, Tailrace__V1__Member *const *members, size_t count, bool gone)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_name(members[i]->name) || members[i]->incarnation == 0 || strcmp(members[i]->name, membership->name) == 0)
            continue;
        if (gone)
            take_gone(membership, members[i]);
        else
            take_passed_on(membership, members[i]);
    }
}

/* -- time ----------------------------------------------------------------------------------------------------------- */

static bool may_be_reached(const struct peer *peer)
{
    return peer->word == MEMBER_READY || peer->word == MEMBER_DRAINING;
}

/* One of its links is up and has brought an answer of this life lately; the one that it names itself comes first. */
static size_t where_reached(const struct membership *membership, const struct peer *peer, size_t index, size_t best)
{
    const struct target *target = &membership->targets[index];

    if (!target->up || target->answered_ns == 0 || target->answered_incarnation != peer->incarnation ||
        membership->now_ns >= after_ns(target->answered_ns, membership->options.peer_timeout_ns))
        return best;
    if (best == NO_TARGET || index == peer->home)
        return index;
    return best;
}

static void judge_reachable(struct membership *membership)
{
    for (size_t i = 0; i < membership->peer_count; i++)
        membership->peers[i]->reached_at = NO_TARGET;
    for (size_t i = 0; i < membership->target_count; i++) {
        struct peer *peer = membership->targets[i].peer;

        if (peer && may_be_reached(peer))
            peer->reached_at = where_reached(membership, peer, i, peer->reached_at);
    }
    for (size_t i = 0; i < membership->peer_count; i++) {
        struct peer *peer = membership->peers[i];
        bool reachable = peer->reached_at != NO_TARGET;

        if (peer->reachable && !reachable)
            peer->silent_since_ns = membership->now_ns;
        peer->reachable = reachable;
    }
}

void peers_tend(struct membership *membership)
{
    uint64_t timeout_ns = membership->options.handoff_timeout_ns;

    judge_reachable(membership);
    for (size_t i = membership->peer_count; i-- > 0;) {
        struct peer *peer = membership->peers[i];

        if (peer->reachable) {
            if (peer->gone) /* it was cut off, and is there again */
                peer->counted = (struct counted){peer->word, peer->incarnation};
            peer->gone = false;
        } else if (counts(peer->counted) && membership->now_ns >= after_ns(peer->silent_since_ns, timeout_ns)) {
            leave_ring(membership, peer, false);
            membership->counters.members_dropped++;
        } else if (!counts(peer->counted) && !counts(peer->in_ring) && !counts(peer->in_adopted) &&
            membership->now_ns >= after_ns(peer->gone ? peer->gone_ns : peer->silent_since_ns, MEMBERSHIP_GONE_NS) &&
            membership->now_ns >= after_ns(peer->heard_ns, MEMBERSHIP_GONE_NS)) {
            forget(membership, i);
        }
    }
}

uint64_t peers_next_ns(const struct membership *membership)
{
    uint64_t next_ns = NEVER;

    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];
        uint64_t when_ns = NEVER;

        if (peer->reachable)
            when_ns = after_ns(membership->targets[peer->reached_at].answered_ns, membership->options.peer_timeout_ns);
        else if (counts(peer->counted))
            when_ns = after_ns(peer->silent_since_ns, membership->options.handoff_timeout_ns);
        if (when_ns < next_ns)
            next_ns = when_ns;
    }
    return next_ns;
}
