/* Statuses and ring records as bytes, and what comes in as bytes judged before anything believes it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/error.h"
#include "common/base/hash.h"
#include "sampler/handoff/membership_inside.h"

static_assert((int)MEMBER_JOINING == TAILRACE__V1__STATE__STATE_JOINING && (int)MEMBER_READY == TAILRACE__V1__STATE__STATE_READY &&
        (int)MEMBER_DRAINING == TAILRACE__V1__STATE__STATE_DRAINING && (int)MEMBER_LEFT == TAILRACE__V1__STATE__STATE_LEFT,
    "states are as on the wire");

/* -- out ------------------------------------------------------------------------------------------------------------ */

/* What I say I am: as of the adopted ring, but for the last word, which changes no ring of mine. */
enum member_state membership_state(const struct membership *membership)
{
    return membership->state == MEMBER_LEFT ? MEMBER_LEFT : membership->adopted_state;
}

/* A ring_no of a peer is heard when my adopted ring counts the peer as it says it is. */
static uint32_t heard_ring_no(const struct peer *peer)
{
    return peer->number > 0 && counted_equal(peer->counted, peer->in_adopted) ? peer->ring_no : 0;
}

uint64_t status_hash(const struct membership *membership, const struct peer *peer)
{
    uint64_t said[] = {
        membership_state(membership),
        membership->left_clean,
        membership->adopted_no,
        membership->adopted_fingerprint,
        membership->claim_open ? membership->claim_no : 0,
        peer->incarnation,
        heard_ring_no(peer),
        settle_may_clear(membership, peer) ? peer->claim_no : 0,
    };

    return hash_bytes(said, sizeof(said)) | 1; /* 0: never told */
}

static Tailrace__V1__State wire_state(enum member_state state)
{
    return (Tailrace__V1__State)(int)state;
}

static void list_member(const struct membership *membership, const struct peer *peer, uint64_t incarnation, enum member_state state,
    Tailrace__V1__Member *out)
{
    tailrace__v1__member__init(out);
    out->name = peer->name;
    out->incarnation = incarnation;
    out->state = wire_state(state);
    out->journal_id = peer->journal_id;
    if (peer->home != NO_TARGET)
        out->advertise_addr = membership->targets[peer->home].address;
}

/* Room for all peers and me, in one piece: the pointers that protobuf wants, and what they point to. */
struct member_list {
    Tailrace__V1__Member **at;
    Tailrace__V1__Member *members;
    size_t count;
};

static bool list_init(struct member_list *list, size_t capacity)
{
    list->count = 0;
    list->at = malloc((capacity + 1) * sizeof(list->at[0]));
    list->members = malloc((capacity + 1) * sizeof(list->members[0]));
    return list->at && list->members;
}

static void list_deinit(struct member_list *list)
{
    free(list->at);
    free(list->members);
}

static Tailrace__V1__Member *list_next(struct member_list *list)
{
    list->at[list->count] = &list->members[list->count];
    return list->at[list->count++];
}

static void list_ring(const struct membership *membership, const struct peer *reader, struct member_list *out)
{
    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];

        if (peer != reader && counts(peer->in_adopted) && peer->vouched)
            list_member(membership, peer, peer->in_adopted.incarnation, peer->in_adopted.state, list_next(out));
    }
}

static void list_gone(const struct membership *membership, const struct peer *reader, struct member_list *out)
{
    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];

        if (peer != reader && peer->gone && !counts(peer->in_adopted) &&
            membership->now_ns < after_ns(peer->gone_ns, MEMBERSHIP_GONE_NS))
            list_member(membership, peer, peer->gone_incarnation, peer->gone_left ? MEMBER_LEFT : MEMBER_UNKNOWN, list_next(out));
    }
}

static void status_fill(struct membership *membership, Tailrace__V1__Status *out)
{
    tailrace__v1__status__init(out);
    out->cluster = membership->cluster;
    out->hash_version = RING_HASH_VERSION;
    out->name = membership->name;
    out->incarnation = membership->options.incarnation;
    out->number = ++membership->number;
    out->state = wire_state(membership_state(membership));
    out->advertise_addr = membership->advertise;
    out->ring_no = membership->adopted_no;
    out->ring_fingerprint = membership->adopted_fingerprint;
    out->claim_no = membership->claim_open ? membership->claim_no : 0;
    out->room_bytes = membership->room_bytes;
    out->left_clean = membership->left_clean;
    out->hands_over = 1;
    out->software = membership->software;
    out->journal_id = membership->options.journal_id;
}

