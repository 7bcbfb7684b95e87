/* A part is what one judgement is about: a whole request at first, later what of it went to one owner in vain. A part that is
 * FORWARDed lives in its call, one that WAITs in the list of the parked; any other is done with when it was judged. */
#include "sampler/handoff/gate.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/base/plant.h"
#include "common/export/rpc_code.h"
#include "sampler/handoff/inside.h"
#include "sampler/handoff/peer_link.h"
#include "sampler/span_path.h"

#define FORWARD_AGAIN_NS (50 * NS_PER_MS) /* S4: judged again then, if no view comes before */
#define RETRY_NS (1 * NS_PER_S)

struct gate_part {
    struct list node; /* among the parked */
    struct open_request *open;
    struct buffer *bytes; /* a reference */
    struct slice otlp;    /* in bytes */
    uint64_t span_count;  /* of a part that was forwarded */
    uint64_t forward_since_ns; /* 0: it never was */
    uint64_t wake_ns;
    struct peer_call call;
};

/* -- S1 to S3 ---------------------------------------------------------------------------------------------------- */

static struct gate_choice choose_mine(const struct gate_question *question, uint32_t slot)
{
    if (view_settled(question->view, slot) || question->view->in_step)
        return (struct gate_choice){.way = GATE_TAKE};
    if (question->overdue)
        return (struct gate_choice){.way = GATE_TAKE, .out_of_step = true};
    return (struct gate_choice){.way = GATE_WAIT};
}

static struct gate_choice choose_anothers(const struct gate_question *question, size_t owner)
{
    const struct view_member *member = &question->view->members[owner];

    if (member->reachable && !planted(PLANT_HANDOFF_OFF)) {
        if (!member->link) /* the next view has one, or says that it is away: nothing is kept for a member that may be about to be cleared */
            return (struct gate_choice){.way = GATE_WAIT};
        return (struct gate_choice){.way = GATE_FORWARD, .owner = (uint32_t)owner};
    }
    if (question->recovering)
        return (struct gate_choice){.way = GATE_WAIT};
    if (question->view->in_step || planted(PLANT_HANDOFF_OFF))
        return (struct gate_choice){.way = GATE_KEEP};
    if (question->overdue)
        return (struct gate_choice){.way = GATE_KEEP, .out_of_step = true};
    return (struct gate_choice){.way = GATE_WAIT};
}

struct gate_choice gate_choose(const struct gate_question *question, uint32_t slot)
{
    size_t owner;

    if (!question->view)
        return (struct gate_choice){.way = GATE_WAIT};
    if (view_owns(question->view, slot))
        return question->recovering ? (struct gate_choice){.way = GATE_WAIT} : choose_mine(question, slot);
    if (question->by_forward)
        return (struct gate_choice){.way = GATE_NOT_OWNER};
    owner = view_owner(question->view, slot);
    if (owner == VIEW_NOBODY)
        return (struct gate_choice){.way = GATE_WAIT};
    return choose_anothers(question, owner);
}

/* -- parts --------------------------------------------------------------------------------------------------------- */

/* bytes: a reference is taken. */
static struct gate_part *part_new(struct open_request *open, struct buffer *bytes, struct slice otlp)
{
    struct gate_part *part = calloc(1, sizeof(*part));

    ASSERT(part != NULL);
    part->open = open;
    part->bytes = buffer_ref(bytes);
    part->otlp = otlp;
    open_wait(open);
    return part;
}

static void part_done(struct gate_part *part)
{
    struct open_request *open = part->open;

    peer_call_release(&part->call);
    buffer_unref(part->bytes);
    free(part);
    open_done(open);
}

static void part_refuse(struct gate_part *part, enum refusal why, struct answer_status status)
{
    open_refuse(part->open, why, status);
    open_outcome(part->open, TRANSFER_BUSY, status.retry_ns / NS_PER_MS);
    part_done(part);
}

static struct answer_status going_away(void)
{
    return (struct answer_status){RPC_UNAVAILABLE, RETRY_NS, "this sampler is shutting down"};
}

