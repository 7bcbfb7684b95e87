/* The journal's two threads: one writes, one reads back, so that a slow read holds up no acknowledgement.
 *
 * Each is a loop over its run function (journal.h) that sleeps until it is woken or the returned time has come. The simulator has
 * its own: there, start and wake schedule a run at a simulated time.
 */
#pragma once

struct journal;
struct journal_thread;

/* Starts both, and tells the journal (journal_set_thread). 0 or -errno. */
int journal_thread_start(struct journal *journal, struct journal_thread **out_thread);
/* Ends both after what is queued was served. Nothing may be appended or read afterwards. Accepts NULL. */
void journal_thread_stop(struct journal_thread *thread);
/* Any thread: there is something to do. Cheap when it is awake. */
void journal_thread_wake_writer(struct journal_thread *thread);
void journal_thread_wake_reader(struct journal_thread *thread);
