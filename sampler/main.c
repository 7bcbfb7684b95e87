#include <stdio.h>

#include "common/base/error.h"
#include "common/run/program.h"
#include "sampler/drain_journal.h"
#include "sampler/replay/replay.h"
#include "sampler/sampler.h"

/* The whole configuration: keys as structs, policies compiled. */
struct sampler_setup {
    struct sampler_config config;
    struct policy_set *set;
    bool gives_only; /* --drain-journal */
};

static int read_config(struct config_context *context, const struct config_node *root, void *opaque)
{
    struct sampler_setup *setup = opaque;
    int r = sampler_config_read(context, root, &setup->config);
    const char *stateful;
    int policies;

    setup->config.gives_only = setup->gives_only;
    /* Policies too, also after another error: one start shows all there is to mend. */
    policies = policy_set_new(context, setup->config.tail_sampling.policies, setup->config.tail_sampling.sample_on_first_match,
        1, &setup->set);
    if (r || policies)
        return r ? r : policies;
    stateful = policy_set_stateful(setup->set);
    if (setup->config.tail_sampling.span_ingest && stateful)
        return config_error(context, setup->config.tail_sampling.policies,
            "sampling_strategy \"span-ingest\" requires all policies to be stateless, but policy \"%s\" is stateful", stateful);
    return 0;
}

static int serve(void *opaque, char *out_error, size_t error_size)
{
    struct sampler_setup *setup = opaque;
    struct sampler *sampler = NULL;
    int code = EXIT_START_FAILED;

    if (sampler_new(&setup->config, setup->set, &sampler, out_error, error_size)) {
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
    static struct sampler_setup setup;
    static char help[8192];
    const struct program program = {
        .name = "tailrace-sampler",
        .config = &setup,
        .read = read_config,
        .telemetry = &setup.config.telemetry,
        .serve = serve,
        .more_help = help,
    };
    int code;

    (void)snprintf(help, sizeof(help), "%s%s", drain_journal_help, replay_help);
    if (replay_is_asked(argc, argv))
        return replay_main(argc, argv);
    setup.gives_only = drain_journal_is_asked(argc, argv);
    code = setup.gives_only ? drain_journal_main(&program, argc, argv) : program_main(&program, argc, argv);

    policy_set_unref(setup.set);
    return code;
}
