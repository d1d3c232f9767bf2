/* witness: an independent count of what an exam program holds, by call path. Loaded with LD_PRELOAD.
 *
 * It records each block, mapping, descriptor and thread by its address or number, from the program's read(2) of `go`
 * until its first `{` on stdout, in all of its processes. Then it writes to the file named by EXAM_WITNESS one line for
 * each call path with something left, and stops counting:
 *
 *     heap|mmap|descriptor|thread  PROCESS  COUNT  BYTES  OFFSET…
 *
 * PROCESS is 0 for the first one and a number for each forked one that has not ended; OFFSETs are the return addresses
 * within the program's file, innermost first, and `NAME:OFFSET` those within a shared object beside it, which may be
 * unloaded by then. Before each return address is the address after the first byte of the function that was called
 * there, if the call says which: it is no longer on the stack if it ended in a tail jump. The witness knows nothing of
 * exam.h but the protocol, and sees only calls that the program makes into the C library, not the system calls of the C
 * library itself. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind { HEAP, MMAP, DESCRIPTOR, THREAD };
static const char *const kinds[] = {"heap", "mmap", "descriptor", "thread"};

/* Sizes: at most 2 million objects at once; 65,536 call paths (one per forked process); frames beyond 24 are callers of
 * `main` or of a thread's function in all exam programs. Memory is touched only as far as it is used. */
enum { OBJECTS = 1 << 21, BUCKETS = 1 << 18, PATHS = 1 << 16, FRAMES = 24, PROCESSES = 1 << 16 };
/* The program and the shared objects beside it; the largest has a few. */
enum { FILES = 8, FILE_SHIFT = 48 };

struct object {
    uintptr_t handle;
    size_t size;
    uint32_t next, path, process;
    uint8_t kind;
};
struct path {
    long count, bytes;
    uint32_t process;
    uint8_t kind, length, used;
    uintptr_t frames[2 * FRAMES]; /* with the function called at each; the file's number in the upper bits */
};
enum { DETACHED = 1, ENDED = 2 }; /* of a thread, in place of a size */
/* In memory that forked processes share. */
static struct shared {
    pthread_mutex_t lock;
    int counting;
    uint32_t processes, objects, unused, buckets[BUCKETS];
    uint8_t ended[PROCESSES];
    char files[FILES][64]; /* their names; that of the program is empty */
    struct object object[OBJECTS]; /* 0 is none */
    struct path path[PATHS];
} *shared;
static uint32_t process;
static struct code { /* of the program, and of the shared objects beside it that are loaded */
    uintptr_t start, end, base;
    uint32_t file;
} codes[FILES];
static int codes_length;
static char folder[4096]; /* of the program, with the last slash */
static __thread int inside;

/* The C library's own `syscall`, also before this library is set up. */
static long (*real_syscall)(long, ...);
static long (*find_syscall(void))(long, ...) {
    if (real_syscall == NULL) *(void **)&real_syscall = dlsym(RTLD_NEXT, "syscall");
    return real_syscall;
}
#define kernel(...) find_syscall()(__VA_ARGS__)

static pthread_mutex_t creating = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t at_end;
static int (*real_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static int (*real_join)(pthread_t, void **), (*real_detach)(pthread_t), (*real_closedir)(DIR *), (*real_fclose)(FILE *);
static DIR *(*real_opendir)(const char *);
static FILE *(*real_fopen)(const char *, const char *);
static void *(*real_dlopen)(const char *, int);
static int (*real_dlclose)(void *);

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

__attribute__((noreturn)) static void fail(const char *what) {
    kernel(SYS_write, 2, what, strlen(what));
    kernel(SYS_exit_group, 5);
    __builtin_unreachable();
}

static uint32_t number_of_file(const char *name) {
    uint32_t file = 0;
    pthread_mutex_lock(&shared->lock);
    while (file < FILES && strcmp(shared->files[file], name) != 0 && (file == 0 || shared->files[file][0] != 0)) file++;
    if (file == FILES) fail("witness: too many shared objects\n");
    snprintf(shared->files[file], sizeof shared->files[file], "%s", name);
    pthread_mutex_unlock(&shared->lock);
    return file;
}

struct found {
    struct code codes[FILES];
    int length;
};

static int add_code(struct dl_phdr_info *info, size_t size, void *data) {
    struct found *found = (struct found *)data;
    size_t length = strlen(folder);
    const char *name = info->dlpi_name; /* that of the program is empty */
    (void)size;
    if (name[0] != 0) {
        if (strncmp(name, folder, length) != 0 || strstr(name, "witness") != NULL) return 0;
        name += length;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_X)) continue;
        if (found->length == FILES) fail("witness: too many shared objects\n");
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        found->codes[found->length++] =
            (struct code){start, start + header->p_memsz, info->dlpi_addr, number_of_file(name)};
    }
    return 0;
}

