/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * line.c: the link between the two nodes: the channel of the host's table.  It keeps the order of
 * its messages and takes so many; what is queued is not on its way before it is flushed; by chance
 * several come together; when it breaks, what was under way on it is gone, and both sides are told.
 */
#include "pair.h"

#include <errno.h>

struct message {
    struct message *next;
    size_t length;
    uint8_t data[];
};
static struct line {
    struct message *first, **last;
    unsigned count, queued; /* queued: of them, the last ones, not flushed */
    bool was_full;
    bool is_behind; /* the node was told of a message, and not that it has caught up */
} lines[NODES];     /* to node n */
static bool is_linked, is_told[NODES];
#define LINE_MAX 24u

bool link_is_up(void)
{
    return is_linked;
}

/* The caller has chosen whose memory it is. */
static void catch_up(int to)
{
    if (!lines[to].is_behind)
        return;
    lines[to].is_behind = false;
    replica_handlers.caught_up(nodes[to].members[0]);
}

static void forget_line(struct line *l)
{
    while (l->first) {
        struct message *m = l->first;

        l->first = m->next;
        free(m);
    }
    *l = (struct line){.first = NULL, .last = &l->first};
}

void link_up(void)
{
    if (is_linked || !nodes[0].r || !nodes[1].r)
        return;
    pair_say("-- link up");
    is_linked = true;
    for (int i = 0; i < NODES; i++) {
        forget_line(&lines[i]);
        is_told[i] = true;
    }
    for (int i = 0; i < NODES; i++) {
        memory_node = i;
        replica_handlers.connected(nodes[i].members[0], "peer");
    }
}

void link_break(void)
{
    if (!is_linked)
        return;
    pair_say("-- link down");
    is_linked = false;
    for (int i = 0; i < NODES; i++) {
        memory_node = i;
        if (nodes[i].r && is_told[i])
            catch_up(i);
        forget_line(&lines[i]);
        if (nodes[i].r && is_told[i])
            replica_handlers.lost(nodes[i].members[0], "the link broke");
        is_told[i] = false;
    }
}

int line_open(struct sluice_disk *disk, const struct sluice_channel_handlers *handlers,
              struct sluice_channel **channel, struct sluice_error *error)
{
    (void)handlers, (void)error;
    *channel = (struct sluice_channel *)(void *)node_of(disk);
    return 0;
}

int line_queue(struct sluice_channel *channel, const void *head, size_t head_length,
               const void *data, size_t length)
{
    struct node *from = (struct node *)(void *)channel;
    struct line *l = &lines[1 - from->number];
    struct message *m;

    if (!is_linked)
        return -ENOTCONN;
    if (l->count >= LINE_MAX) {
        l->was_full = true;
        return -EAGAIN;
    }
    m = malloc(sizeof *m + head_length + length);
    m->next = NULL;
    m->length = head_length + length;
    memcpy(m->data, head, head_length);
    if (length)
        memcpy(m->data + head_length, data, length);
    *l->last = m;
    l->last = &m->next;
    l->count++;
    l->queued++;
    return 0;
}

void line_flush(struct sluice_channel *channel, bool is_soon)
{
    struct node *from = (struct node *)(void *)channel;

    (void)is_soon;
    lines[1 - from->number].queued = 0;
}

void line_close(struct sluice_channel *channel)
{
    (void)channel;
}

void line_deliver(int to)
{
    struct line *l = &lines[to];
    struct message *m = l->first;

    l->first = m->next;
    if (!l->first)
        l->last = &l->first;
    l->count--;
    pair_say("   %d gets type %u flags %u seq %u offset %u bytes %u", to, m->data[6], m->data[7],
             m->data[16] | m->data[17] << 8, m->data[24] | m->data[25] << 8 | m->data[26] << 16,
             m->data[32] | m->data[33] << 8);
    replica_handlers.message(nodes[to].members[0], m->data, m->length);
    free(m);
    l->is_behind = true;
    if (line_count(to) == 0 || pair_one_in(2))
        catch_up(to);
    if (l->was_full && l->count < LINE_MAX / 2 && is_linked) {
        l->was_full = false;
        replica_handlers.writable(nodes[1 - to].members[0]);
    }
}

unsigned line_count(int to)
{
    return is_linked ? lines[to].count - lines[to].queued : 0;
}

void line_forget(int node)
{
    forget_line(&lines[node]);
}

void line_is_dead(int node)
{
    is_told[node] = false;
    link_break();
}
