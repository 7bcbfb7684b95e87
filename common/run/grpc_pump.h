/* Where gRPC's completion queue meets a worker's loop. The one owner of gRPC's life in the process. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pump;

/* What a completion belongs to: embed it, give its address as the tag. */
struct pump_op {
    void (*done)(struct pump_op *op, bool ok);
};

/* Before anything else of gRPC, once: tunes malloc (reference: 64 KiB read blocks) and starts the library. */
void pump_library_init(void);
void pump_library_deinit(void);
/* Version text of the library for --version. */
const char *pump_library_version(void);

int pump_new(struct pump **out_pump);
/* The queue must have been drained (pump_close). */
void pump_free(struct pump *pump);
/* Waits until deadline_ns (monotonic) for the first event, then takes up to `most` that are ready; returns how many. */
unsigned pump_wait(struct pump *pump, uint64_t deadline_ns, unsigned most);
/* Any thread: makes a pump_wait return. At most one wake is under way. */
void pump_wake(struct pump *pump);
/* No new operation may start; runs all that are under way. */
void pump_close(struct pump *pump);
/* grpc_completion_queue *, for receiver_grpc.c and link_grpc.c. */
void *pump_queue(struct pump *pump);
