/* What comes in changes what is known of the peers, at once. membership_tend draws the consequences in one order: who is
 * reachable, who is dropped, a new ring, in step, settled. So nothing depends on which of two events was handled first within a
 * turn, and every state can be checked after a turn.
 *
 * Three rings are told apart, by member: what I know (`counted`), the newest one computed (`in_ring`), and the one that all
 * workers act by (`in_adopted`). Only one at a time waits for adoption. */
#include "sampler/handoff/membership.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/plant.h"
#include "sampler/handoff/membership_inside.h"

/* -- a new ring ----------------------------------------------------------------------------------------------------- */

/* What a ring made now would count me as. */
static enum member_state my_next_state(const struct membership *membership)
{
    return membership->state == MEMBER_LEFT ? membership->ring_state : membership->state;
}

bool membership_dirty(const struct membership *membership)
{
    if (my_next_state(membership) != membership->ring_state || membership->stood_still)
        return true;
    for (size_t i = 0; i < membership->peer_count; i++)
        if (!counted_equal(membership->peers[i]->counted, membership->peers[i]->in_ring))
            return true;
    return false;
}

/* All members of the ring of what is known, me among them, sorted by name. */
static size_t list_members(const struct membership *membership, struct ring_member *out)
{
    size_t count = 0;
    bool me_in = false;

    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];

        if (!counts(peer->counted))
            continue;
        if (!me_in && strcmp(membership->name, peer->name) < 0) {
            out[count++] = (struct ring_member){membership->name, my_next_state(membership)};
            me_in = true;
        }
        out[count++] = (struct ring_member){peer->name, peer->counted.state};
    }
    if (!me_in)
        out[count++] = (struct ring_member){membership->name, my_next_state(membership)};
    return count;
}

static size_t names_in(const struct ring_member *members, size_t count, enum member_state state, const char **out_names)
{
    size_t names = 0;

    for (size_t i = 0; i < count; i++)
        if (members[i].state == state)
            out_names[names++] = members[i].name;
    return names;
}

/* The ring of the ready; of the draining when nobody is ready; NULL when nobody is either. */
static int ring_of(struct membership *membership, const struct ring_member *members, size_t count, struct ring **out_ring)
{
    const char **names = calloc(count, sizeof(*names));
    size_t name_count;
    int r = 0;

    if (!names)
        return error_raise(-ENOMEM);
    *out_ring = NULL;
    name_count = names_in(members, count, MEMBER_READY, names);
    if (name_count == 0)
        name_count = names_in(members, count, MEMBER_DRAINING, names);
    if (name_count > 0)
        r = ring_cache_get(membership->rings, names, name_count, out_ring);
    free((void *)names);
    return error_fold(r);
}

static uint16_t my_index(const struct membership *membership, const struct ring *ring)
{
    for (uint32_t i = 0; ring && i < ring->member_count; i++)
        if (strcmp(ring->names[i], membership->name) == 0)
            return (uint16_t)i;
    return RING_NONE;
}

static void fill_owned(const struct ring *ring, uint16_t me, struct slot_set *owned)
{
    for (uint32_t slot = 0; me != RING_NONE && slot < RING_SLOTS; slot++)
        if (ring->owner[slot] == me)
            slot_set_add(owned, slot);
}

/* What is settled and still mine. */
static void fill_settled(const struct membership *membership, const struct slot_set *owned, struct slot_set *settled)
{
    for (size_t i = 0; i < SLOT_WORDS; i++) {
        if (planted(PLANT_SETTLE_OFF))
            settled->words[i] = owned->words[i];
        else if (!membership->stood_still)
            settled->words[i] = membership->settled->words[i] & owned->words[i];
    }
}

static bool gains(const struct slot_set *before, const struct slot_set *owned)
{
    for (size_t i = 0; i < SLOT_WORDS; i++)
        if (owned->words[i] & ~(before ? before->words[i] : 0))
            return true;
    return false;
}

static void take_sets(struct membership *membership, struct slot_set *owned, struct slot_set *settled)
{
    slot_set_unref(membership->owned);
    slot_set_unref(membership->settled);
    membership->owned = owned;
    membership->settled = settled;
    membership->owned_count = slot_set_count(owned);
    membership->settled_count = slot_set_count(settled);
}

/* C1, the part that holds at once: what is lost is neither owned nor settled. */
static int make_sets(struct membership *membership, const struct ring *ring)
{
    struct slot_set *owned = slot_set_new(), *settled = slot_set_new();

    if (!owned || !settled) {
        slot_set_unref(owned);
        slot_set_unref(settled);
        return error_raise(-ENOMEM);
    }
    fill_owned(ring, my_index(membership, ring), owned);
    fill_settled(membership, owned, settled);
    membership->ring_gained = membership->stood_still || gains(membership->owned, owned);
    take_sets(membership, owned, settled);
    return 0;
}

