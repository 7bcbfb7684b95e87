/* A worker's turn of the handoff. */
#pragma once

#include <stdint.h>

struct worker_handoff;

/* Judges what waited, moves what is another's. Returns when to run again. */
uint64_t worker_handoff_run(struct worker_handoff *handoff, uint64_t now_ns);
