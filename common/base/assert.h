/* Asserts stay on in release: they hold our own mistakes, never what a peer sent. */
#pragma once

#include <assert.h>

#include "common/base/cleanup.h"

NORETURN void assert_failed(const char *what, const char *file, int line);

#define ASSERT(condition)                                                                          \
    do {                                                                                           \
        if (UNLIKELY(!(condition)))                                                                \
            assert_failed(#condition, __FILE__, __LINE__);                                         \
    } while (0)

/* A place that no state of ours leads to. */
#define UNREACHABLE(why) assert_failed("unreachable: " why, __FILE__, __LINE__)

#ifdef SLOW_ASSERTS
#define ASSERT_SLOW(condition) ASSERT(condition)
#else
#define ASSERT_SLOW(condition) ((void)0)
#endif
