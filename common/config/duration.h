/* Durations as Go writes them: 1h2m3.5s, 300ms, -5s, 1.5h, 10us.
 *
 * Source: Go's time.ParseDuration, which the Collector reads its configuration with. A bare number without unit is no
 * duration here (only 0 is); in YAML an unquoted integer is nanoseconds, which config.c takes care of.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define DURATION_E_SYNTAX 1 /* not number-unit pairs, or an unknown unit */
#define DURATION_E_RANGE 2  /* past about 292 years */
#define DURATION_E_NO_UNIT 3 /* a number alone, such as "10" */

/* 0 and *out_ns, or one of the above. text need not end with NUL. */
int duration_parse(const char *text, size_t len, int64_t *out_ns);
