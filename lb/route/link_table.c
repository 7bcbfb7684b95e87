/* A link is freed when three things have come together: nothing is reserved in its outbox, so no piece is on its way to it
 * or back; no snapshot names it, so no piece can be put to it again; and its worker, told so, has closed the connection. All
 * three are read or heard here, so that no count per piece is needed. */
#include "lb/route/link_table.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

void link_table_init(struct link_table *table, struct member_book *book, void *context,
    struct member_link *(*make)(void *context, unsigned index, const char *address))
{
    memset(table, 0, sizeof(*table));
    table->book = book;
    table->context = context;
    table->make = make;
    table->open = member_link_open;
}

static void slot_open(struct link_table *table, size_t index)
{
    struct link_slot *slot = &table->slots[index];

    slot->link = table->make(table->context, (unsigned)index, table->book->addresses[index].address);
    ASSERT(slot->link != NULL);
    slot->life = LINK_LIFE_OPEN;
    table->count = size_max(table->count, index + 1);
    table->open(slot->link);
}

static void slot_listed(struct link_table *table, size_t index)
{
    struct link_slot *slot = &table->slots[index];

    switch (slot->life) {
    case LINK_LIFE_NONE:
        slot_open(table, index);
        break;
    case LINK_LIFE_OPEN:
        break;
    case LINK_LIFE_LEAVING:
        slot->life = LINK_LIFE_OPEN;
        if (slot->told)
            member_link_leave(slot->link, false);
        break;
    case LINK_LIFE_CLOSING:
        table->book->addresses[index].named = false; /* the new link asks again: until then no ring may count on it */
        break;
    }
}

static void slot_unlisted(struct link_table *table, size_t index)
{
    struct link_slot *slot = &table->slots[index];

    switch (slot->life) {
    case LINK_LIFE_NONE:
        member_book_forget(table->book, index);
        break;
    case LINK_LIFE_OPEN:
        slot->life = LINK_LIFE_LEAVING;
        slot->told = false;
        break; /* it serves on until a ring without it is out */
    case LINK_LIFE_LEAVING:
    case LINK_LIFE_CLOSING:
        break;
    }
}

size_t link_table_resolved(struct link_table *table)
{
    size_t without = 0;

    /* From the end: what is forgotten may shorten the book. */
    for (size_t i = table->book->count; i-- > 0;) {
        if (table->book->addresses[i].listed || table->book->addresses[i].address[0] == '\0')
            continue;
        if (i < LINKS_MAX)
            slot_unlisted(table, i);
        else
            member_book_forget(table->book, i);
    }
    for (size_t i = 0; i < table->book->count; i++) {
        if (!table->book->addresses[i].listed)
            continue;
        if (i < LINKS_MAX)
            slot_listed(table, i);
        else
            without++;
    }
    return without;
}

void link_table_published(struct link_table *table, const struct member_set *set, uint64_t now_ns)
{
    for (size_t i = 0; i < table->count; i++) {
        struct link_slot *slot = &table->slots[i];

        if (slot->life != LINK_LIFE_LEAVING || slot->told || member_set_names(set, slot->link))
            continue;
        slot->told = true;
        slot->left_ns = now_ns;
        member_link_leave(slot->link, true);
    }
}

/* Whether a snapshot names it, or a piece is in its outbox or in the mail to it. */
static bool held(const struct member_link *link)
{
    /* In this order: who reserves has a snapshot. */
    return atomic_load_explicit(&link->sets, memory_order_acquire) != 0 ||
        atomic_load_explicit(&link->outbox.reserved_bytes, memory_order_acquire) != 0;
}

void link_table_tend(struct link_table *table, uint64_t now_ns)
{
    for (size_t i = 0; i < table->count; i++) {
        struct link_slot *slot = &table->slots[i];

        if (slot->life != LINK_LIFE_LEAVING || !slot->told || now_ns - slot->left_ns < LINK_LINGER_NS || held(slot->link))
            continue;
        slot->life = LINK_LIFE_CLOSING;
        member_link_retire(slot->link);
    }
}

static void slot_free(struct link_slot *slot)
{
    if (slot->link)
        member_link_deinit(slot->link);
    free(slot->link);
    *slot = (struct link_slot){0};
}

void link_table_closed(struct link_table *table, unsigned index)
{
    struct link_slot *slot = &table->slots[index];

    if (slot->life != LINK_LIFE_CLOSING)
        return; /* link_table_deinit was first */
    slot_free(slot);
    while (table->count > 0 && table->slots[table->count - 1].life == LINK_LIFE_NONE)
        table->count--;
    if (table->book->addresses[index].listed)
        slot_open(table, index);
    else
        member_book_forget(table->book, index);
}

void link_table_close_all(struct link_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        if (table->slots[i].link)
            member_link_close(table->slots[i].link);
    }
}

void link_table_deinit(struct link_table *table)
{
    for (size_t i = 0; i < table->count; i++)
        slot_free(&table->slots[i]);
    table->count = 0;
}
