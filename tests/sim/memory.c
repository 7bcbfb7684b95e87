#include "tests/sim/memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/base/assert.h"
#include "common/base/extent.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define UNPOISON(at, len) ASAN_UNPOISON_MEMORY_REGION((at), (len))
#else
#define UNPOISON(at, len) ((void)(at), (void)(len))
#endif

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *at);
void *__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t len);
int __real_madvise(void *at, size_t len, int advice);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);
void *__wrap_reallocarray(void *at, size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *at);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t most);
int __wrap_vasprintf(char **out_text, const char *format, va_list arguments);
int __wrap_asprintf(char **out_text, const char *format, ...);
int __wrap___vasprintf_chk(char **out_text, int flag, const char *format, va_list arguments);
int __wrap___asprintf_chk(char **out_text, int flag, const char *format, ...);
void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t len);
int __wrap_madvise(void *at, size_t len, int advice);

/* -- who has what: open addressing by address ----------------------------------------------------------------------- */

struct held {
    void *at; /* NULL: free */
    size_t bytes;
    uint32_t owner;
    bool mapped;
};

static void arena_give(void *at, size_t len);

static struct held *table;
static size_t capacity, count;
static uint32_t owner_now;

static size_t place_of(const void *at)
{
    return (size_t)(((uintptr_t)at >> 4) * 0x9e3779b97f4a7c15ull >> 20) & (capacity - 1);
}

static struct held *held_find(const void *at)
{
    if (capacity == 0)
        return NULL;
    for (size_t i = place_of(at);; i = (i + 1) & (capacity - 1)) {
        if (table[i].at == at)
            return &table[i];
        if (!table[i].at)
            return NULL;
    }
}

static void held_put(struct held held)
{
    size_t i = place_of(held.at);

    while (table[i].at)
        i = (i + 1) & (capacity - 1);
    table[i] = held;
}

static void held_grow(void)
{
    struct held *old = table;
    size_t before = capacity;

    capacity = capacity ? 2 * capacity : 1u << 14;
    table = __real_calloc(capacity, sizeof(*table));
    ASSERT(table != NULL);
    for (size_t i = 0; i < before; i++)
        if (old[i].at)
            held_put(old[i]);
    __real_free(old);
}

static void *held_add(void *at, size_t bytes, bool mapped)
{
    if (!at || owner_now == 0) /* the simulator's own need not be known */
        return at;
    if (2 * (count + 1) > capacity)
        held_grow();
    count++;
    held_put((struct held){at, bytes, owner_now, mapped});
    return at;
}

/* Those behind it that stood here move up. */
static void held_remove(struct held *held)
{
    size_t hole = (size_t)(held - table);

    count--;
    for (size_t i = (hole + 1) & (capacity - 1); table[i].at; i = (i + 1) & (capacity - 1)) {
        size_t home = place_of(table[i].at);

        if (((i - home) & (capacity - 1)) < ((i - hole) & (capacity - 1)))
            continue;
        table[hole] = table[i];
        hole = i;
    }
    table[hole].at = NULL;
}

uint32_t memory_owner(uint32_t owner)
{
    uint32_t before = owner_now;

    owner_now = owner;
    return before;
}

size_t memory_blocks(uint32_t owner, size_t *out_bytes)
{
    size_t blocks = 0;

    *out_bytes = 0;
    for (size_t i = 0; i < capacity; i++) {
        if (!table[i].at || table[i].owner != owner)
            continue;
        blocks++;
        *out_bytes += table[i].bytes;
    }
    return blocks;
}

void memory_drop(uint32_t owner)
{
    struct held *dropped = __real_malloc((count + 1) * sizeof(*dropped));
    size_t n = 0;

    ASSERT(dropped != NULL);
    for (size_t i = 0; i < capacity; i++)
        if (table[i].at && table[i].owner == owner)
            dropped[n++] = table[i];
    for (size_t i = 0; i < n; i++) {
        held_remove(held_find(dropped[i].at));
        if (dropped[i].mapped)
            arena_give(dropped[i].at, dropped[i].bytes);
        else
            __real_free(dropped[i].at);
    }
    __real_free(dropped);
}

/* -- malloc and its kin --------------------------------------------------------------------------------------------------- */

void *__wrap_malloc(size_t size)
{
    return held_add(__real_malloc(size), size, false);
}

void *__wrap_calloc(size_t number, size_t size)
{
    return held_add(__real_calloc(number, size), number * size, false);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return held_add(__real_aligned_alloc(alignment, size), size, false);
}

