/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-cache-core: the parts of the cache that decide and do no I/O: index, ghosts, policies,
 * format, versions.
 */
#include "cache/cache.h"
#include "common/crc.h"
#include "unit.h"

static uint64_t random_state = 42;

static uint32_t next_random(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33);
}

/* --- index --------------------------------------------------------------------------------------
 */

#define MODEL 5000u

static void check_index(const struct index *x, const struct index_item *model, const bool *is_there)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < MODEL; i++) {
        struct index_item item;
        bool found = index_get(x, i * UINT64_C(1000003), &item);

        CHECK_EQ(found, is_there[i]);
        count += is_there[i];
        if (found && is_there[i]) {
            CHECK_EQ(item.place, model[i].place);
            CHECK_EQ(item.is_dirty, model[i].is_dirty);
            CHECK_EQ(item.frequency, model[i].frequency);
        }
    }
    CHECK_EQ(x->count, count);
}

static void test_index_agrees_with_a_plain_array(void)
{
    static struct index_item model[MODEL];
    static bool is_there[MODEL];
    struct index x;

    CHECK_EQ(index_init(&x, 1000), 0); /* five times too small: it grows */
    for (uint32_t step = 0; step < 60000; step++) {
        uint32_t i = next_random() % MODEL;

        if (next_random() % 3) {
            model[i] = (struct index_item){.block = i * UINT64_C(1000003),
                                           .place = next_random(),
                                           .is_dirty = next_random() % 2,
                                           .is_in_ram = next_random() % 2,
                                           .frequency = next_random() % 4};
            is_there[i] = true;
            CHECK_EQ(index_put(&x, &model[i]), 0);
        } else {
            CHECK_EQ(index_remove(&x, i * UINT64_C(1000003)), is_there[i]);
            is_there[i] = false;
        }
    }
    check_index(&x, model, is_there);
    index_free(&x);
}

static void test_index_takes_16_bytes_a_block_at_most(void)
{
    static const uint64_t sizes[] = {100000, 1 << 20, 3333333};

    for (unsigned i = 0; i < 3; i++) {
        struct index x;

        CHECK_EQ(index_init(&x, sizes[i]), 0);
        for (uint64_t b = 0; b < sizes[i]; b++) {
            struct index_item item = {.block = b * 7, .place = (uint32_t)b};

            if (index_put(&x, &item) < 0)
                CHECK(false);
        }
        CHECK_EQ(x.count, sizes[i]);
        CHECK(index_bytes(&x) <= sizes[i] * 161 / 10);
        index_free(&x);
    }
}

static void test_index_knows_large_block_numbers(void)
{
    struct index_item item = {.block = (UINT64_C(1) << 48) - 1,
                              .place = UINT32_MAX,
                              .is_dirty = true},
                      out;
    struct index x;

    CHECK_EQ(index_init(&x, 10), 0);
    CHECK_EQ(index_put(&x, &item), 0);
    CHECK(index_get(&x, item.block, &out));
    CHECK_EQ(out.block, item.block);
    index_set_clean(&x, item.block);
    for (unsigned i = 0; i < 9; i++)
        index_touch(&x, item.block);
    CHECK(index_get(&x, item.block, &out));
    CHECK(!out.is_dirty && out.frequency == INDEX_FREQUENCY_MAX);
    index_free(&x);
}

/* --- ghosts and policies -------------------------------------------------------------------------
 */

static void test_ghosts_are_a_queue_of_their_length(void)
{
    struct ghost *g = ghost_create(1000);
    unsigned kept = 0;

    for (uint64_t b = 0; b < 5000; b++)
        ghost_add(g, b);
    for (uint64_t b = 0; b < 4000; b++)
        CHECK(!ghost_take(g, b) || b >= 3990); /* but for a false hit now and then */
    for (uint64_t b = 4001; b < 5000; b++)
        kept += ghost_take(g, b);
    CHECK(kept > 850);
    for (uint64_t b = 4001; b < 5000; b++)
        CHECK(!ghost_take(g, b)); /* taken once */
    ghost_destroy(g);
}

