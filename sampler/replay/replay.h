/* `tailrace-sampler --replay`: what a policy set would decide about recorded traces, offline. docs/replay.md is its manual. */
#pragma once

#include <stdbool.h>

/* Whether the command line asks for it. */
bool replay_is_asked(int argc, char **argv);
/* All of it: an exit code. 1: the command line or a configuration is wrong; 2: a file is. */
int replay_main(int argc, char **argv);

/* What the sampler's --help adds to its own options. */
extern const char replay_help[];
