/* The versions of TLS that a client of gRPC's speaks: the library has the setters, but only for C++ and in no header. For
 * credentials made by grpc_ssl_credentials_create_ex alone. */
#pragma once

#include <grpc/grpc_security.h>

#ifdef __cplusplus
extern "C" {
#endif

void tls_grpc_channel_versions(grpc_channel_credentials *credentials, grpc_tls_version least, grpc_tls_version most);

#ifdef __cplusplus
}
#endif
