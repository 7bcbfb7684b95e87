/* sim: whole clusters of the real programs in one thread on fake time. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "tests/sim/memory.h"
#include "tests/sim/scenario.h"

#define JOBS_MAX 64u
#define RUN_SECONDS_MOST 120u /* of CPU; a run takes milliseconds; sanitizers and slow machines are allowed for */
#define WALL_TIMES_MOST 10u   /* as much longer by the clock, for a machine that has other things to do */
#define TWICE_EVERY 16u       /* each so many-th run is done twice: same seed, same run */

static const char help[] =
    "usage: sim [--scenario NAME]... [--seed N | --seeds FROM-TO] [--jobs N] [--trace] [--list] [--kept FILE]\n"
    "\n"
    "Runs clusters of tailrace-lb and tailrace-sampler on fake time; all that happens follows from scenario and seed.\n"
    "\n"
    "  --scenario NAME   this one only (default: all)\n"
    "  --seed N          this seed only\n"
    "  --seeds FROM-TO   these seeds (default 1-20); of scenarios that take long, some of them\n"
    "  --kept FILE       first the scenarios and seeds of that file: SCENARIO SEED WHY on each line\n"
    "  --jobs N          processes at once (default 1)\n"
    "  --trace           tells the story of each run\n"
    "  --list            the scenarios\n";

struct item {
    const struct scenario *scenario;
    uint64_t seed;
};

struct shared { /* between the processes */
    _Atomic uint64_t latest_ns; /* of decisions */
    _Atomic uint64_t done, failed, explained, steps, acked, exported;
    _Atomic uint64_t at[JOBS_MAX]; /* the item that each works on */
};

struct plan {
    struct item *items;
    size_t count, capacity;
    bool trace;
    unsigned jobs;
};

static struct shared *shared;

static void plan_add(struct plan *plan, const struct scenario *scenario, uint64_t seed)
{
    if (plan->count == plan->capacity) {
        plan->capacity = plan->capacity ? 2 * plan->capacity : 256;
        plan->items = sim_realloc(plan->items, plan->capacity * sizeof(plan->items[0]));
    }
    plan->items[plan->count++] = (struct item){scenario, seed};
}

static void say_failed(const struct item *item, const char *what)
{
    printf("FAILED %s seed %llu: sim --scenario %s --seed %llu --trace\n%s", item->scenario->name, (unsigned long long)item->seed,
        item->scenario->name, (unsigned long long)item->seed, what);
    (void)fflush(stdout);
}

/* -- runs -------------------------------------------------------------------------------------------------------------------------- */

static void run_item(const struct plan *plan, size_t index)
{
    const struct item *item = &plan->items[index];
    struct run_result result, again;

    scenario_run(item->scenario, item->seed, plan->trace, &result);
    if (!result.failed && (index % TWICE_EVERY == 0 || plan->count == 1)) {
        scenario_run(item->scenario, item->seed, false, &again);
        if (again.digest != result.digest) {
            result.failed = true;
            (void)snprintf(result.failure, sizeof(result.failure), "    the same seed gave two different runs: %016llx, %016llx\n",
                (unsigned long long)result.digest, (unsigned long long)again.digest);
        }
    }
    if (result.failed) {
        say_failed(item, result.failure);
        atomic_fetch_add(&shared->failed, 1);
    }
    atomic_fetch_add(&shared->done, 1);
    atomic_fetch_add(&shared->explained, result.explained);
    atomic_fetch_add(&shared->steps, result.steps);
    atomic_fetch_add(&shared->acked, result.acked);
    if (result.latest_ns > atomic_load(&shared->latest_ns)) /* about: it is shown only */
        atomic_store(&shared->latest_ns, result.latest_ns);
    atomic_fetch_add(&shared->exported, result.exported);
    if (plan->trace)
        printf("digest %016llx, %llu events, %llu spans acknowledged, %llu exported\n", (unsigned long long)result.digest,
            (unsigned long long)result.steps, (unsigned long long)result.acked, (unsigned long long)result.exported);
}