static void number_ring(struct membership *membership, uint64_t fingerprint)
{
    membership->fingerprint = fingerprint;
    membership->ring_no++;
    membership->counters.rings = membership->ring_no;
    membership->ring_state = my_next_state(membership);
    for (size_t i = 0; i < membership->peer_count; i++) {
        membership->peers[i]->in_ring = membership->peers[i]->counted;
        membership->peers[i]->view_since = 0;
    }
    membership->in_step = false;
    membership->stood_still = false;
    membership->record_due = true;
    membership->view_due = true;
}

static int make_ring(struct membership *membership)
{
    struct ring_member *members = calloc(membership->peer_count + 1, sizeof(*members));
    struct ring *ring = NULL;
    size_t count;
    int r;

    if (!members)
        return error_raise(-ENOMEM);
    membership->ring_ns = membership->now_ns; /* a failure is tried again after the gap, too */
    count = list_members(membership, members);
    r = ring_of(membership, members, count, &ring);
    if (r == 0)
        r = make_sets(membership, ring);
    if (r == 0) {
        ring_unref(membership->ring);
        membership->ring = steal(&ring);
        number_ring(membership, ring_fingerprint(members, count));
    }
    ring_unref(ring);
    free(members);
    return error_pass(r);
}

static bool may_make_ring(const struct membership *membership)
{
    return membership_is_adopted(membership) && membership->state != MEMBER_LEFT && membership_dirty(membership);
}

void membership_adopted(struct membership *membership, uint32_t ring_no, uint64_t now_ns)
{
    membership->now_ns = now_ns;
    if (ring_no != membership->ring_no || membership_is_adopted(membership))
        return;
    membership->adopted_no = ring_no;
    membership->adopted_fingerprint = membership->fingerprint;
    if (membership->adopted_state != membership->ring_state)
        membership->state_number++;
    membership->adopted_state = membership->ring_state;
    membership->waking = membership->stood_still;
    for (size_t i = 0; i < membership->peer_count; i++)
        membership->peers[i]->in_adopted = membership->peers[i]->in_ring;
    settle_claim(membership, membership->ring_gained);
}

/* -- life ----------------------------------------------------------------------------------------------------------- */

static bool copy_texts(struct membership *membership, const struct membership_options *options)
{
    membership->cluster = strdup(options->cluster);
    membership->name = strdup(options->name);
    membership->advertise = strdup(options->advertise);
    membership->software = strdup(options->software);
    return membership->cluster && membership->name && membership->advertise && membership->software;
}

CLEANUP_DEFINE(struct membership, membership_free);

int membership_new(const struct membership_options *options, uint64_t now_ns, struct membership **out_membership)
{
    CLEANUP(membership_free) struct membership *membership = calloc(1, sizeof(*membership));
    int r;

    if (!membership)
        return error_raise(-ENOMEM);
    ring_cache_init(&membership->own_rings, RING_CACHE_ENTRIES);
    membership->rings = options->rings ? options->rings : &membership->own_rings;
    membership->options = *options;
    membership->started_ns = membership->now_ns = now_ns;
    membership->state = membership->ring_state = membership->adopted_state = MEMBER_JOINING;
    membership->state_number = 1;
    membership->settled = slot_set_new();
    if (!copy_texts(membership, options) || !membership->settled)
        return error_raise(-ENOMEM);
    if (options->record.len > 0)
        membership->record_bad = !record_read(membership, options->record);
    targets_tend(membership);
    r = make_ring(membership);
    if (r)
        return error_pass(r);
    *out_membership = steal(&membership);
    return 0;
}

void membership_free(struct membership *membership)
{
    if (!membership)
        return;
    for (size_t i = 0; i < membership->peer_count; i++)
        peer_free(membership->peers[i]);
    for (size_t i = 0; i < membership->target_count; i++)
        free(membership->targets[i].address);
    for (size_t i = 0; i < REFUSALS_MAX; i++)
        free(membership->refusals[i]);
    free((void *)membership->peers);
    free(membership->targets);
    free(membership->by_address);
    ring_unref(membership->ring);
    slot_set_unref(membership->owned);
    slot_set_unref(membership->settled);
    ring_cache_deinit(&membership->own_rings);
    free(membership->cluster);
    free(membership->name);
    free(membership->advertise);
    free(membership->software);
    free(membership);
}

void membership_replayed(struct membership *membership, uint64_t now_ns)
{
    membership->now_ns = now_ns;
    if (membership->state == MEMBER_JOINING)
        membership->state = membership->drain_when_ready ? MEMBER_DRAINING : MEMBER_READY;
}

