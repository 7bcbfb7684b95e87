/* One try: hash the files, load, read, compare, apply. Whatever goes wrong on the way ends in reload_end, before anything
 * in force was touched. */
#include "common/run/config_reload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/base/plant.h"
#include "common/config/config_diff.h"
#include "common/run/clock.h"
#include "common/run/config_watch.h"
#include "common/run/control.h"

#define READS_MAX 3u       /* of files that change while they are read */
#define HASH_SHOWN 0xffffffffffffull /* as a metric: 48 bits, which a double holds exactly */

enum reload_cause { CAUSE_START, CAUSE_FILE, CAUSE_SIGNAL, CAUSE_REQUEST };
static const char *const cause_names[] = {"start", "file", "signal", "request"};

enum outcome { OUTCOME_APPLIED, OUTCOME_UNCHANGED, OUTCOME_REFUSED };
static const char *const outcome_names[] = {"applied", "unchanged", "refused"};

struct config_reload {
    const struct config_source *source;
    struct config_reload_tier tier;
    struct metrics_cell *cell;
    struct config_watch *watch;
    const struct config_node *in_force; /* the tier's now, or the start's */
    uint64_t generation;
    uint64_t hash, tried_hash; /* of what is in force, of what was last looked at; 0: the files could not be read */
    uint64_t applied_unix_ns;
    struct config_paths needs_restart;
    /* the last try */
    enum reload_cause cause;
    enum outcome outcome;
    uint64_t tried_unix_ns;
    char *errors, *warnings; /* lines; NULL: none */
    struct config_paths changed;
};

/* -- lists of paths ----------------------------------------------------------------------------------- */

static void paths_add(struct config_paths *paths, const char *path)
{
    for (size_t i = 0; i < paths->count; i++)
        if (strcmp(paths->items[i], path) == 0)
            return;
    paths->items = realloc(paths->items, (paths->count + 1) * sizeof(paths->items[0]));
    ASSERT(paths->items != NULL);
    paths->items[paths->count] = strdup(path);
    ASSERT(paths->items[paths->count] != NULL);
    paths->count++;
}

static void paths_deinit(struct config_paths *paths)
{
    for (size_t i = 0; i < paths->count; i++)
        free(paths->items[i]);
    free(paths->items);
    *paths = (struct config_paths){NULL, 0};
}

bool config_paths_have(const struct config_paths *paths, const char *pattern)
{
    const char *const patterns[] = {pattern, NULL};

    for (size_t i = 0; i < paths->count; i++)
        if (config_path_matches(patterns, paths->items[i]))
            return true;
    return false;
}

void config_try_needs_restart(struct config_try *try, const char *path)
{
    paths_add(&try->needs_restart, path);
}

static void paths_json(const struct config_paths *paths, struct text *out)
{
    text_append(out, "[");
    for (size_t i = 0; i < paths->count; i++) {
        text_append(out, "%s", i ? ", " : "");
        text_append_json(out, slice_text(paths->items[i]));
    }
    text_append(out, "]");
}

static void lines_json(const char *lines, struct text *out)
{
    bool first = true;

    text_append(out, "[");
    while (lines && *lines) {
        size_t len = strcspn(lines, "\n");

        text_append(out, "%s", first ? "" : ", ");
        text_append_json(out, slice_make((const uint8_t *)lines, len));
        first = false;
        lines += len;
        lines += *lines == '\n';
    }
    text_append(out, "]");
}

/* -- files --------------------------------------------------------------------------------------------- */

/* Goes on from the hash; 0: the file cannot be read. */
static uint64_t file_hash(const char *path, uint64_t hash)
{
    static const uint64_t end = 0x656e64; /* two files are not one that holds both */
    char bytes[16384];
    FILE *file = fopen(path, "rbe");
    size_t got;
    bool failed;

    if (!file)
        return 0;
    while ((got = fread(bytes, 1, sizeof(bytes), file)) > 0)
        hash = hash_fnv1a(hash, bytes, got);
    failed = ferror(file) != 0;
    (void)fclose(file);
    return failed ? 0 : hash_fnv1a(hash, &end, sizeof(end));
}

uint64_t config_files_hash(const struct config_command_line *line)
{
    uint64_t hash = FNV1A_64_START;

    for (size_t i = 0; i < line->file_count && hash != 0; i++)
        hash = file_hash(config_file_path(line->files[i]), hash);
    return hash;
}

/* -- a try ---------------------------------------------------------------------------------------------- */

