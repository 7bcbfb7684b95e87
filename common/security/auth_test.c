/* Whoever shows a credential is let in, and nobody else; what a client sends, a server with the same secret takes; and files that
 * change count from the next look on, unless they are no good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/security/auth.h"

static char dir[64];

static int setup(void **state)
{
    (void)state;
    (void)strcpy(dir, "/tmp/tailrace-auth-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static const char *write_text(const char *name, const char *text)
{
    static char path[128];
    char fresh[128];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    (void)snprintf(fresh, sizeof(fresh), "%s/new", dir);
    file = fopen(fresh, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(fresh, path), 0);
    return path;
}

static struct auth *auth_of(struct auth_options options, bool server)
{
    struct auth *auth = NULL;
    char error[512] = "";

    if (auth_new(&options, server, &auth, error, sizeof(error)))
        fail_msg("%s", error);
    return auth;
}

#define SLOW_HASH "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW" /* secret */

static void expect(struct auth *auth, const char *value, bool want)
{
    if (auth_check(auth, slice_text(value)) != want)
        fail_msg("\"%s\" was %s", value, want ? "not let in" : "let in");
}

static void expect_header(struct auth *auth, const char *want)
{
    char value[AUTH_VALUE_MAX];

    assert_true(auth_header(auth, value, sizeof(value)));
    assert_string_equal(value, want);
    assert_false(auth_header(auth, value, strlen(want)));
}

static void basic_server(void **state)
{
    struct auth *auth =
        auth_of((struct auth_options){.kind = AUTH_BASIC, .htpasswd_inline = "Aladdin:open sesame\nslow:" SLOW_HASH}, true);
    static const char *const good[] = {
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic   QWxhZGRpbjpvcGVuIHNlc2FtZQ== ",
        "Basic c2xvdzpzZWNyZXQ=" /* slow:secret */, "Basic c2xvdzpzZWNyZXQ=" /* and remembered */};
    static const char *const bad[] = {"", "Basic", "Basic ", "QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==x",
        "Basic QWxhZGRpbg==" /* no colon */, "Basic QWxhZGRpbjo=" /* empty password */, "Basic Om9wZW4gc2VzYW1l" /* empty user */,
        "Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==" /* aladdin */, "Basic c2xvdzp3cm9uZw==" /* slow:wrong */,
        "Basic bm9ib2R5OnNlY3JldA==" /* nobody:secret, the decoy's password */, "Basic ====", "Basic !!!!"};

    (void)state;
    assert_string_equal(auth_header_name(auth), "authorization");
    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
        expect(auth, good[i], true);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        expect(auth, bad[i], false);
    assert_false(auth_check(auth, SLICE_LITERAL("Basic QWxh\0GRpbjpvcGVuIHNlc2FtZQ==")));
    auth_free(auth);
    auth_free(NULL);
}

/* Guessing at slow hashes ends: a right password is not looked at any more. Who was verified before is let in all the same, and so
 * is who has a fast one. */
static void guessing(void **state)
{
    struct auth *auth = auth_of((struct auth_options){.kind = AUTH_BASIC,
        .htpasswd_inline = "slow:" SLOW_HASH "\nfast:secret\n"
                           "late:" SLOW_HASH}, true);
    unsigned refused_count = 0;

    (void)state;
    expect(auth, "Basic c2xvdzpzZWNyZXQ=", true);
    /* A slow machine may be given another try between the guesses and the check: then it guesses again. */
    for (unsigned i = 0; i < 200 && refused_count == 0; i++) {
        for (unsigned j = 0; j < 40; j++)
            expect(auth, "Basic c2xvdzp3cm9uZw==", false);
        refused_count += !auth_check(auth, slice_text("Basic bGF0ZTpzZWNyZXQ="));
        if (refused_count == 0) { /* it is remembered now: forget it by a new one */
            auth_free(auth);
            auth = auth_of((struct auth_options){.kind = AUTH_BASIC,
                .htpasswd_inline = "slow:" SLOW_HASH "\nfast:secret\n"
                                   "late:" SLOW_HASH}, true);
            expect(auth, "Basic c2xvdzpzZWNyZXQ=", true);
        }
    }
    assert_int_equal(refused_count, 1);
    expect(auth, "Basic c2xvdzpzZWNyZXQ=", true);
    expect(auth, "Basic ZmFzdDpzZWNyZXQ=", true);
    auth_free(auth);
}

static void bearer_server(void **state)
{
    static const char *const tokens[] = {"one", " two words "};
    struct auth *auth = auth_of((struct auth_options){.kind = AUTH_BEARER, .tokens = tokens, .token_count = 2}, true);
    struct auth *custom =
        auth_of((struct auth_options){.kind = AUTH_BEARER, .tokens = tokens, .token_count = 1, .header = "X-API-Key", .scheme = ""}, true);
    struct auth *scheme =
        auth_of((struct auth_options){.kind = AUTH_BEARER, .tokens = tokens, .token_count = 1, .scheme = "Token"}, true);
    static const char *const bad[] = {"", "Bearer", "Bearer ", "one", "Bearer on", "Bearer onee", "Bearer One", "Bearerone", "Basic one",
        "Token one", "Bearer one, Bearer one"};

    (void)state;
    expect(auth, "Bearer one", true);
    expect(auth, "bearer  one ", true);
    expect(auth, "Bearer two words", true);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        expect(auth, bad[i], false);
    assert_string_equal(auth_header_name(custom), "x-api-key");
    expect(custom, "one", true);
    expect(custom, "Bearer one", false);
    expect(scheme, "Token one", true);
    expect(scheme, "Bearer one", false);
    auth_free(auth);
    auth_free(custom);
    auth_free(scheme);
}

