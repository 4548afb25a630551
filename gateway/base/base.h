/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base: what every room stands on and nobody thinks about twice: error text with a context
 * stack, log lines, clocks, intrusive lists, histograms and cleanup attributes.
 *
 * Errors inside Sluice are 0 or a negative errno.  Where a person will read the reason, the caller
 * supplies a `struct err`; the place of detection writes the sentence with err_set(), callers on
 * the way up put what they were doing in front of it with err_context(), and exactly one place
 * prints it.
 */
#ifndef SLUICE_BASE_H
#define SLUICE_BASE_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define MUST_CHECK __attribute__((warn_unused_result))
#define COLD __attribute__((cold, noinline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define CACHE_LINE 64

/* The struct that embeds `member` at `ptr`. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* --- errors ------------------------------------------------------------------------------- */

/* code: 0 or a positive errno; text: one line, no trailing newline, always terminated. */
struct err {
    int code;
    char text[1000];
};

/* Writes the sentence and returns -code.  e may be NULL when nobody will read it.  An `errno`
 * wanted in the text is passed explicitly with strerror() by the caller. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4) COLD;

/* Puts "what: " in front of the text and returns -e->code (or -EIO when e is NULL). */
int err_context(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3) COLD;

/* --- log ------------------------------------------------------------------------------------ */

/* syslog(3) numbers, so that "<N>" prefixes mean the same to journald. */
enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};

/* One line to stderr, atomically (one write), any thread.  Fields such as disk=, filter=, peer=
 * belong at the end of the text: log_line(LOG_LEVEL_WARNING, "flush failed: %s disk=%s", ...). */
void log_line(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
void log_set_level(enum log_level most_verbose);

/* Takes every line instead of stderr; for tests and for the control room's event stream. */
typedef void log_sink_fn(enum log_level level, const char *text);
void log_set_sink(log_sink_fn *sink);

/* --- clocks --------------------------------------------------------------------------------- */

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t clock_now_ns(void);

/* The cheapest steady counter of this processor (invariant TSC where there is one, else
 * nanoseconds), for time spent on the hot path; convert differences with clock_ticks_to_ns().
 * clock_init() calibrates and must run once before; it is idempotent. */
void clock_init(void);
extern bool clock_ticks_are_tsc;
extern double clock_ns_per_tick;
#if defined(__x86_64__)
static inline uint64_t clock_ticks(void)
{
    return LIKELY(clock_ticks_are_tsc) ? __builtin_ia32_rdtsc() : clock_now_ns();
}
#else
static inline uint64_t clock_ticks(void)
{
    return clock_now_ns();
}
#endif
static inline uint64_t clock_ticks_to_ns(uint64_t ticks)
{
    return (uint64_t)((double)ticks * clock_ns_per_tick);
}

/* --- threads -------------------------------------------------------------------------------- */

/* pthread_create() with all signals blocked: those are for the process's first thread.  Detached
 * when `thread` is NULL. 0 or -errno. */
int thread_start(pthread_t *thread, void *(*run)(void *), void *arg) MUST_CHECK;
/* One wait measured by clock_now_ns(), which no change of the time of day lengthens, `mutex` held:
 * false once the deadline has passed.  Call it in a loop that looks at what is waited for. */
bool cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns);

/* --- big-endian fields: what networks and SCSI speak; at any address ------------------------ */

static inline uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}
static inline uint32_t get24(const uint8_t *p)
{
    return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}
static inline uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | get24(p + 1);
}
static inline uint64_t get64(const uint8_t *p)
{
    return (uint64_t)get32(p) << 32 | get32(p + 4);
}
static inline void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static inline void put24(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 16);
    put16(p + 1, v);
}
static inline void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}
static inline void put64(uint8_t *p, uint64_t v)
{
    put32(p, (uint32_t)(v >> 32));
    put32(p + 4, (uint32_t)v);
}

/* --- histogram ------------------------------------------------------------------------------ */

/* Bucket b counts values v with 2^b <= v < 2^(b+1) (b = 0 also takes 0).  Adding is one relaxed
 * atomic increment; readers sum without stopping writers. */
