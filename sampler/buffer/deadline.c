/* Slot t holds what is due within tick t, so all of it may go once the tick is over: an entry leaves up
 * to one tick late and never early. */
#include "sampler/buffer/deadline.h"

#include <stddef.h>

#include "common/base/assert.h"
#include "common/base/num.h"

#define SLOT_MASK (DEADLINE_SLOTS - 1)
#define WORDS (DEADLINE_SLOTS / 64)

void deadlines_init(struct deadlines *deadlines, uint64_t now_ns)
{
    for (unsigned i = 0; i < DEADLINE_SLOTS; i++)
        list_init(&deadlines->slots[i]);
    for (unsigned i = 0; i < WORDS; i++)
        deadlines->occupied[i] = 0;
    deadlines->tick = now_ns / DEADLINE_TICK_NS;
    deadlines->count = 0;
}

static void file(struct deadlines *deadlines, struct deadline *deadline)
{
    uint64_t last = deadlines->tick + DEADLINE_SLOTS - 1;
    uint64_t tick = u64_max(deadline->at_ns / DEADLINE_TICK_NS, deadlines->tick);
    uint32_t slot = (uint32_t)(u64_min(tick, last) & SLOT_MASK);

    list_add_tail(&deadlines->slots[slot], &deadline->node);
    deadlines->occupied[slot / 64] |= 1ull << (slot % 64);
}

static void unfile(struct deadlines *deadlines, struct deadline *deadline)
{
    struct list *neighbour = deadline->node.next;
    bool alone = neighbour == deadline->node.prev;

    list_del(&deadline->node);
    if (alone) { /* the only neighbour on both sides is the slot's head */
        size_t slot = (size_t)(neighbour - deadlines->slots);

        ASSERT(slot < DEADLINE_SLOTS);
        deadlines->occupied[slot / 64] &= ~(1ull << (slot % 64));
    }
}

/* Ticks from deadlines->tick to the first occupied slot; count > 0. */
static uint64_t ticks_to_next(const struct deadlines *deadlines)
{
    uint32_t from = (uint32_t)(deadlines->tick & SLOT_MASK);
    uint32_t word = from / 64;
    uint64_t bits = deadlines->occupied[word] & (UINT64_MAX << (from % 64));

    /* The first word is looked at twice: from `from` on, and at last what lies before it. */
    for (unsigned i = 0; i <= WORDS; i++) {
        if (bits) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);

            return (slot - from) & SLOT_MASK;
        }
        word = (word + 1) % WORDS;
        bits = deadlines->occupied[word];
    }
    UNREACHABLE("an occupied slot");
    return 0;
}

void deadline_add(struct deadlines *deadlines, struct deadline *deadline, uint64_t at_ns)
{
    deadline->at_ns = at_ns;
    file(deadlines, deadline);
    deadlines->count++;
}

void deadline_remove(struct deadlines *deadlines, struct deadline *deadline)
{
    if (!list_linked(&deadline->node))
        return;
    unfile(deadlines, deadline);
    deadlines->count--;
}

struct deadline *deadlines_take_due(struct deadlines *deadlines, uint64_t now_ns)
{
    uint64_t now_tick = now_ns / DEADLINE_TICK_NS;

    while (deadlines->count > 0) {
        uint64_t tick = deadlines->tick + ticks_to_next(deadlines);
        struct deadline *deadline;

        if (tick >= now_tick)
            break;
        deadlines->tick = tick;
        deadline = container_of(list_first(&deadlines->slots[tick & SLOT_MASK]), struct deadline, node);
        unfile(deadlines, deadline);
        if (deadline->at_ns / DEADLINE_TICK_NS > tick) {
            file(deadlines, deadline); /* came past the horizon: there is more wheel now */
            continue;
        }
        deadlines->count--;
        return deadline;
    }
    deadlines->tick = u64_max(deadlines->tick, now_tick);
    return NULL;
}

uint64_t deadlines_next_ns(const struct deadlines *deadlines)
{
    if (deadlines->count == 0)
        return UINT64_MAX;
    return (deadlines->tick + ticks_to_next(deadlines) + 1) * DEADLINE_TICK_NS;
}

struct deadline *deadlines_peek(const struct deadlines *deadlines)
{
    struct list *node = list_first(&deadlines->slots[deadlines->tick & SLOT_MASK]);

    return node ? container_of(node, struct deadline, node) : NULL;
}
