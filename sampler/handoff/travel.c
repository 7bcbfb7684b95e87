#include "sampler/handoff/travel.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/base/plant.h"
#include "common/export/rpc_code.h"
#include "sampler/export/survivors.h"
#include "sampler/handoff/carry.h"
#include "sampler/handoff/inside.h"
#include "sampler/handoff/peer_link.h"
#include "sampler/handoff/room.h"

#define GIVE_BYTES (1u << 20)
#define GIVE_CALLS 4u              /* to one member, of all workers together */
#define GIVE_DEADLINE_NS (5 * NS_PER_S)
#define GIVE_AGAIN_NS (100 * NS_PER_MS)
#define VERDICT_BYTES 64u          /* of a verdict on the wire, about */

struct give_item { /* what was sent of one trace */
    struct travel_entry entry;
    size_t first_hash, hash_count; /* of its spans, in the call's */
    uint64_t decided_ns;           /* of the verdict that went; 0: none */
};

struct give_call {
    struct list node;
    struct peer_call call;
    struct buffer *message; /* while it is being made */
    struct worker_handoff *handoff;
    uint32_t ring_no, member;
    size_t bytes;
    struct give_item *items;
    size_t item_count, item_capacity;
    uint64_t *hashes;
    size_t hash_count, hash_capacity;
};

/* -- life ----------------------------------------------------------------------------------------------------------- */

void travel_init(struct travel *travel)
{
    memset(travel, 0, sizeof(*travel));
    travel->stage = TRAVEL_SWEPT;
    travel->running_known = true;
    list_init(&travel->calls);
}

static void lists_free(struct travel *travel)
{
    for (size_t i = 0; i < travel->list_count; i++)
        free(travel->lists[i].entries);
    free(travel->lists);
    travel->lists = NULL;
    travel->list_count = 0;
}

void travel_deinit(struct travel *travel)
{
    lists_free(travel);
    free(travel->running);
    free(travel->ended);
    free(travel->hashes);
}

/* -- what is another's ----------------------------------------------------------------------------------------------- */

/* The member that a slot's state shall go to; VIEW_NOBODY: it is mine, or nobody's. */
static size_t travels_to(const struct worker_handoff *handoff, uint64_t id_hash)
{
    const struct view *view = handoff->view;

    if (!view || view_owns(view, slot_of(id_hash)))
        return VIEW_NOBODY;
    return view_owner(view, slot_of(id_hash));
}

static bool counts(const struct travel_entry *entry)
{
    return entry->kind != TRAVEL_OLD_VERDICT;
}

static void list_count(struct travel_list *list, const struct travel_entry *entry, bool more)
{
    if (!counts(entry))
        return;
    list->traces += more ? 1 : UINT64_MAX;
    list->bytes += more ? entry->bytes : (uint64_t)0 - entry->bytes;
}

static void list_push(struct travel_list *list, const struct travel_entry *entry)
{
    if (list->count == list->capacity && list->next > list->count / 2) { /* half of it is behind us */
        memmove(list->entries, list->entries + list->next, (list->count - list->next) * sizeof(*entry));
        list->count -= list->next;
        list->next = 0;
    }
    list->entries = room_for(list->entries, list->count, &list->capacity, sizeof(*entry));
    list->entries[list->count++] = *entry;
}

static int running_compare(const void *a, const void *b)
{
    const struct travel_running *left = a, *right = b;

    return memcmp(left->id.bytes, right->id.bytes, sizeof(left->id.bytes));
}

static bool is_running(const struct travel *travel, const struct trace_id *id)
{
    const struct travel_running key = {.id = *id};

    return travel->running_count > 0 &&
        bsearch(&key, travel->running, travel->running_count, sizeof(key), running_compare) != NULL;
}

static void running_visit(void *context, const struct trace_id *id)
{
    struct worker_handoff *handoff = context;
    struct travel *travel = &handoff->travel;
    size_t owner = travels_to(handoff, hash_trace(id));

    if (owner == VIEW_NOBODY)
        return;
    travel->running = room_for(travel->running, travel->running_count, &travel->running_capacity, sizeof(travel->running[0]));
    travel->running[travel->running_count++] = (struct travel_running){*id, (uint32_t)owner};
}

static void running_learn(struct worker_handoff *handoff)
{
    struct travel *travel = &handoff->travel;

    travel->running_count = 0;
    survivors_running(handoff->home, running_visit, handoff);
    if (travel->running_count > 1)
        qsort(travel->running, travel->running_count, sizeof(travel->running[0]), running_compare);
    travel->running_known = true;
}

