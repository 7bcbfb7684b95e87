/* Who may send to us, and how we say who we are: the Collector's extensions basicauth and bearertokenauth.
 *
 * Server  compares in constant time; a wrong or missing credential gives UNAUTHENTICATED / 401. htpasswd lines may be
 *         plain text, {SHA}, bcrypt or crypt(3)'s.
 * Client  a header for each request. Token and htpasswd files are read again when they change.
 * Source  collector contrib basicauthextension, bearertokenauthextension
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"

enum auth_kind { AUTH_NONE, AUTH_BASIC, AUTH_BEARER };

struct auth_options {
    enum auth_kind kind;
    const char *id;                                         /* component ID, for messages */
    const char *htpasswd_file, *htpasswd_inline;            /* basicauth.htpasswd: servers; both: joined */
    const char *client_username, *client_password;          /* basicauth.client_auth */
    const char *client_username_file, *client_password_file;
    const char *header, *scheme;                            /* bearertokenauth: default Authorization, Bearer */
    const char *const *tokens;                              /* bearertokenauth.token or tokens: any of them is let in */
    size_t token_count;
    const char *token_file;                                 /* bearertokenauth.filename: a token a line, wins */
};

struct auth;
/* 0, or 1 with a line in out_error. server: checks requests; otherwise makes headers. */
int auth_new(const struct auth_options *options, bool server, struct auth **out_auth, char *out_error, size_t error_size);
void auth_free(struct auth *auth); /* accepts NULL */
/* The header that auth_check wants the value of, and auth_header makes: lower case, such as "authorization". */
const char *auth_header_name(const struct auth *auth);
/* Any thread. value: of that header, empty when there is none. */
bool auth_check(struct auth *auth, struct slice value);
/* Any thread. The value to send now, with its NUL; false: there is none yet (the file is missing). */
bool auth_header(struct auth *auth, char *out_value, size_t size);
#define AUTH_VALUE_MAX 8192
/* Looks at the files now; true: something changed. */
bool auth_reload(struct auth *auth);
