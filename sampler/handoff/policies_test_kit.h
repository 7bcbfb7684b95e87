/* The policies of tests of the handoff: traces with an error are sampled. For one test's only source, which includes cmocka first. */
#pragma once

#include "common/config/yaml.h"
#include "sampler/decide/policy_set.h"

static struct config_context *context;
static struct policy_set *set;

static void policies_open(void)
{
    static const char yaml[] = "policies:\n"
                               "  - name: errors\n"
                               "    type: status_code\n"
                               "    status_code: {status_codes: [ERROR]}\n";
    const struct config_node *root;

    context = config_context_new();
    assert_non_null(context);
    root = config_load_text(context, "handoff.yaml", yaml, sizeof(yaml) - 1);
    assert_non_null(root);
    assert_int_equal(policy_set_new(context, config_node_get(root, "policies"), false, 1, &set), 0);
}

static void policies_close(void)
{
    policy_set_unref(set);
    config_context_free(context);
}
