#include "common/base/metadata.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"

static int entry_compare(const void *a, const void *b)
{
    const struct metadata_entry *left = a, *right = b;
    size_t common = left->key.len < right->key.len ? left->key.len : right->key.len;
    int order = common ? memcmp(left->key.at, right->key.at, common) : 0;

    if (order == 0 && left->key.len != right->key.len)
        order = left->key.len < right->key.len ? -1 : 1;
    if (order == 0) /* equal keys keep their order: they lie one after the other */
        order = left->key.at < right->key.at ? -1 : left->key.at > right->key.at;
    return order;
}

static uint8_t *copy(uint8_t *out, struct slice bytes, struct slice *out_copy)
{
    if (bytes.len > 0)
        memcpy(out, bytes.at, bytes.len);
    *out_copy = slice_make(out, bytes.len);
    return out + bytes.len;
}

static void make_lower(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] >= 'A' && bytes[i] <= 'Z')
            bytes[i] = (uint8_t)(bytes[i] - 'A' + 'a');
}

int metadata_set_new(const struct metadata_entry *entries, size_t count, struct metadata_set **out_set)
{
    struct metadata_set *set;
    size_t bytes = 0;
    uint8_t *out;

    *out_set = NULL;
    if (count == 0)
        return 0;
    if (count > METADATA_PAIRS_MAX)
        return METADATA_E_TOO_LARGE;
    for (size_t i = 0; i < count; i++)
        bytes += entries[i].key.len + entries[i].value.len;
    if (bytes > METADATA_BYTES_MAX)
        return METADATA_E_TOO_LARGE;
    set = malloc(sizeof(*set) + count * sizeof(set->entries[0]) + bytes);
    if (!set)
        return -ENOMEM;
    atomic_init(&set->refs, 1);
    set->count = (uint32_t)count;
    out = (uint8_t *)&set->entries[count];
    for (size_t i = 0; i < count; i++) {
        uint8_t *key = out;

        out = copy(out, entries[i].key, &set->entries[i].key);
        make_lower(key, entries[i].key.len);
        out = copy(out, entries[i].value, &set->entries[i].value);
    }
    qsort(set->entries, count, sizeof(set->entries[0]), entry_compare);
    set->hash = 1;
    for (size_t i = 0; i < count; i++) {
        uint64_t parts[3] = {set->hash, hash_bytes(set->entries[i].key.at, set->entries[i].key.len),
            hash_bytes(set->entries[i].value.at, set->entries[i].value.len)};

        set->hash = hash_bytes(parts, sizeof(parts));
    }
    if (set->hash == 0)
        set->hash = 1;
    *out_set = set;
    return 0;
}

struct metadata_set *metadata_set_ref(const struct metadata_set *set)
{
    struct metadata_set *own = (struct metadata_set *)(uintptr_t)set;

    if (own)
        atomic_fetch_add_explicit(&own->refs, 1, memory_order_relaxed);
    return own;
}

void metadata_set_unref(const struct metadata_set *set)
{
    struct metadata_set *own = (struct metadata_set *)(uintptr_t)set;

    if (own && atomic_fetch_sub_explicit(&own->refs, 1, memory_order_acq_rel) == 1)
        free(own);
}

size_t metadata_set_bytes(const struct metadata_set *set)
{
    size_t bytes = set ? sizeof(*set) : 0;

    for (uint32_t i = 0; set && i < set->count; i++)
        bytes += sizeof(set->entries[i]) + set->entries[i].key.len + set->entries[i].value.len;
    return bytes;
}

bool metadata_set_equal(const struct metadata_set *a, const struct metadata_set *b)
{
    if (a == b)
        return true;
    if (!a || !b || a->hash != b->hash || a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (!slice_equal(a->entries[i].key, b->entries[i].key) || !slice_equal(a->entries[i].value, b->entries[i].value))
            return false;
    return true;
}
