/* TLS for libcurl: its OpenSSL context gets our material, newest at each connection, instead of files of curl's own. */
#include <arpa/inet.h>
#include <string.h>

#include <curl/curl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "common/security/tls_inside.h"

/* The name that is asked for (SNI) is the connection's, not the context's: set when its handshake begins. */
static void on_handshake(const SSL *ssl, int where, int ret)
{
    (void)ret;
    if (where & SSL_CB_HANDSHAKE_START) {
        char *name = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)); /* not const: the macro below casts */

        (void)SSL_set_tlsext_host_name((SSL *)(uintptr_t)ssl, name);
    }
}

/* Asks for another name than the URL's, and finds that one in the certificate. An address is not asked for, as SNI has names only. */
static bool override_name(SSL_CTX *ctx, const char *name)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
    unsigned char address[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
    SSL_CTX_set_info_callback(ctx, on_handshake);
    return SSL_CTX_set_app_data(ctx, (void *)(uintptr_t)name) == 1 && X509_VERIFY_PARAM_set1_host(param, name, 0) == 1;
}

static CURLcode on_ssl_ctx(CURL *curl, void *ssl_ctx, void *context)
{
    struct tls *tls = context;
    struct tls_set *set = tls_set_ref(tls);
    SSL_CTX *ctx = ssl_ctx;
    char error[256];
    bool good;

    (void)curl;
    good = tls_material_apply(set->material, &tls->options, &tls->names, false, ctx, error, sizeof(error)) == 0;
    if (good && tls->options.server_name_override)
        good = override_name(ctx, tls->options.server_name_override);
    tls_set_unref(set);
    return good ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
}

void tls_curl_setup(struct tls *tls, void *curl)
{
    bool verify = !tls->options.insecure_skip_verify;

    /* Our material alone: no bundle that curl was built with, no session of an earlier set. */
    (void)curl_easy_setopt(curl, CURLOPT_CAINFO, NULL);
    (void)curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    (void)curl_easy_setopt(curl, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, verify ? 1L : 0L);
    (void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, verify && !tls->options.server_name_override ? 2L : 0L);
    (void)curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);
    (void)curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, tls);
}
