/* One completion queue a worker. Its tags are struct pump_op; what a completion means is the op's own affair.
 *
 * Waking: gRPC has no public "post a tag", but a batch without operations on any call completes at once on its
 * queue. A call kept for that purpose (to an address nobody dials: no batch ever needs a connection) is the bell.
 * At most one ring is under way, so a burst of mail costs one event. */
#include "common/run/grpc_pump.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "common/security/tls.h"

struct pump {
    grpc_completion_queue *queue;
    grpc_channel *bell_channel;
    grpc_call *bell_call;
    struct pump_op bell;
    atomic_bool bell_rung;
    bool closed;
};

void pump_library_init(void)
{
    /* gRPC reads into 64 KiB blocks; glibc would trim and refault the heap on each burst: page faults were 30 % of a
     * server's CPU at 512 KiB a message. Spans live in extents, so the heap stays small. */
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_TOP_PAD, 16 << 20);
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    /* What it would print on standard error is no line of our log; what matters of it comes as statuses, but for failed handshakes. An
     * operator who debugs the library sets GRPC_VERBOSITY himself. */
    tls_grpc_log_setup();
    grpc_init();
}

void pump_library_deinit(void)
{
    grpc_shutdown_blocking();
}

const char *pump_library_version(void)
{
    return grpc_version_string();
}

static void pump_on_bell(struct pump_op *op, bool ok)
{
    struct pump *pump = container_of(op, struct pump, bell);

    (void)ok;
    atomic_store(&pump->bell_rung, false);
}

int pump_new(struct pump **out_pump)
{
    struct pump *pump = calloc(1, sizeof(*pump));
    grpc_channel_credentials *credentials;

    if (!pump)
        return error_raise(-ENOMEM);
    pump->queue = grpc_completion_queue_create_for_next(NULL);
    credentials = grpc_insecure_credentials_create();
    pump->bell_channel = grpc_channel_create("ipv4:127.0.0.1:1", credentials, NULL);
    grpc_channel_credentials_release(credentials);
    pump->bell_call = grpc_channel_create_call(pump->bell_channel, NULL, 0, pump->queue,
        grpc_slice_from_static_string("/tailrace.Bell/Ring"), NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    pump->bell.done = pump_on_bell;
    *out_pump = pump;
    return 0;
}

void pump_wake(struct pump *pump)
{
    grpc_call_error r;

    if (atomic_exchange(&pump->bell_rung, true))
        return;
    r = grpc_call_start_batch(pump->bell_call, NULL, 0, &pump->bell, NULL);
    ASSERT(r == GRPC_CALL_OK);
}

unsigned pump_wait(struct pump *pump, uint64_t deadline_ns, unsigned most)
{
    gpr_timespec deadline = gpr_time_0(GPR_CLOCK_MONOTONIC);
    unsigned count = 0;

    /* gRPC counts a duration from its own reading of the clock, so the deadline is handed over as one. */
    if (deadline_ns == UINT64_MAX) {
        deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    } else if (deadline_ns > 0) {
        uint64_t wait_ns = u64_sub_floor(deadline_ns, clock_now_ns());

        deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
            gpr_time_from_nanos((int64_t)u64_min(wait_ns, INT64_MAX), GPR_TIMESPAN));
    }
    while (count < most) {
        grpc_event event = grpc_completion_queue_next(pump->queue, deadline, NULL);

        if (event.type != GRPC_OP_COMPLETE)
            break;
        ((struct pump_op *)event.tag)->done(event.tag, event.success != 0);
        deadline = gpr_time_0(GPR_CLOCK_MONOTONIC); /* only the first is waited for */
        count++;
    }
    return count;
}

void pump_close(struct pump *pump)
{
    grpc_event event;

    if (pump->closed)
        return;
    pump->closed = true;
    grpc_call_unref(pump->bell_call);
    grpc_channel_destroy(pump->bell_channel);
    grpc_completion_queue_shutdown(pump->queue);
    do {
        event = grpc_completion_queue_next(pump->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_OP_COMPLETE)
            ((struct pump_op *)event.tag)->done(event.tag, event.success != 0);
    } while (event.type != GRPC_QUEUE_SHUTDOWN);
}

void pump_free(struct pump *pump)
{
    if (!pump)
        return;
    ASSERT(pump->closed);
    grpc_completion_queue_destroy(pump->queue);
    free(pump);
}

void *pump_queue(struct pump *pump)
{
    return pump->queue;
}
