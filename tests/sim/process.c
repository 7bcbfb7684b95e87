#include "tests/sim/process.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/run/clock.h"
#include "lb/lb.h"
#include "sampler/sampler.h"
#include "sampler/sampler_reload.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"
#include "tests/sim/timer.h"
#include "tests/sim/volume.h"

struct process *process_now;
void (*process_on_end)(struct node *node);
static uint32_t last_owner;

void process_enter(struct process *process)
{
    ASSERT(process_now == NULL && process != NULL);
    process_now = process;
    (void)memory_owner(process->owner);
}

void process_leave(void)
{
    ASSERT(process_now != NULL);
    process_now = NULL;
    (void)memory_owner(0);
}

uint64_t local_of(const struct node *node, uint64_t sim_ns)
{
    return sim_ns == UINT64_MAX ? UINT64_MAX : sim_ns + node->mono_offset_ns;
}

uint64_t sim_of(const struct node *node, uint64_t local_ns)
{
    return local_ns == UINT64_MAX ? UINT64_MAX : u64_sub_floor(local_ns, node->mono_offset_ns);
}

/* -- configurations ----------------------------------------------------------------------------------------------------- */

static void file_write(const struct process *process, const char *yaml)
{
    size_t len = strlen(yaml);

    ASSERT(ftruncate(process->config_file, 0) == 0 && pwrite(process->config_file, yaml, len, 0) == (ssize_t)len);
}

static void file_make(struct process *process, const char *yaml)
{
    process->config_file = memfd_create(process->node->name, MFD_CLOEXEC);
    ASSERT(process->config_file >= 0);
    (void)snprintf(process->config_path, sizeof(process->config_path), "/proc/self/fd/%d", process->config_file);
    process->config_files[0] = process->config_path;
    process->line = (struct config_command_line){.files = process->config_files, .file_count = 1};
    file_write(process, yaml);
}

static void config_read_all(struct process *process, const char *yaml)
{
    const struct config_node *root;
    int r = 1;

    file_make(process, yaml);
    process->context = config_context_new();
    root = config_load_text(process->context, process->node->name, yaml, strlen(yaml));
    process->source = (struct config_source){&process->line, root, config_files_hash(&process->line)};
    if (root && process->node->kind == NODE_LB)
        r = lb_config_read(process->context, root, &process->config.lb);
    if (root && process->node->kind == NODE_SAMPLER) {
        struct sampler_config *config = &process->config.sampler;

        r = sampler_config_read(process->context, root, config);
        if (r == 0)
            r = policy_set_new(process->context, config->tail_sampling.policies, config->tail_sampling.sample_on_first_match, 1,
                &process->set);
    }
    if (r) {
        fprintf(stderr, "%s\n%s\n", yaml, config_errors(process->context));
        UNREACHABLE("the scenario's configuration is valid");
    }
}

/* -- the end of a life ------------------------------------------------------------------------------------------------------ */

static void process_forget(struct process *process)
{
    struct node *node = process->node;

    for (unsigned i = 0; i < process->worker_count; i++)
        event_cancel(&process->workers[i].turn);
    event_cancel(&process->control_turn);
    timers_forget(&process->timers);
    resolvers_forget(process);
    threads_forget(process);
    (void)close(process->config_file);
    memory_drop(process->owner);
    node->process = NULL;
    node->left_ns = world.now_ns;
    sim_free(process);
}

/* The control loop was left: what main would do then. */
static void process_end(struct process *process)
{
    struct node *node = process->node;
    size_t bytes;
    size_t blocks;
    int unclean;

    if (process_on_end)
        process_on_end(node);
    node->process = NULL; /* whoever calls it from now on finds nobody */
    net_process_gone(process, false);
    process_enter(process);
    unclean = process->lb ? lb_stop(process->lb) : sampler_stop(process->sampler);
    lb_free(process->lb);
    sampler_free(process->sampler);
    policy_set_unref(process->set);
    config_context_free(process->context);
    process_leave();
    story(node->name, "ended %s", unclean ? "cut short" : "cleanly");
    node->stopped_cleanly = !unclean;
    blocks = memory_blocks(process->owner, &bytes);
    if (blocks > 0)
        broken("%s left %zu blocks of memory behind, %zu bytes, after it ended", node->name, blocks, bytes);
    ASSERT(list_empty(&process->links) && list_empty(&process->served));
    process_forget(process);
}

static void control_turn(struct sim_event *event)
{
    struct process *process = container_of(event, struct process, control_turn);
    struct control *control = process->control;

    process_enter(process);
    (void)mailbox_deliver(&control->mailbox, control);
    process_leave();
    if (atomic_exchange(&control->breaking, false))
        process_end(process);
}

/* -- life ---------------------------------------------------------------------------------------------------------------------- */

void process_start(struct node *node, const char *yaml)
{
    struct process *process = sim_alloc(sizeof(*process));
    char error[500] = "";
    int r;

    ASSERT(node->process == NULL);
    process->node = node;
    process->owner = ++last_owner;
    process->began_ns = world.now_ns;
    list_init(&process->timers);
    list_init(&process->links);
    list_init(&process->served);
    list_init(&process->resolvers);
    list_init(&process->threads);
    event_init(&process->control_turn, "control", control_turn);
    node->process = process;
    node->lives++;
    node->stopped_cleanly = false;
    story(node->name, "starts, life %u, address %s", node->lives, node->address);
    process_enter(process);
    config_read_all(process, yaml);
    r = node->kind == NODE_LB ? lb_new(&process->config.lb, &process->lb, error, sizeof(error))
                              : sampler_new(&process->config.sampler, process->set, &process->sampler, error, sizeof(error));
    if (r == 0 && process->sampler)
        r = sampler_reload_new(process->sampler, &process->source);
    if (r) {
        fprintf(stderr, "%s: %s\n", node->name, error);
        UNREACHABLE("a simulated process starts");
    }
    process->started = true;
    r = node->kind == NODE_LB ? lb_start(process->lb) : sampler_start(process->sampler);
    ASSERT(r == 0);
    process_leave();
    event_sooner(&process->control_turn, world.now_ns);
    for (unsigned i = 0; i < process->worker_count; i++)
        worker_wake(&process->workers[i]);
}

void process_reload(struct node *node, const char *yaml)
{
    struct process *process = node->process;

    story(node->name, "SIGHUP");
    file_write(process, yaml);
    process_enter(process);
    process->control->on_hangup(process->control->context);
    process_leave();
    event_sooner(&process->control_turn, world.now_ns);
}

void process_term(struct node *node)
{
    struct process *process = node->process;

    if (!process)
        return;
    story(node->name, "SIGTERM");
    if (process->stop_asked_ns == 0)
        process->stop_asked_ns = world.now_ns;
    process_enter(process);
    process->control->on_stop(process->control->context, ++process->control->stop_count);
    process_leave();
    event_sooner(&process->control_turn, world.now_ns);
}

void process_kill(struct node *node, bool machine_too)
{
    struct process *process = node->process;

    if (!process)
        return;
    story(node->name, machine_too ? "its machine dies" : "SIGKILL");
    if (process_on_end)
        process_on_end(node);
    node->process = NULL;
    node->stopped_cleanly = false;
    net_process_gone(process, machine_too);
    links_forget(process);
    listeners_forget(process);
    process_forget(process);
    if (node->volume && machine_too)
        volume_machine_died(node->volume);
    else if (node->volume)
        volume_process_died(node->volume);
}
