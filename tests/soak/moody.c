#define _GNU_SOURCE
/* A runtime, and an extension if its path says so, that does to each invocation what its fate says (fates.py). */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

enum { OVERSIZED_BYTES = 6291557, FLOOD_BYTES = 1000000, EXIT_CODE = 7, PERISHED = 97, UNBORN = 98, UNBORN_OF = 50 };

static char answer[65536], identity[128];

static int reach(void)
{
    char host[64];
    snprintf(host, sizeof host, "%s", getenv("AWS_LAMBDA_RUNTIME_API"));
    char *colon = strchr(host, ':');
    *colon = '\0';
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(colon + 1))};
    inet_pton(AF_INET, host, &address.sin_addr);
    int peer = socket(AF_INET, SOCK_STREAM, 0);
    if (peer < 0 || connect(peer, (struct sockaddr *)&address, sizeof address) != 0)
        exit(71);
    return peer;
}

static void say(int peer, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t written = write(peer, data, length);
        if (written <= 0)
            return;
        data += written;
        length -= (size_t)written;
    }
}

static void begin(int peer, const char *method, const char *path, const char *header, size_t length)
{
    char head[1024];
    const char *form = "%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\nConnection: close\r\n\r\n";
    int size = snprintf(head, sizeof head, form, method, path, header, length);
    say(peer, head, (size_t)size);
}

/* Read the whole answer; returns its body, or NULL if there is none. */
static char *hear(int peer)
{
    size_t have = 0;
    ssize_t got;
    while ((got = read(peer, answer + have, sizeof answer - 1 - have)) > 0)
        have += (size_t)got;
    answer[have] = '\0';
    close(peer);
    char *end = strstr(answer, "\r\n\r\n");
    if (end == NULL)
        exit(72);
    *end = '\0';
    return end + 4;
}

static char *ask(const char *method, const char *path, const char *header, const char *body)
{
    int peer = reach();
    begin(peer, method, path, header, strlen(body));
    say(peer, body, strlen(body));
    return hear(peer);
}

static int status(void) { return atoi(answer + 9); }

static void flood(void)
{
    char *text = malloc(FLOOD_BYTES);
    memset(text, 'x', FLOOD_BYTES);
    say(1, text, FLOOD_BYTES);
    free(text);
}

static void crash(void)
{
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

static void be_runtime(void)
{
    unsigned char chance = 1;
    getrandom(&chance, 1, 0);
    if (chance % UNBORN_OF == 0) {
        printf("unborn\n");
        exit(UNBORN);
    }
    for (;;) {
        char *event = ask("GET", "/2018-06-01/runtime/invocation/next", "", "");
        char id[37], path[128], does[16], reply[64], *found = strcasestr(answer, "lambda-runtime-aws-request-id: ");
        int number;
        if (status() == 403)
            continue; /* what was broken off before is thought to go on still */
        if (status() != 200 || found == NULL || sscanf(event, "{\"n\": %d, \"does\": \"%15[a-z]", &number, does) != 2)
            exit(73);
        snprintf(id, sizeof id, "%s", found + 31);
        snprintf(path, sizeof path, "/2018-06-01/runtime/invocation/%s/response", id);
        snprintf(reply, sizeof reply, "{\"answer to\": %d}", number);
        if (strcmp(does, "error") == 0) {
            snprintf(path, sizeof path, "/2018-06-01/runtime/invocation/%s/error", id);
            snprintf(reply, sizeof reply, "{\"errorType\": \"Odd\", \"errorMessage\": \"error of %d\"}", number);
        } else if (strcmp(does, "exit") == 0) {
            exit(EXIT_CODE);
        } else if (strcmp(does, "kill") == 0) {
            raise(SIGKILL);
        } else if (strcmp(does, "crash") == 0) {
            crash();
        } else if (strcmp(does, "hang") == 0) {
            pause();
        } else if (strcmp(does, "flood") == 0) {
            flood();
        } else if (strcmp(does, "oversize") == 0) {
            int peer = reach();
            char *text = calloc(1, OVERSIZED_BYTES);
            begin(peer, "POST", path, "", OVERSIZED_BYTES);
            say(peer, text, OVERSIZED_BYTES);
            free(text);
            hear(peer);
            continue;
        } else if (strcmp(does, "truncate") == 0 || strcmp(does, "drop") == 0) {
            int peer = reach();
            begin(peer, "POST", path, "", *does == 't' ? 100 : strlen(reply));
            say(peer, reply, strlen(reply));
            if (*does == 'd')
                hear(peer);
            else
                close(peer);
            if (*does == 'd') { /* begin to wait, and give it up */
                peer = reach();
                begin(peer, "GET", "/2018-06-01/runtime/invocation/next", "", 0);
                close(peer);
            }
            continue;
        } else if (strcmp(does, "stray") == 0) {
            ask("POST", "/2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response", "", "{}");
        } else if (strcmp(does, "stream") == 0) {
            int peer = reach();
            char head[512];
            int size = snprintf(head, sizeof head,
                                "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
                                "Lambda-Runtime-Function-Response-Mode: streaming\r\n\r\n%zx\r\n%s\r\n0\r\n\r\n",
                                path, strlen(reply), reply);
            say(peer, head, (size_t)size);
            hear(peer);
            continue;
        }
        ask("POST", path, "", reply);
        if (strcmp(does, "twice") == 0)
            ask("POST", path, "", "again");
        if (strcmp(does, "leave") == 0)
            exit(0);
        if (strcmp(does, "perish") == 0) {
            int peer = reach();
            begin(peer, "GET", "/2018-06-01/runtime/invocation/next", "", 0);
            usleep(2000);
            printf("perished\n");
            exit(PERISHED);
        }
    }
}

static void be_extension(const char *name)
{
    char header[256];
    snprintf(header, sizeof header, "Lambda-Extension-Name: %s\r\n", name);
    ask("POST", "/2020-01-01/extension/register", header, "{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}");
    char *found = strcasestr(answer, "lambda-extension-identifier: ");
    if (found == NULL)
        exit(74);
    snprintf(identity, sizeof identity, "%.65s\r\n", found);
    for (;;) {
        char *event = ask("GET", "/2020-01-01/extension/event/next", identity, "");
        if (status() != 200)
            continue; /* it has given up before, and is thought to wait still */
        if (strstr(event, "SHUTDOWN") != NULL)
            exit(0);
        char *does = strstr(event, "Does=");
        if (does == NULL)
            exit(75);
        does += 5;
        if (strncmp(does, "dawdle", 6) == 0) {
            usleep(20000);
        } else if (strncmp(does, "drop", 4) == 0) {
            int peer = reach();
            begin(peer, "GET", "/2020-01-01/extension/event/next", identity, 0);
            close(peer);
        } else if (strncmp(does, "exit", 4) == 0) {
            exit(EXIT_CODE);
        } else if (strncmp(does, "crash", 5) == 0) {
            crash();
        } else if (strncmp(does, "report", 6) == 0) {
            strcat(identity, "Lambda-Extension-Function-Error-Type: Extension.Odd\r\n");
            ask("POST", "/2020-01-01/extension/exit/error", identity, "");
            exit(EXIT_CODE);
        } else if (strncmp(does, "hang", 4) == 0) {
            pause();
        }
    }
}

int main(int argc, char **argv)
{
    char *path = argv[argc - 1];
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strstr(path, "/extensions/") != NULL)
        be_extension(strrchr(path, '/') + 1);
    be_runtime();
}