void membership_drain(struct membership *membership, uint64_t now_ns)
{
    membership->now_ns = now_ns;
    membership->serving = false;
    membership->drain_when_ready = true; /* what is not replayed yet cannot travel */
    if (membership->state == MEMBER_READY)
        membership->state = MEMBER_DRAINING;
}

void membership_stood_still(struct membership *membership, uint64_t now_ns)
{
    membership->now_ns = now_ns;
    membership->stood_still = true;
    membership->waking = true;
}

bool membership_is_waking(const struct membership *membership)
{
    return membership->waking;
}

void membership_left(struct membership *membership, bool clean, uint64_t now_ns)
{
    membership->now_ns = now_ns;
    membership->serving = false;
    if (membership->state == MEMBER_LEFT)
        return;
    membership->state = MEMBER_LEFT;
    membership->left_clean = clean;
    membership->state_number++;
}

void membership_room(struct membership *membership, uint64_t room_bytes)
{
    membership->room_bytes = room_bytes;
}

/* -- the turn ------------------------------------------------------------------------------------------------------- */

static uint64_t ring_due_ns(const struct membership *membership)
{
    return after_ns(membership->ring_ns, MEMBERSHIP_RING_GAP_NS);
}

static void judge_in_step(struct membership *membership)
{
    membership->in_step = settle_judge_in_step(membership);
    if (membership->in_step && membership->adopted_state == MEMBER_READY && membership->state == MEMBER_READY)
        membership->serving = true;
    if (membership->adopted_state == MEMBER_READY && membership->state == MEMBER_READY &&
        membership->now_ns >= after_ns(membership->started_ns, membership->options.handoff_timeout_ns))
        membership->serving = true;
}

/* A quarter more or less, or the end of it: others pace what they give by it. */
static bool room_moved(uint64_t shown, uint64_t now)
{
    return now > shown ? now - shown > shown / 4 : shown - now > shown / 4;
}

static bool shows_otherwise(const struct peer *peer)
{
    if (!counts(peer->in_ring))
        return false;
    return peer->view_index == SIZE_MAX || peer->view_target != peer->reached_at ||
        (peer->reachable && room_moved(peer->view_room_bytes, peer->room_bytes));
}

static bool view_is_behind(const struct membership *membership)
{
    if (membership->view_due || membership->view_in_step != membership->in_step)
        return true;
    for (size_t i = 0; i < membership->peer_count; i++)
        if (shows_otherwise(membership->peers[i]))
            return true;
    return false;
}

int membership_tend(struct membership *membership, uint64_t now_ns)
{
    int r = 0;

    membership->now_ns = now_ns;
    peers_tend(membership);
    targets_tend(membership);
    if (may_make_ring(membership) && now_ns >= ring_due_ns(membership))
        r = make_ring(membership);
    settle_tend(membership);
    judge_in_step(membership);
    membership->view_due = view_is_behind(membership);
    return error_pass(r);
}

/* -- out ------------------------------------------------------------------------------------------------------------ */

bool membership_take_record(struct membership *membership, struct buffer **out_record, uint32_t *out_ring_no)
{
    struct buffer *record = membership->record_due ? record_pack(membership) : NULL;

    if (!record)
        return false;
    membership->record_due = false;
    *out_record = record;
    *out_ring_no = membership->ring_no;
    return true;
}

static bool show_member(struct view_member *member, const char *name, enum member_state state, uint64_t incarnation)
{
    *member = (struct view_member){.name = strdup(name), .state = state, .incarnation = incarnation, .target = SIZE_MAX};
    return member->name != NULL;
}

static bool show_me(const struct membership *membership, struct view *view)
{
    view->self = view->member_count;
    return show_member(&view->members[view->member_count++], membership->name, membership->ring_state,
        membership->options.incarnation);
}

static bool show_peer(const struct peer *peer, struct view *view)
{
    struct view_member *member = &view->members[view->member_count++];

    if (!show_member(member, peer->name, peer->in_ring.state, peer->in_ring.incarnation))
        return false;
    member->reachable = peer->reachable;
    member->room_bytes = peer->room_bytes;
    member->target = peer->reached_at;
    view->all_reachable = view->all_reachable && peer->reachable;
    return true;
}

static bool show_members(const struct membership *membership, struct view *view)
{
    bool me_in = false;

    view->members = calloc(membership->peer_count + 1, sizeof(*view->members));
    if (!view->members)
        return false;
    view->all_reachable = true;
    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];

        if (!counts(peer->in_ring))
            continue;
        if (!me_in && strcmp(membership->name, peer->name) < 0) {
            me_in = true;
            if (!show_me(membership, view))
                return false;
        }
        if (!show_peer(peer, view))
            return false;
    }
    return me_in || show_me(membership, view);
}

