/* One fact that gRPC's C interface hides: whether a received message came with the compressed flag. Of an encoding that it does not
 * know, the library only says "none": without this, zstd bytes would be read as a request. */
#pragma once

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct grpc_call;
bool grpc_message_is_compressed(struct grpc_call *call);

#ifdef __cplusplus
}
#endif
