/*
 * remora-init: pid 1 of a sandbox. It starts what it is told, reports every exit, and dies with the platform.
 *
 * It LISTENS on a unix socket (SOCK_SEQPACKET: one message, one packet) and the platform connects; so the
 * connection can be made anew after a snapshot, and no half-outside stream exists while nobody is connected.
 * It makes the TCP listener of the environment's APIs, inside the sandbox's network, and hands a copy out in
 * its first message. If nobody connects within ten seconds, or the connection ends, everything here is killed.
 *
 * Messages are little-endian and unpadded; `s` is a string ending in NUL, `{}*` repeats.
 *
 *   platform -> init                                              with descriptors
 *     'S' u32 id, u32 uid, u32 gid, u16 limits, u16 argc, u16 envc,
 *         {u32 resource, u64 soft, u64 hard}*, s cwd, {s}* argv, {s}* env
 *                                       2: standard output and error; then what it is to have as 3, 4, ...
 *     'K' u32 id, i32 signal            to the process group of a started process
 *     'A'                               kill everything but pid 1; answered by 'E'
 *     'Z' / 'T'                         stop / continue everything by signals; 'T' is answered by 'T'
 *     'M'                               add up the highest resident sizes of all living; answered by 'M'
 *     'P'                               make a TCP socket; answered by 'P'
 *     'L'                               let the platform go: it will connect again within a minute, perhaps another
 *                                       one, to a copy of us that was restored from a snapshot
 *     'C' u8 has_thaw                   1..8: files that a process writes "0" to, to join its cgroups;
 *                                       if has_thaw, the last is instead a freezer.state to write THAWED to
 *   init -> platform
 *     'H' u32 version, u32 port                                     1: the listener
 *     'S' u32 id, u32 pid               executed          'F' u32 id, u32 errno     could not be executed
 *     'X' u32 id, u32 code, u32 signal, u64 cpu_us, u64 memory_peak_kib      ended (code or signal)
 *     'E'                               nothing but pid 1 is left, all exits are reported
 *     'T'                               everything was continued
 *     'M' u64 kib                       what was asked for
 *     'P' u32 errno                                                 1 unless errno: the socket, unconnected
 *     'B' u8 first byte                 a message that makes no sense was thrown away
 *
 * With --into FD -- PROGRAM ARGUMENTS it is none of this: it starts the program as a sibling, born in the cgroup
 * (version 2) whose directory FD is, writes "pid N" and a line feed, and is done. Being born there costs nothing,
 * being moved there later costs the kernel a grace period of 10 to 20 ms.
 * With --scratch IMAGE DIRECTORY -- PROGRAM ARGUMENTS it becomes the program, which finds the file system in the
 * file mounted on the directory. With --nat DEVICE ADDRESS GATEWAY ADDRESS6 -- PROGRAM ARGUMENTS it becomes the program
 * in a network of its own, whose one device has the addresses (that of IPv6 unless it is "-") and leads to a device
 * called so outside, which has that of the gateway; with --closed -- PROGRAM ARGUMENTS only link-local addresses are
 * taken away from the network it is in already; with --alone -- PROGRAM ARGUMENTS it is in a network with nothing but
 * loopback. With --enter DIRECTORY -- PROGRAM ARGUMENTS it joins the cgroup first; with --leash -- PROGRAM ARGUMENTS
 * the program dies with whoever started us. With --show SOURCE... -- PROGRAM ARGUMENTS it finds the sources,
 * files or directories, as /mnt/1, /mnt/2, ..., also if it may not reach them where they are, and read-only unless their
 * names are given with a "+" before them; with --own BASE:COUNT --
 * PROGRAM ARGUMENTS it is root of a user namespace of its own, whose ids 0.. are COUNT ids of the machine from BASE on.
 * Each may start the next.
 * With --wire NETWORK DEVICE ADDRESS GATEWAY ADDRESS6 it connects a network namespace as --nat does, and is done.
 *
 * With --meet it is pid 1 below a kernel of its own (gVisor's), out of which no descriptor can be handed: it connects
 * to the platform, which listens, and makes neither listener nor sockets. In the first message there is no listener.
 *
 * Two ways to be used: as pid 1 of a pid namespace, where "everything" is what kill(-1) reaches; or, with
 * --subreaper, as an ordinary process, where everything is its descendants: whoever leaves group and session is
 * still found, because orphans are given to a subreaper. There kill(-1) would reach the whole machine and is
 * never used.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <grp.h>
#include <unistd.h>

#include "network.h"
#include "scratch.h"
#include "seccomp.h"

enum {
    PROTOCOL_VERSION = 3,
    MESSAGE_BYTES_MAX = 256 * 1024,
    STRINGS_MAX = 8192,
    PROCESSES_MAX = 256,
    LIMITS_MAX = 16,
    DESCRIPTORS_MAX = 8,
    SOURCES_MAX = 64,
    CONNECT_MS = 60 * 1000,
    LISTEN_BACKLOG = 256,
    OOM_ADJUST = 500, /* when the machine runs out of memory, functions go before the platform */
    BROKEN_STATUS = 125,
};

#define SHOWN "/mnt" /* exists everywhere, and is of no use to sandboxes */

