/* Whose memory is whose: what a simulated process allocates is counted as its own, so that kill -9 can be what it is: no code
 * of the process runs, and all it had is gone. It also finds what a clean end left behind.
 *
 * How     the program is linked with --wrap for malloc and its kin, and for mmap: calls from our own objects come here. What a
 *         library allocates for itself is not seen, and is no process's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The owner of what is allocated from now on; 0: the simulator. Returns the one before. */
uint32_t memory_owner(uint32_t owner);
/* How many blocks it has, how many bytes. */
size_t memory_blocks(uint32_t owner, size_t *out_bytes);
/* Frees all of an owner's. */
void memory_drop(uint32_t owner);

/* The simulator's own, whoever is running: zero-filled. */
void *sim_alloc(size_t bytes);
void *sim_realloc(void *at, size_t bytes);
void sim_free(void *at);
