/* The journal on a real directory, with its threads: acknowledged records survive a killed process; a directory has one owner; a limit of
 * the disk is an error that passes. */
#include "sampler/journal/journal_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/num.h"
#include "common/run/clock.h"
#include "common/run/worker.h"
#include "sampler/journal/journal_recovery.h"
#include "sampler/journal/journal_thread.h"

#define SEGMENT (64u * 1024)

/* -- a directory of our own ------------------------------------------------------------------------------------------- */

struct place {
    char parent[300], directory[320];
};

static void place_init(struct place *place)
{
    const char *parent = getenv("TMPDIR");

    (void)snprintf(place->parent, sizeof(place->parent), "%.250s/journal-XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(place->parent));
    (void)snprintf(place->directory, sizeof(place->directory), "%s/wal", place->parent);
}

static void remove_file(void *context, uint32_t number, uint64_t size_bytes)
{
    (void)size_bytes;
    assert_int_equal(journal_disk_remove(context, number), 0);
}

static void remove_named(const struct place *place, const char *name)
{
    char path[400];

    (void)snprintf(path, sizeof(path), "%s/%s", place->directory, name);
    (void)unlink(path);
}

static void place_deinit(const struct place *place)
{
    struct journal_disk *disk = NULL;

    assert_int_equal(journal_disk_open(place->directory, &disk), 0);
    assert_int_equal(journal_disk_list(disk, remove_file, disk), 0);
    journal_disk_close(disk);
    remove_named(place, "journal");
    remove_named(place, "lock");
    remove_named(place, "README");
    assert_int_equal(rmdir(place->directory), 0);
    assert_int_equal(rmdir(place->parent), 0);
}

/* -- files ---------------------------------------------------------------------------------------------------------------- */

struct listing {
    uint32_t numbers[8];
    uint64_t sizes[8];
    size_t count;
};

static void on_file(void *context, uint32_t number, uint64_t size_bytes)
{
    struct listing *listing = context;

    assert_true(listing->count < 8);
    listing->numbers[listing->count] = number;
    listing->sizes[listing->count++] = size_bytes;
}

static void test_files(void **state)
{
    static uint8_t many[300][7], back[300 * 7 + 10];
    struct slice parts[300];
    struct journal_disk *disk = NULL;
    struct journal_file *file = NULL;
    struct listing listing = {0};
    struct place place;
    char path[400];
    size_t len = 0;
    FILE *other;

    (void)state;
    place_init(&place);
    assert_int_equal(journal_disk_open(place.directory, &disk), 0);
    assert_int_equal(journal_disk_create(disk, 9, 10000, &file), 0);
    for (size_t i = 0; i < 300; i++) {
        memset(many[i], (int)i, sizeof(many[i]));
        parts[i] = slice_make(many[i], i % 50 == 7 ? 0 : sizeof(many[i]));
    }
    assert_int_equal(journal_file_write(file, 100, parts, 300), 0);
    assert_int_equal(journal_file_sync(file), 0);
    assert_int_equal(journal_file_read(file, 100, back, sizeof(back), &len), 0);
    assert_int_equal(len, sizeof(back));
    for (size_t i = 0, at = 0; i < 300; i++) {
        assert_memory_equal(back + at, many[i], parts[i].len);
        at += parts[i].len;
    }
    assert_int_equal(journal_file_read(file, 9990, back, 100, &len), 0);
    assert_int_equal(len, 10);
    journal_file_close(file);
    assert_int_equal(journal_disk_create(disk, 9, 10, &file), -EEXIST);
    assert_int_equal(journal_disk_open_file(disk, 8, &file), -ENOENT);
    assert_int_equal(journal_disk_create(disk, 0xffffffff, 10, &file), 0);
    journal_file_close(file);
    (void)snprintf(path, sizeof(path), "%s/README", place.directory);
    other = fopen(path, "w");
    assert_non_null(other);
    (void)fclose(other);
    assert_int_equal(journal_disk_list(disk, on_file, &listing), 0);
    assert_int_equal(listing.count, 2);
    assert_true(listing.numbers[0] == 9 && listing.sizes[0] == 10000 && listing.numbers[1] == 0xffffffff);
    assert_int_equal(journal_disk_read_head(disk, back, sizeof(back), &len), 0);
    assert_int_equal(len, 0);
    assert_int_equal(journal_disk_write_head(disk, SLICE_LITERAL("head")), 0);
    assert_int_equal(journal_disk_write_head(disk, SLICE_LITERAL("two")), 0);
    assert_int_equal(journal_disk_read_head(disk, back, sizeof(back), &len), 0);
    assert_int_equal(len, 3);
    assert_memory_equal(back, "two", 3);
    journal_disk_close(disk);
    place_deinit(&place);
}

static void test_no_directory(void **state)
{
    struct journal_disk *disk = NULL;

    (void)state;
    assert_int_equal(journal_disk_open("/proc/no/such/place", &disk), -ENOENT);
    assert_int_equal(journal_disk_open("/dev/null", &disk), -ENOTDIR);
}

/* -- the whole, with threads --------------------------------------------------------------------------------------------------- */

static struct journal_options options_of(const struct place *place)
{
    return (struct journal_options){.directory = place->directory,
        .sync = JOURNAL_SYNC_ALWAYS,
        .segment_bytes = SEGMENT,
        .max_bytes = 64 * SEGMENT,
        .sync_interval_ns = NS_PER_S,
        .verdict_keep_ns = NS_PER_S,
        .clean_age_ns = NS_PER_S,
        .new_id = 42};
}

static struct journal_now now_of(void)
{
    return (struct journal_now){clock_now_ns(), clock_now_unix_ns()};
}

static struct journal *open_journal(const struct journal_options *options)
{
    struct journal *journal = NULL;
    char error[256] = "";

    if (journal_open(options, now_of(), &journal, error, sizeof(error)))
        fail_msg("%s", error);
    return journal;
}

struct waiting {
    struct journal_write write;
    atomic_int *done;
    int error;
    uint8_t bytes[500];
};

static void on_mail(struct mail *mail, void *receiver)
{
    struct waiting *waiting = container_of(mail, struct waiting, write.mail);

    (void)receiver;
    waiting->error = waiting->write.error;
    atomic_fetch_add(waiting->done, 1);
}

/* `worker` gets the mail, delivered by the test. */
static void append(struct journal *journal, struct worker *worker, struct waiting *waiting, uint8_t fill, atomic_int *done)
{
    *waiting = (struct waiting){.done = done,
        .write = {.mail = {.deliver = on_mail}, .done = journal_done_at_worker, .to = worker, .kind = JOURNAL_REQUEST, .hold_bytes = 500}};
    memset(waiting->bytes, fill, sizeof(waiting->bytes));
    waiting->write.body = slice_make(waiting->bytes, sizeof(waiting->bytes));
    assert_int_equal(journal_append(journal, &waiting->write), 0);
}

static void wait_for(struct worker *worker, atomic_int *done, int count)
{
    while (atomic_load(done) < count)
        if (mailbox_deliver(&worker->mailbox, worker) == 0)
            (void)usleep(500);
}

static void count_record(void *context, const struct journal_record *record)
{
    size_t *counts = context;

    assert_int_equal(record->payload.len, 500);
    for (size_t i = 0; i < 500; i++)
        assert_int_equal(record->payload.at[i], record->payload.at[0]);
    counts[record->payload.at[0]]++;
}

static void worker_begin(struct worker *worker)
{
    memset(worker, 0, sizeof(*worker));
    mailbox_init(&worker->mailbox);
}

/* A process that appends, tells what was acknowledged, and is killed. */
NORETURN static void child_life(const struct place *place, int told_fd)
{
    struct journal_options options = options_of(place);
    struct journal *journal = open_journal(&options);
    struct journal_thread *thread = NULL;
    static struct waiting waiting[200];
    struct worker worker;
    atomic_int done;

    worker_begin(&worker);
    atomic_init(&done, 0);
    if (journal_thread_start(journal, &thread))
        _exit(1);
    for (unsigned i = 0; i < 200; i++) {
        uint8_t number = (uint8_t)i;

        append(journal, &worker, &waiting[i], number, &done);
        if (i % 8 == 0)
            continue; /* some together */
        wait_for(&worker, &done, (int)i + 1);
        if (waiting[i].error || write(told_fd, &number, 1) != 1)
            _exit(2);
        if (i == 150)
            (void)raise(SIGKILL);
    }
    _exit(3);
}

/* Whatever was acknowledged before a kill is there, once; and while the process lived nobody else had the directory. */
static void test_killed(void **state)
{
    struct place place;
    struct journal_options options;
    struct journal_recovery *recovery = NULL;
    struct journal *journal, *second = NULL;
    size_t counts[256] = {0};
    char error[256] = "";
    int pipes[2], status;
    uint8_t told;
    pid_t child;

    (void)state;
    place_init(&place);
    options = options_of(&place);
    assert_int_equal(pipe(pipes), 0);
    child = fork();
    if (child == 0)
        child_life(&place, pipes[1]);
    (void)close(pipes[1]);
    assert_int_equal(read(pipes[0], &told, 1), 1);
    if (waitpid(child, &status, WNOHANG) == 0) { /* it may be over already */
        int r = journal_open(&options, now_of(), &second, error, sizeof(error));

        if (r == JOURNAL_E_LOCKED)
            assert_non_null(strstr(error, place.directory));
        else
            assert_int_equal(r, 0); /* it has just died */
        journal_close(second);
        assert_int_equal(waitpid(child, &status, 0), child);
    }
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    journal = open_journal(&options);
    assert_int_equal(journal_recovery_begin(journal, &recovery), 0);
    while (journal_recovery_step(recovery, 4096, count_record, counts))
        ;
    journal_recovery_end(recovery);
    do
        assert_int_equal(counts[told], 1);
    while (read(pipes[0], &told, 1) == 1);
    assert_int_equal(told, 150);
    (void)close(pipes[0]);
    journal_close(journal);
    place_deinit(&place);
}

/* A directory has one owner in a process too, and is free again when that one closes it. */
static void test_lock(void **state)
{
    struct place place;
    struct journal_options options;
    struct journal *first, *second = NULL;
    char error[256] = "";

    (void)state;
    place_init(&place);
    options = options_of(&place);
    first = open_journal(&options);
    assert_int_equal(journal_open(&options, now_of(), &second, error, sizeof(error)), JOURNAL_E_LOCKED);
    assert_non_null(strstr(error, "in use by another process"));
    journal_close(first);
    second = open_journal(&options);
    journal_close(second);
    place_deinit(&place);
}

/* No file may grow beyond a page: the first segment cannot be made. Later it may, and the journal finds out by itself. */
static void test_disk_limit(void **state)
{
    struct place place;
    struct journal_options options;
    struct journal *journal;
    struct journal_thread *thread = NULL;
    struct rlimit before, small;
    struct waiting waiting;
    struct worker worker;
    atomic_int done;

    (void)state;
    place_init(&place);
    options = options_of(&place);
    worker_begin(&worker);
    atomic_init(&done, 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    journal = open_journal(&options);
    assert_int_equal(journal_thread_start(journal, &thread), 0);
    append(journal, &worker, &waiting, 1, &done);
    wait_for(&worker, &done, 1);
    assert_int_equal(waiting.error, -EFBIG);
    assert_true(journal_failing(journal));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    while (journal_failing(journal))
        (void)usleep(10000);
    append(journal, &worker, &waiting, 2, &done);
    wait_for(&worker, &done, 2);
    assert_int_equal(waiting.error, 0);
    journal_thread_stop(thread);
    journal_close(journal);
    place_deinit(&place);
}

/* -- many at once --------------------------------------------------------------------------------------------------------- */

#define CROWD 3u
#define CROWD_RECORDS 3000u

struct crowd_record {
    struct journal_write write;
    atomic_int state; /* 0 under way, 1 done, 2 failed */
    uint8_t bytes[2000];
};

static void crowd_done(struct journal_write *write)
{
    atomic_store(&container_of(write, struct crowd_record, write)->state, write->error ? 2 : 1);
}

/* Appends, now and then a verdict, and lets go of each record a little after it is written; what is full is tried again. */
static void *crowd_member(void *argument)
{
    struct journal *journal = argument;
    struct crowd_record *ring = calloc(32, sizeof(*ring));
    struct journal_account account;
    struct journal_clean clean = {0};
    uintptr_t failed = 0;

    if (!ring)
        return argument;
    journal_account_init(&account, journal);
    for (unsigned i = 0; i < CROWD_RECORDS + 32; i++) {
        struct crowd_record *record = &ring[i % 32];

        if (i >= 32) { /* the one that was here */
            while (atomic_load(&record->state) == 0)
                (void)usleep(100);
            failed += atomic_load(&record->state) == 2;
            journal_release(&account, record->write.at.segment, record->write.hold_bytes);
            if (i % 5 == 0)
                journal_account_flush(&account);
        }
        if (i >= CROWD_RECORDS)
            continue;
        atomic_store(&record->state, 0);
        record->write = (struct journal_write){.done = crowd_done,
            .kind = i % 7 ? JOURNAL_REQUEST : JOURNAL_EXPORTED,
            .hold_bytes = i % 7 ? sizeof(record->bytes) : 0,
            .body = slice_make(record->bytes, sizeof(record->bytes))};
        while (journal_append(journal, &record->write) == JOURNAL_E_FULL) {
            journal_account_flush(&account);
            (void)usleep(1000);
        }
        (void)journal_clean_wanted(journal, &clean);
    }
    journal_account_deinit(&account);
    free(ring);
    return (void *)failed; /* NULL: none */
}

/* Several workers, more than fits at once: all is written, segments are used again and again, nothing is held in the end. */
static void test_crowd(void **state)
{
    struct place place;
    struct journal_options options;
    struct journal *journal;
    struct journal_thread *thread = NULL;
    struct journal_stats stats;
    pthread_t members[CROWD];
    void *failed;

    (void)state;
    place_init(&place);
    options = options_of(&place);
    options.sync = JOURNAL_SYNC_INTERVAL;
    options.verdict_keep_ns = 100 * NS_PER_MS;
    journal = open_journal(&options);
    assert_int_equal(journal_thread_start(journal, &thread), 0);
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&members[i], NULL, crowd_member, journal), 0);
    for (unsigned i = 0; i < CROWD; i++) {
        assert_int_equal(pthread_join(members[i], &failed), 0);
        assert_null(failed);
    }
    journal_thread_stop(thread);
    journal_stats(journal, &stats);
    assert_int_equal(stats.records_written, CROWD * CROWD_RECORDS);
    assert_int_equal(stats.live_bytes, 0);
    assert_true(stats.recycled_segments > 20);
    journal_close(journal);
    place_deinit(&place);
}

