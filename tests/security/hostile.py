#!/var/lang/bin/python3
"""Tries to escape by what a script can do: as a function (`handler`), and as an extension (a program)."""

import ctypes
import errno
import glob
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys

IGNORED = "ignored"
API = os.environ.get("AWS_LAMBDA_RUNTIME_API", "")
ME = os.environ.get("AWS_ACCESS_KEY_ID", "")
OTHER = "00000000-0000-4000-8000-000000000000"


def read(path):
    with open(path, "rb") as file:
        return 0 if file.read(1) else "empty"


def write(path, data=b"0"):
    with open(path, "r+b", buffering=0) as file:
        file.write(data)


def ask(method, path, body=b"", **headers):
    """Return the status and body of an answer of the environment's API."""
    host, port = API.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    try:
        return f"HTTP {answer.status}", answer.read()
    finally:
        connection.close()


def reach(host, port):
    with socket.create_connection((host, port), timeout=2):
        pass


def environments_seen():
    """Return the access keys of all processes whose variables can be read."""
    keys = set()
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                found = [v for v in file.read().split(b"\0") if v.startswith(b"AWS_ACCESS_KEY_ID=")]
        except OSError:
            continue
        keys.update(v.decode().partition("=")[2] for v in found)
    return keys


def others_credentials():
    return 0 if environments_seen() - {ME} else IGNORED


def processes_of_machine():
    with open("/proc/1/cmdline", "rb") as file:
        first = file.read()
    return IGNORED if b"remora" in first and len(glob.glob("/proc/[0-9]*")) < 40 else 0


def set_user_bit():
    """The set-user bit of root's programs is not obeyed."""
    for program in ("/usr/bin/su", "/usr/bin/mount", "/bin/su"):
        if os.path.exists(program) and os.stat(program).st_mode & stat.S_ISUID:
            code = "import os; print(os.geteuid())"
            with open("/proc/self/mountinfo") as file:
                mounts = [line.split() for line in file]
            flags = next(words[5] for words in reversed(mounts) if words[4] in ("/usr", "/"))
            if "nosuid" not in flags.split(","):
                return 0
            said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            return IGNORED if int(said.stdout) == os.getuid() else 0
    return IGNORED


def program_in_memory():
    """A set-user bit on a file that no mount option applies to changes nothing."""
    file = os.memfd_create("program", 0)
    os.write(file, b"#!/bin/sh\nid -u\n")
    os.fchmod(file, 0o6755)
    path = f"/proc/self/fd/{file}"
    said = subprocess.run([path], capture_output=True, check=True, pass_fds=[file])
    os.close(file)
    return IGNORED if int(said.stdout) == os.getuid() != 0 else 0


def kernel_addresses():
    with open("/proc/kallsyms") as file:
        addresses = {line.split()[0] for line, _ in zip(file, range(1000), strict=False)}
    return IGNORED if {int(address, 16) for address in addresses} <= {0} else 0


def chown_to_root():
    with open("/tmp/mine", "w"):
        pass
    os.chown("/tmp/mine", 0, 0)


def climb():
    """However many steps up, the root is the sandbox's."""
    return read("../" * 40 + "etc/shadow")


def link_to_outside():
    if not os.path.lexists("/tmp/shadow"):
        os.symlink("/etc/shadow", "/tmp/shadow")
    return read("/tmp/shadow")


def root_of_init():
    os.listdir("/proc/1/root/")


def terminal():
    os.close(os.open("/dev/tty", os.O_RDWR))


