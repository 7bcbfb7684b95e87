/* Writes docs/configuration.md from the tables by which configurations are read, or checks that the file is what would be
 * written. What a key defaults to is taken from the structs that the tables read over, so that no page can differ from the program.
 *
 *   configuration-doc-writer --write FILE      configuration-doc-writer --check FILE
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/num.h"
#include "common/config/config_diff.h"
#include "common/config/otlp_parts.h"
#include "common/metrics/text.h"
#include "lb/lb_config.h"
#include "sampler/decide/policy.h"
#include "sampler/sampler_config.h"
#include "sampler/sampler_reload.h"
#include "tests/kit/doc_page.h"

#define DIFFERS  "(differs from the Collector"
#define PATH_MAX_LEN 256

/* -- cells ------------------------------------------------------------------------------------------------ */

static void put_cell(struct text *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '|' || text[i] == '<')
            text_append(out, text[i] == '|' ? "\\|" : "&lt;");
        else
            text_append(out, "%c", text[i]);
    }
}

static const char *type_name(const struct config_key *key)
{
    switch (key->type) {
    case CONFIG_BOOL:
        return "true or false";
    case CONFIG_INT:
    case CONFIG_UINT:
        return "whole number";
    case CONFIG_DOUBLE:
        return "number";
    case CONFIG_STRING:
        return "text";
    case CONFIG_DURATION:
    case CONFIG_SPAN:
        return "duration";
    case CONFIG_MIB:
        return "MiB";
    case CONFIG_STRINGS:
        return "list of texts";
    case CONFIG_MAP:
        return "map";
    case CONFIG_CHOICE:
    case CONFIG_NODE:
    case CONFIG_CUSTOM:
    case CONFIG_REFUSED:
    case CONFIG_IGNORED:
        break;
    }
    return "";
}

static void put_type(struct text *out, const struct config_key *key)
{
    if (key->type == CONFIG_CHOICE) {
        char *choices = strdup(key->choices), *rest = choices, *choice;

        if (!choices)
            abort();
        while ((choice = strsep(&rest, "|")))
            text_append(out, "%s`%s`", choice == choices ? "" : ", ", choice);
        free(choices);
        return;
    }
    text_append(out, "%s", type_name(key));
}

static void put_duration(struct text *out, int64_t ns)
{
    static const struct {
        int64_t ns;
        const char *name;
    } units[] = {{(int64_t)(3600 * NS_PER_S), "h"}, {(int64_t)(60 * NS_PER_S), "m"}, {(int64_t)NS_PER_S, "s"}, {(int64_t)NS_PER_MS, "ms"}};

    for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
        if (ns != 0 && ns % units[i].ns == 0) {
            text_append(out, "`%" PRId64 "%s`", ns / units[i].ns, units[i].name);
            return;
        }
    }
    text_append(out, ns == 0 ? "`0s`" : "`%" PRId64 "ns`", ns);
}

static void put_choice(struct text *out, const struct config_key *key, const void *field)
{
    const char *at = key->choices;
    int index;

    memcpy(&index, field, sizeof(index));
    while (index-- > 0)
        at += strcspn(at, "|") + 1;
    text_append(out, "`%.*s`", (int)strcspn(at, "|"), at);
}

/* base: the struct with the defaults, or NULL where the table has none of its own. A key of whose presence is kept note has none. */
static void put_default(struct text *out, const struct config_key *key, const void *base)
{
    static const char zeros[64];
    const void *field = base ? (const char *)base + key->offset : zeros;
    const char *text;
    uint64_t number;
    double real;
    bool truth;

    if (key->set_offset != SIZE_MAX || (!base && key->type != CONFIG_BOOL))
        return;
    memcpy(&number, field, sizeof(number));
    switch (key->type) {
    case CONFIG_BOOL:
        memcpy(&truth, field, sizeof(truth));
        text_append(out, "`%s`", truth ? "true" : "false");
        return;
    case CONFIG_INT:
        text_append(out, "`%" PRId64 "`", (int64_t)number);
        return;
    case CONFIG_UINT:
        text_append(out, "`%" PRIu64 "`", number);
        return;
    case CONFIG_DOUBLE:
        memcpy(&real, field, sizeof(real));
        text_append(out, "`%g`", real);
        return;
    case CONFIG_STRING:
        memcpy(&text, field, sizeof(text));
        if (text)
            text_append(out, "`%s`", text);
        return;
    case CONFIG_DURATION:
    case CONFIG_SPAN:
        put_duration(out, (int64_t)number);
        return;
    case CONFIG_MIB:
        if (number > 0)
            text_append(out, "`%" PRIu64 "`", (uint64_t)(number / MIB));
        return;
    case CONFIG_CHOICE:
        put_choice(out, key, field);
        return;
    case CONFIG_STRINGS:
    case CONFIG_MAP:
    case CONFIG_NODE:
    case CONFIG_CUSTOM:
    case CONFIG_REFUSED:
    case CONFIG_IGNORED:
        return;
    }
}