/* A run only computes: what it takes is CPU. The alarm ends one that waits for what never comes. */
static void hang_bound(unsigned seconds)
{
    const struct itimerval cpu = {.it_value = {.tv_sec = (time_t)seconds}};

    ASSERT(setitimer(ITIMER_PROF, &cpu, NULL) == 0);
    (void)alarm(WALL_TIMES_MOST * seconds);
}

static bool is_hang(int number)
{
    return number == SIGPROF || number == SIGALRM;
}

static void child_run(const struct plan *plan, unsigned job, size_t from)
{
    for (size_t i = from; i < plan->count; i++) {
        if (i % plan->jobs != job)
            continue;
        atomic_store(&shared->at[job], i);
        hang_bound(RUN_SECONDS_MOST * (plan->items[i].scenario->every > 0 ? 5 : 1));
        run_item(plan, i);
    }
}

static pid_t child_start(const struct plan *plan, unsigned job, size_t from)
{
    pid_t pid;

    (void)fflush(stdout);
    pid = fork();
    if (pid != 0)
        return pid;
    child_run(plan, job, from);
    (void)fflush(stdout);
    exit(0);
}

static double seconds_now(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void progress(const struct plan *plan, double began)
{
    double took = seconds_now() - began;
    uint64_t done = atomic_load(&shared->done);

    printf("%llu of %zu runs, %llu failed, %.0f s, %.1f ms a run\n", (unsigned long long)done, plan->count,
        (unsigned long long)atomic_load(&shared->failed), took, done ? took * 1000 * plan->jobs / (double)done : 0);
    (void)fflush(stdout);
}

/* One ended. If it died in a run, that run has failed and the next ones go on. */
static pid_t child_ended(const struct plan *plan, unsigned job, int status)
{
    size_t at = atomic_load(&shared->at[job]);
    char why[200];

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        (void)snprintf(why, sizeof(why), "    the run died: %s\n", is_hang(WTERMSIG(status)) ? "it hung" : strsignal(WTERMSIG(status)));
    else
        (void)snprintf(why, sizeof(why), "    the run died with exit status %d\n", WEXITSTATUS(status));
    say_failed(&plan->items[at], why);
    atomic_fetch_add(&shared->failed, 1);
    atomic_fetch_add(&shared->done, 1);
    return child_start(plan, job, at + 1);
}

static void run_all(const struct plan *plan)
{
    pid_t pids[JOBS_MAX] = {0};
    double began = seconds_now(), said = began;
    unsigned running = plan->jobs;

    for (unsigned job = 0; job < plan->jobs; job++)
        pids[job] = child_start(plan, job, 0);
    while (running > 0) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);

        if (pid <= 0) {
            (void)usleep(50000);
            if (seconds_now() - said > 15) {
                said = seconds_now();
                progress(plan, began);
            }
            continue;
        }
        for (unsigned job = 0; job < plan->jobs; job++) {
            if (pids[job] != pid)
                continue;
            pids[job] = child_ended(plan, job, status);
            running -= pids[job] == 0;
        }
    }
    progress(plan, began);
}

/* -- the command line ---------------------------------------------------------------------------------------------------------------- */

static int bad(const char *what, const char *value)
{
    fprintf(stderr, "sim: %s%s\n%s", what, value, help);
    return 2;
}

static bool read_number(const char *text, const char **out_end, uint64_t *out_number)
{
    char *end;

    errno = 0;
    *out_number = strtoull(text, &end, 10);
    *out_end = end;
    return end != text && errno == 0;
}

