/* The front tier: takes spans, finds the sampler that owns each span's trace, hands them over. It keeps nothing. */
#pragma once

#include "common/run/config_reload.h"
#include "lb/lb_config.h"

struct lb;

/* Builds everything and listens; traffic begins with lb_run. 0, or -errno with a line in out_error. */
int lb_new(const struct lb_config *config, struct lb **out_lb, char *out_error, size_t error_size);
/* After lb_new: from now on the files are watched, and what can change while it runs does. source: outlives the lb. 0 or a negative. */
int lb_reload_new(struct lb *lb, const struct config_source *source);
/* Serves until SIGTERM and the drain that follows. 0: everything in flight was answered; 1: the drain timed out. */
int lb_run(struct lb *lb);
/* lb_run in its two halves, for who turns the control loop itself: between them is control_run. 0 or -errno; and as lb_run. */
int lb_start(struct lb *lb);
int lb_stop(struct lb *lb);
void lb_free(struct lb *lb);
