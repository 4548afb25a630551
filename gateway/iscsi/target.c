/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * target.c: names and LUNs, and who may have them.
 *
 * An initiator may use a target if it may use one of its LUNs; the secrets are those of the first
 * such LUN (the configuration sees to it that all of one target name the same).  What it may not
 * use is neither listed nor shown.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>

/* --- LUNs ----------------------------------------------------------------------------------------
 */

static void lun_free(struct lun *lun)
{
    if (!lun)
        return;
    for (unsigned i = 0; i < lun->initiator_count; i++)
        free(lun->initiators[i]);
    free(lun->initiators);
    for (unsigned i = 0; i < lun->peer_portal_count; i++)
        free(lun->peer_portals[i]);
    free(lun->peer_portals);
    free(lun->networks);
    free(lun->chap);
    free(lun->chap_mutual);
    free(lun);
}

static bool copy_text(char **out, const char *text)
{
    *out = text ? strdup(text) : NULL;
    return !text || *out;
}

static bool copy_initiators(struct lun *lun, const struct config_strings *from)
{
    lun->initiators = calloc(from->count + 1, sizeof *lun->initiators);
    for (unsigned i = 0; lun->initiators && i < from->count; i++, lun->initiator_count++) {
        char name[ISCSI_NAME_BYTES];

        if (!value_name(slice_of(from->item[i]), name) || !copy_text(&lun->initiators[i], name))
            return false;
    }
    return lun->initiators != NULL;
}

static bool copy_networks(struct lun *lun, const struct config_networks *from)
{
    lun->networks = calloc(from->count + 1, sizeof *lun->networks);
    if (!lun->networks)
        return false;
    lun->network_count = from->count;
    for (unsigned i = 0; i < from->count; i++) {
        lun->networks[i] = from->item[i];
        lun->networks[i].text = "";
    }
    return true;
}

static bool copy_peer_portals(struct lun *lun, const struct peer_config *peer)
{
    unsigned count = peer ? peer->iscsi.count : 0;

    lun->peer_portals = calloc(count + 1, sizeof *lun->peer_portals);
    for (unsigned i = 0; lun->peer_portals && i < count; i++, lun->peer_portal_count++)
        if (asprintf(&lun->peer_portals[i], "%s,%u", peer->iscsi.item[i].text, peer->portal_group) <
            0)
            return false;
    return lun->peer_portals != NULL;
}

static struct lun *lun_make(struct disk *disk, const struct iscsi_lun_settings *s)
{
    struct lun *lun = calloc(1, sizeof *lun);

    if (!lun)
        return NULL;
    list_init(&lun->link);
    lun->disk = disk;
    lun->number = s->lun;
    if (copy_text(&lun->chap, s->chap) && copy_text(&lun->chap_mutual, s->chap_mutual) &&
        copy_initiators(lun, &s->initiators) && copy_networks(lun, &s->networks) &&
        copy_peer_portals(lun, s->peer))
        return lun;
    lun_free(lun);
    return NULL;
}

static bool may_use(const struct lun *lun, const char *initiator, const struct sockaddr *peer)
{
    bool is_named = lun->initiator_count == 0, is_near = lun->network_count == 0;

    for (unsigned i = 0; i < lun->initiator_count; i++)
        is_named |= strcmp(lun->initiators[i], initiator) == 0;
    for (unsigned i = 0; i < lun->network_count; i++)
        is_near |= config_network_contains(&lun->networks[i], peer);
    return is_named && is_near;
}

bool target_may_use(struct scsi_lu *lu, void *arg)
{
    const struct conn *c = arg;
    SCOPED_LOCK(&c->shard->iscsi->mutex);

    LIST_FOREACH (node, &c->target->luns) {
        const struct lun *lun = LIST_ENTRY(node, struct lun, link);

        if (lun->lu == lu)
            return may_use(lun, c->initiator, (const struct sockaddr *)&c->peer);
    }
    return false;
}

/* --- finding, under the mutex
 * ---------------------------------------------------------------------- */

static struct target *find_target(struct iscsi *iscsi, const char *name)
{
    LIST_FOREACH (node, &iscsi->targets) {
        struct target *target = LIST_ENTRY(node, struct target, link);

        if (strcmp(target->name, name) == 0)
            return target;
    }
    return NULL;
}

