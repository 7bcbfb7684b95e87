/* When each trace is due: a timing wheel with slots of 16 ms. Entries past the horizon wait in its last slot and are filed again.
 *
 * Owner   one worker.  Cost: add, move, remove O(1).
 */
#pragma once

#include <stdint.h>

#include "common/base/list.h"

#define DEADLINE_TICK_NS (16ull * 1000 * 1000) /* promised: 100 ms or better; finer keeps each turn short and memory level */
#define DEADLINE_SLOTS 4096u /* 65 s ahead: twice the default decision_wait */

struct deadline {
    struct list node; /* linked while it waits */
    uint64_t at_ns;
};

struct deadlines {
    struct list slots[DEADLINE_SLOTS];
    uint64_t occupied[DEADLINE_SLOTS / 64]; /* a bit a slot: the next one is found without a scan */
    uint64_t tick;     /* everything before it was taken */
    uint64_t count;
};

void deadlines_init(struct deadlines *deadlines, uint64_t now_ns);
/* deadline: not linked. at_ns may have passed. */
void deadline_add(struct deadlines *deadlines, struct deadline *deadline, uint64_t at_ns);
/* Does nothing for one that does not wait. */
void deadline_remove(struct deadlines *deadlines, struct deadline *deadline);
/* Takes one entry that is due at now_ns (never early, at most one tick late); NULL: none. */
struct deadline *deadlines_take_due(struct deadlines *deadlines, uint64_t now_ns);
/* When deadlines_take_due may find something next; UINT64_MAX: empty. */
uint64_t deadlines_next_ns(const struct deadlines *deadlines);
/* What deadlines_take_due would look at next, due or not, as far as it is known without a search; NULL: unknown. A hint. */
struct deadline *deadlines_peek(const struct deadlines *deadlines);
