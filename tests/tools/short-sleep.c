/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * short-sleep: preloaded into a program that sleeps for minutes between two looks: it looks every
 * second.  Shorter sleeps stay as they are.
 */
#include <time.h>
#include <unistd.h>

#define LONGEST_S 10u

__attribute__((visibility("default"))) unsigned sleep(unsigned seconds)
{
    struct timespec time = {.tv_sec = seconds > LONGEST_S ? 1 : (time_t)seconds};

    return nanosleep(&time, NULL) == 0 ? 0 : (unsigned)time.tv_sec;
}
