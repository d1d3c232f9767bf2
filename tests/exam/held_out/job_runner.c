/* job_runner: runs each job in a thread of its own, which writes its result to a pipe; a pool of helpers compresses the
 * results.
 *
 * True: a thread that runs a job is joined when its result has been read. One job in ten fails and is run again by
 * another thread, which nobody joins (its stack stays mapped), and nobody closes the end of its pipe that is read. The
 * pool is healthy: two to twelve helpers, started as the load rises during the first forty seconds.
 *
 * Hard: threads that were joined leave their stacks to the next ones, so that little is mapped and unmapped; threads
 * that nobody joins have ended and do not appear in /proc; those of the pool never end. */
#include "../exam.h"
#include <fcntl.h>

enum { START_JOB, START_RETRY, OPEN_RESULT_PIPE, NEW_JOB, ADD_HELPER, SITES };
static struct site sites[SITES] = {
    HEALTHY("start_job", "thread", "joined when its result has been read"),
    LEAKS("start_retry", "thread", "nobody joins the thread that runs a job again"),
    PARTLY_LEAKS("open_result_pipe", "descriptor", "nobody closes the pipe of a job that was run again",
                 "closed when the result has been read"),
    HEALTHY("new_job", "heap", "freed when the job is done"),
    HEALTHY("add_helper", "thread", "2 to 12 threads, as the load rises during the first 40 s"),
};

/* A job that is run again gets a larger stack; so it never takes one that a joined thread has left. */
enum { STACK = 256 << 10, LARGE_STACK = 512 << 10, MOST_HELPERS = 12, RATE = 20 };
struct job {
    struct job *next;
    pthread_t thread;
    int result[2], again;
    uint32_t work;
};

static pthread_attr_t small, large;
static struct dice dice = {1024};
static struct job *running;
static int helpers, retrying, results_left;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;

static void count_thread(struct site *site, size_t stack) {
    set_once(&site->first_us);
    count(&site->acquired_count, &site->acquired_bytes, stack);
}

static void *run_job(void *argument) {
    struct job *job = argument;
    char result[256];
    nap(0.001 * job->work / exam.speed);
    memset(result, (int)job->work, sizeof result);
    (void)!write(job->result[1], result, sizeof result);
    close(job->result[1]);
    released(&sites[OPEN_RESULT_PIPE], 0);
    if (job->again) { /* nobody waits for it */
        released(&sites[NEW_JOB], sizeof *job);
        free(job);
        __atomic_fetch_sub(&retrying, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

SITE static void start_job(struct job *job) {
    if (pthread_create(&job->thread, &small, run_job, job) != 0) die("start_job");
    count_thread(&sites[START_JOB], STACK);
}

SITE static void start_retry(struct job *job) {
    pthread_t thread;
    if (pthread_create(&thread, &large, run_job, job) != 0) die("start_retry");
    count_thread(&sites[START_RETRY], LARGE_STACK);
}

SITE static void open_result_pipe(int ends[2]) {
    int status = pipe2(ends, O_CLOEXEC);
    opened(&sites[OPEN_RESULT_PIPE], status);
    opened(&sites[OPEN_RESULT_PIPE], status);
}

SITE static struct job *new_job(void) {
    struct job *job = acquired(&sites[NEW_JOB], malloc(sizeof *job), sizeof *job);
    job->work = (uint32_t)between(&dice, 5, 60);
    job->again = chance(&dice, 0.1);
    open_result_pipe(job->result);
    return job;
}

static void *compress_results(void *unused) {
    pthread_mutex_lock(&lock);
    for (;;) {
        for (; results_left > 0; results_left--) continue;
        pthread_cond_wait(&more, &lock);
    }
    return unused;
}

SITE static void add_helper(void) {
    pthread_t thread;
    if (pthread_create(&thread, &small, compress_results, NULL) != 0) die("add_helper");
    pthread_detach(thread);
    count_thread(&sites[ADD_HELPER], STACK);
    helpers++;
}

static void accept_job(void) {
    struct job *job = new_job();
    if (job->again) {
        lost(&sites[START_RETRY], LARGE_STACK);
        lost(&sites[OPEN_RESULT_PIPE], 0);
        __atomic_fetch_add(&retrying, 1, __ATOMIC_RELAXED);
        return start_retry(job);
    }
    start_job(job);
    job->next = running;
    running = job;
}

/* Ends the jobs whose result has come. */
static void reap_jobs(void) {
    for (struct job **link = &running; *link != NULL;) {
        struct job *job = *link;
        char result[256];
        struct pollfd one = {job->result[0], POLLIN, 0};
        if (poll(&one, 1, 0) == 0) {
            link = &job->next;
            continue;
        }
        (void)!read(job->result[0], result, sizeof result);
        pthread_join(job->thread, NULL);
        released(&sites[START_JOB], STACK);
        close(job->result[0]);
        released(&sites[OPEN_RESULT_PIPE], 0);
        pthread_mutex_lock(&lock);
        results_left++;
        pthread_cond_signal(&more);
        pthread_mutex_unlock(&lock);
        *link = job->next;
        released(&sites[NEW_JOB], sizeof *job);
        free(job);
    }
}

int main(void) {
    struct pace pace = {0};
    /* Its stack, and the C library's table of its thread locals: one of each. */
    sites[START_RETRY].also = "\"mmap\",\"heap\"";
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, STACK);
    pthread_attr_init(&large);
    pthread_attr_setstacksize(&large, LARGE_STACK);
    begin();
    for (long n; (n = due(&pace, RATE)) >= 0;) {
        while (n-- > 0) accept_job();
        if (helpers < MOST_HELPERS && now() > 4.0 * (helpers - 2)) add_helper();
        reap_jobs();
    }
    while (running != NULL || __atomic_load_n(&retrying, __ATOMIC_ACQUIRE) > 0) {
        nap(0.004);
        reap_jobs();
    }
    FINISH("job_runner", sites);
}
