/* Whatever the API server does, it is asked again: at once where that helps, else later and later, and never in a loop without a pause. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/num.h"
#include "common/cluster/resolve/k8s_watch.h"

#define SOON (20 * NS_PER_MS)  /* how long a request takes that goes wrong */

/* What became of a request: a list's "L" came whole, a watch's "E" has an event and goes on, "." a clean end after a minute, "," one at once;
 * "X" no answer, "x" the connection breaks after it stood for a minute; else a status in the table below. */
struct machine {
    struct k8s_watch watch;
    uint64_t now_ns;
    char path[K8S_PATH_SIZE];
    uint64_t limit_ns;
    bool told;
};

static struct machine machine_new(void)
{
    struct machine m = {.now_ns = 1000 * NS_PER_S};

    k8s_watch_init(&m.watch, 60 * NS_PER_S, 7, m.now_ns);
    return m;
}

static unsigned status_of(char what)
{
    switch (what) {
    case 'g': return 410;
    case 'u': return 401;
    case 'f': return 403;
    case 'b': return 429;
    case 's': return 500;
    case 't': return 504;
    default: return 0;
    }
}

/* One request, begun when it is due. Returns how long it had to wait for that. */
static uint64_t request(struct machine *m, char what)
{
    uint64_t wait_ns = u64_sub_floor(m->watch.due_ns, m->now_ns);

    m->now_ns += wait_ns;
    m->limit_ns = k8s_watch_begin(&m->watch, "sampler", "obs", m->now_ns, m->path, sizeof(m->path));
    m->told = false;
    switch (what) {
    case 'L':
        k8s_watch_listed(&m->watch, "100", m->now_ns);
        break;
    case 'E':
    case '.':
    case 'x':
        k8s_watch_opened(&m->watch);
        if (what == 'E')
            k8s_watch_moved(&m->watch, "200");
        m->now_ns += what == 'E' ? SOON : 60 * NS_PER_S;
        m->told = what == 'x' ? k8s_watch_failed(&m->watch, 0, 0, m->now_ns) : k8s_watch_ended(&m->watch, m->now_ns);
        break;
    case ',':
        k8s_watch_opened(&m->watch);
        m->now_ns += SOON;
        m->told = k8s_watch_ended(&m->watch, m->now_ns);
        break;
    default:
        m->now_ns += SOON;
        m->told = k8s_watch_failed(&m->watch, status_of(what), 0, m->now_ns);
        break;
    }
    return wait_ns;
}

static const struct {
    const char *what;
    const char *answers;
    enum k8s_step next;
    uint64_t pause_most_ns; /* before the next; 0: none */
    bool told;              /* of the last */
    const char *version;
} cases[] = {
    {"a list, then a watch from its version", "L", K8S_WATCH, 0, false, "100"},
    {"a watch goes on from where it came to", "LE", K8S_WATCH, 0, false, "200"},
    {"a clean end is no failure", "L...", K8S_WATCH, 0, false, "100"},
    {"a version that is gone: a list at once", "LEg", K8S_LIST, 0, false, "200"},
    {"and the watch after it", "LEgL", K8S_WATCH, 0, false, "100"},
    {"gone again and again: with pauses", "LgLg", K8S_LIST, 500 * NS_PER_MS, true, "100"},
    {"a version that is too new", "LEt", K8S_LIST, 0, false, "200"},
    {"one 401 may be a token that was just replaced", "u", K8S_LIST, 0, false, ""},
    {"two are not", "uu", K8S_LIST, 500 * NS_PER_MS, true, ""},
    {"a 401 after a good answer is a first one", "uLu", K8S_WATCH, 0, false, "100"},
    {"RBAC is mended slowly", "f", K8S_LIST, 8 * NS_PER_S, true, ""},
    {"and more slowly", "ffff", K8S_LIST, 30 * NS_PER_S, true, ""},
    {"nobody answers: again, from the same version", "LEX", K8S_WATCH, 500 * NS_PER_MS, true, "200"},
    {"later and later", "LEXXX", K8S_WATCH, 2 * NS_PER_S, true, "200"},
    {"up to half a minute", "XXXXXXXXXXXXXXXXXXXX", K8S_LIST, 30 * NS_PER_S, true, ""},
    {"a server in trouble", "Lsss", K8S_WATCH, 2 * NS_PER_S, true, "100"},
    {"a watch that stood makes up for what was before", "LEXXXXxX", K8S_WATCH, NS_PER_S, true, "200"},
    {"a watch that ends at once has a pause", "L,", K8S_WATCH, 500 * NS_PER_MS, false, "100"},
    {"and is told of in the end", "L,,,", K8S_WATCH, 2 * NS_PER_S, true, "100"},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct machine m = machine_new();
        uint64_t pause_ns;

        for (const char *what = cases[i].answers; *what; what++)
            (void)request(&m, *what);
        pause_ns = u64_sub_floor(m.watch.due_ns, m.now_ns);
        if (m.watch.step != cases[i].next || (cases[i].pause_most_ns == 0) != (pause_ns == 0) ||
            pause_ns > cases[i].pause_most_ns + 50 * NS_PER_MS || m.told != cases[i].told || strcmp(m.watch.version, cases[i].version) != 0)
            fail_msg("%s: next %d after %llu ms, told %d, version %s", cases[i].what, (int)m.watch.step,
                (unsigned long long)(pause_ns / NS_PER_MS), m.told, m.watch.version);
    }
}

