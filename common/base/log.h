/* Structured log lines: an event name and key=value pairs with units in the keys.
 *
 * Only the boundaries and tier files log; library code returns. Repeated events are logged once a
 * period with a count. Lines go to standard error as text, or as JSON (service.telemetry.logs):
 *
 *   2026-11-21T10:49:24.123Z WARN tailrace-lb member_lost member=sampler-2 retry_ns=500000000
 *   {"time":"2026-11-21T10:49:24.123Z","level":"warn","program":"tailrace-lb","event":"member_lost",
 *    "member":"sampler-2","retry_ns":500000000}                                        (on one
 * line)
 *
 * A line is one write(2) of at most 4 KiB; what does not fit is cut and marked truncated=true.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

enum log_encoding { LOG_CONSOLE, LOG_JSON };

/* Before the first thread. program: shown on each line; lasts as long as the process. */
void log_setup(const char *program, enum log_level least, enum log_encoding encoding);
/* Any thread: from now on lines below it are not written. */
void log_level_set(enum log_level least);
bool log_enabled(enum log_level level);

/* event: a lower_case name. format: "key=%s other_ns=%llu"; a value with blanks must be quoted by
 * the caller with \"%s\", and may itself hold quotes, line ends and any other bytes: they are
 * escaped here. Both forms split the formatted text at key= borders; in JSON a bare number stays a
 * number. Words before the first key become message="...". Thread-safe. */
void log_event(enum log_level level, const char *event, const char *format, ...) PRINTF_LIKE(3, 4);

/* One repeated event: logs at most once a period and says how often it happened since. */
struct log_limit {
    uint64_t last_ns;
    uint64_t suppressed_count;
};
#define LOG_LIMIT_PERIOD_NS 10000000000ull /* 10 s: visible at once, readable for hours */

/* True when the caller should log now; *out_suppressed: times since the last line that were not
 * logged. Not thread-safe: a limit belongs to one thread. */
bool log_limit_pass(struct log_limit *limit, uint64_t now_ns, uint64_t *out_suppressed);
