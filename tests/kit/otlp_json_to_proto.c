/* OTLP/JSON requests from standard input, a line each, as our reader reads them: for tests that compare it with others.
 * Writes for each line a byte (0: read, 1: refused), a length in four bytes (little endian), and the protobuf form or the reason. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/num.h"
#include "common/otlp/otlp_json.h"

static void answer(uint8_t status, struct slice bytes)
{
    uint32_t len = (uint32_t)bytes.len; /* little endian, as this machine is */

    (void)fputc(status, stdout);
    (void)fwrite(&len, sizeof(len), 1, stdout);
    (void)fwrite(bytes.at, 1, bytes.len, stdout);
}

int main(void)
{
    struct otlp_json *reader = otlp_json_new();
    char *line = NULL;
    size_t capacity = 0;
    ssize_t len;

    if (!reader)
        return 1;
    while ((len = getline(&line, &capacity, stdin)) > 0) {
        struct buffer *request = NULL;
        char reason[256] = "";
        int r = otlp_json_read(reader, slice_make(line, (size_t)len), 64 * MIB, &request, reason, sizeof(reason));

        if (r < 0)
            return 1;
        answer(r != 0, r ? slice_text(r == OTLP_JSON_E_TOO_LARGE ? "too large" : reason) : buffer_slice(request));
        buffer_unref(request);
    }
    free(line);
    otlp_json_free(reader);
    return 0;
}