void travel_note(struct worker_handoff *handoff, const struct travel_entry *entry, uint64_t id_hash)
{
    struct travel *travel = &handoff->travel;
    size_t owner = travels_to(handoff, id_hash);

    if (owner == VIEW_NOBODY || owner >= travel->list_count)
        return;
    if (!travel->running_known) {
        travel_ended(handoff, entry);
        return;
    }
    if (is_running(travel, &entry->id))
        return; /* listed when its call has ended */
    list_push(&travel->lists[owner], entry);
    list_count(&travel->lists[owner], entry, true);
}

void travel_again(struct worker_handoff *handoff, const struct travel_entry *entry)
{
    size_t owner = travels_to(handoff, hash_trace(&entry->id));

    if (owner < handoff->travel.list_count)
        list_push(&handoff->travel.lists[owner], entry);
}

void travel_ended(struct worker_handoff *handoff, const struct travel_entry *entry)
{
    struct travel *travel = &handoff->travel;

    travel->running_known = false;
    travel->ended = room_for(travel->ended, travel->ended_count, &travel->ended_capacity, sizeof(*entry));
    travel->ended[travel->ended_count++] = *entry;
}

static void ended_list(struct worker_handoff *handoff)
{
    struct travel *travel = &handoff->travel;

    if (travel->running_known)
        return;
    running_learn(handoff);
    for (size_t i = 0; i < travel->ended_count; i++)
        travel_note(handoff, &travel->ended[i], hash_trace(&travel->ended[i].id));
    travel->ended_count = 0;
}

/* -- the sweep --------------------------------------------------------------------------------------------------------- */

/* No new attempt for what is not settled here (D2). */
static bool not_settled(void *context, const struct trace_id *id)
{
    const struct worker_handoff *handoff = context;

    return !view_settled(handoff->view, slot_of(hash_trace(id)));
}

void travel_begin(struct worker_handoff *handoff, uint64_t now_ns)
{
    struct travel *travel = &handoff->travel;

    (void)now_ns;
    lists_free(travel);
    travel->lists = calloc(size_max(handoff->view->member_count, 1), sizeof(travel->lists[0]));
    ASSERT(travel->lists != NULL);
    travel->list_count = handoff->view->member_count;
    travel->ring_no = handoff->view->ring_no;
    travel->stage = TRAVEL_AWAIT_VERDICTS;
    travel->cursor = 0;
    travel->verdicts_before = handoff->home->journal ? worker_journal_now(handoff->home->journal) : 0;
    travel->ended_count = 0;
    for (struct list *node = travel->calls.next; node != &travel->calls; node = node->next)
        container_of(node, struct give_call, node)->member = UINT32_MAX; /* of a ring that is no more */
    travel->running_known = false;
    survivors_withdraw(handoff->home, not_settled, handoff); /* tells of those that came back at once: travel_ended */
    ended_list(handoff);
}

static void trace_visit(void *context, struct trace *trace)
{
    struct worker_handoff *handoff = context;
    const struct trace_info info = trace_info(trace);
    const struct travel_entry entry = {.id = info.id,
        .order_ns = info.deadline_ns,
        .first_ns = info.first_ns,
        .bytes = (uint32_t)u64_min(info.bytes, UINT32_MAX),
        .kind = info.state == TRACE_PENDING ? TRAVEL_PENDING : TRAVEL_SAMPLED};

    if (info.mark == handoff->travel.ring_no || travels_to(handoff, hash_trace(&info.id)) == VIEW_NOBODY)
        return;
    trace_mark(trace, handoff->travel.ring_no);
    travel_note(handoff, &entry, hash_trace(&info.id));
}

static void record_visit(void *context, const struct trace_id *id, uint64_t id_hash, const struct decision_record *record)
{
    struct worker_handoff *handoff = context;
    uint64_t now_ns = handoff->home->worker.now_ns;
    bool young = u64_sub_floor(now_ns, record->decided_ns) < handoff->options.verdict_keep_ns;
    const struct travel_entry entry = {.id = *id,
        .order_ns = record->decided_ns,
        .first_ns = record->decided_ns,
        .bytes = VERDICT_BYTES,
        .kind = young ? TRAVEL_VERDICT : TRAVEL_OLD_VERDICT};

    if (travels_to(handoff, id_hash) != VIEW_NOBODY && !trace_table_find(handoff->home->traces, id, id_hash))
        travel_note(handoff, &entry, id_hash); /* with spans it goes with them */
}

