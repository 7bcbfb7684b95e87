/* Request metadata that is carried from a client to the backend: the few headers that the user allowed by name, such as a
 * tenant's X-Scope-OrgID. Spans of unequal sets never share a request on their way.
 *
 * Shape   immutable, reference-counted; keys in lower case, sorted, values as sent; a key may occur several times.
 * Life    any thread may hold a reference; NULL is the empty set everywhere, so that what carries none pays nothing.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"

#define METADATA_PAIRS_MAX 32u         /* of one set */
#define METADATA_BYTES_MAX (8u * 1024) /* of one set, keys and values */

struct metadata_entry {
    struct slice key, value; /* key in any case; made lower in the set */
};

struct metadata_set {
    atomic_uint refs;
    uint32_t count;
    uint64_t hash; /* of all keys and values; never 0 */
    struct metadata_entry entries[];
};

/* Copies the entries. *out_set: NULL for none of them. 0, METADATA_E_TOO_LARGE or -ENOMEM. */
#define METADATA_E_TOO_LARGE 1
int metadata_set_new(const struct metadata_entry *entries, size_t count, struct metadata_set **out_set);
/* Accept NULL. */
struct metadata_set *metadata_set_ref(const struct metadata_set *set);
void metadata_set_unref(const struct metadata_set *set);
size_t metadata_set_bytes(const struct metadata_set *set); /* of memory; the empty set takes none */
bool metadata_set_equal(const struct metadata_set *a, const struct metadata_set *b);
