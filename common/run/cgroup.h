/* What this process may use: CPUs and memory of its cgroup (v1, v2 or both mounted side by side),
 * of its CPU affinity, and of the machine, whichever is least. Read once, at start.
 *
 * Source  Linux Documentation/admin-guide/cgroup-v2.rst (cpu.max, memory.max); cgroup-v1/memory.rst
 * and scheduler/sched-bwc.rst (cpu.cfs_quota_us, memory.limit_in_bytes)
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct cgroup_limits {
    unsigned cpu_count;    /* whole CPUs, at least 1: a quota of 2.5 gives 2 */
    uint64_t memory_bytes; /* 0: nobody could say */
    bool cpu_by_cgroup;    /* a quota, not the machine, set cpu_count */
    bool memory_by_cgroup;
};

/* Cannot fail: what cannot be read limits nothing. */
void cgroup_limits_read(struct cgroup_limits *out_limits);

/* The same with another root directory ("" for /) and machine, for tests. */
void cgroup_limits_read_at(const char *root, unsigned machine_cpus, uint64_t machine_bytes,
    struct cgroup_limits *out_limits);
