/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * early.c: requests that begin where they are read.  nbdkit has one of a connection's threads read
 * a request, wake another one to read the next, and then carry its own out: with few requests in
 * flight that costs more than the request.  So a plain read, write or flush begins in the thread
 * that has read it, before nbdkit has it and without blocking (request_begin).  Where it has ended
 * by then, as with data in memory, it is answered here and nbdkit never hears of it; else nbdkit
 * gets it as ever, and its callback in this thread waits for the request that is under way.
 *
 * Taken is only what nbdkit would hand on unchanged: no filter of nbdkit stands in front, nothing
 * has to be refused, and nbdkit has answered such a request of this connection, which tells that a
 * client may ask and in which form it wants the answer.  Errors are for nbdkit to tell.
 *
 * A client that sends one request at a time has it waited for here too, as long as it sends nothing
 * else; when it does, nbdkit gets the one that is under way and reads on.
 */
#include "plugin.h"

#include "reply.h"

#include <string.h>

/* Longer reads are left to nbdkit: copied once more they cost more than a thread's waking. */
#define READ_MOST 65536u
/* Data lies as O_DIRECT wants it, with the head of its reply in the page before. */
#define PAGE 4096u
#define REPLY_BYTES (PAGE + READ_MOST)
/* A longer beginning keeps the next request waiting more than nbdkit's waking of a thread would. */
#define LONG_NS 50000u
#define PAUSE_MOST 63u
/* Three in a row in vain, that is; now and then one waits everywhere. */
#define WAITS_FROM 7u
/* So many in a row that come alone: their client waits for each. */
#define ALONE 4u

/* The request that nbdkit has next of this thread, and where its data is. */
static _Thread_local struct {
    struct request *request; /* NULL: none is under way */
    struct connection *owner;
    char *data;    /* of a read, in `replies` */
    char *replies; /* REPLY_BYTES: those that have not been sent */
    size_t at;     /* where the next one goes */
    char *written; /* STREAM_BULK_BYTES: data of a write */
} mine;

static pthread_key_t end_key; /* only for its destructor */

int early_wait(struct connection *c, struct request *r)
{
    int error = request_wait(r);

    atomic_fetch_sub_explicit(&c->begun, 1, memory_order_relaxed);
    return error;
}

/* --- what was not asked for --------------------------------------------------------------------
 */

void early_abandon(void)
{
    if (!mine.request)
        return;
    (void)early_wait(mine.owner, mine.request);
    request_free(mine.request);
    mine.request = NULL;
}

/* If its home has gone before, it has waited. */
static void thread_ends(void *arg)
{
    (void)arg;
    if (home_current_or_null())
        early_abandon();
    mine.request = NULL;
    free(mine.replies);
    free(mine.written);
    mine.replies = mine.written = NULL;
}

/* False: out of memory. */
static bool have_memory(void)
{
    if (LIKELY(mine.replies != NULL))
        return true;
    if (!mine.written)
        mine.written = aligned_alloc(PAGE, STREAM_BULK_BYTES);
    if (!mine.written || pthread_setspecific(end_key, &mine) != 0)
        return false;
    mine.replies = aligned_alloc(PAGE, REPLY_BYTES);
    return mine.replies != NULL;
}

/* --- answers -----------------------------------------------------------------------------------
 */

/* Room for a reply that brings so much; its head goes before that. */
static char *room_for(struct stream *s, size_t bytes)
{
    if (!stream_has_replies(s))
        mine.at = 0;
    if (REPLY_BYTES - mine.at < PAGE + bytes) {
        stream_send_replies(s);
        mine.at = 0;
    }
    return mine.replies + mine.at + PAGE;
}

static void answer(struct stream *s, const struct stream_request *q, char *data)
{
    struct iovec reply = reply_of_success(stream_reply_form(s, q->type), q, data);
    const char *end = (const char *)reply.iov_base + reply.iov_len;

    mine.at = ((size_t)(end - mine.replies) + PAGE - 1) / PAGE * PAGE;
    stream_reply(s, reply.iov_base, reply.iov_len);
}

/* --- whether it is worth it --------------------------------------------------------------------
 */

static bool is_pausing(struct early_pause *p)
{
    if (p->left == 0)
        return false;
    p->left--;
    return true;
}

/* Where requests have to wait for something, nbdkit's threads begin several at once, whose frames
 * to a peer, say, then leave together; and what takes long can be done by several.  So each that
 * kept others waiting makes the next pause longer. */
static void learn(struct early_pause *p, bool was_worth_it, bool waits)
{
    p->next = was_worth_it ? p->next / 2 : MIN(2 * p->next + 1, PAUSE_MOST);
    atomic_store_explicit(&p->waits, waits && p->next >= WAITS_FROM, memory_order_relaxed);
    p->left = was_worth_it ? 0 : p->next;
}

/* --- taking ------------------------------------------------------------------------------------
 */

/* Or comes beside others. */
static bool is_followed(const struct stream *s, const struct connection *c,
                        const struct stream_request *q)
{
    return stream_aside(s) > 0 || atomic_load_explicit(&c->begun, memory_order_relaxed) > 0 ||
           stream_bytes_ahead(s) > (q->type == NBD_CMD_WRITE ? q->length : 0);
}

static bool wait_alone(struct stream *s, struct request *r)
{
    stream_send_replies(s);
    return request_wait_watching(r, stream_descriptor(s)) == IO_DONE;
}