static struct lun *find_lun(struct iscsi *iscsi, const struct disk *disk, struct target **target)
{
    LIST_FOREACH (node, &iscsi->targets) {
        *target = LIST_ENTRY(node, struct target, link);
        LIST_FOREACH (at, &(*target)->luns) {
            struct lun *lun = LIST_ENTRY(at, struct lun, link);

            if (lun->disk == disk)
                return lun;
        }
    }
    return NULL;
}

static const struct lun *find_usable(const struct target *target, const char *initiator,
                                     const struct sockaddr *peer)
{
    LIST_FOREACH (node, &target->luns) {
        const struct lun *lun = LIST_ENTRY(node, struct lun, link);

        if (may_use(lun, initiator, peer))
            return lun;
    }
    return NULL;
}

/* --- disks of other targets
 * ---------------------------------------------------------------------------- */

static bool is_same_account(const struct lun *a, const struct lun *b)
{
    return a->chap && b->chap ? strcmp(a->chap, b->chap) == 0 : a->chap == b->chap;
}

/*
 * What the session has shown of itself is its name, its address and the secret of its target.  So
 * a LUN of another target is open to it if that asks for no other secret: else somebody who only
 * says he is an initiator could copy from the disks of the real one.
 */
static bool may_visit(const struct conn *c, const struct lun *own, const struct lun *lun)
{
    return may_use(lun, c->initiator, (const struct sockaddr *)&c->peer) &&
           is_same_account(own, lun);
}

struct scsi_lu *target_find_elsewhere(const uint8_t *naa, size_t bytes, void *arg)
{
    const struct conn *c = arg;
    const struct lun *own;
    SCOPED_LOCK(&c->shard->iscsi->mutex);

    own = find_usable(c->target, c->initiator, (const struct sockaddr *)&c->peer);
    LIST_FOREACH (node, &c->shard->iscsi->targets) {
        const struct target *target = LIST_ENTRY(node, struct target, link);

        LIST_FOREACH (at, &target->luns) {
            const struct lun *lun = LIST_ENTRY(at, struct lun, link);

            if (own && target != c->target && scsi_lu_is_named(lun->lu, naa, bytes) &&
                may_visit(c, own, lun))
                return scsi_lu_visit(lun->lu) ? lun->lu : NULL;
        }
    }
    return NULL;
}

/* --- who may log in
 * ------------------------------------------------------------------------------------ */

static void deny(struct login_access *a, enum login_status status, const char *reason)
{
    a->status = status;
    snprintf(a->reason, sizeof a->reason, "%.*s", (int)sizeof a->reason - 1, reason);
}

/* Primary, but its filters do not let it serve yet or any more: the initiator tries again. */
static bool is_taken_over(const struct lun *lun, char *reason, size_t size)
{
    disk_gate_reason(lun->disk, reason, size);
    return reason[0] && disk_role(lun->disk, NULL) == SLUICE_ROLE_PRIMARY;
}

static int read_account(const char *path, struct chap_account *out, struct err *e)
{
    struct config_chap chap;
    int r = config_read_chap(path, &chap, e);

    if (r == 0) {
        memcpy(out->user, chap.user, sizeof out->user);
        memcpy(out->secret, chap.secret, sizeof out->secret);
    }
    explicit_bzero(&chap, sizeof chap);
    return r;
}

static int read_both(struct chap_accounts *a, const char *chap, const char *mutual, struct err *e)
{
    int r;

    a->is_required = true;
    r = read_account(chap, &a->initiator, e);
    if (r == 0 && mutual) {
        a->is_mutual = true;
        r = read_account(mutual, &a->target, e);
        if (r == 0 && strcmp(a->initiator.secret, a->target.secret) == 0)
            r = err_set(e, EINVAL, "%s: has the secret of the other direction too", mutual);
    }
    return r;
}

static void read_secrets(struct login_access *a, const char *chap, const char *mutual)
{
    struct err e = {0};

    if (!chap || read_both(&a->accounts, chap, mutual, &e) == 0)
        return;
    log_line(LOG_LEVEL_ERROR, "iSCSI: %s", e.text);
    deny(a, LOGIN_TARGET_ERROR, "the target's secret cannot be read");
}

