/* Regular expressions as Go's `regexp` reads them, over RE2: the one place where C++ is spoken.
 *
 * Search   unanchored; case counts; `.` stops at a newline, `$` is the end of the text unless (?m).
 * Bytes    a byte that is not valid UTF-8 reads as U+FFFD, as in Go (RE2 alone would let nothing match it).
 * Syntax   Go's: (?<name>x) is read as (?P<name>x), and \C is refused. What may still differ is the Unicode version
 *          behind (?i) and \p{…}, and a pattern that RE2 cannot hold in REGEX_MEMORY_BYTES is refused.
 * Cost     linear in the text whatever the pattern. Memory: REGEX_MEMORY_BYTES for each pattern or set of patterns.
 * Threads  one regex_set belongs to one thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* RE2's own default budget: a pattern and the automata grown while searching. */
#define REGEX_MEMORY_BYTES (8 << 20)

struct regex_set;

#define REGEX_E_INVALID 1
/* Compiles the patterns (NUL-terminated). 0; REGEX_E_INVALID with *out_reason (malloc'd, the caller's to free) and
 * *out_index of the pattern at fault; or -ENOMEM. */
int regex_set_new(char *const *patterns, size_t count, struct regex_set **out_set, char **out_reason, size_t *out_index);
/* Accepts NULL. */
void regex_set_free(struct regex_set *set);

/* Sets bit i of out_bits (count bits, rounded up to words, cleared first) when pattern i is found in the text.
 * 0, or -ENOMEM: then nothing is known. */
int regex_set_match(struct regex_set *set, const void *text, size_t len, uint64_t *out_bits);

/* -- groups ---------------------------------------------------------------------------------------------- */

struct regex_groups; /* one pattern whose groups are wanted */

/* 0; REGEX_E_INVALID with *out_reason (malloc'd); or -ENOMEM. */
int regex_groups_new(const char *pattern, struct regex_groups **out_groups, char **out_reason);
/* Accepts NULL. */
void regex_groups_free(struct regex_groups *groups);
/* Without the whole match. */
size_t regex_groups_count(const struct regex_groups *groups);
/* "" for a group without name. */
const char *regex_groups_name(const struct regex_groups *groups, size_t group);

#define REGEX_E_NO_MATCH 2
struct regex_range {
    size_t at, len; /* in the text; 0, 0 for a group that took no part */
};
/* The leftmost match; out_ranges: one a group. 0, REGEX_E_NO_MATCH or -ENOMEM. */
int regex_groups_find(struct regex_groups *groups, const void *text, size_t len, struct regex_range *out_ranges);

#ifdef __cplusplus
}
#endif