/* The server's own wish is kept, within reason, and not by all at the same moment. */
static void test_retry_after(void **state)
{
    struct machine m = machine_new();
    uint64_t pauses[2];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_true(k8s_watch_failed(&m.watch, 429, 7, m.now_ns));
        pauses[i] = m.watch.due_ns - m.now_ns;
        assert_in_range(pauses[i], 7 * NS_PER_S, 8 * NS_PER_S);
    }
    assert_int_not_equal(pauses[0], pauses[1]);
    assert_true(k8s_watch_failed(&m.watch, 503, 86400, m.now_ns));
    assert_in_range(m.watch.due_ns - m.now_ns, 120 * NS_PER_S, 132 * NS_PER_S);
}

/* No answer whatever makes it ask more than a few times a second, on the long run. */
static void test_never_a_storm(void **state)
{
    static const char *const wheels[] = {"Lg", "L,", "Lt", "u", "X", "uL", "Lu,", "LXg"};

    (void)state;
    for (size_t i = 0; i < sizeof(wheels) / sizeof(wheels[0]); i++) {
        struct machine m = machine_new();
        uint64_t began_ns = m.now_ns;
        unsigned count = 0;

        for (; count < 400; count++) {
            char what = wheels[i][count % strlen(wheels[i])];

            if ((what == 'L') != (m.watch.step == K8S_LIST) && (what == 'L' || what == ','))
                continue; /* it does not fit what is asked */
            (void)request(&m, what);
        }
        if ((m.now_ns - began_ns) / NS_PER_S < 100)
            fail_msg("%s: 400 requests in %llu s", wheels[i], (unsigned long long)((m.now_ns - began_ns) / NS_PER_S));
    }
}

/* What is asked for, to the letter. */
static void test_paths(void **state)
{
    struct machine m = machine_new();

    (void)state;
    (void)request(&m, 'X');
    assert_string_equal(m.path,
        "/apis/discovery.k8s.io/v1/namespaces/obs/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dsampler");
    assert_int_equal(m.limit_ns, 30 * NS_PER_S);
    k8s_watch_listed(&m.watch, "a&b=/\xff 1", m.now_ns);
    for (unsigned i = 0; i < 50; i++) {
        unsigned timeout_s = 0;

        (void)request(&m, '.');
        assert_non_null(strstr(m.path, "&watch=1&allowWatchBookmarks=true&resourceVersion=a%26b%3D%2F%FF%201&timeoutSeconds="));
        (void)sscanf(strstr(m.path, "timeoutSeconds="), "timeoutSeconds=%u", &timeout_s);
        assert_in_range(timeout_s, 48, 60);
        assert_int_equal(m.limit_ns, (timeout_s + 15) * NS_PER_S);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_never_a_storm),
        cmocka_unit_test(test_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
