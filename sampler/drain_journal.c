/* The words become a sampler's configuration of a few lines, which is read as any other: one reader, one set of checks. */
#include "sampler/drain_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/metrics/text.h"
#include "common/run/program.h"
#include "sampler/journal/journal_disk.h"

const char drain_journal_help[] =
    "\n"
    "An orphan volume: give its traces to the cluster, and forget them as they are accepted (docs/drain-journal.md)\n"
    "\n"
    "  --drain-journal DIR   the journal's directory; no sampler may run on it\n"
    "  --to HOST:PORT        any sampler of the cluster\n"
    "  --decision-wait TIME  the cluster's decision_wait, from which traces that are not decided yet are due; default 30s\n"
    "  --cluster NAME        the cluster's name, if its tailrace.cluster.name is not \"tailrace\"\n"
    "  --advertise HOST:PORT where samplers reach this process; default the machine's first address\n"
    "  --ca-file FILE        speak TLS: authorities of the samplers' certificates\n"
    "  --cert-file FILE      … and the own certificate, with\n"
    "  --key-file FILE       its key; samplers then reach this process over TLS too\n"
    "  --server-name NAME    the name in the samplers' certificates, if it is not that of their address\n";

struct words {
    const char *directory, *to, *decision_wait, *cluster, *advertise, *ca_file, *cert_file, *key_file, *server_name;
    bool help;
};

enum option_value {
    OPTION_DRAIN = 256,
    OPTION_TO,
    OPTION_DECISION_WAIT,
    OPTION_CLUSTER,
    OPTION_ADVERTISE,
    OPTION_CA,
    OPTION_CERT,
    OPTION_KEY,
    OPTION_SERVER_NAME,
    OPTION_HELP,
};

static const struct option options[] = {
    {"drain-journal", required_argument, NULL, OPTION_DRAIN},
    {"to", required_argument, NULL, OPTION_TO},
    {"decision-wait", required_argument, NULL, OPTION_DECISION_WAIT},
    {"cluster", required_argument, NULL, OPTION_CLUSTER},
    {"advertise", required_argument, NULL, OPTION_ADVERTISE},
    {"ca-file", required_argument, NULL, OPTION_CA},
    {"cert-file", required_argument, NULL, OPTION_CERT},
    {"key-file", required_argument, NULL, OPTION_KEY},
    {"server-name", required_argument, NULL, OPTION_SERVER_NAME},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

bool drain_journal_is_asked(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--drain-journal") == 0 || strncmp(argv[i], "--drain-journal=", strlen("--drain-journal=")) == 0)
            return true;
    }
    return false;
}

static int complain(const char *word, const char *trouble)
{
    fprintf(stderr, "tailrace-sampler: error: %s%s\n", word, trouble);
    return EXIT_BAD_CONFIG;
}

static int words_read(int argc, char **argv, struct words *out_words)
{
    opterr = 0;
    optind = 0;
    for (;;) {
        int at = optind > 0 ? optind : 1;
        int option = getopt_long(argc, argv, "+:", options, NULL);

        switch (option) {
        case -1:
            return optind < argc ? complain(argv[optind], ": no option of --drain-journal") : 0;
        case OPTION_DRAIN:
            out_words->directory = optarg;
            break;
        case OPTION_TO:
            out_words->to = optarg;
            break;
        case OPTION_DECISION_WAIT:
            out_words->decision_wait = optarg;
            break;
        case OPTION_CLUSTER:
            out_words->cluster = optarg;
            break;
        case OPTION_ADVERTISE:
            out_words->advertise = optarg;
            break;
        case OPTION_CA:
            out_words->ca_file = optarg;
            break;
        case OPTION_CERT:
            out_words->cert_file = optarg;
            break;
        case OPTION_KEY:
            out_words->key_file = optarg;
            break;
        case OPTION_SERVER_NAME:
            out_words->server_name = optarg;
            break;
        case OPTION_HELP:
            out_words->help = true;
            break;
        case ':':
            return complain(argv[at], " needs a value");
        default:
            return complain(argv[at], ": no option of --drain-journal; --help lists them");
        }
    }
}

