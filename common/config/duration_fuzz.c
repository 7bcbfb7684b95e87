/* Law: what parses is a number of nanoseconds that, written so, parses to the same, and nothing reads past the end. */
#include "common/config/duration.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[32];
    int64_t ns, back;

    if (duration_parse((const char *)data, size, &ns))
        return 0;
    (void)snprintf(text, sizeof(text), "%" PRId64 "ns", ns);
    if (duration_parse(text, strlen(text), &back) || back != ns)
        abort();
    return 0;
}
