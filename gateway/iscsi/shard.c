/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shard.c: a loop with what its connections share: the buffer they receive into, and pools of
 * tasks, outgoing PDUs and data buffers, so that a command allocates nothing.  All of it belongs to
 * the loop's thread; no locks.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>

#define PAGE_BYTES 4096u
#define POOLED_BYTES_MAX ((size_t)16 << 20)

struct buffer {
    struct buffer *next;
};

/* --- pools -------------------------------------------------------------------------------------
 */

struct iscsi_task *task_take(struct shard *s)
{
    struct iscsi_task *task = s->free_tasks;

    if (UNLIKELY(!task))
        return malloc(sizeof *task);
    s->free_tasks = task->next;
    return task;
}

void task_give(struct shard *s, struct iscsi_task *task)
{
    task->next = s->free_tasks;
    s->free_tasks = task;
}

struct out *out_take(struct shard *s)
{
    struct out *out = s->free_outs;

    if (UNLIKELY(!out))
        out = malloc(sizeof *out);
    else
        s->free_outs = out->next;
    if (out) {
        out->is_embedded = false;
        out->data = out->owned = NULL;
        out->task = NULL;
        out->data_bytes = 0;
    }
    return out;
}

void out_give(struct shard *s, struct out *out)
{
    out->next = s->free_outs;
    s->free_outs = out;
}

static unsigned class_of(uint32_t bytes)
{
    unsigned class = 0;

    while ((PAGE_BYTES << class) < bytes)
        class ++;
    return class;
}

void *buffer_take(struct shard *s, uint32_t bytes, uint32_t *room)
{
    unsigned class = class_of(bytes);
    struct buffer *buffer;

    *room = PAGE_BYTES << class;
    if (class >= BUFFER_CLASSES || !s->free_buffers[class])
        return aligned_alloc(PAGE_BYTES, *room);
    buffer = s->free_buffers[class];
    s->free_buffers[class] = buffer->next;
    s->pooled_bytes -= *room;
    return buffer;
}

void buffer_give(struct shard *s, void *memory, uint32_t room)
{
    unsigned class = class_of(room);
    struct buffer *buffer = memory;

    if (class >= BUFFER_CLASSES || s->pooled_bytes + room > POOLED_BYTES_MAX) {
        free(memory);
        return;
    }
    buffer->next = s->free_buffers[class];
    s->free_buffers[class] = buffer;
    s->pooled_bytes += room;
}

/* --- ticks
 * ---------------------------------------------------------------------------------------- */

static void on_tick(struct timer *timer)
{
    struct shard *s = CONTAINER_OF(timer, struct shard, tick);

    s->now_ns = clock_now_ns();
    LIST_FOREACH_SAFE (node, &s->conns)
        conn_tick(LIST_ENTRY(node, struct conn, in_shard));
    if (s->index == 0)
        portals_tick(s->iscsi);
    loop_timer_set(s->loop, timer, s->now_ns + TICK_NS);
}

static void start(struct task *task)
{
    struct shard *s = CONTAINER_OF(task, struct shard, start_task);

    loop_set_patience(s->loop, LOOKING_NS);
    s->tick.fire = on_tick;
    loop_timer_set(s->loop, &s->tick, clock_now_ns() + TICK_NS);
}

int shard_create(struct iscsi *iscsi, unsigned index, struct shard **out, struct err *e)
{
    struct shard *s = calloc(1, sizeof *s);
    char name[16];

    snprintf(name, sizeof name, "iscsi-%u", index);
    if (s)
        s->buffer = aligned_alloc(PAGE_BYTES, RECEIVE_BYTES);
    if (!s || !s->buffer) {
        free(s);
        return err_set(e, ENOMEM, "iSCSI: out of memory");
    }
    s->iscsi = iscsi;
    s->index = index;
    s->now_ns = clock_now_ns();
    list_init(&s->conns);
    s->loop = loop_create(name, e);
    if (!s->loop) {
        free(s->buffer);
        free(s);
        return -e->code;
    }
    s->home = loop_home(s->loop);
    s->start_task.run = start;
    home_post(s->home, &s->start_task);
    *out = s;
    return 0;
}
