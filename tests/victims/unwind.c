/* unwind: allocates from places that are hard to unwind, and knows its callers.
 *
 * Each case allocates in a function of its own, once; the truth names the functions on the stack there, innermost
 * first, without library functions. With -fomit-frame-pointer (as compiled by the tests) nothing here can be unwound by
 * frame pointers. */
#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include "victim.h"

static void *held[64];
static unsigned held_count;

/* An allocating function, named after its case. */
#define LEAF(name)                                                                                       \
    SITE static void name(void) { held[held_count++ % 64] = malloc(32); }

LEAF(leaf_signal)
LEAF(leaf_alternate)
LEAF(leaf_interrupted)
LEAF(leaf_alloca)
LEAF(leaf_aligned)
LEAF(leaf_aligned_arguments)
LEAF(leaf_recursion)
LEAF(leaf_noreturn)
LEAF(leaf_thread)
LEAF(leaf_coroutine)
LEAF(leaf_callback)
LEAF(leaf_lost)
LEAF(leaf_framed)
LEAF(leaf_step)

static void (*signal_leaf)(void);

/* Signals, on the normal and on an alternate stack. */
SITE static void on_signal(int number) {
    (void)number;
    signal_leaf();
}

SITE static void raise_signal(int flags, void (*leaf)(void)) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
    signal_leaf = leaf;
    raise(SIGUSR1);
}

/* A function whose first instruction faults: the address before it belongs to another one. */
void first_faults(void);
__asm__(".pushsection .text\n"
        ".type before_it, @function\n"
        "before_it:\n.cfi_startproc\n.cfi_undefined rip\nint3\n.cfi_endproc\n.size before_it, .-before_it\n"
        ".globl first_faults\n.type first_faults, @function\n"
        "first_faults:\n.cfi_startproc\nud2\nret\n.cfi_endproc\n.size first_faults, .-first_faults\n"
        ".popsection\n");

SITE static void on_fault(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    leaf_interrupted();
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

SITE static void fault(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, NULL);
    first_faults();
}

/* Frames of unusual forms. */
SITE static void variable_frame(size_t size) {
    volatile char *room = alloca(size);
    room[0] = 1;
    leaf_alloca();
    room[size - 1] = 1;
}

SITE __attribute__((target("avx"))) static void aligned_frame(void) {
    volatile char room[192] __attribute__((aligned(64)));
    room[0] = 1;
    leaf_aligned();
    __asm__ volatile("" ::"r"(room) : "memory");
}

/* Arguments on the stack and a realigned stack: the frame is found through a saved pointer. */
SITE static long aligned_arguments(long a, long b, long c, long d, long e, long f, long g, size_t size) {
    volatile char room[192] __attribute__((aligned(64)));
    volatile char *more = alloca(size);
    room[0] = more[0] = 1;
    leaf_aligned_arguments();
    return a + b + c + d + e + f + g + room[0] + more[0];
}

SITE static void recursion(int depth) {
    if (depth > 1) recursion(depth - 1);
    else leaf_recursion();
}

/* The call is the function's last instruction: it would return into the next function. */
static jmp_buf way_out;
SITE __attribute__((noreturn)) static void never_returns(void) {
    leaf_noreturn();
    longjmp(way_out, 1);
}
SITE __attribute__((noreturn)) static void ends_with_a_call(void) { never_returns(); }
SITE static void leaves_by_jump(void) {
    if (setjmp(way_out) == 0) ends_with_a_call();
}

/* Other stacks. */
SITE static void *thread_main(void *unused) {
    leaf_thread();
    return unused;
}

static ucontext_t here, coroutine;
SITE static void coroutine_main(void) { leaf_coroutine(); }
SITE static void run_coroutine(void) {
    static char stack[1 << 16] __attribute__((aligned(16)));
    getcontext(&coroutine);
    coroutine.uc_stack = (stack_t){.ss_sp = stack, .ss_size = sizeof stack};
    coroutine.uc_link = &here;
    makecontext(&coroutine, coroutine_main, 0);
    swapcontext(&here, &coroutine);
}

