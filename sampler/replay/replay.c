/* One pass over the files folds facts, then every trace is decided, then the report is printed. */
#include "sampler/replay/replay.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "common/config/command_line.h"
#include "common/run/clock.h"
#include "common/run/program.h"
#include "sampler/replay/replay_report.h"
#include "sampler/replay/replay_source.h"
#include "sampler/replay/replay_traces.h"

#define PROGRESS_NS (5 * NS_PER_S)
#define EXIT_BAD_INPUT EXIT_START_FAILED

const char replay_help[] =
    "\n"
    "Offline: what the policies would decide about recorded traces (docs/replay.md)\n"
    "\n"
    "  --replay FILE...      decide these files' traces and print a line for each; - is standard input. --config may\n"
    "                        then also be a tail_sampling: map, or its content alone\n"
    "  --summary             print totals by policy and service and a forecast of volumes instead\n"
    "  --diff OTHER          print what this configuration's policies decide otherwise\n"
    "  --format json         print JSON, an object a line\n"
    "  --skip-malformed      report and count malformed records, and go on\n";

struct options {
    struct config_command_line line;
    const char **files;
    size_t file_count;
    char **common; /* what the line was read from: argv's words */
    int common_count;
    const char *diff;
    bool summary, json, skip_malformed;
};

struct replay {
    struct options options;
    struct config_context *contexts[REPLAY_SIDES];
    struct policy_set *sets[REPLAY_SIDES];
    struct policy_votes *votes[REPLAY_SIDES];
    size_t side_count;
    struct replay_traces *traces;
    uint64_t malformed, finished_bytes, progress_ns;
};

/* -- the command line ------------------------------------------------------------------------------------ */

enum option_value {
    OPTION_REPLAY = 256,
    OPTION_SUMMARY,
    OPTION_DIFF,
    OPTION_FORMAT,
    OPTION_SKIP_MALFORMED,
    OPTION_CONFIG,
    OPTION_SET,
    OPTION_FEATURE_GATES,
};

static const struct option long_options[] = {
    {"replay", required_argument, NULL, OPTION_REPLAY},
    {"summary", no_argument, NULL, OPTION_SUMMARY},
    {"diff", required_argument, NULL, OPTION_DIFF},
    {"format", required_argument, NULL, OPTION_FORMAT},
    {"skip-malformed", no_argument, NULL, OPTION_SKIP_MALFORMED},
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"set", required_argument, NULL, OPTION_SET},
    {"feature-gates", required_argument, NULL, OPTION_FEATURE_GATES},
    {0},
};

static char config_word[] = "--config", set_word[] = "--set", gates_word[] = "--feature-gates";
static char *const common_words[] = {config_word, set_word, gates_word};

bool replay_is_asked(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--replay") == 0 || strncmp(argv[i], "--replay=", strlen("--replay=")) == 0)
            return true;
    return false;
}

static int complain(const char *word, const char *trouble)
{
    fprintf(stderr, "tailrace-sampler: error: %s%s\n", word, trouble);
    return EXIT_BAD_CONFIG;
}

static int read_format(struct options *options, const char *word)
{
    options->json = strcmp(word, "json") == 0;
    if (!options->json && strcmp(word, "text") != 0)
        return complain(word, " is no --format: text or json");
    return 0;
}

/* Words of options that are the server's too are left to its parser. */
static int read_option(struct options *options, int option, char *name)
{
    switch (option) {
    case 1: /* a word by itself */
    case OPTION_REPLAY:
        options->files[options->file_count++] = optarg;
        return 0;
    case OPTION_SUMMARY:
        options->summary = true;
        return 0;
    case OPTION_DIFF:
        options->diff = optarg;
        return 0;
    case OPTION_FORMAT:
        return read_format(options, optarg);
    case OPTION_SKIP_MALFORMED:
        options->skip_malformed = true;
        return 0;
    case OPTION_CONFIG:
    case OPTION_SET:
    case OPTION_FEATURE_GATES:
        options->common[options->common_count++] = common_words[option - OPTION_CONFIG];
        options->common[options->common_count++] = optarg;
        return 0;
    case ':':
        return complain(name, " needs a value");
    default:
        return complain(name, " is no option of --replay; --help lists them");
    }
}

static int read_options(int argc, char **argv, struct options *options)
{
    char message[COMMAND_LINE_HELP_SIZE];
    int code = 0;

    options->files = calloc((size_t)argc + 1, sizeof(*options->files));
    options->common = calloc((size_t)argc * 2 + 1, sizeof(*options->common));
    ASSERT(options->files != NULL && options->common != NULL);
    options->common[options->common_count++] = argv[0];
    opterr = 0;
    optind = 0;
    while (code == 0) {
        int word = optind > 0 ? optind : 1, option = getopt_long(argc, argv, "-:", long_options, NULL);

        if (option < 0)
            break;
        code = read_option(options, option, argv[word]);
    }
    while (code == 0 && optind < argc) /* behind "--" */
        options->files[options->file_count++] = argv[optind++];
    if (code == 0 && command_line_parse(options->common_count, options->common, &options->line, message, sizeof(message)))
        code = complain(message, "");
    return code;
}

/* -- configurations ---------------------------------------------------------------------------------------- */

static void print_errors(struct config_context *context)
{
    for (const char *at = config_errors(context); *at;) {
        size_t len = strcspn(at, "\n");

        fprintf(stderr, "tailrace-sampler: error: %.*s\n", (int)len, at);
        at += len + (at[len] == '\n');
    }
}