/* At the beginning, and when a shared object was loaded or unloaded. The linker's lock is never taken within the own one:
 * the linker allocates while it holds its lock. */
static void find_codes(void) {
    struct found found = {.length = 0};
    dl_iterate_phdr(add_code, &found);
    pthread_mutex_lock(&shared->lock);
    memcpy(codes, found.codes, sizeof codes);
    codes_length = found.length;
    pthread_mutex_unlock(&shared->lock);
}

static const struct code *code_at(uintptr_t address) {
    for (const struct code *code = codes; code < codes + codes_length; code++)
        if (address >= code->start && address < code->end) return code;
    return NULL;
}

static void in_child(void) {
    process = __atomic_add_fetch(&shared->processes, 1, __ATOMIC_RELAXED);
    if (process >= PROCESSES) fail("witness: too many processes\n");
}

static void thread_ended(void *);

__attribute__((constructor)) static void set_up(void) {
    void *frames[2];
    pthread_mutexattr_t attributes;
    struct shared *memory = (struct shared *)kernel(SYS_mmap, NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                                     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("witness: no memory\n");
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&memory->lock, &attributes);
    memory->objects = 1;
    ssize_t length = kernel(SYS_readlink, "/proc/self/exe", folder, sizeof folder - 1);
    while (length > 0 && folder[length - 1] != '/') length--;
    folder[length > 0 ? length : 0] = 0;
    backtrace(frames, 2); /* loads the unwinder */
    *(void **)&real_create = dlsym(RTLD_NEXT, "pthread_create");
    *(void **)&real_join = dlsym(RTLD_NEXT, "pthread_join");
    *(void **)&real_detach = dlsym(RTLD_NEXT, "pthread_detach");
    *(void **)&real_opendir = dlsym(RTLD_NEXT, "opendir");
    *(void **)&real_closedir = dlsym(RTLD_NEXT, "closedir");
    *(void **)&real_fopen = dlsym(RTLD_NEXT, "fopen");
    *(void **)&real_fclose = dlsym(RTLD_NEXT, "fclose");
    *(void **)&real_dlopen = dlsym(RTLD_NEXT, "dlopen");
    *(void **)&real_dlclose = dlsym(RTLD_NEXT, "dlclose");
    pthread_atfork(NULL, NULL, in_child);
    pthread_key_create(&at_end, thread_ended);
    shared = memory;
    find_codes();
}

static int is_counting(void) {
    return shared != NULL && __atomic_load_n(&shared->counting, __ATOMIC_RELAXED) && !inside;
}

/* Where the call before a return address goes; 0 if it does not say. The lock is held. */
static uintptr_t called_before(uintptr_t address) {
    enum { CALL = 0xE8, LENGTH = 5 }; /* with a distance of 32 bits, of x86-64 */
    const struct code *code = code_at(address);
    const uint8_t *call = (const uint8_t *)(address - LENGTH);
    int32_t distance;
    if (code == NULL || address - code->start < LENGTH || call[0] != CALL) return 0;
    memcpy(&distance, call + 1, sizeof distance);
    return address + (uintptr_t)(intptr_t)distance;
}

static void add_frame(struct path *path, uintptr_t address, uint64_t *hash) {
    const struct code *code = code_at(address);
    if (code == NULL || path->length == 2 * FRAMES) return;
    uintptr_t frame = (uintptr_t)code->file << FILE_SHIFT | (address - code->base);
    path->frames[path->length++] = frame;
    *hash = (*hash ^ frame) * 0x9E3779B97F4A7C15u;
}