/* What is said to this peer alone; clear and holds are the caller's memory. */
static void status_fill_for(const struct membership *membership, const struct peer *peer, Tailrace__V1__Clear *clear,
    Tailrace__V1__Holds *holds, Tailrace__V1__Status *out)
{
    out->heard_incarnation = peer->incarnation;
    out->heard_ring_no = heard_ring_no(peer);
    tailrace__v1__holds__init(holds);
    holds->traces = peer->held.traces;
    holds->bytes = peer->held.bytes;
    out->holds = holds;
    if (!settle_may_clear(membership, peer))
        return;
    tailrace__v1__clear__init(clear);
    clear->claim_no = peer->claim_no;
    clear->ring_fingerprint = membership->adopted_fingerprint;
    out->clear = clear;
}

static struct buffer *status_bytes(struct membership *membership, const struct peer *peer, struct member_list *members,
    struct member_list *gone)
{
    Tailrace__V1__Status status;
    Tailrace__V1__Clear clear;
    Tailrace__V1__Holds holds;
    struct buffer *bytes;

    status_fill(membership, &status);
    if (peer)
        status_fill_for(membership, peer, &clear, &holds, &status);
    if (!peer || peer->fingerprint != membership->adopted_fingerprint) {
        list_ring(membership, peer, members);
        list_gone(membership, peer, gone);
    }
    status.n_members = members->count;
    status.members = members->at;
    status.n_gone = gone->count;
    status.gone = gone->at;
    bytes = buffer_new(tailrace__v1__status__get_packed_size(&status));
    if (bytes)
        bytes->len = tailrace__v1__status__pack(&status, bytes->bytes);
    return bytes;
}

struct buffer *status_pack(struct membership *membership, struct peer *peer)
{
    struct member_list members, gone;
    struct buffer *bytes = NULL;
    bool room = list_init(&members, membership->peer_count);

    if (list_init(&gone, membership->peer_count) && room)
        bytes = status_bytes(membership, peer, &members, &gone);
    list_deinit(&members);
    list_deinit(&gone);
    if (!bytes)
        return NULL;
    membership->counters.statuses_out++;
    if (peer) {
        peer->told = status_hash(membership, peer);
        peer->clear_told_no = settle_may_clear(membership, peer) ? peer->claim_no : 0;
    }
    return bytes;
}

struct buffer *membership_answer(struct membership *membership, const char *name)
{
    if (membership->adopted_no == 0)
        return NULL; /* R5 */
    return status_pack(membership, peer_find(membership, name));
}

/* -- in ------------------------------------------------------------------------------------------------------------- */

/* Newest first; one that is there already comes to the front. */
void refusal_add(struct membership *membership, const char *text)
{
    size_t at = 0;
    char *line;

    membership->counters.statuses_refused++;
    while (at < REFUSALS_MAX - 1 && membership->refusals[at] && strcmp(membership->refusals[at], text) != 0)
        at++;
    line = membership->refusals[at];
    if (!line || strcmp(line, text) != 0) {
        free(line);
        line = strdup(text);
    }
    memmove(&membership->refusals[1], &membership->refusals[0], at * sizeof(char *));
    membership->refusals[0] = line;
}

const char *membership_refusal(const struct membership *membership, size_t index)
{
    return index < REFUSALS_MAX ? membership->refusals[index] : NULL;
}

static bool is_text(const char *text, size_t least, size_t most)
{
    size_t len = strnlen(text, most + 1);

    return len >= least && len <= most;
}

static bool is_well_formed(const Tailrace__V1__Status *status)
{
    return is_text(status->name, 1, MEMBERSHIP_NAME_MAX) && is_text(status->cluster, 0, MEMBERSHIP_NAME_MAX) &&
        is_text(status->advertise_addr, 0, MEMBERSHIP_ADDRESS_MAX) && is_text(status->software, 0, MEMBERSHIP_NAME_MAX) &&
        status->incarnation != 0 && status->number != 0 && (int)status->state >= MEMBER_JOINING &&
        (int)status->state <= MEMBER_LEFT && status->n_members <= MEMBERSHIP_PEERS_MAX && status->n_gone <= MEMBERSHIP_PEERS_MAX;
}

