#include "common/run/program.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/plant.h"
#include "common/config/command_line.h"
#include "common/run/grpc_pump.h"

#define ERROR_SIZE 512

static void print_lines(FILE *out, const char *program, const char *kind, const char *lines)
{
    while (*lines) {
        size_t len = strcspn(lines, "\n");

        fprintf(out, "%s: %s: %.*s\n", program, kind, (int)len, lines);
        lines += len;
        lines += *lines == '\n';
    }
}

static void print_version(const struct program *program)
{
    printf("%s %s (gRPC core %s%s)\n", program->name, TAILRACE_VERSION, pump_library_version(),
        PLANT == PLANT_NONE ? "" : ", with a planted defect: for tests only");
}

/* Loads and reads; the exit code when that is all there is to do, -1 to go on and serve. */
static int program_configure(const struct program *program, const struct config_command_line *line,
    struct config_context *context, struct config_source *source)
{
    const struct config_node *root;
    char *printed;

    source->line = line;
    source->hash = config_files_hash(line);
    source->root = root = config_load(context, line);
    if (!root || program->read(context, root, program->config)) {
        print_lines(stderr, program->name, "error", config_errors(context));
        return EXIT_BAD_CONFIG;
    }
    if (line->print_config) {
        printed = config_print(root);
        if (printed)
            fputs(printed, stdout);
        free(printed);
        return EXIT_CLEAN;
    }
    if (line->check) {
        print_lines(stderr, program->name, "warning", config_warnings(context));
        printf("%s: the configuration is valid\n", program->name);
        return EXIT_CLEAN;
    }
    return -1;
}

static void log_warnings(struct config_context *context)
{
    const char *lines = config_warnings(context);

    while (*lines) {
        size_t len = strcspn(lines, "\n");

        log_event(LOG_WARN, "config_note", "text=\"%.*s\"", (int)len, lines);
        lines += len;
        lines += *lines == '\n';
    }
}

static int program_serve(const struct program *program, struct config_context *context, const struct config_source *source)
{
    char error[ERROR_SIZE] = "";
    int code;

    log_setup(program->name, program->telemetry->log_level, program->telemetry->log_encoding);
    log_warnings(context);
    pump_library_init();
    code = program->serve(program->config, source, error, sizeof(error));
    pump_library_deinit();
    if (code == EXIT_START_FAILED)
        fprintf(stderr, "%s: error: %s\n", program->name, error[0] ? error : "the start failed");
    return code;
}

static_assert(METRICS_ENDPOINTS_MAX <= ADMIN_METRICS_MAX, "all that may be configured can be served");

struct admin_options program_admin_options(const struct tailrace_config *config)
{
    return (struct admin_options){
        .endpoint = config->admin_endpoint && config->admin_endpoint[0] ? config->admin_endpoint : NULL,
        .token_file = config->admin_token_file,
        .health = {config->health.endpoint, config->health.path, config->health.healthy, config->health.unhealthy},
        .metrics_endpoints = config->metrics_endpoints,
        .metrics_endpoint_count = config->metrics_endpoint_count,
    };
}

bool program_has_admin(const struct tailrace_config *config)
{
    return (config->admin_endpoint && config->admin_endpoint[0]) || config->health.endpoint || config->metrics_endpoint_count > 0;
}

int program_main(const struct program *program, int argc, char **argv)
{
    struct config_command_line line;
    struct config_context *context;
    struct config_source source;
    char text[COMMAND_LINE_HELP_SIZE];
    int code;

    if (command_line_parse(argc, argv, &line, text, sizeof(text))) {
        fprintf(stderr, "%s: error: %s\n", program->name, text);
        return EXIT_BAD_CONFIG;
    }
    if (line.help || line.version) {
        if (line.help) {
            fputs(command_line_help(program->name, text, sizeof(text)), stdout);
            fputs(program->more_help ? program->more_help : "", stdout);
        } else {
            print_version(program);
        }
        command_line_deinit(&line);
        return EXIT_CLEAN;
    }
    context = config_context_new();
    code = program_configure(program, &line, context, &source);
    if (code < 0)
        code = program_serve(program, context, &source);
    config_context_free(context);
    command_line_deinit(&line);
    return code;
}

int program_main_text(const struct program *program, const char *name, const char *text, size_t len)
{
    struct config_context *context = config_context_new();
    const struct config_node *root = config_load_text(context, name, text, len);
    int code;

    if (!root || program->read(context, root, program->config)) {
        print_lines(stderr, program->name, "error", config_errors(context));
        code = EXIT_BAD_CONFIG;
    } else {
        code = program_serve(program, context, NULL);
    }
    config_context_free(context);
    return code;
}
