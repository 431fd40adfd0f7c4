#define _GNU_SOURCE
/*
 * Tries to escape, one attempt after the other, each in a process of its own, and says how each ended.
 *
 * Started as a bootstrap it is a function that answers with what became of the attempts; started below
 * /opt/extensions it is an extension that tries first, leaves what became of it in /tmp, and then behaves.
 * Each line of the result is `name outcome`: the name of an error, `done` if the attempt succeeded, `ignored` if
 * the call was accepted without effect, `signal N` if it was fatal.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if_alg.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <grp.h>
#include <time.h>
#include <unistd.h>

enum { IGNORED = 251, PATIENCE_S = 10, TEXT_MAX = 32768 };

/* An attempt returns -1 with errno if it was refused, 0 if it succeeded, IGNORED if nothing came of it. */
struct attempt {
    const char *name;
    long (*make)(void);
};

static char nothing[4096];

#define CALL(name, ...) static long name(void) { return syscall(__VA_ARGS__) < 0 ? -1 : 0; }

/* ---- mounts and namespaces */
CALL(mount_tmpfs, SYS_mount, "none", "/tmp", "tmpfs", 0, NULL)
CALL(mount_new_api, 430 /* fsopen */, "tmpfs", 0)
CALL(mount_clone_tree, 428 /* open_tree */, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */)
CALL(remount_writable, SYS_mount, "none", "/", NULL, MS_REMOUNT | MS_BIND, NULL)
CALL(unmount_proc, SYS_umount2, "/proc", MNT_DETACH)
CALL(pivot, SYS_pivot_root, "/tmp", "/tmp")
CALL(change_root, SYS_chroot, "/tmp")
CALL(unshare_user, SYS_unshare, CLONE_NEWUSER)
CALL(unshare_mounts, SYS_unshare, CLONE_NEWNS)
CALL(unshare_network, SYS_unshare, CLONE_NEWNET)
CALL(unshare_time, SYS_unshare, 0x80 /* CLONE_NEWTIME */)
CALL(set_hostname, SYS_sethostname, "owned", 5)

static long clone_user(void) {
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        _exit(0);
    return pid < 0 ? -1 : 0;
}

static long clone3_user(void) {
    struct clone_args how = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    long pid = syscall(435, &how, sizeof how);
    if (pid == 0)
        _exit(0);
    return pid < 0 ? -1 : 0;
}

static long join_namespaces_of_init(void) {
    int pidfd = (int)syscall(434 /* pidfd_open */, 1, 0);
    return pidfd < 0 ? -1 : setns(pidfd, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET);
}

static long map_root(void) {
    int fd = open("/proc/self/uid_map", O_WRONLY);
    return fd < 0 || write(fd, "0 0 1", 5) < 0 ? -1 : 0;
}

/* ---- other processes */
static long trace_init(void) { return ptrace(PTRACE_SEIZE, 1, 0, 0); }
static long trace_parent(void) { return ptrace(PTRACE_SEIZE, getppid(), 0, 0); }

static long read_memory(pid_t pid) {
    struct iovec here = {nothing, 8}, there = {nothing, 8};
    return syscall(SYS_process_vm_readv, pid, &here, 1, &there, 1, 0) < 0 ? -1 : 0;
}
static long read_memory_of_init(void) { return read_memory(1); }
static long read_memory_of_parent(void) { return read_memory(getppid()); }
CALL(compare_kernel_objects, SYS_kcmp, getpid(), 1, 2, 0, 0)

static long take_descriptor_of_init(void) {
    int pidfd = (int)syscall(434, 1, 0);
    return pidfd < 0 ? -1 : syscall(438 /* pidfd_getfd */, pidfd, 3, 0) < 0 ? -1 : 0;
}

static long signal_init(void) {
    static const int numbers[] = {SIGTERM, SIGSTOP, SIGHUP, SIGINT, SIGKILL};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (kill(1, numbers[i]) < 0)
            return -1;
    usleep(10000);
    return kill(1, 0) == 0 ? IGNORED : 0;
}

/* Whatever number a process of the machine has: here it is nobody's. */
static long signal_beyond(void) {
    for (int pid = 100000; pid < 100500; pid++)
        if (kill(pid, SIGKILL) == 0)
            return 0;
    return -1;
}

/* ---- rights */
static long become_root(void) { return setuid(0); }
static long become_another(void) { return setresuid(1000, 1000, 1000); }
static long join_groups(void) {
    gid_t groups[] = {0};
    return setgroups(1, groups);
}

static long take_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{~0u, ~0u, ~0u}, {~0u, ~0u, ~0u}};
    return syscall(SYS_capset, &header, data);
}

static long allow_new_privileges(void) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0)
        return 0;
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? -1 : 0;
}

