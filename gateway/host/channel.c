/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * channel.c: a filter's way to itself at the peer gateway.  How messages get there is not known
 * here: whoever knows gives a table, host_set_channels().  A channel is found by the filter's name
 * and the disk's, or the group's, which both gateways of a pair have in common.
 *
 * Nothing is told to a filter before its open() has returned, nor once it is being closed.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct sluice_channel {
    struct list link;                        /* [M] seat.channels */
    struct seat *seat;                       /* [I] */
    struct sluice_channel_handlers handlers; /* [I] */
    void *carrier;                           /* [I] of the table's */
};

static const struct host_channels *channels; /* [I] after host_set_channels() */
static void *channels_context;

void host_set_channels(const struct host_channels *table, void *context)
{
    channels_context = context;
    channels = table;
}

/* --- what comes ----------------------------------------------------------------------------- */

static void on_connected(void *context, const char *peer)
{
    struct sluice_channel *ch = context;

    if (!seat_enter(ch->seat))
        return;
    ch->handlers.connected(ch->seat->station.instance, peer);
    seat_leave(ch->seat);
}

static void on_message(void *context, const void *data, size_t length)
{
    struct sluice_channel *ch = context;

    if (!seat_enter(ch->seat))
        return;
    ch->handlers.message(ch->seat->station.instance, data, length);
    seat_leave(ch->seat);
}

static void on_writable(void *context)
{
    struct sluice_channel *ch = context;

    if (!seat_enter(ch->seat))
        return;
    ch->handlers.writable(ch->seat->station.instance);
    seat_leave(ch->seat);
}

static void on_lost(void *context, const char *reason)
{
    struct sluice_channel *ch = context;

    if (!seat_enter(ch->seat))
        return;
    ch->handlers.lost(ch->seat->station.instance, reason);
    seat_leave(ch->seat);
}

static void on_caught_up(void *context)
{
    struct sluice_channel *ch = context;

    if (!ch->handlers.caught_up || !seat_enter(ch->seat))
        return;
    ch->handlers.caught_up(ch->seat->station.instance);
    seat_leave(ch->seat);
}

static const struct host_channel_events events = {on_connected, on_message, on_writable, on_lost,
                                                  on_caught_up};

/* --- opening -------------------------------------------------------------------------------- */

/* What the filter knows of the table; the rest is as if it were not set. */
static int copy_handlers(struct sluice_channel *ch, const struct sluice_channel_handlers *from,
                         struct err *e)
{
    if (!from || from->struct_size < offsetof(struct sluice_channel_handlers, peer))
        return err_set(e, EINVAL, "the table of a channel's handlers is too short");
    memcpy(&ch->handlers, from, MIN(from->struct_size, sizeof ch->handlers));
    if (!ch->handlers.connected || !ch->handlers.message || !ch->handlers.writable ||
        !ch->handlers.lost)
        return err_set(e, EINVAL, "a channel needs its first four handlers");
    return 0;
}

static int open_carrier(struct sluice_channel *ch, struct err *e)
{
    const struct sluice_disk *disk = &ch->seat->pub;
    bool is_group = ch->handlers.is_group;
    char key[200];

    snprintf(key, sizeof key, "%s/%s:%s", ch->seat->filter->name, is_group ? "group" : "disk",
             is_group ? disk->group : disk->name);
    return channels->open(channels_context, ch->handlers.peer, key, &events, ch, &ch->carrier, e);
}

int seat_channel_open(struct seat *seat, const struct sluice_channel_handlers *handlers,
                      struct sluice_channel **out, struct err *e)
{
    struct sluice_channel *ch;
    bool may_start;
    int r;

    if (!channels)
        return err_set(e, ENOTSUP, "gateway.yaml names no peers, or no certificates (tls)");
    ch = calloc(1, sizeof *ch);
    if (!ch)
        return err_set(e, ENOMEM, "out of memory");
    ch->seat = seat;
    r = copy_handlers(ch, handlers, e);
    if (r == 0)
        r = open_carrier(ch, e);
    if (r < 0) {
        free(ch);
        return r;
    }
    *out = ch;
    {
        SCOPED_LOCK(&seat->mutex);
        list_append(&seat->channels, &ch->link);
        may_start = seat->is_open;
    }
    if (may_start)
        channels->start(ch->carrier);
    return 0;
}

/* open() has returned: what it opened may speak.  Only the opener's own thread knows of these. */
void seat_start_channels(struct seat *seat)
{
    {
        SCOPED_LOCK(&seat->mutex);
        seat->is_open = true;
    }
    LIST_FOREACH (node, &seat->channels)
        channels->start(LIST_ENTRY(node, struct sluice_channel, link)->carrier);
}

/* --- using ---------------------------------------------------------------------------------- */

int host_channel_send(struct sluice_channel *ch, const void *data, size_t length)
{
    return channels->send(ch->carrier, data, length);
}

int host_channel_send_soon(struct sluice_channel *ch, const void *data, size_t length)
{
    return channels->send_soon(ch->carrier, data, length);
}

int host_channel_queue(struct sluice_channel *ch, const void *head, size_t head_length,
                       const void *data, size_t length)
{
    return channels->queue(ch->carrier, head, head_length, data, length);
}

void host_channel_flush(struct sluice_channel *ch, bool is_soon)
{
    channels->flush(ch->carrier, is_soon);
}

void host_channel_pause(struct sluice_channel *ch, bool is_paused)
{
    channels->pause(ch->carrier, is_paused);
}

void host_channel_close(struct sluice_channel *ch)
{
    {
        SCOPED_LOCK(&ch->seat->mutex);
        list_remove(&ch->link);
    }
    channels->close(ch->carrier);
    free(ch);
}

unsigned seat_drop_channels(struct seat *seat)
{
    unsigned count = 0;

    while (!list_is_empty(&seat->channels)) {
        host_channel_close(LIST_ENTRY(seat->channels.next, struct sluice_channel, link));
        count++;
    }
    return count;
}
