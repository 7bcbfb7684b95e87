/* /traces/{id} on a sampler, and the same asked by balancers and other samplers. */
#pragma once

#include "common/ingest/receiver.h"
#include "common/metrics/admin_http.h"

/* admin_routes.explain; context: the sampler. The control thread. */
void explain_ask(void *sampler, const struct trace_id *id, struct admin_call *call);
/* Peer method Explain. */
int explain_serve(void *sampler, struct worker *worker, struct slice request, void *call, struct buffer **out_answer);
