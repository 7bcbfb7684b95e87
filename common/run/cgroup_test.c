/* The least limit on the way from our cgroup to the root holds, in both cgroup versions and however
 * a container runtime shows them; what is absent or strange limits nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"
#include "common/run/cgroup.h"

#define MACHINE_CPUS  16u
#define MACHINE_BYTES (64ull << 30)

struct control_file {
    const char *path, *content;
};

struct cgroup_case {
    const char *name;
    struct control_file files[12];
    unsigned cpu_count;
    bool cpu_by_cgroup;
    uint64_t memory_bytes;
    bool memory_by_cgroup;
};

#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_CPU_MOUNT                                                                               \
    "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n"
#define V1_MEMORY_MOUNT "32 30 0:28 / /sys/fs/cgroup/memory rw shared:6 - cgroup cgroup rw,memory\n"
#define V1_CPUSET_MOUNT "33 30 0:29 / /sys/fs/cgroup/cpuset rw shared:7 - cgroup cgroup rw,cpuset\n"

static const struct cgroup_case cases[] = {
    {"nothing mounted", {{NULL, NULL}}, 16, false, MACHINE_BYTES, false},
    {"v2 in its own namespace",
        {{"proc/self/cgroup", "0::/\n"}, {"proc/self/mountinfo", V2_MOUNT},
            {"sys/fs/cgroup/cpu.max", "400000 100000\n"},
            {"sys/fs/cgroup/memory.max", "1073741824\n"}},
        4, true, 1ull << 30, true},
    {"v2 without limits",
        {{"proc/self/cgroup", "0::/\n"}, {"proc/self/mountinfo", V2_MOUNT},
            {"sys/fs/cgroup/cpu.max", "max 100000\n"}, {"sys/fs/cgroup/memory.max", "max\n"}},
        16, false, MACHINE_BYTES, false},
    {"a fraction is rounded down",
        {{"proc/self/cgroup", "0::/\n"}, {"proc/self/mountinfo", V2_MOUNT},
            {"sys/fs/cgroup/cpu.max", "299999 100000\n"}},
        2, true, MACHINE_BYTES, false},
    {"less than one CPU is one",
        {{"proc/self/cgroup", "0::/\n"}, {"proc/self/mountinfo", V2_MOUNT},
            {"sys/fs/cgroup/cpu.max", "20000 100000\n"}},
        1, true, MACHINE_BYTES, false},
    {"a quota above the machine's CPUs",
        {{"proc/self/cgroup", "0::/\n"}, {"proc/self/mountinfo", V2_MOUNT},
            {"sys/fs/cgroup/cpu.max", "9900000 100000\n"}},
        16, false, MACHINE_BYTES, false},
    {"v2 limits above ours hold",
        {{"proc/self/cgroup", "0::/pods/pod-1/box\n"}, {"proc/self/mountinfo", V2_MOUNT},
            {"sys/fs/cgroup/pods/cpu.max", "800000 100000\n"},
            {"sys/fs/cgroup/pods/pod-1/cpu.max", "300000 100000\n"},
            {"sys/fs/cgroup/pods/pod-1/box/cpu.max", "max 100000\n"},
            {"sys/fs/cgroup/pods/memory.max", "2147483648\n"},
            {"sys/fs/cgroup/pods/pod-1/memory.max", "max\n"},
            {"sys/fs/cgroup/pods/pod-1/box/memory.max", "3221225472\n"}},
        3, true, 2ull << 30, true},
    {"a sibling with a name that begins alike is not ours",
        {{"proc/self/cgroup", "0::/pods2\n"},
            {"proc/self/mountinfo", "30 23 0:26 /pods /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"},
            {"sys/fs/cgroup/cpu.max", "500000 100000\n"},
            {"sys/fs/cgroup/2/cpu.max", "100000 100000\n"}},
        5, true, MACHINE_BYTES, false},
    {"v1 from the host's root",
        {{"proc/self/cgroup", "5:memory:/a\n4:cpu,cpuacct:/b/c\n3:cpuset:/\n"},
            {"proc/self/mountinfo", V1_CPUSET_MOUNT V1_CPU_MOUNT V1_MEMORY_MOUNT},
            {"sys/fs/cgroup/cpu,cpuacct/b/cpu.cfs_quota_us", "250000\n"},
            {"sys/fs/cgroup/cpu,cpuacct/b/cpu.cfs_period_us", "50000\n"},
            {"sys/fs/cgroup/cpu,cpuacct/b/c/cpu.cfs_quota_us", "-1\n"},
            {"sys/fs/cgroup/cpu,cpuacct/b/c/cpu.cfs_period_us", "100000\n"},
            {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
            {"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "536870912\n"}},
        5, true, 512ull << 20, true},
    {"v1 without limits",
        {{"proc/self/cgroup", "5:memory:/\n4:cpu:/\n"},
            {"proc/self/mountinfo", V1_CPU_MOUNT V1_MEMORY_MOUNT},
            {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"},
            {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"},
            {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"}},
        16, false, MACHINE_BYTES, false},
    {"v1 in a container that sees only its own part",
        {{"proc/self/cgroup", "5:memory:/docker/abc\n0::/docker/abc\n"},
            {"proc/self/mountinfo",
                "32 30 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"},
            {"sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"}},
        16, false, 256ull << 20, true},
    {"both versions: v1 has the controllers",
        {{"proc/self/cgroup", "4:cpu,cpuacct:/\n0::/x\n"},
            {"proc/self/mountinfo",
                "30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" V1_CPU_MOUNT},
            {"sys/fs/cgroup/unified/x/cpu.max", "100000 100000\n"},
            {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "700000\n"},
            {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"}},
        7, true, MACHINE_BYTES, false},
    {"v2 place outside of the namespace",
        {{"proc/self/cgroup", "0::/../../other\n"}, {"proc/self/mountinfo", V2_MOUNT},
            {"sys/fs/cgroup/cpu.max", "600000 100000\n"}, {"other/cpu.max", "100000 100000\n"}},
        6, true, MACHINE_BYTES, false},
    {"a mount point with a blank",
        {{"proc/self/cgroup", "0::/\n"},
            {"proc/self/mountinfo", "30 23 0:26 / /sys/my\\040groups rw - cgroup2 cgroup2 rw\n"},
            {"sys/my groups/cpu.max", "300000 100000\n"}},
        3, true, MACHINE_BYTES, false},
    {"nonsense",
        {{"proc/self/cgroup", "\n:\n0\n0:\n0::/\nx:y:z\n"},
            {"proc/self/mountinfo", "\n1 2 3\n- - - - - - -\n1 2 3 4 5 6 7 8 - cgroup2\n" V2_MOUNT},
            {"sys/fs/cgroup/cpu.max", "100000 0\n"}, {"sys/fs/cgroup/memory.max", "lots\n"}},
        16, false, MACHINE_BYTES, false},
    {"a period is missing",
        {{"proc/self/cgroup", "0::/\n"}, {"proc/self/mountinfo", V2_MOUNT},
            {"sys/fs/cgroup/cpu.max", "100000\n"}, {"sys/fs/cgroup/memory.max", ""}},
        16, false, MACHINE_BYTES, false},
};

static void write_below(const char *root, const struct control_file *file)
{
    char path[PATH_MAX];
    FILE *out;

    assert_true(snprintf(path, sizeof(path), "%s/%s", root, file->path) < (int)sizeof(path));
    for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        (void)mkdir(path, 0700);
        *at = '/';
    }
    out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fputs(file->content, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const struct cgroup_case *c = &cases[i];
        char root[] = "/tmp/cgroup_test.XXXXXX";
        struct cgroup_limits limits;

        assert_non_null(mkdtemp(root));
        for (size_t f = 0; f < ARRAY_COUNT(c->files) && c->files[f].path; f++)
            write_below(root, &c->files[f]);
        cgroup_limits_read_at(root, MACHINE_CPUS, MACHINE_BYTES, &limits);
        (void)nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        if (limits.cpu_count != c->cpu_count || limits.cpu_by_cgroup != c->cpu_by_cgroup ||
            limits.memory_bytes != c->memory_bytes ||
            limits.memory_by_cgroup != c->memory_by_cgroup)
            fail_msg("%s: %u CPUs (cgroup: %d), %llu bytes (cgroup: %d)", c->name, limits.cpu_count,
                limits.cpu_by_cgroup, (unsigned long long)limits.memory_bytes,
                limits.memory_by_cgroup);
    }
}

static void test_unknown_machine(void **state)
{
    struct cgroup_limits limits;

    (void)state;
    cgroup_limits_read_at("/nowhere", 0, 0, &limits);
    assert_int_equal(limits.cpu_count, 1);
    assert_int_equal(limits.memory_bytes, 0);
    assert_false(limits.cpu_by_cgroup || limits.memory_by_cgroup);
}

/* Here, wherever that is: something usable comes out, within the machine. */
static void test_this_process(void **state)
{
    struct cgroup_limits limits;

    (void)state;
    cgroup_limits_read(&limits);
    assert_in_range(limits.cpu_count, 1, (unsigned)sysconf(_SC_NPROCESSORS_CONF));
    assert_true(limits.memory_bytes > MIB);
    assert_true(
        limits.memory_bytes <= (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_unknown_machine),
        cmocka_unit_test(test_this_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