/* One process that was started by order; `pipe` is open until its exec is known to have worked or failed. */
struct process {
    bool used;
    bool failed;
    uint32_t id;
    pid_t pid;
    int pipe;
};

struct settings {
    const char *control;
    int ready_fd;
    int port;
    bool subreaper;
    bool meet;
    bool probe;
    bool idmap;
    bool owned;
    unsigned long id_base;
    unsigned long id_count;
};

static struct settings settings = {.ready_fd = 2};
static struct process processes[PROCESSES_MAX];
static int process_count;
static int signal_fd, control_fd, listener_fd, null_fd, connection_fd = -1;
static int join_fds[DESCRIPTORS_MAX], join_count, thaw_fd = -1;
static uid_t own_uid;
static int64_t deadline_ms; /* until when the platform must have connected */
static unsigned killing; /* how many orders to kill everything are to be answered */

/* ---- small tools ------------------------------------------------------------------------------------------ */

/* Say on the ready pipe why there will be no sandbox, and end. */
static void die(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int error = errno;
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof text)
        length = sizeof text - 1;
    dprintf(settings.ready_fd, "remora-init: %s: %s\n", text, strerror(error));
    _exit(BROKEN_STATUS);
}

static int64_t now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void close_all(const int *fds, int count) {
    for (int i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* A message being written. The longest is an exit: 29 bytes. */
struct outgoing {
    uint8_t bytes[64];
    size_t length;
};

static void put(struct outgoing *message, const void *value, size_t size) {
    memcpy(message->bytes + message->length, value, size);
    message->length += size;
}

static struct outgoing outgoing(char kind) {
    struct outgoing message = {.length = 0};
    put(&message, &kind, 1);
    return message;
}

static void put_u32(struct outgoing *message, uint32_t value) { put(message, &value, sizeof value); }

static void put_u64(struct outgoing *message, uint64_t value) { put(message, &value, sizeof value); }

/* Send, waiting if the platform is slow to read. A platform that is gone is noticed by the main loop. */
static void post(const struct outgoing *message) {
    while (connection_fd >= 0 && send(connection_fd, message->bytes, message->length, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

/* Send a message and a copy of a descriptor. */
static void post_with(const struct outgoing *message, int fd) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
    struct iovec part = {.iov_base = (void *)(uintptr_t)message->bytes, .iov_len = message->length};
    struct msghdr envelope = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    while (connection_fd >= 0 && sendmsg(connection_fd, &envelope, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

static void post_byte(char kind) {
    struct outgoing message = outgoing(kind);
    post(&message);
}

static void post_pair(char kind, uint32_t first, uint32_t second) {
    struct outgoing message = outgoing(kind);
    put_u32(&message, first);
    put_u32(&message, second);
    post(&message);
}

/* ---- everything below us ------------------------------------------------------------------------------------ */

struct relative {
    pid_t pid, parent;
    bool is_descendant, is_zombie;
};

/* Read the table of all processes of the machine (which is that of the pid namespace, as /proc shows it). */
static size_t read_relatives(struct relative **list, size_t *room) {
    size_t count = 0;
    DIR *directory = opendir("/proc");
    if (!directory)
        return 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[300], text[512];
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(path, sizeof path, "%s/stat", entry->d_name);
        int fd = openat(dirfd(directory), path, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        if (length <= 0)
            continue;
        text[length] = 0;
        /* "pid (name) state ppid ...": the name may hold anything, even ')', so look from its last one. */
        char state, *behind = strrchr(text, ')');
        int parent;
        if (!behind || sscanf(behind + 1, " %c %d", &state, &parent) != 2)
            continue;
        if (count == *room) {
            size_t larger = *room ? *room * 2 : 512;
            struct relative *moved = realloc(*list, larger * sizeof **list);
            if (!moved)
                break;
            *list = moved;
            *room = larger;
        }
        (*list)[count++] = (struct relative){.pid = atoi(entry->d_name), .parent = parent, .is_zombie = state == 'Z' || state == 'X'};
    }
    closedir(directory);
    return count;
}

/* Mark who descends from this process: repeat until a pass over the table finds no one new. */
static void mark_descendants(struct relative *list, size_t count) {
    pid_t self = getpid();
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < count; i++) {
            if (list[i].is_descendant)
                continue;
            bool found = list[i].parent == self;
            for (size_t j = 0; j < count && !found; j++)
                found = list[j].is_descendant && list[j].pid == list[i].parent;
            if (found)
                list[i].is_descendant = changed = true;
        }
    }
}

/*
 * Signal every descendant, and look again until no one new is found: a process that was signalled with SIGKILL or
 * SIGSTOP forks no more, so this ends. To continue the stopped, one look is enough: they do not fork meanwhile.
 */
static void signal_descendants(int number) {
    struct relative *list = NULL;
    pid_t *done = NULL;
    size_t room = 0, done_count = 0;
    for (bool found = true; found;) {
        found = false;
        size_t count = read_relatives(&list, &room);
        for (size_t i = 0; i < count; i++)
            list[i].is_descendant = false;
        mark_descendants(list, count);
        for (size_t i = 0; i < count; i++) {
            bool known = !list[i].is_descendant || list[i].is_zombie;
            for (size_t j = 0; j < done_count && !known; j++)
                known = done[j] == list[i].pid;
            if (known)
                continue;
            pid_t *moved = realloc(done, (done_count + 1) * sizeof *done);
            if (!moved)
                break;
            done = moved;
            done[done_count++] = list[i].pid;
            kill(list[i].pid, number);
            found = number != SIGCONT;
        }
    }
    free(list);
    free(done);
}

/* The highest resident size of a process, KiB; 0 if it is gone. */
static uint64_t resident_peak_kib(pid_t pid) {
    char path[32], text[2048];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    const char *line = strstr(text, "\nVmHWM:");
    return line ? strtoull(line + strlen("\nVmHWM:"), NULL, 10) : 0;
}

static uint64_t sum_of_resident_peaks_kib(void) {
    struct relative *list = NULL;
    size_t room = 0, count = read_relatives(&list, &room);
    uint64_t sum = 0;
    mark_descendants(list, count);
    for (size_t i = 0; i < count; i++)
        if (list[i].is_descendant)
            sum += resident_peak_kib(list[i].pid);
    free(list);
    return sum;
}

static void signal_everything(int number) {
    if (settings.subreaper)
        signal_descendants(number);
    else
        kill(-1, number);
    /* Processes in a frozen v1 cgroup die only once it is thawed. */
    if (number == SIGKILL && thaw_fd >= 0 && write(thaw_fd, "THAWED", 6) < 0)
        return;
}

/* The end: whoever may outlive this process is killed and reaped first. As pid 1 the kernel does that. */
static void leave(void) {
    signal_everything(SIGKILL);
    while (settings.subreaper) {
        if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD)
            break;
        signal_everything(SIGKILL);
    }
    _exit(0);
}

/* ---- starting --------------------------------------------------------------------------------------------- */

struct start {
    uint32_t id, uid, gid;
    uint16_t limit_count, argc, envc;
    struct {
        uint32_t resource;
        struct rlimit64 value;
    } limits[LIMITS_MAX];
    char *cwd;
    char *argv[STRINGS_MAX + 1], *envp[STRINGS_MAX + 1];
};

static void drop_capabilities(uint32_t kept) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = kept, .permitted = kept}};
    syscall(SYS_capset, &header, data);
}

/* A limit may not be raised above the one in force without a capability that we do not have: then keep that. */
static int set_limit(int resource, const struct rlimit64 *wanted) {
    struct rlimit64 now, value = *wanted;
    if (prlimit64(0, resource, NULL, &now) == 0) {
        if (value.rlim_max > now.rlim_max)
            value.rlim_max = now.rlim_max;
        if (value.rlim_cur > value.rlim_max)
            value.rlim_cur = value.rlim_max;
    }
    return prlimit64(0, resource, &value, NULL);
}

static int become_ordinary(const struct start *order) {
    if (order->gid != UINT32_MAX && (setgroups(0, NULL) < 0 || setresgid(order->gid, order->gid, order->gid) < 0))
        return -1;
    if (order->uid != UINT32_MAX && setresuid(order->uid, order->uid, order->uid) < 0)
        return -1;
    if (!settings.subreaper)
        drop_capabilities(0);
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/*
 * Whoever runs inside as the same user may look into a dumpable process: so this one, like pid 1, is not until it
 * has let go of everything that is pid 1's. Only then its files in /proc are its own, and can be written.
 */
static void rank_for_oom(void) {
    const int private_fds[] = {connection_fd, control_fd, listener_fd, signal_fd, thaw_fd};
    close_all(private_fds, sizeof private_fds / sizeof *private_fds);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    int adjust = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (adjust >= 0)
        dprintf(adjust, "%d", OOM_ADJUST);
}

/* Put the descriptors of a process where it expects them: `fds` to 1, 2, ...; all are above those numbers or copied. */
static int place_descriptors(const int *fds, int count) {
    int safe[DESCRIPTORS_MAX];
    for (int i = 0; i < count; i++)
        if ((safe[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, DESCRIPTORS_MAX + 1)) < 0)
            return -1;
    if (dup2(null_fd, 0) < 0)
        return -1;
    for (int i = 0; i < count; i++)
        if (dup2(safe[i], i + 1) < 0)
            return -1;
    return 0;
}

/*
 * Let every signal do what it does by itself. The library refuses to touch two of its own, which may have been ignored
 * by whoever started the platform: hence the system call. Refused for SIGKILL and SIGSTOP, as it should be.
 */
static void reset_signals(void) {
    const unsigned long by_default[8] = {0}; /* the kernel's struct sigaction: handler, flags, restorer, mask */
    for (int number = 1; number < NSIG; number++)
        syscall(SYS_rt_sigaction, number, by_default, NULL, sizeof(uint64_t));
}

static int prepare_child(const struct start *order, const int *fds, int fd_count) {
    setpgid(0, 0);
    reset_signals();
    sigset_t none;
    sigemptyset(&none);
    rank_for_oom();
    for (int i = 0; i < join_count; i++)
        if (write(join_fds[i], "0", 1) < 0)
            return -1;
    if (place_descriptors(fds, fd_count) < 0)
        return -1;
    for (int i = 0; i < order->limit_count; i++)
        if (set_limit((int)order->limits[i].resource, &order->limits[i].value) < 0)
            return -1;
    if (become_ordinary(order) < 0 || chdir(order->cwd) < 0)
        return -1;
    /* Where no pid namespace ends with us, whoever we started at least dies with us. */
    if (settings.subreaper)
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    return sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child: everything else that is open is close-on-exec, so only 0, 1, 2 and what was ordered pass. */
static void run_child(const struct start *order, const int *fds, int fd_count, int low_pipe) {
    int pipe = fcntl(low_pipe, F_DUPFD_CLOEXEC, DESCRIPTORS_MAX + 1); /* out of the way of those numbers */
    if (pipe < 0)
        pipe = low_pipe;
    else if (prepare_child(order, fds, fd_count) == 0)
        execve(order->argv[0], order->argv, order->envp);
    int error = errno;
    while (write(pipe, &error, sizeof error) < 0 && errno == EINTR)
        ;
    _exit(127);
}

static struct process *free_process(uint32_t id) {
    struct process *found = NULL;
    for (int i = 0; i < PROCESSES_MAX; i++) {
        if (!processes[i].used && !found)
            found = &processes[i];
        if (processes[i].used && processes[i].id == id)
            return NULL;
    }
    return found;
}

static void start_process(const struct start *order, const int *fds, int fd_count) {
    struct process *process = free_process(order->id);
    int ends[2];
    if (killing || !process) {
        post_pair('F', order->id, killing ? ECANCELED : EAGAIN);
        return;
    }
    if (pipe2(ends, O_CLOEXEC) < 0) {
        post_pair('F', order->id, (uint32_t)errno);
        return;
    }
    pid_t pid = fork();
    if (pid == 0)
        run_child(order, fds, fd_count, ends[1]);
    int error = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        post_pair('F', order->id, (uint32_t)error);
        return;
    }
    setpgid(pid, pid); /* both do it: a kill may come before the child has run */
    *process = (struct process){.used = true, .id = order->id, .pid = pid, .pipe = ends[0]};
    process_count++;
}

/* The exec pipe has ended: without a word, the program runs; with an errno, it does not. */
static void settle(struct process *process) {
    int error = 0;
    ssize_t length = read(process->pipe, &error, sizeof error);
    if (length < 0 && errno == EINTR)
        return;
    close(process->pipe);
    process->pipe = -1;
    process->failed = length == sizeof error;
    if (process->failed)
        post_pair('F', process->id, (uint32_t)error);
    else
        post_pair('S', process->id, (uint32_t)process->pid);
}

/* ---- reaping ---------------------------------------------------------------------------------------------- */

static void report_exit(pid_t pid, int status, const struct rusage *usage) {
    for (int i = 0; i < PROCESSES_MAX; i++) {
        struct process *process = &processes[i];
        if (!process->used || process->pid != pid)
            continue;
        while (process->pipe >= 0)
            settle(process);
        if (!process->failed) {
            struct outgoing message = outgoing('X');
            put_u32(&message, process->id);
            put_u32(&message, WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 0);
            put_u32(&message, WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0);
            put_u64(&message, (uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000 +
                                  (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec));
            put_u64(&message, (uint64_t)usage->ru_maxrss);
            post(&message);
        }
        process->used = false;
        process_count--;
        return;
    }
}

/* Reap whoever has ended, orphans too; while killing, go on until there is no child left. */
static void reap(void) {
    for (;;) {
        int status;
        struct rusage usage;
        pid_t pid = wait4(-1, &status, WNOHANG, &usage);
        if (pid > 0) {
            report_exit(pid, status, &usage);
        } else if (pid < 0 && errno == EINTR) {
            continue;
        } else {
            if (killing && pid < 0) {
                for (; killing; killing--)
                    post_byte('E');
            } else if (killing) {
                signal_everything(SIGKILL);
            }
            return;
        }
    }
}

/* ---- messages of the platform ----------------------------------------------------------------------------- */

struct incoming {
    const uint8_t *at, *end;
};

static bool take(struct incoming *message, void *value, size_t size) {
    if ((size_t)(message->end - message->at) < size)
        return false;
    memcpy(value, message->at, size);
    message->at += size;
    return true;
}

static bool take_string(struct incoming *message, char **text) {
    const uint8_t *nul = memchr(message->at, 0, (size_t)(message->end - message->at));
    if (!nul)
        return false;
    *text = (char *)(uintptr_t)message->at;
    message->at = nul + 1;
    return true;
}

static bool take_strings(struct incoming *message, char **list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!take_string(message, &list[i]))
            return false;
    list[count] = NULL;
    return true;
}

static bool take_start(struct incoming *message, struct start *order) {
    if (!take(message, &order->id, 4) || !take(message, &order->uid, 4) || !take(message, &order->gid, 4) ||
        !take(message, &order->limit_count, 2) || !take(message, &order->argc, 2) || !take(message, &order->envc, 2))
        return false;
    if (order->limit_count > LIMITS_MAX || order->argc < 1 || order->argc > STRINGS_MAX || order->envc > STRINGS_MAX)
        return false;
    for (int i = 0; i < order->limit_count; i++)
        if (!take(message, &order->limits[i].resource, 4) || !take(message, &order->limits[i].value.rlim_cur, 8) ||
            !take(message, &order->limits[i].value.rlim_max, 8))
            return false;
    return take_string(message, &order->cwd) && take_strings(message, order->argv, order->argc) &&
           take_strings(message, order->envp, order->envc) && message->at == message->end;
}

static bool obey_kill(struct incoming *message) {
    uint32_t id;
    int32_t number;
    if (!take(message, &id, 4) || !take(message, &number, 4) || message->at != message->end)
        return false;
    if (number < 1 || number >= NSIG)
        return false;
    for (int i = 0; i < PROCESSES_MAX; i++)
        if (processes[i].used && processes[i].id == id)
            kill(-processes[i].pid, number);
    return true;
}

/* Keeps the descriptors; returns false, keeping none, if the message makes no sense. */
static bool obey_cgroups(struct incoming *message, const int *fds, int count) {
    uint8_t has_thaw;
    if (!take(message, &has_thaw, 1) || message->at != message->end || has_thaw > 1 || count < 1 || join_count || thaw_fd >= 0)
        return false;
    if (has_thaw) {
        thaw_fd = fds[--count];
        /* We are not frozen then, and what is can only die once we have thawed it: ask to be asked, not killed. */
        prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    }
    memcpy(join_fds, fds, (size_t)count * sizeof *fds);
    join_count = count;
    return true;
}

/* Who listens inside can only be reached through a socket that was made inside. */
static void hand_out_socket(void) {
    struct outgoing answer = outgoing('P');
    int fd = -1;
    errno = EOPNOTSUPP;
    if (!settings.meet)
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    put_u32(&answer, fd < 0 ? (uint32_t)errno : 0);
    if (fd < 0) {
        post(&answer);
        return;
    }
    post_with(&answer, fd);
    close(fd);
}

/* Nothing of the outside may be in a snapshot; nor may a copy end with the parent of the original. */
static void let_go(void) {
    close(connection_fd);
    connection_fd = -1;
    close_all(join_fds, join_count);
    join_count = 0;
    if (thaw_fd >= 0)
        close(thaw_fd);
    thaw_fd = -1;
    deadline_ms = now_ms() + CONNECT_MS;
    prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
}

static void obey(const uint8_t *bytes, size_t length, const int *fds, int fd_count) {
    static struct start order;
    struct incoming message = {.at = bytes + 1, .end = bytes + length};
    bool alone = length == 1 && fd_count == 0, good = alone;
    switch (length ? bytes[0] : 0) {
    case 'S':
        good = fd_count >= 2 && take_start(&message, &order);
        if (good)
            start_process(&order, fds, fd_count);
        break;
    case 'K':
        good = fd_count == 0 && obey_kill(&message);
        break;
    case 'A':
        if (alone) {
            killing++;
            signal_everything(SIGKILL);
            reap();
        }
        break;
    case 'Z':
        if (alone)
            signal_everything(SIGSTOP);
        break;
    case 'T':
        if (alone) {
            signal_everything(SIGCONT);
            post_byte('T');
        }
        break;
    case 'M':
        if (alone) {
            struct outgoing answer = outgoing('M');
            put_u64(&answer, sum_of_resident_peaks_kib());
            post(&answer);
        }
        break;
    case 'P':
        if (alone)
            hand_out_socket();
        break;
    case 'L':
        if (alone)
            let_go();
        break;
    case 'C':
        if (obey_cgroups(&message, fds, fd_count))
            return;
        good = false;
        break;
    default:
        good = false;
    }
    close_all(fds, fd_count);
    if (!good) {
        struct outgoing complaint = outgoing('B');
        put(&complaint, length ? bytes : (const uint8_t *)"", 1);
        post(&complaint);
    }
}

/* Read one message; false when the platform is gone. */
static bool receive(void) {
    static uint8_t bytes[MESSAGE_BYTES_MAX];
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int) * DESCRIPTORS_MAX)];
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    struct msghdr envelope = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fds[DESCRIPTORS_MAX], fd_count = 0;
    ssize_t length = recvmsg(connection_fd, &envelope, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0)
        return errno == EINTR || errno == EAGAIN;
    for (struct cmsghdr *part_of = CMSG_FIRSTHDR(&envelope); part_of; part_of = CMSG_NXTHDR(&envelope, part_of))
        if (part_of->cmsg_level == SOL_SOCKET && part_of->cmsg_type == SCM_RIGHTS) {
            fd_count = (int)((part_of->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(part_of), (size_t)fd_count * sizeof(int));
        }
    if (length == 0 && fd_count == 0) {
        /* An empty packet looks like the end: only a socket that has hung up is at its end. */
        struct pollfd state = {.fd = connection_fd, .events = POLLRDHUP};
        if (poll(&state, 1, 0) != 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)))
            return false;
    }
    if (envelope.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        length = 0; /* obey() refuses an empty message and closes the descriptors */
    obey(bytes, (size_t)length, fds, fd_count);
    return true;
}

