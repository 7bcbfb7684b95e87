/* A watch tells of each way in which a configuration file changes, once for what comes together, and of nothing else: a kubelet's
 * swap of a volume, editors that write, that rename, that delete first, links, and what only the poll sees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/num.h"
#include "common/run/clock.h"
#include "common/run/config_watch.h"
#include "common/run/control.h"

#define LONG_NS (20 * NS_PER_S)   /* how long a slow machine may take */
#define QUIET_NS (400 * NS_PER_MS) /* how long nothing must come: four times the debounce */

struct stage {
    char folder[64], path[128];
    const char *files[1];
    struct control control;
    struct config_watch *watch;
    struct control_timer *timer;
    unsigned changes;
    unsigned wanted;
    uint64_t end_ns;
};

static void on_stop(void *context, unsigned count)
{
    (void)context;
    (void)count;
}

static void on_change(void *context)
{
    struct stage *stage = context;

    stage->changes++;
}

static void on_tick(void *context, uint64_t now_ns)
{
    struct stage *stage = context;

    if (stage->changes >= stage->wanted || now_ns >= stage->end_ns)
        control_break(&stage->control);
}

static void run_until(struct stage *stage, unsigned changes, uint64_t at_most_ns)
{
    stage->wanted = changes;
    stage->end_ns = clock_now_ns() + at_most_ns;
    control_run(&stage->control);
}

/* So many, and then nothing more. */
static void expect(struct stage *stage, unsigned changes, const char *what)
{
    run_until(stage, changes, LONG_NS);
    if (changes > 0)
        run_until(stage, changes + 1, QUIET_NS);
    if (stage->changes != changes)
        fail_msg("%s: told %u times, want %u", what, stage->changes, changes);
    stage->changes = 0;
}

static void expect_none(struct stage *stage, const char *what)
{
    run_until(stage, 1, QUIET_NS);
    if (stage->changes != 0)
        fail_msg("%s: told %u times of nothing", what, stage->changes);
}

static void at(const struct stage *stage, const char *name, char out[192])
{
    (void)snprintf(out, 192, "%s/%s", stage->folder, name);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void write_at(const struct stage *stage, const char *name, const char *text)
{
    char path[192];

    at(stage, name, path);
    write_file(path, text);
}

static void move(const struct stage *stage, const char *from, const char *to)
{
    char a[192], b[192];

    at(stage, from, a);
    at(stage, to, b);
    assert_int_equal(rename(a, b), 0);
}

static void watch_begin(struct stage *stage, uint64_t poll_ns)
{
    const struct config_watch_options options = {
        .files = stage->files, .count = 1, .poll_ns = poll_ns, .changed = on_change, .context = stage};

    assert_int_equal(control_init(&stage->control, on_stop, NULL, stage), 0);
    assert_int_equal(config_watch_new(&stage->control, &options, &stage->watch), 0);
    assert_int_equal(control_timer_new(&stage->control, 10 * NS_PER_MS, on_tick, stage, &stage->timer), 0);
}

static struct stage *stage_new(const char *name)
{
    struct stage *stage = calloc(1, sizeof(*stage));

    assert_non_null(stage);
    (void)snprintf(stage->folder, sizeof(stage->folder), "/tmp/config-watch-test-XXXXXX");
    assert_non_null(mkdtemp(stage->folder));
    (void)snprintf(stage->path, sizeof(stage->path), "file:%s/%s", stage->folder, name);
    stage->files[0] = stage->path;
    return stage;
}

static void stage_end(struct stage *stage)
{
    char command[160];

    config_watch_free(stage->watch);
    control_timer_free(stage->timer);
    control_deinit(&stage->control);
    (void)snprintf(command, sizeof(command), "rm -r '%s'", stage->folder);
    assert_int_equal(system(command), 0);
    free(stage);
}

static void test_plain_file(void **state)
{
    struct stage *stage = stage_new("lb.yaml");
    char path[192];

    (void)state;
    write_at(stage, "lb.yaml", "a: 1");
    watch_begin(stage, LONG_NS);
    expect_none(stage, "nothing");
    write_at(stage, "other.yaml", "a: 1");
    write_at(stage, "lb.yaml.swp", "a: 1");
    expect_none(stage, "other files");
    write_at(stage, "lb.yaml", "a: 2");
    expect(stage, 1, "written");
    write_at(stage, "lb.yaml~", "a: 3");
    move(stage, "lb.yaml~", "lb.yaml");
    expect(stage, 1, "renamed over");
    move(stage, "lb.yaml", "lb.yaml.old");
    write_at(stage, "lb.yaml", "a: 4");
    expect(stage, 1, "moved away and written anew");
    at(stage, "lb.yaml", path);
    assert_int_equal(unlink(path), 0);
    write_file(path, "a: 5");
    expect(stage, 1, "deleted and written anew");
    for (unsigned i = 0; i < 20; i++)
        write_at(stage, "lb.yaml", i % 2 ? "a: 6" : "a: 7");
    expect(stage, 1, "twenty writes in a row");
    stage_end(stage);
}

/* A writer that holds the file open has not finished: it is told of when it closes. */
static void test_half_written(void **state)
{
    struct stage *stage = stage_new("lb.yaml");
    char path[192];
    FILE *file;

    (void)state;
    watch_begin(stage, LONG_NS);
    at(stage, "lb.yaml", path);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs("a: ", file) >= 0 && fflush(file) == 0);
    expect_none(stage, "a file that is being written");
    assert_int_equal(fclose(file), 0);
    expect(stage, 1, "closed");
    stage_end(stage);
}

