#define _GNU_SOURCE
/* An external extension that prints every event it hears: plain sockets, one request per connection. */
#include <arpa/inet.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
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
                          "%s /2020-01-01/extension/%s HTTP/1.1\r\nHost: %s\r\n%s\r\n"
                          "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
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

int main(int argc, char **argv)
{
    char header[256], *name = basename(argv[argc - 1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    snprintf(header, sizeof header, "Lambda-Extension-Name: %s", name);
    ask("POST", "register", header, "{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}");
    char *identifier = strcasestr(answer, "lambda-extension-identifier: ");
    snprintf(header, sizeof header, "%.65s", identifier);
    for (;;) {
        char *event = ask("GET", "event/next", header, "");
        printf("%s: %s\n", name, event);
        if (strstr(event, "SHUTDOWN") != NULL)
            return 0;
    }
}