/* 0, or the outcome with a line for people. */
static int judge(struct membership *membership, const Tailrace__V1__Status *status)
{
    char line[1024];
    int outcome = 0;

    if (strcmp(status->cluster, membership->cluster) != 0) {
        outcome = MEMBERSHIP_E_OTHER_CLUSTER;
        (void)snprintf(line, sizeof(line), "%s at %s is of cluster \"%s\", this one is of \"%s\"", status->name,
            status->advertise_addr, status->cluster, membership->cluster);
    } else if (status->hash_version != RING_HASH_VERSION) {
        outcome = MEMBERSHIP_E_HASH_VERSION;
        (void)snprintf(line, sizeof(line), "%s at %s places traces by hash version %u, this one by %u", status->name,
            status->advertise_addr, (unsigned)status->hash_version, RING_HASH_VERSION);
    } else if (strcmp(status->name, membership->name) == 0 && status->incarnation != membership->options.incarnation) {
        outcome = MEMBERSHIP_E_MY_NAME;
        (void)snprintf(line, sizeof(line), "another process at %s calls itself %s, as this one does", status->advertise_addr,
            status->name);
    }
    if (outcome)
        refusal_add(membership, line);
    return outcome;
}

static void take_text(char **at, const char *text)
{
    char *copy;

    if (strcmp(*at, text) == 0)
        return;
    copy = strdup(text);
    if (!copy)
        return; /* the old one is good enough until the next status */
    free(*at);
    *at = copy;
}

static void take_numbers(struct membership *membership, struct peer *peer, const Tailrace__V1__Status *status)
{
    if (peer->fingerprint != status->ring_fingerprint)
        settle_progress(membership);
    peer->number = status->number;
    peer->heard_ns = membership->now_ns;
    peer->vouched = true;
    peer->journal_id = status->journal_id;
    peer->fingerprint = status->ring_fingerprint;
    peer->ring_no = status->ring_no;
    peer->claim_no = status->claim_no;
    peer->room_bytes = status->room_bytes;
    peer->holds_traces = status->holds ? status->holds->traces : 0;
    peer->holds_bytes = status->holds ? status->holds->bytes : 0;
    peer->heard_ring_no = status->heard_incarnation == membership->options.incarnation ? status->heard_ring_no : 0;
    take_text(&peer->software, status->software);
}

static void take_newer(struct membership *membership, struct peer *peer, const Tailrace__V1__Status *status)
{
    uint32_t claim_before = status->incarnation == peer->incarnation ? peer->claim_no : 0;

    peer->journal_id = status->journal_id;
    peer_take_word(membership, peer, status->incarnation, (enum member_state)(int)status->state, status->left_clean);
    take_numbers(membership, peer, status);
    if (status->claim_no != 0 && status->claim_no != claim_before)
        membership->poll_soon = true;
    if (status->clear && status->heard_incarnation == membership->options.incarnation)
        settle_cleared(membership, peer, status->clear->claim_no, status->clear->ring_fingerprint);
    peer_set_home(membership, peer, status->advertise_addr);
    target_spoken(membership, peer->home);
    peers_take_list(membership, status->gone, status->n_gone, true);
    peers_take_list(membership, status->members, status->n_members, false);
}

static bool is_newer(const struct peer *peer, const Tailrace__V1__Status *status)
{
    if (status->incarnation != peer->incarnation)
        return status->incarnation > peer->incarnation;
    return status->number > peer->number;
}

static int take(struct membership *membership, size_t target, const Tailrace__V1__Status *status)
{
    struct peer *peer;
    int r;

    if (!is_well_formed(status))
        return MEMBERSHIP_E_MALFORMED;
    r = judge(membership, status);
    if (r)
        return r;
    if (strcmp(status->name, membership->name) == 0) {
        if (target != MEMBERSHIP_CALLED)
            target_answered(membership, target, NULL);
        return 0;
    }
    peer = peer_get(membership, status->name);
    if (!peer)
        return MEMBERSHIP_E_FULL;
    if (is_newer(peer, status))
        take_newer(membership, peer, status);
    else
        membership->counters.statuses_old++;
    if (target != MEMBERSHIP_CALLED && status->incarnation == peer->incarnation) {
        target_answered(membership, target, peer);
        if (membership->targets[target].sent_state > peer->state_heard)
            peer->state_heard = membership->targets[target].sent_state;
    }
    return 0;
}

static const char *const outcomes[] = {
    [MEMBERSHIP_E_MALFORMED] = "answers with what is no status",
    [MEMBERSHIP_E_OTHER_CLUSTER] = "is of another cluster",
    [MEMBERSHIP_E_HASH_VERSION] = "places traces by another hash version",
    [MEMBERSHIP_E_MY_NAME] = "has the name of this one",
    [MEMBERSHIP_E_FULL] = "is one too many",
};

