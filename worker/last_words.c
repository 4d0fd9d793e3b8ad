/* SPDX-License-Identifier: MIT */
/* Fatal signals: write the last words, then die of the same signal. Everything in the handler is
 * async-signal-safe (signal-safety(7)): it reads prepared tables, walks frame pointers inside this
 * thread's stack, and writes memory that the supervisor owns. Nothing here may allocate, lock or
 * call into stdio. */
#include "worker/last_words.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "common/monotonic.h"
#include "worker/symbols.h"

#define ALTERNATE_STACK_SIZE 65536

static struct last_words *words_place;
static uint64_t words_generation;

static _Thread_local enum channel_thread this_thread;
static _Thread_local uintptr_t stack_low, stack_high;
static _Thread_local const uint8_t *volatile guard_start;
static _Thread_local volatile size_t guard_size;
static _Thread_local sigjmp_buf *volatile guard_jump;

static void copy_text(char *to, size_t size, const char *from)
{
    size_t i = 0;
    for (; i < size - 1 && from[i]; i++)
        to[i] = from[i];
    to[i] = '\0';
}

static void add_frame(struct last_words *words, uintptr_t address)
{
    const char *name;
    if (words->frame_count >= LAST_WORDS_FRAMES)
        return;
    uint64_t relative = symbols_find(address, &name);
    words->frames[words->frame_count] = relative ? relative : address;
    copy_text(words->frame_names[words->frame_count], LAST_WORDS_NAME,
              relative ? name : "(library)");
    words->frame_count++;
}

/* Frame records are {caller's frame, return address}; each lies higher in the stack than the one
 * before. Code built without frame pointers breaks the chain: then it simply ends. */
static void walk_frames(struct last_words *words, uintptr_t frame)
{
    while (frame >= stack_low && frame + 2 * sizeof(uintptr_t) <= stack_high &&
           frame % sizeof(uintptr_t) == 0) {
        const uintptr_t *record = (const uintptr_t *)frame;
        if (record[1] == 0)
            return;
        add_frame(words, record[1]);
        if (record[0] <= frame)
            return;
        frame = record[0];
    }
}

struct registers {
    uintptr_t pc, stack, frame;
};

static struct registers context_registers(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (struct registers){(uintptr_t)context->uc_mcontext.gregs[REG_RIP],
                              (uintptr_t)context->uc_mcontext.gregs[REG_RSP],
                              (uintptr_t)context->uc_mcontext.gregs[REG_RBP]};
#elif defined(__aarch64__)
    return (struct registers){context->uc_mcontext.pc, context->uc_mcontext.sp,
                              context->uc_mcontext.regs[29]};
#else
    (void)context;
    return (struct registers){0};
#endif
}

static bool follows_call(uintptr_t address)
{
#if defined(__x86_64__)
    const uint8_t *code = (const uint8_t *)address;
    return code[-5] == 0xe8 || code[-6] == 0xff || code[-3] == 0xff || code[-2] == 0xff;
#else
    (void)address;
    return true;
#endif
}

/* Died inside a library that was built without frame pointers: the frame register still belongs to
 * the function of ours that called it, and the walk would begin with that one's caller. What it
 * called from lies on the stack below. */
static void add_caller(struct last_words *words, const struct registers *at)
{
    const char *name;
    if (symbols_find(at->pc, &name) || at->stack % sizeof(uintptr_t) || at->stack < stack_low)
        return;
    for (uintptr_t slot = at->stack; slot < at->frame && slot + sizeof slot <= stack_high;
         slot += sizeof slot) {
        uintptr_t address = *(const uintptr_t *)slot;
        if (symbols_find(address, &name) && name[0] && follows_call(address)) {
            add_frame(words, address);
            return;
        }
    }
}

/* Only the first dying thread speaks. NULL: another one does, or there is no place. */
static struct last_words *begin_words(void)
{
    uint32_t none = 0;
    struct last_words *words = words_place;
    if (!words || !atomic_compare_exchange_strong(&words->state, &none, 1))
        return NULL;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    words->signal = 0;
    words->code = 0;
    words->address = 0;
    words->sender = 0;
    words->text[0] = '\0';
    words->thread = this_thread;
    words->time_ns = timespec_ns(&now);
    words->generation = words_generation;
    words->frame_count = 0;
    return words;
}

