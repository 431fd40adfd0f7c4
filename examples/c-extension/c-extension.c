/*
 * An external extension in C with plain sockets: registers for INVOKE and SHUTDOWN, prints a line on each.
 *
 * Build: cc -O2 -static -o extensions/c-extension c-extension.c
 * API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_BYTES_MAX = 65536 };

static const char *name;
static char answer[ANSWER_BYTES_MAX + 1];

static void die(const char *what)
{
    fprintf(stderr, "[%s] %s\n", name, what);
    exit(1);
}

/* Connects to AWS_LAMBDA_RUNTIME_API, an IPv4 address with a port. */
static int dial(void)
{
    const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
    char host[64];
    const char *colon = api ? strrchr(api, ':') : NULL;
    if (!colon || (size_t)(colon - api) >= sizeof host)
        die("AWS_LAMBDA_RUNTIME_API is missing or unusable");
    memcpy(host, api, (size_t)(colon - api));
    host[colon - api] = '\0';

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(colon + 1))};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        die("AWS_LAMBDA_RUNTIME_API is no IPv4 address");
    int link = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link < 0 || connect(link, (struct sockaddr *)&address, sizeof address) != 0)
        die("cannot connect to the Extensions API");
    return link;
}

/* Makes one call on a connection of its own; the whole answer is in `answer` afterwards. */
static void call(const char *method, const char *path, const char *header, const char *body)
{
    char request[1024];
    int size = snprintf(request, sizeof request,
                        "%s /2020-01-01/extension%s HTTP/1.1\r\nHost: api\r\nConnection: close\r\n"
                        "%s\r\nContent-Length: %zu\r\n\r\n%s",
                        method, path, header, strlen(body), body);
    if (size < 0 || (size_t)size >= sizeof request)
        die("request too long");

    int link = dial();
    for (int sent = 0; sent < size;) {
        ssize_t done = write(link, request + sent, (size_t)(size - sent));
        if (done <= 0)
            die("cannot write to the Extensions API");
        sent += (int)done;
    }
    size_t length = 0;
    for (ssize_t done; length < ANSWER_BYTES_MAX; length += (size_t)done) {
        done = read(link, answer + length, ANSWER_BYTES_MAX - length);
        if (done < 0)
            die("cannot read from the Extensions API");
        if (done == 0)
            break;
    }
    answer[length] = '\0';
    close(link);
    if (strncmp(answer, "HTTP/1.1 200 ", 13) != 0)
        die(answer);
}

/* Copies what stands between `before` and `after` in the answer. */
static void find(const char *before, const char *after, char *found, size_t size)
{
    const char *start = strcasestr(answer, before);
    const char *end = start ? strstr(start + strlen(before), after) : NULL;
    start = start ? start + strlen(before) : NULL;
    if (!end || (size_t)(end - start) >= size)
        die("the answer of the Extensions API lacks something");
    memcpy(found, start, (size_t)(end - start));
    found[end - start] = '\0';
}

int main(int count, char **arguments)
{
    char header[256], identifier[128], value[512];
    name = count > 0 && strrchr(arguments[0], '/') ? strrchr(arguments[0], '/') + 1 : "c-extension";
    setvbuf(stdout, NULL, _IOLBF, 0);

    snprintf(header, sizeof header, "Lambda-Extension-Name: %s", name);
    call("POST", "/register", header, "{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}");
    find("Lambda-Extension-Identifier: ", "\r\n", identifier, sizeof identifier);
    find("\"functionName\":\"", "\"", value, sizeof value);
    printf("[%s] registered for %s\n", name, value);

    snprintf(header, sizeof header, "Lambda-Extension-Identifier: %s", identifier);
    for (;;) {
        call("GET", "/event/next", header, "");
        find("\"eventType\":\"", "\"", value, sizeof value);
        if (strcmp(value, "SHUTDOWN") == 0) {
            find("\"shutdownReason\":\"", "\"", value, sizeof value);
            printf("[%s] SHUTDOWN, reason %s\n", name, value);
            return 0;
        }
        find("\"requestId\":\"", "\"", value, sizeof value);
        printf("[%s] INVOKE %s\n", name, value);
    }
}
