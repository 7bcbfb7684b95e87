#include "common/cluster/resolve/k8s_account.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/security/watched_file.h"

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount/"
#define TOKEN_LEN_MAX 16384u

/* https://host:port of the environment that Kubernetes gives each container. */
static bool server_of_environment(char *out_server, size_t size)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    bool v6 = host && strchr(host, ':');

    if (!host || !host[0] || strpbrk(host, "/?#@[] ") || (port && port[0] && strspn(port, "0123456789") != strlen(port)))
        return false;
    return snprintf(out_server, size, "https://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port && port[0] ? port : "443") < (int)size;
}

int k8s_account_init(struct k8s_account *account, const char *api_server, const char *token_file, const char *ca_file, char *out_error,
    size_t error_size)
{
    *account = (struct k8s_account){
        .token_file = token_file ? token_file : SERVICE_ACCOUNT "token",
        .ca_file = ca_file ? ca_file : SERVICE_ACCOUNT "ca.crt",
    };
    if (api_server && snprintf(account->server, sizeof(account->server), "%s", api_server) >= (int)sizeof(account->server)) {
        (void)snprintf(out_error, error_size, "tailrace.kubernetes.api_server is longer than %u characters", K8S_SERVER_SIZE - 1);
        return 1;
    }
    if (!api_server && !server_of_environment(account->server, sizeof(account->server))) {
        (void)snprintf(out_error, error_size,
            "this is no pod: KUBERNETES_SERVICE_HOST names no API server; set tailrace.kubernetes: {api_server, token_file, ca_file}");
        return 1;
    }
    account->tls = strncmp(account->server, "https://", 8) == 0;
    return 0;
}

int k8s_account_token(const struct k8s_account *account, char **out_token, char *out_error, size_t error_size)
{
    char *token = NULL, reason[256];
    size_t len, i;

    if (file_read(account->token_file, &token, &len, reason, sizeof(reason))) {
        (void)snprintf(out_error, error_size, "no token: %s", reason);
        return 1;
    }
    while (len > 0 && strchr(" \t\r\n", token[len - 1]))
        token[--len] = '\0';
    for (i = 0; i < len && token[i] > ' ' && token[i] < 0x7f; i++)
        ;
    if (len == 0 || i < len || len > TOKEN_LEN_MAX) {
        (void)snprintf(out_error, error_size, "no token: %s holds none", account->token_file);
        secret_free(token);
        return 1;
    }
    *out_token = token;
    return 0;
}

int k8s_account_authorities(const struct k8s_account *account, char **out_pem, size_t *out_len, char *out_error, size_t error_size)
{
    char reason[256];

    if (file_read(account->ca_file, out_pem, out_len, reason, sizeof(reason))) {
        (void)snprintf(out_error, error_size, "no authorities: %s", reason);
        return 1;
    }
    if (*out_len == 0) {
        (void)snprintf(out_error, error_size, "no authorities: %s is empty", account->ca_file);
        secret_free(*out_pem);
        return 1;
    }
    return 0;
}

void k8s_account_namespace(char *out_namespace, size_t size)
{
    char *text = NULL, reason[256];
    size_t len;

    (void)snprintf(out_namespace, size, "default");
    if (file_read(SERVICE_ACCOUNT "namespace", &text, &len, reason, sizeof(reason)))
        return;
    len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
    if (len > 0 && len < size && len <= 63 && (text[len] == '\0' || text[len] == '\n'))
        (void)snprintf(out_namespace, size, "%.*s", (int)len, text);
    secret_free(text);
}
