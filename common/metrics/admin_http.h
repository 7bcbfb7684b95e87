/* The admin endpoint: GET /livez /readyz /metrics /status /traces/{id}, POST /reload. On the control thread (libevent http). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/metrics/metrics.h"

struct control;
struct admin;
struct admin_call; /* one open request, when the answer comes later */

struct admin_routes { /* how the tier answers; all run on the control thread */
    void *context;
    bool (*ready)(void *context, const char **out_reason); /* false: 503 with the reason */
    void (*metrics)(void *context, struct text *out);      /* Prometheus text */
    void (*status)(void *context, struct text *out);       /* JSON */
    /* Answers with admin_answer, now or later. */
    void (*explain)(void *context, const struct trace_id *id, struct admin_call *call);
    /* NULL: not supported, 501 with the reason. */
    int (*reload)(void *context, struct text *out_message);
};

struct admin_options {
    const char *endpoint;   /* host:port; port 0: any free one */
    const char *token_file; /* NULL: /reload and /traces on loopback only */
};

int admin_new(struct control *control, const struct admin_options *options, const struct admin_routes *routes,
    struct admin **out_admin, char *out_error, size_t error_size);
int admin_port(const struct admin *admin);
/* status: HTTP status; json: copied. Once a call. The client may have gone: the answer is then thrown away. */
void admin_answer(struct admin_call *call, int status, const char *json);
void admin_free(struct admin *admin);
