"""Every escape that is tried: what stops it, and how it may end; `docs/security.md` shows this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECCOMP: Final = "system call filter"
NAMESPACES: Final = "namespaces"
MOUNTS: Final = "what is mounted, and read-only"
CAPABILITIES: Final = "no capabilities, no_new_privs"
IDS: Final = "ids that own nothing outside"
LIMITS: Final = "limits"
PLATFORM: Final = "the platform's own checks"
NETWORK: Final = "network policy"


@dataclass(frozen=True)
class Escape:
    """
    One attempt.

    Args:
        name: As `hostile.c` or `hostile.py` calls it.
        tries: What it tries.
        wall: What stops it first.
        outcomes: How it may end: names of errors, HTTP statuses, `ignored`.
    """

    name: str
    tries: str
    wall: str
    outcomes: frozenset[str]


def _of(wall: str, usual: str, *rows: tuple[str, str] | tuple[str, str, str]) -> list[Escape]:
    return [
        Escape(row[0], row[1], wall, frozenset((row[2] if len(row) > 2 else usual).split())) for row in rows
    ]


PROGRAM: Final[list[Escape]] = [
    *_of(
        SECCOMP,
        "EPERM",
        ("mount_tmpfs", "mount a file system"),
        ("mount_new_api", "open a new file system (fsopen)"),
        ("mount_clone_tree", "clone the mounts (open_tree)"),
        ("remount_writable", "make the root writable"),
        ("unmount_proc", "unmount /proc with its masks"),
        ("pivot", "pivot_root"),
        ("change_root", "chroot"),
        ("unshare_user", "a user namespace with all capabilities (unshare)"),
        ("unshare_mounts", "a mount namespace"),
        ("unshare_network", "a network namespace"),
        ("unshare_time", "a time namespace"),
        ("clone_user", "a user namespace (clone)"),
        ("clone3_user", "a user namespace (clone3, whose flags no filter can read)", "ENOSYS"),
        ("join_namespaces_of_init", "enter pid 1's namespaces (setns)"),
        ("set_hostname", "set the host name"),
        ("trace_init", "trace pid 1"),
        ("trace_parent", "trace another process of the same user"),
        ("read_memory_of_init", "read pid 1's memory (process_vm_readv)"),
        ("read_memory_of_parent", "read another process's memory"),
        ("compare_kernel_objects", "kcmp"),
        ("take_descriptor_of_init", "take a descriptor of pid 1 (pidfd_getfd)"),
        ("session_keys", "read the session keyring, which is the host's"),
        ("plant_key", "add a key to the kernel's keyrings"),
        ("ask_for_key", "request_key, which starts a program on the host"),
        ("insert_module", "load a kernel module"),
        ("insert_module_file", "load a kernel module from a file"),
        ("other_kernel", "load another kernel (kexec)"),
        ("restart_machine", "reboot"),
        ("kernel_log", "read the kernel's log (syslog)"),
        ("account", "process accounting into a file"),
        ("swap_on", "use a file as swap"),
        ("quotas", "quotactl"),
        ("fault_handler", "userfaultfd, the exploiter's stopwatch"),
        ("watch_all_files", "fanotify"),
        ("ring", "io_uring"),
        ("place_memory", "move memory between nodes"),
        ("future_call", "a system call that is newer than the filter", "ENOSYS"),
        ("load_program", "bpf"),
        ("count_events", "perf_event_open"),
        ("file_by_handle", "open a file by handle, past every mount"),
        ("set_clock", "set the clock (clock_settime)"),
        ("set_day", "set the clock (settimeofday)"),
        ("fixed_addresses", "turn address randomisation off"),
        ("call_as_32_bit", "system calls by their 32-bit numbers", "ENOSYS"),
        ("call_as_x32", "system calls by their x32 numbers", "ENOSYS"),
        ("io_ports", "use the machine's ports (iopl)"),
        ("segments", "change the segment table (modify_ldt)"),
        ("packet_socket", "a packet socket, to see others' traffic", "EAFNOSUPPORT"),
        ("machine_socket", "a vsock to the hypervisor", "EAFNOSUPPORT"),
        ("crypto_socket", "a socket of the kernel's ciphers", "EAFNOSUPPORT"),
        ("bluetooth_socket", "a Bluetooth socket", "EAFNOSUPPORT"),
        ("cluster_socket", "a TIPC socket", "EAFNOSUPPORT"),
        ("cluster_pair", "a pair of TIPC sockets, which loads a kernel module", "EAFNOSUPPORT"),
        ("type_for_others", "type into a terminal (TIOCSTI)"),
    ),
    *_of(
        CAPABILITIES,
        "EPERM",
        ("map_root", "map root into the own user namespace"),
        ("become_root", "setuid(0)", "EPERM EINVAL"),
        ("become_another", "become another user", "EPERM EINVAL"),
        ("join_groups", "join the group root"),
        ("take_capabilities", "take all capabilities"),
        ("allow_new_privileges", "clear no_new_privs", "EINVAL"),
        ("leave_filter", "leave the system call filter", "EINVAL"),
        ("raw_socket", "a raw socket"),
        ("new_interface", "change a network interface"),
        ("new_rules", "change the firewall by netlink", "EPERM EPROTONOSUPPORT"),
        ("new_policy", "change IPsec by netlink", "EPERM EPROTONOSUPPORT"),
        ("stop_audit", "stop the kernel's audit by netlink", "EPERM ECONNREFUSED EPROTONOSUPPORT"),
        ("block_device", "make a block device"),
        ("memory_device", "make the device of the machine's memory"),
        ("be_urgent", "run before everybody else (nice -20)", "EACCES EPERM"),
        ("be_real_time", "real-time scheduling"),
    ),
    *_of(
        LIMITS,
        "EPERM",
        ("raise_files", "open more files than 1,024"),
        ("raise_locked", "lock more memory"),
        ("dump_core", "write a core dump, which the host would handle"),
        ("hide_from_killer", "hide from the out-of-memory killer", "EACCES"),
    ),
    *_of(
        NAMESPACES,
        "ESRCH",
        ("signal_beyond", "kill processes of the machine"),
        ("shared_memory_of_host", "attach shared memory of the host", "ENOENT"),
    ),
    *_of(
        PLATFORM,
        "EPERM ignored",
        ("signal_init", "end pid 1 by signals"),
        (
            "speak_to_init",
            "give pid 1 orders through its control socket",
            "EACCES ENOENT EPIPE ECONNRESET ignored",
        ),
    ),
    *_of(
        MOUNTS,
        "EROFS",
        ("write_task", "write to /var/task"),
        ("write_layer", "write to /opt"),
        ("write_system", "write to /usr"),
        ("write_names", "write to /etc/hosts", "EROFS EACCES"),
        ("write_root", "write to /"),
        ("replace_init", "overwrite pid 1's program", "EROFS EACCES ETXTBSY"),
        ("replace_init_by_link", "overwrite pid 1's program through /proc/1/exe", "EACCES"),
        ("link_out_of_layer", "hard link of a read-only file into /tmp", "EXDEV"),
        ("write_through_memory", "write to a read-only file through /proc/self/mem", "ignored"),
    ),
]
"""What `hostile.c` tries."""

SCRIPT: Final[list[Escape]] = [
    *_of(
        MOUNTS,
        "ENOENT EACCES",
        ("read_shadow", "read /etc/shadow"),
        ("read_home", "list the home directory of root"),
        ("read_secret_of_host", "read a file of the host that anybody may read"),
        ("read_data_of_node", "list the node's data directory"),
        ("read_other_environments", "list other environments' directories"),
        ("read_boot", "list /boot"),
        ("read_kernel_memory", "read /proc/kcore", "ENOENT EACCES empty"),
        ("read_kernel_keys", "read /proc/keys", "ENOENT EACCES empty"),
        ("read_timers", "read /proc/timer_list", "ENOENT EACCES empty"),
        ("read_kernel_messages", "read /dev/kmsg"),
        ("read_memory_device", "read /dev/mem"),
        ("read_disk", "read the disk's device"),
        ("use_fuse", "use /dev/fuse"),
        ("use_tunnel", "use /dev/net/tun"),
        ("use_virtual_machine", "use /dev/kvm"),
        ("devices", "find any device but the usual harmless ones", "ignored"),
        ("container_socket", "find Docker's socket"),
        ("system_bus", "find the system's bus"),
        ("core_pattern", "make the host run a program at a crash (core_pattern)", "EACCES EROFS"),
        ("modprobe_path", "make the host run a program (modprobe)", "EACCES EROFS ENOENT"),
        ("forward_packets", "forward packets", "EACCES EROFS"),
        ("magic_keys", "restart the machine by /proc/sysrq-trigger", "EACCES EROFS ENOENT"),
        ("profile_of_machine", "list /sys/kernel"),
        ("cgroup_escape", "make the host run a program (release_agent)"),
        ("climb", "climb out with `..`"),
        ("link_to_outside", "a symbolic link to a file of the host"),
        ("set_user_bit", "use a program of root's with the set-user bit", "ignored"),
        ("drop_caches", "throw away the machine's caches", "EACCES EROFS"),
        ("number_of_processes", "change the machine's highest pid", "EACCES EROFS"),
    ),
    *_of(
        CAPABILITIES,
        "EPERM EINVAL",
        ("chown_to_root", "give a file to root"),
        ("terminal", "open the platform's terminal", "ENXIO"),
        ("kernel_addresses", "learn where the kernel is in memory", "ignored ENOENT"),
        ("program_in_memory", "run a set-user program from a file in memory", "ignored"),
    ),
    *_of(
        NAMESPACES,
        "ignored",
        ("others_credentials", "find credentials of another environment in any process's variables"),
        ("processes_of_machine", "see processes of the machine"),
        ("message_queue", "open a message queue of the host", "ENOENT"),
        ("abstract_socket_of_host", "connect to an abstract unix socket of the host", "ECONNREFUSED"),
        ("neighbours_frames", "find listeners of others in /proc/net"),
    ),
    *_of(
        PLATFORM,
        "EACCES",
        ("memory_of_init", "read /proc/1/mem"),
        ("variables_of_init", "read /proc/1/environ"),
        ("descriptors_of_init", "look at pid 1's descriptors"),
        ("root_of_init", "leave through /proc/1/root"),
        ("unlink_control", "remove pid 1's control socket", "EACCES EROFS"),
        ("inherited_descriptors", "find a descriptor of the platform", "ignored"),
        ("speak_as_another", "answer an invocation of another environment", "HTTP_400"),
        ("extension_of_another", "ask for the events of another environment's extension", "HTTP_403"),
        ("node_behind_api", "find the node's own API at the environment's address", "HTTP_404"),
        ("functions_behind_api", "find the Lambda API at the environment's address", "HTTP_404"),
        ("smuggle", "smuggle a second request (two lengths)", "HTTP_400"),
    ),
    *_of(
        NETWORK,
        "ECONNREFUSED ENETUNREACH EHOSTUNREACH ETIMEDOUT",
        ("node_by_loopback", "reach the node's API through the loopback interface"),
        ("address_of_host", "reach a port of the host by its address"),
        ("metadata", "reach the cloud's metadata service"),
        (
            "metadata_6",
            "reach it by IPv6",
            "ECONNREFUSED ENETUNREACH EHOSTUNREACH ETIMEDOUT EACCES EADDRNOTAVAIL",
        ),
    ),
]
"""What `hostile.py` tries."""

ABUSES: Final[list[Escape]] = [
    *_of(
        LIMITS,
        "failed",
        ("memory_bomb", "take more memory than configured", "killed"),
        ("shared_memory_bomb", "fill /dev/shm", "ENOSPC killed"),
        ("disk_bomb", "fill /tmp", "ENOSPC"),
        ("inode_bomb", "fill /tmp with empty files", "ENOSPC"),
        ("open_file_bomb", "open thousands of files", "EMFILE"),
        ("fork_bomb", "start thousands of processes", "EAGAIN killed"),
        ("thread_bomb", "start thousands of threads", "failed"),
        ("message_queue_bomb", "fill the kernel with message queues", "EMFILE ENOSPC EPERM ENOMEM"),
        ("deep_directories", "directories so deep that removing them is hard", "done"),
        ("endless_loop", "run for ever", "timeout"),
        ("stop_everyone", "stop every process of the environment (SIGSTOP)", "timeout"),
    ),
    *_of(
        PLATFORM,
        "refused",
        ("kill_everyone", "kill every process of the environment", "killed"),
        ("kill_runtime_by_extension", "an extension kills the runtime", "killed"),
        ("huge_answer", "answer with more than 6 MB", "refused"),
        ("link_in_layer", "a layer with a symbolic link out of it"),
        ("climbing_name", "a layer with a file called `../../etc/cron.d/x`"),
        ("absolute_name", "a layer with a file called `/etc/cron.d/x`"),
        ("below_a_link", "a layer with a file below a link that it brings"),
        ("device_in_layer", "a layer with a block device"),
        ("pipe_in_layer", "a layer with a named pipe"),
        ("huge_zip", "a zip of a kilobyte per megabyte that unpacks to more than 250 MB"),
        ("set_user_bit_in_layer", "a layer with a set-user program", "ignored"),
    ),
]
"""What `test_abuses.py` tries: what it costs the one who does it, and nobody else."""