void __wrap_free(void *at)
{
    struct held *held = at ? held_find(at) : NULL;

    if (held)
        held_remove(held);
    __real_free(at);
}

void *__wrap_realloc(void *at, size_t size)
{
    struct held *held = at ? held_find(at) : NULL;
    uint32_t owner = held ? held->owner : owner_now, before;
    void *moved;

    if (held)
        held_remove(held);
    moved = __real_realloc(at, size);
    before = memory_owner(owner);
    (void)held_add(moved, size, false);
    (void)memory_owner(before);
    return moved;
}

void *__wrap_reallocarray(void *at, size_t number, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(number, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return __wrap_realloc(at, bytes);
}

char *__wrap_strndup(const char *text, size_t most)
{
    size_t len = strnlen(text, most);
    char *copy = __wrap_malloc(len + 1);

    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, SIZE_MAX);
}

int __wrap_vasprintf(char **out_text, const char *format, va_list arguments)
{
    va_list again;
    int len;

    va_copy(again, arguments);
    len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len < 0)
        return len;
    *out_text = __wrap_malloc((size_t)len + 1);
    return *out_text ? vsnprintf(*out_text, (size_t)len + 1, format, arguments) : -1;
}

int __wrap_asprintf(char **out_text, const char *format, ...)
{
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = __wrap_vasprintf(out_text, format, arguments);
    va_end(arguments);
    return len;
}

/* As a compiler with _FORTIFY_SOURCE calls them. */
int __wrap___vasprintf_chk(char **out_text, int flag, const char *format, va_list arguments)
{
    (void)flag;
    return __wrap_vasprintf(out_text, format, arguments);
}

int __wrap___asprintf_chk(char **out_text, int flag, const char *format, ...)
{
    va_list arguments;
    int len;

    (void)flag;
    va_start(arguments, format);
    len = __wrap_vasprintf(out_text, format, arguments);
    va_end(arguments);
    return len;
}

/* -- extents: from an arena, lowest first, so that their addresses are the same in every run ------------------------------------- */

#define ARENA_EXTENTS 2048u
#define ARENA_BORDER (64 * EXTENT_BYTES) /* what extent.c makes of an address repeats after so much */

static char *arena;
static bool arena_used[ARENA_EXTENTS];

static void arena_make(void)
{
    char *at = __real_mmap(NULL, ARENA_EXTENTS * EXTENT_BYTES + ARENA_BORDER, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    ASSERT(at != MAP_FAILED);
    arena = at + (ARENA_BORDER - (uintptr_t)at % ARENA_BORDER) % ARENA_BORDER;
}

static void arena_give(void *at, size_t len)
{
    UNPOISON(at, len);
    ASSERT(__real_madvise(at, len, MADV_DONTNEED) == 0);
    arena_used[(size_t)((char *)at - arena) / EXTENT_BYTES] = false;
}

void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    if (len != EXTENT_BYTES)
        return __real_mmap(at, len, protection, flags, fd, offset);
    if (!arena)
        arena_make();
    for (size_t i = 0; i < ARENA_EXTENTS; i++) {
        if (arena_used[i])
            continue;
        arena_used[i] = true;
        return held_add(arena + i * EXTENT_BYTES, len, true);
    }
    return MAP_FAILED;
}

/* As a compiler with _FILE_OFFSET_BITS=64, which meson gives it, calls it. */
void *__wrap_mmap64(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    return __wrap_mmap(at, len, protection, flags, fd, offset);
}

int __wrap_munmap(void *at, size_t len)
{
    struct held *held = held_find(at);

    if (!held)
        return __real_munmap(at, len);
    held_remove(held);
    arena_give(at, len);
    return 0;
}

/* Nobody needs huge pages, or pages before they are touched. */
int __wrap_madvise(void *at, size_t len, int advice)
{
    (void)at;
    (void)len;
    (void)advice;
    return 0;
}

/* -- the simulator's own ------------------------------------------------------------------------------------------------------ */

void *sim_alloc(size_t bytes)
{
    void *at = __real_calloc(1, bytes);

    ASSERT(at != NULL);
    return at;
}

void *sim_realloc(void *at, size_t bytes)
{
    void *moved = __real_realloc(at, bytes);

    ASSERT(moved != NULL);
    return moved;
}

void sim_free(void *at)
{
    __real_free(at);
}
