"""The few files of /etc that exist inside, and the ids that processes have there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remora.sandbox.nat import read_resolv_confs
from remora.sandbox.networks import resolv_conf_inside

if TYPE_CHECKING:
    from pathlib import Path

    from remora.sandbox.base import Network

USER = "sbx_user1051"
UID = 993
GID = 990
"""User and group of processes inside. Source: `id` in a function of the Lambda service."""
HOSTNAME = "sandbox"
ETC_DIRECTORIES = ("alternatives", "ca-certificates", "crypto-policies", "pki", "ssl")
"""Directories of the host's /etc that are seen inside: certificates, and where links in /usr/bin lead."""
ID_COUNT = 65_536
ID_BASE = 100_000
ID_COUNT_MIN = UID + 1

_FILES = {
    "passwd": f"root:x:0:0:root:/root:/sbin/nologin\n{USER}:x:{UID}:{GID}::/home/{USER}:/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/:/sbin/nologin\n",
    "group": f"root:x:0:\n{USER}:x:{GID}:\nnogroup:x:65534:\n",
    "hostname": f"{HOSTNAME}\n",
    "hosts": "127.0.0.1 localhost\n127.0.0.1 sandbox sandbox.localdomain\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
}


@dataclass(frozen=True, slots=True)
class IdRange:
    """Ids of the machine, `count` from `base` on, that ids 0.. inside are mapped to."""

    base: int
    count: int


def choose_ids(uid_map: str, gid_map: str) -> IdRange | None:
    """
    Choose which ids the processes of sandboxes have outside, when the platform is root.

    Args:
        uid_map: Content of /proc/self/uid_map: which ids exist at all in the platform's own user namespace.
        gid_map: Content of /proc/self/gid_map.

    Returns:
        The usual range if it exists, else the last ids of the longest one, if it is long enough to leave the
        first thousand alone; None if there is none.
    """
    uids, gids = _ranges(uid_map), _ranges(gid_map)
    usual = IdRange(ID_BASE, ID_COUNT)
    if _covers(uids, usual) and _covers(gids, usual):
        return usual
    longest = max(uids, key=lambda each: each.count, default=IdRange(0, 0))
    count = ID_COUNT_MIN
    last = IdRange(longest.base + longest.count - count, count)
    if longest.count >= 2 * count and _covers(gids, last):
        return last
    return None


def _ranges(text: str) -> list[IdRange]:
    return [IdRange(int(inside), int(count)) for inside, _, count in map(str.split, text.splitlines())]


def _covers(ranges: list[IdRange], wanted: IdRange) -> bool:
    return any(
        each.base <= wanted.base and wanted.base + wanted.count <= each.base + each.count for each in ranges
    )


def write_etc(target: Path, host_etc: Path, network: Network) -> tuple[str, ...]:
    """
    Fill a new directory `target`, which is seen as /etc.

    Returns:
        Names of the host's directories to mount in it; mount points for them exist.
    """
    target.mkdir(mode=0o755)
    for name, text in _FILES.items():
        (target / name).write_text(text)
    copied = ("ld.so.cache", "resolv.conf") if network == "host" else ("ld.so.cache",)
    if network == "nat":
        (target / "resolv.conf").write_text(resolv_conf_inside(read_resolv_confs()))
    for name in copied:
        with contextlib.suppress(OSError):
            (target / name).write_bytes((host_etc / name).read_bytes())
    with contextlib.suppress(OSError):
        # Almost everywhere a link into /usr/share/zoneinfo, which is there inside.
        (target / "localtime").symlink_to((host_etc / "localtime").readlink())
    found = tuple(name for name in ETC_DIRECTORIES if (host_etc / name).is_dir())
    for name in found:
        (target / name).mkdir(mode=0o755)
    return found