static void reload_show(struct config_reload *reload)
{
    static const enum metric_id counters[] = {METRIC_CONFIG_APPLIED, METRIC_CONFIG_UNCHANGED, METRIC_CONFIG_REFUSED};

    if (reload->cause != CAUSE_START)
        metric_add(reload->cell, counters[reload->outcome], 1);
    metric_set(reload->cell, METRIC_CONFIG_LAST_SUCCESSFUL, reload->outcome != OUTCOME_REFUSED);
    metric_set(reload->cell, METRIC_CONFIG_LAST_SUCCESS_S, reload->applied_unix_ns / NS_PER_S);
    metric_set(reload->cell, METRIC_CONFIG_GENERATION, reload->generation);
    metric_set(reload->cell, METRIC_CONFIG_HASH, reload->hash & HASH_SHOWN);
    metric_set(reload->cell, METRIC_CONFIG_NEEDS_RESTART, reload->needs_restart.count);
}

static void reload_log(const struct config_reload *reload)
{
    struct text changed = {0}, needs_restart = {0};

    paths_json(&reload->changed, &changed);
    paths_json(&reload->needs_restart, &needs_restart);
    switch (reload->outcome) {
    case OUTCOME_APPLIED:
        log_event(LOG_INFO, "config_reloaded", "generation=%" PRIu64 " hash=%016" PRIx64 " cause=%s changed=\"%s\"", reload->generation,
            reload->hash, cause_names[reload->cause], changed.at);
        break;
    case OUTCOME_UNCHANGED:
        log_event(LOG_INFO, "config_unchanged", "generation=%" PRIu64 " hash=%016" PRIx64 " cause=%s", reload->generation, reload->hash,
            cause_names[reload->cause]);
        break;
    case OUTCOME_REFUSED:
        log_event(LOG_ERROR, "config_refused",
            "generation=%" PRIu64 " cause=%s errors=\"%s\" remedy=\"the old configuration stays in force; mend the file\"",
            reload->generation, cause_names[reload->cause], reload->errors ? reload->errors : "");
        break;
    }
    if (reload->needs_restart.count > 0 && reload->outcome != OUTCOME_REFUSED)
        log_event(LOG_WARN, "config_needs_restart", "keys=\"%s\" remedy=\"they keep their old values until the program is started again\"",
            needs_restart.at);
    text_deinit(&changed);
    text_deinit(&needs_restart);
}

/* What the try came to, and why. */
static void reload_end(struct config_reload *reload, enum outcome outcome, struct config_context *context)
{
    const char *errors = config_errors(context), *warnings = config_warnings(context);

    free(reload->errors);
    free(reload->warnings);
    reload->errors = *errors ? strdup(errors) : NULL;
    reload->warnings = *warnings ? strdup(warnings) : NULL;
    reload->outcome = outcome;
    reload->tried_unix_ns = clock_now_unix_ns();
    if (outcome != OUTCOME_REFUSED) {
        reload->hash = reload->tried_hash;
        reload->applied_unix_ns = reload->tried_unix_ns;
    }
}

struct sorting {
    struct config_reload *reload;
    struct config_try *try;
};

static void sort_changed(void *context, const char *path)
{
    struct sorting *sorting = context;

    if (config_path_matches(sorting->reload->tier.live, path))
        paths_add(&sorting->try->changed, path);
}

static void sort_needs_restart(void *context, const char *path)
{
    struct sorting *sorting = context;

    if (!config_path_matches(sorting->reload->tier.live, path))
        paths_add(&sorting->try->needs_restart, path);
}

/* Keys that can change are compared with what is in force, the others with what the program was started with. */
static void try_compare(struct config_reload *reload, struct config_try *try)
{
    struct sorting sorting = {reload, try};

    config_diff(reload->in_force, try->root, sort_changed, &sorting);
    config_diff(reload->source->root, try->root, sort_needs_restart, &sorting);
}

/* Files that change while they are read are read again: what was read and its hash belong together. */
static const struct config_node *try_load(struct config_reload *reload, struct config_context **out_context)
{
    const struct config_command_line *line = reload->source->line;
    const struct config_node *root = NULL;

    for (unsigned i = 0; i < READS_MAX; i++) {
        config_context_free(*out_context);
        *out_context = config_context_new();
        reload->tried_hash = config_files_hash(line);
        root = config_load(*out_context, line);
        if (config_files_hash(line) == reload->tried_hash)
            break;
    }
    return root;
}

static enum outcome try_put(struct config_reload *reload, struct config_try *try)
{
    int r = reload->tier.read(reload->tier.tier, try->context, try->root, try->generation, &try->config);