/* A sampler would make the directory, and the journal in it; here a wrong name must not end as "nothing was left". */
static int directory_check(const char *directory)
{
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC), code = 0;

    if (fd < 0) {
        fprintf(stderr, "tailrace-sampler: error: --drain-journal %s: no such directory\n", directory);
        return EXIT_START_FAILED;
    }
    if (faccessat(fd, JOURNAL_HEAD_NAME, F_OK, 0) < 0) {
        fprintf(stderr, "tailrace-sampler: error: --drain-journal %s: no journal is there (file " JOURNAL_HEAD_NAME ": %s)\n", directory,
            strerror(errno));
        code = EXIT_START_FAILED;
    }
    (void)close(fd);
    return code;
}

static int words_check(const struct words *words)
{
    if (!words->to)
        return complain("--to HOST:PORT", " is missing: the address of any sampler of the cluster");
    if (!words->cert_file != !words->key_file)
        return complain(words->cert_file ? "--key-file" : "--cert-file", " is missing: a certificate and its key belong together");
    if (words->cert_file && !words->ca_file)
        return complain("--ca-file", " is missing: a certificate without the authorities of the others");
    if (words->server_name && !words->ca_file)
        return complain("--ca-file", " is missing: without TLS no name is checked");
    return directory_check(words->directory);
}

/* -- as a configuration --------------------------------------------------------------------------------------------- */

static void put(struct text *out, const char *before, const char *value)
{
    if (!value)
        return;
    text_append(out, "%s", before);
    text_append_json(out, slice_text(value)); /* every JSON text is YAML */
}

/* Not the name of any sampler: the volume's own may run again elsewhere. */
static void own_name(char *out, size_t size)
{
    char host[64] = "";

    if (gethostname(host, sizeof(host) - 1) != 0 || !host[0])
        (void)snprintf(host, sizeof(host), "host");
    (void)snprintf(out, size, "drain-journal-%s-%d", host, (int)getpid());
}

static void put_server_tls(const struct words *words, struct text *out)
{
    if (!words->cert_file)
        return;
    put(out, ", tls: { cert_file: ", words->cert_file);
    put(out, ", key_file: ", words->key_file);
    text_append(out, " }");
}

static void put_client_tls(const struct words *words, struct text *out)
{
    if (!words->ca_file)
        return;
    put(out, ", tls: { ca_file: ", words->ca_file);
    put(out, ", cert_file: ", words->cert_file);
    put(out, ", key_file: ", words->key_file);
    put(out, ", server_name_override: ", words->server_name);
    text_append(out, " }");
}

static void put_config(const struct words *words, struct text *out)
{
    char name[128];

    own_name(name, sizeof(name));
    text_append(out, "receivers: { otlp: { protocols: { grpc: { endpoint: \"0.0.0.0:0\"");
    put_server_tls(words, out);
    text_append(out, " } } } }\n"
        "processors: { tail_sampling: { policies: [ { name: nobody-asks, type: always_sample } ]");
    put(out, ", decision_wait: ", words->decision_wait);
    text_append(out, " } }\n"
        "exporters: { nop: }\n"
        "service: { pipelines: { traces: { receivers: [otlp], processors: [tail_sampling], exporters: [nop] } } }\n"
        "tailrace:\n  admin: { endpoint: \"\" }\n  workers: 1\n  drain_timeout: 87600h\n  memory: { at_limit: spill }\n");
    put(out, "  journal: { directory: ", words->directory);
    put(out, " }\n  cluster: { self: ", name);
    put(out, ", name: ", words->cluster);
    put(out, ", advertise: ", words->advertise);
    put(out, ", resolver: { static: { hostnames: [ ", words->to);
    text_append(out, " ] } }");
    put_client_tls(words, out);
    text_append(out, " }\n");
}

int drain_journal_main(const struct program *program, int argc, char **argv)
{
    struct words words = {.help = false};
    struct text config = {0};
    int code = words_read(argc, argv, &words);

    if (code == 0 && words.help) {
        fputs(drain_journal_help + 1, stdout);
        return EXIT_CLEAN;
    }
    if (code == 0)
        code = words_check(&words);
    if (code)
        return code;
    put_config(&words, &config);
    code = config.failed ? EXIT_START_FAILED : program_main_text(program, "--drain-journal", config.at, config.len);
    text_deinit(&config);
    return code;
}
