/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-iscsi-threads [SECONDS]: the target with all its threads, for the thread sanitizer.
 * Initiators log in and out at two targets of three disks, write and read back their own blocks,
 * break off amid writes and log in anew at the same port, reset, and copy between the targets.
 * Meanwhile LUNs are taken away and given back, rights and access states change, and somebody looks
 * at the sessions.  What a session has been told to have written is read back, and nothing that a
 * session wrote before it broke off arrives after the next one of its port has been let in.
 */
#include "iscsi/iscsi.h"
#include "initiator.h"
#include "unit.h"

#include <arpa/inet.h>
#include <sched.h>
#include <sys/socket.h>

#define DISKS 3u
#define WORKERS 4u
#define DISK_BYTES (16u << 20)
#define REGION_BLOCKS 4096u /* of a worker: the first half it writes, the second it copies to */
#define PIECE_BYTES 65536u
#define FLIGHTS 8u

static struct iscsi *iscsi_target;
static struct disk *disks[DISKS];
static uint8_t naa[DISKS][8];
static char portal[32], folder[200];
static _Atomic bool must_stop;
static _Atomic unsigned verified, logins, refused, broken, copies, changes, looked;

static const struct {
    const char *target;
    uint16_t lun;
} places[DISKS] = {{"iqn.2026-01.org.example:one", 0},
                   {"iqn.2026-01.org.example:one", 1},
                   {"iqn.2026-01.org.example:two", 0}};

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "cannot %s: %s\n", what, e->text);
    exit(99);
}

/* --- the target ---------------------------------------------------------------------------- */

static void on_notice(void *context, const char *what, const char *target, const char *text)
{
    (void)context;
    (void)target;
    (void)text;
    if (strcmp(what, "login") == 0)
        atomic_fetch_add(&logins, 1);
}

static void open_disk(unsigned i)
{
    char name[16], image[300];
    struct disk_settings settings = {.name = name,
                                     .state_root = folder,
                                     .size_bytes = DISK_BYTES,
                                     .quiesce_limit_ns = 5000000000};
    struct backing_spec spec = {.kind = BACKING_FILE, .disk = name, .path = image};
    struct err e = {0};

    snprintf(name, sizeof name, "disk%u", i);
    snprintf(image, sizeof image, "%s/%s.raw", folder, name);
    if (disk_open(&settings, &spec, &disks[i], &e) < 0)
        die("open a disk", &e);
}

static void set_lun(unsigned i, const char *only)
{
    const char *names[] = {only};
    struct iscsi_lun_settings settings = {.target = places[i].target, .lun = places[i].lun};
    struct err e = {0};

    if (only)
        settings.initiators = (struct config_strings){.item = names, .count = 1};
    if (iscsi_lun_set(iscsi_target, disks[i], &settings, &e) < 0)
        die("set a LUN", &e);
}

/* The port that the kernel gave to our listener. */
static unsigned find_port(void)
{
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_in at;
        socklen_t length = sizeof at, int_length = sizeof(int);
        int is_listening = 0;

        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &int_length) == 0 &&
            is_listening && getsockname(fd, (struct sockaddr *)&at, &length) == 0 &&
            at.sin_family == AF_INET)
            return ntohs(at.sin_port);
    }
    return 0;
}

static void start_target(void)
{
    struct iscsi_settings settings = {.portal_group = 1, .loops = 3, .notify = on_notice};
    struct config_address address = {.text = "127.0.0.1:0", .host = "127.0.0.1"};
    const char *parent = getenv("TMPDIR");
    struct err e = {0};

    snprintf(folder, sizeof folder, "%s/sluice-test-iscsi-XXXXXX",
             parent && parent[0] ? parent : "/tmp");
    if (!mkdtemp(folder))
        abort();
    if (iscsi_create(&settings, &iscsi_target, &e) < 0)
        die("make the target", &e);
    for (unsigned i = 0; i < DISKS; i++) {
        open_disk(i);
        set_lun(i, NULL);
    }
    if (iscsi_listen(iscsi_target, &address, &e) < 0)
        die("listen", &e);
    snprintf(portal, sizeof portal, "127.0.0.1:%u", find_port());
}

