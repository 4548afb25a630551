/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verb.c: runs a filter's verb and collects its answer: keys with numbers and strings, and lines of
 * text for people under "text".  A reply belongs to the one thread that runs the verb.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct sluice_reply {
    json_t *object;
    FILE *text; /* over `bytes` */
    char *bytes;
    size_t length;
};

void reply_vtext(struct sluice_reply *reply, const char *fmt, va_list ap)
{
    vfprintf(reply->text, fmt, ap);
    fputc('\n', reply->text);
}

void reply_integer(struct sluice_reply *reply, const char *key, int64_t value)
{
    json_object_set_new(reply->object, key, json_integer(value));
}

/* What is not UTF-8 cannot be JSON: null then. */
void reply_string(struct sluice_reply *reply, const char *key, const char *value)
{
    json_t *string = value ? json_string(value) : NULL;

    json_object_set_new(reply->object, key, string ? string : json_null());
}

static bool reply_begin(struct sluice_reply *reply)
{
    *reply = (struct sluice_reply){.object = json_object()};
    reply->text = open_memstream(&reply->bytes, &reply->length);
    return reply->object && reply->text;
}

static json_t *reply_end(struct sluice_reply *reply)
{
    if (reply->text)
        fclose(reply->text);
    if (reply->object && reply->length)
        reply_string(reply, "text", reply->bytes);
    free(reply->bytes);
    return reply->object;
}

static const struct sluice_verb *find_verb(const struct sluice_filter *filter, const char *name)
{
    for (unsigned i = 0; i < filter_verb_count(filter); i++)
        if (strcmp(filter->verbs[i].name, name) == 0)
            return &filter->verbs[i];
    return NULL;
}

static COLD int refuse_unknown(const struct seat *seat, const char *name, struct err *e)
{
    const char *names[64], *closest;
    unsigned count = MIN(filter_verb_count(seat->filter), (unsigned)ARRAY_SIZE(names));

    for (unsigned i = 0; i < count; i++)
        names[i] = seat->filter->verbs[i].name;
    closest = text_closest(name, names, count);
    return err_set(e, ENOENT, "filter %s: no verb %s%s%s%s", seat->name, name,
                   closest ? " (did you mean " : "", closest ? closest : "", closest ? "?)" : "");
}

static int run(struct seat *seat, const struct sluice_verb *verb, int argc, const char *const *argv,
               json_t **out, struct err *e)
{
    struct sluice_reply reply;
    struct err why = {0};
    json_t *object;
    int r = -ENOMEM;

    if (reply_begin(&reply))
        r = verb->run(seat->station.instance, argc, argv, &reply, as_filter_error(&why));
    object = reply_end(&reply);
    if (r >= 0) {
        *out = object;
        return 0;
    }
    json_decref(object);
    return err_set(e, -r, "filter %s: %s", seat->name, why.text[0] ? why.text : strerror(-r));
}

int host_station_verb(struct station *station, const char *name, int argc, const char *const *argv,
                      json_t **reply, struct err *e)
{
    struct seat *seat = seat_of_station(station);
    const struct sluice_verb *verb = find_verb(seat->filter, name);
    int r;

    if (!verb)
        return refuse_unknown(seat, name, e);
    if (!seat_enter(seat))
        return err_set(e, ESHUTDOWN, "filter %s: is being closed", seat->name);
    r = run(seat, verb, argc, argv, reply, e);
    seat_leave(seat);
    return r;
}
