/* Intrusive doubly linked list with a head. A node not in a list has next == NULL. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/base/cleanup.h"

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

static inline bool list_linked(const struct list *node)
{
    return node->next != NULL;
}

static inline void list_add_before(struct list *where, struct list *node)
{
    node->prev = where->prev;
    node->next = where;
    where->prev->next = node;
    where->prev = node;
}

static inline void list_add_tail(struct list *head, struct list *node)
{
    list_add_before(head, node);
}

static inline void list_add_head(struct list *head, struct list *node)
{
    list_add_before(head->next, node);
}

static inline void list_del(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = node->prev = NULL;
}

static inline struct list *list_first(const struct list *head)
{
    return head->next == head ? NULL : head->next;
}

/* Takes the first node out; NULL when empty. */
static inline struct list *list_take_first(struct list *head)
{
    struct list *node = list_first(head);

    if (node)
        list_del(node);
    return node;
}

/* Moves all nodes of `from` to the tail of `to`. */
static inline void list_splice_tail(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    from->prev->next = to;
    to->prev->next = from->next;
    to->prev = from->prev;
    list_init(from);
}

#define LIST_FOR_EACH(node, head)                                                                  \
    for (struct list *node = (head)->next; node != (head); node = node->next)

#define LIST_FOR_EACH_SAFE(node, following, head)                                                  \
    for (struct list *node = (head)->next, *following = node->next; node != (head);                \
         node = following, following = node->next)
