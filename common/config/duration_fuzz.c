/* Law: what parses has a spelling that parses to the same number, and nothing reads past the end. */
#include "common/config/duration.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[DURATION_TEXT_SIZE];
    int64_t ns, back;

    if (duration_parse((const char *)data, size, &ns))
        return 0;
    (void)duration_text(ns, text);
    if (duration_parse(text, strlen(text), &back) || back != ns)
        abort();
    return 0;
}