static long leave_filter(void) { return prctl(PR_SET_SECCOMP, 0, NULL); }

static long be_urgent(void) { return setpriority(PRIO_PROCESS, 0, -20); }
static long be_real_time(void) {
    struct sched_param most = {.sched_priority = 50};
    return sched_setscheduler(0, SCHED_FIFO, &most);
}
static long raise_limit(int resource) {
    struct rlimit more = {1 << 20, 1 << 20};
    return setrlimit(resource, &more);
}
static long raise_files(void) { return raise_limit(RLIMIT_NOFILE); }
static long raise_locked(void) { return raise_limit(RLIMIT_MEMLOCK); }
static long dump_core(void) { return raise_limit(RLIMIT_CORE); }

static long hide_from_killer(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    return fd < 0 || write(fd, "-1000", 5) < 0 ? -1 : 0;
}

/* ---- the kernel */
CALL(session_keys, SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -3, 0)
CALL(plant_key, SYS_add_key, "user", "k", "v", 1, -3)
CALL(ask_for_key, SYS_request_key, "user", "k", NULL, 0)
CALL(insert_module, SYS_init_module, nothing, sizeof nothing, "")
CALL(insert_module_file, SYS_finit_module, 0, "", 0)
CALL(other_kernel, SYS_kexec_load, 0, 0, NULL, 0)
CALL(restart_machine, SYS_reboot, 0xfee1dead, 672274793, 0x01234567, NULL)
CALL(kernel_log, SYS_syslog, 3, nothing, sizeof nothing)
CALL(account, SYS_acct, "/tmp/acct")
CALL(swap_on, SYS_swapon, "/tmp/swap", 0)
CALL(quotas, SYS_quotactl, 0, "/dev/vda", 0, NULL)
CALL(fault_handler, SYS_userfaultfd, 0)
CALL(watch_all_files, SYS_fanotify_init, 0, 0)
CALL(ring, 425 /* io_uring_setup */, 8, nothing)
CALL(place_memory, SYS_set_mempolicy, 0, NULL, 0)
CALL(future_call, 600)

static long load_program(void) {
    union bpf_attr attributes = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes) < 0 ? -1 : 0;
}

static long count_events(void) {
    struct perf_event_attr attributes = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attributes, .exclude_kernel = 1};
    return syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0) < 0 ? -1 : 0;
}

static long file_by_handle(void) {
    struct {
        struct file_handle head;
        uint8_t bytes[8];
    } handle = {.head = {.handle_bytes = 8, .handle_type = 1}, .bytes = {2}};
    int root = open("/tmp", O_RDONLY);
    return open_by_handle_at(root, &handle.head, O_RDONLY) < 0 ? -1 : 0;
}

static long set_clock(void) {
    struct timespec now = {.tv_sec = 1};
    return clock_settime(CLOCK_REALTIME, &now);
}

static long set_day(void) {
    struct timeval now = {.tv_sec = 1};
    return settimeofday(&now, NULL);
}

static long fixed_addresses(void) { return personality(ADDR_NO_RANDOMIZE) < 0 ? -1 : 0; }

#if defined(__x86_64__)
static long call_as_32_bit(void) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20 /* getpid */) : "memory");
    if (result < 0)
        errno = (int)-result;
    return result < 0 ? -1 : 0;
}
CALL(call_as_x32, 0x40000000 + 39 /* getpid */)
CALL(io_ports, SYS_iopl, 3)
CALL(segments, SYS_modify_ldt, 0, nothing, sizeof nothing)
#endif

/* ---- sockets and terminals */
static long make_socket(int family, int kind, int protocol) { return socket(family, kind, protocol) < 0 ? -1 : 0; }
static long raw_socket(void) { return make_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
static long packet_socket(void) { return make_socket(AF_PACKET, SOCK_RAW, 0); }
static long machine_socket(void) { return make_socket(40 /* AF_VSOCK */, SOCK_STREAM, 0); }
static long crypto_socket(void) { return make_socket(AF_ALG, SOCK_SEQPACKET, 0); }
static long bluetooth_socket(void) { return make_socket(31, SOCK_RAW, 1); }
static long cluster_socket(void) { return make_socket(30 /* AF_TIPC */, SOCK_RDM, 0); }

/* Pairs need no address: where the family is a module, the kernel would load it. */
static long cluster_pair(void) {
    int pair[2];
    return socketpair(30 /* AF_TIPC */, SOCK_SEQPACKET, 0, pair);
}

/* Ask the kernel by netlink for something without more words; what it answers is an error. */
static long ask_kernel(int protocol, uint16_t type, uint16_t flags) {
    struct {
        struct nlmsghdr head;
        uint8_t rest[512];
    } order = {.head = {.nlmsg_len = NLMSG_LENGTH(16), .nlmsg_type = type,
                        .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags)}};
    int fd = socket(AF_NETLINK, SOCK_RAW, protocol);
    if (fd < 0 || send(fd, &order, order.head.nlmsg_len, 0) < 0 || recv(fd, &order, sizeof order, 0) < 0)
        return -1;
    errno = order.head.nlmsg_type == NLMSG_ERROR ? -((struct nlmsgerr *)NLMSG_DATA(&order.head))->error : 0;
    return errno ? -1 : 0;
}
static long stop_audit(void) { return ask_kernel(NETLINK_AUDIT, 1001 /* AUDIT_SET */, 0); }
static long new_policy(void) { return ask_kernel(NETLINK_XFRM, 0x1c /* XFRM_MSG_FLUSHSA */, 0); }
static long new_rules(void) { return ask_kernel(NETLINK_NETFILTER, 10 << 8 /* NFT_MSG_NEWTABLE */, NLM_F_CREATE); }

