/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file-dirty: how much a loop may write into the page cache that has not been synced.
 *
 * Where too many pages are dirty the kernel makes who writes wait, up to 200 ms, but never below
 * the middle of its two thresholds (mm/page-writeback.c, balance_dirty_pages).  The first
 * DIRTY_BUDGET after a sync are far below that on any machine.  When they are used up, a pool
 * thread that carries out a write of the file asks the kernel how much is left, and grants a part:
 * other files are written too.  Where the kernel does not tell, or a control group has less, there
 * is still the watchdog of file-submit.c.
 */
#include "io/file.h"
#include "io/syscalls.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GRANT_MOST DIRTY_BUDGET
#define GRANT_LEAST (4ull << 20)
#define GRANT_PART 4 /* of what is left */
#define LOOK_AGAIN_NS 100000000ull

/* /proc/vmstat, in pages. */
enum { PAGES_DIRTY, PAGES_IN_WRITEBACK, PAGES_TO_BEGIN, PAGES_MOST, COUNTS };
static const char *const names[COUNTS] = {
    [PAGES_DIRTY] = "nr_dirty",
    [PAGES_IN_WRITEBACK] = "nr_writeback",
    [PAGES_TO_BEGIN] = "nr_dirty_background_threshold",
    [PAGES_MOST] = "nr_dirty_threshold",
};

static unsigned take_count(const char *name, uint64_t value, uint64_t pages[COUNTS])
{
    for (unsigned i = 0; i < COUNTS; i++)
        if (strcmp(name, names[i]) == 0) {
            pages[i] = value;
            return 1;
        }
    return 0;
}

/* False: this kernel does not tell. */
static bool read_counts(uint64_t pages[COUNTS])
{
    FILE *f = fopen(io_syscalls.vmstat_path, "re");
    unsigned found = 0;
    uint64_t value;
    char name[64];

    if (!f)
        return false;
    while (found < COUNTS && fscanf(f, "%63s %" SCNu64, name, &value) == 2)
        found += take_count(name, value, pages);
    fclose(f);
    return found == COUNTS;
}

static uint64_t bytes_to_grant(void)
{
    uint64_t pages[COUNTS], used, limit, room;

    if (!read_counts(pages))
        return 0;
    used = pages[PAGES_DIRTY] + pages[PAGES_IN_WRITEBACK];
    limit = (pages[PAGES_TO_BEGIN] + pages[PAGES_MOST]) / 2;
    room = used < limit ? (limit - used) * (uint64_t)sysconf(_SC_PAGESIZE) / GRANT_PART : 0;
    return room < GRANT_LEAST ? 0 : MIN(room, GRANT_MOST);
}

/* True: nobody else looks meanwhile, and it is time to. */
static bool begin_look(struct file *file, uint64_t now_ns)
{
    uint64_t due_ns = atomic_load_explicit(&file->look_ns, memory_order_relaxed);

    return now_ns >= due_ns && atomic_compare_exchange_strong(&file->look_ns, &due_ns, UINT64_MAX);
}

void file_look_for_room(struct file *file)
{
    uint64_t now_ns, bytes;

    if (file->is_direct || file->is_in_memory || file_may_dirty(file))
        return;
    now_ns = clock_now_ns();
    if (!begin_look(file, now_ns))
        return;
    bytes = bytes_to_grant();
    if (bytes)
        atomic_store_explicit(&file->granted_bytes,
                              atomic_load_explicit(&file->written_bytes, memory_order_relaxed) +
                                  bytes,
                              memory_order_relaxed);
    atomic_store(&file->look_ns, bytes ? 0 : now_ns + LOOK_AGAIN_NS);
}
