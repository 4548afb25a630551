/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-driver: one backing, driven by lines on standard input; for the shell tests that play its
 * server.  Answers each line by one line: "ok [...]" or "error: REASON".
 *
 *     backing-driver [KEY=VALUE...]        the fields of struct backing_spec: kind, uri, plugin,
 * ... arg=KEY=VALUE and filter=NAME may come several times; secret and user are for CHAP
 *
 *     info | status | identity | flush | refresh | reopen | stop | quit
 *     read OFFSET LENGTH STAMP             the contents must be those of STAMP (0: zeros)
 *     write|fua OFFSET LENGTH STAMP
 *     zero|trim|hole OFFSET LENGTH         zero keeps the space (NO_HOLE), hole does not
 *     extents OFFSET LENGTH
 *     load SECONDS THREADS BLOCKS [FILE]   the load of backing-test.h; what is flushed must be in
 * FILE verify                               reads all that the loads wrote rate SECONDS THREADS
 * reads of 4 KiB a second
 */
#include "backing-test.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdarg.h>

static struct backing *backing;
static struct load load;
static char *buffer;
#define BUFFER_BYTES (64u << 20)

static void PRINTF_LIKE(1, 2) say(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

static void say_result(int rc)
{
    if (rc < 0)
        say("error: %s", strerror(-rc));
    else
        say("ok");
}

/* --- the words ----------------------------------------------------------------------------------
 */

struct words {
    uint64_t offset, length;
    uint32_t stamp;
    char text[4][200]; /* the words behind the verb */
};

static void do_info(const struct words *w)
{
    const struct backing_info *i = backing_info(backing);

    (void)w;
    say("ok size=%" PRIu64 " block=%u preferred=%u max=%u ro=%d flush=%d fua=%d trim=%d zero=%d "
        "fast_zero=%d extents=%d prefetch=%d",
        i->size_bytes, i->block_bytes, i->preferred_bytes, i->max_transfer_bytes, i->is_read_only,
        i->can_flush, i->can_fua, i->can_trim, i->can_zero, i->can_fast_zero, i->can_extents,
        i->can_prefetch);
}

static void do_status(const struct words *w)
{
    struct backing_status s = {0};

    (void)w;
    backing_status(backing, &s);
    say("ok connected=%d generation=%" PRIu64 " reconnects=%" PRIu64 " replayed=%" PRIu64
        " sticky=%d %s",
        s.is_connected, s.generation, s.reconnects, s.replayed_writes, s.sticky_error, s.sentence);
}

static void do_identity(const struct words *w)
{
    char identity[300];

    (void)w;
    backing_identity(backing, identity, sizeof identity);
    say("ok %s", identity);
}

static void do_flush(const struct words *w)
{
    (void)w;
    say_result(request_run(backing, IO_FLUSH, 0, 0, 0, NULL, NULL));
}

static void do_read(const struct words *w)
{
    int rc = request_run(backing, IO_READ, 0, w->offset, w->length, buffer, NULL);

    if (rc == 0 && !contents_are(buffer, w->offset, w->length, w->stamp))
        say("error: other contents");
    else
        say_result(rc);
}

static void write_with(const struct words *w, uint32_t flags)
{
    contents_make(buffer, w->offset, w->length, w->stamp);
    say_result(request_run(backing, IO_WRITE, flags, w->offset, w->length, buffer, NULL));
}

static void do_write(const struct words *w)
{
    write_with(w, 0);
}

static void do_fua(const struct words *w)
{
    write_with(w, IO_FUA);
}

static void do_zero(const struct words *w)
{
    say_result(request_run(backing, IO_ZERO, IO_NO_HOLE, w->offset, w->length, NULL, NULL));
}

static void do_hole(const struct words *w)
{
    say_result(request_run(backing, IO_ZERO, 0, w->offset, w->length, NULL, NULL));
}

static void do_trim(const struct words *w)
{
    say_result(request_run(backing, IO_TRIM, 0, w->offset, w->length, NULL, NULL));
}

static void do_extents(const struct words *w)
{
    struct extents x = {0};
    int rc;

    extents_reset(&x, w->offset, w->length);
    rc = request_run(backing, IO_EXTENTS, 0, w->offset, w->length, NULL, &x);
    if (rc < 0) {
        say_result(rc);
    } else {
        printf("ok");
        for (unsigned i = 0; i < x.count; i++)
            printf(" %" PRIu64 ":%u", x.list[i].length, x.list[i].type);
        say("%s", "");
    }
    extents_free(&x);
}

static void order(int (*fn)(struct backing *, struct err *))
{
    struct err e = {0};

    if (fn(backing, &e) < 0)
        say("error: %s", e.text);
    else
        say("ok");
}

static void do_refresh(const struct words *w)
{
    (void)w;
    order(backing_refresh);
}

static void do_reopen(const struct words *w)
{
    (void)w;
    order(backing_reopen);
}

static int reset_lun(struct iscsi_context *context, const char *text)
{
    struct iscsi_url *url = iscsi_parse_full_url(context, text);
    int rc = url ? iscsi_set_targetname(context, url->target) : -1;

    iscsi_set_session_type(context, ISCSI_SESSION_NORMAL);
    if (rc == 0)
        rc = iscsi_full_connect_sync(context, url->portal, url->lun);
    if (rc == 0)
        rc = iscsi_task_mgmt_lun_reset_sync(context, (uint32_t)url->lun);
    if (url)
        iscsi_destroy_url(url);
    return rc;
}

static void do_lun_reset(const struct words *w)
{
    struct iscsi_context *context = iscsi_create_context("iqn.2024-01.test:another");

    if (reset_lun(context, w->text[0]) == 0)
        say("ok");
    else
        say("error: %s", iscsi_get_error(context));
    iscsi_destroy_context(context);
}

static void do_stop(const struct words *w)
{
    (void)w;
    backing_service_stop();
    say("ok");
}

/* --- loads --------------------------------------------------------------------------------------
 */

static void read_file(void *arg, void *data, uint64_t offset, uint64_t length)
{
    int fd = *(int *)arg;

    if (pread(fd, data, length, (off_t)offset) != (ssize_t)length)
        memset(data, 0x55, length);
}

static void do_load(const struct words *w)
{
    static int fd = -1;
    struct backing_status s = {0};

    load.backing = backing;
    load.threads = (unsigned)w->length;
    load.blocks = w->stamp;
    load.seed = (uint32_t)clock_now_ns();
    if (w->text[3][0]) {
        fd = open(w->text[3], O_RDONLY | O_CLOEXEC);
        load.read_stable = read_file;
        load.arg = &fd;
    }
    if (!load_run(&load, strtod(w->text[0], NULL))) {
        say("error: %" PRIu64 " blocks are wrong", load.wrong);
        return;
    }
    backing_status(backing, &s);
    say("ok reads=%" PRIu64 " writes=%" PRIu64 " flushes=%" PRIu64 " errors=%" PRIu64
        " reconnects=%" PRIu64 " replayed=%" PRIu64,
        load.reads, load.writes, load.flushes, load.errors, s.reconnects, s.replayed_writes);
}

static void do_verify(const struct words *w)
{
    (void)w;
    if (load_verify_all(&load))
        say("ok");
    else
        say("error: %" PRIu64 " blocks are wrong", load.wrong);
}

static uint64_t rate_end_ns;

static void *rate_main(void *arg)
{
    _Atomic uint64_t *count = arg;
    char data[BLOCK];
    uint64_t blocks = backing_info(backing)->size_bytes / BLOCK, at = (uintptr_t)&data / 64;

    while (clock_now_ns() < rate_end_ns) {
        at = (at * 6364136223846793005u + 1442695040888963407u);
        if (request_run(backing, IO_READ, 0, (at >> 33) % blocks * BLOCK, BLOCK, data, NULL) == 0)
            atomic_fetch_add(count, 1);
    }
    return NULL;
}

static void do_rate(const struct words *w)
{
    double seconds = strtod(w->text[0], NULL);
    _Atomic uint64_t count = 0;
    pthread_t thread[64];

    rate_end_ns = clock_now_ns() + (uint64_t)(seconds * 1e9);
    for (unsigned i = 0; i < w->length; i++)
        pthread_create(&thread[i], NULL, rate_main, &count);
    for (unsigned i = 0; i < w->length; i++)
        pthread_join(thread[i], NULL);
    say("ok %.0f", (double)count / seconds);
}

static const struct {
    const char *word;
    void (*run)(const struct words *w);
} verbs[] = {
    {"info", do_info},     {"status", do_status},       {"identity", do_identity},
    {"flush", do_flush},   {"refresh", do_refresh},     {"reopen", do_reopen},
    {"stop", do_stop},     {"read", do_read},           {"write", do_write},
    {"fua", do_fua},       {"zero", do_zero},           {"hole", do_hole},
    {"trim", do_trim},     {"extents", do_extents},     {"load", do_load},
    {"verify", do_verify}, {"lun-reset", do_lun_reset}, {"rate", do_rate},
};

/* False: it was "quit". */
static bool run_line(const char *line)
{
    struct words w = {0};
    char verb[20] = "";

    sscanf(line, "%19s %199s %199s %199s %199s", verb, w.text[0], w.text[1], w.text[2], w.text[3]);
    w.offset = strtoull(w.text[0], NULL, 0);
    w.length = strtoull(w.text[1], NULL, 0);
    w.stamp = (uint32_t)strtoul(w.text[2], NULL, 0);
    if (strcmp(verb, "quit") == 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
        if (strcmp(verb, verbs[i].word) == 0) {
            verbs[i].run(&w);
            return true;
        }
    say("error: what is \"%s\"?", verb);
    return true;
}

/* --- the backing --------------------------------------------------------------------------------
 */

static const char *arguments[20], *filters[10];
static unsigned argument_count, filter_count;

static void set_kind(struct backing_spec *spec, const char *name)
{
    for (int k = BACKING_FILE; k <= BACKING_NBDKIT; k++)
        if (strcmp(backing_kind_name((enum backing_kind)k), name) == 0)
            spec->kind = (enum backing_kind)k;
}

static bool set_option(struct backing_spec *spec, const char *key, const char *value)
{
    const struct {
        const char *key;
        const char **field;
    } strings[] = {
        {"uri", &spec->uri},        {"certificates", &spec->tls_certificates},
        {"user", &spec->chap_user}, {"secret", &spec->chap_secret},
        {"plugin", &spec->plugin},  {"initiator", &spec->initiator_name},
        {"path", &spec->path},
    };

    for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
        if (strcmp(key, strings[i].key) == 0) {
            *strings[i].field = value;
            return true;
        }
    if (strcmp(key, "kind") == 0)
        set_kind(spec, value);
    else if (strcmp(key, "arg") == 0 && argument_count + 1 < ARRAY_SIZE(arguments))
        arguments[argument_count++] = value;
    else if (strcmp(key, "filter") == 0 && filter_count + 1 < ARRAY_SIZE(filters))
        filters[filter_count++] = value;
    else if (strcmp(key, "ro") == 0)
        spec->read_only = value[0] == '1';
    else if (strcmp(key, "reconnect") == 0)
        return text_parse_duration(value, &spec->reconnect_ns) == 0;
    else if (strcmp(key, "settle") == 0)
        return text_parse_duration(value, &spec->settle_ns) == 0;
    else if (strcmp(key, "keep") == 0)
        return text_parse_size(value, &spec->keep_bytes) == 0;
    else
        return false;
    return true;
}

static bool parse(struct backing_spec *spec, int argc, char **argv)
{
    spec->disk = "driven";
    spec->arguments = arguments;
    spec->filters = filters;
    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');

        if (!equals)
            return false;
        *equals = 0;
        if (!set_option(spec, argv[i], equals + 1))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct backing_spec spec = {0};
    struct err e = {0};
    char line[1000];

    if (!parse(&spec, argc, argv)) {
        say("error: usage");
        return 3;
    }
    clock_init();
    buffer = malloc(BUFFER_BYTES);
    if (backing_open(&spec, &backing, &e) < 0) {
        say("error: %s", e.text);
        free(buffer);
        return 1;
    }
    say("ok");
    while (fgets(line, sizeof line, stdin) && run_line(line))
        ;
    backing_close(backing);
    say("ok closed");
    free(load.stamp);
    free(buffer);
    return atomic_load(&load.wrong) ? 1 : 0;
}