/* The paths are copied: the LUN may change while the files are read. */
static void find_secrets(struct conn *c, char **chap, char **mutual)
{
    struct iscsi *iscsi = c->shard->iscsi;
    struct login *l = c->login;
    struct target *target;
    const struct lun *lun;
    char reason[120];
    SCOPED_LOCK(&iscsi->mutex);

    target = find_target(iscsi, l->target);
    if (!target) {
        if (atomic_load(&iscsi->is_starting))
            deny(&l->access, LOGIN_SERVICE_UNAVAILABLE, "disks are still being opened");
        else
            deny(&l->access, LOGIN_NOT_FOUND, "there is no such target");
        return;
    }
    lun = find_usable(target, l->initiator, (const struct sockaddr *)&c->peer);
    if (!lun) {
        deny(&l->access, LOGIN_FORBIDDEN, "none of the target's LUNs is for this initiator");
        return;
    }
    if (is_taken_over(lun, reason, sizeof reason)) {
        deny(&l->access, LOGIN_SERVICE_UNAVAILABLE, reason);
        return;
    }
    if (!copy_text(chap, lun->chap) || !copy_text(mutual, lun->chap_mutual)) {
        deny(&l->access, LOGIN_OUT_OF_RESOURCES, "out of memory");
        return;
    }
    target->references++;
    c->target = target;
}

static void check_session_number(struct conn *c)
{
    struct iscsi *iscsi = c->shard->iscsi;
    struct login *l = c->login;
    SCOPED_LOCK(&iscsi->mutex);

    if (!l->tsih)
        return;
    deny(&l->access, LOGIN_NO_SESSION, "there is no session with that TSIH");
    LIST_FOREACH (node, &iscsi->sessions)
        if (LIST_ENTRY(node, struct conn, in_sessions)->tsih == l->tsih)
            deny(&l->access, LOGIN_TOO_MANY_CONNECTIONS, "a session has one connection");
}

void target_look_up(struct conn *c)
{
    const struct iscsi_settings *s = &c->shard->iscsi->settings;
    struct login *l = c->login;
    char *chap = NULL, *mutual = NULL;

    l->access.portal_group = s->portal_group;
    check_session_number(c);
    if (l->access.status != LOGIN_SUCCESS)
        return;
    if (l->is_discovery) {
        read_secrets(&l->access, s->discovery_chap, s->discovery_chap_mutual);
        return;
    }
    find_secrets(c, &chap, &mutual);
    if (l->access.status == LOGIN_SUCCESS)
        read_secrets(&l->access, chap, mutual);
    free(chap);
    free(mutual);
}

/* --- SendTargets
 * ------------------------------------------------------------------------------------------- */

/* The LUN by which it may be listed. */
static const struct lun *find_listed(const struct conn *c, const struct target *target,
                                     const char *only)
{
    if (only && strcmp(target->name, only) != 0)
        return NULL;
    if (!c->is_discovery && c->target != target)
        return NULL;
    return find_usable(target, c->initiator, (const struct sockaddr *)&c->peer);
}

/* The address is the one the initiator came to: it is reachable, and never a wildcard.  Then those
 * of the other gateway, as the configuration has them. */
static void list_one(FILE *out, const struct conn *c, const struct target *target,
                     const struct lun *lun)
{
    fprintf(out, "TargetName=%s", target->name);
    putc(0, out);
    fprintf(out, "TargetAddress=%s,%u", c->portal, c->shard->iscsi->settings.portal_group);
    putc(0, out);
    for (unsigned i = 0; i < lun->peer_portal_count; i++) {
        fprintf(out, "TargetAddress=%s", lun->peer_portals[i]);
        putc(0, out);
    }
}

char *targets_list(struct conn *c, const char *only, size_t *length)
{
    struct iscsi *iscsi = c->shard->iscsi;
    char *text = NULL;
    FILE *out = open_memstream(&text, length);

    if (!out)
        return NULL;
    pthread_mutex_lock(&iscsi->mutex);
    LIST_FOREACH (node, &iscsi->targets) {
        const struct target *target = LIST_ENTRY(node, struct target, link);
        const struct lun *lun = find_listed(c, target, only);

        if (lun)
            list_one(out, c, target, lun);
    }
    pthread_mutex_unlock(&iscsi->mutex);
    fclose(out);
    return text;
}

