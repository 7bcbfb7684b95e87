/* What was acknowledged, span by span: bits by (trace number, span index). What the spans were follows from the model.
 *
 * acknowledged  the far side answered OK: the span must have its fate
 * unknown       it was sent and never acknowledged: it may or may not arrive
 * neither       it was never sent
 * File          header, then for each trace: content sum, acknowledged words, unknown words; host byte order
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bench/model.h"

struct ledger {
    struct model model;
    uint64_t trace_count, capacity;
    uint32_t words;      /* of 64 spans, a trace */
    uint64_t *content;   /* sum of the hashes of all its spans' bytes, by trace */
    uint64_t *acknowledged, *unknown; /* by trace * words */
};

void ledger_init(struct ledger *ledger, const struct model *model);
void ledger_deinit(struct ledger *ledger);
/* Makes room for trace numbers below count. */
void ledger_reach(struct ledger *ledger, uint64_t count);
/* 0 or a negative errno. */
int ledger_write(const struct ledger *ledger, const char *path);
int ledger_read(struct ledger *ledger, const char *path);

/* A span on its way is unknown until it is acknowledged; once acknowledged it stays so. */
static inline void ledger_sent(struct ledger *ledger, uint64_t trace, uint32_t index)
{
    ledger->unknown[trace * ledger->words + index / 64] |= 1ull << (index % 64);
}

static inline void ledger_acknowledged(struct ledger *ledger, uint64_t trace, uint32_t index)
{
    ledger->unknown[trace * ledger->words + index / 64] &= ~(1ull << (index % 64));
    ledger->acknowledged[trace * ledger->words + index / 64] |= 1ull << (index % 64);
}