static void clients(void **state)
{
    static const char *const tokens[] = {"first", "second"};
    struct auth *basic =
        auth_of((struct auth_options){.kind = AUTH_BASIC, .client_username = "Aladdin", .client_password = "open sesame"}, false);
    struct auth *bearer = auth_of((struct auth_options){.kind = AUTH_BEARER, .tokens = tokens, .token_count = 2}, false);
    struct auth *bare = auth_of((struct auth_options){.kind = AUTH_BEARER, .tokens = tokens, .token_count = 1, .scheme = ""}, false);

    (void)state;
    expect_header(basic, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    expect_header(bearer, "Bearer first");
    expect_header(bare, "first");
    auth_free(basic);
    auth_free(bearer);
    auth_free(bare);
}

static void refused(void **state)
{
    static const char *const control[] = {"geheim\r\nX-Evil: 1"}, *const empty[] = {" "};
    const char *missing = "/nonexistent/geheim-free/path";
    const struct {
        const char *what;
        bool server;
        struct auth_options options;
        const char *want;
    } cases[] = {
        {"no htpasswd", true, {.kind = AUTH_BASIC}, "htpasswd: is missing"},
        {"no client_auth", false, {.kind = AUTH_BASIC, .htpasswd_inline = "a:b"}, "client_auth: is missing"},
        {"missing file", true, {.kind = AUTH_BASIC, .htpasswd_file = missing}, "No such file"},
        {"bad line", true, {.kind = AUTH_BASIC, .htpasswd_inline = "anna:geheim\nbert"}, "htpasswd.inline: line 2"},
        {"no users", true, {.kind = AUTH_BASIC, .htpasswd_inline = "# none\n"}, "names no user"},
        {"colon", false, {.kind = AUTH_BASIC, .client_username = "a:b", .client_password = "geheim"}, "no colon"},
        {"no token", true, {.kind = AUTH_BEARER}, "set token, tokens or filename"},
        {"empty token", true, {.kind = AUTH_BEARER, .tokens = empty, .token_count = 1}, "there is none"},
        {"control characters", false, {.kind = AUTH_BEARER, .tokens = control, .token_count = 1}, "no header may carry"},
        {"header", true, {.kind = AUTH_BEARER, .tokens = empty, .token_count = 1, .header = "X Y"}, "header: is no name"},
        {"binary header", true, {.kind = AUTH_BEARER, .tokens = empty, .token_count = 1, .header = "x-bin"}, "header: is no name"},
        {"missing token file", true, {.kind = AUTH_BEARER, .token_file = missing}, "No such file"},
    };
    struct auth *auth = NULL;
    char error[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        if (auth_new(&cases[i].options, cases[i].server, &auth, error, sizeof(error)) != 1)
            fail_msg("%s: was taken", cases[i].what);
        if (!strstr(error, cases[i].want) || (strstr(error, "geheim") && !strstr(error, missing)) || strchr(error, '\n'))
            fail_msg("%s: \"%s\"", cases[i].what, error);
    }
}

static void reload(void **state)
{
    char error[512] = "", path[128];
    struct auth *server, *client, *basic;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s", write_text("tokens", "old\n\n  older \r\n"));
    server = auth_of((struct auth_options){.kind = AUTH_BEARER, .token_file = path}, true);
    client = auth_of((struct auth_options){.kind = AUTH_BEARER, .token_file = path}, false);
    expect(server, "Bearer older", true);
    expect_header(client, "Bearer old");
    assert_int_equal(auth_reload(server, error, sizeof(error)), RELOAD_SAME);

    (void)write_text("tokens", "new\nold");
    assert_int_equal(auth_reload(server, error, sizeof(error)), RELOAD_NEW);
    assert_int_equal(auth_reload(client, error, sizeof(error)), RELOAD_NEW);
    expect(server, "Bearer new", true);
    expect(server, "Bearer old", true);
    expect(server, "Bearer older", false);
    expect_header(client, "Bearer new");

    (void)write_text("tokens", "\n");
    assert_int_equal(auth_reload(server, error, sizeof(error)), RELOAD_SAME);
    assert_int_equal(auth_reload(server, error, sizeof(error)), RELOAD_FAILED);
    assert_non_null(strstr(error, "holds no token"));
    assert_int_equal(auth_reload(server, error, sizeof(error)), RELOAD_SAME);
    expect(server, "Bearer new", true);
    auth_free(server);
    auth_free(client);

    /* What was verified once counts no more after the file has changed. */
    (void)snprintf(path, sizeof(path), "%s", write_text("users", "slow:" SLOW_HASH "\n"));
    basic = auth_of((struct auth_options){.kind = AUTH_BASIC, .htpasswd_file = path, .htpasswd_inline = "more:secret"}, true);
    expect(basic, "Basic c2xvdzpzZWNyZXQ=", true);
    expect(basic, "Basic bW9yZTpzZWNyZXQ=", true);
    (void)write_text("users", "other:thing\n");
    assert_int_equal(auth_reload(basic, error, sizeof(error)), RELOAD_NEW);
    expect(basic, "Basic c2xvdzpzZWNyZXQ=", false);
    expect(basic, "Basic bW9yZTpzZWNyZXQ=", true);
    auth_free(basic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basic_server),
        cmocka_unit_test(guessing),
        cmocka_unit_test(bearer_server),
        cmocka_unit_test(clients),
        cmocka_unit_test(refused),
        cmocka_unit_test(reload),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