/* True: it has ended well.  Else the callback in this thread has to end it. */
static bool begin(struct stream *s, struct connection *c, const struct stream_request *q,
                  unsigned op, struct early_pause *p, void *data)
{
    struct request *r = request_new(c->engine, &c->session->client);
    uint64_t began = clock_ticks();
    bool has_ended;

    if (UNLIKELY(!r))
        return false;
    request_fill(r, op, 0, q->offset, q->length, data);
    has_ended = request_begin(r) == IO_DONE;
    learn(p,
          !is_followed(s, c, q) ||
              (has_ended && clock_ticks_to_ns(clock_ticks() - began) < LONG_NS),
          !has_ended);
    if (!has_ended && p->alone >= ALONE) {
        has_ended = wait_alone(s, r);
        p->alone = has_ended ? p->alone : 0; /* it took too long, or was not alone */
    }
    if (LIKELY(has_ended && request_error(r) == 0)) {
        request_free(r);
        return true;
    }
    atomic_fetch_add_explicit(&c->begun, 1, memory_order_relaxed);
    mine.request = r;
    mine.owner = c;
    return false;
}

static void count_alone(const struct stream *s, const struct connection *c,
                        const struct stream_request *q, struct early_pause *p)
{
    p->alone = is_followed(s, c, q) ? 0 : p->alone + 1;
}

/* Where they wait for something, several do so aside.  When all were answered at once the first of
 * the next comes alone. */
static bool goes_aside(const struct stream *s, const struct connection *c,
                       const struct stream_request *q, struct early_pause *p)
{
    count_alone(s, c, q, p);
    return atomic_load_explicit(&p->waits, memory_order_relaxed) && p->alone < ALONE;
}

static bool take_read(struct stream *s, struct connection *c, const struct stream_request *q)
{
    char *data;

    if (stream_reply_form(s, NBD_CMD_READ) == REPLY_UNKNOWN || q->length > READ_MOST)
        return false;
    if (goes_aside(s, c, q, &c->pause_reading))
        return aside_take(c, s, q);
    if (is_pausing(&c->pause_reading))
        return false;
    mine.data = data = room_for(s, q->length);
    if (!begin(s, c, q, SLUICE_OP_READ, &c->pause_reading, data))
        return false;
    answer(s, q, data);
    return true;
}

/* The stream's own buffer has to take what comes next while the request may be under way. */
static bool take_write(struct stream *s, struct connection *c, const struct stream_request *q)
{
    const char *data;

    if (c->is_read_only || stream_reply_form(s, NBD_CMD_WRITE) != REPLY_SIMPLE ||
        q->length > STREAM_BULK_BYTES)
        return false;
    if (goes_aside(s, c, q, &c->pause_writing))
        return aside_take(c, s, q);
    if (is_pausing(&c->pause_writing) || !(data = stream_payload(s, q->length)))
        return false;
    memcpy(mine.written, data, q->length);
    if (!begin(s, c, q, SLUICE_OP_WRITE, &c->pause_writing, mine.written))
        return false;
    stream_skip_payload(s, q->length);
    answer(s, q, room_for(s, 0));
    return true;
}

/* A flush often finds that all it is asked for is durable. */
static bool take_flush(struct stream *s, struct connection *c, const struct stream_request *q)
{
    struct early_pause *p = &c->pause_flushing;

    if (stream_reply_form(s, NBD_CMD_FLUSH) != REPLY_SIMPLE)
        return false;
    count_alone(s, c, q, p);
    if (is_pausing(p) || !begin(s, c, q, SLUICE_OP_FLUSH, p, NULL))
        return false;
    answer(s, q, room_for(s, 0));
    return true;
}

static bool is_plain(const struct connection *c, const struct stream_request *q)
{
    if (q->type == NBD_CMD_FLUSH)
        return q->flags == 0 && q->length == 0 && q->offset == 0;
    return q->flags == 0 && q->length > 0 && q->offset <= c->size_bytes &&
           q->length <= c->size_bytes - q->offset;
}

static bool take(struct stream *s, void *owner, const struct stream_request *q)
{
    struct connection *c = owner;

    if (!is_plain(c, q) || plugin_is_gone(c) || mine.request || !have_memory())
        return false;
    if (q->type == NBD_CMD_READ)
        return take_read(s, c, q);
    if (q->type == NBD_CMD_FLUSH)
        return take_flush(s, c, q);
    return q->type == NBD_CMD_WRITE && take_write(s, c, q);
}

/* --- what nbdkit was given ---------------------------------------------------------------------
 */

static bool is_it(const struct sluice_request *r, const struct connection *c, unsigned op,
                  uint64_t offset, uint32_t length)
{
    return r->client == &c->session->client && r->op == op && r->offset == offset &&
           r->length == length;
}

struct request *early_request(struct connection *c, unsigned op, uint64_t offset, uint32_t length)
{
    struct request *r = mine.request;

    if (LIKELY(!r))
        return NULL;
    if (UNLIKELY(!is_it(request_public(r), c, op, offset, length))) {
        early_abandon();
        return NULL;
    }
    mine.request = NULL;
    return r;
}

const char *early_data(void)
{
    return mine.data;
}

/* --- installing --------------------------------------------------------------------------------
 */

void early_install(void)
{
    if (plugin_has_filters() || pthread_key_create(&end_key, thread_ends) != 0)
        return;
    aside_start();
    stream_set_taker(take);
}
