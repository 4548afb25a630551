/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim-state.c: the filter's state folder, which outlives every crash and may be out of space.
 */
#include "sim.h"

#include <errno.h>

/* State files are durable and atomic; a crash may come before and behind each change. */
static struct state_file {
    char name[32];
    uint8_t data[8192];
    size_t length; /* 0: not there */
} state_files[4];
bool sim_state_fails;

static struct state_file *state_file(const char *name)
{
    struct state_file *f = state_files;

    while (f->name[0] && strcmp(f->name, name) != 0)
        if (++f == state_files + 4)
            abort();
    snprintf(f->name, sizeof f->name, "%s", name);
    return f;
}

int sim_state_read(struct sluice_disk *disk, const char *name, void *data, size_t capacity,
                   size_t *length)
{
    const struct state_file *f = state_file(name);

    (void)disk;
    if (!f->length)
        return -ENOENT;
    if (f->length > capacity)
        return -EFBIG;
    memcpy(data, f->data, f->length);
    *length = f->length;
    return 0;
}

int sim_state_write(struct sluice_disk *disk, const char *name, const void *data, size_t length)
{
    struct state_file *f = state_file(name);

    (void)disk;
    if (length > sizeof f->data)
        abort();
    sim_let_others_go_on();
    if (sim_state_fails)
        return -ENOSPC;
    memcpy(f->data, data, length);
    f->length = length;
    sim_let_others_go_on();
    return 0;
}

int sim_state_remove(struct sluice_disk *disk, const char *name)
{
    (void)disk;
    sim_let_others_go_on();
    state_file(name)->length = 0;
    sim_let_others_go_on();
    return 0;
}

void sim_forget_state(void)
{
    memset(state_files, 0, sizeof state_files);
}

void sim_swap_state(void)
{
    static struct state_file other[4];
    struct state_file was[4];

    memcpy(was, state_files, sizeof was);
    memcpy(state_files, other, sizeof other);
    memcpy(other, was, sizeof was);
}
