/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reserve-store.c: reservations as text (JSON), and those that outlive a restart (APTPL) in the
 * disk's state folder as `reservations.json`, replaced whole.  The status of PERSISTENT RESERVE OUT
 * is sent when the file is stable.  A damaged file refuses the disk: who held it cannot be guessed.
 *
 * What came from a peer is in the file whether it outlives a restart or not: the logical unit lives
 * on at the primary while this side is started again.  Where this side was the primary it is not.
 */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define FILE_NAME "reservations.json"
#define TEXT_VERSION 2 /* 1 has neither `kept`, which is true then, nor `from_peer` */

/* --- store -------------------------------------------------------------------------------- */

static json_t *to_json(const struct registration *r)
{
    char key[20], isid[16];

    snprintf(key, sizeof key, "%016llx", (unsigned long long)r->key);
    snprintf(isid, sizeof isid, "%02x%02x%02x%02x%02x%02x", r->port.isid[0], r->port.isid[1],
             r->port.isid[2], r->port.isid[3], r->port.isid[4], r->port.isid[5]);
    return json_pack("{s:s, s:s, s:s, s:b, s:i, s:b, s:b, s:b}", "key", key, "initiator",
                     r->port.name, "isid", isid, "any_isid", r->port.is_any_isid, "port",
                     r->target_port, "all_ports", r->is_all_target_ports, "from_peer",
                     r->is_from_peer, "holder", r->is_holder);
}

char *reservations_to_text(const struct reservations *x)
{
    json_t *j, *list = json_array();
    char *text = NULL;

    for (unsigned i = 0; i < x->count && list; i++)
        json_array_append_new(list, to_json(&x->registration[i]));
    j = json_pack("{s:i, s:b, s:I, s:i, s:o}", "version", TEXT_VERSION, "kept", x->is_kept,
                  "generation", (json_int_t)x->generation, "type", x->type, "registrations", list);
    if (j && json_array_size(list) == x->count)
        text = json_dumps(j, JSON_INDENT(1));
    json_decref(j);
    return text;
}

int reservations_write(const struct disk *disk, const char *text)
{
    const char *folder = disk_state_folder(disk);
    int r;

    if (!folder)
        return 0;
    r = text ? disk_state_write(folder, FILE_NAME, text, strlen(text))
             : disk_state_remove(folder, FILE_NAME);
    if (r < 0)
        log_line(LOG_LEVEL_ERROR, "cannot write %s/%s: %s disk=%s", folder, FILE_NAME, strerror(-r),
                 disk_name(disk));
    return r;
}

int reservations_store(struct scsi_lu *lu)
{
    CLEANUP_FREE char *text = NULL;
    struct err e = {0};
    bool is_kept;
    int r;
    SCOPED_LOCK(&lu->store_mutex);

    pthread_mutex_lock(&lu->mutex);
    text = reservations_to_text(&lu->reservations);
    is_kept = lu->reservations.is_kept;
    pthread_mutex_unlock(&lu->mutex);
    if (!text)
        return ENOMEM;
    r = reservations_write(lu->disk, is_kept ? text : NULL);
    if (r == 0) {
        r = reservations_tell(lu, text, &e);
        if (r < 0)
            log_line(LOG_LEVEL_ERROR, "reservations: %s disk=%s", e.text, disk_name(lu->disk));
    }
    return -r;
}

/* --- load --------------------------------------------------------------------------------- */

static bool from_hex(const char *text, unsigned digits, uint64_t *out)
{
    char *end;

    if (strlen(text) != digits || strspn(text, "0123456789abcdef") != digits)
        return false;
    *out = strtoull(text, &end, 16);
    return true;
}

static bool is_initiator(const char *name)
{
    const char *end = name;

    while (isgraph((unsigned char)*end))
        end++;
    return !*end && end > name && end - name < SCSI_NAME_BYTES;
}

