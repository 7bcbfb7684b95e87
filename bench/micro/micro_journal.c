/* What the journal costs and carries, on a real directory: records and MB a second taken in, from several threads with the writer beside
 * them, and MB a second read back after a restart.
 *
 *   micro_journal DIRECTORY [--threads N] [--record-bytes N] [--total-mib N] [--sync none|interval|always] [--cold yes|no]
 *
 * Each thread has a bounded number of records under way, as workers do. The recovery is timed with what the kernel still has
 * in memory and, with --cold yes (root; it slows the whole machine for a while), from the disk. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "sampler/journal/journal.h"
#include "sampler/journal/journal_recovery.h"
#include "sampler/journal/journal_thread.h"

#define UNDER_WAY 256u /* records of one thread */

struct setup {
    const char *directory;
    unsigned threads;
    size_t record_bytes;
    uint64_t total_bytes;
    enum journal_sync sync;
    bool cold;
};

struct appender {
    struct journal *journal;
    const struct setup *setup;
    uint64_t records;
    pthread_t thread;
    sem_t room;
    atomic_uint errors;
    struct bench_record {
        struct journal_write write;
        struct appender *appender;
        atomic_bool busy;
    } ring[UNDER_WAY];
    uint8_t *bytes;
};

static void die(const char *what, int error)
{
    (void)fprintf(stderr, "micro_journal: %s: %s\n", what, error > 0 ? "refused" : strerror(-error));
    exit(1);
}

static struct journal_now now_of(void)
{
    return (struct journal_now){clock_now_ns(), clock_now_unix_ns()};
}

static struct journal *open_journal(const struct setup *setup)
{
    struct journal_options options = {.directory = setup->directory,
        .sync = setup->sync,
        .sync_interval_ns = NS_PER_S,
        .segment_bytes = 64 * MIB,
        .max_bytes = u64_max(setup->total_bytes * 2, 512 * MIB),
        .verdict_keep_ns = 70 * NS_PER_S,
        .clean_age_ns = 3600 * NS_PER_S,
        .new_id = clock_now_unix_ns()};
    struct journal *journal = NULL;
    char error[256] = "";

    if (journal_open(&options, now_of(), &journal, error, sizeof(error))) {
        (void)fprintf(stderr, "micro_journal: %s\n", error);
        exit(1);
    }
    return journal;
}

/* -- appending ---------------------------------------------------------------------------------------------------------- */

static void on_done(struct journal_write *write)
{
    struct bench_record *record = container_of(write, struct bench_record, write);
    struct appender *appender = record->appender;

    if (write->error)
        atomic_fetch_add(&appender->errors, 1);
    atomic_store(&record->busy, false);
    (void)sem_post(&appender->room);
}

static void *append_all(void *argument)
{
    struct appender *appender = argument;
    unsigned next = 0;

    for (uint64_t i = 0; i < appender->records; i++) {
        struct bench_record *record;
        int r;

        while (sem_wait(&appender->room) < 0 && errno == EINTR)
            ;
        while (atomic_load(&appender->ring[next].busy)) /* done out of turn */
            next = (next + 1) % UNDER_WAY;
        record = &appender->ring[next];
        atomic_store(&record->busy, true);
        record->appender = appender;
        record->write = (struct journal_write){.done = on_done,
            .kind = JOURNAL_REQUEST,
            .hold_bytes = (uint32_t)appender->setup->record_bytes,
            .body = slice_make(appender->bytes, appender->setup->record_bytes)};
        r = journal_append(appender->journal, &record->write);
        if (r)
            die("append", r);
    }
    for (unsigned i = 0; i < UNDER_WAY; i++)
        while (sem_wait(&appender->room) < 0 && errno == EINTR)
            ;
    return NULL;
}

static void appender_init(struct appender *appender, struct journal *journal, const struct setup *setup)
{
    memset(appender, 0, sizeof(*appender));
    appender->journal = journal;
    appender->setup = setup;
    appender->records = setup->total_bytes / setup->record_bytes / setup->threads;
    appender->bytes = malloc(setup->record_bytes);
    if (!appender->bytes)
        die("memory", -ENOMEM);
    for (size_t i = 0; i < setup->record_bytes; i++)
        appender->bytes[i] = (uint8_t)(i * 37 ^ i >> 3);
    (void)sem_init(&appender->room, 0, UNDER_WAY);
}

