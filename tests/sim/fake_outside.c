/* In the place of what else touches the world: the admin endpoint, the watch over files, resolvers, TLS and credentials, the log. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/log.h"
#include "common/cluster/resolver.h"
#include "common/metrics/admin_http.h"
#include "common/run/config_watch.h"
#include "common/security/security.h"
#include "tests/sim/memory.h"
#include "tests/sim/process.h"
#include "tests/sim/resolve.h"

/* -- the admin endpoint: its routes are asked directly --------------------------------------------------------------------- */

struct admin {
    int nothing;
};

int admin_new(struct control *control, const struct admin_options *options, const struct admin_routes *routes, struct admin **out_admin,
    char *out_error, size_t error_size)
{
    static struct admin none;

    (void)control;
    (void)options;
    (void)out_error;
    (void)error_size;
    process_now->routes = *routes;
    process_now->has_routes = true;
    *out_admin = &none;
    return 0;
}

int admin_port(const struct admin *admin)
{
    (void)admin;
    return 0;
}

void admin_free(struct admin *admin)
{
    (void)admin;
    process_now->has_routes = false;
}

void admin_answer(struct admin_call *call, int status, const char *json)
{
    (void)call;
    (void)status;
    (void)json;
}

/* -- files are read again when the simulator says so ----------------------------------------------------------------------------- */

struct config_watch {
    int nothing;
};

int config_watch_new(struct control *control, const struct config_watch_options *options, struct config_watch **out_watch)
{
    static struct config_watch none;

    (void)control;
    (void)options;
    *out_watch = &none;
    return 0;
}

void config_watch_free(struct config_watch *watch)
{
    (void)watch;
}

void config_watch_ask(struct config_watch *watch)
{
    (void)watch;
}

const char *config_file_path(const char *file)
{
    return file;
}

/* -- TLS and credentials: there are none --------------------------------------------------------------------------------------- */

struct security {
    int nothing;
};

struct security *security_new(void)
{
    static struct security none;

    return &none;
}

void security_free(struct security *security)
{
    (void)security;
}

int security_tls(struct security *security, const char *name, const struct tls_options *options, bool server, struct tls **out_tls,
    char *out_error, size_t error_size)
{
    (void)security;
    (void)name;
    (void)options;
    (void)server;
    (void)out_tls;
    (void)snprintf(out_error, error_size, "the simulator has no TLS");
    return 1;
}

int security_auth(struct security *security, const char *name, const struct auth_options *options, bool server, struct auth **out_auth,
    char *out_error, size_t error_size)
{
    (void)security;
    (void)name;
    (void)options;
    (void)server;
    (void)out_auth;
    (void)snprintf(out_error, error_size, "the simulator has no credentials");
    return 1;
}

void security_retire_tls(struct security *security, const struct tls *tls)
{
    (void)security;
    (void)tls;
}

void security_retire_auth(struct security *security, const struct auth *auth)
{
    (void)security;
    (void)auth;
}

void security_tend(struct security *security, uint64_t now_ns)
{
    (void)security;
    (void)now_ns;
}

/* -- the log: part of the story --------------------------------------------------------------------------------------------------- */

void log_setup(const char *program, enum log_level least, enum log_encoding encoding)
{
    (void)program;
    (void)least;
    (void)encoding;
}

void log_level_set(enum log_level least)
{
    (void)least;
}

bool log_enabled(enum log_level level)
{
    (void)level;
    return true;
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    va_list arguments;
    char text[900];

    (void)level;
    world_fold(event, strlen(event));
    if (!world.tracing)
        return;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    story(process_now ? process_now->node->name : NULL, "log: %s %s", event, text);
}

bool log_limit_pass(struct log_limit *limit, uint64_t now_ns, uint64_t *out_suppressed)
{
    if (limit->last_ns != 0 && now_ns - limit->last_ns < LOG_LIMIT_PERIOD_NS) {
        limit->suppressed_count++;
        return false;
    }
    *out_suppressed = limit->suppressed_count;
    *limit = (struct log_limit){.last_ns = now_ns};
    return true;
}

/* -- resolvers ---------------------------------------------------------------------------------------------------------------------- */

struct sim_resolver {
    struct resolver resolver;
    struct list node;
    struct process *process;
    struct sim_event look;
    bool said;
    struct resolved_address last[NODES_MAX];
    size_t last_count;
};

static bool same_answer(const struct sim_resolver *mine, const struct resolved_address *list, size_t count)
{
    return mine->said && mine->last_count == count && memcmp(mine->last, list, count * sizeof(*list)) == 0;
}

static void resolver_looks(struct sim_event *event)
{
    struct sim_resolver *mine = container_of(event, struct sim_resolver, look);
    struct process *process = mine->process;
    const struct resolver_events *events = &mine->resolver.events;
    struct resolved_address list[NODES_MAX];
    size_t count = 0;
    enum resolve_answer answer;

    memset(list, 0, sizeof(list));
    answer = resolve_look(process->node, list, &count);
    event_soon(event, resolve_period_ns());
    process_enter(process);
    if (answer == RESOLVE_FAILED) {
        events->failed(events->context, "the simulator's name server is away");
    } else if (same_answer(mine, list, count)) {
        if (events->unchanged)
            events->unchanged(events->context);
    } else {
        memcpy(mine->last, list, sizeof(list));
        mine->last_count = count;
        mine->said = true;
        events->resolved(events->context, list, count);
    }
    process_leave();
    event_sooner(&process->control_turn, world.now_ns);
}

static void resolver_on_start(struct resolver *resolver)
{
    struct sim_resolver *mine = container_of(resolver, struct sim_resolver, resolver);

    event_soon(&mine->look, rng_between(&world.net, 1, 20) * NS_PER_MS);
}

static void resolver_on_free(struct resolver *resolver)
{
    struct sim_resolver *mine = container_of(resolver, struct sim_resolver, resolver);

    event_cancel(&mine->look);
    list_del(&mine->node);
    sim_free(mine);
}

int resolver_dns_new(struct control *control, const struct dns_options *options, const struct resolver_events *events,
    struct resolver **out_resolver)
{
    static const struct resolver_ops ops = {"dns", resolver_on_start, resolver_on_free, NULL};
    struct sim_resolver *mine = sim_alloc(sizeof(*mine));

    (void)control;
    (void)options;
    mine->resolver = (struct resolver){&ops, *events};
    mine->process = process_now;
    event_init(&mine->look, "resolver", resolver_looks);
    list_add_tail(&process_now->resolvers, &mine->node);
    *out_resolver = &mine->resolver;
    return 0;
}

int resolver_static_new(const char *const *hostnames, size_t count, const struct resolver_events *events, struct resolver **out_resolver)
{
    (void)hostnames;
    (void)count;
    (void)events;
    (void)out_resolver;
    UNREACHABLE("every scenario looks up names");
}

int resolver_k8s_new(struct control *control, const struct k8s_options *options, const struct resolver_events *events,
    struct resolver **out_resolver, char *out_error, size_t error_size)
{
    (void)control;
    (void)options;
    (void)events;
    (void)out_resolver;
    (void)out_error;
    (void)error_size;
    UNREACHABLE("no scenario asks Kubernetes");
}

void resolvers_forget(struct process *process)
{
    while (!list_empty(&process->resolvers))
        resolver_on_free(&container_of(list_first(&process->resolvers), struct sim_resolver, node)->resolver);
}