/* A sentence: a capital at its beginning, a full stop at its end. The default has a column of its own, and the difference too. */
static void put_help(struct text *out, const char *help)
{
    const char *cut = strstr(help, " " DIFFERS);
    const char *given = strstr(help, " (default ");
    size_t len = cut ? (size_t)(cut - help) : strlen(help);

    if (given && help + strlen(help) - 1 == strchr(given, ')'))
        len = (size_t)(given - help);
    while (len > 0 && (help[len - 1] == '.' || help[len - 1] == ' '))
        len--;
    text_append(out, "%c", toupper((unsigned char)help[0]));
    put_cell(out, help + 1, len - 1);
    text_append(out, ".");
}

static void put_difference(struct text *out, const struct config_key *key, const char *same)
{
    const char *at = strstr(key->help, DIFFERS);
    size_t len;

    if (key->type == CONFIG_REFUSED) {
        text_append(out, key->choices && *key->choices ? "refused, but for `" : "refused");
        if (key->choices && *key->choices) {
            put_cell(out, key->choices, strcspn(key->choices, "|"));
            text_append(out, "`");
        }
        return;
    }
    if (key->type == CONFIG_IGNORED) {
        text_append(out, "no effect");
        return;
    }
    if (!at) {
        text_append(out, "%s", same);
        return;
    }
    at += strlen(DIFFERS);
    at += strspn(at, ": ");
    len = strlen(at);
    while (len > 0 && at[len - 1] != ')')
        len--;
    text_append(out, "**differs**%s", len > 1 ? ": " : "");
    put_cell(out, at, len > 0 ? len - 1 : 0);
}

/* -- tables ----------------------------------------------------------------------------------------------- */

static const struct config_key *below_of(const struct config_key *key)
{
    return key->type == CONFIG_MAP || key->type == CONFIG_CUSTOM || key->type == CONFIG_NODE ? key->nested : NULL;
}

/* A key that nobody explains is a defect of its table. */
static void need_help(const struct config_key *key, const char *path)
{
    if (key->help && strlen(key->help) > 1)
        return;
    fprintf(stderr, "configuration-doc-writer: %s has no help\n", path);
    exit(1);
}

/* Where a table's keys stand in the file, and in which tiers' files. */
struct place {
    const char *path; /* "exporters.otlp."; NULL: keys inside a policy, which are as live as their list */
    bool lb, sampler;
};

static bool is_live(const char *const *patterns, const char *path)
{
    return config_path_matches(patterns, path);
}

/* What a running program makes of a change of the key. */
static void put_live(struct text *out, const struct config_key *key, const struct place *place, const char *below)
{
    char path[2 * PATH_MAX_LEN];
    bool lb, sampler;

    (void)snprintf(path, sizeof(path), "%s%s", place->path, below);
    lb = place->lb && is_live(lb_live_keys, path);
    sampler = place->sampler && is_live(sampler_live_keys, path);
    if (key->type == CONFIG_REFUSED || key->type == CONFIG_IGNORED || key->type == CONFIG_MAP)
        return;
    if (lb == place->lb && sampler == place->sampler)
        text_append(out, "live");
    else
        text_append(out, "%s", lb ? "live on tailrace-lb" : sampler ? "live on tailrace-sampler" : "restart");
}

