/* forking_server [PORT]: a small server that forks for each connection, like old daemons.
 *
 * The parent keeps a descriptor of every tenth connection and a line of its log for each; the child leaks a buffer, and
 * ends when it has answered. PORT 0 (the default) takes any free port; the first line on stdout contains it. Loopback
 * only. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct line {
    struct line *next;
    char text[112];
};

static struct line *lines; /* only grows */

/* The parent's leak: a log that nobody trims. */
__attribute__((noinline)) static void write_log(unsigned long number) {
    struct line *line = malloc(sizeof *line);
    if (!line) exit(1);
    snprintf(line->text, sizeof line->text, "connection %lu", number);
    line->next = lines;
    lines = line;
}

/* The child's leak. */
__attribute__((noinline)) static char *prepare_answer(void) {
    char *answer = malloc(3000);
    if (!answer) exit(1);
    memcpy(answer, "hello\n", 6);
    return answer;
}

static void serve(int connection) {
    char request[256];
    if (read(connection, request, sizeof request) <= 0) return;
    if (write(connection, prepare_answer(), 6) != 6) return;
    /* leaktrace sees a child's figures before it ends. */
    usleep(200 * 1000);
}

int main(int count, char **words) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((unsigned short)(count > 1 ? atoi(words[1]) : 0));
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16) ||
        getsockname(listener, (struct sockaddr *)&address, &length)) {
        perror("forking_server");
        return 1;
    }
    signal(SIGCHLD, SIG_IGN);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (unsigned long number = 1;; number++) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0) return 1;
        write_log(number);
        if (fork() == 0) {
            close(listener);
            serve(connection);
            _exit(0);
        }
        /* The leak: a descriptor that is not closed in the parent. */
        if (number % 10) close(connection);
    }
}
