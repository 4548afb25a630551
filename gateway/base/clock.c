/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * clock: CLOCK_MONOTONIC, and a cheaper counter for time spent on the hot path.
 *
 * The processor's time stamp counter is used only where it is invariant (runs at one rate in all
 * power states; CPUID 80000007h EDX bit 8) and the kernel did not find it unstable: then it falls
 * back to the HPET or the ACPI timer.  (In a guest its source may be the hypervisor's clock, which
 * itself stands on the TSC.)  Until clock_init() has run, ticks are nanoseconds.
 */
#include "base/base.h"

#include <stdio.h>
#include <string.h>

#define NS_PER_S 1000000000ull
#define CALIBRATION_NS 5000000ull

bool clock_ticks_are_tsc;
double clock_ns_per_tick = 1.0;

uint64_t clock_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

#if defined(__x86_64__)
#include <cpuid.h>

#define CPUID_POWER 0x80000007u
#define CPUID_POWER_INVARIANT_TSC (1u << 8)

static bool kernel_trusts_tsc(void)
{
    FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    char source[64] = "";
    bool trusts;

    if (!f)
        return false;
    trusts = fgets(source, sizeof source, f) && strncmp(source, "hpet", 4) != 0 &&
             strncmp(source, "acpi_pm", 7) != 0;
    fclose(f);
    return trusts;
}

static bool tsc_is_invariant(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(CPUID_POWER, &a, &b, &c, &d) && (d & CPUID_POWER_INVARIANT_TSC);
}

/* Both counters at one instant: of some attempts the one with the shortest gap. */
static void read_both(uint64_t *tsc, uint64_t *ns)
{
    uint64_t shortest = UINT64_MAX;

    for (int i = 0; i < 8; i++) {
        uint64_t before = __builtin_ia32_rdtsc(), now = clock_now_ns();
        uint64_t gap = __builtin_ia32_rdtsc() - before;

        if (gap >= shortest)
            continue;
        shortest = gap;
        *tsc = before + gap / 2;
        *ns = now;
    }
}

static void calibrate(void)
{
    const struct timespec pause = {.tv_nsec = CALIBRATION_NS};
    uint64_t tsc_first = 0, ns_first = 0, tsc_last = 0, ns_last = 0;

    if (!tsc_is_invariant() || !kernel_trusts_tsc())
        return;
    read_both(&tsc_first, &ns_first);
    nanosleep(&pause, NULL);
    read_both(&tsc_last, &ns_last);
    if (tsc_last <= tsc_first || ns_last <= ns_first)
        return;
    clock_ns_per_tick = (double)(ns_last - ns_first) / (double)(tsc_last - tsc_first);
    clock_ticks_are_tsc = true;
}
#else
static void calibrate(void)
{
}
#endif

void clock_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, calibrate);
}
