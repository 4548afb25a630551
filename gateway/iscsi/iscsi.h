/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iscsi: the iSCSI target (RFC 7143): portals, sessions, and the map from target names and LUNs to
 * disks.  What commands mean is the scsi room's.
 *
 * One thread around a loop per core; a session, which has one connection, belongs to one of them
 * for its life.  ErrorRecoveryLevel is 0: what is wrong with a connection ends its session, and the
 * initiator logs in again.  A new session of the same initiator port begins only when nothing the
 * old one wrote can reach the disk any more.
 */
#ifndef SLUICE_ISCSI_H
#define SLUICE_ISCSI_H

#include "config/config.h"
#include "scsi/scsi.h"

struct iscsi;

struct iscsi_settings {
    uint16_t portal_group;
    unsigned loops;                                     /* 0: one per core */
    const char *discovery_chap, *discovery_chap_mutual; /* secret files or NULL */
    /* For log and events: what is "login", "logout" or "refused"; text "key:value ..." in one line.
     * Any thread. */
    void (*notify)(void *context, const char *what, const char *target, const char *text);
    void *context;
};

/* Starts the loops; after the fork.  Strings are copied.  It lives as long as the process. */
int iscsi_create(const struct iscsi_settings *settings, struct iscsi **out,
                 struct err *e) MUST_CHECK;
/* Opens a portal.  Before this nobody can log in. */
int iscsi_listen(struct iscsi *iscsi, const struct config_address *address,
                 struct err *e) MUST_CHECK;
/* Closes the portals; sessions stay. */
void iscsi_stop_listening(struct iscsi *iscsi);
/* Asks all initiators to log out, and waits until they have, limit_s seconds at most. Once, before
 * the process ends.  Blocks. */
void iscsi_ask_logouts(struct iscsi *iscsi, unsigned limit_s);
/* While true, an unknown target is answered "service unavailable" (03/01), which initiators try
 * again, not "not found": a disk may yet come. */
void iscsi_set_starting(struct iscsi *iscsi, bool is_starting);

/* --- disks ---------------------------------------------------------------------------------------
 */

/* Strings and lists are copied. */
struct iscsi_lun_settings {
    const char *target; /* the whole iSCSI name, lower case */
    uint16_t lun;
    const char *chap, *chap_mutual;   /* secret files or NULL */
    struct config_strings initiators; /* empty: any */
    struct config_networks networks;  /* empty: anywhere */
    const struct peer_config *peer;   /* whose portals lead to the same disk; NULL: nobody's */
    struct scsi_lu_settings scsi;
};

/* Makes an open disk a LUN, or gives it new settings: sessions that may no longer use it are ended.
 * The disk outlives it.  Blocks. */
int iscsi_lun_set(struct iscsi *iscsi, struct disk *disk, const struct iscsi_lun_settings *settings,
                  struct err *e) MUST_CHECK;
/* Access by target port group (ALUA), as it is told and kept from here on. Nothing when the disk is
 * no LUN. Blocks. */
void iscsi_lun_set_access(struct iscsi *iscsi, struct disk *disk,
                          const struct scsi_port_group *groups, unsigned count);
/* See scsi_lu_set_space(). Nothing when the disk is no LUN. Blocks. */
void iscsi_lun_set_space(struct iscsi *iscsi, struct disk *disk, const struct scsi_space *space);
/* When it returns nothing of any session is in flight at the disk. -ENOENT: it is none. Blocks. */
int iscsi_lun_remove(struct iscsi *iscsi, struct disk *disk, struct err *e) MUST_CHECK;

/* --- looking
 * --------------------------------------------------------------------------------------- */

struct iscsi_session_view {
    const char *initiator, *target, *address, *portal; /* target "": discovery */
    uint8_t isid[6];
    uint16_t tsih, portal_group;
    bool header_digest, data_digest, is_authenticated;
    uint32_t max_send_bytes, max_burst_bytes, first_burst_bytes;
    bool immediate_data, initial_r2t;
    uint64_t age_ns, commands, bytes_in, bytes_out; /* in: written by the initiator */
    unsigned tasks, loop;
};
/* Strings live until fn returns, which must not block. */
void iscsi_for_each_session(struct iscsi *iscsi,
                            void (*fn)(const struct iscsi_session_view *view, void *arg),
                            void *arg);

#endif
