#include "common/security/htpasswd.h"

#include <crypt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"

#define BCRYPT_COST_MAX 14      /* about a second */
#define SHA2_ROUNDS_MAX 500000u /* a third of one */
#define SALT_MAX 64             /* of {SSHA} */

enum hash_kind { HASH_PLAIN, HASH_SHA, HASH_SSHA, HASH_APR1, HASH_CRYPT };

struct htpasswd_entry {
    char *user;
    char *hash; /* the line's second part */
    size_t line;
    enum hash_kind kind;
    uint8_t digest[SHA_DIGEST_LENGTH], salt[SALT_MAX]; /* {SHA}, {SSHA} */
    size_t salt_len;
};

struct htpasswd {
    struct htpasswd_entry *entries; /* sorted by user, one each */
    size_t count;
};

/* -- what a hash is --------------------------------------------------------------------------------------- */

static bool starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Base64 of at most `size` bytes; SIZE_MAX: it is none. */
static size_t base64_read(const char *text, uint8_t *out, size_t size)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t bytes[((SHA_DIGEST_LENGTH + SALT_MAX) / 3 + 2) * 3];
    size_t len = strlen(text), letters = strspn(text, alphabet), padding = len - letters, got;

    if (len == 0 || len % 4 != 0 || padding > 2 || strspn(text + letters, "=") != padding || len / 4 * 3 > sizeof(bytes))
        return SIZE_MAX;
    (void)EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)len);
    got = len / 4 * 3 - padding;
    if (got > size)
        return SIZE_MAX;
    memcpy(out, bytes, got);
    return got;
}

/* NULL: taken. */
static const char *bcrypt_check(const char *hash)
{
    char *end;
    unsigned long cost = strtoul(hash + 4, &end, 10);

    if (strlen(hash) != 60 || *end != '$' || cost < 4)
        return "is no whole bcrypt hash";
    return cost > BCRYPT_COST_MAX ? "a bcrypt cost above 14 takes more than a second a check; make the hash anew with less" : NULL;
}

static const char *sha2_check(const char *hash)
{
    unsigned long rounds = starts(hash + 3, "rounds=") ? strtoul(hash + 10, NULL, 10) : 0;

    return rounds > SHA2_ROUNDS_MAX ? "more than 500000 rounds take too long a check; make the hash anew with fewer" : NULL;
}

static const char *salted_check(struct htpasswd_entry *entry, const char *base64)
{
    uint8_t bytes[SHA_DIGEST_LENGTH + SALT_MAX];
    size_t len = base64_read(base64, bytes, sizeof(bytes));

    if (len == SIZE_MAX || len < SHA_DIGEST_LENGTH || (entry->kind == HASH_SHA && len != SHA_DIGEST_LENGTH))
        return "is no whole SHA-1 hash in base64";
    memcpy(entry->digest, bytes, SHA_DIGEST_LENGTH);
    entry->salt_len = len - SHA_DIGEST_LENGTH;
    memcpy(entry->salt, bytes + SHA_DIGEST_LENGTH, entry->salt_len);
    return NULL;
}