static int compared;
SITE static int compare(const void *one, const void *other) {
    if (compared++ == 0) leaf_callback();
    return *(const int *)one - *(const int *)other;
}
SITE static void sort(void) {
    int numbers[] = {2, 1};
    qsort(numbers, 2, sizeof *numbers, compare);
}

/* No unwind table, and a frame pointer register with an unrelated value. */
void calls_without_table(void (*leaf)(void));
__asm__(".pushsection .text\n"
        ".type calls_without_table, @function\n"
        "calls_without_table:\n"
        "push %rbp\n"
        "mov $0x1235, %ebp\n"
        "call *%rdi\n"
        "pop %rbp\n"
        "ret\n"
        /* Space: bytes between two functions may be padding. */
        ".fill 64, 1, 0x90\n"
        ".size calls_without_table, .-calls_without_table\n"
        ".popsection\n");
SITE static void lose_frames(void) { calls_without_table(leaf_lost); }

/* No unwind table, but a frame pointer. */
void keeps_frame(void (*leaf)(void));
__asm__(".pushsection .text\n"
        ".type keeps_frame, @function\n"
        "keeps_frame:\n"
        "push %rbp\n"
        "mov %rsp, %rbp\n"
        "sub $64, %rsp\n"
        "call *%rdi\n"
        "leave\n"
        "ret\n"
        ".fill 64, 1, 0x90\n"
        ".size keeps_frame, .-keeps_frame\n"
        ".popsection\n");
SITE static void framed(void) { keeps_frame(leaf_framed); }

/* Single-steps through a call that the loader binds lazily: PLT, resolver, prologue, epilogue. The trap comes after
 * each instruction. */
SITE static void on_step(int number) {
    (void)number;
    leaf_step();
}
SITE static void step_through(void) {
    struct sigaction action = {.sa_handler = on_step};
    sigaction(SIGTRAP, &action, NULL);
    /* The flags are on the stack for two instructions: the table describes that, for frames found by %rsp. */
    __asm__ volatile("pushfq\norl $0x100, (%%rsp)\npopfq" ::: "cc", "memory");
    long volatile parent = labs(getppid());
    __asm__ volatile("pushfq\n.cfi_adjust_cfa_offset 8\nandl $~0x100, (%%rsp)\n"
                     "popfq\n.cfi_adjust_cfa_offset -8" ::: "cc", "memory");
    (void)parent;
}

int main(void) {
    ready();
    raise_signal(0, leaf_signal);
    static char alternate[1 << 16];
    sigaltstack(&(stack_t){.ss_sp = alternate, .ss_size = sizeof alternate}, NULL);
    raise_signal(SA_ONSTACK, leaf_alternate);
    fault();
    variable_frame(1000);
    aligned_frame();
    aligned_arguments(1, 2, 3, 4, 5, 6, 7, 100);
    recursion(200);
    leaves_by_jump();
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_main, NULL) != 0) _exit(4);
    pthread_join(thread, NULL);
    run_coroutine();
    sort();
    lose_frames();
    framed();
    step_through();
    say("{\"first_faults\":\"%p\",\"stacks\":{"
        "\"leaf_signal\":[\"on_signal\",\"raise_signal\",\"main\",\"_start\"],"
        "\"leaf_alternate\":[\"on_signal\",\"raise_signal\",\"main\",\"_start\"],",
        (void *)first_faults);
    say("\"leaf_framed\":[\"keeps_frame\",\"framed\",\"main\",\"_start\"],"
        "\"leaf_alloca\":[\"variable_frame\",\"main\",\"_start\"],"
        "\"leaf_aligned\":[\"aligned_frame\",\"main\",\"_start\"],"
        "\"leaf_aligned_arguments\":[\"aligned_arguments\",\"main\",\"_start\"],"
        "\"leaf_noreturn\":[\"never_returns\",\"ends_with_a_call\",\"leaves_by_jump\",\"main\",\"_start\"],");
    say("\"leaf_thread\":[\"thread_main\"],"
        "\"leaf_callback\":[\"compare\",\"sort\",\"main\",\"_start\"]}}\n");
    await_word("exit");
    _exit(0);
}