static void part_park(struct gate_part *part, uint64_t wake_ns)
{
    struct worker_handoff *handoff = part->open->handoff;

    if (handoff->refusing) { /* the end: what comes back from a Forward is not judged any more */
        part_refuse(part, REFUSED_NO_MEMBER, going_away());
        return;
    }
    part->wake_ns = wake_ns;
    list_add_tail(&handoff->parked, &part->node);
    handoff->parked_count++;
    handoff->parked_next_ns = u64_min(handoff->parked_next_ns, wake_ns);
}

/* -- judging --------------------------------------------------------------------------------------------------------- */

/* How many spans go which way. */
struct judgement {
    size_t here, forward, wait, not_owner;
    size_t kept, out_of_step;
};

static struct gate_choice *choices_for(struct worker_handoff *handoff, size_t count)
{
    if (count > handoff->choice_capacity) {
        handoff->choice_capacity = size_max(count, 2 * handoff->choice_capacity);
        handoff->choices = realloc(handoff->choices, handoff->choice_capacity * sizeof(handoff->choices[0]));
        ASSERT(handoff->choices != NULL);
    }
    return handoff->choices;
}

/* Without a cluster everything is this node's, as soon as the journal was read back. */
static struct gate_choice choose_alone(const struct gate_question *question)
{
    return (struct gate_choice){.way = question->recovering ? GATE_WAIT : GATE_TAKE};
}

static struct judgement judge(struct worker_handoff *handoff, const struct gate_question *question)
{
    const struct intake *intake = &handoff->home->intake;
    struct gate_choice *choices = choices_for(handoff, intake->span_count);
    struct judgement sum = {.here = 0};

    for (size_t i = 0; i < intake->span_count; i++) {
        choices[i] = handoff->options.cluster ? gate_choose(question, slot_of(intake->spans[i].id_hash)) : choose_alone(question);
        switch (choices[i].way) {
        case GATE_KEEP:
            sum.kept++;
            __attribute__((fallthrough));
        case GATE_TAKE:
            sum.here++;
            sum.out_of_step += choices[i].out_of_step;
            break;
        case GATE_FORWARD:
            sum.forward++;
            break;
        case GATE_WAIT:
            sum.wait++;
            break;
        case GATE_NOT_OWNER:
            sum.not_owner++;
            break;
        }
    }
    return sum;
}

/* -- taking -------------------------------------------------------------------------------------------------------- */

static void refuse_unjournaled(struct gate_part *part, int error)
{
    struct answer_status status = refusal_status(REFUSED_JOURNAL);

    if (error == JOURNAL_E_FULL) {
        status.code = RPC_RESOURCE_EXHAUSTED;
        status.message = "the journal is full, try again later";
    }
    open_refuse(part->open, REFUSED_JOURNAL, status);
    open_outcome(part->open, TRANSFER_BUSY, status.retry_ns / NS_PER_MS);
}

/* All of home->intake stays here, once the journal has taken it in. */
static void part_take(struct gate_part *part, uint64_t now_ns)
{
    struct sampler_worker *home = part->open->handoff->home;
    struct arrival arrival = arrival_now(home, part->open->received_ns);

    arrival.now_ns = now_ns;
    if (home->journal && home->intake.span_count > 0) {
        int r = worker_journal_request(home->journal, part->open, part->bytes, part->otlp, intake_span_bytes(home), &arrival.at);

        arrival.base = part->otlp.at;
        if (r) {
            refuse_unjournaled(part, r);
            return;
        }
    }
    spans_take(home, part->bytes, &arrival);
}

/* -- cutting and forwarding ----------------------------------------------------------------------------------------- */

static bool goes_to(const struct gate_choice *choice, enum gate_way way, uint32_t owner)
{
    if (way == GATE_FORWARD)
        return choice->way == GATE_FORWARD && choice->owner == owner;
    return choice->way == GATE_TAKE || choice->way == GATE_KEEP;
}

/* The spans of home->intake that go one way, regrouped; returns how many. */
static size_t regroup_way(struct worker_handoff *handoff, enum gate_way way, uint32_t owner)
{
    const struct intake *intake = &handoff->home->intake;
    uint32_t last = UINT32_MAX, number = 0;
    size_t span_count = 0;

    regroup_reset(handoff->regroup);
    for (size_t i = 0; i < intake->span_count; i++) {
        const struct intake_span *span = &intake->spans[i];

        if (!goes_to(&handoff->choices[i], way, owner))
            continue;
        if (span->header != last) {
            number = regroup_header(handoff->regroup, &intake->headers[span->header].view);
            last = span->header;
        }
        ASSERT(regroup_span(handoff->regroup, number, rope_of(span->bytes.at, span->bytes.len)) == 0);
        span_count++;
    }
    return span_count;
}

