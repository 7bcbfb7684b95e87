/* Whatever stands in a password file and in a header: no crash; a client's header is taken by a server with the same secret; and a
 * header is taken by a bearer server only when it carries the token. Input: a password file, a zero byte, a header's value. */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/security/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* user:password of the first line becomes a client, and that line alone a server's file. */
static void check_pair(const char *line, struct slice value)
{
    char *user = strndup(line, strcspn(line, ":\n"));
    const char *colon = strchr(line, ':');
    char *password = colon ? strndup(colon + 1, strcspn(colon + 1, "\n")) : NULL;
    char *plain = strndup(line, strcspn(line, "\n"));
    struct auth *server = NULL, *client = NULL;
    char error[512], header[AUTH_VALUE_MAX];
    const struct auth_options to_server = {.kind = AUTH_BASIC, .htpasswd_inline = plain};
    const struct auth_options to_client = {.kind = AUTH_BASIC, .client_username = user, .client_password = password};

    ASSERT(user && plain);
    /* Of lines that are no hash, and whose blanks at the end are not cut. */
    if (password && password[0] && !strpbrk(password, "${ \t\r") && user[0] != '#' && strlen(password) <= 256 &&
        auth_new(&to_server, true, &server, error, sizeof(error)) == 0 &&
        auth_new(&to_client, false, &client, error, sizeof(error)) == 0) {
        ASSERT(auth_header(client, header, sizeof(header)));
        ASSERT(auth_check(server, slice_text(header)));
        (void)auth_check(server, value);
    }
    auth_free(server);
    auth_free(client);
    free(user);
    free(password);
    free(plain);
}

static void check_token(const char *token, struct slice value)
{
    const char *const tokens[] = {token};
    const struct auth_options options = {.kind = AUTH_BEARER, .tokens = tokens, .token_count = 1};
    struct auth *server = NULL, *client = NULL;
    char error[512], header[AUTH_VALUE_MAX];

    if (auth_new(&options, true, &server, error, sizeof(error)) == 0) {
        ASSERT(auth_new(&options, false, &client, error, sizeof(error)) == 0);
        ASSERT(auth_header(client, header, sizeof(header)));
        ASSERT(auth_check(server, slice_text(header)));
        if (auth_check(server, value))
            ASSERT(memmem(value.at, value.len, header + 7, strlen(header + 7)));
    }
    auth_free(server);
    auth_free(client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t split = strnlen((const char *)data, size);
    char *file = malloc(split + 1); /* not strndup: what it is given need not end with a zero */
    struct slice value = split < size ? slice_make(data + split + 1, size - split - 1) : slice_make(data, 0);
    struct auth *server = NULL;
    char error[512];
    const struct auth_options options = {.kind = AUTH_BASIC, .htpasswd_inline = file};

    ASSERT(file);
    if (split > 0)
        memcpy(file, data, split);
    file[split] = '\0';
    if (auth_new(&options, true, &server, error, sizeof(error)) == 0 && !strchr(file, '$'))
        (void)auth_check(server, value); /* slow hashes are only read here, or fuzzing would be a crawl */
    auth_free(server);
    check_pair(file, value);
    check_token(file, value);
    free(file);
    return 0;
}
