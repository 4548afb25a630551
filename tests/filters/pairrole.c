/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pairrole: the least a filter of the replication class does with roles: gw-a is primary first, the
 * verb `failover` at the gateway that is to serve asks the other one to step down, waits for it and
 * becomes primary; --force does not wait.  It copies nothing: both gateways have the same backing.
 */
#include "test-filter.h"

#include <stdio.h>
#include <time.h>

struct pairrole {
    struct sluice_disk *disk;
    struct sluice_channel *channel;
    struct sluice_channel_handlers handlers;
    pthread_mutex_t mutex;
    bool is_connected, has_stepped_down; /* under mutex */
};

static const struct sluice_option options[] = {
    {"primary", SLUICE_TYPE_STRING, SLUICE_OPTION_REQUIRED, 0, 0, NULL, NULL, "The first one."},
    SLUICE_OPTIONS_END,
};

static void set_flag(struct pairrole *p, bool *flag, bool value)
{
    pthread_mutex_lock(&p->mutex);
    *flag = value;
    pthread_mutex_unlock(&p->mutex);
}

static bool get_flag(struct pairrole *p, const bool *flag)
{
    bool value;

    pthread_mutex_lock(&p->mutex);
    value = *flag;
    pthread_mutex_unlock(&p->mutex);
    return value;
}

static void connected(void *instance, const char *peer)
{
    struct pairrole *p = instance;

    (void)peer;
    set_flag(p, &p->is_connected, true);
}

static void lost(void *instance, const char *reason)
{
    struct pairrole *p = instance;

    (void)reason;
    set_flag(p, &p->is_connected, false);
}

static void writable(void *instance)
{
    (void)instance;
}

/* An epoch: step down, and answer with nothing when that is done. */
static void message(void *instance, const void *data, size_t length)
{
    struct pairrole *p = instance;
    uint64_t epoch;

    if (length != sizeof epoch) {
        set_flag(p, &p->has_stepped_down, true);
        return;
    }
    memcpy(&epoch, data, sizeof epoch);
    sluice_role_request(p->disk, SLUICE_ROLE_SECONDARY, epoch, NULL);
}

static int on_event(void *instance, const struct sluice_event *event, struct sluice_error *error)
{
    struct pairrole *p = instance;

    (void)error;
    if (event->kind == SLUICE_EVENT_DEMOTE && event->phase == SLUICE_PHASE_COMMIT)
        return sluice_channel_send(p->disk, p->channel, "", 0);
    return 0;
}

static bool wait_for(struct pairrole *p, const bool *flag)
{
    struct timespec pause = {.tv_nsec = 1000000};
    uint64_t until_ns = sluice_now_ns(p->disk) + 5000000000u;

    while (!get_flag(p, flag) && sluice_now_ns(p->disk) < until_ns)
        nanosleep(&pause, NULL);
    return get_flag(p, flag);
}

static int ask_to_step_down(struct pairrole *p, uint64_t epoch, struct sluice_error *error)
{
    set_flag(p, &p->has_stepped_down, false);
    if (sluice_channel_send(p->disk, p->channel, &epoch, sizeof epoch) < 0)
        return sluice_refuse(p->disk, error, ENOTCONN, "the other gateway cannot be reached");
    if (!wait_for(p, &p->has_stepped_down))
        return sluice_refuse(p->disk, error, ETIMEDOUT, "the other gateway does not step down");
    return 0;
}

static bool is_given(int argc, const char *const *argv, const char *word)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], word) == 0)
            return true;
    return false;
}

static int run_failover(void *instance, int argc, const char *const *argv,
                        struct sluice_reply *reply, struct sluice_error *error)
{
    struct pairrole *p = instance;
    struct timespec pause = {.tv_nsec = 1000000};
    bool is_forced = is_given(argc, argv, "--force");
    uint64_t epoch;
    int r = 0;

    sluice_role(p->disk, &epoch);
    if (is_given(argc, argv, "--dry-run")) {
        sluice_reply_text(p->disk, reply, "%s goes to %s with epoch %llu%s", p->disk->name,
                          p->disk->gateway, (unsigned long long)epoch + 1,
                          is_forced ? "; the other one is NOT fenced" : "");
        return 0;
    }
    if (!is_forced)
        r = ask_to_step_down(p, epoch + 1, error);
    if (r == 0)
        r = sluice_role_request(p->disk, SLUICE_ROLE_PRIMARY, epoch + 1, error);
    while (r == 0 && sluice_role(p->disk, NULL) != SLUICE_ROLE_PRIMARY)
        nanosleep(&pause, NULL);
    return r;
}

static const struct sluice_verb verbs[] = {
    {"failover", "[--force] [--dry-run]", "Makes this gateway the primary.", run_failover},
    SLUICE_VERBS_END,
};

static int pairrole_open(struct sluice_disk *disk, const struct sluice_value *values,
                         void **instance, struct sluice_error *error)
{
    struct pairrole *p = calloc(1, sizeof *p);
    uint64_t epoch;
    int r;

    p->disk = disk;
    pthread_mutex_init(&p->mutex, NULL);
    p->handlers = (struct sluice_channel_handlers){.struct_size = sizeof p->handlers,
                                                   .connected = connected,
                                                   .message = message,
                                                   .writable = writable,
                                                   .lost = lost};
    r = sluice_channel_open(disk, &p->handlers, &p->channel, error);
    *instance = p;
    sluice_role(disk, &epoch);
    if (r == 0 && epoch == 0) /* the first time: later the role is state */
        r = sluice_role_request(disk,
                                strcmp(values[0].string, disk->gateway) == 0
                                    ? SLUICE_ROLE_PRIMARY
                                    : SLUICE_ROLE_SECONDARY,
                                1, error);
    sluice_gate(disk, false, NULL);
    return r;
}

static void pairrole_close(void *instance)
{
    struct pairrole *p = instance;

    sluice_channel_close(p->disk, p->channel);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

static const struct sluice_filter pairrole = {
    .struct_size = sizeof(struct sluice_filter),
    .api_version = SLUICE_FILTER_API_VERSION,
    .name = "pairrole",
    .version = "1",
    .vendor = "tests",
    .summary = "Fails over without copying anything.",
    .filter_class = SLUICE_CLASS_REPLICATION,
    .options = options,
    .verbs = verbs,
    .open = pairrole_open,
    .close = pairrole_close,
    .event = on_event,
    EVERY_OPERATION(SLUICE_PASS_UNSEEN),
};
SLUICE_FILTER(pairrole)
