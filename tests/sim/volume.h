/* Volumes: what is on a node's disk. They outlive processes, unless they are lost with the machine.
 *
 * Model   what was written is there for the next process. What was not synced when the machine died may be there, gone, or torn, a
 *         write at a time; so are names of files made or removed. The head is replaced whole or not at all.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct node;
struct volume;

struct volume_faults {
    unsigned write_per_mille, sync_per_mille, read_per_mille; /* EIO */
    bool full;                                                /* no new file */
    uint64_t slow_ns;                                         /* added to each turn of the writer and of the reader */
    void (*die_in_write)(void *node, uint64_t zero);          /* the next write is torn, and this is called: once */
};

struct volume *volume_new(void);
void volume_free(struct volume *volume); /* accepts NULL */
struct volume_faults *volume_faults(struct volume *volume);
/* Its process was killed. */
void volume_process_died(struct volume *volume);
void volume_machine_died(struct volume *volume);
/* Bytes rot: some near the last write are changed. False: there was nothing to damage. */
bool volume_damage(struct volume *volume);
