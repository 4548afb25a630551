/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rot.c: whether what the SSD gives is what was written there.  The CRC of each slot's data is in
 * RAM, from the writing of the chunk or from its header or the checkpoint at the start, so each
 * block that is read is checked before anybody sees it: a clean one that is wrong is read from the
 * backing, a dirty one fails the read, and neither is copied or brought to the backing as if it
 * were good.
 */
#include "cache.h"
#include "common/crc.h"

#include <stdio.h>

#define TOLD_EVERY_NS UINT64_C(10000000000)

bool rot_is_whole(const struct cache *c, uint32_t slot, const uint8_t *data)
{
    return crc_add(0, data, BLOCK_BYTES) == *log_crc(&c->log, slot);
}

void rot_note(struct cache *c, uint64_t block, uint32_t slot, bool is_dirty)
{
    uint64_t now = sluice_now_ns(c->disk);

    sluice_count(c->disk, N_ROTTED, 1);
    c->rotted_untold++;
    if (now < c->next_rot_told_ns && (!is_dirty || c->log.error))
        return;
    sluice_log(c->disk, is_dirty ? SLUICE_LOG_ERROR : SLUICE_LOG_WARNING,
               "block %llu of the disk is damaged on %s, slot %u; %s", (unsigned long long)block,
               c->log.path, slot,
               is_dirty ? "the backing lacks it, so reading it fails"
                        : "it is read from the backing");
    sluice_event_emit(c->disk, "rot", "block:%llu slot:%u state:%s found:%llu",
                      (unsigned long long)block, slot, is_dirty ? "dirty" : "clean",
                      (unsigned long long)c->rotted_untold);
    c->next_rot_told_ns = now + TOLD_EVERY_NS;
    c->rotted_untold = 0;
}

void rot_note_unread(struct cache *c, int32_t error, bool is_dirty)
{
    uint64_t now = sluice_now_ns(c->disk), count;
    bool is_told;

    cache_lock(c);
    count = ++c->unread_untold;
    is_told = now >= c->next_unread_told_ns;
    if (is_told) {
        c->next_unread_told_ns = now + TOLD_EVERY_NS;
        c->unread_untold = 0;
    }
    cache_unlock(c);
    if (is_told)
        sluice_log(c->disk, is_dirty ? SLUICE_LOG_ERROR : SLUICE_LOG_WARNING,
                   "reading %s failed: %s, %llu times since this was said last; %s", c->log.path,
                   strerror(error), (unsigned long long)count,
                   is_dirty ? "the backing lacks this block, so its read fails"
                            : "what is clean is read from the backing");
}

void rot_tell_health(struct cache *c)
{
    const struct log *log = &c->log;
    char sentence[160];

    if (log->error) {
        step_down_tell_health(c); /* nothing is worse */
    } else if (log->lost_blocks) {
        snprintf(sentence, sizeof sentence,
                 "%llu blocks on the cache's tier are damaged, the first is block %llu, and the "
                 "backing lacks them",
                 (unsigned long long)log->lost_blocks, (unsigned long long)log->lost_first);
        sluice_health(c->disk, SLUICE_HEALTH_DEGRADED, sentence,
                      "reading them and flushes fail until they are written anew; the log has all");
    } else if (c->destage_failures >= FAILURES_TOLD) {
        sluice_health(c->disk, SLUICE_HEALTH_DEGRADED,
                      "the cache cannot bring its data to the backing",
                      "mend the backing; nothing is lost, but the cache fills up");
    } else {
        sluice_health(c->disk, SLUICE_HEALTH_OK, "", "");
    }
}

void rot_lose(struct cache *c, uint64_t block, uint32_t slot)
{
    struct log *log = &c->log;

    rot_note(c, block, slot, true);
    index_set_bad(&c->index, block);
    if (log->lost_blocks++ == 0)
        log->lost_first = block;
    log->lost_in[log_place_of_slot(log, slot)]++;
    if (!log->error)
        rot_tell_health(c);
}

void rot_heal(struct cache *c, uint32_t slot)
{
    struct log *log = &c->log;

    log->lost_in[log_place_of_slot(log, slot)]--;
    if (--log->lost_blocks == 0 && !log->error)
        rot_tell_health(c);
}