static long new_interface(void) {
    struct {
        struct nlmsghdr head;
        struct ifinfomsg about;
        uint8_t answer[512];
    } order = {.head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_NEWLINK,
                        .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
               .about = {.ifi_family = AF_UNSPEC, .ifi_index = 1, .ifi_change = 1, .ifi_flags = 0}};
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    if (fd < 0 || send(fd, &order, order.head.nlmsg_len, 0) < 0 || recv(fd, &order, sizeof order, 0) < 0)
        return -1;
    errno = -((struct nlmsgerr *)NLMSG_DATA(&order.head))->error;
    return errno ? -1 : 0;
}

static long type_for_others(void) {
    int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    return fd < 0 || ioctl(fd, 0x5412 /* TIOCSTI */, "x") < 0 ? -1 : 0;
}

static long speak_to_init(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/remora/control/control.sock"};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    if (send(fd, "A", 1, MSG_NOSIGNAL) < 0)
        return -1;
    return recv(fd, nothing, sizeof nothing, 0) <= 0 ? IGNORED : 0;
}

/* ---- files */
static long make_node(mode_t kind) { return mknod("/tmp/node", kind | 0666, makedev(1, 1)); }
static long block_device(void) { return make_node(S_IFBLK); }
static long memory_device(void) { return make_node(S_IFCHR); }

static long write_code(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    return fd < 0 || write(fd, "x", 1) < 0 ? -1 : 0;
}
static long write_task(void) { return write_code("/var/task/planted"); }
static long write_layer(void) { return write_code("/opt/planted"); }
static long write_system(void) { return write_code("/usr/bin/planted"); }
static long write_names(void) { return write_code("/etc/hosts"); }
static long write_root(void) { return write_code("/planted"); }
static long replace_init(void) { return open("/run/remora/init", O_WRONLY) < 0 ? -1 : 0; }
static long replace_init_by_link(void) { return open("/proc/1/exe", O_RDWR) < 0 ? -1 : 0; }
static long link_out_of_layer(void) {
    unlink("/tmp/hard");
    return link("/usr/bin/env", "/tmp/hard");
}

/* A private mapping written through /proc/self/mem must be a copy. */
static long write_through_memory(void) {
    char before, after;
    int file = open("/usr/bin/env", O_RDONLY), memory = open("/proc/self/mem", O_RDWR);
    if (file < 0 || memory < 0 || pread(file, &before, 1, 0) != 1)
        return -1;
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    if (page == MAP_FAILED || pwrite(memory, "!", 1, (off_t)(uintptr_t)page) < 0)
        return -1;
    return pread(file, &after, 1, 0) == 1 && before == after ? IGNORED : 0;
}

static long shared_memory_of_host(void) { return shmget(0x52454d4f, 0, 0) < 0 ? -1 : 0; }

