/* keeps_sockets: accepts connections on a free port of loopback, reads from each once, and never closes any. The first
 * line on stdout contains the port. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

__attribute__((noinline)) static int keep(int listener) {
    char bytes[100];
    int connection = accept(listener, NULL, NULL);
    return connection < 0 || read(connection, bytes, sizeof bytes) < 0;
}

int main(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 128) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        perror("keeps_sockets");
        return 1;
    }
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    while (keep(listener) == 0) {
    }
    return 1;
}
