#define _GNU_SOURCE
/* An external extension that subscribes over TCP; a child of it prints every event that it hears of. */
#include <arpa/inet.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char answer[65536];

/* Send a request and wait for the whole answer; returns its body. */
static char *ask(const char *method, const char *path, const char *header, const char *body)
{
    char host[64], request[2048];
    snprintf(host, sizeof host, "%s", getenv("AWS_LAMBDA_RUNTIME_API"));
    char *colon = strchr(host, ':');
    *colon = '\0';
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(colon + 1))};
    inet_pton(AF_INET, host, &address.sin_addr);
    int peer = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(peer, (struct sockaddr *)&address, sizeof address) != 0)
        exit(1);
    int length = snprintf(request, sizeof request,
                          "%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                          method, path, host, header, strlen(body), body);
    if (write(peer, request, (size_t)length) != length)
        exit(1);
    size_t have = 0;
    ssize_t got;
    while ((got = read(peer, answer + have, sizeof answer - 1 - have)) > 0)
        have += (size_t)got;
    answer[have] = '\0';
    close(peer);
    char *end = strstr(answer, "\r\n\r\n");
    if (end == NULL)
        exit(1);
    *end = '\0';
    return end + 4;
}

/* Take lines from one connection and print them, then whoever connects next. */
static void listen_for_ever(int listener)
{
    for (;;) {
        FILE *peer = fdopen(accept(listener, NULL, NULL), "r");
        char *line = NULL;
        size_t room = 0;
        while (peer != NULL && getline(&line, &room, peer) > 0)
            printf("heard: %s", line);
    }
}

int main(int argc, char **argv)
{
    char header[256];
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(4245)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0)
        return 1;
    pid_t child = fork();
    if (child == 0)
        listen_for_ever(listener);
    close(listener);
    snprintf(header, sizeof header, "Lambda-Extension-Name: %s", basename(argv[argc - 1]));
    ask("POST", "/2020-01-01/extension/register", header, "{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}");
    snprintf(header, sizeof header, "%.65s", strcasestr(answer, "lambda-extension-identifier: "));
    printf("subscribed: %s\n", ask("PUT", "/2022-07-01/telemetry", header,
                                   "{\"schemaVersion\":\"2022-12-13\",\"types\":[\"platform\",\"function\"],"
                                   "\"buffering\":{\"timeoutMs\":25},\"destination\":{\"protocol\":\"TCP\",\"port\":4245}}"));
    while (strstr(ask("GET", "/2020-01-01/extension/event/next", header, ""), "SHUTDOWN") == NULL)
        ;
    usleep(200 * 1000); /* what was sent may not have been printed yet */
    kill(child, SIGKILL);
    printf("the end\n");
    return 0;
}