/* A part of its own, in bytes of its own: behind the head of a ForwardRequest where it is forwarded. */
static struct gate_part *part_cut(struct gate_part *from, enum gate_way way, uint32_t owner)
{
    struct worker_handoff *handoff = from->open->handoff;
    size_t span_count = regroup_way(handoff, way, owner);
    struct transfer_forward forward = {.sender = handoff_sender(handoff), .metadata = from->open->metadata};
    size_t head = 0, size = regroup_size(handoff->regroup);
    struct gate_part *part;
    struct buffer *bytes;

    forward.spans.len = size;
    if (way == GATE_FORWARD)
        head = transfer_forward_head_size(&forward);
    bytes = buffer_new(head + size);
    ASSERT(bytes != NULL); /* admitted: no more than the request once again */
    if (way == GATE_FORWARD)
        (void)transfer_forward_head_write(&forward, bytes->bytes);
    (void)regroup_write(handoff->regroup, bytes->bytes + head);
    bytes->len = head + size;
    part = part_new(from->open, bytes, slice_make(bytes->bytes + head, size));
    part->span_count = span_count;
    part->forward_since_ns = from->forward_since_ns;
    buffer_unref(bytes);
    return part;
}

static void part_on_accepted(struct gate_part *part)
{
    struct sampler_worker *home = part->open->handoff->home;

    book(home, BOOK_RECEIVED, part->span_count);
    book(home, BOOK_HANDED_OVER, part->span_count);
    count(home, METRIC_FORWARDED_SPANS, part->span_count);
    part_done(part);
}

static void part_on_answered(struct peer_call *call)
{
    struct gate_part *part = container_of(call, struct gate_part, call);
    struct sampler_worker *home = part->open->handoff->home;
    struct transfer_answer answer = {.outcome = TRANSFER_NOT_OWNER};
    bool answered = call->code == RPC_OK && call->response && transfer_forward_answer_read(buffer_slice(call->response), &answer);
    bool busy = answered ? answer.outcome == TRANSFER_BUSY : call->code == RPC_RESOURCE_EXHAUSTED;

    if (answered && answer.outcome == TRANSFER_ACCEPTED) {
        part_on_accepted(part);
        return;
    }
    count(home, METRIC_FORWARDS_IN_VAIN, 1);
    if (busy) { /* it would not travel round the ring */
        struct answer_status status = refusal_status(REFUSED_MEMORY);

        if (answered && answer.retry_ms > 0)
            status.retry_ns = u64_min(answer.retry_ms, 60 * 1000) * NS_PER_MS;
        part_refuse(part, REFUSED_MEMORY, status);
        return;
    }
    peer_call_release(&part->call);
    part_park(part, home->worker.now_ns + FORWARD_AGAIN_NS);
}

static void part_forward(struct gate_part *part, uint32_t owner, uint64_t now_ns)
{
    struct worker_handoff *handoff = part->open->handoff;

    if (part->forward_since_ns == 0)
        part->forward_since_ns = now_ns;
    part->call = (struct peer_call){.method = TRANSFER_FORWARD,
        .message = part->bytes,
        .deadline_ns = part->forward_since_ns + handoff->options.forward_timeout_ns,
        .home = &handoff->home->worker,
        .done = part_on_answered};
    peer_link_call(handoff->view->members[owner].link, &part->call);
}

/* Each owner of spans that are left gets its part. What is forwarded is marked WAIT, so that the next look finds the next owner. */
static void part_forward_all(struct gate_part *part, size_t left, uint64_t now_ns)
{
    struct worker_handoff *handoff = part->open->handoff;
    size_t span_count = handoff->home->intake.span_count;

    for (size_t i = 0; i < span_count && left > 0; i++) {
        struct gate_part *cut;
        uint32_t owner;

        if (handoff->choices[i].way != GATE_FORWARD)
            continue;
        owner = handoff->choices[i].owner;
        cut = part_cut(part, GATE_FORWARD, owner);
        left -= cut->span_count;
        for (size_t k = i; k < span_count; k++)
            if (goes_to(&handoff->choices[k], GATE_FORWARD, owner))
                handoff->choices[k].way = GATE_WAIT;
        part_forward(cut, owner, now_ns);
    }
}

