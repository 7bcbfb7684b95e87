/* Who may send to us, and how we say who we are: the Collector's extensions basicauth and bearertokenauth.
 *
 * Server  compares in constant time; a wrong or missing credential gives UNAUTHENTICATED / 401. htpasswd.h says which lines are
 *         understood. A slow hash is computed once a credential: what was verified is remembered (a keyed digest of it) until the
 *         file changes, and failures are limited to AUTH_SLOW_FAILURES_PER_S, so that guessing cannot take the CPU.
 * Client  a header for each request.
 * Files   token, user, password and htpasswd files are read again when they change; a bad one leaves the old content in force.
 * Source  collector contrib basicauthextension, bearertokenauthextension; RFC 7617, RFC 6750
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/security/reload.h"

#define AUTH_VALUE_MAX 8192         /* bytes of a header's value, with its NUL; longer ones are let in nowhere */
#define AUTH_SLOW_FAILURES_PER_S 5  /* wrong passwords checked against slow hashes, all threads together */

enum auth_kind { AUTH_NONE, AUTH_BASIC, AUTH_BEARER };

struct auth_options {
    enum auth_kind kind;
    const char *id;                                         /* component ID, for messages */
    const char *htpasswd_file, *htpasswd_inline;            /* basicauth.htpasswd: servers; both: joined, inline wins */
    const char *client_username, *client_password;          /* basicauth.client_auth */
    const char *client_username_file, *client_password_file;
    const char *header, *scheme;                            /* bearertokenauth; NULL: Authorization, Bearer */
    const char *const *tokens;                              /* bearertokenauth.token or tokens: any of them is let in */
    size_t token_count;
    const char *token_file;                                 /* bearertokenauth.filename: a token a line, wins */
};

struct auth;
/* 0, or 1 with a line in out_error. server: checks requests; otherwise makes headers. Options are copied. */
int auth_new(const struct auth_options *options, bool server, struct auth **out_auth, char *out_error, size_t error_size);
void auth_free(struct auth *auth); /* accepts NULL */
/* The header that auth_check wants the value of, and auth_header makes: lower case, such as "authorization". */
const char *auth_header_name(const struct auth *auth);
/* Any thread. value: of that header, empty when there is none. May take as long as one password hash (tens of ms) the first time. */
bool auth_check(struct auth *auth, struct slice value);
/* Any thread. The value to send now, with its NUL (printable ASCII); false: it does not fit. */
bool auth_header(struct auth *auth, char *out_value, size_t size);
/* Looks at the files now. The control thread calls it through security.h. RELOAD_FAILED comes once a change, with the reason. */
enum reload_outcome auth_reload(struct auth *auth, char *out_error, size_t error_size);
