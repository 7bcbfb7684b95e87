/* Addresses: the resolver's, those that members name themselves, and those of the journal's last record. Each is called every
 * status_interval, whoever is behind it: that is how two who do not know each other meet (hello_wait, C3). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sampler/handoff/membership_inside.h"

static size_t place_of(const struct membership *membership, const char *address)
{
    size_t from = 0, to = membership->by_address_count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (strcmp(membership->targets[membership->by_address[middle]].address, address) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

size_t target_find(const struct membership *membership, const char *address)
{
    size_t place = place_of(membership, address);

    if (place < membership->by_address_count) {
        size_t index = membership->by_address[place];

        if (strcmp(membership->targets[index].address, address) == 0)
            return index;
    }
    return NO_TARGET;
}

static bool room_for_target(struct membership *membership)
{
    size_t capacity = membership->target_capacity ? 2 * membership->target_capacity : 16;
    struct target *targets;
    uint32_t *by_address;

    if (membership->target_count < membership->target_capacity)
        return true;
    targets = realloc(membership->targets, capacity * sizeof(*targets));
    if (!targets)
        return false;
    membership->targets = targets;
    by_address = realloc(membership->by_address, capacity * sizeof(*by_address));
    if (!by_address)
        return false;
    membership->by_address = by_address;
    membership->target_capacity = capacity;
    return true;
}

/* A free index, or one past the last. */
static size_t free_index(struct membership *membership)
{
    if (membership->by_address_count < membership->target_count)
        for (size_t i = 0; i < membership->target_count; i++)
            if (!membership->targets[i].address)
                return i;
    if (membership->target_count >= MEMBERSHIP_TARGETS_MAX) {
        membership->counters.over_bounds++;
        return NO_TARGET;
    }
    return room_for_target(membership) ? membership->target_count : NO_TARGET;
}

static bool is_address(const char *address)
{
    size_t len = strnlen(address, MEMBERSHIP_ADDRESS_MAX + 1);

    return len > 0 && len <= MEMBERSHIP_ADDRESS_MAX;
}

size_t target_get(struct membership *membership, const char *address)
{
    size_t index = target_find(membership, address), place;
    struct target *target;
    char *copy;

    if (index != NO_TARGET || !is_address(address))
        return index;
    index = free_index(membership);
    copy = index == NO_TARGET ? NULL : strdup(address);
    if (!copy)
        return NO_TARGET;
    place = place_of(membership, address);
    memmove(&membership->by_address[place + 1], &membership->by_address[place],
        (membership->by_address_count - place) * sizeof(*membership->by_address));
    membership->by_address[place] = (uint32_t)index;
    membership->by_address_count++;
    if (index == membership->target_count)
        membership->target_count++;
    target = &membership->targets[index];
    *target = (struct target){.address = copy, .is_self = strcmp(address, membership->advertise) == 0};
    target->due_ns = membership->now_ns;
    return index;
}

static void target_free(struct membership *membership, size_t index)
{
    size_t place = place_of(membership, membership->targets[index].address);

    membership->by_address_count--;
    memmove(&membership->by_address[place], &membership->by_address[place + 1],
        (membership->by_address_count - place) * sizeof(*membership->by_address));
    free(membership->targets[index].address);
    membership->targets[index] = (struct target){.address = NULL};
    for (size_t i = 0; i < membership->peer_count; i++)
        if (membership->peers[i]->home == index)
            membership->peers[i]->home = NO_TARGET;
}

void peer_set_home(struct membership *membership, struct peer *peer, const char *address)
{
    size_t index = target_get(membership, address);

    if (index == NO_TARGET || membership->targets[index].is_self)
        return;
    peer->home = index;
    if (!membership->targets[index].peer)
        membership->targets[index].peer = peer;
}

void target_spoken(struct membership *membership, size_t index)
{
    if (index != NO_TARGET)
        membership->targets[index].spoken = true;
}

/* NULL: I am there myself. */
void target_answered(struct membership *membership, size_t index, struct peer *peer)
{
    struct target *target = &membership->targets[index];

    target->spoken = true;
    target->up = true;
    target->no_peer = false;
    target->trouble[0] = '\0';
    target->is_self = !peer;
    target->peer = peer;
    target->answered_ns = peer ? membership->now_ns : 0;
    target->answered_incarnation = peer ? peer->incarnation : 0;
}

void membership_resolved(struct membership *membership, const char *const *addresses, size_t count, uint64_t now_ns)
{
    membership->now_ns = now_ns;
    if (count == 0)
        return; /* R4 */
    membership->resolved = true;
    for (size_t i = 0; i < membership->target_count; i++)
        membership->targets[i].listed = false;
    for (size_t i = 0; i < count; i++) {
        size_t index = target_get(membership, addresses[i]);
        struct target *target;

        if (index == NO_TARGET)
            continue;
        target = &membership->targets[index];
        target->listed = true;
        if (target->listed_ns == 0)
            target->listed_ns = now_ns;
    }
}

void membership_link(struct membership *membership, size_t target, bool up, uint64_t now_ns)
{
    membership->now_ns = now_ns;
    if (target >= membership->target_count || !membership->targets[target].address)
        return;
    if (!up)
        membership->targets[target].answered_ns = 0;
    else if (!membership->targets[target].up)
        membership->targets[target].due_ns = now_ns; /* no reason to wait any longer */
    membership->targets[target].up = up;
}