#define HISTOGRAM_BUCKETS 44
struct histogram {
    _Atomic uint64_t bucket[HISTOGRAM_BUCKETS];
};
static inline void histogram_add(struct histogram *h, uint64_t value)
{
    unsigned b = 63u - (unsigned)__builtin_clzll(value | 1);

    if (UNLIKELY(b >= HISTOGRAM_BUCKETS))
        b = HISTOGRAM_BUCKETS - 1;
    atomic_fetch_add_explicit(&h->bucket[b], 1, memory_order_relaxed);
}
uint64_t histogram_count(const struct histogram *h);
/* The upper edge of the bucket that holds quantile q (0..1); 0 when empty. */
uint64_t histogram_quantile(const struct histogram *h, double q);

/* --- lists: circular, intrusive, head is a node -------------------------------------------- */

struct list {
    struct list *next, *prev;
};
static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}
static inline bool list_is_empty(const struct list *l)
{
    return l->next == l;
}
static inline void list_insert(struct list *node, struct list *prev)
{
    node->next = prev->next;
    node->prev = prev;
    prev->next->prev = node;
    prev->next = node;
}
static inline void list_append(struct list *head, struct list *node)
{
    list_insert(node, head->prev);
}
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = node->prev = node;
}
/* Moves all nodes of `from` to the (empty or not) end of `to`. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_is_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}
#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)
#define LIST_FOREACH(node, head) \
    for (struct list *node = (head)->next; node != (head); node = node->next)
#define LIST_FOREACH_SAFE(node, head)                                                 \
    for (struct list *node = (head)->next, *node##_next = node->next; node != (head); \
         node = node##_next, node##_next = node->next)

/* --- cleanup -------------------------------------------------------------------------------- */

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}
static inline void cleanup_close(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
static inline void cleanup_unlock(pthread_mutex_t **m)
{
    pthread_mutex_unlock(*m);
}
#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))
#define CLEANUP_CLOSE __attribute__((cleanup(cleanup_close)))
#define SCOPED_LOCK_NAME2(line) scoped_lock_##line
#define SCOPED_LOCK_NAME(line) SCOPED_LOCK_NAME2(line)
/* Holds `mutex` (a pointer) to the end of the block. */
#define SCOPED_LOCK(mutex)                                                                         \
    pthread_mutex_t *SCOPED_LOCK_NAME(__LINE__) __attribute__((cleanup(cleanup_unlock), unused)) = \
        (pthread_mutex_lock(mutex), (mutex))

/* --- text ----------------------------------------------------------------------------------- */

/* "4096" -> "4 KiB", "1536" -> "1.5 KiB"; exact integers stay exact. For people, never for JSON. */
const char *text_size(uint64_t bytes, char buf[32]);
/* Edit distance for "did you mean"; the best candidate, or NULL when none is close. */
const char *text_closest(const char *word, const char *const *candidates, size_t count);
/* malloc'ed printf; NULL for ENOMEM. */
char *text_printf(const char *fmt, ...) PRINTF_LIKE(1, 2) MUST_CHECK;
/* Replaces control characters and bytes that are no UTF-8 by '?': text from outside, or that was
 * cut off, stays one line, and fits into JSON. */
void text_one_line(char *text);
/* Sizes "64MiB", "4096", "10G" is an error (IEC suffixes KiB MiB GiB TiB PiB or plain bytes).
 * Durations "5s", "10ms", "2m", "1h" (ns us ms s m h d), result in ns.  0 or -EINVAL / -ERANGE; the
 * whole string must be taken. */
int text_parse_size(const char *text, uint64_t *bytes) MUST_CHECK;
int text_parse_duration(const char *text, uint64_t *ns) MUST_CHECK;

/* CRC-32C (Castagnoli, RFC 3720 B.4) of `length` bytes, continuing from `crc` (0 to start). */
uint32_t crc32c(uint32_t crc, const void *data, size_t length);
/* The same without special instructions; for the test that compares both. */
uint32_t crc32c_by_tables(uint32_t crc, const void *data, size_t length);

/* What configure was told; a moved installation is found beside the program first (cli/common.c).
 */
extern const struct installation {
    const char *settings; /* the folder of gateway.yaml */
    const char *plugin;   /* the file */
    const char *filters;  /* the folder */
    const char *kit;      /* the folder of what filter authors start from */
} installation;

/* 16 random bytes as a version 4 UUID in text (36 characters and a terminator). */
void uuid_make(char text[37]);
bool uuid_is_valid(const char *text);

#endif