static bool parse_registration(json_t *j, struct registration *r)
{
    const char *key, *name, *isid;
    int any_isid, port, all_ports, holder, from_peer = 0;
    uint64_t number;

    memset(r, 0, sizeof *r);
    if (json_unpack(j, "{s:s, s:s, s:s, s:b, s:i, s:b, s:b, s?b}", "key", &key, "initiator", &name,
                    "isid", &isid, "any_isid", &any_isid, "port", &port, "all_ports", &all_ports,
                    "holder", &holder, "from_peer", &from_peer) < 0)
        return false;
    if (!is_initiator(name) || !from_hex(key, 16, &r->key) || r->key == 0 ||
        !from_hex(isid, 12, &number) || port < 0 || port > UINT16_MAX)
        return false;
    snprintf(r->port.name, sizeof r->port.name, "%s", name);
    for (unsigned i = 0; i < 6; i++)
        r->port.isid[i] = (uint8_t)(number >> 8 * (5 - i));
    r->port.is_any_isid = any_isid;
    r->target_port = (uint16_t)port;
    r->is_all_target_ports = all_ports;
    r->is_from_peer = from_peer;
    r->is_holder = holder;
    return true;
}

static bool is_type(int type)
{
    return type == 0 || type == WRITE_EXCLUSIVE || type == EXCLUSIVE_ACCESS ||
           (type > 0 && type < 256 && is_for_registrants((uint8_t)type));
}

/* As many holders as the type has. */
static bool has_right_holder(const struct reservations *x)
{
    unsigned holders = 0;

    for (unsigned i = 0; i < x->count; i++)
        holders += x->registration[i].is_holder;
    return holders == (x->type != 0 && !is_for_all(x->type));
}

static bool parse(struct reservations *x, json_t *j)
{
    json_int_t generation;
    json_t *list;
    int type, version, kept = 1;

    if (json_unpack(j, "{s:i, s?b, s:I, s:i, s:o}", "version", &version, "kept", &kept,
                    "generation", &generation, "type", &type, "registrations", &list) < 0 ||
        version < 1 || version > TEXT_VERSION || generation < 0 || generation > UINT32_MAX ||
        !is_type(type) || !json_is_array(list) || json_array_size(list) > REGISTRATIONS_MAX)
        return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!parse_registration(json_array_get(list, i), &x->registration[x->count++]))
            return false;
    x->generation = (uint32_t)generation;
    x->type = (uint8_t)type;
    x->is_kept = kept;
    return has_right_holder(x);
}

bool reservations_from_text(struct reservations *out, const char *text, size_t length)
{
    json_t *j = json_loadb(text, length, 0, NULL);
    bool is_good;

    memset(out, 0, sizeof *out);
    is_good = j && parse(out, j);
    json_decref(j);
    return is_good;
}

/* A restart of the primary ends what was not to outlive it. */
static void drop_unkept(struct scsi_lu *lu)
{
    if (!lu->reservations.is_kept && disk_role(lu->disk, NULL) == SLUICE_ROLE_PRIMARY)
        memset(&lu->reservations, 0, sizeof lu->reservations);
}

int reservations_load(struct scsi_lu *lu, struct err *e)
{
    const char *folder = disk_state_folder(lu->disk);
    CLEANUP_FREE char *text = folder ? malloc(RESERVATIONS_BYTES_MAX) : NULL;
    size_t length;
    int r;

    if (!folder)
        return 0;
    if (!text)
        return err_set(e, ENOMEM, "%s: out of memory", disk_name(lu->disk));
    r = disk_state_read(folder, FILE_NAME, text, RESERVATIONS_BYTES_MAX, &length);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return err_set(e, -r, "cannot read %s/%s: %s", folder, FILE_NAME, strerror(-r));
    if (!reservations_from_text(&lu->reservations, text, length))
        return err_set(e, EBADMSG,
                       "%s/%s is damaged: restore it, or remove it, after which no initiator "
                       "holds the disk %s",
                       folder, FILE_NAME, disk_name(lu->disk));
    drop_unkept(lu);
    return 0;
}
