/* What a turn is, whoever runs the loop: worker.c's thread, or a test's own in its place. */
#include "common/base/num.h"
#include "common/run/worker.h"

void worker_hook(struct worker *worker, struct turn_hook *hook)
{
    list_add_tail(&worker->hooks, &hook->node);
}

uint64_t worker_turn(struct worker *worker, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;

    worker->now_ns = now_ns;
    (void)mailbox_deliver(&worker->mailbox, worker);
    LIST_FOR_EACH_SAFE(node, following, &worker->hooks) {
        struct turn_hook *hook = container_of(node, struct turn_hook, node);

        next_ns = u64_min(next_ns, hook->run(hook, now_ns));
    }
    return next_ns;
}
