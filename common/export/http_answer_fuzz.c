/* Whatever a backend answers: the result is one of gRPC's codes, a delay is at most a day, and texts end where they must.
 * Input: two bytes of status, one that says how long content type and Retry-After are, these, and the body. */
#include "common/export/http_answer.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/num.h"
#include "common/export/rpc_code.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char message[HTTP_MESSAGE_MAX];
    struct http_answer answer = {0};
    struct link_result result;
    size_t type_len, retry_len;

    if (size < 3)
        return 0;
    answer.status = data[0] << 8 | data[1];
    type_len = size_min(data[2] >> 4, size - 3);
    retry_len = size_min((data[2] & 15) * 3u, size - 3 - type_len);
    /* Half of the inputs have a type that is looked into. */
    answer.content_type = type_len == 15 ? SLICE_LITERAL("application/json")
                          : type_len == 14 ? SLICE_LITERAL("application/x-protobuf") : slice_make(data + 3, type_len);
    answer.retry_after = slice_make(data + 3 + type_len, retry_len);
    answer.body = slice_make(data + 3 + type_len + retry_len, size - 3 - type_len - retry_len);
    memset(message, 1, sizeof(message));
    http_answer_read(&answer, 1700000000 * NS_PER_S, &result, message);
    if (result.code < RPC_OK || result.code > RPC_UNAUTHENTICATED)
        abort();
    if ((result.code == RPC_OK) != (answer.status >= 200 && answer.status < 300))
        abort();
    if (result.has_retry && result.retry_ns > 86400 * NS_PER_S)
        abort();
    if (!memchr(message, 0, sizeof(message)) || (result.message.len > 0 && result.message.len != strlen(message)))
        abort();
    if (result.response.len > 0 && result.response.at != answer.body.at)
        abort();
    return 0;
}
