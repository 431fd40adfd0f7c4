#define _GNU_SOURCE
/* An external extension that prints every event it hears. */
#include "client.h"
#include <libgen.h>

int main(int argc, char **argv)
{
    char header[256], *name = basename(argv[argc - 1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    enrol(name, header);
    for (;;) {
        char *event = next_event(header);
        printf("%s: %s\n", name, event);
        if (strstr(event, "SHUTDOWN") != NULL)
            return 0;
    }
}
