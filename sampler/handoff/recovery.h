/* What the journal holds comes back at start: verdicts and hashes first, then spans, as recovered.
 *
 * Order   verdict log, then data log. Deadlines go on: age = now - journaled time of day, not below 0; what is overdue is due.
 *         Traces are judged by the policy set of today. Nothing is decided or exported before its slot is settled.
 * Where   the first worker reads, a bounded step a turn, and shares out to the others as it does with a request.
 * Trouble a record that cannot be read was left out and counted by the journal; a span that cannot, is counted here.
 */
#pragma once

struct mail;
struct sampler;

/* Any thread, once, after the workers were made; the journal is open and not recovered yet. done: posted to the control thread
 * when every worker has taken in what was its. The journal may be appended to at any time. */
void recovery_start(struct sampler *sampler, struct mail *done);
