/* Pieces wait in one queue, first come first sent. A call takes from its head; what a call carries hangs on the call
 * until the link says how it ended. Links tell the end without a time, so an acknowledgement is timed in the run that
 * follows it, which is the same turn of the worker's loop.
 *
 * Pieces go to the owner from a list of their own, never straight out of the queue: the owner may put them back. */
#include "common/export/outbox.h"

#include "common/base/assert.h"
#include "common/export/rpc_code.h"
#include "common/otlp/rpc_status.h"
#include "common/otlp/wire.h"

static struct piece *piece_of(struct list *node)
{
    return container_of(node, struct piece, node);
}

static uint64_t deadline_of(const struct piece *piece)
{
    return piece->deadline_ns ? piece->deadline_ns : UINT64_MAX;
}

static void queue_take(struct outbox *outbox, struct piece *piece)
{
    list_del(&piece->node);
    outbox->queued_bytes -= piece->bytes->len;
}

static void piece_failed(struct outbox *outbox, struct piece *piece, const struct link_result *result)
{
    outbox_unreserve(outbox, piece->bytes->len);
    outbox->owner.failed(outbox->owner.context, piece, result);
}

static void fail_all(struct outbox *outbox, struct list *pieces, int code, const char *message)
{
    struct link_result result = {.code = code, .message = slice_text(message)};
    struct list *node;

    while ((node = list_take_first(pieces)))
        piece_failed(outbox, piece_of(node), &result);
}

/* Everything queued, moved to a list of its own. */
static void queue_take_all(struct outbox *outbox, struct list *out_pieces)
{
    list_init(out_pieces);
    list_splice_tail(out_pieces, &outbox->queued);
    outbox->queued_bytes = 0;
    outbox->soonest_deadline_ns = UINT64_MAX;
}

/* -- the answer ----------------------------------------------------------------------------------- */

/* The spans of a message that its receiver rejected: rising indices, each a varint. */
static bool rejected_valid(struct slice rejected, uint32_t span_count)
{
    struct wire w = wire_of(rejected);
    uint64_t least = 0;

    while (wire_more(&w)) {
        uint64_t index = wire_varint(&w);

        if (w.bad || index < least || index >= span_count)
            return false;
        least = index + 1;
    }
    return true;
}

static uint64_t rejected_listed(struct slice rejected)
{
    struct wire w = wire_of(rejected);
    uint64_t count = 0;

    while (wire_more(&w)) {
        (void)wire_varint(&w);
        count++;
    }
    return count;
}

/* Tells each piece how many of the rejected spans are its own: those listed within its indices, and of those that the list had no
 * room for (partial_success counts them all, they come after the last one listed) as many as it has spans there. So nobody is told that a
 * rejected span was accepted. */
static void call_delivered(struct outbox *outbox, struct list *pieces, uint32_t span_count, const struct link_result *result)
{
    struct slice rejected = result->rejected, message;
    struct wire w;
    uint64_t index = UINT64_MAX, end_index = 0, past_listed = 0, surplus = 0;
    struct list *node;

    if (!partial_success_read(result->response, &surplus, &message) || surplus > span_count)
        surplus = 0;

    if (!rejected_valid(rejected, span_count)) {
        outbox->rejected_malformed_total++;
        rejected.len = 0;
    }
    surplus = u64_sub_floor(surplus, rejected_listed(rejected));
    w = wire_of(rejected);
    if (wire_more(&w))
        index = wire_varint(&w);

    while ((node = list_take_first(pieces))) {
        struct piece *piece = piece_of(node);
        uint32_t rejected_count = 0;

        end_index += piece->span_count;
        while (index < end_index) {
            rejected_count++;
            past_listed = index + 1;
            index = wire_more(&w) ? wire_varint(&w) : UINT64_MAX;
        }
        if (index == UINT64_MAX && surplus > 0) {
            uint64_t room = end_index - u64_max(past_listed, end_index - piece->span_count);
            uint64_t more = u64_min(surplus, room);

            rejected_count += (uint32_t)more;
            surplus -= more;
        }
        outbox_unreserve(outbox, piece->bytes->len);
        outbox->owner.delivered(outbox->owner.context, piece, rejected_count);
    }
}

static void call_done(struct link_call *link_call, const struct link_result *result)
{
    struct outbox_call *call = container_of(link_call, struct outbox_call, call);
    struct outbox *outbox = call->outbox;
    uint32_t span_count = call->span_count;
    struct list pieces, *node;

    /* The call is idle again before anybody is told: what they do may look at it. */
    list_init(&pieces);
    list_splice_tail(&pieces, &call->pieces);
    list_del(&call->node);
    list_add_head(&outbox->idle_calls, &call->node);
    outbox->calls_in_flight--;
    outbox->draining_said |= result->draining;

    if (result->code == RPC_OK) {
        ASSERT(outbox->acked_count < OUTBOX_CALLS_MAX); /* calls start in runs only, and a run empties this */
        outbox->acked_sent_ns[outbox->acked_count++] = call->sent_ns;
        call_delivered(outbox, &pieces, span_count, result);
        return;
    }
    outbox->failures_total++;
    while ((node = list_take_first(&pieces)))
        piece_failed(outbox, piece_of(node), result);
}

