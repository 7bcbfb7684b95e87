/* What people ask: who is there, and what is missing. */
#include <stdio.h>

#include "sampler/handoff/membership_inside.h"

bool membership_serving(const struct membership *membership)
{
    return membership->serving;
}

bool membership_told(const struct membership *membership)
{
    if (membership->state != membership_state(membership))
        return false;
    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];

        if (peer->reachable && peer->state_heard != membership->state_number)
            return false;
    }
    return true;
}

struct membership_counters membership_counters(const struct membership *membership)
{
    return membership->counters;
}

size_t membership_peer_count(const struct membership *membership)
{
    return membership->peer_count;
}

struct membership_peer membership_peer(const struct membership *membership, size_t index, uint64_t now_ns)
{
    const struct peer *peer = membership->peers[index];

    return (struct membership_peer){
        .name = peer->name,
        .address = peer->home != NO_TARGET ? membership->targets[peer->home].address : "",
        .software = peer->software,
        .incarnation = peer->incarnation,
        .state = peer->word,
        .counted_as = peer->counted.state,
        .gone = peer->gone,
        .reachable = peer->reachable,
        .silent_ns = peer->reachable ? 0 : now_ns - peer->silent_since_ns,
        .fingerprint = peer->fingerprint,
        .agrees = peer->fingerprint != 0 && peer->fingerprint == membership->adopted_fingerprint,
        .heard_my_ring = membership->adopted_no != 0 && peer->heard_ring_no == membership->adopted_no,
        .cleared_my_claim = membership->claim_open && peer->cleared_no == membership->claim_no,
        .claim_no = peer->claim_no,
        .cleared_by_me = peer->claim_no != 0 && peer->clear_told_no == peer->claim_no,
        .held_traces = peer->held.traces,
        .held_bytes = peer->held.bytes,
        .holds_traces = peer->holds_traces,
        .holds_bytes = peer->holds_bytes,
        .room_bytes = peer->room_bytes,
    };
}

/* Words after words, until the text is full. */
struct words {
    char *at;
    size_t left;
    unsigned count;
};

static void words_add(struct words *words, const char *what, const char *who)
{
    int n = snprintf(words->at, words->left, "%s%s%s%s", words->count ? "; " : "", who, *who ? " " : "", what);
    size_t len = n > 0 ? (size_t)n : 0;

    if (words->left == 0)
        return;
    len = len < words->left ? len : words->left - 1;
    words->at += len;
    words->left -= len;
    words->count++;
}

/* What holds for either question. False: nothing more need be asked. */
static bool words_common(const struct membership *membership, struct words *words)
{
    if (membership->state == MEMBER_LEFT)
        words_add(words, "this member has left", "");
    else if (!membership_is_adopted(membership))
        words_add(words, "the workers have not taken over the newest ring yet", "");
    else if (membership->adopted_state == MEMBER_JOINING)
        words_add(words, "this member is still joining: its journal is not replayed", "");
    return words->count == 0;
}

static void words_hello(const struct membership *membership, struct words *words)
{
    uint64_t until_ns = after_ns(membership->started_ns, membership->options.hello_wait_ns);

    if (membership->now_ns < until_ns && !targets_alone(membership))
        words_add(words, "hello_wait is not over: unknown members may still knock", "");
}

const char *membership_why_not_in_step(const struct membership *membership, char *text, size_t size)
{
    struct words words = {text, size, 0};

    if (size > 0)
        text[0] = '\0';
    if (membership->in_step || !words_common(membership, &words))
        return text;
    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];

        if (!peer->reachable)
            continue;
        if (peer->fingerprint != membership->adopted_fingerprint)
            words_add(&words, "knows another ring", peer->name);
        else if (peer->heard_ring_no != membership->adopted_no)
            words_add(&words, "has not said yet that it heard of this ring", peer->name);
    }
    if (words.count == 0)
        words_hello(membership, &words);
    if (words.count == 0)
        words_add(&words, "about to be", "");
    return text;
}

static const char *why_not_cleared(const struct membership *membership, const struct peer *peer)
{
    if (!peer->reachable)
        return peer->word == MEMBER_JOINING ? "is replaying its journal" : "is silent";
    if (peer->fingerprint != membership->adopted_fingerprint)
        return "knows another ring";
    if (peer->holds_traces > 0)
        return "still holds traces of these slots";
    return "has not answered the claim yet";
}

const char *membership_why_not_settled(const struct membership *membership, char *text, size_t size)
{
    struct words words = {text, size, 0};
    const struct target *expected;
    uint64_t until_ns;

    if (size > 0)
        text[0] = '\0';
    if (membership_settled(membership) || !words_common(membership, &words))
        return text;
    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];

        if (counts(peer->in_adopted) && peer->cleared_no != membership->claim_no)
            words_add(&words, why_not_cleared(membership, peer), peer->name);
    }
    if (!targets_listed(membership))
        words_add(&words, "the resolver has not answered yet: nobody knows who else there is", "");
    expected = targets_expected(membership, &until_ns);
    if (expected)
        words_add(&words, "is listed and has not spoken", expected->address);
    words_hello(membership, &words);
    if (words.count == 0)
        words_add(&words, "about to be", "");
    return text;
}
