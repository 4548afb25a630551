/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lineage.c: comparing, growing and sending the lists of lineage.h.
 */
#include "lineage.h"

#include <errno.h>
#include <string.h>

static bool is_same(const struct rep_epoch *a, const struct rep_epoch *b)
{
    return a->number == b->number && a->uuid[0] == b->uuid[0] && a->uuid[1] == b->uuid[1];
}

/* Index behind the newest entry of `mine` that `theirs` has too, 0: none. */
static uint32_t shared_end(const struct rep_lineage *mine, const struct rep_lineage *theirs)
{
    for (uint32_t i = mine->count; i > 0; i--)
        for (uint32_t j = theirs->count; j > 0; j--)
            if (is_same(&mine->of[i - 1], &theirs->of[j - 1]))
                return i;
    return 0;
}

/* Where the first epoch of `of` behind the shared part starts. */
static uint64_t next_start(const struct rep_lineage *of, uint32_t shared)
{
    return shared < of->count ? of->of[shared].start_seq : UINT64_MAX;
}

static enum rep_kinship compare_fresh(const struct rep_lineage *mine,
                                      const struct rep_lineage *theirs)
{
    if (!mine->count && !theirs->count)
        return REP_KIN_FRESH_BOTH;
    return mine->count ? REP_KIN_FRESH_THEIRS : REP_KIN_FRESH_MINE;
}

enum rep_kinship rep_lineage_compare(const struct rep_lineage *mine, uint64_t my_last_seq,
                                     const struct rep_lineage *theirs, uint64_t their_last_seq,
                                     uint64_t *fork_seq)
{
    uint32_t my_end = shared_end(mine, theirs), their_end = shared_end(theirs, mine);
    uint64_t my_next = next_start(mine, my_end), their_next = next_start(theirs, their_end);

    *fork_seq = my_next < their_next ? my_next : their_next;
    if (!mine->count || !theirs->count)
        return compare_fresh(mine, theirs);
    if (!my_end)
        return REP_KIN_STRANGER;
    if (my_next == UINT64_MAX && their_next == UINT64_MAX)
        return REP_KIN_EQUAL;
    if (my_next == UINT64_MAX)
        return my_last_seq < their_next ? REP_KIN_ANCESTOR : REP_KIN_FORK;
    if (their_next == UINT64_MAX)
        return their_last_seq < my_next ? REP_KIN_DESCENDANT : REP_KIN_FORK;
    return REP_KIN_FORK;
}

const struct rep_epoch *rep_lineage_tip(const struct rep_lineage *lineage)
{
    static const struct rep_epoch none;

    return lineage->count ? &lineage->of[lineage->count - 1] : &none;
}

void rep_lineage_open(struct rep_lineage *lineage, const struct rep_epoch *epoch)
{
    if (lineage->count == REP_LINEAGE_MAX)
        memmove(lineage->of, lineage->of + 1, --lineage->count * sizeof *lineage->of);
    lineage->of[lineage->count++] = *epoch;
}

size_t rep_lineage_encode(const struct rep_lineage *lineage, uint8_t *out)
{
    for (uint32_t i = 0; i < lineage->count; i++) {
        const struct rep_epoch *e = &lineage->of[i];
        const uint64_t words[] = {e->number, e->uuid[0], e->uuid[1], e->start_seq, e->writer};

        for (unsigned b = 0; b < REP_EPOCH_BYTES; b++)
            out[i * REP_EPOCH_BYTES + b] = (uint8_t)(words[b / 8] >> (8 * (b % 8)));
    }
    return lineage->count * (size_t)REP_EPOCH_BYTES;
}

int rep_lineage_decode(struct rep_lineage *lineage, const uint8_t *data, size_t bytes)
{
    memset(lineage, 0, sizeof *lineage);
    if (bytes % REP_EPOCH_BYTES || bytes / REP_EPOCH_BYTES > REP_LINEAGE_MAX)
        return -EPROTO;
    lineage->count = (uint32_t)(bytes / REP_EPOCH_BYTES);
    for (uint32_t i = 0; i < lineage->count; i++) {
        uint64_t words[5] = {0};

        for (unsigned b = 0; b < REP_EPOCH_BYTES; b++)
            words[b / 8] |= (uint64_t)data[i * REP_EPOCH_BYTES + b] << (8 * (b % 8));
        lineage->of[i] = (struct rep_epoch){.number = words[0],
                                            .uuid = {words[1], words[2]},
                                            .start_seq = words[3],
                                            .writer = words[4]};
        if (i && lineage->of[i].number <= lineage->of[i - 1].number)
            return -EPROTO;
    }
    return 0;
}