static const struct attempt attempts[] = {
#define A(name) {#name, name}
    A(mount_tmpfs), A(mount_new_api), A(mount_clone_tree), A(remount_writable), A(unmount_proc), A(pivot), A(change_root),
    A(unshare_user), A(unshare_mounts), A(unshare_network), A(unshare_time), A(clone_user), A(clone3_user),
    A(join_namespaces_of_init), A(map_root), A(set_hostname),
    A(trace_init), A(trace_parent), A(read_memory_of_init), A(read_memory_of_parent), A(compare_kernel_objects),
    A(take_descriptor_of_init), A(signal_init), A(signal_beyond),
    A(become_root), A(become_another), A(join_groups), A(take_capabilities), A(allow_new_privileges), A(leave_filter),
    A(be_urgent), A(be_real_time), A(raise_files), A(raise_locked), A(dump_core), A(hide_from_killer),
    A(session_keys), A(plant_key), A(ask_for_key), A(insert_module), A(insert_module_file), A(other_kernel),
    A(restart_machine), A(kernel_log), A(account), A(swap_on), A(quotas), A(fault_handler), A(watch_all_files), A(ring),
    A(place_memory), A(future_call), A(load_program), A(count_events), A(file_by_handle), A(set_clock), A(set_day),
    A(fixed_addresses),
#if defined(__x86_64__)
    A(call_as_32_bit), A(call_as_x32), A(io_ports), A(segments),
#endif
    A(raw_socket), A(packet_socket), A(machine_socket), A(crypto_socket), A(bluetooth_socket), A(cluster_socket),
    A(cluster_pair), A(stop_audit), A(new_policy), A(new_rules), A(new_interface), A(type_for_others), A(speak_to_init),
    A(block_device), A(memory_device), A(write_task), A(write_layer), A(write_system), A(write_names), A(write_root),
    A(replace_init), A(replace_init_by_link), A(link_out_of_layer), A(write_through_memory), A(shared_memory_of_host),
};

/* Make one attempt in a process of its own; write its line. */
static int try(const struct attempt *attempt, char *line, size_t room) {
    pid_t pid = fork();
    int status;
    if (pid == 0) {
        alarm(PATIENCE_S);
        long result = attempt->make();
        _exit(result < 0 ? errno : (int)result);
    }
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        return snprintf(line, room, "%s signal %d\\n", attempt->name, WTERMSIG(status));
    int code = WEXITSTATUS(status);
    const char *outcome = code == 0 ? "done" : code == IGNORED ? "ignored" : strerrorname_np(code);
    return snprintf(line, room, "%s %s\\n", attempt->name, outcome ? outcome : "odd");
}

static char *results(void) {
    static char text[TEXT_MAX];
    size_t length = 0;
    text[length++] = '"';
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++)
        length += (size_t)try(&attempts[i], text + length, sizeof text - 1 - length);
    text[length++] = '"';
    text[length] = 0;
    return text;
}

/* ---- speaking with the platform */

static char heard[65536];

/* Ask, on a connection of its own; returns the body of the answer. */
static char *ask(const char *method, const char *path, const char *header, const char *body) {
    char host[64], head[1024];
    snprintf(host, sizeof host, "%s", getenv("AWS_LAMBDA_RUNTIME_API"));
    char *colon = strchr(host, ':');
    *colon = 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    inet_pton(AF_INET, host, &address.sin_addr);
    int peer = socket(AF_INET, SOCK_STREAM, 0), size;
    if (connect(peer, (struct sockaddr *)&address, sizeof address) < 0)
        exit(71);
    size = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\nConnection: close\r\n\r\n",
                    method, path, header, strlen(body));
    if (write(peer, head, (size_t)size) != size || write(peer, body, strlen(body)) != (ssize_t)strlen(body))
        exit(72);
    size_t length = 0;
    for (ssize_t got; (got = read(peer, heard + length, sizeof heard - 1 - length)) > 0;)
        length += (size_t)got;
    heard[length] = 0;
    close(peer);
    char *end = strstr(heard, "\r\n\r\n");
    if (!end)
        exit(73);
    return end + 4;
}

/* Copy the value of a header of the last answer. */
static void header_of_answer(const char *name, char *value, size_t room) {
    char *at = strcasestr(heard, name);
    if (!at || sscanf(at + strlen(name), ": %127[^\r]", value) != 1)
        snprintf(value, room, "none");
}

static void be_function(void) {
    for (;;) {
        char id[128], path[256];
        ask("GET", "/2018-06-01/runtime/invocation/next", "", "");
        header_of_answer("Lambda-Runtime-Aws-Request-Id", id, sizeof id);
        snprintf(path, sizeof path, "/2018-06-01/runtime/invocation/%s/response", id);
        ask("POST", path, "", results());
    }
}

static void be_extension(const char *name) {
    char id[128], header[256], path[300];
    snprintf(path, sizeof path, "/tmp/%s.json", name);
    FILE *file = fopen(path, "w");
    if (!file)
        exit(74);
    fputs(results(), file);
    fclose(file);
    snprintf(header, sizeof header, "Lambda-Extension-Name: %s\r\n", name);
    ask("POST", "/2020-01-01/extension/register", header, "{\"events\":[]}");
    header_of_answer("Lambda-Extension-Identifier", id, sizeof id);
    snprintf(header, sizeof header, "Lambda-Extension-Identifier: %s\r\n", id);
    ask("GET", "/2020-01-01/extension/event/next", header, "");
}

int main(int argc, char **argv) {
    (void)argc;
    const char *name = strrchr(argv[0], '/');
    if (strstr(argv[0], "/extensions/"))
        be_extension(name + 1);
    else
        be_function();
    return 0;
}