/* One more policy set to judge by. */
static int read_side(struct replay *replay, const struct config_command_line *line)
{
    struct config_context *context = config_context_new();
    const struct config_node *root = config_load(context, line);
    struct tail_sampling_config config;
    struct policy_set **set = &replay->sets[replay->side_count];

    replay->contexts[replay->side_count] = context;
    if (!root || tail_sampling_config_find(context, root, &config) ||
        policy_set_new(context, config.policies, config.sample_on_first_match, 1, set)) {
        print_errors(context);
        return EXIT_BAD_CONFIG;
    }
    replay->votes[replay->side_count] = calloc(policy_set_count(*set) + 1, sizeof(struct policy_votes));
    ASSERT(replay->votes[replay->side_count] != NULL);
    replay_traces_judge_by(replay->traces, *set, config.maximum_trace_size_bytes);
    replay->side_count++;
    return 0;
}

static int read_sides(struct replay *replay)
{
    const struct options *options = &replay->options;
    int code = read_side(replay, &options->line);

    if (code == 0 && options->diff) {
        const char *files[1] = {options->diff};
        struct config_command_line line = options->line; /* with the same --set on top */

        line.files = files;
        line.file_count = 1;
        code = read_side(replay, &line);
    }
    return code;
}

/* -- files --------------------------------------------------------------------------------------------------- */

/* A line every few seconds, for whoever waits. */
static void show_progress(struct replay *replay, const struct replay_source *source)
{
    uint64_t now_ns = clock_now_ns();

    if (now_ns < replay->progress_ns)
        return;
    if (replay->progress_ns > 0)
        fprintf(stderr, "tailrace-sampler: replay: %.1f MiB, %llu spans, %llu traces so far\n",
            (double)(replay->finished_bytes + replay_source_bytes(source)) / (double)MIB,
            (unsigned long long)replay_traces_totals(replay->traces)->spans, (unsigned long long)replay_traces_count(replay->traces));
    replay->progress_ns = now_ns + PROGRESS_NS;
}

static int malformed(struct replay *replay, const char *reason)
{
    fprintf(stderr, "tailrace-sampler: %s: %s\n", replay->options.skip_malformed ? "skipped" : "error", reason);
    replay->malformed++;
    return replay->options.skip_malformed ? 0 : EXIT_BAD_INPUT;
}

static int read_file(struct replay *replay, const char *path)
{
    CLEANUP(replay_source_close) struct replay_source *source = NULL;
    struct slice request;
    int r = replay_source_open(path, &source), code = 0;

    while (r != REPLAY_E_FAILED && code == 0) {
        show_progress(replay, source);
        r = replay_source_next(source, &request);
        if (r == REPLAY_E_END)
            break;
        if (r == REPLAY_E_MALFORMED)
            code = malformed(replay, replay_source_error(source));
        else if (r == 0 && !replay_traces_add(replay->traces, request))
            code = malformed(replay, replay_source_blame(source, "it is no whole protobuf request"));
    }
    if (r == REPLAY_E_FAILED) {
        fprintf(stderr, "tailrace-sampler: error: %s\n", replay_source_error(source));
        code = EXIT_BAD_INPUT;
    }
    replay->finished_bytes += replay_source_bytes(source);
    return code;
}

/* -- all of it ------------------------------------------------------------------------------------------------ */

static int print_report(struct replay *replay)
{
    struct replay_report report = {.out = stdout, .json = replay->options.json, .traces = replay->traces};
    const struct replay_totals *totals = replay_traces_totals(replay->traces);

    for (size_t i = 0; i < replay->side_count; i++) {
        replay_traces_decide(replay->traces, i, replay->votes[i]);
        report.sets[i] = replay->sets[i];
        report.votes[i] = replay->votes[i];
    }
    replay_traces_sort(replay->traces);
    if (replay->options.diff)
        replay_report_diff(&report, !replay->options.summary);
    else if (replay->options.summary)
        replay_report_summary(&report);
    else
        replay_report_traces(&report);
    if (totals->rejected > 0)
        fprintf(stderr, "tailrace-sampler: %llu spans were left out: without valid IDs, or malformed inside\n",
            (unsigned long long)totals->rejected);
    if (replay->malformed > 0)
        fprintf(stderr, "tailrace-sampler: %llu malformed records were skipped\n", (unsigned long long)replay->malformed);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("tailrace-sampler: error: standard output");
        return EXIT_BAD_INPUT;
    }
    return EXIT_CLEAN;
}

static int run(struct replay *replay)
{
    int code = read_sides(replay);

    if (replay->options.summary && !replay->options.diff)
        replay_traces_count_services(replay->traces);
    for (size_t i = 0; code == 0 && i < replay->options.file_count; i++)
        code = read_file(replay, replay->options.files[i]);
    return code ? code : print_report(replay);
}

int replay_main(int argc, char **argv)
{
    struct replay replay = {.traces = replay_traces_new()};
    int code = read_options(argc, argv, &replay.options);

    if (code == 0)
        code = run(&replay);
    replay_traces_free(replay.traces);
    for (size_t i = 0; i < REPLAY_SIDES; i++) {
        policy_set_unref(replay.sets[i]);
        config_context_free(replay.contexts[i]);
        free(replay.votes[i]);
    }
    command_line_deinit(&replay.options.line);
    free(replay.options.files);
    free(replay.options.common);
    return code;
}
