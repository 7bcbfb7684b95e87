#include "common/security/tls_grpc_version.h"

// As far as we call it. The library's class derives from the struct that its C interface hands out, at the same address.
class grpc_ssl_credentials {
public:
    void set_min_tls_version(grpc_tls_version least);
    void set_max_tls_version(grpc_tls_version most);
};

void tls_grpc_channel_versions(grpc_channel_credentials *credentials, grpc_tls_version least, grpc_tls_version most)
{
    auto *ssl = reinterpret_cast<grpc_ssl_credentials *>(credentials);

    ssl->set_min_tls_version(least);
    ssl->set_max_tls_version(most);
}
