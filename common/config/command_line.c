#include "common/config/command_line.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"

/* Values past any single character, so that getopt_long's optopt can tell a short option from a long one. */
enum option_value {
    OPTION_CONFIG = 256,
    OPTION_SET,
    OPTION_FEATURE_GATES,
    OPTION_CHECK,
    OPTION_PRINT_CONFIG,
    OPTION_VERSION,
    OPTION_HELP,
};

static const struct option options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"set", required_argument, NULL, OPTION_SET},
    {"feature-gates", required_argument, NULL, OPTION_FEATURE_GATES},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"print-config", no_argument, NULL, OPTION_PRINT_CONFIG},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

/* The Collector's gates that change what tail sampling does; all of them are off unless they are turned on. refusal: why one
 * cannot be. */
static const struct {
    const char *name, *refusal;
} known_gates[] = {
    {GATE_RECORD_POLICY, NULL},
    {GATE_USE_TRACESTATE, NULL},
    {"processor.tailsamplingprocessor.metricstatcountspanssampled",
        "spans are not counted by policy; tailrace-sampler --replay --summary does it for a file of traces"},
    {"processor.tailsamplingprocessor.metricstatcountbytessampled",
        "bytes are not counted by policy; tailrace-sampler --replay --summary does it for a file of traces"},
    {"processor.tailsamplingprocessor.tailstorageextension", "extensions are Go code, which is not run here"},
};

/* The known gate whose last word begins as this one's: what was probably meant. NULL: none. */
static const char *nearest_gate(const char *gate, size_t len)
{
    const char *dot = memrchr(gate, '.', len);
    const char *word = dot ? dot + 1 : gate;
    size_t compared = len - (size_t)(word - gate);

    /* As much as is alike, but no less than four letters. */
    for (; compared >= 4; compared--)
        for (size_t i = 0; i < ARRAY_COUNT(known_gates); i++)
            if (strncasecmp(strrchr(known_gates[i].name, '.') + 1, word, compared) == 0)
                return known_gates[i].name;
    return NULL;
}

/* A gate turned off is how it is; one that cannot be turned on is refused by name. */
static int check_gate(const char *gate, size_t len, char *message, size_t message_size)
{
    bool off = len > 0 && gate[0] == '-';
    const char *nearest;

    if (len > 0 && (gate[0] == '-' || gate[0] == '+')) {
        gate++;
        len--;
    }
    for (size_t i = 0; i < ARRAY_COUNT(known_gates); i++) {
        if (strlen(known_gates[i].name) != len || memcmp(known_gates[i].name, gate, len) != 0)
            continue;
        if (off || !known_gates[i].refusal)
            return 0;
        (void)snprintf(message, message_size, "--feature-gates: %s: %s; leave it out", known_gates[i].name, known_gates[i].refusal);
        return CONFIG_E_INVALID;
    }
    nearest = nearest_gate(gate, len);
    (void)snprintf(message, message_size, "--feature-gates: no gate is called \"%.*s\"%s%s%s", (int)(len > 200 ? 200 : len), gate,
        nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
    return CONFIG_E_INVALID;
}

static int check_gates(const char *gates, char *message, size_t message_size)
{
    while (*gates) {
        size_t len = strcspn(gates, ",");

        if (len > 0 && check_gate(gates, len, message, message_size))
            return CONFIG_E_INVALID;
        gates += len;
        gates += *gates == ',';
    }
    return 0;
}

static void unknown_option(const char *word, char *message, size_t message_size)
{
    const char *name = word + strspn(word, "-");
    size_t len = strcspn(name, "=");

    /* A single dash before a whole word, as Go's flags allow. */
    for (const struct option *option = options; option->name && word[0] == '-' && word[1] != '-'; option++) {
        if (strlen(option->name) == len && memcmp(option->name, name, len) == 0) {
            (void)snprintf(message, message_size, "unknown option %.100s; did you mean -%.100s?", word, word);
            return;
        }
    }
    (void)snprintf(message, message_size, "unknown option %.100s; --help lists the options", word);
}

static void list_add(const char ***items, size_t *count, const char *item, int argc)
{
    if (!*items) {
        *items = calloc((size_t)argc, sizeof(char *)); /* no more of them than words */
        if (!*items)
            abort();
    }
    (*items)[(*count)++] = item;
}

static int parse(int argc, char **argv, struct config_command_line *line, char *message, size_t message_size)
{
    opterr = 0;
    optind = 0; /* glibc: begin anew, tests parse more than once */
    for (;;) {
        int word_index = optind > 0 ? optind : 1;
        int option = getopt_long(argc, argv, "+:", options, NULL);

        if (option < 0)
            break;
        switch (option) {
        case OPTION_CONFIG:
            list_add(&line->files, &line->file_count, optarg, argc);
            break;
        case OPTION_SET:
            list_add(&line->sets, &line->set_count, optarg, argc);
            break;
        case OPTION_FEATURE_GATES:
            line->feature_gates = optarg;
            if (check_gates(optarg, message, message_size))
                return CONFIG_E_INVALID;
            break;
        case OPTION_CHECK:
            line->check = true;
            break;
        case OPTION_PRINT_CONFIG:
            line->print_config = true;
            break;
        case OPTION_VERSION:
            line->version = true;
            break;
        case OPTION_HELP:
            line->help = true;
            break;
        case ':':
            (void)snprintf(message, message_size, "%.100s needs a value", argv[word_index]);
            return CONFIG_E_INVALID;
        default:
            if (optopt >= OPTION_CONFIG) {
                (void)snprintf(message, message_size, "%.100s takes no value", argv[word_index]);
                return CONFIG_E_INVALID;
            }
            unknown_option(argv[word_index], message, message_size);
            return CONFIG_E_INVALID;
        }
    }
    if (optind < argc) {
        (void)snprintf(message, message_size, "\"%.100s\" is no option; a configuration file is given by --config FILE",
            argv[optind]);
        return CONFIG_E_INVALID;
    }
    if (line->file_count == 0 && !line->help && !line->version) {
        (void)snprintf(message, message_size, "no configuration: give --config FILE");
        return CONFIG_E_INVALID;
    }
    return 0;
}

int command_line_parse(int argc, char **argv, struct config_command_line *out_line, char *message, size_t message_size)
{
    struct config_command_line line = {0};

    if (parse(argc, argv, &line, message, message_size)) {
        command_line_deinit(&line);
        return CONFIG_E_INVALID;
    }
    *out_line = line;
    return 0;
}

void command_line_deinit(struct config_command_line *line)
{
    if (!line)
        return;
    free(line->files);
    free(line->sets);
    *line = (struct config_command_line){0};
}

const char *command_line_help(const char *program, char *text, size_t size)
{
    (void)snprintf(text, size,
        "Usage: %s --config FILE [OPTION]...\n"
        "\n"
        "  --config FILE         read the configuration; given again, later files are laid over earlier ones\n"
        "  --set KEY=VALUE       set one key above all files; KEY's parts are joined by dots or by ::\n"
        "  --feature-gates LIST  turn features on (NAME) or off (-NAME), by the Collector's names\n"
        "  --check               read and check the configuration, say what is wrong, and end\n"
        "  --print-config        print the merged configuration without secrets, and end\n"
        "  --version             print the version, and end\n"
        "  --help                print this, and end\n"
        "\n"
        "Ends with 0 after a clean stop, 1 when the configuration is wrong, 2 when starting failed, 3 when the stop\n"
        "was cut short (a second signal, or tailrace.drain_timeout) and not everything was delivered.\n",
        program);
    return text;
}