static void put_rows(struct text *out, const struct config_key *keys, const void *base, const char *prefix, const char *same, const struct place *place)
{
    for (const struct config_key *key = keys; key->name; key++) {
        const struct config_key *below = below_of(key);
        char path[PATH_MAX_LEN];

        (void)snprintf(path, sizeof(path), "%s%s", prefix, key->name);
        need_help(key, path);
        text_append(out, "| `%s` | ", path);
        put_type(out, key);
        text_append(out, " | ");
        put_default(out, key, base);
        text_append(out, " | ");
        put_help(out, key->help);
        text_append(out, " | ");
        put_difference(out, key, same);
        if (place) {
            text_append(out, " | ");
            put_live(out, key, place, path);
        }
        text_append(out, " |\n");
        if (!below)
            continue;
        (void)snprintf(path, sizeof(path), "%s%s%s.", prefix, key->name, key->type == CONFIG_MAP || strcmp(key->name, "tls") == 0 ? "" : "[]");
        put_rows(out, below, key->type == CONFIG_MAP && base ? (const char *)base + key->offset : NULL, path, same, place);
    }
}

static void put_table(struct text *out, const char *title, const char *intro, const struct config_key *keys, const void *base, const char *same,
    const struct place *place)
{
    text_append(out, "\n### %s\n\n%s%s", title, intro, *intro ? "\n\n" : "");
    if (!keys || !keys->name) {
        text_append(out, "No settings.\n");
        return;
    }
    text_append(out, "| Key | Type | Default | Meaning | Collector |%s\n|---|---|---|---|---|%s\n", place ? " Change |" : "", place ? "---|" : "");
    put_rows(out, keys, base, "", same, place);
}

/* -- the page --------------------------------------------------------------------------------------------- */

static const char intro[] =
    "# Configuration\n"
    "\n"
    "A user's Collector file for either tier is read as it is: what it says means the same here, or it is refused at start with file,\n"
    "line, key and what to do about it. Nothing is silently ignored: a key without effect here, and what was mapped onto something of\n"
    "our own, has a line at start and in `--check`. `--print-config` shows what several `--config` files, `--set` and `${env:NAME}`\n"
    "make together, without secrets.\n"
    "\n"
    "This page is made from the tables by which files are read: change those, then run\n"
    "`meson compile -C build configuration-doc`.\n"
    "\n"
    "Columns. **Type**: empty where the meaning says it. **Default**: what no key means; empty where there is nothing, or the\n"
    "meaning says it. **Collector**: `same`; what differs; `refused` with the reason as meaning; `no effect` with the reason; `ours`\n"
    "for keys that the Collector has not. **Change**: what a running program makes of it when the files change: `live` keys are taken over\n"
    "within two seconds, those marked `restart` keep their value until the program is started again, which is said\n"
    "([reload.md](reload.md)). Policies are live with all that is in them.\n"
    "A duration is written as in the Collector, `1m30s`; a number without unit is nanoseconds. A single value stands for a list of one.\n"
    "\n"
    "## The file\n";

static const char pipelines[] =
    "\n"
    "A process carries one pipeline of traces. Its receivers are of type `otlp`, up to 8 of them, on addresses of their own. A second\n"
    "pipeline of traces is refused, since each span would go both ways: put its receivers and exporters into the first. Pipelines of\n"
    "metrics, logs or profiles belong in a Collector. Other components are refused by name with where their work can be done; a\n"
    "name that is not known, with the nearest that is. What no pipeline names is not read, and a line says so.\n";

static const char processors[] =
    "\n"
    "Neither of the two runs as a stage: a sampler gathers spans where it exports them and bounds memory in bytes from the start, a\n"
    "balancer gathers pieces for each sampler. Their keys are checked as in the Collector and mapped, in whatever place of the pipeline\n"
    "they stand: `batch` onto `sending_queue.batch` of exporters that have none (on a balancer it has no further effect);\n"
    "`memory_limiter`, its limit less the spike, onto `tailrace.memory.limit_mib` or, on a balancer, as an upper bound onto\n"
    "`tailrace.outbox.limit_mib`. Where those are set too, they win.\n";

static const char extensions[] =
    "\n"
    "Extensions run when `service.extensions` names them. `pprof`, `zpages` and `memory_ballast` are accepted without effect; others are\n"
    "refused by name.\n";

static void put_policies(struct text *out)
{
    text_append(out, "\n## Policies of tail_sampling\n\nEach has `name` (required, each once), `type` (required) and, under a key named after its type, "
                     "these settings.\n");
    for (size_t i = 0; policy_types[i]; i++) {
        const struct policy_type *type = policy_types[i];
        void *self = calloc(1, size_max(type->size, 1));
        char title[80];

        if (!self)
            abort();
        if (type->defaults)
            type->defaults(self);
        (void)snprintf(title, sizeof(title), "`%s`", type->name);
        put_table(out, title, "", type->keys, self, "same", NULL);
        free(self);
    }
}

