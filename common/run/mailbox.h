/* Messages between threads: an intrusive list that never blocks and never fills.
 *
 * Many post, one takes all. Order per poster is kept. Ownership of a mail moves with it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct mail {
    struct mail *next;
    /* Called on the receiving thread with the receiver's own context (struct worker *, or struct control *). */
    void (*deliver)(struct mail *mail, void *receiver);
};

struct mailbox {
    _Atomic(struct mail *) newest;
    atomic_bool asleep; /* the receiver announced that it sleeps: wake it once */
};

void mailbox_init(struct mailbox *mailbox);
/* Returns true when the caller must wake the receiver. */
bool mailbox_post(struct mailbox *mailbox, struct mail *mail);
/* Delivers everything posted so far, oldest first; returns how many. */
size_t mailbox_deliver(struct mailbox *mailbox, void *receiver);
/* Announces sleep. False: there is mail, do not sleep. mailbox_awake ends it. */
bool mailbox_sleep(struct mailbox *mailbox);
void mailbox_awake(struct mailbox *mailbox);