/* -- reading back on the second thread -------------------------------------------------------------------------------------------- */

struct reading {
    struct journal_read read;
    atomic_bool done;
};

static void on_read(struct mail *mail, void *receiver)
{
    (void)receiver;
    atomic_store(&container_of(mail, struct reading, read.mail)->done, true);
}

static void test_read_back(void **state)
{
    static struct waiting waiting[100];
    struct place place;
    struct journal_options options;
    struct journal *journal;
    struct journal_thread *thread = NULL;
    struct worker worker;
    struct journal_read_item items[100];
    uint8_t bytes[100];
    struct reading reading = {.read = {.mail = {.deliver = on_read}, .done = journal_read_done_at_worker, .to = &worker, .items = items, .count = 100}};
    atomic_int done;

    (void)state;
    place_init(&place);
    options = options_of(&place);
    journal = open_journal(&options);
    worker_begin(&worker);
    atomic_init(&done, 0);
    atomic_init(&reading.done, false);
    assert_int_equal(journal_thread_start(journal, &thread), 0);
    for (unsigned i = 0; i < 100; i++)
        append(journal, &worker, &waiting[i], (uint8_t)i, &done);
    wait_for(&worker, &done, 100);
    for (unsigned i = 0; i < 100; i++) {
        items[i] = (struct journal_read_item){.at = waiting[i].write.at, .len = 1, .to = &bytes[i]};
        items[i].at.offset += 499;
    }
    journal_read(journal, &reading.read);
    while (!atomic_load(&reading.done))
        if (mailbox_deliver(&worker.mailbox, &worker) == 0)
            (void)usleep(500);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(bytes[i], i);
    journal_thread_stop(thread);
    journal_close(journal);
    place_deinit(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_no_directory),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_disk_limit),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