static void append_phase(const struct setup *setup)
{
    struct journal *journal = open_journal(setup);
    struct appender *appenders = calloc(setup->threads, sizeof(*appenders));
    struct journal_thread *thread = NULL;
    struct journal_stats stats;
    uint64_t began_ns, took_ns;
    unsigned errors = 0;

    if (!appenders || journal_thread_start(journal, &thread))
        die("threads", -ENOMEM);
    for (unsigned i = 0; i < setup->threads; i++)
        appender_init(&appenders[i], journal, setup);
    began_ns = clock_now_ns();
    for (unsigned i = 0; i < setup->threads; i++)
        if (pthread_create(&appenders[i].thread, NULL, append_all, &appenders[i]))
            die("threads", -EAGAIN);
    for (unsigned i = 0; i < setup->threads; i++) {
        (void)pthread_join(appenders[i].thread, NULL);
        errors += atomic_load(&appenders[i].errors);
        free(appenders[i].bytes);
    }
    took_ns = clock_now_ns() - began_ns;
    journal_stats(journal, &stats);
    (void)printf("append: %llu records of %zu B in %.2f s: %.0f records/s, %.0f MB/s; %.1f records a batch, %llu syncs, %u errors\n",
        (unsigned long long)stats.records_written, setup->record_bytes, (double)took_ns / 1e9, (double)stats.records_written * 1e9 / (double)took_ns,
        (double)stats.written_bytes * 1e3 / (double)took_ns, (double)stats.records_written / (double)u64_max(stats.batches, 1),
        (unsigned long long)stats.syncs, errors);
    journal_thread_stop(thread);
    journal_close(journal);
    free(appenders);
}

/* -- reading back --------------------------------------------------------------------------------------------------------- */

struct holding {
    struct journal_account account;
    uint64_t records, bytes;
};

static void on_record(void *context, const struct journal_record *record)
{
    struct holding *holding = context;

    holding->records++;
    holding->bytes += record->payload.len;
    journal_hold(&holding->account, record->at.segment, record->payload.len);
}

static void recovery_phase(const struct setup *setup, const char *from)
{
    struct journal *journal = open_journal(setup);
    struct journal_recovery *recovery = NULL;
    struct holding holding = {0};
    uint64_t began_ns = clock_now_ns(), took_ns;

    journal_account_init(&holding.account, journal);
    if (journal_recovery_begin(journal, &recovery))
        die("recovery", -ENOMEM);
    while (journal_recovery_step(recovery, 4 * MIB, on_record, &holding))
        ;
    took_ns = clock_now_ns() - began_ns;
    journal_account_flush(&holding.account);
    journal_recovery_end(recovery);
    (void)printf("recovery from %s: %llu records, %llu MB in %.2f s: %.0f records/s, %.0f MB/s\n", from, (unsigned long long)holding.records,
        (unsigned long long)(holding.bytes / 1000000), (double)took_ns / 1e9, (double)holding.records * 1e9 / (double)took_ns,
        (double)holding.bytes * 1e3 / (double)took_ns);
    journal_account_deinit(&holding.account);
    journal_close(journal);
}

/* False: not allowed to. */
static bool drop_kernel_cache(void)
{
    int fd;
    bool done;

    sync();
    fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    done = write(fd, "1", 1) == 1;
    (void)close(fd);
    return done;
}

/* -- options ----------------------------------------------------------------------------------------------------------------- */

static enum journal_sync sync_of(const char *text)
{
    static const char *const names[] = {"none", "interval", "always"};

    for (unsigned i = 0; i < ARRAY_COUNT(names); i++)
        if (strcmp(text, names[i]) == 0)
            return (enum journal_sync)i;
    (void)fprintf(stderr, "micro_journal: --sync is none, interval or always\n");
    exit(2);
}

static uint64_t number_of(const char *name, const char *text, uint64_t least, uint64_t most)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    if (*end == '\0' && value >= least && value <= most)
        return value;
    (void)fprintf(stderr, "micro_journal: %s is a number from %llu to %llu\n", name, (unsigned long long)least, (unsigned long long)most);
    exit(2);
}

int main(int argc, char **argv)
{
    struct setup setup = {.threads = 2, .record_bytes = 4096, .total_bytes = 512 * MIB};

    if (argc < 2 || argc % 2 != 0 || argv[1][0] == '-') {
        (void)fprintf(stderr, "usage: micro_journal DIRECTORY [--threads N] [--record-bytes N] [--total-mib N] [--sync none|interval|always] [--cold yes|no]\n");
        return 2;
    }
    setup.directory = argv[1];
    for (int i = 2; i < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];

        if (strcmp(name, "--threads") == 0) {
            setup.threads = (unsigned)number_of(name, value, 1, 64);
        } else if (strcmp(name, "--record-bytes") == 0) {
            setup.record_bytes = (size_t)number_of(name, value, 1, 16 * MIB);
        } else if (strcmp(name, "--total-mib") == 0) {
            setup.total_bytes = number_of(name, value, 1, 1024 * 1024) * MIB;
        } else if (strcmp(name, "--sync") == 0) {
            setup.sync = sync_of(value);
        } else if (strcmp(name, "--cold") == 0) {
            setup.cold = strcmp(value, "yes") == 0;
        } else {
            (void)fprintf(stderr, "micro_journal: no such option: %s\n", name);
            return 2;
        }
    }
    append_phase(&setup);
    recovery_phase(&setup, "memory");
    if (!setup.cold)
        return 0;
    if (!drop_kernel_cache()) {
        (void)fprintf(stderr, "micro_journal: the kernel's cache cannot be dropped: not root?\n");
        return 1;
    }
    recovery_phase(&setup, "disk");
    return 0;
}