static int entry_compare(const void *a, const void *b)
{
    const struct travel_entry *left = a, *right = b;

    if (left->kind != right->kind)
        return left->kind < right->kind ? -1 : 1;
    if (left->order_ns != right->order_ns)
        return left->order_ns < right->order_ns ? -1 : 1;
    return memcmp(left->id.bytes, right->id.bytes, sizeof(left->id.bytes));
}

/* One bounded step. */
static void sweep(struct worker_handoff *handoff)
{
    struct travel *travel = &handoff->travel;
    struct sampler_worker *home = handoff->home;

    switch (travel->stage) {
    case TRAVEL_AWAIT_VERDICTS:
        if (!home->journal || worker_journal_wrote(home->journal, travel->verdicts_before))
            travel->stage = TRAVEL_SWEEP_TRACES;
        break;
    case TRAVEL_SWEEP_TRACES:
        if (!trace_table_step(home->traces, &travel->cursor, trace_visit, handoff)) {
            travel->stage = TRAVEL_SWEEP_RECORDS;
            travel->cursor = 0;
        }
        break;
    case TRAVEL_SWEEP_RECORDS:
        if (!decision_cache_step(home->cache, &travel->cursor, record_visit, handoff))
            travel->stage = TRAVEL_SWEPT;
        break;
    case TRAVEL_SWEPT:
        break;
    }
}

/* -- a batch ------------------------------------------------------------------------------------------------------------ */

static void call_add_hashes(struct give_call *call, const struct trace *trace, size_t count, struct give_item *item)
{
    size_t all = trace_info(trace).span_count;

    if (call->hash_count + all > call->hash_capacity) {
        call->hash_capacity = size_max(call->hash_count + all, 2 * call->hash_capacity);
        call->hashes = realloc(call->hashes, call->hash_capacity * sizeof(call->hashes[0]));
        ASSERT(call->hashes != NULL);
    }
    trace_hashes(trace, call->hashes + call->hash_count);
    item->first_hash = call->hash_count;
    item->hash_count = count;
    call->hash_count += count;
}

/* False: nothing is held of it any more. */
static bool call_add(struct give_call *call, const struct travel_entry *entry)
{
    struct worker_handoff *handoff = call->handoff;
    const struct trace *trace = trace_table_find(handoff->home->traces, &entry->id, hash_trace(&entry->id));
    struct give_item item = {.entry = *entry};
    struct carried carried;

    if (!carry_trace(handoff, &entry->id, trace, NULL, GIVE_BYTES, &call->message, &carried))
        return false;
    item.decided_ns = carried.decided_ns;
    if (trace)
        call_add_hashes(call, trace, carried.span_count, &item);
    call->items = room_for(call->items, call->item_count, &call->item_capacity, sizeof(item));
    call->items[call->item_count++] = item;
    return true;
}

static void call_free(struct give_call *call)
{
    list_del(&call->node);
    peer_call_release(&call->call);
    buffer_unref(call->message);
    free(call->items);
    free(call->hashes);
    free(call);
}

/* -- T3: what was accepted is forgotten ------------------------------------------------------------------------------------- */

static void entry_again(struct worker_handoff *handoff, const struct travel_entry *entry)
{
    travel_note(handoff, entry, hash_trace(&entry->id));
}

static void trace_forget(struct worker_handoff *handoff, struct give_call *call, const struct give_item *item)
{
    struct sampler_worker *home = handoff->home;
    uint64_t id_hash = hash_trace(&item->entry.id);
    struct trace *trace = trace_table_find(home->traces, &item->entry.id, id_hash);
    uint64_t removed = 0;

    if (home->journal)
        worker_journal_given(home->journal, &item->entry.id, trace, call->hashes + item->first_hash, item->hash_count, item->decided_ns > 0);

    if (trace && item->hash_count > 0) {
        removed = trace_remove_spans(home->traces, trace, call->hashes + item->first_hash, item->hash_count);
        book(home, BOOK_HANDED_OVER, removed);
        count(home, METRIC_GIVEN_SPANS, removed);
        if (trace_info(trace).span_count == 0)
            trace_free(home->traces, trace);
        trace = trace_table_find(home->traces, &item->entry.id, id_hash);
    }
    if (trace) { /* came while the call was under way, did not fit into it, or waits for other exporters */
        carry_unlearn(handoff, &item->entry.id, call->hashes + item->first_hash, item->hash_count);
        entry_again(handoff, &item->entry);
        return;
    }
    if (item->decided_ns > 0)
        (void)decision_cache_remove(home->cache, &item->entry.id, id_hash);
    count(home, METRIC_GIVEN_TRACES, 1);
}

