/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * say.c: what a filter tells the world: health, progress, log lines, events, counters.
 *
 * Counters are spread over COUNTER_SHARDS copies by home and added up when read, so that counting
 * in a callback is one atomic increment in a line that few threads touch.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- health and progress -------------------------------------------------------------------- */

static const char *const health_names[] = {"ok", "degraded", "failed"};

/* True: it is news. */
static bool store_health(struct seat *seat, uint32_t state, const char *sentence,
                         const char *remedy)
{
    bool is_news;
    SCOPED_LOCK(&seat->mutex);

    is_news = seat->health != state || strcmp(seat->sentence, sentence) != 0;
    seat->health = state;
    snprintf(seat->sentence, sizeof seat->sentence, "%s", sentence);
    snprintf(seat->remedy, sizeof seat->remedy, "%s", remedy);
    text_one_line(seat->sentence);
    text_one_line(seat->remedy);
    return is_news;
}

void seat_health(struct seat *seat, uint32_t state, const char *sentence, const char *remedy)
{
    static const enum log_level levels[] = {LOG_LEVEL_NOTICE, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR};

    state = MIN(state, (uint32_t)SLUICE_HEALTH_FAILED);
    if (!store_health(seat, state, sentence ? sentence : "", remedy ? remedy : ""))
        return;
    seat_log(seat, levels[state], "%s: %s", health_names[state], sentence ? sentence : "");
    disk_notify(seat->disk, "health", "filter:%s state:%s sentence:%s", seat->name,
                health_names[state], sentence ? sentence : "");
}

uint32_t host_station_health(struct station *station, char *sentence, size_t sentence_size,
                             char *remedy, size_t remedy_size)
{
    struct seat *seat = seat_of_station(station);
    SCOPED_LOCK(&seat->mutex);

    snprintf(sentence, sentence_size, "%s", seat->sentence);
    snprintf(remedy, remedy_size, "%s", seat->remedy);
    return seat->health;
}

void seat_progress(struct seat *seat, const char *what, uint64_t done, uint64_t total)
{
    SCOPED_LOCK(&seat->mutex);

    snprintf(seat->progress_what, sizeof seat->progress_what, "%s", what ? what : "");
    seat->progress_done = done;
    seat->progress_total = total;
}

/* --- log and events -----------------------------------------------------------------------------
 */

void seat_vlog(struct seat *seat, uint32_t level, const char *fmt, va_list ap)
{
    uint32_t most = MIN(MAX(level, (uint32_t)LOG_LEVEL_ERROR), (uint32_t)LOG_LEVEL_DEBUG);
    char text[1500];

    vsnprintf(text, sizeof text, fmt, ap);
    log_line((enum log_level)most, "%s disk=%s filter=%s", text, seat->pub.name, seat->name);
}

void seat_log(struct seat *seat, uint32_t level, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    seat_vlog(seat, level, fmt, ap);
    va_end(ap);
}

void seat_event(struct seat *seat, const char *name, const char *fmt, va_list ap)
{
    char text[900];

    vsnprintf(text, sizeof text, fmt, ap);
    text_one_line(text);
    disk_notify(seat->disk, name, "filter:%s%s%s", seat->name, text[0] ? " " : "", text);
}

/* --- counters -----------------------------------------------------------------------------------
 */

static bool has_histograms(const struct sluice_filter *filter, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (filter->counters[i].kind == SLUICE_HISTOGRAM_NS)
            return true;
    return false;
}

int seat_make_counters(struct seat *seat)
{
    const unsigned line = CACHE_LINE / sizeof *seat->counters;
    size_t bytes;

    seat->counter_count = filter_counter_count(seat->filter);
    if (!seat->counter_count)
        return 0;
    seat->counter_stride = (seat->counter_count + line - 1) / line * line;
    bytes = COUNTER_SHARDS * seat->counter_stride * sizeof *seat->counters;
    seat->counters = aligned_alloc(CACHE_LINE, bytes);
    if (!seat->counters)
        return -ENOMEM;
    memset((void *)seat->counters, 0, bytes);
    if (!has_histograms(seat->filter, seat->counter_count))
        return 0;
    seat->histograms = calloc(seat->counter_count, sizeof *seat->histograms);
    return seat->histograms ? 0 : -ENOMEM;
}

void seat_free_counters(struct seat *seat)
{
    free((void *)seat->counters);
    free(seat->histograms);
}

void seat_count(struct seat *seat, uint32_t counter, int64_t delta)
{
    const struct home *home = home_current_or_null();
    unsigned shard = home ? home->shard % COUNTER_SHARDS : 0;

    if (LIKELY(counter < seat->counter_count))
        atomic_fetch_add_explicit(&seat->counters[shard * seat->counter_stride + counter], delta,
                                  memory_order_relaxed);
}

void seat_observe(struct seat *seat, uint32_t counter, uint64_t nanoseconds)
{
    if (counter >= seat->counter_count || !seat->histograms)
        return;
    histogram_add(&seat->histograms[counter].histogram, nanoseconds);
    atomic_fetch_add_explicit(&seat->histograms[counter].sum, nanoseconds, memory_order_relaxed);
}

int64_t seat_counter(const struct seat *seat, uint32_t counter)
{
    int64_t sum = 0;

    for (unsigned shard = 0; shard < COUNTER_SHARDS; shard++)
        sum += atomic_load_explicit(&seat->counters[shard * seat->counter_stride + counter],
                                    memory_order_relaxed);
    return sum;
}
