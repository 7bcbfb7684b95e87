/* Laws: any bytes are read or refused with a message, by the loader and by both tiers; what is printed of a tree without
 * secrets reads in again to the same print. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lb/lb_config.h"
#include "sampler/sampler_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Printing what was printed must change nothing. */
static void check_print(const struct config_node *root)
{
    char *printed = config_print(root), *again;
    struct config_context *context = config_context_new();

    root = config_load_text(context, "printed", printed, strlen(printed));
    if (!root)
        abort();
    again = config_print(root);
    if (strcmp(printed, again) != 0)
        abort();
    free(again);
    free(printed);
    config_context_free(context);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_context *context = config_context_new();
    const struct config_node *root = config_load_text(context, "fuzz", (const char *)data, size);
    struct lb_config lb;
    struct sampler_config sampler;

    if (root) {
        check_print(root);
        if (lb_config_read(context, root, &lb) && !*config_errors(context))
            abort();
        if (sampler_config_read(context, root, &sampler) && !*config_errors(context))
            abort();
    } else if (!*config_errors(context)) {
        abort();
    }
    config_context_free(context);
    return 0;
}