static uint32_t find_path(enum kind kind) {
    struct path path = {.process = process, .kind = (uint8_t)kind, .used = 1};
    void *frames[FRAMES + 8];
    uint64_t hash = kind * 31 + process;
    inside = 1;
    int length = backtrace(frames, FRAMES + 8);
    inside = 0;
    pthread_mutex_lock(&shared->lock);
    for (int i = 0; i < length && path.length < 2 * FRAMES; i++) {
        uintptr_t frame = (uintptr_t)frames[i], called = called_before(frame);
        if (called != 0) add_frame(&path, called + 1, &hash);
        add_frame(&path, frame, &hash);
    }
    pthread_mutex_unlock(&shared->lock);
    for (uint32_t at = hash >> 48, tries = 0; tries < PATHS; at = (at + 1) % PATHS, tries++) {
        struct path *found = &shared->path[at];
        pthread_mutex_lock(&shared->lock);
        if (!found->used) *found = path;
        pthread_mutex_unlock(&shared->lock);
        if (found->kind == path.kind && found->process == process && found->length == path.length &&
            memcmp(found->frames, path.frames, sizeof path.frames) == 0)
            return at;
    }
    fail("witness: too many call paths\n");
}

static uint32_t *bucket_of(enum kind kind, uintptr_t handle) {
    uint64_t hash = (handle + ((uint64_t)process << 48) + kind) * 0x9E3779B97F4A7C15u;
    return &shared->buckets[hash >> 46];
}

static void note_at(uint32_t path, enum kind kind, uintptr_t handle, size_t size) {
    pthread_mutex_lock(&shared->lock);
    uint32_t at = shared->unused, *bucket = bucket_of(kind, handle);
    if (at != 0) shared->unused = shared->object[at].next;
    else if ((at = shared->objects++) >= OBJECTS) fail("witness: too many objects\n");
    shared->object[at] = (struct object){handle, size, *bucket, path, process, (uint8_t)kind};
    *bucket = at;
    shared->path[path].count++;
    shared->path[path].bytes += (long)size;
    pthread_mutex_unlock(&shared->lock);
}

static void note(enum kind kind, uintptr_t handle, size_t size) {
    if (!is_counting()) return;
    int saved = errno;
    note_at(find_path(kind), kind, handle, size);
    errno = saved;
}

/* Where the object is linked; where a 0 is if it is from before, or of another process. */
static uint32_t *find(enum kind kind, uintptr_t handle) {
    uint32_t *link = bucket_of(kind, handle);
    while (*link != 0) {
        const struct object *object = &shared->object[*link];
        if (object->handle == handle && object->kind == kind && object->process == process) break;
        link = &shared->object[*link].next;
    }
    return link;
}

static void unlink_object(uint32_t *link) {
    uint32_t at = *link;
    struct object *object = &shared->object[at];
    shared->path[object->path].count--;
    shared->path[object->path].bytes -= (long)object->size;
    *link = object->next;
    object->next = shared->unused;
    shared->unused = at;
}

static void forget(enum kind kind, uintptr_t handle) {
    if (!is_counting()) return;
    pthread_mutex_lock(&shared->lock);
    uint32_t *link = find(kind, handle);
    if (*link != 0) unlink_object(link);
    pthread_mutex_unlock(&shared->lock);
}

/* --- Heap --- */

static void *block(void *address, size_t size) {
    if (address != NULL) note(HEAP, (uintptr_t)address, size);
    return address;
}

void *malloc(size_t size) { return block(__libc_malloc(size), size); }
void *calloc(size_t n, size_t size) { return block(__libc_calloc(n, size), n * size); }
void free(void *address) {
    if (address != NULL) forget(HEAP, (uintptr_t)address);
    __libc_free(address);
}
void *realloc(void *old, size_t size) {
    if (old != NULL) forget(HEAP, (uintptr_t)old); /* first: another thread may get the old address at once */
    void *address = __libc_realloc(old, size);
    if (address == NULL && size != 0 && old != NULL) fail("witness: realloc failed\n");
    return block(address, size);
}
void *reallocarray(void *old, size_t n, size_t size) { return realloc(old, n * size); }
void *memalign(size_t align, size_t size) { return block(__libc_memalign(align, size), size); }
void *aligned_alloc(size_t align, size_t size) { return block(__libc_memalign(align, size), size); }
int posix_memalign(void **to, size_t align, size_t size) {
    *to = block(__libc_memalign(align, size), size);
    return *to == NULL ? ENOMEM : 0;
}

/* --- Mappings, whole ones --- */

void *mmap(void *address, size_t size, int protection, int flags, int file, off_t at) {
    void *mapping = (void *)kernel(SYS_mmap, address, size, protection, flags, file, at);
    if (mapping != MAP_FAILED) note(MMAP, (uintptr_t)mapping, size);
    return mapping;
}
int munmap(void *address, size_t size) {
    forget(MMAP, (uintptr_t)address);
    return (int)kernel(SYS_munmap, address, size);
}