int membership_heard(struct membership *membership, size_t target, struct slice bytes, uint64_t now_ns)
{
    bool is_answer = target < membership->target_count && membership->targets[target].address;
    Tailrace__V1__Status *status = NULL;
    int r = MEMBERSHIP_E_MALFORMED;

    membership->now_ns = now_ns;
    membership->counters.statuses_in++;
    if (is_answer)
        membership->targets[target].in_flight = false;
    if (bytes.len <= MEMBERSHIP_STATUS_MAX)
        status = tailrace__v1__status__unpack(NULL, bytes.len, bytes.at);
    if (status)
        r = take(membership, is_answer ? target : MEMBERSHIP_CALLED, status);
    if (status)
        tailrace__v1__status__free_unpacked(status, NULL);
    if (r == MEMBERSHIP_E_MALFORMED)
        refusal_add(membership, is_answer ? "a status that cannot be read, as an answer" : "a status that cannot be read, in a call");
    if (r > 0 && is_answer) {
        membership->targets[target].no_peer = true;
        (void)snprintf(membership->targets[target].trouble, sizeof(membership->targets[target].trouble), "%s", outcomes[r]);
    }
    return r;
}

/* -- records -------------------------------------------------------------------------------------------------------- */

static void record_fill(const struct membership *membership, struct member_list *list)
{
    Tailrace__V1__Member *self = list_next(list);

    for (size_t i = 0; i < membership->peer_count; i++) {
        const struct peer *peer = membership->peers[i];

        if (counts(peer->in_ring))
            list_member(membership, peer, peer->in_ring.incarnation, peer->in_ring.state, list_next(list));
    }
    tailrace__v1__member__init(self);
    self->name = membership->name;
    self->incarnation = membership->options.incarnation;
    self->state = wire_state(membership->ring_state);
    self->advertise_addr = membership->advertise;
    self->journal_id = membership->options.journal_id;
}

struct buffer *record_pack(const struct membership *membership)
{
    Tailrace__V1__RingRecord record;
    struct buffer *bytes = NULL;
    struct member_list list;

    if (list_init(&list, membership->peer_count + 1)) {
        tailrace__v1__ring_record__init(&record);
        record_fill(membership, &list);
        record.incarnation = membership->options.incarnation;
        record.ring_no = membership->ring_no;
        record.n_members = list.count;
        record.members = list.at;
        bytes = buffer_new(tailrace__v1__ring_record__get_packed_size(&record));
        if (bytes)
            bytes->len = tailrace__v1__ring_record__pack(&record, bytes->bytes);
    }
    list_deinit(&list);
    return bytes;
}

/* R1. Whoever had my volume in the record was I, whatever the name. */
static void take_recorded(struct membership *membership, const Tailrace__V1__Member *member)
{
    bool was_me = strcmp(member->name, membership->name) == 0 ||
        (member->journal_id != 0 && member->journal_id == membership->options.journal_id);
    struct peer *peer;

    if (was_me || !is_text(member->name, 1, MEMBERSHIP_NAME_MAX) || member->incarnation == 0)
        return;
    if (member->state != TAILRACE__V1__STATE__STATE_READY && member->state != TAILRACE__V1__STATE__STATE_DRAINING)
        return;
    peer = peer_get(membership, member->name);
    if (!peer)
        return;
    peer_take_word(membership, peer, member->incarnation, (enum member_state)(int)member->state, false);
    peer->journal_id = member->journal_id;
    peer_set_home(membership, peer, member->advertise_addr);
}

static Tailrace__V1__RingRecord *record_unpack(struct slice record)
{
    return record.len <= MEMBERSHIP_STATUS_MAX ? tailrace__v1__ring_record__unpack(NULL, record.len, record.at) : NULL;
}

bool record_read(struct membership *membership, struct slice record)
{
    Tailrace__V1__RingRecord *read = record_unpack(record);

    if (!read)
        return false;
    for (size_t i = 0; i < read->n_members && i < MEMBERSHIP_PEERS_MAX; i++)
        take_recorded(membership, read->members[i]);
    tailrace__v1__ring_record__free_unpacked(read, NULL);
    return true;
}

uint64_t membership_record_incarnation(struct slice record)
{
    Tailrace__V1__RingRecord *read = record.len > 0 ? record_unpack(record) : NULL;
    uint64_t incarnation = read ? read->incarnation : 0;

    if (read)
        tailrace__v1__ring_record__free_unpacked(read, NULL);
    return incarnation;
}
