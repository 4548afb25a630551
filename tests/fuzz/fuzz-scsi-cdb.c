/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz-scsi-cdb: commands as a transport gives them to a disk of 8 MiB in RAM.  The input is a row
 * of them: a byte of flags (which session; how much of the data is there; cancelled before its
 * start; a task management function instead), a LUN, 16 bytes of CDB, two bytes of data length, the
 * data.  The disk is made anew after some inputs, so that nothing of one is in the way of all later
 * ones.
 *
 * True of every answer: a status that there is, sense exactly with CHECK CONDITION, no more data
 * than there is room, and the other session still answers INQUIRY.
 */
#include "../unit/scsi-fixture.h"

#include <assert.h>

#define INPUTS_A_DISK 200u
#define COMMAND_BYTES 20u
#define COMMANDS_MAX 32u

enum { SECOND = 0x01, HALF = 0x02, CANCEL = 0x04, MANAGE = 0x08, OTHER_LUN = 0x10 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make_disk(void)
{
    struct scsi_lu_settings settings = {.may_erase = true};

    fixture_start(&settings);
    clear_attentions(fx.first);
}

static bool is_status(uint8_t status)
{
    static const uint8_t known[] = {SCSI_GOOD,        SCSI_CHECK_CONDITION,      SCSI_CONDITION_MET,
                                    SCSI_BUSY,        SCSI_RESERVATION_CONFLICT, SCSI_TASK_SET_FULL,
                                    SCSI_TASK_ABORTED};

    return memchr(known, status, sizeof known) != NULL;
}

static void check_end(void)
{
    if (last.is_aborted)
        return;
    assert(is_status(last.status));
    assert((last.status == SCSI_CHECK_CONDITION) == (last.sense_bytes >= 8));
    assert(last.sense_bytes <= SCSI_SENSE_BYTES);
    assert(last.data_in_bytes <= last.data_bytes);
}

static void on_managed(struct scsi_management *m)
{
    *(bool *)(void *)(m + 1) = true;
}

static void manage(struct scsi_nexus *nexus, uint8_t function, uint64_t lun)
{
    struct {
        struct scsi_management m;
        bool is_done;
    } both = {.m = {.nexus = nexus, .function = function, .lun = lun, .done = on_managed}};

    scsi_manage(&both.m);
    home_wait(home_current(), &both.is_done);
}

/* Sanitizers see what is read beyond the data. */
static void run_command(struct scsi_nexus *nexus, uint8_t flags, const uint8_t *head,
                        const uint8_t *data, uint32_t bytes)
{
    memset(&last, 0xa5, sizeof last);
    memcpy(last.cdb, head, SCSI_CDB_BYTES);
    last.cdb_bytes = SCSI_CDB_BYTES;
    last.nexus = nexus;
    last.lun = flags & OTHER_LUN ? UINT64_C(1) << 48 : 0;
    last.attribute = SCSI_SIMPLE;
    last.done = fixture_on_done;
    scsi_command_decode(&last);
    assert(last.transfer_bytes <= SCSI_TRANSFER_MAX);
    if (flags & CANCEL) {
        assert(scsi_command_cancel(&last));
        return;
    }
    last.expected_bytes = flags & HALF ? last.transfer_bytes / 2 : last.transfer_bytes;
    last.data_bytes = MIN(last.expected_bytes, FIXTURE_DATA);
    last.data = aligned_alloc(4096, (last.data_bytes + 4096u) / 4096 * 4096);
    memset(last.data, 0, (last.data_bytes + 4096u) / 4096 * 4096);
    memcpy(last.data, data, MIN(bytes, last.data_bytes));
    finish_cdb();
    check_end();
    free(last.data);
}

static size_t step(const uint8_t *at, size_t left)
{
    uint32_t bytes = MIN(get16(at + 18), (uint32_t)(left - COMMAND_BYTES));
    struct scsi_nexus *nexus = at[0] & SECOND ? fx.second : fx.first;

    if (at[0] & MANAGE)
        manage(nexus, at[2] & 0x0f, at[0] & OTHER_LUN ? UINT64_C(1) << 48 : 0);
    else
        run_command(nexus, at[0], at + 2, at + COMMAND_BYTES, bytes);
    return COMMAND_BYTES + bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned inputs;
    size_t at = 0;

    if (inputs++ % INPUTS_A_DISK == 0) {
        if (inputs > 1)
            fixture_end();
        make_disk();
    }
    for (unsigned i = 0; i < COMMANDS_MAX && size - at >= COMMAND_BYTES; i++)
        at += step(data + at, size - at);
    assert(RUN_CDB(fx.second, 0x12, 0, 0, 0, 96, 0) == SCSI_GOOD);
    return 0;
}
