/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-cache-kit: the filter kit drives the cache through every operation, event and cancel, in
 * each mode, with and without an SSD, on a real file, against its model.
 */
#include "host/host.h"
#include "unit.h"

#include <errno.h>

static char folder[200];

static void drive(const char *mode, const char *ssd_size, bool is_ordered)
{
    const char *top = getenv("top_builddir");
    char so[500], words[5][300];
    const char *list[5] = {words[0], words[1], words[2], words[3], words[4]};
    unsigned count = ssd_size ? 5 : 2;
    struct err e = {0};
    int r;

    snprintf(so, sizeof so, "%s/cache.so", top ? top : ".");
    snprintf(words[0], sizeof words[0], "mode=%s", mode);
    snprintf(words[1], sizeof words[1], "ram=256KiB");
    snprintf(words[2], sizeof words[2], "ssd.path=%s/%s-%s%s", folder, mode,
             ssd_size ? ssd_size : "", is_ordered ? "-ordered" : "");
    snprintf(words[3], sizeof words[3], "ssd.size=%s", ssd_size ? ssd_size : "");
    snprintf(words[4], sizeof words[4], "ordered=%s", is_ordered ? "true" : "false");
    fprintf(stderr, "# %s, ssd %s%s\n", mode, ssd_size ? ssd_size : "none",
            is_ordered ? ", ordered" : "");
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
    bool shows_races, is_ordered;
} tried[] = {
    {"write-through", NULL, false, false},  {"bypass", NULL, false, false},
    {"write-back", "1MiB", true, false},    {"write-back", "16MiB", false, false},
    {"write-through", "2MiB", true, false}, {"write-around", "2MiB", false, false},
    {"read-only", "2MiB", false, false},    {"bypass", "2MiB", false, false},
    {"write-back", "2MiB", false, true},
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
            drive(tried[i].mode, tried[i].ssd_size, tried[i].is_ordered);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? unit_result() : 99;
}