static void send_hello(void) {
    struct outgoing message = outgoing('H');
    put_u32(&message, PROTOCOL_VERSION);
    put_u32(&message, (uint32_t)settings.port);
    if (settings.meet)
        post(&message);
    else
        post_with(&message, listener_fd);
}

/* Changing ids has cleared it. A pid 1 may be killed at once, even while frozen; others must clean up first. */
static void die_with_parent(void) { prctl(PR_SET_PDEATHSIG, settings.subreaper ? SIGTERM : SIGKILL, 0, 0, 0); }

/* Only one at a time, and only from outside: a peer that is not in our pid namespace has no pid here. */
static void accept_platform(void) {
    int fd = accept4(control_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct ucred peer;
    socklen_t size = sizeof peer;
    bool welcome = connection_fd < 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
                   (settings.subreaper ? peer.uid == own_uid : peer.pid == 0);
    if (!welcome) {
        close(fd);
        return;
    }
    connection_fd = fd;
    die_with_parent();
    send_hello();
}

/* ---- setting up ------------------------------------------------------------------------------------------- */

/*
 * Listen at the control socket, or with --meet connect to it. With --control - it is standard input, which the
 * platform has bound where nobody inside may remove it.
 */
static void find_platform(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!strcmp(settings.control, "-")) {
        control_fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
        if (control_fd < 0 || fcntl(control_fd, F_SETFL, O_NONBLOCK) < 0 || listen(control_fd, 8) < 0)
            die("cannot listen on the control socket that was given");
        return;
    }
    if (strlen(settings.control) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die("control socket %s", settings.control);
    }
    strcpy(address.sun_path, settings.control);
    if (settings.meet) {
        control_fd = listener_fd = -1;
        connection_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (connection_fd < 0 || connect(connection_fd, (struct sockaddr *)&address, sizeof address) < 0)
            die("cannot connect to the control socket %s", settings.control);
        return;
    }
    control_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control_fd < 0 || bind(control_fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(control_fd, 8) < 0)
        die("cannot listen on the control socket %s", settings.control);
}

