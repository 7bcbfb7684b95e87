#include "common/security/security.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/num.h"

#define LOOK_PERIOD_NS NS_PER_S

struct kept { /* one of the two */
    struct list node;
    char *name;
    struct tls *tls;
    struct auth *auth;
    bool retired;
};

struct security {
    struct list kept;
    uint64_t looked_at_ns;
};

struct security *security_new(void)
{
    struct security *security = calloc(1, sizeof(*security));

    if (security)
        list_init(&security->kept);
    return security;
}

static void kept_free(struct kept *kept)
{
    tls_free(kept->tls);
    auth_free(kept->auth);
    free(kept->name);
    free(kept);
}

void security_free(struct security *security)
{
    struct list *node;

    if (!security)
        return;
    while ((node = list_take_first(&security->kept)))
        kept_free(container_of(node, struct kept, node));
    free(security);
}

static struct kept *kept_new(const char *name)
{
    struct kept *kept = calloc(1, sizeof(*kept));

    if (!kept)
        return NULL;
    kept->name = strdup(name);
    if (kept->name)
        return kept;
    free(kept);
    return NULL;
}

/* reason NULL: good. */
static int keep(struct security *security, struct kept *kept, const char *name, const char *reason, char *out_error, size_t error_size)
{
    if (!reason) {
        list_add_tail(&security->kept, &kept->node);
        return 0;
    }
    if (kept)
        kept_free(kept);
    (void)snprintf(out_error, error_size, "%s: %s", name, reason);
    return 1;
}

int security_tls(struct security *security, const char *name, const struct tls_options *options, bool server, struct tls **out_tls,
    char *out_error, size_t error_size)
{
    struct kept *kept = kept_new(name);
    char reason[512] = "out of memory";
    int r = !kept || (server ? tls_server_new : tls_client_new)(options, &kept->tls, reason, sizeof(reason));

    r = keep(security, kept, name, r ? reason : NULL, out_error, error_size);
    if (r == 0)
        *out_tls = kept->tls;
    return r;
}

int security_auth(struct security *security, const char *name, const struct auth_options *options, bool server,
    struct auth **out_auth, char *out_error, size_t error_size)
{
    struct kept *kept = kept_new(name);
    char reason[512] = "out of memory";
    int r = !kept || auth_new(options, server, &kept->auth, reason, sizeof(reason));

    r = keep(security, kept, name, r ? reason : NULL, out_error, error_size);
    if (r == 0)
        *out_auth = kept->auth;
    return r;
}

static void retire(struct security *security, const struct tls *tls, const struct auth *auth)
{
    for (struct list *node = security->kept.next; node != &security->kept; node = node->next) {
        struct kept *kept = container_of(node, struct kept, node);

        if ((tls && kept->tls == tls) || (auth && kept->auth == auth))
            kept->retired = true;
    }
}

void security_retire_tls(struct security *security, const struct tls *tls)
{
    retire(security, tls, NULL);
}

void security_retire_auth(struct security *security, const struct auth *auth)
{
    retire(security, NULL, auth);
}

static void look(struct kept *kept)
{
    char reason[512] = "";
    enum reload_outcome outcome =
        kept->tls ? tls_reload(kept->tls, reason, sizeof(reason)) : auth_reload(kept->auth, reason, sizeof(reason));

    switch (outcome) {
    case RELOAD_SAME:
        break;
    case RELOAD_NEW:
        log_event(LOG_INFO, kept->tls ? "tls_reloaded" : "auth_reloaded", "section=%s", kept->name);
        break;
    case RELOAD_FAILED:
        log_event(LOG_WARN, kept->tls ? "tls_reload_failed" : "auth_reload_failed",
            "section=%s reason=\"%s\" remedy=\"the old files stay in force; put good ones in place\"", kept->name, reason);
        break;
    }
}

void security_tend(struct security *security, uint64_t now_ns)
{
    if (now_ns - security->looked_at_ns < LOOK_PERIOD_NS)
        return;
    security->looked_at_ns = now_ns;
    for (struct list *node = security->kept.next; node != &security->kept; node = node->next) {
        if (!container_of(node, struct kept, node)->retired)
            look(container_of(node, struct kept, node));
    }
}
