/* Scope-bound cleanup, and the few spellings beyond C11 that the tree uses. */
#pragma once

#define CLEANUP(free_function) __attribute__((cleanup(free_function##_cleanup)))
#define NORETURN __attribute__((noreturn))
#define PRINTF_LIKE(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HOT_INLINE static inline __attribute__((always_inline))
#define WARN_UNUSED __attribute__((warn_unused_result))

/* Defines what CLEANUP(function) calls on a variable of type `type *` when its scope is left. */
#define CLEANUP_DEFINE(type, function)                                                             \
    static inline void function##_cleanup(type **pointer)                                          \
    {                                                                                              \
        if (*pointer)                                                                              \
            function(*pointer);                                                                    \
    }                                                                                              \
    struct cleanup_define_needs_a_semicolon

/* Moves a pointer out of a variable, so that its cleanup finds nothing. */
#define steal(pointer_at)                                                                          \
    __extension__({                                                                                \
        __typeof__(*(pointer_at)) stolen_ = *(pointer_at);                                         \
        *(pointer_at) = NULL;                                                                      \
        stolen_;                                                                                   \
    })

#define container_of(member_at, type, member)                                                      \
    ((type *)(void *)((char *)(member_at)-offsetof(type, member)))

#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))
