/* tailrace-sampler --drain-journal: an orphan volume's traces and verdicts go to the cluster (docs/drain-journal.md).
 *
 * It is a sampler that only gives: it reads the journal, joins as draining, owns and decides nothing, and leaves when nothing is
 * left. What it has given it forgets, in the journal too, so that it can be stopped and started again.
 */
#pragma once

#include <stdbool.h>

struct program;

extern const char drain_journal_help[];
bool drain_journal_is_asked(int argc, char **argv);
/* program: the sampler's, its configuration is then made from the words instead of files. An exit code. */
int drain_journal_main(const struct program *program, int argc, char **argv);
