#include "common/run/program.h"
#include "common/base/error.h"
#include "lb/lb.h"

static int read_config(struct config_context *context, const struct config_node *root, void *config)
{
    return lb_config_read(context, root, config);
}

static int serve(void *config, const struct config_source *source, char *out_error, size_t error_size)
{
    struct lb *lb = NULL;
    int code = EXIT_START_FAILED;

    if (lb_new(config, &lb, out_error, error_size) || (source && lb_reload_new(lb, source))) {
        if (out_error[0] == '\0')
            (void)error_trail(out_error, error_size);
    } else {
        code = lb_run(lb) ? EXIT_CUT_SHORT : EXIT_CLEAN;
    }
    lb_free(lb);
    return code;
}

int main(int argc, char **argv)
{
    static struct lb_config config;
    const struct program program = {
        .name = "tailrace-lb",
        .config = &config,
        .read = read_config,
        .telemetry = &config.telemetry,
        .serve = serve,
    };

    return program_main(&program, argc, argv);
}