/* A text between two $ at the beginning names a kind of hash: one we do not know is no plain password. */
static bool names_a_kind(const char *hash)
{
    size_t len = hash[0] == '$' ? strcspn(hash + 1, "$") : 0;

    return len > 0 && len <= 10 && hash[1 + len] == '$' && strspn(hash + 1, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static const char *hash_judge(struct htpasswd_entry *entry)
{
    const char *hash = entry->hash;

    entry->kind = HASH_CRYPT;
    if (starts(hash, "$2a$") || starts(hash, "$2b$") || starts(hash, "$2y$"))
        return bcrypt_check(hash);
    if (starts(hash, "$5$") || starts(hash, "$6$"))
        return sha2_check(hash);
    if (starts(hash, "$1$"))
        return NULL;
    entry->kind = HASH_APR1;
    if (starts(hash, "$apr1$"))
        return NULL;
    entry->kind = HASH_SHA;
    if (starts(hash, "{SHA}"))
        return salted_check(entry, hash + 5);
    entry->kind = HASH_SSHA;
    if (starts(hash, "{SSHA}"))
        return salted_check(entry, hash + 6);
    entry->kind = HASH_PLAIN;
    return names_a_kind(hash) ? "this kind of hash is not known; bcrypt ($2y$, htpasswd -B) is" : NULL;
}

/* -- reading ----------------------------------------------------------------------------------------------- */

static const char *line_read(const char *line, size_t len, size_t number, struct htpasswd_entry *entry)
{
    const char *colon = memchr(line, ':', len);

    if (!colon || colon == line)
        return "wants user:hash";
    entry->line = number;
    entry->user = strndup(line, (size_t)(colon - line));
    entry->hash = strndup(colon + 1, len - (size_t)(colon + 1 - line));
    if (!entry->user || !entry->hash)
        return "out of memory";
    if (!entry->hash[0])
        return "has an empty hash";
    return hash_judge(entry);
}

static int by_user_and_line(const void *a, const void *b)
{
    const struct htpasswd_entry *one = a, *two = b;
    int r = strcmp(one->user, two->user);

    return r ? r : (one->line > two->line) - (one->line < two->line);
}

static void entry_clear(struct htpasswd_entry *entry)
{
    if (entry->hash)
        explicit_bzero(entry->hash, strlen(entry->hash));
    free(entry->hash);
    free(entry->user);
}

/* Of a user's lines the last stays. */
static void keep_last(struct htpasswd *table)
{
    size_t kept = 0;

    qsort(table->entries, table->count, sizeof(*table->entries), by_user_and_line);
    for (size_t i = 0; i < table->count; i++) {
        if (i + 1 < table->count && strcmp(table->entries[i].user, table->entries[i + 1].user) == 0)
            entry_clear(&table->entries[i]);
        else
            table->entries[kept++] = table->entries[i];
    }
    table->count = kept;
}

static const char *lines_read(struct htpasswd *table, const char *text, size_t *out_number)
{
    for (size_t number = 1; *text; number++) {
        size_t len = strcspn(text, "\n"), used = len;
        const char *reason;

        while (used > 0 && strchr(" \t\r", text[used - 1]))
            used--;
        *out_number = number;
        if (used > 0 && text[0] != '#') {
            if (table->count == HTPASSWD_USERS_MAX)
                return "more than 10000 users";
            reason = line_read(text, used, number, &table->entries[table->count++]);
            if (reason)
                return reason;
        }
        text += len + (text[len] == '\n');
    }
    return NULL;
}

int htpasswd_read(const char *text, struct htpasswd **out_table, char *out_error, size_t error_size)
{
    struct htpasswd *table = calloc(1, sizeof(*table));
    size_t lines = 1, number = 0;
    const char *reason = "out of memory";

    for (const char *at = text; *at; at++)
        lines += *at == '\n';
    if (table)
        table->entries = calloc(size_min(lines, HTPASSWD_USERS_MAX), sizeof(*table->entries));
    if (table && table->entries)
        reason = lines_read(table, text, &number);
    if (reason) {
        (void)snprintf(out_error, error_size, "line %zu: %s", number, reason);
        htpasswd_free(table);
        return 1;
    }
    keep_last(table);
    *out_table = table;
    return 0;
}

void htpasswd_free(struct htpasswd *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->count; i++)
        entry_clear(&table->entries[i]);
    free(table->entries);
    free(table);
}

size_t htpasswd_count(const struct htpasswd *table)
{
    return table->count;
}

const struct htpasswd_entry *htpasswd_find(const struct htpasswd *table, struct slice user)
{
    size_t low = 0, high = table->count;

    while (low < high) {
        const struct htpasswd_entry *entry = &table->entries[low + (high - low) / 2];
        size_t len = strlen(entry->user);
        int r = memcmp(user.at, entry->user, size_min(user.len, len));

        if (r == 0)
            r = (user.len > len) - (user.len < len);
        if (r == 0)
            return entry;
        if (r < 0)
            high = low + (high - low) / 2;
        else
            low += (high - low) / 2 + 1;
    }
    return NULL;
}

const struct htpasswd_entry *htpasswd_decoy(const struct htpasswd *table)
{
    for (size_t i = 0; i < table->count; i++)
        if (htpasswd_is_slow(&table->entries[i]))
            return &table->entries[i];
    return NULL;
}

bool htpasswd_is_slow(const struct htpasswd_entry *entry)
{
    return entry->kind == HASH_APR1 || entry->kind == HASH_CRYPT;
}

/* -- matching ----------------------------------------------------------------------------------------------- */

/* Of any two texts in a time that says nothing of either. */
static bool texts_equal(const void *a, size_t a_len, const void *b, size_t b_len)
{
    uint8_t one[SHA256_DIGEST_LENGTH], two[SHA256_DIGEST_LENGTH];

    (void)SHA256(a, a_len, one);
    (void)SHA256(b, b_len, two);
    return CRYPTO_memcmp(one, two, sizeof(one)) == 0;
}

static bool sha1_matches(const struct htpasswd_entry *entry, struct slice password)
{
    uint8_t joined[HTPASSWD_PASSWORD_MAX + SALT_MAX], digest[SHA_DIGEST_LENGTH];

    memcpy(joined, password.at, password.len);
    memcpy(joined + password.len, entry->salt, entry->salt_len);
    (void)SHA1(joined, password.len + entry->salt_len, digest);
    explicit_bzero(joined, sizeof(joined));
    return CRYPTO_memcmp(digest, entry->digest, sizeof(digest)) == 0;
}

/* crypt_rn() and not crypt_r(): sanitizers bring a crypt_r() of their own, by which the linker thinks it needs no libcrypt. */
static bool crypt_matches(const struct htpasswd_entry *entry, const char *password)
{
    struct crypt_data *scratch = calloc(1, sizeof(*scratch)); /* 32 KiB */
    const char *made = scratch ? crypt_rn(password, entry->hash, scratch, sizeof(*scratch)) : NULL;
    bool match = made && texts_equal(made, strlen(made), entry->hash, strlen(entry->hash));

    if (scratch)
        explicit_bzero(scratch, sizeof(*scratch));
    free(scratch);
    return match;
}

/* Apache's variant of crypt's MD5 hash: a thousand rounds over password, salt and the digest before. libxcrypt does not know it.
 * Source: apr_md5.c's description in the Apache documentation, "Password Formats"; the algorithm is that of $1$ with another name. */
struct md5_step {
    EVP_MD_CTX *ctx;
    uint8_t digest[16];
};

static void md5_begin(struct md5_step *step)
{
    (void)EVP_DigestInit_ex(step->ctx, EVP_md5(), NULL);
}

static void md5_add(struct md5_step *step, const void *bytes, size_t len)
{
    (void)EVP_DigestUpdate(step->ctx, bytes, len);
}

static void md5_end(struct md5_step *step)
{
    (void)EVP_DigestFinal_ex(step->ctx, step->digest, NULL);
}

static void apr1_first(struct md5_step *step, const char *password, size_t len, const char *salt, size_t salt_len)
{
    md5_begin(step);
    md5_add(step, password, len);
    md5_add(step, salt, salt_len);
    md5_add(step, password, len);
    md5_end(step);
    md5_begin(step);
    md5_add(step, password, len);
    md5_add(step, "$apr1$", 6);
    md5_add(step, salt, salt_len);
    for (size_t left = len; left > 0; left -= size_min(left, 16))
        md5_add(step, step->digest, size_min(left, 16));
    for (size_t bits = len; bits > 0; bits >>= 1)
        md5_add(step, bits & 1 ? "" : password, 1); /* a zero byte, or the password's first */
    md5_end(step);
}

static void apr1_round(struct md5_step *step, unsigned round, const char *password, size_t len, const char *salt, size_t salt_len)
{
    uint8_t before[16];

    memcpy(before, step->digest, sizeof(before));
    md5_begin(step);
    if (round & 1)
        md5_add(step, password, len);
    else
        md5_add(step, before, sizeof(before));
    if (round % 3)
        md5_add(step, salt, salt_len);
    if (round % 7)
        md5_add(step, password, len);
    if (round & 1)
        md5_add(step, before, sizeof(before));
    else
        md5_add(step, password, len);
    md5_end(step);
}

/* 22 letters of the digest, in the order that crypt's MD5 gives its bytes. */
static void apr1_text(const uint8_t digest[16], char out[23])
{
    static const char letters[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    static const uint8_t order[6][3] = {{0, 6, 12}, {1, 7, 13}, {2, 8, 14}, {3, 9, 15}, {4, 10, 5}, {16, 16, 11}};
    char *at = out;

    for (unsigned i = 0; i < 6; i++) {
        uint32_t bits = 0;

        for (unsigned j = 0; j < 3; j++)
            bits = bits << 8 | (order[i][j] < 16 ? digest[order[i][j]] : 0u);
        for (unsigned j = 0; j < (i < 5 ? 4u : 2u); j++, bits >>= 6)
            *at++ = letters[bits & 63];
    }
    *at = '\0';
}

static bool apr1_matches(const struct htpasswd_entry *entry, const char *password)
{
    const char *salt = entry->hash + 6;
    size_t salt_len = size_min(strcspn(salt, "$"), 8), len = strlen(password);
    const char *want = strchr(salt, '$');
    struct md5_step step = {.ctx = EVP_MD_CTX_new()};
    char made[23];

    if (!step.ctx || !want) {
        EVP_MD_CTX_free(step.ctx);
        return false;
    }
    apr1_first(&step, password, len, salt, salt_len);
    for (unsigned round = 0; round < 1000; round++)
        apr1_round(&step, round, password, len, salt, salt_len);
    EVP_MD_CTX_free(step.ctx);
    apr1_text(step.digest, made);
    return texts_equal(made, strlen(made), want + 1, strlen(want + 1));
}

static bool slow_matches(const struct htpasswd_entry *entry, struct slice password)
{
    char text[HTPASSWD_PASSWORD_MAX + 1];
    bool match;

    if (memchr(password.at, '\0', password.len))
        return false;
    memcpy(text, password.at, password.len);
    text[password.len] = '\0';
    match = entry->kind == HASH_APR1 ? apr1_matches(entry, text) : crypt_matches(entry, text);
    explicit_bzero(text, sizeof(text));
    return match;
}

bool htpasswd_matches(const struct htpasswd_entry *entry, struct slice password)
{
    if (password.len > HTPASSWD_PASSWORD_MAX)
        return false;
    switch (entry->kind) {
    case HASH_PLAIN:
        return texts_equal(password.at, password.len, entry->hash, strlen(entry->hash));
    case HASH_SHA:
    case HASH_SSHA:
        return sha1_matches(entry, password);
    case HASH_APR1:
    case HASH_CRYPT:
        break;
    }
    return slow_matches(entry, password);
}
