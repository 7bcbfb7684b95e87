/* Which known word was probably meant: few slips in a long word, one in a short one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Edits between two words: a letter put in, left out or changed, or two neighbours swapped. SIZE_MAX: one of them is too long to be
 * anybody's slip. any_case: letters that differ in case alone are equal. */
size_t word_distance(const char *a, const char *b, bool any_case);

struct nearest {
    const char *word, *found; /* found: NULL when nothing is near */
    size_t least;
    bool any_case;
};

struct nearest nearest_start(const char *word, bool any_case);
void nearest_offer(struct nearest *nearest, const char *known);
