/* A limit may stand on any cgroup from ours up to the root, and the least one holds, so each
 * controller is followed upwards from our own directory to where its hierarchy is mounted. Where
 * that is depends on what the container runtime mounted:
 *
 *   /proc/self/cgroup      "4:memory:/a/b" (v1) or "0::/a/b" (v2): our place in a hierarchy
 *   /proc/self/mountinfo   which part of a hierarchy is visible (root) and where (mount point)
 *
 * Without a cgroup namespace a container sees only its own part (root is /a/b, mounted at
 * /sys/fs/cgroup/memory) while its place is given from the host's root; root is then taken off the
 * place.
 */
#include "common/run/cgroup.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/num.h"

struct hierarchy {
    bool v2, found;
    char place[PATH_MAX]; /* ours, from the hierarchy's root */
    char root[PATH_MAX];  /* the part that is mounted */
    char mount[PATH_MAX]; /* where */
};

/* Whether a comma-separated list has the word. */
static bool list_has(const char *list, const char *word)
{
    size_t len = strlen(word);

    while (list) {
        if (strncmp(list, word, len) == 0 && (list[len] == ',' || list[len] == '\0'))
            return true;
        list = strchr(list, ',');
        if (list)
            list++;
    }
    return false;
}

static FILE *open_below(const char *root, const char *path)
{
    char full[2 * PATH_MAX];

    if (snprintf(full, sizeof(full), "%s%s", root, path) >= (int)sizeof(full))
        return NULL;
    return fopen(full, "re");
}

/* Our place in the v1 hierarchy of the controller, or else in the v2 one. */
static bool find_place(const char *root, const char *controller, struct hierarchy *out)
{
    FILE *file = open_below(root, "/proc/self/cgroup");
    char *line = NULL;
    size_t size = 0;
    bool found = false;

    if (!file)
        return false;
    while (getline(&line, &size, file) > 0) {
        char *rest = line, *controllers, *place;

        line[strcspn(line, "\n")] = '\0';
        (void)strsep(&rest, ":");
        controllers = strsep(&rest, ":");
        place = rest;
        if (!controllers || !place || strlen(place) >= sizeof(out->place))
            continue;
        if (controllers[0] == '\0' ? found : !list_has(controllers, controller))
            continue;
        out->v2 = controllers[0] == '\0';
        strcpy(out->place, place);
        found = true;
        if (!out->v2)
            break; /* a controller lives in one hierarchy: v1 it is */
    }
    free(line);
    fclose(file);
    return found;
}

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *text)
{
    char *to = text;

    for (const char *at = text; *at; to++) {
        if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' &&
            at[3] >= '0' && at[3] <= '7') {
            *to = (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0'));
            at += 4;
        } else {
            *to = *at++;
        }
    }
    *to = '\0';
}

/* id parent major:minor root mount-point options [optional]... - type source super-options */
static bool find_mount(const char *root, const char *controller, struct hierarchy *out)
{
    FILE *file = open_below(root, "/proc/self/mountinfo");
    char *line = NULL;
    size_t size = 0;
    bool found = false;

    if (!file)
        return false;
    while (!found && getline(&line, &size, file) > 0) {
        char *rest = line, *part = NULL, *mount_root, *mount, *type, *super;

        line[strcspn(line, "\n")] = '\0';
        for (int i = 0; i < 3; i++)
            (void)strsep(&rest, " ");
        mount_root = strsep(&rest, " ");
        mount = strsep(&rest, " ");
        while (rest && (part = strsep(&rest, " ")) && strcmp(part, "-") != 0)
            ;
        type = strsep(&rest, " ");
        (void)strsep(&rest, " ");
        super = rest;
        if (!mount_root || !mount || !type || !super)
            continue;
        if (strcmp(type, out->v2 ? "cgroup2" : "cgroup") != 0)
            continue;
        if (!out->v2 && !list_has(super, controller))
            continue;
        unescape(mount_root);
        unescape(mount);
        if (strlen(mount_root) >= sizeof(out->root) || strlen(mount) >= sizeof(out->mount))
            continue;
        strcpy(out->root, mount_root);
        strcpy(out->mount, mount);
        found = true;
    }
    free(line);
    fclose(file);
    return found;
}