static void acks_fold(struct outbox *outbox, uint64_t now_ns)
{
    for (uint32_t i = 0; i < outbox->acked_count; i++) {
        uint64_t took_ns = u64_sub_floor(now_ns, outbox->acked_sent_ns[i]);
        uint64_t smoothed_ns = outbox->ack_smoothed_ns;

        smoothed_ns = smoothed_ns == 0 ? took_ns : smoothed_ns - smoothed_ns / 8 + took_ns / 8;
        outbox->ack_smoothed_ns = u64_max(smoothed_ns, 1);
        histogram_note(&outbox->ack_times, took_ns);
    }
    outbox->acked_count = 0;
}

void outbox_change(struct outbox *outbox, uint64_t limit_bytes, uint64_t timeout_ns)
{
    atomic_store_explicit(&outbox->limit_bytes, limit_bytes, memory_order_relaxed);
    atomic_store_explicit(&outbox->timeout_ns, timeout_ns, memory_order_relaxed);
}

/* -- life ----------------------------------------------------------------------------------------- */

void outbox_init(struct outbox *outbox, struct link *link, const struct outbox_owner *owner, uint64_t limit_bytes,
    uint64_t timeout_ns)
{
    *outbox = (struct outbox){
        .link = link,
        .owner = *owner,
        .soonest_deadline_ns = UINT64_MAX,
        .limit_bytes = limit_bytes,
        .timeout_ns = timeout_ns,
    };
    atomic_init(&outbox->reserved_bytes, 0);
    list_init(&outbox->queued);
    list_init(&outbox->calls);
    list_init(&outbox->idle_calls);
    for (size_t i = 0; i < OUTBOX_CALLS_MAX; i++) {
        struct outbox_call *call = &outbox->call_slots[i];

        call->outbox = outbox;
        call->call.done = call_done;
        list_init(&call->pieces);
        list_add_tail(&outbox->idle_calls, &call->node);
    }
}

void outbox_deinit(struct outbox *outbox)
{
    struct list pieces;

    ASSERT(outbox->calls_in_flight == 0);
    queue_take_all(outbox, &pieces);
    fail_all(outbox, &pieces, RPC_CANCELLED, "stopping");
    ASSERT(list_empty(&outbox->queued));
}

/* Relaxed is enough: the number orders nothing but itself; pieces travel by mailbox. */
bool outbox_reserve(struct outbox *outbox, uint64_t bytes)
{
    uint64_t reserved = atomic_load_explicit(&outbox->reserved_bytes, memory_order_relaxed);

    do {
        if (bytes > u64_sub_floor(atomic_load_explicit(&outbox->limit_bytes, memory_order_relaxed), reserved))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(
        &outbox->reserved_bytes, &reserved, reserved + bytes, memory_order_relaxed, memory_order_relaxed));
    return true;
}

void outbox_unreserve(struct outbox *outbox, uint64_t bytes)
{
    uint64_t reserved = atomic_fetch_sub_explicit(&outbox->reserved_bytes, bytes, memory_order_relaxed);

    ASSERT(reserved >= bytes);
}

/* -- sending -------------------------------------------------------------------------------------- */

void outbox_put(struct outbox *outbox, struct piece *piece, uint64_t now_ns)
{
    piece->queued_ns = now_ns;
    list_add_tail(&outbox->queued, &piece->node);
    outbox->queued_bytes += piece->bytes->len;
    outbox->soonest_deadline_ns = u64_min(outbox->soonest_deadline_ns, deadline_of(piece));
}

/* Fails what waited past its deadline, or on a link that does not come up. */
static void queue_expire(struct outbox *outbox, uint64_t now_ns)
{
    struct list expired, *node;

    list_init(&expired);
    if (outbox->soonest_deadline_ns <= now_ns) {
        outbox->soonest_deadline_ns = UINT64_MAX;
        LIST_FOR_EACH_SAFE (at, following, &outbox->queued) {
            struct piece *piece = piece_of(at);

            if (deadline_of(piece) <= now_ns) {
                queue_take(outbox, piece);
                list_add_tail(&expired, &piece->node);
            } else {
                outbox->soonest_deadline_ns = u64_min(outbox->soonest_deadline_ns, deadline_of(piece));
            }
        }
        fail_all(outbox, &expired, RPC_DEADLINE_EXCEEDED, "the deadline passed before the spans could be sent");
    }

    if (outbox->link->state == LINK_DOWN) {
        queue_take_all(outbox, &expired);
        fail_all(outbox, &expired, RPC_UNAVAILABLE, "the member is not connected");
    } else if (outbox->link->state == LINK_CONNECTING) {
        while ((node = list_first(&outbox->queued)) &&
               u64_sub_floor(now_ns, piece_of(node)->queued_ns) >= OUTBOX_CONNECT_WAIT_NS) {
            queue_take(outbox, piece_of(node));
            list_add_tail(&expired, node);
        }
        fail_all(outbox, &expired, RPC_UNAVAILABLE, "the member could not be connected in time");
    }
}