static void listen_for_apis(void) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)settings.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int on = 1;
    listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener_fd < 0 || setsockopt(listener_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(listener_fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener_fd, LISTEN_BACKLOG) < 0 ||
        getsockname(listener_fd, (struct sockaddr *)&address, &size) < 0)
        die("cannot listen on 127.0.0.1:%d", settings.port);
    settings.port = ntohs(address.sin_port);
}

static void write_map(pid_t pid, const char *which) {
    char path[64], line[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, which);
    int length = snprintf(line, sizeof line, "0 %lu %lu\n", settings.id_base, settings.id_count);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, line, (size_t)length) != length)
        die("cannot write %s (%lu ids from %lu)", path, settings.id_count, settings.id_base);
    close(fd);
}

/*
 * When the platform is root: move into a user namespace of its own, in which ids 0.. are high, powerless ids of
 * the machine. Only a process left behind may write a map of many ids: a child does.
 */
static void own_user_namespace(void) {
    int go[2], status;
    char byte = 0;
    pid_t self = getpid();
    if (pipe2(go, O_CLOEXEC) < 0)
        die("cannot make a pipe");
    pid_t helper = fork();
    if (helper < 0)
        die("cannot fork");
    if (helper == 0) {
        close(go[1]);
        if (read(go[0], &byte, 1) != 1)
            _exit(BROKEN_STATUS);
        write_map(self, "uid_map");
        write_map(self, "gid_map");
        _exit(0);
    }
    close(go[0]);
    if (unshare(CLONE_NEWUSER) < 0)
        die("cannot make a user namespace (are they disabled on this machine?)");
    if (write(go[1], &byte, 1) != 1 || close(go[1]) < 0 || waitpid(helper, &status, 0) != helper)
        die("cannot map ids");
    if (status != 0)
        _exit(BROKEN_STATUS); /* the helper has said why */
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 || setgroups(0, NULL) < 0)
        die("cannot become root of the user namespace");
}

