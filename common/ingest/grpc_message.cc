// The library exports this function for its tests, with C++ linkage and in no header.
#include "common/ingest/grpc_message.h"

#include <stdint.h>

uint32_t grpc_call_test_only_get_message_flags(struct grpc_call *call);

// Set by the library on a message whose compressed flag was set and which it did not inflate.
static const uint32_t message_compressed = 0x80000000u;

bool grpc_message_is_compressed(struct grpc_call *call)
{
    return (grpc_call_test_only_get_message_flags(call) & message_compressed) != 0;
}