/* Our place as seen below the mount point; outside of what is mounted, the mount point itself. */
static const char *visible_place(const struct hierarchy *h)
{
    size_t len = strcmp(h->root, "/") == 0 ? 0 : strlen(h->root);

    if (strncmp(h->place, h->root, len) == 0 && (h->place[len] == '/' || h->place[len] == '\0') &&
        strncmp(h->place, "/..", 3) != 0)
        return h->place + len;
    return "";
}

/* One line of a control file. */
static bool read_line(const char *directory, const char *name, char *line, int size)
{
    char path[3 * PATH_MAX];
    FILE *file;
    bool got;

    if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
        return false;
    file = fopen(path, "re");
    if (!file)
        return false;
    got = fgets(line, size, file) != NULL;
    fclose(file);
    return got;
}

static bool parse_number(const char **at, uint64_t *out_number)
{
    char *end;

    while (**at == ' ')
        (*at)++;
    if (!isdigit((unsigned char)**at))
        return false; /* "max", "-1" */
    *out_number = strtoull(*at, &end, 10);
    *at = end;
    return true;
}

/* Whole CPUs by the quota of one directory, UINT64_MAX for no quota. */
static uint64_t directory_cpus(const char *directory, bool v2)
{
    uint64_t quota, period;
    char line[128];
    const char *at = line;

    if (!read_line(directory, v2 ? "cpu.max" : "cpu.cfs_quota_us", line, sizeof(line)) ||
        !parse_number(&at, &quota))
        return UINT64_MAX;
    if (!v2) {
        if (!read_line(directory, "cpu.cfs_period_us", line, sizeof(line)))
            return UINT64_MAX;
        at = line;
    }
    if (!parse_number(&at, &period) || period == 0)
        return UINT64_MAX;
    return quota / period;
}

/* v1 says "no limit" with a number near 2^63, which the machine's memory then undercuts. */
static uint64_t directory_bytes(const char *directory, bool v2)
{
    uint64_t bytes;
    char line[128];
    const char *at = line;

    if (!read_line(directory, v2 ? "memory.max" : "memory.limit_in_bytes", line, sizeof(line)) ||
        !parse_number(&at, &bytes))
        return UINT64_MAX;
    return bytes;
}

/* The least limit from our directory up to the mount point. */
static uint64_t least_limit(const char *root, const char *controller,
    uint64_t (*directory_limit)(const char *directory, bool v2))
{
    struct hierarchy *h = calloc(1, sizeof(*h));
    char *directory = malloc(3 * PATH_MAX);
    uint64_t least = UINT64_MAX;
    size_t base_len;

    if (!h || !directory || !find_place(root, controller, h) || !find_mount(root, controller, h))
        goto out;
    base_len = strlen(root) + strlen(h->mount);
    (void)snprintf(directory, 3 * PATH_MAX, "%s%s%s", root, h->mount, visible_place(h));
    for (;;) {
        char *last;

        least = u64_min(least, directory_limit(directory, h->v2));
        last = strrchr(directory, '/');
        if (!last || (size_t)(last - directory) < base_len)
            break;
        *last = '\0';
    }
out:
    free(directory);
    free(h);
    return least;
}

void cgroup_limits_read_at(const char *root, unsigned machine_cpus, uint64_t machine_bytes,
    struct cgroup_limits *out_limits)
{
    uint64_t cpus = least_limit(root, "cpu", directory_cpus);
    uint64_t bytes = least_limit(root, "memory", directory_bytes);

    if (machine_cpus == 0)
        machine_cpus = 1;
    out_limits->cpu_by_cgroup = cpus < machine_cpus;
    out_limits->cpu_count = out_limits->cpu_by_cgroup ? (unsigned)u64_max(cpus, 1) : machine_cpus;
    out_limits->memory_by_cgroup =
        bytes < UINT64_MAX && (machine_bytes == 0 || bytes < machine_bytes);
    out_limits->memory_bytes = out_limits->memory_by_cgroup ? bytes : machine_bytes;
}

void cgroup_limits_read(struct cgroup_limits *out_limits)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned cpus = online > 0 ? (unsigned)online : 1;
    uint64_t bytes = 0;
    cpu_set_t set;

    /* Affinity is what cpuset leaves us, too. It fails on machines with more CPUs than cpu_set_t
     * holds. */
    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
        cpus = (unsigned)CPU_COUNT(&set);
    if (pages > 0 && page_bytes > 0)
        bytes = (uint64_t)pages * (uint64_t)page_bytes;
    cgroup_limits_read_at("", cpus, bytes, out_limits);
}
