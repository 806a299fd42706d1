/* A web server of one page: server PORT FILE. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int signal) { _exit(0); (void)signal; }

int main(int argc, char **argv) {
    static char page[65536], head[256], request[4096];
    if (argc != 3) return 2;
    FILE *file = fopen(argv[2], "r");
    if (!file) { perror(argv[2]); return 1; }
    size_t size = fread(page, 1, sizeof page, file);
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 16)) { perror("listen"); return 1; }
    signal(SIGTERM, end);
    signal(SIGPIPE, SIG_IGN);
    printf("serving %s on port %s as uid %d\n", argv[2], argv[1], getuid());
    fflush(stdout);
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        if (read(client, request, sizeof request) > 0) {
            int length = snprintf(head, sizeof head,
                "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: %zu\r\n\r\n", size);
            if (write(client, head, length) < 0 || write(client, page, size) < 0) perror("write");
        }
        close(client);
    }
}
