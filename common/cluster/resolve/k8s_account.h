/* Where the API server is and what we show it: as every client in a pod knows it, or as the configuration says.
 *
 * The token lives an hour and is replaced long before, the authorities can change too: both are read for each request. They are kept by
 * nobody. Source: Kubernetes, "Accessing the Kubernetes API from a Pod".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define K8S_SERVER_SIZE 512u

struct k8s_account {
    char server[K8S_SERVER_SIZE];    /* a URL without a slash at its end */
    bool tls;                        /* else neither token nor authorities are read */
    const char *token_file, *ca_file;
};

/* api_server, token_file, ca_file: NULL: a pod's own. 0, or 1 with the reason in out_error. The texts must stay. */
int k8s_account_init(struct k8s_account *account, const char *api_server, const char *token_file, const char *ca_file, char *out_error,
    size_t error_size);
/* Bytes to free with secret_free. 0, or 1 with the reason in out_error. */
int k8s_account_token(const struct k8s_account *account, char **out_token, char *out_error, size_t error_size);
int k8s_account_authorities(const struct k8s_account *account, char **out_pem, size_t *out_len, char *out_error, size_t error_size);
/* The namespace this pod is in; "default" where nothing says so. */
void k8s_account_namespace(char *out_namespace, size_t size);