void membership_unanswered(struct membership *membership, size_t target, bool no_peer, const char *why, uint64_t now_ns)
{
    struct target *at;

    membership->now_ns = now_ns;
    if (target >= membership->target_count || !membership->targets[target].address)
        return;
    at = &membership->targets[target];
    at->in_flight = false;
    at->no_peer = no_peer;
    (void)snprintf(at->trouble, sizeof(at->trouble), "%s", why);
    at->not_before_ns = after_ns(now_ns, membership->options.status_interval_ns / 4);
    if (at->due_ns < at->not_before_ns)
        at->due_ns = at->not_before_ns;
}

/* Somebody is said to be there. One that was dropped is still knocked at: it may only have been cut off. */
static void want_homes(struct membership *membership)
{
    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];

        if (peer->home != NO_TARGET && !(peer->gone && peer->gone_left))
            membership->targets[peer->home].wanted = true;
    }
}

void targets_tend(struct membership *membership)
{
    for (size_t i = 0; i < membership->target_count; i++)
        membership->targets[i].wanted = membership->targets[i].listed;
    want_homes(membership);
    for (size_t i = 0; i < membership->target_count; i++) {
        struct target *target = &membership->targets[i];

        if (target->address && !target->wanted && !target->up && !target->in_flight)
            target_free(membership, i);
    }
}

static bool is_met(const struct target *target)
{
    return !target->wanted || target->is_self || target->no_peer || (target->up && target->answered_ns);
}

bool targets_all_met(const struct membership *membership)
{
    if (!membership->resolved)
        return false;
    for (size_t i = 0; i < membership->target_count; i++)
        if (!is_met(&membership->targets[i]))
            return false;
    for (size_t i = 0; i < membership->peer_count; i++)
        if (counts(membership->peers[i]->counted) && !membership->peers[i]->reachable)
            return false;
    return true;
}

const struct target *targets_expected(const struct membership *membership, uint64_t *out_until_ns)
{
    const struct target *found = NULL;

    for (size_t i = 0; i < membership->target_count; i++) {
        const struct target *target = &membership->targets[i];
        uint64_t until_ns = after_ns(target->listed_ns, membership->options.handoff_timeout_ns);

        if (!target->listed || target->spoken || target->is_self || target->no_peer || membership->now_ns >= until_ns)
            continue;
        if (!found || until_ns > *out_until_ns) {
            found = target;
            *out_until_ns = until_ns;
        }
    }
    return found;
}

bool targets_listed(const struct membership *membership)
{
    return membership->resolved || membership->now_ns >= after_ns(membership->started_ns, membership->options.handoff_timeout_ns);
}

bool targets_alone(const struct membership *membership)
{
    if (!membership->options.static_resolver || !membership->resolved)
        return false;
    for (size_t i = 0; i < membership->target_count; i++)
        if (membership->targets[i].address && !membership->targets[i].is_self)
            return false;
    for (size_t i = 0; i < membership->peer_count; i++)
        if (counts(membership->peers[i]->counted))
            return false;
    return true;
}

/* -- calls ---------------------------------------------------------------------------------------------------------- */

/* There is something to say that its peer has not been told, and no better way to it. */
static bool has_news(const struct membership *membership, const struct target *target)
{
    const struct peer *peer = target->peer;

    if (!peer || peer->told == status_hash(membership, peer))
        return false;
    return peer->reached_at == NO_TARGET || &membership->targets[peer->reached_at] == target;
}

static uint64_t tell_ns(const struct membership *membership, const struct target *target)
{
    if (!target->address || !target->wanted || target->is_self || target->in_flight)
        return NEVER;
    if (target->not_before_ns < target->due_ns && has_news(membership, target))
        return target->not_before_ns;
    return target->due_ns;
}

uint64_t targets_next_ns(const struct membership *membership)
{
    uint64_t next_ns = NEVER;

    if (membership->adopted_no == 0)
        return NEVER;
    for (size_t i = 0; i < membership->target_count; i++) {
        uint64_t when_ns = tell_ns(membership, &membership->targets[i]);

        if (when_ns < next_ns)
            next_ns = when_ns;
    }
    return next_ns;
}

bool membership_take_status(struct membership *membership, uint64_t now_ns, size_t *out_target, struct buffer **out_status)
{
    membership->now_ns = now_ns;
    if (membership->adopted_no == 0)
        return false; /* R5 */
    for (size_t i = 0; i < membership->target_count; i++) {
        struct target *target = &membership->targets[i];
        struct buffer *status;

        if (tell_ns(membership, target) > now_ns)
            continue;
        target->due_ns = after_ns(now_ns, membership->options.status_interval_ns);
        status = status_pack(membership, target->peer);
        if (!status)
            continue; /* no memory: at its next time */
        target->in_flight = true;
        target->sent_state = membership->state_number;
        *out_target = i;
        *out_status = status;
        return true;
    }
    return false;
}

size_t membership_target_count(const struct membership *membership)
{
    return membership->target_count;
}

struct membership_target membership_target(const struct membership *membership, size_t index)
{
    const struct target *target = &membership->targets[index];

    return (struct membership_target){
        .address = target->address ? target->address : "",
        .wanted = target->wanted && !target->is_self,
        .is_self = target->is_self,
        .listed = target->listed,
        .peer = target->peer ? target->peer->name : NULL,
        .trouble = target->trouble,
    };
}