static bool show_ring(const struct membership *membership, struct view *view)
{
    view->owned = slot_set_ref(membership->owned);
    view->settled = slot_set_ref(membership->settled);
    if (!membership->ring)
        return true;
    view->ring = ring_ref(membership->ring);
    view->members_of_ring = calloc(view->ring->member_count, sizeof(*view->members_of_ring));
    for (uint32_t i = 0; view->members_of_ring && i < view->ring->member_count; i++)
        view->members_of_ring[i] = (uint16_t)view_find(view, view->ring->names[i]);
    return view->members_of_ring != NULL;
}

/* What the newest view says of the peers, and since when. */
static void note_shown(struct membership *membership, const struct view *view)
{
    for (size_t i = 0; i < membership->peer_count; i++) {
        struct peer *peer = membership->peers[i];

        peer->view_index = counts(peer->in_ring) ? view_find(view, peer->name) : SIZE_MAX;
        peer->view_target = peer->reached_at;
        peer->view_room_bytes = peer->room_bytes;
        if (!peer->reachable || peer->view_index == SIZE_MAX)
            peer->view_since = 0;
        else if (peer->view_since == 0)
            peer->view_since = view->number;
    }
}

struct view *membership_take_view(struct membership *membership, uint64_t now_ns)
{
    struct view *view;

    membership->now_ns = now_ns;
    if (!membership->view_due)
        return NULL;
    view = calloc(1, sizeof(*view));
    if (!view)
        return NULL;
    atomic_init(&view->refs, 1);
    if (!show_members(membership, view) || !show_ring(membership, view)) {
        view_unref(view);
        return NULL; /* still due */
    }
    view->number = ++membership->view_number;
    view->ring_no = membership->ring_no;
    view->fingerprint = membership->fingerprint;
    view->in_step = membership->in_step;
    membership->view_in_step = membership->in_step;
    membership->view_due = false;
    note_shown(membership, view);
    return view;
}

/* -- polls ---------------------------------------------------------------------------------------------------------- */

static uint64_t poll_due_ns(const struct membership *membership)
{
    if (membership->poll_under_way || !membership_is_adopted(membership))
        return NEVER;
    if (membership->poll_soon)
        return 0;
    if (membership->state == MEMBER_DRAINING || settle_asks_poll(membership))
        return after_ns(membership->poll_ns, MEMBERSHIP_POLL_GAP_NS);
    return after_ns(membership->poll_ns, membership->options.status_interval_ns);
}

bool membership_take_poll(struct membership *membership, uint64_t *out_view_number, uint64_t now_ns)
{
    membership->now_ns = now_ns;
    if (membership->view_due || poll_due_ns(membership) > now_ns)
        return false; /* behind the views */
    membership->poll_under_way = true;
    membership->poll_soon = false;
    membership->poll_ns = now_ns;
    *out_view_number = membership->view_number;
    return true;
}

void membership_polled(struct membership *membership, uint64_t view_number, const struct membership_held *members, size_t count,
    bool swept, uint64_t now_ns)
{
    membership->now_ns = now_ns;
    membership->poll_under_way = false;
    membership->swept = swept;
    if (view_number != membership->view_number) {
        membership->poll_soon = true; /* its members may stand elsewhere by now: ask again */
        return;
    }
    for (size_t i = 0; i < membership->peer_count; i++) {
        struct peer *peer = membership->peers[i];

        if (peer->view_index < count) {
            peer->held = members[peer->view_index];
            peer->held_view = view_number;
        } else {
            peer->held = (struct membership_held){0};
            peer->held_view = 0;
        }
    }
}

/* -- when ----------------------------------------------------------------------------------------------------------- */

static void sooner(uint64_t when_ns, uint64_t *next_ns)
{
    if (when_ns < *next_ns)
        *next_ns = when_ns;
}

uint64_t membership_next_ns(const struct membership *membership)
{
    uint64_t next_ns = NEVER;

    if (membership->view_due || membership->record_due)
        return membership->now_ns;
    if (may_make_ring(membership))
        sooner(ring_due_ns(membership), &next_ns);
    if (membership->state == MEMBER_READY && membership->adopted_state == MEMBER_READY && !membership->serving)
        sooner(after_ns(membership->started_ns, membership->options.handoff_timeout_ns), &next_ns);
    sooner(peers_next_ns(membership), &next_ns);
    sooner(targets_next_ns(membership), &next_ns);
    sooner(settle_next_ns(membership), &next_ns);
    sooner(poll_due_ns(membership), &next_ns);
    return next_ns;
}

bool membership_record_bad(const struct membership *membership)
{
    return membership->record_bad;
}

uint64_t membership_fingerprint(const struct membership *membership)
{
    return membership->adopted_fingerprint;
}

uint32_t membership_ring_no(const struct membership *membership)
{
    return membership->adopted_no;
}