static void give_refused(struct give_call *call, struct travel_list *list, uint64_t wait_ns)
{
    struct worker_handoff *handoff = call->handoff;

    list->retry_ns = u64_max(list->retry_ns, handoff->home->worker.now_ns + wait_ns);
}

static uint64_t answer_wait_ns(const struct give_call *call, bool read, const struct transfer_answer *answer)
{
    if (read && answer->retry_ms > 0)
        return u64_min(answer->retry_ms, 10 * 1000) * NS_PER_MS;
    return call->call.has_retry ? u64_min(call->call.retry_ns, 10 * NS_PER_S) : GIVE_AGAIN_NS;
}

static void give_judge(struct give_call *call)
{
    struct worker_handoff *handoff = call->handoff;
    struct travel_list *list = &handoff->travel.lists[call->member];
    struct transfer_answer answer = {.retry_ms = 0};
    bool read = call->call.code == RPC_OK && call->call.response &&
        transfer_give_answer_read(buffer_slice(call->call.response), &answer) && answer.outcomes.len == call->item_count;
    bool refused = false;

    list->calls--;
    list->busy_bytes -= call->bytes;
    for (size_t i = 0; i < call->item_count; i++)
        list_count(list, &call->items[i].entry, false);
    for (size_t i = 0; i < call->item_count; i++) {
        if (read && answer.outcomes.at[i] == TRANSFER_ACCEPTED) {
            trace_forget(handoff, call, &call->items[i]);
        } else {
            refused = true;
            entry_again(handoff, &call->items[i].entry);
        }
    }
    if (refused) {
        count(handoff->home, METRIC_GIVES_IN_VAIN, 1);
        give_refused(call, list, answer_wait_ns(call, read, &answer));
    }
}

static void give_on_answered(struct peer_call *peer)
{
    struct give_call *call = container_of(peer, struct give_call, call);

    struct worker_handoff *handoff = call->handoff;

    /* T3: an answer under a former ring does not count: the copy stays, and was listed anew, or will be when the newest ring gets here. */
    if (call->member != UINT32_MAX && call->ring_no == handoff->travel.ring_no && call->ring_no >= atomic_load(&handoff->home->sampler->ring_no_out))
        give_judge(call);
    call_free(call);
}

/* -- sending ----------------------------------------------------------------------------------------------------------------- */

static bool may_send(const struct worker_handoff *handoff, size_t member, uint64_t now_ns)
{
    const struct travel_list *list = &handoff->travel.lists[member];
    const struct view_member *to = &handoff->view->members[member];
    unsigned most = GIVE_CALLS / handoff->home->sampler->worker_count;

    if (planted(PLANT_HANDOFF_OFF) || list->next == list->count || !to->reachable || !to->link || now_ns < list->retry_ns)
        return false;
    if (list->calls >= (most > 0 ? most : 1))
        return false;
    return list->calls == 0 || list->busy_bytes + GIVE_BYTES <= to->room_bytes;
}

/* Its bytes are only in the journal: it comes again when they are back. */
static bool spilled_wait(struct worker_handoff *handoff, const struct travel_entry *entry)
{
    struct trace *trace = trace_table_find(handoff->home->traces, &entry->id, hash_trace(&entry->id));

    if (!trace || trace_info(trace).spilled_count == 0)
        return false;
    spill_read_for(handoff, trace, entry);
    return true;
}

static struct give_call *give_fill(struct worker_handoff *handoff, size_t member)
{
    struct travel_list *list = &handoff->travel.lists[member];
    struct transfer_sender sender = handoff_sender(handoff);
    struct give_call *call = calloc(1, sizeof(*call));
    struct buffer *message;

    ASSERT(call != NULL);
    sender.batch_no = ++handoff->travel.batch_no;
    message = buffer_new(GIVE_BYTES / 4);
    ASSERT(message != NULL);
    message->len = (size_t)(transfer_sender_write(&sender, message->bytes) - message->bytes);
    *call = (struct give_call){.handoff = handoff, .ring_no = handoff->travel.ring_no, .member = (uint32_t)member};
    call->message = message;
    list_add_tail(&handoff->travel.calls, &call->node);
    while (list->next < list->count && call->message->len < GIVE_BYTES) {
        const struct travel_entry entry = list->entries[list->next++];

        if (call->item_count > 0 && call->message->len + entry.bytes > GIVE_BYTES) {
            list->next--;
            break;
        }
        if (spilled_wait(handoff, &entry))
            continue;
        if (is_running(&handoff->travel, &entry.id) || !call_add(call, &entry))
            list_count(list, &entry, false);
    }
    return call;
}

