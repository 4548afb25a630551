/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reserve-store.c: reservations that outlive a restart (APTPL), in the disk's state folder as
 * `reservations.json`, replaced whole.  The status of PERSISTENT RESERVE OUT is sent when the file
 * is stable.  A damaged file refuses the disk: who held it cannot be guessed.
 */
#include "internal.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define FILE_NAME "reservations.json"
#define FILE_BYTES_MAX (512u << 10)

/* --- store -------------------------------------------------------------------------------- */

static json_t *to_json(const struct registration *r)
{
    char key[20], isid[16];

    snprintf(key, sizeof key, "%016llx", (unsigned long long)r->key);
    snprintf(isid, sizeof isid, "%02x%02x%02x%02x%02x%02x", r->port.isid[0], r->port.isid[1],
             r->port.isid[2], r->port.isid[3], r->port.isid[4], r->port.isid[5]);
    return json_pack("{s:s, s:s, s:s, s:b, s:i, s:b, s:b}", "key", key, "initiator", r->port.name,
                     "isid", isid, "any_isid", r->port.is_any_isid, "port", r->target_port,
                     "all_ports", r->is_all_target_ports, "holder", r->is_holder);
}

/* NULL: nothing is kept, or out of memory (*error). */
static char *snapshot(struct scsi_lu *lu, int *error)
{
    const struct reservations *x = &lu->reservations;
    json_t *j, *list;
    char *text = NULL;
    SCOPED_LOCK(&lu->mutex);

    *error = 0;
    if (!x->is_kept)
        return NULL;
    list = json_array();
    for (unsigned i = 0; i < x->count && list; i++)
        json_array_append_new(list, to_json(&x->registration[i]));
    j = json_pack("{s:i, s:I, s:i, s:o}", "version", 1, "generation", (json_int_t)x->generation,
                  "type", x->type, "registrations", list);
    if (j && json_array_size(list) == x->count)
        text = json_dumps(j, JSON_INDENT(1));
    json_decref(j);
    if (!text)
        *error = ENOMEM;
    return text;
}

int reservations_store(struct scsi_lu *lu)
{
    const char *folder = disk_state_folder(lu->disk);
    char *text;
    int error, r;
    SCOPED_LOCK(&lu->store_mutex);

    if (!folder)
        return 0;
    text = snapshot(lu, &error);
    if (error)
        return error;
    r = text ? disk_state_write(folder, FILE_NAME, text, strlen(text))
             : disk_state_remove(folder, FILE_NAME);
    free(text);
    if (r < 0)
        log_line(LOG_LEVEL_ERROR, "cannot write %s/%s: %s disk=%s", folder, FILE_NAME, strerror(-r),
                 disk_name(lu->disk));
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

static bool parse_registration(json_t *j, struct registration *r)
{
    const char *key, *name, *isid;
    int any_isid, port, all_ports, holder;
    uint64_t number;

    memset(r, 0, sizeof *r);
    if (json_unpack(j, "{s:s, s:s, s:s, s:b, s:i, s:b, s:b}", "key", &key, "initiator", &name,
                    "isid", &isid, "any_isid", &any_isid, "port", &port, "all_ports", &all_ports,
                    "holder", &holder) < 0)
        return false;
    if (strlen(name) >= sizeof r->port.name || !from_hex(key, 16, &r->key) || r->key == 0 ||
        !from_hex(isid, 12, &number) || port < 0 || port > UINT16_MAX)
        return false;
    snprintf(r->port.name, sizeof r->port.name, "%s", name);
    for (unsigned i = 0; i < 6; i++)
        r->port.isid[i] = (uint8_t)(number >> 8 * (5 - i));
    r->port.is_any_isid = any_isid;
    r->target_port = (uint16_t)port;
    r->is_all_target_ports = all_ports;
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
    int type;

    if (json_unpack(j, "{s:I, s:i, s:o}", "generation", &generation, "type", &type, "registrations",
                    &list) < 0 ||
        !is_type(type) || json_array_size(list) > REGISTRATIONS_MAX)
        return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!parse_registration(json_array_get(list, i), &x->registration[x->count++]))
            return false;
    x->generation = (uint32_t)generation;
    x->type = (uint8_t)type;
    x->is_kept = true;
    return has_right_holder(x);
}

int reservations_load(struct scsi_lu *lu, struct err *e)
{
    const char *folder = disk_state_folder(lu->disk);
    CLEANUP_FREE char *text = folder ? malloc(FILE_BYTES_MAX) : NULL;
    size_t length;
    bool is_good;
    json_t *j;
    int r;

    if (!folder)
        return 0;
    if (!text)
        return err_set(e, ENOMEM, "%s: out of memory", disk_name(lu->disk));
    r = disk_state_read(folder, FILE_NAME, text, FILE_BYTES_MAX, &length);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return err_set(e, -r, "cannot read %s/%s: %s", folder, FILE_NAME, strerror(-r));
    j = json_loadb(text, length, 0, NULL);
    is_good = j && parse(&lu->reservations, j);
    json_decref(j);
    return is_good ? 0
                   : err_set(e, EBADMSG,
                             "%s/%s is damaged: restore it, or remove it, after which no initiator "
                             "holds the disk %s",
                             folder, FILE_NAME, disk_name(lu->disk));
}
