/* One inotify descriptor for all folders. Two timers: the debounce, which each event pushes back, and the poll. */
#include "common/run/config_watch.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/base/error.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "common/run/control.h"

#define DEBOUNCE_NS  (100 * NS_PER_MS)
#define DEBOUNCE_MOST_NS (1 * NS_PER_S) /* writes that never end must not put a change off for ever */
#define POLL_NS      (30 * NS_PER_S)
#define FOLDER_EVENTS                                                                                                              \
    (IN_MOVED_TO | IN_CLOSE_WRITE | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct watched { /* a file, or what it leads to */
    int folder;  /* inotify's number; -1: it is not there */
    char *name;  /* in its folder */
};

struct file_mark { /* what the poll compares */
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct config_watch {
    struct config_watch_options options;
    int fd;
    struct event *readable, *debounce;
    struct control_timer *poll;
    uint64_t first_ns; /* of the change that the debounce holds; 0: none */
    struct watched *watched; /* two a file: itself, and what it leads to */
    struct file_mark *marks;
};

const char *config_file_path(const char *file)
{
    return strncmp(file, "file:", 5) == 0 ? file + 5 : file;
}

/* -- what is watched ---------------------------------------------------------------------------------- */

static void watched_set(struct config_watch *watch, struct watched *watched, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");

    free(watched->name);
    watched->name = strdup(slash ? slash + 1 : path);
    watched->folder = folder && watched->name ? inotify_add_watch(watch->fd, folder, FOLDER_EVENTS) : -1;
    free(folder);
}

/* Again after each change: a link leads elsewhere, a folder was made anew. The same folder keeps its number. */
static void watch_set(struct config_watch *watch)
{
    for (size_t i = 0; i < watch->options.count; i++) {
        const char *path = config_file_path(watch->options.files[i]);
        char *real = realpath(path, NULL);

        watched_set(watch, &watch->watched[2 * i], path);
        if (real)
            watched_set(watch, &watch->watched[2 * i + 1], real);
        free(real);
    }
}

static struct file_mark mark_of(const char *path)
{
    struct file_mark mark;
    struct stat status;

    memset(&mark, 0, sizeof(mark));
    if (stat(path, &status) == 0) {
        mark.device = status.st_dev;
        mark.inode = status.st_ino;
        mark.size = status.st_size;
        mark.changed = status.st_mtim;
    }
    return mark;
}

static bool marks_same(const struct file_mark *a, const struct file_mark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec;
}

/* Marks the files as they are. True: one is not as it was. */
static bool marks_take(struct config_watch *watch)
{
    bool changed = false;

    for (size_t i = 0; i < watch->options.count; i++) {
        struct file_mark mark = mark_of(config_file_path(watch->options.files[i]));

        changed |= !marks_same(&mark, &watch->marks[i]);
        watch->marks[i] = mark;
    }
    return changed;
}

/* -- events --------------------------------------------------------------------------------------------- */

static void debounce_begin(struct config_watch *watch)
{
    uint64_t now_ns = clock_now_ns();
    uint64_t wait_ns;

    if (watch->first_ns == 0)
        watch->first_ns = now_ns;
    wait_ns = u64_min(DEBOUNCE_NS, u64_sub_floor(watch->first_ns + DEBOUNCE_MOST_NS, now_ns));
    (void)event_add(watch->debounce, &(struct timeval){.tv_usec = (suseconds_t)(wait_ns / NS_PER_US)});
}

void config_watch_ask(struct config_watch *watch)
{
    debounce_begin(watch);
}

static void watch_on_debounced(evutil_socket_t fd, short what, void *argument)
{
    struct config_watch *watch = argument;

    (void)fd;
    (void)what;
    watch->first_ns = 0;
    watch_set(watch);
    (void)marks_take(watch);
    watch->options.changed(watch->options.context);
}

/* A file that was just made is still being written, and tells when it is closed; a link is whole at once. */
static bool is_news(const struct config_watch *watch, const struct inotify_event *event)
{
    if (event->mask & (IN_Q_OVERFLOW | IN_DELETE_SELF | IN_MOVE_SELF))
        return true;
    if (event->len == 0)
        return false;
    if (strcmp(event->name, "..data") == 0)
        return (event->mask & (IN_MOVED_TO | IN_CREATE)) != 0;
    for (size_t i = 0; i < 2 * watch->options.count; i++) {
        const struct watched *watched = &watch->watched[i];
        struct stat status;

        if (event->wd != watched->folder || strcmp(event->name, watched->name) != 0)
            continue;
        if (!(event->mask & IN_CREATE))
            return true;
        return lstat(config_file_path(watch->options.files[i / 2]), &status) == 0 && S_ISLNK(status.st_mode);
    }
    return false;
}

static void watch_on_readable(evutil_socket_t fd, short what, void *argument)
{
    struct config_watch *watch = argument;
    _Alignas(struct inotify_event) char bytes[16 * (sizeof(struct inotify_event) + NAME_MAX + 1)];
    bool news = false;
    ssize_t got;

    (void)what;
    while ((got = read(fd, bytes, sizeof(bytes))) > 0) {
        for (const char *at = bytes; at < bytes + got;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)at;

            news |= is_news(watch, event);
            at += sizeof(*event) + event->len;
        }
    }
    if (news)
        debounce_begin(watch);
}

static void watch_on_poll(void *context, uint64_t now_ns)
{
    struct config_watch *watch = context;

    (void)now_ns;
    watch_set(watch);
    if (marks_take(watch))
        debounce_begin(watch);
}

/* -- life -------------------------------------------------------------------------------------------------- */

static int watch_begin(struct config_watch *watch, struct control *control)
{
    watch->watched = calloc(2 * watch->options.count + 1, sizeof(watch->watched[0]));
    watch->marks = calloc(watch->options.count + 1, sizeof(watch->marks[0]));
    if (!watch->watched || !watch->marks)
        return error_raise(-ENOMEM);
    for (size_t i = 0; i < 2 * watch->options.count; i++)
        watch->watched[i].folder = -1;
    watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    watch->debounce = event_new(control->base, -1, 0, watch_on_debounced, watch);
    if (!watch->debounce)
        return error_raise(-ENOMEM);
    if (watch->fd >= 0) { /* without it, when the user's instances are used up, there is the poll */
        watch->readable = event_new(control->base, watch->fd, EV_READ | EV_PERSIST, watch_on_readable, watch);
        if (!watch->readable || event_add(watch->readable, NULL) < 0)
            return error_raise(-ENOMEM);
    }
    watch_set(watch);
    (void)marks_take(watch);
    return control_timer_new(control, watch->options.poll_ns ? watch->options.poll_ns : POLL_NS, watch_on_poll, watch, &watch->poll);
}

int config_watch_new(struct control *control, const struct config_watch_options *options, struct config_watch **out_watch)
{
    struct config_watch *watch = calloc(1, sizeof(*watch));
    int r;

    if (!watch)
        return error_raise(-ENOMEM);
    watch->options = *options;
    watch->fd = -1;
    r = watch_begin(watch, control);
    if (r) {
        config_watch_free(watch);
        return error_pass(r);
    }
    *out_watch = watch;
    return 0;
}

void config_watch_free(struct config_watch *watch)
{
    if (!watch)
        return;
    control_timer_free(watch->poll);
    if (watch->debounce)
        event_free(watch->debounce);
    if (watch->readable)
        event_free(watch->readable);
    if (watch->fd >= 0)
        (void)close(watch->fd);
    for (size_t i = 0; watch->watched && i < 2 * watch->options.count; i++)
        free(watch->watched[i].name);
    free(watch->watched);
    free(watch->marks);
    free(watch);
}