/* Keep what it takes to start, and to end, processes of other ids of our user namespace. */
static void keep_few_capabilities(void) {
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    drop_capabilities(1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL);
}

static void catch_signals(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGHUP);
    signal_fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signal_fd < 0)
        die("cannot make a signal descriptor");
}

/* Whoever called us may have left something open: nothing of it may reach a function. */
static void close_inherited(void) {
    if (syscall(SYS_close_range, 3U, ~0U, 0U) == 0)
        return;
    for (int fd = 3; fd < 4096; fd++)
        close(fd);
}

/* Start `argv` as a child of our parent, born in the cgroup `fd`. */
static void launch_into(int fd, char **argv) {
    struct clone_args how = {.flags = CLONE_INTO_CGROUP | CLONE_PARENT, .cgroup = (uint64_t)fd};
    long pid = syscall(SYS_clone3, &how, sizeof how);
    if (pid < 0)
        die("cannot start %s in its cgroup", argv[0]);
    if (pid == 0) {
        close(fd);
        dprintf(settings.ready_fd, "pid %d\n", (int)getpid());
        execv(argv[0], argv);
        die("cannot start %s", argv[0]);
    }
    _exit(0);
}

/* Become `argv`, with the file system in `image` mounted on `directory`; relative paths mean what they meant. */
static void launch_with_scratch(const char *image, const char *directory, char **argv) {
    const char *step;
    int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (enter_scratch(image, directory, &step) < 0)
        die("cannot %s to limit the size of /tmp (%s)", step, image);
    if (here < 0 || fchdir(here) < 0)
        die("cannot return to the working directory");
    execv(argv[0], argv);
    die("cannot start %s", argv[0]);
}

