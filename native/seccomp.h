/*
 * The system calls that no process of a sandbox may make: a filter of the kernel, made from the tables below.
 *
 * At least as strict as the default profile of Docker (moby, profiles/seccomp, read 2026-11): whatever that refuses
 * to a container without capabilities is refused here, and so are ptrace and its relatives, sockets of other families
 * than the usual four, 32-bit system calls, and every call that is newer than this table. What is refused fails with
 * EPERM; what would make a library use an older way fails with ENOSYS, as if the kernel were older.
 */
#ifndef REMORA_SECCOMP_H
#define REMORA_SECCOMP_H

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#else
#error "which number has this machine in the kernel's audit.h?"
#endif

enum {
    X32_BIT = 0x40000000,
    NEWEST_KNOWN = 456, /* futex_requeue, Linux 6.7; from 424 on numbers are the same on all machines */
    MSEAL = 462,
    NEW_NAMESPACES = 0x7e020000, /* CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET */
    TERMINAL_INJECT = 0x5412,    /* TIOCSTI */
    TERMINAL_LINUX = 0x541c,     /* TIOCLINUX */
    FILTER_MAX = 512,
};

/* Calls that have numbers on this machine and are in the headers; those from 424 on are given by number. */
static const uint16_t refused_calls[] = {
    /* mounts and roots */
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_swapon, SYS_swapoff, SYS_quotactl,
    428 /* open_tree */, 429 /* move_mount */, 430 /* fsopen */, 431 /* fsconfig */, 432 /* fsmount */, 433 /* fspick */,
    442 /* mount_setattr */, 443 /* quotactl_fd */,
    /* namespaces */
    SYS_unshare, SYS_setns, SYS_sethostname, SYS_setdomainname,
    /* other processes */
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, 438 /* pidfd_getfd */, 440 /* process_madvise */,
    /* the kernel itself */
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_syslog, SYS_acct, SYS_bpf,
    SYS_perf_event_open, SYS_userfaultfd, SYS_vhangup, SYS_lookup_dcookie, SYS_nfsservctl,
    425 /* io_uring_setup */, 426 /* io_uring_enter */, 427 /* io_uring_register */,
    /* keys, clocks, files by handle, placing of memory */
    SYS_add_key, SYS_request_key, SYS_keyctl, SYS_settimeofday, SYS_clock_settime, SYS_open_by_handle_at,
    SYS_fanotify_init, SYS_mbind, SYS_set_mempolicy, SYS_get_mempolicy, SYS_migrate_pages, SYS_move_pages,
    450 /* set_mempolicy_home_node */,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
#if defined(__x86_64__)
    SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_uselib, SYS_ustat, SYS_sysfs, SYS__sysctl, SYS_create_module,
    SYS_get_kernel_syms, SYS_query_module, SYS_getpmsg, SYS_putpmsg, SYS_afs_syscall, SYS_tuxcall, SYS_security,
    SYS_vserver, SYS_epoll_ctl_old, SYS_epoll_wait_old,
#endif
};

static const uint32_t allowed_families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
/* Linux, 32-bit addresses (PER_LINUX32), both without uname's version 2.6 or with it, and the question. */
static const uint32_t allowed_personalities[] = {0x0, 0x8, 0x20000, 0x20008, 0xffffffff};

struct filter {
    struct sock_filter code[FILTER_MAX];
    unsigned short length;
};

static void add(struct filter *filter, struct sock_filter instruction) { filter->code[filter->length++] = instruction; }

static void load(struct filter *filter, size_t offset) {
    add(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void answer(struct filter *filter, uint32_t action) {
    add(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

static uint32_t fail_with(int error) { return SECCOMP_RET_ERRNO | (uint32_t)error; }

/* If the comparison is true, the answer is `action`; else go on. */
static void answer_if(struct filter *filter, uint16_t comparison, uint32_t value, uint32_t action) {
    add(filter, (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | comparison | BPF_K), value, 0, 1));
    answer(filter, action);
}

/* The lower half of an argument; machines that are not little-endian are refused above. */
static size_t argument(int number) { return offsetof(struct seccomp_data, args) + sizeof(uint64_t) * (size_t)number; }

/* The call `number` is allowed only with one of the values in an argument. The number is loaded before and after. */
static void allow_only(struct filter *filter, uint32_t number, int which, const uint32_t *values, size_t count, int error) {
    unsigned char over = (unsigned char)(2 * count + 2);
    add(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, over));
    load(filter, argument(which));
    for (size_t i = 0; i < count; i++)
        answer_if(filter, BPF_JEQ, values[i], SECCOMP_RET_ALLOW);
    answer(filter, fail_with(error));
}

static void refuse_flags(struct filter *filter, uint32_t number, int which, uint32_t flags) {
    add(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 4));
    load(filter, argument(which));
    answer_if(filter, BPF_JSET, flags, fail_with(EPERM));
    answer(filter, SECCOMP_RET_ALLOW);
}

static void refuse_terminal_tricks(struct filter *filter) {
    add(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 6));
    load(filter, argument(1));
    answer_if(filter, BPF_JEQ, TERMINAL_INJECT, fail_with(EPERM));
    answer_if(filter, BPF_JEQ, TERMINAL_LINUX, fail_with(EPERM));
    answer(filter, SECCOMP_RET_ALLOW);
}

static void build_filter(struct filter *filter) {
    filter->length = 0;
    load(filter, offsetof(struct seccomp_data, arch));
    add(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0));
    answer(filter, fail_with(ENOSYS));
    load(filter, offsetof(struct seccomp_data, nr));
    answer_if(filter, BPF_JGE, X32_BIT, fail_with(ENOSYS));
    answer_if(filter, BPF_JEQ, MSEAL, SECCOMP_RET_ALLOW);
    answer_if(filter, BPF_JGT, NEWEST_KNOWN, fail_with(ENOSYS));
    answer_if(filter, BPF_JEQ, 435 /* clone3: its flags are in memory, which no filter can read */, fail_with(ENOSYS));
    for (size_t i = 0; i < sizeof refused_calls / sizeof *refused_calls; i++)
        answer_if(filter, BPF_JEQ, refused_calls[i], fail_with(EPERM));
    refuse_flags(filter, SYS_clone, 0, NEW_NAMESPACES);
    refuse_terminal_tricks(filter);
    size_t families = sizeof allowed_families / sizeof *allowed_families;
    allow_only(filter, SYS_socket, 0, allowed_families, families, EAFNOSUPPORT);
    allow_only(filter, SYS_socketpair, 0, allowed_families, families, EAFNOSUPPORT);
    allow_only(filter, SYS_personality, 0, allowed_personalities,
               sizeof allowed_personalities / sizeof *allowed_personalities, EPERM);
    answer(filter, SECCOMP_RET_ALLOW);
}

/* Install the filter for this process and all it starts, for ever; no_new_privs must be set. -1 with errno if not. */
static int install_filter(void) {
    static struct filter filter;
    build_filter(&filter);
    struct sock_fprog program = {.len = filter.length, .filter = filter.code};
    /* Without that flag, kernels before 5.16 would slow down every process for the sake of those without a filter. */
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 4 /* SECCOMP_FILTER_FLAG_SPEC_ALLOW */, &program) == 0)
        return 0;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

#endif
