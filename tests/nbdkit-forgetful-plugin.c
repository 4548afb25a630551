/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbdkit-forgetful-plugin: a server that really loses what was not flushed.  Writes go to a copy in
 * memory; only a flush (or FUA, if offered) carries them into the file.  Killed with SIGKILL it
 * forgets the rest, as a disk with a volatile cache does when the power goes.
 *
 *     nbdkit ./nbdkit-forgetful-plugin.so file=F [fua=native|none] [flush=yes|no] [fail=PATH]
 *
 * While a file PATH exists, every flush fails with EIO and, like many a disk, drops what it could
 * not write from its cache as if it had been written.  One request at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS
#define SECTOR 512

static char *file, *fail_path;
static bool has_native_fua = true, has_flush = true;
static int fd = -1;
static unsigned char *image;
static bool *is_dirty;
static uint64_t size;

static int forgetful_config(const char *key, const char *value)
{
    if (strcmp(key, "file") == 0) {
        file = nbdkit_realpath(value);
        return file ? 0 : -1;
    }
    if (strcmp(key, "fail") == 0) {
        fail_path = nbdkit_absolute_path(value);
        return fail_path ? 0 : -1;
    }
    if (strcmp(key, "fua") == 0)
        has_native_fua = strcmp(value, "native") == 0;
    else if (strcmp(key, "flush") == 0)
        has_flush = strcmp(value, "yes") == 0;
    else {
        nbdkit_error("unknown parameter %s", key);
        return -1;
    }
    return 0;
}

static int forgetful_get_ready(void)
{
    struct stat st;

    fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0 || fstat(fd, &st) < 0) {
        nbdkit_error("%s: %m", file ? file : "file=");
        return -1;
    }
    size = (uint64_t)st.st_size / SECTOR * SECTOR;
    image = malloc(size);
    is_dirty = calloc(size / SECTOR, sizeof *is_dirty);
    if (!image || !is_dirty || pread(fd, image, size, 0) != (ssize_t)size) {
        nbdkit_error("reading %s: %m", file);
        return -1;
    }
    return 0;
}

static void *forgetful_open(int readonly)
{
    (void)readonly;
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t forgetful_get_size(void *handle)
{
    (void)handle;
    return (int64_t)size;
}

static int forgetful_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                                uint32_t *maximum)
{
    (void)handle;
    *minimum = SECTOR;
    *preferred = 4096;
    *maximum = 1 << 20;
    return 0;
}

static int forgetful_can_flush(void *handle)
{
    (void)handle;
    return has_flush;
}

static int forgetful_can_fua(void *handle)
{
    (void)handle;
    return has_native_fua ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

static int forgetful_can_zero(void *handle)
{
    (void)handle;
    return 1;
}

static int forgetful_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    (void)flags;
    memcpy(buf, image + offset, count);
    return 0;
}

static int save(uint64_t offset, uint64_t count)
{
    if (pwrite(fd, image + offset, count, (off_t)offset) != (ssize_t)count) {
        nbdkit_error("writing %s: %m", file);
        return -1;
    }
    memset(is_dirty + offset / SECTOR, 0, count / SECTOR);
    return 0;
}

static int changed(uint64_t offset, uint32_t count, uint32_t flags)
{
    memset(is_dirty + offset / SECTOR, 1, count / SECTOR);
    return flags & NBDKIT_FLAG_FUA ? save(offset, count) : 0;
}

static int forgetful_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                            uint32_t flags)
{
    (void)handle;
    memcpy(image + offset, buf, count);
    return changed(offset, count, flags);
}

static int forgetful_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    memset(image + offset, 0, count);
    return changed(offset, count, flags);
}

static int forgetful_flush(void *handle, uint32_t flags)
{
    (void)handle;
    (void)flags;
    if (fail_path && access(fail_path, F_OK) == 0) {
        memset(is_dirty, 0, size / SECTOR);
        nbdkit_error("failing as told");
        nbdkit_set_error(EIO);
        return -1;
    }
    for (uint64_t i = 0; i < size / SECTOR; i++)
        if (is_dirty[i] && save(i * SECTOR, SECTOR) < 0)
            return -1;
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "forgetful",
    .version = "1",
    .config = forgetful_config,
    .magic_config_key = "file",
    .get_ready = forgetful_get_ready,
    .open = forgetful_open,
    .get_size = forgetful_get_size,
    .block_size = forgetful_block_size,
    .can_flush = forgetful_can_flush,
    .can_fua = forgetful_can_fua,
    .can_zero = forgetful_can_zero,
    .pread = forgetful_pread,
    .pwrite = forgetful_pwrite,
    .zero = forgetful_zero,
    .flush = forgetful_flush,
};

struct nbdkit_plugin *plugin_init(void);
NBDKIT_REGISTER_PLUGIN(plugin)
