/* The hashes of one large trace's spans: was this one here before?
 *
 * Shape   like hash_index.h, a set and without removal, its segments being blocks of the worker's extent
 *         store: they count in the memory budget. About 15 bytes a hash.
 * Cost    a find is one or two cache lines, with a million hashes as with a hundred.
 * Owner   one worker.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/extent.h"

struct hash_set;

/* NULL: no memory. */
struct hash_set *hash_set_new(struct extent_store *store);
/* Accepts NULL. */
void hash_set_free(struct hash_set *set);
bool hash_set_has(const struct hash_set *set, uint64_t hash);
/* hash: not there yet. False: no memory, nothing changed. */
bool hash_set_add(struct hash_set *set, uint64_t hash);
uint64_t hash_set_count(const struct hash_set *set);
