/* Which known word was probably meant: few slips in a long word, one in a short one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct nearest {
    const char *word, *found; /* found: NULL when nothing is near */
    size_t least;
    bool any_case;
};

/* any_case: letters that differ in case alone are equal. */
struct nearest nearest_start(const char *word, bool any_case);
void nearest_offer(struct nearest *nearest, const char *known);