/* Any policy: each frame leaves once, none twice, and all are found. */
static void drive_policy(const struct policy_ops *ops, uint64_t main_blocks)
{
    struct policy_size size = {.frames = 64, .main_blocks = main_blocks};
    struct policy *p = ops->create(&size);
    bool is_in[64] = {false};
    unsigned in = 0;

    for (unsigned step = 0; step < 20000; step++) {
        uint32_t frame = next_random() % 64;
        enum policy_verdict verdict;

        if (in == 64) {
            frame = ops->victim(p, &verdict);
            CHECK(frame < 64 && is_in[frame]);
            CHECK(verdict == POLICY_EVICT || main_blocks);
            is_in[frame] = false;
            in--;
        } else if (is_in[frame] && next_random() % 8 == 0) {
            ops->remove(p, frame);
            is_in[frame] = false;
            in--;
        } else if (is_in[frame]) {
            ops->hit(p, frame);
        } else if (ops->insert(p, frame, next_random() % 200) == POLICY_KEEP) {
            is_in[frame] = true;
            in++;
        }
    }
    while (in) {
        enum policy_verdict verdict;
        uint32_t frame = ops->victim(p, &verdict);

        CHECK(frame < 64 && is_in[frame]);
        is_in[frame] = false;
        in--;
    }
    CHECK_EQ(ops->victim(p, &(enum policy_verdict){0}), NO_FRAME);
    ops->destroy(p);
}

static void test_policies_lose_no_frame(void)
{
    static const char *const names[] = {"s3-fifo", "lru", "arc"};

    for (unsigned i = 0; i < 3; i++) {
        const struct policy_ops *ops = policy_find(names[i]);

        CHECK(ops != NULL);
        drive_policy(ops, 0);
        drive_policy(ops, 1000);
    }
    CHECK(policy_find("random") == NULL);
}

static void test_s3fifo_keeps_what_is_used_from_a_scan(void)
{
    struct policy_size size = {.frames = 100};
    struct policy *p = policy_s3fifo.create(&size);
    bool was_evicted[100] = {false};

    for (uint32_t f = 0; f < 100; f++)
        policy_s3fifo.insert(p, f, f);
    for (uint32_t f = 0; f < 50; f++)
        for (unsigned i = 0; i < 3; i++)
            policy_s3fifo.hit(p, f);
    for (unsigned i = 0; i < 40; i++) {
        enum policy_verdict verdict;
        uint32_t f = policy_s3fifo.victim(p, &verdict);

        was_evicted[f] = true;
        policy_s3fifo.insert(p, f, 1000 + i); /* the scan */
    }
    for (uint32_t f = 0; f < 50; f++)
        CHECK(!was_evicted[f]);
    policy_s3fifo.destroy(p);
}

/* --- format
 * --------------------------------------------------------------------------------------- */

static void test_crc_is_the_one_of_iscsi(void)
{
    uint8_t zeros[32] = {0}, ones[32];

    memset(ones, 0xff, sizeof ones);
    CHECK_EQ(crc_add(0, zeros, 32), 0x8a9136aau); /* RFC 3720 B.4 */
    CHECK_EQ(crc_add(0, ones, 32), 0x62a8ab43u);
    CHECK_EQ(crc_add(crc_add(0, ones, 13), ones + 13, 19), 0x62a8ab43u);
}

static void fill_chunk(struct chunk_header *h)
{
    *h = (struct chunk_header){.nonce = 1,
                               .incarnation = UINT64_MAX,
                               .segment = 3,
                               .sequence = 4,
                               .durable = 5,
                               .tail = 6,
                               .clean = 7,
                               .count = CHUNK_ENTRIES_MAX,
                               .data_blocks = 2};
    for (uint32_t i = 0; i < h->count; i++)
        h->entry[i] = (struct chunk_entry){(UINT64_C(1) << 48) - 1 - i, CHUNK_DROP, i};
    h->entry[0].kind = CHUNK_DIRTY;
    h->entry[9].kind = CHUNK_CLEAN;
}