/* Become `argv` in a network of its own; `where`: the device outside, the address, the gateway, the IPv6 address. */
static void launch_in_network(char **where, char **argv) {
    if (enter_network(NULL, where[0], where[1], where[2], where[3]) < 0)
        die("cannot make the network device %s for %s", where[0], where[1]);
    execv(argv[0], argv);
    die("cannot start %s", argv[0]);
}

/* Become `argv` in the network we are in already, from which link-local addresses are taken away. */
static void launch_closed(char **argv) {
    if (close_link_local() < 0)
        die("cannot close the way to link-local addresses");
    execv(argv[0], argv);
    die("cannot start %s", argv[0]);
}

/* Become `argv` in a network of which nobody else is part. */
static void launch_alone(char **argv) {
    int netlink = -1;
    if (unshare(CLONE_NEWNET) < 0 || (netlink = open_netlink()) < 0 ||
        set_up_device(netlink, device_number(netlink, "lo")) < 0)
        die("cannot make a network of its own");
    close(netlink);
    execv(argv[0], argv);
    die("cannot start %s", argv[0]);
}

/* Become `argv` in the cgroup `directory` (of version 1). */
static void launch_entered(const char *directory, char **argv) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/cgroup.procs", directory);
    int fd = length < (int)sizeof path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0 || write(fd, "0", 1) != 1)
        die("cannot join the cgroup %s", directory);
    close(fd);
    execv(argv[0], argv);
    die("cannot start %s", argv[0]);
}

