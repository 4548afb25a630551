/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seals.c: nothing that only one side has is overwritten before it is sealed, on stable storage.
 */
#include "history.h"

unsigned long seals_used, seals_dropped;

void pair_written(struct node *n, const struct guest_request *q)
{
    history_written(n->number, q->version);
}

#define SEAL_HEAD_BYTES 160u /* then a bit for each block */

/* Sealed for good: the head says that it holds this block, and it does, also after a power cut, as
 * it is or as it was written later (a power cut may have brought the older one back). */
static bool is_sealed(struct node *n, uint64_t sector)
{
    char name[16];

    for (unsigned slot = 0; slot < SEALS_MAX; slot++) {
        const struct state_file *head;
        uint64_t block = sector * 512 / BLOCK;

        snprintf(name, sizeof name, "seal-%u", slot);
        head = node_state(n, name);
        if (head && head->data[SEAL_HEAD_BYTES + block / 8] >> (block % 8) & 1 &&
            history_is_not_older(n->seals[slot].media, n->image.now, sector))
            return true;
    }
    return false;
}

/* Rule 7: nothing that only one side has is overwritten before it is sealed. */
void pair_overwritten(struct node *n, uint64_t offset, uint64_t length, const uint8_t *data)
{
    for (uint64_t s = offset / 512; s < (offset + length) / 512; s++) {
        bool is_other = !data || memcmp(data + s * 512 - offset, n->image.now + s * 512, 512) != 0;

        if (!is_other || !history_is_only_here(n->number, n->image.now, s))
            continue;
        if (is_sealed(n, s)) {
            seals_used++;
            continue;
        }
        pair_violation("sector %u of side %d is overwritten and was not sealed", (unsigned)s,
                       n->number);
        return;
    }
    history_seen(n->number, data, length);
}

/* The operator makes room. */
void seals_drop(int n)
{
    static const char *const numbers[] = {"0", "1", "2", "3"};
    const char *words[] = {"--drop", ""};
    unsigned slot;

    if (!nodes[n].r || seal_count(&nodes[n].r->seals) < SEALS_MAX)
        return;
    memory_node = n;
    slot = pair_below(SEALS_MAX);
    words[1] = numbers[slot];
    history_seen(1 - n, nodes[n].seals[slot].now, DISK_BYTES); /* nobody asks for it any more */
    seals_dropped++;
    seal_run_verb(nodes[n].r, 2, words, NULL, NULL);
}
