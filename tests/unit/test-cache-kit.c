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

#ifdef __SANITIZE_THREAD__
#define LOOKS_FOR_RACES true
#else
#define LOOKS_FOR_RACES false
#endif

/* Under the thread sanitizer, where one takes half a minute, those that share their code with none.
 */
static const struct {
    const char *mode, *ssd_size;
    bool shows_races;
} tried[] = {
    {"write-through", NULL, false},  {"bypass", NULL, false},
    {"write-back", "1MiB", true},    {"write-back", "16MiB", false},
    {"write-through", "2MiB", true}, {"write-around", "2MiB", false},
    {"read-only", "2MiB", false},    {"bypass", "2MiB", false},
};

int main(void)
{
    const char *parent = getenv("TMPDIR");
    char command[300];

    snprintf(folder, sizeof folder, "%s/sluice-test-cache-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(folder))
        return 99;
    for (size_t i = 0; i < ARRAY_SIZE(tried); i++)
        if (tried[i].shows_races || !LOOKS_FOR_RACES)
            drive(tried[i].mode, tried[i].ssd_size);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? unit_result() : 99;
}