static bool is_same_order(const struct log_order *a, const struct log_order *b)
{
    return a->destaged.segment == b->destaged.segment && a->destaged.block == b->destaged.block &&
           a->destaged.sequence == b->destaged.sequence && a->from == b->from;
}

static void test_chunks_come_back_or_are_refused(void)
{
    static struct chunk_header in, out;
    static uint8_t block[BLOCK_BYTES];

    fill_chunk(&in);
    in.order = (struct log_order){{1, 2, 3}, UINT64_MAX};
    in.is_joined = true;
    format_put_chunk(&in, block);
    CHECK(format_get_chunk(block, &out));
    CHECK(is_same_order(&in.order, &out.order));
    CHECK(out.is_joined);
    CHECK_EQ(memcmp(&in.entry[247].block, &out.entry[247].block, 8), 0);
    CHECK(out.incarnation == UINT64_MAX && out.clean == 7 && out.entry[9].kind == CHUNK_CLEAN);
    for (uint32_t bit = 0; bit < BLOCK_BYTES * 8; bit += 37) { /* no flipped bit goes unseen */
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(!format_get_chunk(block, &out));
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (uint32_t sector = 0; sector < 8; sector++) { /* nor a torn sector */
        uint8_t torn[BLOCK_BYTES];

        memcpy(torn, block, sizeof torn);
        memset(torn + sector * 512, 0, 512);
        CHECK(!format_get_chunk(torn, &out) || memcmp(torn, block, sizeof torn) == 0);
    }
    in.data_blocks = 3; /* does not add up */
    format_put_chunk(&in, block);
    CHECK(!format_get_chunk(block, &out));
}

static void test_superblocks_and_checkpoint_entries_come_back(void)
{
    struct superblock in = {.generation = 1,
                            .nonce = 2,
                            .incarnation = 3,
                            .disk_bytes = 4,
                            .segment_blocks = 5,
                            .segment_count = 6,
                            .checkpoint_blocks = 7,
                            .first_block = 8,
                            .is_released = true,
                            .start = {9, 10, 11},
                            .end_sequence = 12,
                            .tail = 13,
                            .clean = 14,
                            .entries = 15,
                            .entries_crc = 16,
                            .order = {{17, 18, 19}, 20}},
                      out = {.generation = 0};
    struct checkpoint_entry e = {(UINT64_C(1) << 48) - 1, UINT32_MAX, 5, true, false, 3}, f;
    uint8_t block[BLOCK_BYTES], bytes[CHECKPOINT_ENTRY_BYTES];

    format_put_superblock(&in, block);
    CHECK(format_get_superblock(block, &out));
    CHECK(out.is_released && out.start.segment == 9 && out.start.sequence == 10);
    CHECK(out.start.block == 11 && out.end_sequence == 12 && out.entries_crc == 16);
    CHECK(is_same_order(&in.order, &out.order));
    block[8]++;
    CHECK(!format_get_superblock(block, &out) && format_is_foreign_version(block));
    format_put_checkpoint_entry(&e, bytes);
    format_get_checkpoint_entry(bytes, &f);
    CHECK(f.block == e.block && f.slot == e.slot && f.crc == 5 && f.is_dirty && !f.is_bad &&
          f.frequency == 3);
    e = (struct checkpoint_entry){.block = 1, .is_bad = true};
    format_put_checkpoint_entry(&e, bytes);
    format_get_checkpoint_entry(bytes, &f);
    CHECK(f.block == 1 && f.is_bad && !f.is_dirty && f.frequency == 0);
}

static void test_the_furthest_position_counts_and_the_last_from(void)
{
    struct log_order known = {{5, 70, 3}, 60};

    format_add_order(&known, &(struct log_order){{5, 65, 2}, 61});
    CHECK(known.destaged.sequence == 70 && known.from == 61);
    format_add_order(&known, &(struct log_order){{6, 80, 0}, 0});
    CHECK(known.destaged.segment == 6 && known.destaged.block == 0 && known.from == 0);
    format_add_order(&known, &(struct log_order){.from = 7});
    CHECK(known.destaged.segment == 6 && known.destaged.sequence == 80 && known.from == 7);
    CHECK(format_is_before(5, 900, &known.destaged) && !format_is_before(6, 0, &known.destaged));
    known.destaged.block = 4;
    CHECK(format_is_before(6, 3, &known.destaged) && !format_is_before(6, 4, &known.destaged));
}

static void test_streams_are_known_by_what_they_come_by(void)
{
    struct streams s = {.clock = 0};
    uint64_t length = 0;

    for (uint64_t i = 0; i < 1000; i++) {
        for (uint64_t stream = 0; stream < 8; stream++) /* with others, and one late in each pair */
            length = streams_note(&s, (stream << 32) + (i ^ 1) * 16, 16);
        CHECK_EQ(length, (i | 1) * 16);
        for (uint64_t other = 0; other < 5; other++)
            CHECK_EQ(streams_note(&s, (1000 + i * 5 + other) << 32, 16), 16);
    }
}

static void test_a_small_area_is_no_stream(void)
{
    struct streams s = {.clock = 0};
    uint64_t random = 1;

    for (unsigned i = 0; i < 100000; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        CHECK(streams_note(&s, random >> 53, 1) <= 64); /* of 2048 blocks */
    }
    for (unsigned i = 0; i < 1000; i++)
        CHECK_EQ(streams_note(&s, UINT64_C(1) << 40, 8), 8); /* the same again */
}

static void test_layouts_fit_and_have_segments_enough(void)
{
    struct superblock s;

    CHECK(!format_layout(TIER_BYTES_MIN - 1, &s));
    for (uint64_t bytes = TIER_BYTES_MIN; bytes < UINT64_C(1) << 44; bytes = bytes * 5 / 3) {
        CHECK(format_layout(bytes, &s));
        CHECK(s.segment_count >= 8 && s.segment_blocks >= 16);
        CHECK(s.first_block >= 2 + 2 * s.checkpoint_blocks);
        CHECK((s.first_block + (uint64_t)s.segment_blocks * s.segment_count) * BLOCK_BYTES <=
              bytes);
        CHECK((uint64_t)s.checkpoint_blocks * BLOCK_BYTES / CHECKPOINT_ENTRY_BYTES >=
              (uint64_t)s.segment_blocks * s.segment_count);
    }
}

/* --- versions
 * ------------------------------------------------------------------------------------- */

static void test_a_change_makes_tokens_stale(void)
{
    static struct versions v;
    uint32_t before = versions_token(&v, 100), other = versions_token(&v, 900);

    CHECK(versions_is_current(&v, 100, before));
    versions_begin(&v, 90, 20);
    CHECK(!versions_is_current(&v, 100, before));
    CHECK_EQ(versions_token(&v, 100), TOKEN_NONE);
    CHECK(!versions_is_current(&v, 100, TOKEN_NONE));
    versions_end(&v, 90, 20);
    CHECK(!versions_is_current(&v, 100, before));
    CHECK(versions_is_current(&v, 900, other));
    versions_begin(&v, 0, UINT64_C(1) << 30); /* larger than all buckets: each once */
    CHECK_EQ(versions_token(&v, 900), TOKEN_NONE);
    versions_end(&v, 0, UINT64_C(1) << 30);
    CHECK(versions_token(&v, 900) != TOKEN_NONE);
}

int main(void)
{
    RUN(test_index_agrees_with_a_plain_array);
    RUN(test_index_takes_16_bytes_a_block_at_most);
    RUN(test_index_knows_large_block_numbers);
    RUN(test_ghosts_are_a_queue_of_their_length);
    RUN(test_policies_lose_no_frame);
    RUN(test_s3fifo_keeps_what_is_used_from_a_scan);
    RUN(test_crc_is_the_one_of_iscsi);
    RUN(test_chunks_come_back_or_are_refused);
    RUN(test_superblocks_and_checkpoint_entries_come_back);
    RUN(test_the_furthest_position_counts_and_the_last_from);
    RUN(test_streams_are_known_by_what_they_come_by);
    RUN(test_a_small_area_is_no_stream);
    RUN(test_layouts_fit_and_have_segments_enough);
    RUN(test_a_change_makes_tokens_stale);
    return unit_result();
}
