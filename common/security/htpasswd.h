/* Users and their password hashes, a line each: user:hash. A user's last line wins; empty lines and those that begin with # are
 * passed over.
 *
 *   fast   plain text, {SHA}, {SSHA}
 *   slow   $2a$ $2b$ $2y$ (bcrypt), $1$ and $apr1$ (MD5, Apache's default), $5$ $6$ (SHA-2): a millisecond to a second each
 *
 * Bound   HTPASSWD_USERS_MAX; a hash that would take longer than about a second is refused when it is read
 * Source  basicauth extension, htpasswd; crypt(5)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/base/slice.h"

#define HTPASSWD_USERS_MAX 10000
#define HTPASSWD_PASSWORD_MAX 256 /* bytes; longer ones match nothing */

struct htpasswd;
struct htpasswd_entry;

/* 0, or 1 with line number and reason in out_error: never with the line itself. */
int htpasswd_read(const char *text, struct htpasswd **out_table, char *out_error, size_t error_size);
void htpasswd_free(struct htpasswd *table); /* accepts NULL */
size_t htpasswd_count(const struct htpasswd *table);
const struct htpasswd_entry *htpasswd_find(const struct htpasswd *table, struct slice user);
/* Any slow entry, to spend the same time on a user that does not exist; NULL: there is none. */
const struct htpasswd_entry *htpasswd_decoy(const struct htpasswd *table);
bool htpasswd_is_slow(const struct htpasswd_entry *entry);
/* Compares in constant time. */
bool htpasswd_matches(const struct htpasswd_entry *entry, struct slice password);
