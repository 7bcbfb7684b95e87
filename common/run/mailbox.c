/* Posting pushes on a stack with one compare-and-swap; delivering takes the whole stack at once and turns
 * it round. The sleep flag closes the gap between "nothing there" and "asleep": the receiver announces,
 * then looks once more; a poster pushes, then looks at the announcement. */
#include "common/run/mailbox.h"

void mailbox_init(struct mailbox *mailbox)
{
    atomic_init(&mailbox->newest, NULL);
    atomic_init(&mailbox->asleep, false);
}

bool mailbox_post(struct mailbox *mailbox, struct mail *mail)
{
    struct mail *newest = atomic_load_explicit(&mailbox->newest, memory_order_relaxed);

    do
        mail->next = newest;
    while (!atomic_compare_exchange_weak(&mailbox->newest, &newest, mail));

    /* The exchange makes one of many posters the one that wakes. */
    return atomic_load(&mailbox->asleep) && atomic_exchange(&mailbox->asleep, false);
}

size_t mailbox_deliver(struct mailbox *mailbox, void *receiver)
{
    struct mail *mail, *oldest = NULL;
    size_t count = 0;

    if (!atomic_load_explicit(&mailbox->newest, memory_order_relaxed))
        return 0;
    mail = atomic_exchange(&mailbox->newest, NULL);
    while (mail) {
        struct mail *next = mail->next;

        mail->next = oldest;
        oldest = mail;
        mail = next;
    }
    while (oldest) {
        struct mail *next = oldest->next; /* deliver may free it */

        oldest->deliver(oldest, receiver);
        oldest = next;
        count++;
    }
    return count;
}

bool mailbox_sleep(struct mailbox *mailbox)
{
    atomic_store(&mailbox->asleep, true);
    if (!atomic_load(&mailbox->newest))
        return true;
    atomic_store(&mailbox->asleep, false);
    return false;
}

void mailbox_awake(struct mailbox *mailbox)
{
    atomic_store_explicit(&mailbox->asleep, false, memory_order_relaxed);
}
