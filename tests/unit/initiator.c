/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * initiator.c: sessions by libiscsi, each in the hands of one thread.  What a command returns is
 * whether it was good; the library's own objects are freed here in every case.
 */
#include "initiator.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* libiscsi 1.19 forgets the task of a command that a broken session ends.  Asked by the leak
 * sanitizer where there is one. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libiscsi";
}

struct initiator {
    struct iscsi_context *iscsi;
    int lun;
};

struct initiator *initiator_login(const char *name, uint16_t port, const char *target,
                                  const char *portal, unsigned lun, bool has_digest)
{
    struct initiator *i = calloc(1, sizeof *i);
    struct iscsi_context *c = iscsi_create_context(name);

    if (!i || !c)
        abort();
    i->iscsi = c;
    i->lun = (int)lun;
    iscsi_set_isid_en(c, 7, port);
    iscsi_set_targetname(c, target);
    iscsi_set_session_type(c, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(c, has_digest ? ISCSI_HEADER_DIGEST_CRC32C : ISCSI_HEADER_DIGEST_NONE);
    iscsi_set_noautoreconnect(c, 1);
    iscsi_set_timeout(c, 30);
    if (iscsi_full_connect_sync(c, portal, i->lun) == 0)
        return i;
    initiator_drop(i);
    return NULL;
}

void initiator_drop(struct initiator *i)
{
    iscsi_destroy_context(i->iscsi);
    free(i);
}

void initiator_logout(struct initiator *i)
{
    iscsi_logout_sync(i->iscsi);
    initiator_drop(i);
}

/* What it read, if all of it is there. */
static bool finish(struct scsi_task *task, uint8_t *data, size_t bytes)
{
    bool is_good = task && task->status == SCSI_STATUS_GOOD;

    if (is_good && data && task->datain.size >= (int)bytes)
        memcpy(data, task->datain.data, bytes);
    else if (data)
        is_good = false;
    if (task)
        scsi_free_scsi_task(task);
    return is_good;
}

bool initiator_write(struct initiator *i, uint64_t lba, uint8_t *data, uint32_t bytes)
{
    return finish(iscsi_write16_sync(i->iscsi, i->lun, lba, data, bytes, 512, 0, 0, 0, 0, 0), NULL,
                  0);
}

bool initiator_read(struct initiator *i, uint64_t lba, uint8_t *data, uint32_t bytes)
{
    return finish(iscsi_read16_sync(i->iscsi, i->lun, lba, bytes, 512, 0, 0, 0, 0, 0), data, bytes);
}

bool initiator_inquire(struct initiator *i, uint8_t page, uint8_t *data, uint8_t bytes)
{
    return finish(iscsi_inquiry_sync(i->iscsi, i->lun, 1, page, 255), data, bytes);
}

bool initiator_copy(struct initiator *i, uint8_t *list, size_t bytes)
{
    struct iscsi_data data = {.size = bytes, .data = list};

    return finish(iscsi_extended_copy_sync(i->iscsi, i->lun, &data), NULL, 0);
}

void initiator_reset(struct initiator *i)
{
    iscsi_task_mgmt_lun_reset_sync(i->iscsi, (uint32_t)i->lun);
}

static void forget(struct iscsi_context *c, int status, void *data, void *arg)
{
    (void)c;
    (void)status;
    (void)arg;
    if (data)
        scsi_free_scsi_task(data);
}

void initiator_break_off(struct initiator *i, uint64_t lba, uint8_t *data, uint32_t bytes,
                         unsigned writes)
{
    struct pollfd pfd = {.fd = iscsi_get_fd(i->iscsi), .events = POLLIN | POLLOUT};

    for (unsigned n = 0; n < writes; n++)
        if (!iscsi_write16_task(i->iscsi, i->lun, lba + (uint64_t)n * (bytes / 512), data, bytes,
                                512, 0, 0, 0, 0, 0, forget, NULL))
            break;
    for (unsigned n = 0; n < writes && poll(&pfd, 1, 0) > 0; n++)
        if (iscsi_service(i->iscsi, pfd.revents) < 0)
            break;
    shutdown(pfd.fd, SHUT_RDWR);
    initiator_drop(i);
}