/* Become `argv`, which is killed when our parent ends. */
static void launch_on_leash(char **argv) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        die("cannot tie %s to its parent", argv[0]);
    execv(argv[0], argv);
    die("cannot start %s", argv[0]);
}

static bool read_ids(const char *text) {
    return sscanf(text, "%lu:%lu", &settings.id_base, &settings.id_count) == 2;
}

/* Show what is open as `fd`, though others may not reach it where it is, as `place`. */
static void show(int fd, const char *place, bool writable) {
    unsigned long flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | (writable ? 0 : MS_RDONLY);
    struct stat about;
    char source[64];
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    int found = fstat(fd, &about), made = -1;
    if (found == 0)
        made = S_ISDIR(about.st_mode) ? mkdir(place, 0755) : mknod(place, S_IFREG | 0644, 0);
    if (made < 0 || mount(source, place, NULL, MS_BIND, NULL) < 0 || mount(NULL, place, NULL, flags, NULL) < 0)
        die("cannot show something as %s", place);
    close(fd);
}

/* Become the program behind "--", which finds the sources as SHOWN/1, SHOWN/2, .... */
static void launch_shown(char **sources) {
    int fds[SOURCES_MAX], count = 0;
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        die("cannot make a mount namespace");
    /* All are opened before anything is covered: they may be below SHOWN. */
    for (; sources[count] && strcmp(sources[count], "--"); count++)
        if (count == SOURCES_MAX || (fds[count] = open(sources[count] + (*sources[count] == '+'), O_PATH | O_CLOEXEC)) < 0)
            die("cannot open %s", sources[count]);
    char **argv = sources + count + 1;
    if (!sources[count] || !argv[0]) {
        errno = EINVAL;
        die("usage: remora-init --show SOURCE... -- PROGRAM ARGUMENTS");
    }
    if (mount("none", SHOWN, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") < 0)
        die("cannot mount " SHOWN);
    for (int i = 0; i < count; i++) {
        char place[64];
        snprintf(place, sizeof place, SHOWN "/%d", i + 1);
        show(fds[i], place, *sources[i] == '+');
    }
    execv(argv[0], argv);
    die("cannot start %s", argv[0]);
}

/* Become `argv`, as root of a user namespace with these ids. */
static void launch_owner(const char *ids, char **argv) {
    if (!read_ids(ids)) {
        errno = EINVAL;
        die("argument %s", ids);
    }
    own_user_namespace();
    execv(argv[0], argv);
    die("cannot start %s", argv[0]);
}

/* Connect a network namespace that exists already, named first, as launch_in_network does with a new one. */
static void wire(char **where) {
    if (enter_network(where[0], where[1], where[2], where[3], where[4]) < 0)
        die("cannot make the network device %s for %s", where[1], where[2]);
    exit(0);
}

static void parse_arguments(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (!strcmp(argv[i], "--version")) {
            printf("remora-init %d\n", PROTOCOL_VERSION);
            exit(0);
        } else if (!strcmp(argv[i], "--subreaper")) {
            settings.subreaper = true;
        } else if (!strcmp(argv[i], "--meet")) {
            settings.meet = true;
        } else if (!strcmp(argv[i], "--owned")) {
            settings.owned = true;
        } else if (!strcmp(argv[i], "--probe")) {
            settings.probe = true;
        } else if (!strcmp(argv[i], "--control") && has_value) {
            settings.control = argv[++i];
        } else if (!strcmp(argv[i], "--port") && has_value) {
            settings.port = atoi(argv[++i]);
        } else if (!strcmp(argv[i], "--idmap") && has_value) {
            settings.idmap = read_ids(argv[++i]);
        } else {
            errno = EINVAL;
            die("argument %s", argv[i]);
        }
    }
    if (!settings.control || settings.port < 0 || settings.port > 65535 || (!settings.subreaper && getpid() != 1)) {
        errno = EINVAL;
        die("usage: remora-init --control PATH [--port N] [--idmap BASE:COUNT] [--subreaper]; pid 1 unless --subreaper");
    }
}

static void set_up(void) {
    umask(022);
    own_uid = geteuid();
    close_inherited();
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        die("cannot open /dev/null");
    catch_signals();
    if (settings.subreaper && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        die("cannot become a subreaper");
    if (!settings.meet)
        listen_for_apis();
    find_platform();
    if (settings.idmap)
        own_user_namespace();
    if (settings.idmap || settings.owned)
        keep_few_capabilities();
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    /* Whoever isolates nothing promises nothing; everywhere else it comes last, because it forbids all of the above. */
    if (!settings.subreaper && install_filter() < 0)
        die("cannot install a seccomp filter (is CONFIG_SECCOMP_FILTER missing in the kernel?)");
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    die_with_parent();
    /* A NUL says that all is well; then let go of the pipe, which was standard error. */
    if (write(settings.ready_fd, "", 1) != 1)
        _exit(BROKEN_STATUS);
    for (int fd = 0; fd <= 2; fd++)
        dup2(null_fd, fd);
}

/* ---- the loop --------------------------------------------------------------------------------------------- */

/* True if a signal asked for the end. Inside a pid namespace only the outside (sender 0) may ask that. */
static bool read_signals(void) {
    struct signalfd_siginfo info;
    bool is_end = false;
    while (read(signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo != SIGCHLD && (settings.subreaper || info.ssi_pid == 0))
            is_end = true;
    return is_end;
}

static void step(void) {
    struct pollfd polled[3 + PROCESSES_MAX];
    struct process *starting[PROCESSES_MAX];
    int count = 3, patience = -1;
    polled[0] = (struct pollfd){.fd = signal_fd, .events = POLLIN};
    polled[1] = (struct pollfd){.fd = control_fd, .events = POLLIN};
    polled[2] = (struct pollfd){.fd = connection_fd, .events = POLLIN};
    for (int i = 0; process_count && i < PROCESSES_MAX; i++)
        if (processes[i].used && processes[i].pipe >= 0) {
            starting[count - 3] = &processes[i];
            polled[count++] = (struct pollfd){.fd = processes[i].pipe, .events = POLLIN};
        }
    if (connection_fd < 0) {
        int64_t left = deadline_ms - now_ms();
        patience = left > 0 ? (int)left : 0;
    }
    int ready = poll(polled, (nfds_t)count, patience);
    if (ready < 0)
        return;
    if (ready == 0)
        leave();
    for (int i = 3; i < count; i++)
        if (polled[i].revents)
            settle(starting[i - 3]);
    if (polled[0].revents) {
        if (read_signals())
            leave();
        reap();
    }
    if (polled[2].revents && !receive())
        leave();
    if (polled[1].revents)
        accept_platform();
}

int main(int argc, char **argv) {
    if (argc > 4 && !strcmp(argv[1], "--into") && !strcmp(argv[3], "--"))
        launch_into(atoi(argv[2]), argv + 4);
    if (argc > 3 && !strcmp(argv[1], "--closed") && !strcmp(argv[2], "--"))
        launch_closed(argv + 3);
    if (argc > 3 && !strcmp(argv[1], "--alone") && !strcmp(argv[2], "--"))
        launch_alone(argv + 3);
    if (argc > 3 && !strcmp(argv[1], "--leash") && !strcmp(argv[2], "--"))
        launch_on_leash(argv + 3);
    if (argc > 4 && !strcmp(argv[1], "--enter") && !strcmp(argv[3], "--"))
        launch_entered(argv[2], argv + 4);
    if (argc > 3 && !strcmp(argv[1], "--show"))
        launch_shown(argv + 2);
    if (argc > 4 && !strcmp(argv[1], "--own") && !strcmp(argv[3], "--"))
        launch_owner(argv[2], argv + 4);
    if (argc == 7 && !strcmp(argv[1], "--wire"))
        wire(argv + 2);
    if (argc > 7 && !strcmp(argv[1], "--nat") && !strcmp(argv[6], "--"))
        launch_in_network(argv + 2, argv + 7);
    if (argc > 5 && !strcmp(argv[1], "--scratch") && !strcmp(argv[4], "--"))
        launch_with_scratch(argv[2], argv[3], argv + 5);
    parse_arguments(argc, argv);
    set_up();
    if (settings.probe) /* only whether all of it can be done here was asked */
        return 0;
    if (settings.meet)
        send_hello();
    deadline_ms = now_ms() + CONNECT_MS;
    for (;;)
        step();
}