/* -- what follows ------------------------------------------------------------------------------------------------------ */

static bool is_overdue(const struct gate_part *part, uint64_t now_ns)
{
    return u64_sub_floor(now_ns, part->open->received_ns) >= part->open->handoff->options.ack_wait_ns;
}

static void part_wait(struct gate_part *part, uint64_t now_ns)
{
    if (is_overdue(part, now_ns)) /* there is no owner, or this node is not ready: not even out of step could it be taken */
        part_refuse(part, REFUSED_NO_MEMBER, (struct answer_status){RPC_UNAVAILABLE, RETRY_NS, "this sampler is not in step with the others yet"});
    else
        part_park(part, part->open->received_ns + part->open->handoff->options.ack_wait_ns);
}

static void part_act(struct gate_part *part, const struct judgement *sum, uint64_t now_ns)
{
    struct worker_handoff *handoff = part->open->handoff;
    struct sampler_worker *home = handoff->home;

    if (sum->not_owner > 0) {
        open_outcome(part->open, TRANSFER_NOT_OWNER, 0);
        part_done(part);
        return;
    }
    if (sum->wait > 0) {
        part_wait(part, now_ns);
        return;
    }
    if (sum->forward > 0 && part->forward_since_ns > 0 && now_ns - part->forward_since_ns >= handoff->options.forward_timeout_ns) {
        part_refuse(part, REFUSED_DELIVERY, refusal_status(REFUSED_DELIVERY));
        return;
    }
    count(home, METRIC_TAKEN_OUT_OF_STEP, sum->out_of_step);
    count(home, METRIC_KEPT_SPANS, sum->kept);
    if (sum->here > 0 && sum->forward == 0) {
        part_take(part, now_ns);
    } else if (sum->here > 0) {
        struct gate_part *mine = part_cut(part, GATE_TAKE, 0);
        enum refusal why;

        part_forward_all(part, sum->forward, now_ns);
        intake_release(&home->intake, home->headers);
        if (request_read(home, mine->otlp, mine->open->metadata, &why)) {
            part_take(mine, now_ns);
            part_done(mine);
        } else {
            part_refuse(mine, why, refusal_status(why));
        }
    } else {
        part_forward_all(part, sum->forward, now_ns);
    }
    part_done(part);
}

/* home->intake holds the part. Ends it, or parks it. */
static void part_judge(struct gate_part *part, uint64_t now_ns)
{
    struct worker_handoff *handoff = part->open->handoff;
    const struct gate_question question = {.view = handoff->view,
        .by_forward = part->open->kind == OPEN_FORWARD,
        .overdue = is_overdue(part, now_ns),
        .recovering = handoff->recovering};
    const struct judgement sum = judge(handoff, &question);

    part_act(part, &sum, now_ns);
    intake_release(&handoff->home->intake, handoff->home->headers);
}

static void part_judge_again(struct gate_part *part, uint64_t now_ns)
{
    struct sampler_worker *home = part->open->handoff->home;
    enum refusal why;

    if (request_read(home, part->otlp, part->open->metadata, &why)) {
        part_judge(part, now_ns);
        return;
    }
    intake_release(&home->intake, home->headers);
    part_refuse(part, why, refusal_status(why));
}

/* -- what comes in ------------------------------------------------------------------------------------------------------ */

static uint32_t *indices_copy(const struct intake *intake)
{
    uint32_t *copy;

    if (intake->rejected_count == 0)
        return NULL;
    copy = malloc(intake->rejected_count * sizeof(copy[0]));
    ASSERT(copy != NULL);
    memcpy(copy, intake->rejected, intake->rejected_count * sizeof(copy[0]));
    return copy;
}

/* home->intake holds the request. */
static void gate_open(struct open_request *open, uint64_t now_ns)
{
    const struct intake *intake = &open->handoff->home->intake;
    struct gate_part *part = part_new(open, open->bytes, buffer_slice(open->bytes));

    open->span_count = intake->span_count;
    open->rejected = indices_copy(intake);
    open->rejected_count = intake->rejected_count;
    request_count_faults(open->handoff->home);
    part_judge(part, now_ns);
    open_done(open); /* its maker's */
}

