/* What both programs do before and after they serve: command line, configuration, logging, exit codes.
 *
 * Exit  0 after a clean stop (and for --help, --version, --check, --print-config) · 1 bad configuration, told on standard
 *       error with file, line and key path · 2 the start failed · 3 the stop was cut short: not everything was delivered.
 */
#pragma once

#include <stddef.h>

#include "common/config/otlp_config.h"
#include "common/metrics/admin_http.h"
#include "common/run/config_reload.h"

enum { EXIT_CLEAN = 0, EXIT_BAD_CONFIG = 1, EXIT_START_FAILED = 2, EXIT_CUT_SHORT = 3 };

struct program {
    const char *name;
    const char *more_help; /* what --help adds; NULL: nothing */
    void *config; /* what `read` fills and `serve` gets */
    /* Reads and checks all of it. 0 or CONFIG_E_INVALID with errors in the context. */
    int (*read)(struct config_context *context, const struct config_node *root, void *config);
    const struct telemetry_config *telemetry; /* inside config */
    /* Serves until told to stop; an exit code. A failed start leaves a line in out_error. source: to read all of it again; NULL: it was made here. */
    int (*serve)(void *config, const struct config_source *source, char *out_error, size_t error_size);
};

/* What is served beside OTLP, as configured: borrowed from config. */
struct admin_options program_admin_options(const struct tailrace_config *config);
/* Whether any of it is to be served at all. */
bool program_has_admin(const struct tailrace_config *config);

int program_main(const struct program *program, int argc, char **argv);
/* The same with a configuration that was made here; name: what messages call it. */
int program_main_text(const struct program *program, const char *name, const char *text, size_t len);