static void give_send(struct worker_handoff *handoff, size_t member, uint64_t now_ns)
{
    struct travel_list *list = &handoff->travel.lists[member];
    struct give_call *call = give_fill(handoff, member);

    if (call->item_count == 0) {
        call_free(call);
        return;
    }
    call->bytes = call->message->len;
    list->calls++;
    list->busy_bytes += call->bytes;
    count(handoff->home, METRIC_GIVEN_BYTES, call->bytes);
    call->call = (struct peer_call){.method = TRANSFER_GIVE,
        .message = call->message,
        .deadline_ns = now_ns + GIVE_DEADLINE_NS,
        .home = &handoff->home->worker,
        .done = give_on_answered};
    peer_link_call(handoff->view->members[member].link, &call->call);
    buffer_unref(call->message); /* the call has its own reference */
    call->message = NULL;
    if (planted(PLANT_SENDER_FORGETS_EARLY)) {
        for (size_t i = 0; i < call->item_count; i++) {
            list_count(list, &call->items[i].entry, false);
            trace_forget(handoff, call, &call->items[i]);
        }
        call->item_count = 0;
    }
}

/* One that joins owns nothing by its own ring yet, while the others still count on it: what it recovered would go out in vain. One
 * that only gives is on nobody's ring, and joins for ever. */
static bool is_joining(const struct worker_handoff *handoff)
{
    return handoff->view->members[handoff->view->self].state == MEMBER_JOINING && !handoff->options.gives_only;
}

/* One batch a turn, members in turns. True: there may be another. */
static bool send_one(struct worker_handoff *handoff, uint64_t now_ns)
{
    struct travel *travel = &handoff->travel;

    for (size_t i = 0; i < travel->list_count; i++) {
        size_t member = (travel->turn + i) % travel->list_count;
        struct travel_list *list = &travel->lists[member];

        if (!list->sorted && list->count - list->next > 1)
            qsort(list->entries + list->next, list->count - list->next, sizeof(list->entries[0]), entry_compare);
        list->sorted = true;
        if (may_send(handoff, member, now_ns)) {
            give_send(handoff, member, now_ns);
            travel->turn = member + 1;
            return true;
        }
    }
    return false;
}

/* When a list that waits for its time wants to run. */
static uint64_t next_retry_ns(const struct travel *travel, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;

    for (size_t i = 0; i < travel->list_count; i++)
        if (travel->lists[i].next < travel->lists[i].count && travel->lists[i].retry_ns > now_ns)
            next_ns = u64_min(next_ns, travel->lists[i].retry_ns);
    return next_ns;
}

uint64_t travel_run(struct worker_handoff *handoff, uint64_t now_ns)
{
    struct travel *travel = &handoff->travel;

    if (!handoff->view || handoff->recovering)
        return UINT64_MAX;
    if (travel->stage != TRAVEL_SWEPT) {
        sweep(handoff);
        return travel->stage == TRAVEL_AWAIT_VERDICTS ? UINT64_MAX : now_ns; /* their mail wakes us */
    }
    ended_list(handoff);
    if (is_joining(handoff))
        return UINT64_MAX; /* the next view wakes us */
    return send_one(handoff, now_ns) ? now_ns : next_retry_ns(travel, now_ns);
}

/* -- what is held -------------------------------------------------------------------------------------------------------------- */

static void oldest(struct holds *out, const struct travel_list *list)
{
    for (size_t i = list->next; i < list->count; i++)
        if (counts(&list->entries[i]) && (out->oldest_ns == 0 || list->entries[i].first_ns < out->oldest_ns))
            out->oldest_ns = list->entries[i].first_ns;
}

void travel_holds(struct worker_handoff *handoff, struct holds *out)
{
    struct travel *travel = &handoff->travel;

    out->swept = travel->stage == TRAVEL_SWEPT && !handoff->recovering;
    ended_list(handoff);
    for (size_t i = 0; i < travel->list_count; i++) {
        oldest(out, &travel->lists[i]);
        if (out->members && i < out->member_count) {
            out->members[i].traces += travel->lists[i].traces;
            out->members[i].bytes += travel->lists[i].bytes;
        }
    }
    for (size_t i = 0; i < travel->running_count; i++)
        if (out->members && travel->running[i].owner < out->member_count)
            out->members[travel->running[i].owner].exports++;
}
