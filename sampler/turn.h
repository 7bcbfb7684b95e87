/* What a worker of the back tier does each turn, beside what comes in: deadlines, the ladder, the backends, the books. */
#pragma once

#include <stdint.h>

struct turn_hook;

/* The hook of a struct sampler_worker. */
uint64_t sampler_worker_run(struct turn_hook *hook, uint64_t now_ns);
