/* Arrays that grow by doubling. They hold a few bytes of traces whose spans are a thousand times that, so they are not in the budget; and
 * without memory for them the program ends. */
#pragma once

#include <stddef.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"

/* The array, with room for one more after count items of that size. */
static inline void *room_for(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    *capacity = size_max(64, 2 * *capacity);
    array = realloc(array, *capacity * size);
    ASSERT(array != NULL);
    return array;
}