    if (r && !planted(PLANT_RELOAD_HALF_APPLIED))
        return OUTCOME_REFUSED;
    try_compare(reload, try);
    if (try->changed.count == 0)
        return OUTCOME_UNCHANGED;
    return reload->tier.apply(reload->tier.tier, try) ? OUTCOME_REFUSED : OUTCOME_APPLIED;
}

static enum outcome reload_try(struct config_reload *reload, struct config_try *try)
{
    enum outcome outcome = try->root ? try_put(reload, try) : OUTCOME_REFUSED;

    if (outcome == OUTCOME_APPLIED) {
        reload->in_force = try->root;
        reload->generation = try->generation;
    } else {
        reload->tier.release(reload->tier.tier, try->config);
    }
    if (outcome != OUTCOME_REFUSED) {
        paths_deinit(&reload->needs_restart);
        reload->needs_restart = try->needs_restart;
        try->needs_restart = (struct config_paths){NULL, 0};
    }
    return outcome;
}

static void reload_run(struct config_reload *reload, enum reload_cause cause)
{
    struct config_context *context = NULL;
    struct config_try try = {.generation = reload->generation + 1};
    enum outcome outcome;

    try.root = try_load(reload, &context);
    try.context = context;
    outcome = reload_try(reload, &try);
    reload->cause = cause;
    paths_deinit(&reload->changed);
    reload->changed = try.changed;
    paths_deinit(&try.needs_restart);
    reload_end(reload, outcome, context);
    if (outcome != OUTCOME_APPLIED)
        config_context_free(context);
    reload_show(reload);
    reload_log(reload);
}

/* -- what asks for one ------------------------------------------------------------------------------------ */

static void reload_on_file(void *context)
{
    struct config_reload *reload = context;

    /* The same bytes again, as after a touch: they were judged already. */
    if (config_files_hash(reload->source->line) != reload->tried_hash)
        reload_run(reload, CAUSE_FILE);
}

void config_reload_on_hangup(struct config_reload *reload)
{
    reload_run(reload, CAUSE_SIGNAL);
}

bool config_reload_serve(struct config_reload *reload, struct text *out)
{
    reload_run(reload, CAUSE_REQUEST);
    config_reload_status(reload, out);
    text_append(out, "\n");
    return reload->outcome != OUTCOME_REFUSED;
}

void config_reload_status(const struct config_reload *reload, struct text *out)
{
    if (!reload) {
        text_append(out, "null");
        return;
    }
    text_append(out, "{\"generation\": %" PRIu64 ", \"hash\": \"%016" PRIx64 "\", \"applied_unix_ns\": %" PRIu64 ", \"needs_restart\": ",
        reload->generation, reload->hash, reload->applied_unix_ns);
    paths_json(&reload->needs_restart, out);
    text_append(out, ",\n    \"last\": {\"unix_ns\": %" PRIu64 ", \"cause\": \"%s\", \"outcome\": \"%s\", \"changed\": ",
        reload->tried_unix_ns, cause_names[reload->cause], outcome_names[reload->outcome]);
    paths_json(&reload->changed, out);
    text_append(out, ", \"errors\": ");
    lines_json(reload->errors, out);
    text_append(out, ", \"warnings\": ");
    lines_json(reload->warnings, out);
    text_append(out, "}}");
}

/* -- life ----------------------------------------------------------------------------------------------------- */

int config_reload_new(struct control *control, const struct config_source *source, const struct config_reload_tier *tier,
    struct metrics_cell *cell, struct config_reload **out_reload)
{
    struct config_reload *reload = calloc(1, sizeof(*reload));
    const struct config_watch_options options = {.files = source->line->files,
        .count = source->line->file_count,
        .changed = reload_on_file,
        .context = reload};
    int r;

    if (!reload)
        return error_raise(-ENOMEM);
    reload->source = source;
    reload->tier = *tier;
    reload->cell = cell;
    reload->in_force = source->root;
    reload->generation = 1;
    reload->cause = CAUSE_START;
    reload->hash = reload->tried_hash = source->hash;
    reload->applied_unix_ns = reload->tried_unix_ns = clock_now_unix_ns();
    r = config_watch_new(control, &options, &reload->watch);
    if (r) {
        free(reload);
        return error_pass(r);
    }
    config_watch_ask(reload->watch); /* what changed since the program read it */
    reload_show(reload);
    *out_reload = reload;
    return 0;
}

void config_reload_free(struct config_reload *reload)
{
    if (!reload)
        return;
    config_watch_free(reload->watch);
    paths_deinit(&reload->needs_restart);
    paths_deinit(&reload->changed);
    free(reload->errors);
    free(reload->warnings);
    free(reload);
}