/* --- targets
 * ----------------------------------------------------------------------------------------------------
 */

void target_put(struct iscsi *iscsi, struct target *target)
{
    unsigned left;

    pthread_mutex_lock(&iscsi->mutex);
    left = --target->references;
    pthread_mutex_unlock(&iscsi->mutex);
    if (left)
        return;
    scsi_target_free(target->scsi);
    free(target);
}

static struct target *target_make(const char *name, struct err *e)
{
    struct target *target = calloc(1, sizeof *target);

    if (!target) {
        err_set(e, ENOMEM, "%s: out of memory", name);
        return NULL;
    }
    list_init(&target->luns);
    if (!value_name(slice_of(name), target->name)) {
        err_set(e, EINVAL, "%s: is no iSCSI name", name);
        free(target);
        return NULL;
    }
    if (scsi_target_create(target->name, &target->scsi, e) < 0) {
        free(target);
        return NULL;
    }
    return target;
}

/* [control] The target of that name, made if there is none. */
static struct target *get_target(struct iscsi *iscsi, const char *name, struct err *e)
{
    struct target *target;

    pthread_mutex_lock(&iscsi->mutex);
    target = find_target(iscsi, name);
    pthread_mutex_unlock(&iscsi->mutex);
    if (target)
        return target;
    target = target_make(name, e);
    if (!target)
        return NULL;
    target->references = 1;
    pthread_mutex_lock(&iscsi->mutex);
    list_append(&iscsi->targets, &target->link);
    pthread_mutex_unlock(&iscsi->mutex);
    return target;
}

static void on_target_changed(struct task *task)
{
    conn_drop_session(CONTAINER_OF(task, struct conn, remote_end_task), "the target was changed");
}

static void on_cold_reset(struct task *task)
{
    conn_drop_session(CONTAINER_OF(task, struct conn, remote_end_task), "the target was reset");
}

static void end_remotely(struct conn *c, void (*run)(struct task *task))
{
    if (c->is_remote_end_posted)
        return;
    c->is_remote_end_posted = true;
    c->remote_end_task.run = run;
    home_post(c->shard->home, &c->remote_end_task);
}

void target_drop_sessions(struct iscsi *iscsi, const struct target *target)
{
    SCOPED_LOCK(&iscsi->mutex);

    LIST_FOREACH (node, &iscsi->sessions) {
        struct conn *c = LIST_ENTRY(node, struct conn, in_sessions);

        if (c->target == target)
            end_remotely(c, on_cold_reset);
    }
}

/* Under the mutex: asks those sessions to end that may use nothing there any more. */
static void end_sessions(struct iscsi *iscsi, const struct target *target)
{
    LIST_FOREACH (node, &iscsi->sessions) {
        struct conn *c = LIST_ENTRY(node, struct conn, in_sessions);

        if (c->target == target &&
            !find_usable(target, c->initiator, (const struct sockaddr *)&c->peer))
            end_remotely(c, on_target_changed);
    }
}

/* [control] Without LUNs it goes, when its last session has ended. */
static void drop_empty(struct iscsi *iscsi, struct target *target)
{
    bool is_empty;

    pthread_mutex_lock(&iscsi->mutex);
    end_sessions(iscsi, target);
    is_empty = list_is_empty(&target->luns);
    if (is_empty)
        list_remove(&target->link);
    pthread_mutex_unlock(&iscsi->mutex);
    if (is_empty)
        target_put(iscsi, target);
}

/* --- changes
 * ------------------------------------------------------------------------------------------------------
 */

/* [control] It stays: only changes take LUNs away. */
static struct lun *look_up_lun(struct iscsi *iscsi, const struct disk *disk, struct target **target)
{
    SCOPED_LOCK(&iscsi->mutex);

    return find_lun(iscsi, disk, target);
}

