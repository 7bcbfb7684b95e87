#include <stdio.h>

#include "common/base/error.h"
#include "common/run/program.h"
#include "sampler/drain_journal.h"
#include "sampler/replay/replay.h"
#include "sampler/sampler.h"
#include "sampler/sampler_reload.h"
#include "sampler/sampler_setup.h"

/* What main and its callbacks share. */
struct main_setup {
    struct sampler_setup setup;
    bool gives_only; /* --drain-journal */
};

static int read_config(struct config_context *context, const struct config_node *root, void *opaque)
{
    struct main_setup *own = opaque;
    int r = sampler_setup_read(context, root, 1, &own->setup);

    own->setup.config.gives_only = own->gives_only;
    return r;
}

static int serve(void *opaque, const struct config_source *source, char *out_error, size_t error_size)
{
    const struct main_setup *own = opaque;
    struct sampler *sampler = NULL;
    int code = EXIT_START_FAILED;

    if (sampler_new(&own->setup.config, own->setup.set, &sampler, out_error, error_size) || (source && sampler_reload_new(sampler, source))) {
        if (out_error[0] == '\0')
            (void)error_trail(out_error, error_size);
    } else {
        code = sampler_run(sampler) ? EXIT_CUT_SHORT : EXIT_CLEAN;
    }
    sampler_free(sampler);
    return code;
}

int main(int argc, char **argv)
{
    static struct main_setup own;
    static char help[8192];
    const struct program program = {
        .name = "tailrace-sampler",
        .config = &own,
        .read = read_config,
        .telemetry = &own.setup.config.telemetry,
        .serve = serve,
        .more_help = help,
    };
    int code;

    (void)snprintf(help, sizeof(help), "%s%s", drain_journal_help, replay_help);
    if (replay_is_asked(argc, argv))
        return replay_main(argc, argv);
    own.gives_only = drain_journal_is_asked(argc, argv);
    code = own.gives_only ? drain_journal_main(&program, argc, argv) : program_main(&program, argc, argv);

    sampler_setup_deinit(&own.setup);
    return code;
}