/* --- Threads: until they are joined, or have ended if they are detached --- */

struct start {
    void *(*work)(void *), *argument;
};

static void *run_thread(void *argument) {
    struct start own = *(struct start *)argument;
    __libc_free(argument);
    pthread_setspecific(at_end, &at_end); /* any value */
    return own.work(own.argument);
}

static void set_thread(pthread_t thread, size_t state) {
    if (!is_counting()) return;
    pthread_mutex_lock(&shared->lock);
    uint32_t *link = find(THREAD, (uintptr_t)thread);
    if (*link != 0) {
        struct object *object = &shared->object[*link];
        object->size |= state;
        shared->path[object->path].bytes += (long)state;
        if (object->size == (DETACHED | ENDED)) unlink_object(link);
    }
    pthread_mutex_unlock(&shared->lock);
}

static void thread_ended(void *unused) {
    (void)unused;
    pthread_mutex_lock(&creating); /* until it is noted */
    pthread_mutex_unlock(&creating);
    set_thread(pthread_self(), ENDED);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *), void *argument) {
    int state = PTHREAD_CREATE_JOINABLE;
    struct start *own = (struct start *)__libc_malloc(sizeof *own);
    if (attributes != NULL) pthread_attr_getdetachstate(attributes, &state);
    if (own == NULL) fail("witness: no memory\n");
    *own = (struct start){work, argument};
    pthread_mutex_lock(&creating);
    int result = real_create(thread, attributes, run_thread, own);
    if (result == 0) note(THREAD, (uintptr_t)*thread, state == PTHREAD_CREATE_DETACHED ? DETACHED : 0);
    pthread_mutex_unlock(&creating);
    return result;
}
int pthread_join(pthread_t thread, void **result) {
    forget(THREAD, (uintptr_t)thread);
    return real_join(thread, result);
}
int pthread_detach(pthread_t thread) {
    set_thread(thread, DETACHED);
    return real_detach(thread);
}

/* --- Descriptors --- */

static int descriptor(long number) {
    if (number >= 0) note(DESCRIPTOR, (uintptr_t)number, 0);
    return (int)number;
}
static int two(int result, const int ends[2]) {
    if (result == 0) descriptor(ends[0]), descriptor(ends[1]);
    return result;
}

