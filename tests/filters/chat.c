/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chat: talks to itself at the peer gateway and counts what it is told.  Verbs: `send COUNT BYTES`
 * sends numbered messages, waiting where the channel is full; `pause yes|no` stops and lets go on
 * what arrives; `told` prints what has happened.
 */
#include "test-filter.h"

#include <stdio.h>
#include <time.h>

#define MESSAGE_MAX 65536u

struct chat {
    struct sluice_disk *disk;
    struct sluice_channel *channel;
    struct sluice_channel_handlers handlers;
    pthread_mutex_t mutex;
    uint64_t connected, lost, messages, bytes, wrong, expected; /* under mutex */
    bool is_connected, is_behind;                               /* under mutex */
    uint64_t caught_up;                                         /* under mutex */
    char reason[200];                                           /* under mutex */
    char peer[64];
};

enum { O_PEER, O_GROUP };
static const struct sluice_option options[] = {
    {"peer", SLUICE_TYPE_STRING, 0, 0, 0, NULL, NULL, "Which gateway; without it the only one."},
    {"of_group", SLUICE_TYPE_BOOL, 0, 0, 0, "false", NULL, "One channel for the whole group."},
    SLUICE_OPTIONS_END,
};

/* --- what it is told ------------------------------------------------------------------------ */

static void connected(void *instance, const char *peer)
{
    struct chat *c = instance;

    (void)peer;
    pthread_mutex_lock(&c->mutex);
    c->connected++;
    c->wrong += c->is_connected;
    c->is_connected = true;
    c->expected = 0;
    pthread_mutex_unlock(&c->mutex);
}

static void message(void *instance, const void *data, size_t length)
{
    struct chat *c = instance;
    uint64_t number = UINT64_MAX;

    memcpy(&number, data, length < sizeof number ? length : sizeof number);
    pthread_mutex_lock(&c->mutex);
    c->wrong += !c->is_connected || (number && number != c->expected);
    c->expected = number + 1; /* each `send` begins with nought */
    c->is_behind = true;
    c->messages++;
    c->bytes += length;
    pthread_mutex_unlock(&c->mutex);
}

static void writable(void *instance)
{
    (void)instance;
}

static void caught_up(void *instance)
{
    struct chat *c = instance;

    pthread_mutex_lock(&c->mutex);
    c->caught_up++;
    c->wrong += !c->is_connected || !c->is_behind;
    c->is_behind = false;
    pthread_mutex_unlock(&c->mutex);
}

static void lost(void *instance, const char *reason)
{
    struct chat *c = instance;

    pthread_mutex_lock(&c->mutex);
    c->lost++;
    c->wrong += !c->is_connected || c->is_behind;
    c->is_connected = false;
    snprintf(c->reason, sizeof c->reason, "%s", reason);
    pthread_mutex_unlock(&c->mutex);
}

/* --- verbs ---------------------------------------------------------------------------------- */

static int send_one(struct chat *c, uint64_t number, void *data, size_t length)
{
    struct timespec pause = {.tv_nsec = 100000};
    int r;

    memcpy(data, &number, sizeof number);
    while ((r = sluice_channel_send(c->disk, c->channel, data, length)) == -EAGAIN)
        nanosleep(&pause, NULL);
    return r;
}

static int run_send(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                    struct sluice_error *error)
{
    struct chat *c = instance;
    uint64_t count = argc > 0 ? strtoull(argv[0], NULL, 10) : 1;
    size_t length = argc > 1 ? strtoul(argv[1], NULL, 10) : sizeof(uint64_t);
    void *data = length >= sizeof(uint64_t) && length <= MESSAGE_MAX ? calloc(1, length) : NULL;
    int r = data ? 0 : -EINVAL;

    for (uint64_t i = 0; i < count && r == 0; i++)
        r = send_one(c, i, data, length);
    free(data);
    if (r < 0)
        return sluice_refuse(c->disk, error, -r, "not sent: %s", strerror(-r));
    sluice_reply_integer(c->disk, reply, "sent", (int64_t)count);
    return 0;
}

static int run_told(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                    struct sluice_error *error)
{
    struct chat *c = instance;

    (void)argc, (void)argv, (void)error;
    pthread_mutex_lock(&c->mutex);
    sluice_reply_integer(c->disk, reply, "connected", (int64_t)c->connected);
    sluice_reply_integer(c->disk, reply, "lost", (int64_t)c->lost);
    sluice_reply_integer(c->disk, reply, "messages", (int64_t)c->messages);
    sluice_reply_integer(c->disk, reply, "bytes", (int64_t)c->bytes);
    sluice_reply_integer(c->disk, reply, "caught_up", (int64_t)c->caught_up);
    sluice_reply_integer(c->disk, reply, "behind", c->is_behind);
    sluice_reply_integer(c->disk, reply, "wrong", (int64_t)c->wrong);
    sluice_reply_string(c->disk, reply, "reason", c->reason);
    pthread_mutex_unlock(&c->mutex);
    return 0;
}

static int run_pause(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                     struct sluice_error *error)
{
    struct chat *c = instance;

    (void)reply, (void)error;
    return sluice_channel_pause(c->disk, c->channel, argc > 0 && strcmp(argv[0], "yes") == 0);
}

static const struct sluice_verb verbs[] = {
    {"send", "[COUNT [BYTES]]", "Sends numbered messages.", run_send},
    {"told", "", "What has happened.", run_told},
    {"pause", "yes|no", "Whether what arrives has to wait.", run_pause},
    SLUICE_VERBS_END,
};

/* --- life ----------------------------------------------------------------------------------- */

static int chat_open(struct sluice_disk *disk, const struct sluice_value *values, void **instance,
                     struct sluice_error *error)
{
    struct chat *c = calloc(1, sizeof *c);
    int r;

    if (!c)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    c->disk = disk;
    pthread_mutex_init(&c->mutex, NULL);
    snprintf(c->peer, sizeof c->peer, "%s", values[O_PEER].is_set ? values[O_PEER].string : "");
    c->handlers = (struct sluice_channel_handlers){.struct_size = sizeof c->handlers,
                                                   .connected = connected,
                                                   .message = message,
                                                   .writable = writable,
                                                   .lost = lost,
                                                   .caught_up = caught_up,
                                                   .peer = c->peer,
                                                   .is_group = values[O_GROUP].integer != 0};
    r = sluice_channel_open(disk, &c->handlers, &c->channel, error);
    if (r < 0)
        free(c);
    *instance = c;
    return r;
}

static void chat_close(void *instance)
{
    struct chat *c = instance;

    sluice_channel_close(c->disk, c->channel);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

static const struct sluice_filter chat = {
    TEST_FILTER_HEAD("chat", "Talks to itself at the peer gateway."),
    .options = options,
    .verbs = verbs,
    .open = chat_open,
    .close = chat_close,
    EVERY_OPERATION(SLUICE_PASS_UNSEEN),
};
SLUICE_FILTER(chat)
