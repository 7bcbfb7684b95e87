/* The way in of a sampler that has fellows or a journal: rules S1 to S4.
 *
 *   request ─▶ judge ─┬─ TAKE, KEEP ─▶ journal, traces ─────────────▶ done
 *                     ├─ FORWARD ────▶ one Forward an owner ─accepted─▶ done
 *                     │                      '─ not owner, no answer ─▶ parked
 *                     └─ WAIT ───────▶ parked, until a view or ack_wait ─▶ judge
 *
 * A request is judged whole: while one of its spans must wait, none is taken. What was forwarded in vain is judged anew, alone.
 * The answer goes out when all of it is done; the first refusal is the answer, nothing that was forwarded in vain is stored.
 * A request that came by Forward is taken whole or not at all, and never forwarded again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer;
struct request;
struct sampler_worker;
struct view;
struct worker_handoff;

enum gate_way { GATE_TAKE, GATE_KEEP, GATE_FORWARD, GATE_WAIT, GATE_NOT_OWNER };

struct gate_choice {
    enum gate_way way;
    uint32_t owner;    /* FORWARD: index of a member */
    bool out_of_step;  /* TAKE and KEEP: only because it waited too long */
};

struct gate_question {
    const struct view *view; /* NULL: none yet */
    bool by_forward;
    bool overdue;            /* it has waited for ack_wait */
    bool recovering;         /* nothing may be taken yet */
};

/* S1 to S3 for one slot. */
struct gate_choice gate_choose(const struct gate_question *question, uint32_t slot);

/* A client's request; held: its bytes, borrowed. It is answered now or later. */
void gate_request(struct sampler_worker *home, struct request *request, struct buffer *held);
/* Once a turn: judges what is parked and due, or all of it after a new view. Returns when to run again. */
uint64_t gate_run(struct worker_handoff *handoff, uint64_t now_ns);
/* The end: what is parked is refused, and so is what comes. */
void gate_close(struct worker_handoff *handoff);