static void handle_fatal(int signal_number, siginfo_t *info, void *context)
{
    const uint8_t *start = guard_start;
    const uint8_t *address = info->si_addr;
    if (signal_number == SIGBUS && start && address >= start && address < start + guard_size)
        siglongjmp(*guard_jump, 1);

    struct last_words *words = begin_words();
    if (words) {
        words->signal = signal_number;
        words->code = info->si_code;
        words->address =
            info->si_code > 0 ? (uintptr_t)info->si_addr : 0; /* <= 0: sent by somebody */
        words->sender = info->si_code > 0 ? 0 : (uint32_t)info->si_pid;
        struct registers at = context_registers(context);
        add_frame(words, at.pc);
        add_caller(words, &at);
        walk_frames(words, at.frame);
        atomic_store(&words->state, 2);
    } else if (words_place && words_place->signal == 0) {
        words_place->signal = signal_number; /* abort() after an assertion's text */
        words_place->code = info->si_code;
        words_place->sender = info->si_code > 0 ? 0 : (uint32_t)info->si_pid;
        atomic_store(&words_place->state, 2);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number); /* blocked or not: the process ends with it when the handler returns */
}

/* Takes the place of the C library's: an assertion's text belongs to the last words. */
void __assert_fail(const char *assertion, const char *file, unsigned line, const char *function)
{
    struct last_words *words = begin_words();
    if (words) {
        char *at = words->text, *end = words->text + sizeof words->text;
        char digits[12];
        size_t count = sizeof digits - 1;
        digits[count] = '\0';
        do
            digits[--count] = (char)('0' + line % 10);
        while ((line /= 10) && count > 0);
        const char *parts[] = {
            file, ":", digits + count, ": ", function, ": assertion failed: ", assertion};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            copy_text(at, (size_t)(end - at), parts[i]);
            at += strnlen(at, (size_t)(end - at) - 1);
        }
        words->signal = 0;
        walk_frames(words, (uintptr_t)__builtin_frame_address(0));
        ssize_t ignored =
            write(STDERR_FILENO, words->text, strnlen(words->text, sizeof words->text));
        ignored = write(STDERR_FILENO, "\n", 1) + ignored;
        (void)ignored; /* the text is safe in the page; stderr is a courtesy */
    }
    abort();
}

void last_words_prepare(void)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGSYS, SIGTRAP};
    struct sigaction action = {.sa_sigaction = handle_fatal};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        /* A guarded SIGBUS jumps out of the handler and may come again. */
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | (fatal[i] == SIGBUS ? SA_NODEFER : 0);
        sigaction(fatal[i], &action, NULL);
    }
    last_words_thread(CHANNEL_THREAD_CONTROL);
}

void last_words_open(struct last_words *place, uint64_t generation)
{
    atomic_store(&place->state, 0);
    words_generation = generation;
    words_place = place;
}

void last_words_thread(enum channel_thread thread)
{
    pthread_attr_t attributes;
    void *low;
    size_t size;
    this_thread = thread;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        if (pthread_attr_getstack(&attributes, &low, &size) == 0) {
            stack_low = (uintptr_t)low;
            stack_high = stack_low + size;
        }
        pthread_attr_destroy(&attributes);
    }
    /* A stack that overflowed can't run a handler. The memory is the thread's for the process's
     * life. */
    void *memory = mmap(NULL, ALTERNATE_STACK_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED)
        sigaltstack(&(stack_t){.ss_sp = memory, .ss_size = ALTERNATE_STACK_SIZE}, NULL);
}

void last_words_guard(const void *start, size_t size, sigjmp_buf *jump)
{
    guard_start = NULL; /* never a start with another guard's size */
    guard_size = size;
    guard_jump = jump;
    atomic_signal_fence(memory_order_seq_cst);
    guard_start = start;
}
