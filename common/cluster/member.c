#include "common/cluster/member.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/base/plant.h"

void member_book_init(struct member_book *book, uint64_t now_ns)
{
    memset(book, 0, sizeof(*book));
    book->started_ns = now_ns;
}

void member_book_deinit(struct member_book *book)
{
    free(book->addresses);
    memset(book, 0, sizeof(*book));
}

static struct member_address *book_find(struct member_book *book, const char *address)
{
    for (size_t i = 0; i < book->count; i++) {
        if (strcmp(book->addresses[i].address, address) == 0)
            return &book->addresses[i];
    }
    return NULL;
}

static struct member_address *book_add(struct member_book *book, const char *address)
{
    struct member_address *entry = book_find(book, ""); /* one that was given back */

    if (!entry && book->count == book->capacity) {
        size_t capacity = size_max(book->capacity * 2, 8);
        struct member_address *more = realloc(book->addresses, capacity * sizeof(*more));

        ASSERT(more != NULL);
        book->addresses = more;
        book->capacity = capacity;
    }
    if (!entry)
        entry = &book->addresses[book->count++];
    memset(entry, 0, sizeof(*entry));
    (void)snprintf(entry->address, sizeof(entry->address), "%s", address);
    return entry;
}

bool member_book_resolved(struct member_book *book, const struct resolved_address *addresses, size_t count)
{
    bool added = false;

    if (count == 0 && !planted(PLANT_EMPTY_ANSWER_ACCEPTED)) {
        member_book_failed(book, "the answer was empty");
        return false;
    }
    for (size_t i = 0; i < book->count; i++)
        book->addresses[i].listed = false;
    for (size_t i = 0; i < count; i++) {
        struct member_address *entry = book_find(book, addresses[i].address);

        if (!entry) {
            entry = book_add(book, addresses[i].address);
            added = true;
        }
        entry->listed = addresses[i].ready;
        (void)snprintf(entry->hint, sizeof(entry->hint), "%s", addresses[i].name);
    }
    return added;
}

void member_book_forget(struct member_book *book, size_t index)
{
    ASSERT(index < book->count && !book->addresses[index].listed);
    memset(&book->addresses[index], 0, sizeof(book->addresses[index]));
    while (book->count > 0 && book->addresses[book->count - 1].address[0] == '\0')
        book->count--;
}

size_t member_book_used(const struct member_book *book)
{
    size_t used = 0;

    for (size_t i = 0; i < book->count; i++)
        used += book->addresses[i].address[0] != '\0';
    return used;
}

size_t member_book_listed(const struct member_book *book)
{
    size_t listed = 0;

    for (size_t i = 0; i < book->count; i++)
        listed += book->addresses[i].listed;
    return listed;
}

void member_book_failed(struct member_book *book, const char *reason)
{
    book->failures++;
    (void)snprintf(book->last_failure, sizeof(book->last_failure), "%s", reason);
}

void member_book_hello(struct member_book *book, size_t index, const char *name, const char *software, unsigned hash_version,
    unsigned state, bool hands_over)
{
    struct member_address *entry = &book->addresses[index];

    ASSERT(index < book->count);
    entry->named = true;
    (void)snprintf(entry->name, sizeof(entry->name), "%s", name[0] ? name : entry->hint[0] ? entry->hint : entry->address);
    (void)snprintf(entry->software, sizeof(entry->software), "%s", software);
    entry->hash_version = hash_version;
    entry->state = state;
    entry->hands_over = hands_over;
    entry->refused = hash_version != RING_HASH_VERSION;
}

bool member_book_ready(const struct member_book *book, uint64_t now_ns)
{
    bool all = true, any = false;

    for (size_t i = 0; i < book->count; i++) {
        if (!book->addresses[i].listed)
            continue;
        all = all && book->addresses[i].named;
        any = any || (book->addresses[i].named && !book->addresses[i].refused);
    }
    if (!any)
        return false;
    return all || book->formed || now_ns - book->started_ns >= MEMBER_HELLO_WAIT_NS;
}

size_t member_book_members(const struct member_book *book, struct ring_member *out_members)
{
    size_t count = 0;

    for (size_t i = 0; i < book->count; i++) {
        const struct member_address *entry = &book->addresses[i];
        size_t k = 0;

        if (!entry->listed || !entry->named || entry->refused)
            continue;
        while (k < count && strcmp(out_members[k].name, entry->name) != 0)
            k++;
        if (k == count)
            out_members[count++] = (struct ring_member){entry->name, entry->state};
    }
    return count;
}