int socket(int domain, int type, int protocol) { return descriptor(kernel(SYS_socket, domain, type, protocol)); }
int accept4(int listener, struct sockaddr *address, socklen_t *size, int flags) {
    return descriptor(kernel(SYS_accept4, listener, address, size, flags));
}
int accept(int listener, struct sockaddr *address, socklen_t *size) {
    return descriptor(kernel(SYS_accept4, listener, address, size, 0));
}
int socketpair(int domain, int type, int protocol, int ends[2]) {
    return two((int)kernel(SYS_socketpair, domain, type, protocol, ends), ends);
}
int pipe2(int ends[2], int flags) { return two((int)kernel(SYS_pipe2, ends, flags), ends); }
int pipe(int ends[2]) { return two((int)kernel(SYS_pipe2, ends, 0), ends); }
int eventfd(unsigned int value, int flags) { return descriptor(kernel(SYS_eventfd2, value, flags)); }
int timerfd_create(int clock, int flags) { return descriptor(kernel(SYS_timerfd_create, clock, flags)); }
int epoll_create1(int flags) { return descriptor(kernel(SYS_epoll_create1, flags)); }
int epoll_create(int size) { return descriptor(kernel(SYS_epoll_create, size)); }
int signalfd(int old, const sigset_t *signals, int flags) {
    enum { KERNEL_SIZE = 8 };
    long number = kernel(SYS_signalfd4, old, signals, KERNEL_SIZE, flags);
    return old >= 0 ? (int)number : descriptor(number);
}
int inotify_init1(int flags) { return descriptor(kernel(SYS_inotify_init1, flags)); }
int inotify_init(void) { return descriptor(kernel(SYS_inotify_init1, 0)); }
int memfd_create(const char *name, unsigned int flags) { return descriptor(kernel(SYS_memfd_create, name, flags)); }
int pidfd_open(pid_t pid, unsigned int flags) { return descriptor(kernel(SYS_pidfd_open, pid, flags)); }
int dup(int old) { return descriptor(kernel(SYS_dup, old)); }
int dup3(int old, int number, int flags) {
    forget(DESCRIPTOR, (uintptr_t)number);
    return descriptor(kernel(SYS_dup3, old, number, flags));
}
int dup2(int old, int number) { return old == number ? number : dup3(old, number, 0); }
int openat(int folder, const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, int) : 0;
    va_end(rest);
    return descriptor(kernel(SYS_openat, folder, path, flags, mode));
}
int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, int) : 0;
    va_end(rest);
    return descriptor(kernel(SYS_openat, AT_FDCWD, path, flags, mode));
}
int fcntl(int file, int command, ...) {
    va_list rest;
    va_start(rest, command);
    long argument = va_arg(rest, long);
    va_end(rest);
    long result = kernel(SYS_fcntl, file, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? descriptor(result) : (int)result;
}
DIR *opendir(const char *path) {
    DIR *directory = real_opendir(path);
    if (directory != NULL) descriptor(dirfd(directory));
    return directory;
}
FILE *fopen(const char *path, const char *mode) {
    FILE *file = real_fopen(path, mode);
    if (file != NULL) descriptor(fileno(file));
    return file;
}
int close(int number) {
    forget(DESCRIPTOR, (uintptr_t)number);
    return (int)kernel(SYS_close, number);
}
int closedir(DIR *directory) {
    forget(DESCRIPTOR, (uintptr_t)dirfd(directory));
    return real_closedir(directory);
}
int fclose(FILE *file) {
    forget(DESCRIPTOR, (uintptr_t)fileno(file));
    return real_fclose(file);
}

/* Calls that the C library has no function for. */
long syscall(long number, ...) {
    va_list rest;
    long argument[6];
    va_start(rest, number);
    for (int i = 0; i < 6; i++) argument[i] = va_arg(rest, long);
    va_end(rest);
    if (number == SYS_munmap) forget(MMAP, (uintptr_t)argument[0]); /* first: another thread may get the address at once */
    long result = kernel(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
    if (number == SYS_mmap && (void *)result != MAP_FAILED) note(MMAP, (uintptr_t)result, (size_t)argument[1]);
    return number == SYS_pidfd_open ? descriptor(result) : result;
}

/* --- Code that comes and goes --- */

void *dlopen(const char *path, int flags) {
    void *library = real_dlopen(path, flags);
    find_codes();
    return library;
}
int dlclose(void *library) {
    int result = real_dlclose(library);
    find_codes();
    return result;
}

/* --- Protocol --- */

void _exit(int status) {
    if (shared != NULL && process != 0) shared->ended[process] = 1;
    for (;;) kernel(SYS_exit_group, status);
}

ssize_t read(int file, void *to, size_t size) {
    ssize_t got = kernel(SYS_read, file, to, size);
    if (file == 0 && got == 1 && *(char *)to == 'o') __atomic_store_n(&shared->counting, 1, __ATOMIC_RELAXED);
    return got;
}

static void write_counts(void) {
    char line[2 * FRAMES * 80 + 100];
    const char *name = getenv("EXAM_WITNESS");
    int out = name == NULL ? -1 : (int)kernel(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0) fail("witness: could not write\n");
    for (const struct path *path = shared->path; path < shared->path + PATHS; path++) {
        if (path->count == 0 || shared->ended[path->process]) continue;
        int length = snprintf(line, sizeof line, "%s %u %ld %ld", kinds[path->kind], path->process, path->count,
                              path->bytes);
        for (int i = 0; i < path->length; i++) {
            const char *file = shared->files[path->frames[i] >> FILE_SHIFT];
            size_t offset = path->frames[i] & (((size_t)1 << FILE_SHIFT) - 1);
            length += snprintf(line + length, sizeof line - (size_t)length, " %s%s%zx", file, file[0] == 0 ? "" : ":",
                               offset);
        }
        line[length++] = '\n';
        if (kernel(SYS_write, out, line, length) != length) fail("witness: could not write\n");
    }
    kernel(SYS_close, out);
}

ssize_t write(int file, const void *from, size_t size) {
    if (file == 1 && size > 0 && *(const char *)from == '{' && is_counting()) {
        __atomic_store_n(&shared->counting, 0, __ATOMIC_RELAXED);
        write_counts();
    }
    return kernel(SYS_write, file, from, size);
}