/* As a kubelet writes a ConfigMap's volume: a new folder, ..data moved onto it, the old folder removed. */
static void swap(const struct stage *stage, unsigned number)
{
    char folder[192], file[256], data[192], temporary[192], name[40], before[40];

    (void)snprintf(name, sizeof(name), "..2026_11_21_08_12_%02u.123456", number);
    at(stage, name, folder);
    assert_int_equal(mkdir(folder, 0755), 0);
    (void)snprintf(file, sizeof(file), "%s/sampler.yaml", folder);
    write_file(file, "a: 1");
    at(stage, "..data", data);
    at(stage, "..data_tmp", temporary);
    assert_int_equal(symlink(name, temporary), 0);
    assert_int_equal(rename(temporary, data), 0);
    if (number == 1)
        return;
    (void)snprintf(before, sizeof(before), "..2026_11_21_08_12_%02u.123456", number - 1);
    at(stage, before, folder);
    (void)snprintf(file, sizeof(file), "%s/sampler.yaml", folder);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void test_config_map(void **state)
{
    struct stage *stage = stage_new("sampler.yaml");
    char link[192];

    (void)state;
    swap(stage, 1);
    at(stage, "sampler.yaml", link);
    assert_int_equal(symlink("..data/sampler.yaml", link), 0);
    watch_begin(stage, LONG_NS);
    expect_none(stage, "nothing");
    for (unsigned number = 2; number < 5; number++) {
        swap(stage, number);
        expect(stage, 1, "swapped");
    }
    swap(stage, 5);
    swap(stage, 6);
    expect(stage, 1, "swapped twice at once");
    stage_end(stage);
}

/* A link to a file elsewhere: what changes there is seen, and so is the link itself. */
static void test_link(void **state)
{
    struct stage *stage = stage_new("lb.yaml");
    char folder[192], file[256], link[192];

    (void)state;
    at(stage, "elsewhere", folder);
    assert_int_equal(mkdir(folder, 0755), 0);
    (void)snprintf(file, sizeof(file), "%s/real.yaml", folder);
    write_file(file, "a: 1");
    at(stage, "lb.yaml", link);
    assert_int_equal(symlink("elsewhere/real.yaml", link), 0);
    watch_begin(stage, LONG_NS);
    write_file(file, "a: 2");
    expect(stage, 1, "what the link leads to was written");
    (void)snprintf(file, sizeof(file), "%s/next.yaml", folder);
    write_file(file, "a: 3");
    expect_none(stage, "a file beside it");
    at(stage, "lb.tmp", folder);
    assert_int_equal(symlink("elsewhere/next.yaml", folder), 0);
    assert_int_equal(rename(folder, link), 0);
    expect(stage, 1, "the link leads elsewhere");
    write_file(file, "a: 4");
    expect(stage, 1, "what it leads to now was written");
    stage_end(stage);
}

/* A folder that is not there at first gives no events: the poll finds the file, and from then on there are. */
static void test_poll(void **state)
{
    struct stage *stage = stage_new("late/lb.yaml");
    char folder[192];

    (void)state;
    watch_begin(stage, 50 * NS_PER_MS);
    expect_none(stage, "nothing");
    at(stage, "late", folder);
    assert_int_equal(mkdir(folder, 0755), 0);
    write_at(stage, "late/lb.yaml", "a: 1");
    run_until(stage, 1, LONG_NS);
    assert_true(stage->changes >= 1);
    run_until(stage, UINT32_MAX, QUIET_NS);
    stage->changes = 0;
    write_at(stage, "late/lb.yaml", "a: 22");
    run_until(stage, 1, LONG_NS);
    assert_true(stage->changes >= 1);
    run_until(stage, UINT32_MAX, QUIET_NS);
    stage->changes = 0;
    config_watch_ask(stage->watch);
    expect(stage, 1, "asked");
    stage_end(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_file),
        cmocka_unit_test(test_half_written),
        cmocka_unit_test(test_config_map),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_poll),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