/* Lines "SCENARIO SEED WHY"; # begins a comment. */
static bool read_kept(struct plan *plan, const char *path)
{
    FILE *file = fopen(path, "re");
    char line[500], name[100];
    unsigned long long seed;

    if (!file)
        return false;
    while (fgets(line, sizeof(line), file)) {
        const struct scenario *scenario;

        if (line[0] == '#' || line[0] == '\n')
            continue;
        scenario = sscanf(line, "%99s %llu", name, &seed) == 2 ? scenario_find(name) : NULL;
        if (!scenario) {
            fprintf(stderr, "sim: %s: not SCENARIO SEED WHY: %s", path, line);
            (void)fclose(file);
            return false;
        }
        plan_add(plan, scenario, seed);
    }
    (void)fclose(file);
    return true;
}

static void list(void)
{
    for (size_t i = 0; i < scenario_count; i++)
        printf("%-24s %s\n", scenarios[i].name, scenarios[i].about);
}

struct choice {
    const struct scenario *only[32];
    size_t only_count;
    uint64_t from, to;
    const char *kept;
};

/* 0: go on; else the exit status plus one. */
static int read_arguments(int argc, char **argv, struct plan *plan, struct choice *choice)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "", *end;
        uint64_t number;

        if (strcmp(name, "--help") == 0 || strcmp(name, "--list") == 0) {
            if (name[2] == 'h')
                fputs(help, stdout);
            else
                list();
            return 1;
        }
        if (strcmp(name, "--trace") == 0) {
            plan->trace = true;
            continue;
        }
        i++;
        if (strcmp(name, "--scenario") == 0 && scenario_find(value) && choice->only_count < ARRAY_COUNT(choice->only)) {
            choice->only[choice->only_count++] = scenario_find(value);
        } else if (strcmp(name, "--seed") == 0 && read_number(value, &end, &number) && *end == '\0') {
            choice->from = choice->to = number;
        } else if (strcmp(name, "--seeds") == 0 && read_number(value, &end, &choice->from) && *end == '-' &&
            read_number(end + 1, &end, &choice->to) && *end == '\0' && choice->to >= choice->from) {
            continue;
        } else if (strcmp(name, "--jobs") == 0 && read_number(value, &end, &number) && *end == '\0' && number >= 1 && number <= JOBS_MAX) {
            plan->jobs = (unsigned)number;
        } else if (strcmp(name, "--kept") == 0 && value[0]) {
            choice->kept = value;
        } else {
            return bad(name, " is unknown, or its value is") + 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct plan plan = {.jobs = 1};
    struct choice choice = {.from = 1, .to = 20};
    int r = read_arguments(argc, argv, &plan, &choice);

    if (r > 0)
        return r - 1;
    if (choice.kept && !read_kept(&plan, choice.kept)) {
        fprintf(stderr, "sim: %s cannot be read\n", choice.kept);
        return 2;
    }
    for (uint64_t seed = choice.from; seed <= choice.to; seed++) {
        for (size_t i = 0; i < choice.only_count; i++)
            plan_add(&plan, choice.only[i], seed);
        for (size_t i = 0; choice.only_count == 0 && i < scenario_count; i++)
            if (scenarios[i].every == 0 || seed % scenarios[i].every == 1)
                plan_add(&plan, &scenarios[i], seed);
    }
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(shared != MAP_FAILED);
    run_all(&plan);
    printf("%llu spans acknowledged, %llu exported; %llu broken promises were caused and so allowed; latest decision %llu ms late; %llu events\n",
        (unsigned long long)atomic_load(&shared->acked), (unsigned long long)atomic_load(&shared->exported),
        (unsigned long long)atomic_load(&shared->explained),
        (unsigned long long)(atomic_load(&shared->latest_ns) / 1000000), (unsigned long long)atomic_load(&shared->steps));
    printf("sim: %llu passed, %llu failed, 0 skipped\n", (unsigned long long)(plan.count - atomic_load(&shared->failed)),
        (unsigned long long)atomic_load(&shared->failed));
    sim_free(plan.items);
    return atomic_load(&shared->failed) ? 1 : 0;
}