static int add_lun(struct iscsi *iscsi, struct disk *disk, const struct iscsi_lun_settings *s,
                   struct err *e)
{
    struct target *target = get_target(iscsi, s->target, e);
    struct lun *lun = target ? lun_make(disk, s) : NULL;
    int r = target ? 0 : -e->code;

    if (target && !lun)
        r = err_set(e, ENOMEM, "%s: out of memory", disk_name(disk));
    if (r == 0)
        r = scsi_lu_create(disk, &s->scsi, &lun->lu, e);
    if (r == 0) {
        pthread_mutex_lock(&iscsi->mutex);
        list_append(&target->luns, &lun->link);
        pthread_mutex_unlock(&iscsi->mutex);
        r = scsi_target_add_lun(target->scsi, s->lun, lun->lu, e);
        if (r < 0) {
            pthread_mutex_lock(&iscsi->mutex);
            list_remove(&lun->link);
            pthread_mutex_unlock(&iscsi->mutex);
        }
    }
    if (r < 0 && lun && lun->lu)
        scsi_lu_put(lun->lu);
    if (r < 0)
        lun_free(lun);
    if (r < 0 && target)
        drop_empty(iscsi, target);
    return r;
}

static int remove_lun(struct iscsi *iscsi, struct lun *lun, struct target *target, struct err *e)
{
    int r = scsi_target_remove_lun(target->scsi, lun->number, e);

    if (r < 0)
        return r;
    pthread_mutex_lock(&iscsi->mutex);
    list_remove(&lun->link);
    pthread_mutex_unlock(&iscsi->mutex);
    scsi_lu_put(lun->lu);
    lun_free(lun);
    drop_empty(iscsi, target);
    return 0;
}

/* The same place with other rights: the LUN stays, its settings are exchanged. */
static int change_lun(struct iscsi *iscsi, struct lun *lun, struct target *target,
                      const struct iscsi_lun_settings *s, struct err *e)
{
    struct lun *next = lun_make(lun->disk, s);

    if (!next)
        return err_set(e, ENOMEM, "%s: out of memory", disk_name(lun->disk));
    pthread_mutex_lock(&iscsi->mutex);
    next->lu = lun->lu;
    list_insert(&next->link, &lun->link);
    list_remove(&lun->link);
    end_sessions(iscsi, target);
    pthread_mutex_unlock(&iscsi->mutex);
    lun_free(lun);
    return 0;
}

int iscsi_lun_set(struct iscsi *iscsi, struct disk *disk, const struct iscsi_lun_settings *settings,
                  struct err *e)
{
    struct target *target = NULL;
    struct lun *lun;
    int r;
    SCOPED_LOCK(&iscsi->control);

    lun = look_up_lun(iscsi, disk, &target);
    if (!lun)
        return add_lun(iscsi, disk, settings, e);
    if (lun->number == settings->lun && strcmp(target->name, settings->target) == 0)
        return change_lun(iscsi, lun, target, settings, e);
    r = remove_lun(iscsi, lun, target, e);
    return r < 0 ? r : add_lun(iscsi, disk, settings, e);
}

void iscsi_lun_set_access(struct iscsi *iscsi, struct disk *disk,
                          const struct scsi_port_group *groups, unsigned count)
{
    struct target *target = NULL;
    struct lun *lun;
    SCOPED_LOCK(&iscsi->control);

    lun = look_up_lun(iscsi, disk, &target);
    if (lun)
        scsi_lu_set_port_groups(lun->lu, groups, count);
}

void iscsi_lun_set_space(struct iscsi *iscsi, struct disk *disk, const struct scsi_space *space)
{
    struct target *target = NULL;
    struct lun *lun;
    SCOPED_LOCK(&iscsi->control);

    lun = look_up_lun(iscsi, disk, &target);
    if (lun)
        scsi_lu_set_space(lun->lu, space);
}

int iscsi_lun_remove(struct iscsi *iscsi, struct disk *disk, struct err *e)
{
    struct target *target = NULL;
    struct lun *lun;
    SCOPED_LOCK(&iscsi->control);

    lun = look_up_lun(iscsi, disk, &target);
    if (!lun)
        return err_set(e, ENOENT, "%s: is no LUN", disk_name(disk));
    return remove_lun(iscsi, lun, target, e);
}