static void put_page(struct text *out)
{
    const struct lb_config lb = lb_config_defaults();
    const struct sampler_config sampler = sampler_config_defaults();
    const struct otlp_file file = {.telemetry = {.log_encoding = LOG_CONSOLE}};

    const struct place top = {"", true, true}, pipeline = {"service.pipelines.traces.", true, true};
    const struct place receiver = {"receivers.otlp.", true, true}, balancing = {"exporters.loadbalancing.", true, false};
    const struct place exporter = {"exporters.otlp.", false, true}, tail_sampling = {"processors.tail_sampling.", false, true};
    const struct place batch = {"processors.batch.", true, true}, limiter = {"processors.memory_limiter.", true, true};
    const struct place health = {"extensions.health_check.", true, true}, basicauth = {"extensions.basicauth.", true, true};
    const struct place bearer = {"extensions.bearertokenauth.", true, true}, setter = {"extensions.headers_setter.", true, true};
    const struct place own_lb = {"tailrace.", true, false}, own_sampler = {"tailrace.", false, true};

    text_append(out, "%s", intro);
    put_table(out, "Top level", "", otlp_file_keys, &file, "same", &top);
    text_append(out, "%s", pipelines);
    put_table(out, "`service.pipelines.traces`", "", otlp_pipeline_keys, NULL, "same", &pipeline);
    text_append(out, "\n## Receivers\n");
    put_table(out, "`receivers.otlp`", "", otlp_receiver_keys, otlp_receiver_defaults(), "same", &receiver);
    text_append(out, "\n## Exporters\n");
    put_table(out, "`exporters.loadbalancing`", "tailrace-lb; also called `load_balancing`. The keys of `protocol.otlp` are those of `exporters.otlp`.",
        load_balancing_keys, NULL, "same", &balancing);
    put_table(out, "`exporters.otlp`", "tailrace-sampler, over gRPC; also called `otlp_grpc`.", otlp_grpc_exporter_keys,
        otlp_grpc_exporter_reading_defaults(), "same", &exporter);
    put_table(out, "`exporters.otlphttp`", "tailrace-sampler, over HTTP; also called `otlp_http`.", otlp_http_exporter_keys,
        otlp_http_exporter_reading_defaults(), "same", &exporter);
    put_table(out, "`exporters.debug`", "tailrace-sampler.", debug_exporter_keys, debug_exporter_reading_defaults(), "same", &exporter);
    put_table(out, "`exporters.nop`", "Both; what it is given is gone.", NULL, NULL, "same", NULL);
    text_append(out, "\n## Processors\n");
    put_table(out, "`processors.tail_sampling`", "tailrace-sampler; exactly one.", tail_sampling_keys, &sampler.tail_sampling, "same", &tail_sampling);
    text_append(out, "%s", processors);
    put_table(out, "`processors.batch`", "", batch_processor_keys, &batch_processor_defaults, "same", &batch);
    put_table(out, "`processors.memory_limiter`", "", memory_limiter_keys, &memory_limiter_defaults, "same", &limiter);
    put_policies(out);
    text_append(out, "\n## Extensions\n%s", extensions);
    put_table(out, "`extensions.health_check`", "", health_check_keys, &health_check_defaults, "same", &health);
    put_table(out, "`extensions.basicauth`", "", basicauth_keys, NULL, "same", &basicauth);
    put_table(out, "`extensions.bearertokenauth`", "", bearertokenauth_keys, NULL, "same", &bearer);
    put_table(out, "`extensions.headers_setter`", "For exporters.", headers_setter_keys, NULL, "same", &setter);
    text_append(out, "\n## What the Collector has no word for\n");
    put_table(out, "`tailrace` on tailrace-lb", "", lb_tailrace_keys, &lb, "ours", &own_lb);
    put_table(out, "`tailrace` on tailrace-sampler", "", sampler_tailrace_keys, &sampler, "ours", &own_sampler);
}

int main(int argc, char **argv)
{
    struct text page = {0};

    put_page(&page);
    return doc_page_main(argc, argv, &page, "the tables of keys", "configuration-doc");
}
