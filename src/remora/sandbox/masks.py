"""
What is hidden or read-only inside although its surroundings are seen: parts of /proc, private keys, sources.

/proc tells about the machine as well as about the sandbox's own processes. What an environment could learn of
its neighbours there is hidden; what changes the machine is read-only already because nobody inside is root
outside, with one exception (`READ_ONLY`). /sys does not exist inside at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HIDDEN = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/usr/local/etc",
    "/usr/local/src",
    "/usr/src",
    "/etc/pki/tls/private",
    "/etc/ssl/private",
)
"""Source: maskedPaths of Docker (moby, oci/defaults.go); the last five: what else /usr and /etc may hold."""
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Source: readonlyPaths of Docker (moby, oci/defaults.go)."""


@dataclass(frozen=True, slots=True)
class Masks:
    """
    What of it exists on this machine.

    Args:
        files: Files that are replaced by one that cannot be opened.
        directories: Directories that are replaced by an empty one.
        read_only: What nobody may write to.
    """

    files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()

    def words(self, replacements: tuple[Path, Path] | None = None) -> list[str]:
        """
        Return the arguments of bubblewrap; they come behind those that mount /proc, /usr and /etc.

        Args:
            replacements: A file and a directory that replace others, if they must be on the host.
        """
        # Mounts inside take no devices: what would be /dev/null elsewhere cannot even be opened.
        nothing = str(replacements[0]) if replacements else "/dev/null"
        words: list[str] = []
        for path in self.read_only:
            words += ["--ro-bind", path, path]
        for path in self.files:
            words += ["--ro-bind", nothing, path]
        for path in self.directories:
            if replacements:
                words += ["--ro-bind", str(replacements[1]), path]
            else:
                words += ["--tmpfs", path, "--remount-ro", path]
        return words


def find_masks(*, owns_switches: bool, root: Path = Path("/")) -> Masks:
    """
    Look what there is to hide.

    Args:
        owns_switches: True if processes inside may be, outside, the user who owns /proc/sys: root without the
            capabilities to give them other ids, or somebody who is called so in a container.
        root: The host's root directory; another one for tests.
    """
    found = [path for path in HIDDEN if (here := root / path[1:]).exists() and not here.is_symlink()]
    directories = tuple(path for path in found if (root / path[1:]).is_dir())
    read_only = tuple(path for path in READ_ONLY if (root / path[1:]).exists()) if owns_switches else ()
    return Masks(tuple(path for path in found if path not in directories), directories, read_only)
