/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-cache-kit: the filter kit drives the cache through every operation, event and cancel, in
 * each mode, with and without an SSD, on a real file, against its model.
 */
#include "host/host.h"
#include "unit.h"

#include <errno.h>

static char folder[200];

static void drive(const char *mode, const char *ssd_size)
{
    const char *top = getenv("top_builddir");
    char so[500], words[4][300];
    const char *list[4] = {words[0], words[1], words[2], words[3]};
    unsigned count = ssd_size ? 4 : 2;
    struct err e = {0};
    int r;

    snprintf(so, sizeof so, "%s/.libs/cache.so", top ? top : ".");
    snprintf(words[0], sizeof words[0], "mode=%s", mode);
    snprintf(words[1], sizeof words[1], "ram=256KiB");
    snprintf(words[2], sizeof words[2], "ssd.path=%s/%s-%s", folder, mode,
             ssd_size ? ssd_size : "");
    snprintf(words[3], sizeof words[3], "ssd.size=%s", ssd_size ? ssd_size : "");
    fprintf(stderr, "# %s, ssd %s\n", mode, ssd_size ? ssd_size : "none");
    r = host_kit_check(so, list, count, stderr, &e);
    CHECK_EQ(r, 0);
    if (r < 0)
        fprintf(stderr, "%s\n", e.text);
}

int main(void)
{
    const char *parent = getenv("TMPDIR");
    char command[300];

    snprintf(folder, sizeof folder, "%s/sluice-test-cache-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(folder))
        return 99;
    drive("write-through", NULL);
    drive("bypass", NULL);
    drive("write-back", "1MiB");
    drive("write-back", "16MiB");
    drive("write-through", "2MiB");
    drive("write-around", "2MiB");
    drive("read-only", "2MiB");
    drive("bypass", "2MiB");
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? unit_result() : 99;
}
