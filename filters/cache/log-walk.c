/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log-walk.c: goes through the chunks of a segment that lies in memory.  Only what this log has
 * written there since the segment was opened: the numbers of the chunks grow.
 */
#include "cache.h"

static bool belongs(const struct log *log, const struct chunk_header *h, uint64_t segment,
                    uint64_t sequence, uint32_t room)
{
    return h->nonce == log->super.nonce && h->segment == segment && h->sequence >= sequence &&
           1 + h->data_blocks <= room;
}

void log_for_entries(const struct log *log, const uint8_t *segment_data, uint64_t segment,
                     uint32_t end, log_entry_fn *fn, void *arg)
{
    struct chunk_header h;
    uint64_t sequence = 0;

    for (uint32_t block = 0; block < end; block += 1 + h.data_blocks) {
        uint32_t slot = log_slot(log, segment, block) + 1, data = block + 1;

        if (!format_get_chunk(segment_data + (uint64_t)block * BLOCK_BYTES, &h) ||
            !belongs(log, &h, segment, sequence, end - block))
            return;
        sequence = h.sequence + 1;
        for (uint32_t i = 0; i < h.count; i++) {
            bool has_data = h.entry[i].kind != CHUNK_DROP;

            fn(arg, &h.entry[i], slot, segment_data + (uint64_t)data * BLOCK_BYTES);
            slot += has_data;
            data += has_data;
        }
    }
}
