/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hangup.c: nbdkit before 1.34 aborts the whole process when a client hangs up while several of its
 * replies are being sent: one worker sees the broken pipe and gives up the socket, another one that
 * already waited for its turn to send finds none ("raw_send_socket: Assertion `sock >= 0'").  That
 * would take every other client of the gateway with it.
 *
 * So nbdkit's calls of __assert_fail are led here (imports.c).  Where it is that assertion and
 * nothing else, raw_send_socket returns 0 to its caller, as if it had sent what nobody is there to
 * receive: the connection is known to be dead by then, so its workers end with the reply they are
 * at, and nbdkit closes it as ever.  Any other assertion fails as it would have.
 *
 * The return is made by the unwinder: the second frame of nbdkit's program, seen from here, is the
 * caller, and setcontext() goes there with the registers it had.  raw_send_socket has nothing to
 * release at that point.  Only on x86-64; elsewhere nbdkit is as it is.
 */
#include "plugin.h"

#ifdef __x86_64__
#include <assert.h>
#include <dlfcn.h>
#include <string.h>
#include <ucontext.h>
#include <unwind.h>

/* --- the return ---------------------------------------------------------------------------------
 */

/* What a function keeps for its caller: DWARF's numbers (System V ABI for x86-64, figure 3.36). */
static const struct {
    int dwarf, context;
} kept[] = {{3, REG_RBX}, {6, REG_RBP}, {12, REG_R12}, {13, REG_R13}, {14, REG_R14}, {15, REG_R15}};

struct walk {
    ucontext_t *context;
    const void *program; /* where nbdkit's program is loaded */
    bool is_in_program, is_done;
};

static const void *object_of(const void *address)
{
    Dl_info info;

    return dladdr(address, &info) != 0 ? info.dli_fbase : NULL;
}

static void take_registers(struct _Unwind_Context *caller, ucontext_t *context)
{
    greg_t *to = context->uc_mcontext.gregs;

    for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
        to[kept[i].context] = (greg_t)_Unwind_GetGR(caller, kept[i].dwarf);
    to[REG_RSP] = (greg_t)_Unwind_GetCFA(caller);
    to[REG_RIP] = (greg_t)_Unwind_GetIP(caller);
}

static _Unwind_Reason_Code visit(struct _Unwind_Context *frame, void *arg)
{
    struct walk *w = arg;

    if (w->is_in_program) {
        take_registers(frame, w->context);
        w->is_done = true;
        return _URC_END_OF_STACK;
    }
    /* A return address may lie behind the end of a function whose last call does not return. */
    w->is_in_program = object_of((const char *)_Unwind_GetIP(frame) - 1) == w->program;
    return _URC_NO_REASON;
}

/* Makes the function that asserted return 0, which setcontext() does; returns only if it cannot. */
static void return_zero(void)
{
    ucontext_t context;
    struct walk w = {.context = &context, .program = object_of((const void *)nbdkit_error)};

    if (!w.program || getcontext(&context) != 0)
        return;
    _Unwind_Backtrace(visit, &w);
    if (w.is_done)
        setcontext(&context);
}

static void on_assertion(const char *assertion, const char *file, unsigned line,
                         const char *function)
{
    if (strcmp(function, "raw_send_socket") == 0 && strcmp(assertion, "sock >= 0") == 0)
        return_zero();
    __assert_fail(assertion, file, line, function);
}

void hangup_guard(void)
{
    if (imports_lead("__assert_fail", (void *)on_assertion) < 0 && NBDKIT_VERSION_MINOR < 34)
        log_line(LOG_LEVEL_WARNING,
                 "this nbdkit ends with all its clients when one hangs up amid its replies, and "
                 "cannot be kept from it: use nbdkit 1.34 or later");
}

#else

void hangup_guard(void)
{
}

#endif