def devices():
    usual = {
        *("core", "console", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin"),
        *("stdout", "tty", "urandom", "zero", "mqueue"),
    }
    return 0 if set(os.listdir("/dev")) - usual else IGNORED


def message_queue():
    library = ctypes.CDLL(None, use_errno=True)
    if library.mq_open(b"/remora-secret", os.O_RDONLY) < 0:
        raise OSError(ctypes.get_errno(), "mq_open")


def inherited_descriptors():
    """Beyond the usual three and the log channel, nothing of the platform is open."""
    for number in range(4, 256):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if "control" in target or target.startswith("/data"):
            return 0
    return IGNORED


def speak_as_another():
    return ask("POST", f"/2018-06-01/runtime/invocation/{OTHER}/response", b"{}")[0]


def extension_of_another():
    return ask("GET", "/2020-01-01/extension/event/next", Lambda_Extension_Identifier=OTHER)[0]


def node_behind_api():
    return ask("GET", "/_remora/environments")[0]


def functions_behind_api():
    return ask("GET", "/2015-03-31/functions")[0]


def smuggle():
    """Two lengths: which of them a proxy believes is how requests are smuggled."""
    host, port = API.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as peer:
        peer.sendall(
            b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /_remora/environments HTTP/1.1\r\n\r\n"
        )
        peer.settimeout(5)
        said = b""
        while part := peer.recv(65536):
            said += part
        return "HTTP " + said[9:12].decode()


def abstract_socket(name):
    def attempt():
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect("\0" + name)

    return attempt


def neighbours_frames():
    """The loopback interface inside carries nothing of others."""
    with open("/proc/net/tcp") as file:
        listening = [line.split()[1] for line in file.read().splitlines()[1:] if line.split()[3] == "0A"]
    return IGNORED if len(listening) <= 3 else 0


def profile_of_machine():
    os.listdir("/sys/kernel")


def cgroup_escape():
    write("/sys/fs/cgroup/release_agent")


def attempts(event):
    """Return every attempt by its name; `event` tells where things are on the host."""
    return {
        "read_shadow": lambda: read("/etc/shadow"),
        "read_home": lambda: os.listdir("/root"),
        "read_secret_of_host": lambda: read(event["secret"]),
        "read_data_of_node": lambda: os.listdir(event["data"]),
        "read_other_environments": lambda: os.listdir(event["data"] + "/environments"),
        "read_boot": lambda: os.listdir("/boot"),
        "read_kernel_memory": lambda: read("/proc/kcore"),
        "read_kernel_keys": lambda: read("/proc/keys"),
        "read_timers": lambda: read("/proc/timer_list"),
        "read_kernel_messages": lambda: read("/dev/kmsg"),
        "read_memory_device": lambda: read("/dev/mem"),
        "read_disk": lambda: read("/dev/vda"),
        "use_fuse": lambda: read("/dev/fuse"),
        "use_tunnel": lambda: read("/dev/net/tun"),
        "use_virtual_machine": lambda: read("/dev/kvm"),
        "container_socket": lambda: os.stat("/run/docker.sock"),
        "system_bus": lambda: os.stat("/run/dbus/system_bus_socket"),
        "memory_of_init": lambda: read("/proc/1/mem"),
        "variables_of_init": lambda: read("/proc/1/environ"),
        "descriptors_of_init": lambda: os.readlink("/proc/1/fd/4"),
        "root_of_init": root_of_init,
        "core_pattern": lambda: write("/proc/sys/kernel/core_pattern", b"|/tmp/x"),
        "modprobe_path": lambda: write("/proc/sys/kernel/modprobe", b"/tmp/x"),
        "forward_packets": lambda: write("/proc/sys/net/ipv4/ip_forward", b"1"),
        "drop_caches": lambda: write("/proc/sys/vm/drop_caches", b"1"),
        "number_of_processes": lambda: write("/proc/sys/kernel/pid_max", b"4194304"),
        "program_in_memory": program_in_memory,
        "kernel_addresses": kernel_addresses,
        "magic_keys": lambda: write("/proc/sysrq-trigger", b"b"),
        "profile_of_machine": profile_of_machine,
        "cgroup_escape": cgroup_escape,
        "others_credentials": others_credentials,
        "processes_of_machine": processes_of_machine,
        "set_user_bit": set_user_bit,
        "chown_to_root": chown_to_root,
        "climb": climb,
        "link_to_outside": link_to_outside,
        "unlink_control": lambda: os.unlink("/run/remora/control/control.sock"),
        "terminal": terminal,
        "devices": devices,
        "message_queue": message_queue,
        "inherited_descriptors": inherited_descriptors,
        "speak_as_another": speak_as_another,
        "extension_of_another": extension_of_another,
        "node_behind_api": node_behind_api,
        "functions_behind_api": functions_behind_api,
        "smuggle": smuggle,
        "node_by_loopback": lambda: reach("127.0.0.1", event["port"]),
        "metadata": lambda: reach("169.254.169.254", 80),
        "metadata_6": lambda: reach("fd00:ec2::254", 80),
        "address_of_host": lambda: reach(event["address"], event["outside_port"]),
        "abstract_socket_of_host": abstract_socket(event["abstract"]),
        "neighbours_frames": neighbours_frames,
    }


def outcome_of(attempt):
    """Run it for a few seconds at most; return what became of it."""

    def too_long(*_):
        raise TimeoutError(errno.ETIMEDOUT, "too long")

    is_main = signal.getsignal(signal.SIGALRM) is not None
    if is_main:
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(5)
    try:
        result = attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    finally:
        signal.alarm(0)
    return result or "done"


def all_outcomes(event):
    """Make every attempt."""
    return {name: outcome_of(attempt) for name, attempt in attempts(event).items()}


def handler(event, _context):
    """As a function; also hands over what extensions have left, and what the C program says."""
    told = {"function": all_outcomes(event)} if event.get("try") else {}
    for path in glob.glob("/tmp/*.json"):
        with open(path) as file:
            told[os.path.basename(path)[:-5]] = json.load(file)
    return told


def main():
    """As an extension: attempts are made before it registers."""
    name = os.path.basename(sys.argv[0])
    event = json.loads(os.environ["EVENT"])
    with open(f"/tmp/{name}.json", "w") as file:
        json.dump(all_outcomes(event), file)
    connection = http.client.HTTPConnection(API)
    body = json.dumps({"events": ["INVOKE", "SHUTDOWN"]})
    connection.request("POST", "/2020-01-01/extension/register", body, {"Lambda-Extension-Name": name})
    answer = connection.getresponse()
    answer.read()
    identifier = answer.headers["Lambda-Extension-Identifier"]
    while True:
        connection.request(
            "GET", "/2020-01-01/extension/event/next", headers={"Lambda-Extension-Identifier": identifier}
        )
        event = json.loads(connection.getresponse().read())
        if event["eventType"] == "SHUTDOWN":
            return


if __name__ == "__main__":
    main()
