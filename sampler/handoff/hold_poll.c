/* A question travels to its worker, is filled in there and travels back: the same piece of memory, owned by whoever has the mail. */
#include "sampler/handoff/hold_poll.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/run/control.h"
#include "sampler/sampler_worker.h"

struct hold_question {
    struct mail mail;
    struct hold_poll *poll;
    struct sampler_worker *home;
    struct holds holds;
    size_t capacity; /* of holds.members */
};

void hold_poll_init(struct hold_poll *poll, struct sampler *sampler, void *context,
    void (*done)(void *context, const struct holds_sum *sum))
{
    *poll = (struct hold_poll){.sampler = sampler, .context = context, .done = done};
    poll->questions = calloc(sampler->worker_count, sizeof(*poll->questions));
    ASSERT(poll->questions != NULL);
    for (unsigned i = 0; i < sampler->worker_count; i++) {
        poll->questions[i].poll = poll;
        poll->questions[i].home = &sampler->workers[i];
    }
}

void hold_poll_deinit(struct hold_poll *poll)
{
    for (unsigned i = 0; poll->questions && i < poll->sampler->worker_count; i++)
        free(poll->questions[i].holds.members);
    free(poll->questions);
    free(poll->sum.members);
    *poll = (struct hold_poll){.questions = NULL};
}

void holds_sum_begin(struct holds_sum *sum, struct held_for *members, size_t member_count)
{
    *sum = (struct holds_sum){.swept = true, .members = members, .member_count = member_count};
    if (member_count > 0)
        memset(members, 0, member_count * sizeof(members[0]));
}

void holds_sum_add(struct holds_sum *sum, const struct holds *holds, bool first)
{
    sum->ring_no = first || sum->ring_no == holds->ring_no ? holds->ring_no : 0;
    sum->swept = sum->swept && holds->swept;
    sum->open_requests += holds->open_requests;
    sum->traces += holds->traces;
    sum->verdicts += holds->verdicts;
    sum->survivors += holds->survivors;
    sum->remembers = sum->remembers || holds->remembers;
    if (holds->oldest_ns > 0 && (sum->oldest_ns == 0 || holds->oldest_ns < sum->oldest_ns))
        sum->oldest_ns = holds->oldest_ns;
    for (size_t i = 0; holds->members && i < sum->member_count; i++) {
        sum->members[i].traces += holds->members[i].traces;
        sum->members[i].bytes += holds->members[i].bytes;
        sum->members[i].exports += holds->members[i].exports;
        sum->foreign_traces += holds->members[i].traces;
        sum->foreign_bytes += holds->members[i].bytes;
        sum->exports += holds->members[i].exports;
    }
}

static void control_on_answer(struct mail *mail, void *receiver)
{
    struct hold_poll *poll = container_of(mail, struct hold_question, mail)->poll;

    (void)receiver;
    if (--poll->waiting > 0)
        return;
    holds_sum_begin(&poll->sum, poll->sum.members, poll->sum.member_count);
    for (unsigned i = 0; i < poll->sampler->worker_count; i++)
        holds_sum_add(&poll->sum, &poll->questions[i].holds, i == 0);
    poll->done(poll->context, &poll->sum);
}

static void worker_on_question(struct mail *mail, void *receiver)
{
    struct hold_question *question = container_of(mail, struct hold_question, mail);

    (void)receiver;
    worker_holds(question->home, &question->holds);
    question->mail.deliver = control_on_answer;
    control_post(&question->poll->sampler->control, &question->mail);
}

static void room_for(struct held_for **members, size_t *capacity, size_t count)
{
    if (count <= *capacity)
        return;
    *members = realloc(*members, count * sizeof(**members));
    ASSERT(*members != NULL);
    *capacity = count;
}

void hold_poll_begin(struct hold_poll *poll, size_t member_count)
{
    ASSERT(poll->waiting == 0);
    poll->waiting = poll->sampler->worker_count;
    poll->sum.member_count = member_count;
    room_for(&poll->sum.members, &poll->capacity, member_count);
    for (unsigned i = 0; i < poll->sampler->worker_count; i++) {
        struct hold_question *question = &poll->questions[i];
        struct held_for *members = question->holds.members;

        room_for(&members, &question->capacity, member_count);
        if (member_count > 0)
            memset(members, 0, member_count * sizeof(members[0]));
        question->holds = (struct holds){.members = members, .member_count = member_count};
        question->mail.deliver = worker_on_question;
        worker_post(&question->home->worker, &question->mail);
    }
}