static void end_target(void)
{
    char command[300];
    struct err e = {0};

    iscsi_stop_listening(iscsi_target);
    iscsi_ask_logouts(iscsi_target, 1);
    for (unsigned i = 0; i < DISKS; i++) {
        if (iscsi_lun_remove(iscsi_target, disks[i], &e) < 0)
            die("remove a LUN", &e);
        disk_close(disks[i]);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        abort();
}

/* --- initiators ------------------------------------------------------------------------------ */

struct worker {
    unsigned number, disk, seed;
    uint8_t stamp;
    pthread_t thread;
    struct initiator *session;
    uint8_t *data, *got;
};

static unsigned pick(struct worker *w, unsigned below)
{
    return (unsigned)rand_r(&w->seed) % below;
}

static struct initiator *log_in(struct worker *w)
{
    char name[64];
    struct initiator *i;

    snprintf(name, sizeof name, "iqn.2026-01.org.example:worker%u", w->number);
    i = initiator_login(name, (uint16_t)w->disk, places[w->disk].target, portal,
                        places[w->disk].lun, pick(w, 2));
    if (!i)
        atomic_fetch_add(&refused, 1);
    return i;
}

static uint64_t region(const struct worker *w)
{
    return (uint64_t)w->number * REGION_BLOCKS;
}

/* False: the session is of no use any more. */
static bool write_and_read(struct worker *w)
{
    uint64_t lba = region(w) + pick(w, REGION_BLOCKS / 2 - PIECE_BYTES / 512);

    memset(w->data, ++w->stamp, PIECE_BYTES);
    if (!initiator_write(w->session, lba, w->data, PIECE_BYTES) ||
        !initiator_read(w->session, lba, w->got, PIECE_BYTES))
        return false;
    CHECK(memcmp(w->data, w->got, PIECE_BYTES) == 0);
    atomic_fetch_add(&verified, 1);
    return true;
}

/* What it writes may not come later than what its next session writes there. */
static void break_off(struct worker *w)
{
    memset(w->data, ++w->stamp, PIECE_BYTES);
    initiator_break_off(w->session, region(w), w->data, PIECE_BYTES, FLIGHTS);
    w->session = NULL;
    atomic_fetch_add(&broken, 1);
}

static void log_out(struct worker *w)
{
    initiator_logout(w->session);
    w->session = NULL;
}

static void drop(struct worker *w)
{
    if (w->session)
        initiator_drop(w->session);
    w->session = NULL;
}

/* The new session of the same port, with the old one still there. */
static void reinstate(struct worker *w)
{
    struct initiator *old = w->session;

    w->session = log_in(w);
    initiator_drop(old);
}

static void reset(struct worker *w)
{
    initiator_reset(w->session);
}

static void put_descriptor(uint8_t *at, const uint8_t name[8])
{
    at[0] = 0xe4;
    at[4] = 1;
    at[5] = 3;
    at[7] = 8;
    memcpy(at + 8, name, 8);
    at[30] = 2;
}

/* From this disk to the next one, which may be of the other target. */
static void copy(struct worker *w)
{
    uint8_t list[108] = {1};
    uint64_t from = region(w), to = region(w) + REGION_BLOCKS / 2;

    list[3] = 64;
    list[11] = 28;
    put_descriptor(list + 16, naa[w->disk]);
    put_descriptor(list + 48, naa[(w->disk + 1) % DISKS]);
    list[80] = 2;
    list[83] = 24;
    list[87] = 1;
    list[90] = 4; /* 1024 blocks */
    for (unsigned i = 0; i < 8; i++) {
        list[92 + i] = (uint8_t)(from >> (56 - 8 * i));
        list[100 + i] = (uint8_t)(to >> (56 - 8 * i));
    }
    if (initiator_copy(w->session, list, sizeof list))
        atomic_fetch_add(&copies, 1);
}

static void *work(void *arg)
{
    static void (*const actions[])(struct worker * w) = {log_out,   break_off, break_off,
                                                         reinstate, reset,     copy};
    struct worker *w = arg;

    while (!atomic_load(&must_stop)) {
        bool is_useful;

        if (!w->session) {
            w->disk = pick(w, DISKS);
            w->session = log_in(w);
        }
        is_useful = w->session != NULL;
        for (unsigned i = 0; i < 4 && is_useful; i++)
            is_useful = write_and_read(w);
        if (is_useful)
            actions[pick(w, ARRAY_SIZE(actions))](w);
        else
            drop(w);
    }
    drop(w);
    return NULL;
}

/* --- changes meanwhile --------------------------------------------------------------------------
 */

static void take_away(void)
{
    struct err e = {0};

    if (iscsi_lun_remove(iscsi_target, disks[1], &e) < 0)
        die("remove a LUN", &e);
    set_lun(1, NULL);
}

static void forbid(void)
{
    set_lun(2, "iqn.2026-01.org.example:nobody");
    set_lun(2, NULL);
}

static void stand_by(void)
{
    struct scsi_port_group group = {.id = 1, .state = SCSI_STANDBY};

    iscsi_lun_set_access(iscsi_target, disks[0], &group, 1);
    group.state = SCSI_ACTIVE_OPTIMIZED;
    iscsi_lun_set_access(iscsi_target, disks[0], &group, 1);
}

static void look_at(const struct iscsi_session_view *view, void *arg)
{
    (void)arg;
    atomic_fetch_add(&looked, view->commands + view->bytes_in > 0);
}

static void look(void)
{
    iscsi_for_each_session(iscsi_target, look_at, NULL);
}

/* The next change comes when some more pieces have been read back: the load goes on between. */
static void change_until(uint64_t end_ns)
{
    static void (*const change[])(void) = {look, take_away, look, forbid, look, stand_by};
    unsigned seen = 0;

    for (unsigned i = 0; clock_now_ns() < end_ns; sched_yield()) {
        if (atomic_load(&verified) < seen + 8)
            continue;
        seen = atomic_load(&verified);
        change[i++ % ARRAY_SIZE(change)]();
        atomic_fetch_add(&changes, 1);
    }
}

static void read_names(void)
{
    struct worker w = {.number = WORKERS};

    for (w.disk = 0; w.disk < DISKS; w.disk++) {
        uint8_t page[16];

        w.session = log_in(&w);
        if (!w.session || !initiator_inquire(w.session, 0x83, page, sizeof page))
            abort();
        memcpy(naa[w.disk], page + 8, 8);
        log_out(&w);
    }
}

static void test_sessions_and_changes(unsigned seconds)
{
    static struct worker workers[WORKERS];

    start_target();
    read_names();
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){
            .number = i, .seed = i + 1, .data = malloc(PIECE_BYTES), .got = malloc(PIECE_BYTES)};
        if (thread_start(&workers[i].thread, work, &workers[i]) != 0)
            abort();
    }
    change_until(clock_now_ns() + seconds * UINT64_C(1000000000));
    atomic_store(&must_stop, true);
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        free(workers[i].data);
        free(workers[i].got);
    }
    end_target();
    CHECK(verified > 0);
    CHECK(logins > 0);
    fprintf(stderr,
            "# %u pieces read back, %u logins, %u refused, %u broken off amid writes, %u copies, "
            "%u changes, %u sessions looked at\n",
            verified, logins, refused, broken, copies, changes, looked);
}

int main(int argc, char **argv)
{
    unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 4;

    fprintf(stderr, "# test_sessions_and_changes, %u s\n", seconds);
    test_sessions_and_changes(seconds);
    return unit_result();
}
