/* The only place that reads a clock. Everything else is told now_ns. */
#pragma once

#include <stdint.h>

/* Monotonic: durations and deadlines. */
uint64_t clock_now_ns(void);
/* Wall clock: what is shown to people, and incarnations. */
uint64_t clock_now_unix_ns(void);
