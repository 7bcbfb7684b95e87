/* The ways out of one sampler: every exporter of the pipeline, each with a queue, retries, counters and a link of its own at
 * every worker.
 *
 *   trace ─▶ fan_out ─▶ exporter otlp/a ─▶ link ══▶ backend
 *                  '──▶ exporter debug  ─▶ link
 *
 * struct backends is the process's: what is configured, and the sum of all workers for who asks. struct worker_backends is
 * one worker's, and no other thread's.
 *
 * Reload  an exporter whose configuration changes keeps its queue, its requests and its counters, and goes on over a new link:
 *         what waits goes where the new configuration says. Calls under way end on the old link; what fails of them is
 *         repeated on the new one. So nothing is lost, nothing is sent twice, and nothing waits for a backend that was replaced
 *         because it never answers. Which exporters there are stays as it was at the start.
 */
#pragma once

#include "common/config/otlp_config.h"
#include "common/export/fan_out.h"
#include "common/metrics/text.h"

struct worker;
struct backends;
struct worker_backends;
struct http_loop;
struct security;
struct sampler_settings;

struct backends_options { /* borrowed until backends_free, but for this struct itself */
    struct sampler_settings *settings; /* in force at the start; its tls and auth are filled in */
    unsigned workers;               /* how many there will be */
    bool keeps_units;               /* units can be withdrawn (exporter.h): span bytes stay until they are settled */
    struct http_loop *const *loops; /* for OTLP/HTTP; not running yet */
    unsigned loop_count;
    struct security *security;      /* makes and keeps TLS and credentials */
};

/* 0, or a negative; then with a line in out_error where there is something to say to the user. */
int backends_new(const struct backends_options *options, struct backends **out_backends, char *out_error, size_t error_size);
/* A new configuration of the same exporters: what security makes of it goes into settings->tls and auth, kept from before where
 * renew says no. 0, or a negative with a line in out_error. The control thread. */
int backends_secure(struct backends *backends, struct sampler_settings *settings, const struct sampler_settings *before, const bool *renew,
    char *out_error, size_t error_size);
/* It is in force: shown from now on, and what security no longer needs is let go. The control thread. */
void backends_adopt(struct backends *backends, const struct sampler_settings *settings, const struct sampler_settings *before);
/* After all workers' parts. Accepts NULL. */
void backends_free(struct backends *backends);

/* owner: of the units. On the worker's thread, or before it starts. */
int worker_backends_new(struct backends *backends, struct sampler_settings *settings, struct worker *worker,
    const struct exporter_owner *owner, struct worker_backends **out_mine);
/* Takes over what settings->versions says is new. An exporter for which there is no memory stays as it was: false, logged. */
bool worker_backends_adopt(struct worker_backends *mine, struct sampler_settings *settings);
/* delivered: exporters that have it already, a bit each. */
void worker_backends_take(struct worker_backends *mine, struct export_unit *unit, uint8_t delivered, uint64_t now_ns);
/* For withdrawing (fan_out.h). */
struct fan_out *worker_backends_fan(struct worker_backends *mine);
/* Bits among nodes: an exporter's ID, NULL past the last; and the bit of an ID, 0: it has none here. */
const char *worker_backends_name(const struct worker_backends *mine, size_t index);
uint8_t worker_backends_bit(const struct worker_backends *mine, struct slice name);
/* Once a turn: sends what is due, logs what went wrong once a period, shows the numbers. Returns when it wants to run again. */
uint64_t worker_backends_run(struct worker_backends *mine, uint64_t now_ns);
/* Draining: no batch waits to become full. */
void worker_backends_hurry(struct worker_backends *mine);
uint64_t worker_backends_units(const struct worker_backends *mine); /* not settled by every exporter */
uint64_t worker_backends_spans(const struct worker_backends *mine); /* of these */
uint64_t worker_backends_bytes(const struct worker_backends *mine); /* on the heap, beside the traces' blocks */
/* What is not delivered is settled as EXPORT_STOPPED; calls under way are cancelled: they end in mail to the HTTP threads and
 * back. Accepts NULL. */
void worker_backends_stop(struct worker_backends *mine);
void worker_backends_free(struct worker_backends *mine); /* accepts NULL */

/* Any thread: families with a label exporter=ID, and a JSON list of the exporters. */
void backends_metrics(struct backends *backends, struct text *out);
void backends_status(struct backends *backends, struct text *out);
