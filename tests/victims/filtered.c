/* filtered [COUNT]: like a server in a sandbox: a seccomp filter kills the process at any system call that was unknown
 * when the filter was written, among them the one behind newer kernels' return probes. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "victim.h"

/* The last number of the first table; those of 2019 and later begin with 424, uretprobe is 335. */
enum { LAST_KNOWN = 334, MOST = 100000 };

static struct tally truth[] = {{.site = "keep", .kind = "heap"}, {.site = "make_request", .kind = "heap"}};
static void *kept[MOST];

SITE static void *keep(size_t size) { return malloc(size); }
SITE static void *make_request(void) { return malloc(500); }

static void filter(void) {
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, LAST_KNOWN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof rules / sizeof *rules, .filter = rules};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(4);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(5);
}

int main(int argc, char **argv) {
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
    if (count > MOST) return 2;
    filter();
    ready();
    for (size_t i = 0; i < count; i++) {
        kept[i] = keep(16 + i % 300);
        took(&truth[0], 16 + i % 300);
        free(make_request());
        took(&truth[1], 500);
        gave(&truth[1], 500);
    }
    print_truth(truth, 2, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
