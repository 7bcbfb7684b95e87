/* The admin endpoint: GET /livez /readyz /metrics /status /traces/{id}, POST /reload. On the
 * control thread (libevent http), and so are all calls to and from here.
 *
 * Bound   headers 8 KiB, body 4 KiB, 10 s of silence, ADMIN_CALLS_MAX answers that come later
 * Access  /traces and /reload: from loopback only; with a token file: from anywhere, with
 *         "Authorization: Bearer" and the token the file holds at that moment
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/metrics/metrics.h"

#define ADMIN_CALLS_MAX 64 /* people and scripts ask; more at once is a mistake somewhere */

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
    /* False: the process drains, and the health check says 503. NULL: always true. */
    bool (*serving)(void *context);
    /* 0: done, 200. Otherwise 400: the old configuration runs on. out_message: JSON that says
     * what happened. NULL: not supported, 501. */
    int (*reload)(void *context, struct text *out_message);
};

/* A health check as probes written for the Collector ask for it: 200 while the program serves. */
struct admin_health {
    const char *endpoint; /* NULL: none; the admin endpoint itself: answered there, beside the rest */
    const char *path;
    const char *healthy, *unhealthy; /* bodies; NULL: our own */
};

#define ADMIN_METRICS_MAX 4

struct admin_options { /* all texts are copied */
    const char *endpoint;   /* host:port or [address]:port; port 0: any free one. NULL: none */
    const char *token_file; /* NULL: /reload and /traces on loopback only */
    struct admin_health health;
    const char *const *metrics_endpoints; /* where /metrics alone is served */
    size_t metrics_endpoint_count;        /* at most ADMIN_METRICS_MAX */
};

/* Listens when it returns 0. Otherwise -errno, and out_error says what failed, for people. */
int admin_new(struct control *control, const struct admin_options *options,
    const struct admin_routes *routes, struct admin **out_admin, char *out_error,
    size_t error_size);
int admin_port(const struct admin *admin); /* 0: there is no endpoint */
int admin_health_port(const struct admin *admin); /* 0: none of its own */
int admin_metrics_port(const struct admin *admin, size_t index);
/* status: HTTP status; json: copied. Once a call, which is gone then; also after admin_free. The
 * client may have gone: the answer is then thrown away. */
void admin_answer(struct admin_call *call, int status, const char *json);
/* Accepts NULL. Closes every connection; calls not answered yet still take their answer. */
void admin_free(struct admin *admin);