static bool flush_due(const struct outbox *outbox, uint64_t now_ns)
{
    struct list *first = list_first(&outbox->queued);

    if (!first || outbox->calls_in_flight == OUTBOX_CALLS_MAX)
        return false;
    return outbox->calls_in_flight < 2 || outbox->queued_bytes >= OUTBOX_FLUSH_BYTES ||
           u64_sub_floor(now_ns, piece_of(first)->queued_ns) >= OUTBOX_FLUSH_WAIT_NS;
}

static void call_start(struct outbox *outbox, uint64_t now_ns)
{
    struct outbox_call *call = container_of(list_take_first(&outbox->idle_calls), struct outbox_call, node);
    struct buffer *buffers[OUTBOX_CALL_PIECES];
    uint64_t timeout_ns = atomic_load_explicit(&outbox->timeout_ns, memory_order_relaxed);
    unsigned passed_over = 0;
    struct link_message message = {
        .method = LINK_EXPORT,
        .pieces = buffers,
        .deadline_ns = timeout_ns ? u64_add_cap(now_ns, timeout_ns) : UINT64_MAX,
        .ring = outbox->ring,
    };
    uint64_t bytes = 0;

    call->sent_ns = now_ns;
    call->span_count = 0;
    LIST_FOR_EACH_SAFE (at, following, &outbox->queued) {
        struct piece *piece = piece_of(at);

        if (bytes >= OUTBOX_PIECE_BYTES_MAX || message.piece_count == OUTBOX_CALL_PIECES ||
            (message.piece_count > 0 && piece->alone))
            break;
        if (message.piece_count > 0 && !metadata_set_equal(piece->metadata, message.metadata)) {
            if (++passed_over == OUTBOX_CALL_PIECES)
                break; /* many sets: a call must not cost a walk over all that waits */
            continue;
        }
        queue_take(outbox, piece);
        list_add_tail(&call->pieces, &piece->node);
        message.metadata = piece->metadata;
        buffers[message.piece_count++] = piece->bytes;
        bytes += piece->bytes->len;
        call->span_count += piece->span_count;
        if (piece->first_sent_ns == 0)
            piece->first_sent_ns = u64_max(now_ns, 1);
        piece->attempts++;
        if (piece->alone)
            break;
    }
    LIST_FOR_EACH (at, &call->pieces)
        piece_of(at)->joined = message.piece_count > 1;
    list_add_tail(&outbox->calls, &call->node);
    outbox->calls_in_flight++;
    outbox->calls_total++;
    outbox->pieces_total += message.piece_count;
    outbox->spans_total += call->span_count;
    outbox->bytes_total += bytes;
    link_send(outbox->link, &message, &call->call);
}

uint64_t outbox_run(struct outbox *outbox, uint64_t now_ns)
{
    struct list *first;
    uint64_t next_ns;

    acks_fold(outbox, now_ns);
    queue_expire(outbox, now_ns);
    while (outbox->link->state == LINK_UP && flush_due(outbox, now_ns))
        call_start(outbox, now_ns);

    first = list_first(&outbox->queued);
    if (!first)
        return UINT64_MAX;
    next_ns = outbox->soonest_deadline_ns;
    switch (outbox->link->state) {
    case LINK_UP:
        if (outbox->calls_in_flight < OUTBOX_CALLS_MAX)
            next_ns = u64_min(next_ns, u64_add_cap(piece_of(first)->queued_ns, OUTBOX_FLUSH_WAIT_NS));
        break;
    case LINK_CONNECTING:
        next_ns = u64_min(next_ns, u64_add_cap(piece_of(first)->queued_ns, OUTBOX_CONNECT_WAIT_NS));
        break;
    case LINK_DOWN:
        next_ns = now_ns; /* put back while they failed */
        break;
    }
    return next_ns;
}

void outbox_recall(struct outbox *outbox)
{
    struct list pieces;

    queue_take_all(outbox, &pieces);
    fail_all(outbox, &pieces, RPC_UNAVAILABLE, "recalled before it was sent");
}

void outbox_cancel(struct outbox *outbox)
{
    /* Over the slots and not the list: a link may end the call at once, which takes it off. */
    for (size_t i = 0; i < OUTBOX_CALLS_MAX; i++) {
        struct outbox_call *call = &outbox->call_slots[i];

        if (!list_empty(&call->pieces))
            link_cancel(outbox->link, &call->call);
    }
}

uint64_t outbox_oldest_ns(const struct outbox *outbox)
{
    struct list *first = list_first(&outbox->calls);

    return first ? container_of(first, struct outbox_call, node)->sent_ns : 0;
}
