/* Which known word was probably meant: few slips in a long word, one in a short one. */
#pragma once

#include <stddef.h>

struct nearest {
    const char *word, *found; /* found: NULL when nothing is near */
    size_t least;
};

struct nearest nearest_start(const char *word);
void nearest_offer(struct nearest *nearest, const char *known);