void gate_request(struct sampler_worker *home, struct request *request, struct buffer *held)
{
    struct worker_handoff *handoff = home->handoff;
    enum refusal why;

    if (handoff->refusing) {
        request_refuse(request, REFUSED_NO_MEMBER, going_away());
        return;
    }
    if (!request_read(home, buffer_slice(held), request->metadata, &why)) {
        intake_release(&home->intake, home->headers);
        request_refuse(request, why, refusal_status(why));
        return;
    }
    gate_open(open_begin(handoff, OPEN_CLIENT, request, buffer_ref(held), request->metadata, request->received_ns), request->received_ns);
}

/* A Forward's spans, in bytes of our own: the transport's end with the call. */
static struct buffer *bytes_copy(struct slice bytes)
{
    struct buffer *copy = buffer_new(bytes.len);

    if (!copy)
        return NULL;
    if (bytes.len > 0)
        memcpy(copy->bytes, bytes.at, bytes.len);
    copy->len = bytes.len;
    return copy;
}

static int forward_busy(const struct worker_handoff *handoff, struct buffer **out_answer)
{
    const struct transfer_answer answer = {.outcome = TRANSFER_BUSY, .retry_ms = RETRY_NS / NS_PER_MS, .fingerprint = handoff->view ? handoff->view->fingerprint : 0};

    *out_answer = transfer_forward_answer(&answer);
    return *out_answer ? RPC_OK : RPC_RESOURCE_EXHAUSTED;
}

int forward_serve(void *tier, struct worker *worker, struct slice request, void *call, struct buffer **out_answer)
{
    struct sampler *sampler = tier;
    struct sampler_worker *home = &sampler->workers[worker->index];
    struct worker_handoff *handoff = home->handoff;
    struct metadata_set *metadata;
    struct transfer_forward forward;
    struct buffer *bytes;
    enum refusal why;
    bool read;

    if (!handoff || !handoff->options.cluster)
        return RPC_UNIMPLEMENTED;
    if (!transfer_forward_read(request, &forward))
        return RPC_INVALID_ARGUMENT;
    if (handoff->refusing)
        return RPC_UNAVAILABLE;
    if (budget_rung(&sampler->budget) == RUNG_REFUSE)
        return forward_busy(handoff, out_answer);
    bytes = bytes_copy(forward.spans);
    if (!bytes || transfer_forward_metadata(&forward, &metadata) != 0) {
        buffer_unref(bytes);
        return RPC_RESOURCE_EXHAUSTED;
    }
    read = request_read(home, buffer_slice(bytes), metadata, &why);
    if (read) {
        gate_open(open_begin(handoff, OPEN_FORWARD, call, bytes, metadata, worker->now_ns), worker->now_ns);
    } else {
        intake_release(&home->intake, home->headers);
        buffer_unref(bytes);
    }
    metadata_set_unref(metadata);
    if (read)
        return -1;
    return why == REFUSED_MALFORMED ? RPC_INVALID_ARGUMENT : forward_busy(handoff, out_answer);
}

/* -- what is parked -------------------------------------------------------------------------------------------------------- */

uint64_t gate_run(struct worker_handoff *handoff, uint64_t now_ns)
{
    struct list parked;

    if (!handoff->parked_anew && now_ns < handoff->parked_next_ns)
        return handoff->parked_next_ns;
    list_init(&parked);
    list_splice_tail(&parked, &handoff->parked);
    handoff->parked_next_ns = UINT64_MAX;
    for (struct list *node; (node = list_take_first(&parked));) {
        struct gate_part *part = container_of(node, struct gate_part, node);

        handoff->parked_count--;
        if (handoff->parked_anew || part->wake_ns <= now_ns)
            part_judge_again(part, now_ns);
        else
            part_park(part, part->wake_ns);
    }
    handoff->parked_anew = false;
    return handoff->parked_next_ns;
}

void gate_close(struct worker_handoff *handoff)
{
    handoff->refusing = true;
    for (struct list *node; (node = list_take_first(&handoff->parked));) {
        handoff->parked_count--;
        part_refuse(container_of(node, struct gate_part, node), REFUSED_NO_MEMBER, going_away());
    }
}
