/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link.c: the gateway's link to its peers: made from the configuration before the first disk is
 * opened, so that filters find it; lent to them as the host's channels; looked at by status.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>

/* --- channels for the host ------------------------------------------------------------------ */

static int open_carrier(void *context, const char *peer, const char *key,
                        const struct host_channel_events *events, void *event_context,
                        void **carrier, struct err *e)
{
    const struct peer_channel_handlers handlers = {
        events->connected, events->message, events->writable, events->lost, events->caught_up};
    struct peer_channel *channel = NULL;
    int r = peer_channel_open(context, peer, key, &handlers, event_context, &channel, e);

    *carrier = channel;
    return r;
}

static void start_carrier(void *carrier)
{
    peer_channel_start(carrier);
}

static int send_by_carrier(void *carrier, const void *data, size_t length)
{
    return peer_channel_send(carrier, data, length);
}

static int send_soon_by_carrier(void *carrier, const void *data, size_t length)
{
    return peer_channel_send_soon(carrier, data, length);
}

static int queue_by_carrier(void *carrier, const void *head, size_t head_length, const void *data,
                            size_t length)
{
    return peer_channel_queue(carrier, head, head_length, data, length);
}

static void flush_carrier(void *carrier, bool is_soon)
{
    peer_channel_flush(carrier, is_soon);
}

static void pause_carrier(void *carrier, bool is_paused)
{
    peer_channel_pause(carrier, is_paused);
}

static void close_carrier(void *carrier)
{
    peer_channel_close(carrier);
}

static const struct host_channels carriers = {.open = open_carrier,
                                              .start = start_carrier,
                                              .send = send_by_carrier,
                                              .send_soon = send_soon_by_carrier,
                                              .queue = queue_by_carrier,
                                              .flush = flush_carrier,
                                              .pause = pause_carrier,
                                              .close = close_carrier};

/* --- from the configuration ----------------------------------------------------------------- */

static void notify(void *context, const char *what, const char *peer, const char *text)
{
    events_emit(context, what, "peer", peer, text);
}

static int configure(struct gateway *g, const struct gateway_config *c, struct err *e)
{
    struct peer_target *targets = calloc(c->peer_count + 1, sizeof *targets);
    int r;

    if (!targets)
        return err_set(e, ENOMEM, "out of memory");
    for (unsigned i = 0; i < c->peer_count; i++)
        targets[i] = (struct peer_target){c->peers[i].name, c->peers[i].address.host,
                                          c->peers[i].address.port};
    r = peers_configure(g->peers, targets, c->peer_count, e);
    free(targets);
    return r;
}

int peer_link_start(struct gateway *g, struct err *e)
{
    const struct gateway_config *c = g->config->config;
    struct peers_settings settings = {
        .name = c->name,
        .ca = c->tls.ca,
        .certificate = c->tls.certificate,
        .key = c->tls.key,
        .heartbeat_ns = c->link.heartbeat_ns,
        .timeout_ns = c->link.timeout_ns,
        .streams = c->link.streams,
        .window_bytes = (uint32_t)c->link.window_bytes,
        .notify = notify,
        .asked = failover_asked,
        .context = g,
    };
    int r;

    if (c->name)
        snprintf(g->name, sizeof g->name, "%s", c->name);
    host_set_gateway(g->name);
    if (!c->tls.is_set || (c->peer_count == 0 && c->listen.peer.count == 0))
        return 0;
    r = peers_create(&settings, &g->peers, e);
    if (r < 0)
        return err_context(e, "the link to other gateways");
    host_set_channels(&carriers, g->peers);
    for (unsigned i = 0; i < c->listen.peer.count && r == 0; i++) {
        const struct config_address *a = &c->listen.peer.item[i];

        r = peers_listen(g->peers, a->host, a->port, a->text, e);
    }
    return r < 0 ? r : configure(g, c, e);
}

void peer_link_reload(struct gateway *g, const struct gateway_config *c)
{
    struct err e = {0};

    if (!g->peers) {
        if (c->tls.is_set && c->peer_count)
            log_line(LOG_LEVEL_WARNING, "the first peer of a gateway needs a restart");
        return;
    }
    if (peers_renew(g->peers, &e) < 0)
        log_line(LOG_LEVEL_ERROR, "reload: the old certificates stay: %s", e.text);
    if (configure(g, c, &e) < 0)
        log_line(LOG_LEVEL_ERROR, "reload: peers: %s", e.text);
}

void peer_link_stop(struct gateway *g)
{
    if (g->peers)
        peers_stop(g->peers);
}

/* --- looking -------------------------------------------------------------------------------- */

static json_t *number_or_null(uint64_t n)
{
    return n ? json_integer((json_int_t)n) : json_null();
}

static const char *text_or_null(const char *text)
{
    return text[0] ? text : NULL;
}

static json_t *age_or_null(uint64_t since_ns)
{
    return since_ns ? json_integer((json_int_t)(clock_now_ns() - since_ns)) : json_null();
}

static void add_peer(const struct peer_view *v, void *arg)
{
    json_array_append_new(
        arg, json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:s?, s:b, s:i, s:i, s:i, s:o, s:o, s:o, s:I, "
                       "s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
                       "name", v->name, "address", v->address, "state", v->state, "reason",
                       text_or_null(v->reason), "remote", text_or_null(v->remote), "tls",
                       text_or_null(v->tls), "is_dialled", v->is_dialled, "streams",
                       (int)v->streams, "channels", (int)v->channels, "channels_connected",
                       (int)v->channels_connected, "age_ns", age_or_null(v->since_ns), "heard_ns",
                       age_or_null(v->heard_ns), "round_trip_ns", number_or_null(v->round_trip_ns),
                       "bytes_in", (json_int_t)v->bytes_in, "bytes_out", (json_int_t)v->bytes_out,
                       "messages_in", (json_int_t)v->messages_in, "messages_out",
                       (json_int_t)v->messages_out, "losses", (json_int_t)v->losses, "renewals",
                       (json_int_t)v->renewals, "rekeys", (json_int_t)v->rekeys,
                       "certificate_end_s", number_or_null((uint64_t)v->certificate_end)));
}

json_t *peer_link_json(struct gateway *g)
{
    json_t *list = json_array();

    if (g->peers)
        peers_for_each(g->peers, add_peer, list);
    return list;
}

static void add_certificate(json_t *list, const char *path)
{
    struct err e = {0};
    int64_t end_s = 0;
    json_t *j = json_pack("{s:s}", "path", path);

    if (certificate_file_end(path, &end_s, &e) == 0)
        json_object_set_new(j, "end_s", json_integer(end_s));
    else
        json_object_set_new(j, "error", json_string(e.text));
    json_array_append_new(list, j);
}

json_t *certificates_json(const struct gateway_config *c)
{
    json_t *list = json_array();

    if (c->tls.is_set) {
        add_certificate(list, c->tls.certificate);
        add_certificate(list, c->tls.ca);
    }
    return list;
}
