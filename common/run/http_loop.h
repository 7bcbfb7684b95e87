/* An HTTP thread: one libevent loop and a mailbox, for OTLP/HTTP in (common/ingest/receiver_http) and out
 * (common/export/link_http). It parses, inflates and moves bytes; spans are the workers'.
 *
 * Everything but http_loop_post runs on the loop's own thread, or before http_loop_start.
 */
#pragma once

#include <stdint.h>

#include "common/run/mailbox.h"

#define HTTP_LOOPS_MAX 16u

struct event_base;
struct http_loop;

/* 0, -errno or -ENOMEM. */
int http_loop_new(struct http_loop **out_loop);
int http_loop_start(struct http_loop *loop);
/* Ends after the mail that is there, then joins. What lives on the loop must have ended. Accepts NULL. */
void http_loop_stop(struct http_loop *loop);
/* After the stop: delivers what was posted since, for those whose last word comes so late. */
void http_loop_drain(struct http_loop *loop);
void http_loop_free(struct http_loop *loop);
/* Any thread: deliver(mail, loop) on the loop's thread. */
void http_loop_post(struct http_loop *loop, struct mail *mail);
struct event_base *http_loop_base(struct http_loop *loop);

/* -- all of a tier's ---------------------------------------------------------------------------------------------------------- */

/* tailrace.http_threads: at least one, at most HTTP_LOOPS_MAX. */
static inline unsigned http_loop_count_of(uint64_t asked)
{
    return asked < 1 ? 1 : asked < HTTP_LOOPS_MAX ? (unsigned)asked : HTTP_LOOPS_MAX;
}

/* loops: zero-filled; those made stay there also after a failure. */
int http_loops_new(struct http_loop **loops, unsigned count);
int http_loops_start(struct http_loop *const *loops, unsigned count);
void http_loops_stop(struct http_loop *const *loops, unsigned count);
void http_loops_drain(struct http_loop *const *loops, unsigned count);
void http_loops_free(struct http_loop **loops, unsigned count);
