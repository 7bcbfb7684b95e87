/* Statuses and ring records of any bytes: nothing is read past their end, what is kept stays within its bounds, what is said in
 * answer can be read, and time goes on.
 *
 * Input: two bytes of length and that many of a record, then messages: a byte (0 to 127: a call; 128 and more: the answer to the
 * Tell that is due), two bytes of length, and the status. */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "proto/peer.h"
#include "sampler/handoff/membership.h"
#include "tests/kit/fuzz_piece.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define S 1000000000ull
#define RING_PEERS_MAX 4u /* beyond, rings are not made here: they cost milliseconds each */

static size_t counted(const struct membership *membership)
{
    size_t count = 0;

    for (size_t i = 0; i < membership_peer_count(membership); i++)
        count += membership_peer(membership, i, 0).counted_as != MEMBER_UNKNOWN;
    return count;
}

static void check_status(const struct buffer *bytes)
{
    Tailrace__V1__Status *status = tailrace__v1__status__unpack(NULL, bytes->len, bytes->bytes);

    ASSERT(status != NULL);
    ASSERT(status->n_members <= MEMBERSHIP_PEERS_MAX && status->n_gone <= MEMBERSHIP_PEERS_MAX);
    tailrace__v1__status__free_unpacked(status, NULL);
}

static void check_questions(struct membership *membership, uint64_t now_ns)
{
    char text[100];

    ASSERT(membership_peer_count(membership) <= MEMBERSHIP_PEERS_MAX);
    ASSERT(membership_target_count(membership) <= MEMBERSHIP_TARGETS_MAX);
    ASSERT(strlen(membership_why_not_in_step(membership, text, sizeof(text))) < sizeof(text));
    ASSERT(strlen(membership_why_not_settled(membership, text, sizeof(text))) < sizeof(text));
    for (size_t i = 0; i < membership_peer_count(membership); i++) {
        struct membership_peer peer = membership_peer(membership, i, now_ns);
        struct buffer *answer = membership_answer(membership, peer.name);

        ASSERT(strlen(peer.name) > 0 && strlen(peer.name) <= MEMBERSHIP_NAME_MAX);
        if (answer)
            check_status(answer);
        buffer_unref(answer);
    }
}

/* Everything that is due, as a driver takes it; *out_target: of a Tell under way. */
static void turn(struct membership *membership, uint64_t now_ns, size_t *out_target)
{
    struct membership_held held[RING_PEERS_MAX + 1] = {{0}};
    struct buffer *bytes;
    uint64_t view_number;
    struct view *view;
    uint32_t ring_no;
    size_t target;

    ASSERT(membership_tend(membership, now_ns) == 0);
    if (membership_take_record(membership, &bytes, &ring_no)) {
        ASSERT(membership_record_incarnation(slice_make(bytes->bytes, bytes->len)) == 7);
        buffer_unref(bytes);
    }
    view = membership_take_view(membership, now_ns);
    if (view) {
        ASSERT(view->self < view->member_count && strcmp(view->members[view->self].name, "b") == 0);
        membership_adopted(membership, view->ring_no, now_ns);
        view_unref(view);
    }
    if (membership_take_poll(membership, &view_number, now_ns))
        membership_polled(membership, view_number, held, RING_PEERS_MAX + 1, true, now_ns);
    while (membership_take_status(membership, now_ns, &target, &bytes)) {
        check_status(bytes);
        buffer_unref(bytes);
        *out_target = target;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct membership_options options = {
        .cluster = "c", .name = "b", .advertise = "b:1", .software = "", .incarnation = 7, .status_interval_ns = 1 * S,
        .peer_timeout_ns = 3 * S, .handoff_timeout_ns = 30 * S, .hello_wait_ns = 3 * S,
    };
    struct slice rest = slice_make(data, size < 4096 ? size : 4096), piece;
    static struct ring_cache rings; /* of the same few names again and again */
    struct membership *membership, *recorded;
    uint64_t now_ns = 1000 * S;
    size_t target = MEMBERSHIP_CALLED;
    uint8_t *copy;

    if (rings.capacity == 0)
        ring_cache_init(&rings, RING_CACHE_ENTRIES_MAX);
    options.rings = &rings;
    ASSERT(membership_new(&options, now_ns, &membership) == 0);
    membership_replayed(membership, now_ns);
    turn(membership, now_ns, &target);
    piece = fuzz_piece_take(&rest, &copy);
    (void)membership_record_incarnation(piece);
    Tailrace__V1__RingRecord *record = tailrace__v1__ring_record__unpack(NULL, piece.len, piece.at);
    if (!record || record->n_members <= RING_PEERS_MAX) { /* one that is read makes a ring */
        options.record = piece;
        ASSERT(membership_new(&options, now_ns, &recorded) == 0);
        ASSERT(membership_record_bad(recorded) == (!record && piece.len > 0));
        check_questions(recorded, now_ns);
        membership_free(recorded);
    }
    if (record)
        tailrace__v1__ring_record__free_unpacked(record, NULL);
    free(copy);

    while (rest.len > 0) {
        bool answers = rest.at[0] >= 128 && target != MEMBERSHIP_CALLED;
        uint64_t wait_ns = (uint64_t)(rest.at[0] % 128) * S / 4;

        rest = slice_make(rest.at + 1, rest.len - 1);
        piece = fuzz_piece_take(&rest, &copy);
        ASSERT(membership_heard(membership, answers ? target : MEMBERSHIP_CALLED, piece, now_ns) >= 0);
        free(copy);
        if (answers)
            target = MEMBERSHIP_CALLED;
        if (counted(membership) > RING_PEERS_MAX)
            break;
        turn(membership, now_ns, &target);
        check_questions(membership, now_ns);
        now_ns += wait_ns;
        turn(membership, now_ns, &target);
    }
    check_questions(membership, now_ns);
    membership_free(membership);
    return 0;
}
