"""
Sandboxes that can be copied with all that runs inside: an original is dumped, copies are restored from it.

An original is made like every other sandbox of bubblewrap, with one difference: its user namespace is the
outermost and owns all others, because CRIU makes the user namespace of a copy first. What lies where its root
may not look is shown to it before (remora-init --show).

In a copy the same things are mounted in the same places, but from its own directory; its network is new and
has the same API address; pid 1 goes on in it, and is found by its control socket as ever.

Source: docs/adr/0020; CRIU's documentation, see `remora.sandbox.criu`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from remora.kit.threads import in_thread
from remora.sandbox import launch
from remora.sandbox.base import Paths, SandboxError
from remora.sandbox.criu import arrange_meeting, begun_later, complaint
from remora.sandbox.host import EMPTY_DIRECTORIES, HOST_DIRECTORIES
from remora.sandbox.keeper import PLACE
from remora.sandbox.node import Site
from remora.sandbox.parting import break_off
from remora.sandbox.restoration import PIDFILE, Restoration, SandboxImage
from remora.sandbox.root_files import ETC_DIRECTORIES, GID, UID
from remora.sandbox.scratch import IMAGE, write_copy
from remora.sandbox.supervised import Habitat
from remora.sandbox.wrapping import EMPTY, NOTHING, command, prepare

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from remora.sandbox.base import SandboxPlan, Watcher
    from remora.sandbox.cgroups import SandboxGroup
    from remora.sandbox.criu import Criu
    from remora.sandbox.host import Host
    from remora.sandbox.keeper import Keeper
    from remora.sandbox.node import SandboxesOfNode
    from remora.sandbox.restoration import Belongings
    from remora.sandbox.scratch import Scratch
    from remora.sandbox.supervised import SupervisedSandbox
    from remora.sandbox.ways import Way, Ways

SHOWN: Final = "/mnt"
"""Where remora-init shows sources; see `remora_init.c`."""
TMP: Final = "tmp"
"""The file system of /tmp among the files of a dump."""
DUMP_S: Final = "60"
HABITAT: Final = Habitat(Paths(), UID, GID, is_isolated=True)
ROOT: Final = "root"
DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
"""What bubblewrap shows of the host's /dev."""
_PUBLIC: Final = frozenset((*HOST_DIRECTORIES, "etc", "dev", "proc"))
"""Directories of the root in which everybody may look."""


@dataclass(frozen=True, slots=True)
class Source:
    """Something of the host that is mounted in a sandbox."""

    path: str
    is_writable: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that runs, with our halves of the connections to its APIs, non-blocking, in the order given."""

    sandbox: SupervisedSandbox
    connections: list[socket.socket]


class Copies:
    """
    Makes originals, dumps them, makes copies.

    Args:
        sandboxes: All sandboxes of the node.
        host: This machine.
        bwrap: The program that makes originals.
        scratch: Returns what makes /tmp, ready for a size, MiB; may take long.
        ways: How sandboxes reach the network.
        criu: The program that makes copies.
        keeper: Where the files of dumps are.
    """

    def __init__(
        self,
        sandboxes: SandboxesOfNode,
        host: Host,
        *,
        bwrap: Path,
        scratch: Callable[[int], Scratch],
        ways: Ways,
        criu: Criu,
        keeper: Keeper,
    ) -> None:
        assert host.ids is not None, "copies need a user namespace with many ids"
        self._sandboxes = sandboxes
        self._host = host
        self._ids = host.ids
        self._bwrap = bwrap
        self._scratch = scratch
        self._ways = ways
        self._criu = criu
        self._keeper = keeper

    def __repr__(self) -> str:
        return f"<Copies by {self._criu!r}>"

    def close(self) -> None:
        """Let go of the files of all dumps. Repeated calls: no effect."""
        self._keeper.close()

    # ---- originals

    async def create(self, plan: SandboxPlan, watcher: Watcher) -> SupervisedSandbox:
        """
        Make an original; see `SandboxDriver.create`.

        Raises:
            SandboxError: If it could not be made, or its network is the host's.
        """
        scratch = await self._scratch_for(plan)
        way = await self._ways.find(plan.network)
        site = Site(
            lambda _: scratch.launched(self._owned(self._command(plan, scratch)), plan),
            scratch.memory_mib(plan),
            way.leave,
        )
        sandbox = await self._sandboxes.create(plan, watcher, HABITAT, site)
        try:
            await self._wire(way, sandbox.pid)
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    async def _scratch_for(self, plan: SandboxPlan) -> Scratch:
        if plan.network == "host":
            raise SandboxError("what has the network of the host cannot be copied: choose another policy")
        return await in_thread(self._scratch, plan.ephemeral_mib)

    def _command(self, plan: SandboxPlan, scratch: Scratch) -> list[str]:
        """Make the plan's directory; return the command that makes the sandbox, for who sees everything."""
        etc_directories = prepare(plan, scratch)
        self._prepare(plan)
        return command(self._bwrap, self._host, plan, etc_directories, scratch.kind, is_owner=True)

    def _prepare(self, plan: SandboxPlan) -> None:
        """Make what replaces whatever is hidden; and let the owner of the sandbox make its control socket."""
        (plan.directory / EMPTY).mkdir()
        (plan.directory / NOTHING).touch(mode=0)
        os.chown(plan.directory / "control", self._ids.base, self._ids.base)

    def _owned(self, words: list[str]) -> list[str]:
        """Return the command that runs such a command as the owner of the sandbox, who may not."""
        show, shown = self._show(_mounts(words).values())
        own = [str(self._host.init), "--own", f"{self._ids.base}:{self._ids.count}", "--"]
        return [*show, *own, *(shown.get(word, word) for word in words)]

    def _show(self, sources: Iterable[Source]) -> tuple[list[str], dict[str, str]]:
        """Return what begins a command that is to see what only root may, and where it sees each source."""
        private = [each for each in dict.fromkeys(sources) if not is_public(each.path)]
        shown = {each.path: f"{SHOWN}/{number}" for number, each in enumerate(private, start=1)}
        words = ["+" * each.is_writable + each.path for each in private]
        return [str(self._host.init), "--show", *words, "--"], shown

    async def _wire(self, way: Way, pid: int) -> None:
        """Connect the network of a sandbox."""
        if words := way.wired(f"/proc/{pid}/ns/net"):
            await in_thread(_run, words, "the sandbox could not be connected", retryable=True)

    # ---- dumps

    @property
    def directory(self) -> Path:
        """Where the files of dumps are, in memory: a directory of its own for each."""
        return self._keeper.directory

    async def dump(self, sandbox: SupervisedSandbox, images: str) -> SandboxImage:
        """
        Write an original down, with all that runs inside; nothing does afterwards, and it must be closed.

        Connections to anywhere but its own loopback are broken first: they could not be shared by copies.

        Args:
            sandbox: The original.
            images: Name of a directory that is there and empty.

        Raises:
            SandboxError: If it has ended, or something runs in it that cannot be written down.

        **Cancellation:** as for an error.
        """
        plan = sandbox.plan
        scratch = await self._scratch_for(plan)
        tmp = os.open(f"/proc/{sandbox.pid}/root/tmp", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            await in_thread(break_off, sandbox.pid)
            self._keeper.watch(sandbox.pid)
            processes = await sandbox.let_go()
            mounts = tuple(self._sources(plan, scratch))
            words = self._criu.dump(sandbox.pid, Path(PLACE, images), mounts)
            words = self._keeper.inside(["timeout", "--verbose", DUMP_S, *words])
            await in_thread(_run, words, "CRIU could not take the snapshot", explain=complaint)
            if scratch.kind == "disk":
                await in_thread(_read_tmp, tmp, plan.directory / IMAGE, self.directory / images / TMP)
        except OSError as error:
            raise SandboxError(f"sandbox {plan.name} could not be dumped: {error}") from error
        finally:
            os.close(tmp)
            self._keeper.unwatch(sandbox.pid)
        return SandboxImage(processes, mounts)

    def _sources(self, plan: SandboxPlan, scratch: Scratch) -> dict[str, Source]:
        """Return what of the host is mounted where inside, in order."""
        etc_directories = tuple(name for name in ETC_DIRECTORIES if (plan.directory / "etc" / name).is_dir())
        words = command(self._bwrap, self._host, plan, etc_directories, scratch.kind, is_owner=True)
        devices = {f"/dev/{name}": Source(f"/dev/{name}", is_writable=True) for name in DEVICES}
        return devices | _mounts(words)

    # ---- copies

    async def copy(self, plan: SandboxPlan, watcher: Watcher, image: SandboxImage, own: Belongings) -> Copy:
        """
        Make a copy of a sandbox that was dumped; everything in it runs on.

        Raises:
            SandboxError: If it could not be made; nothing of it is left behind.

        **Cancellation:** nothing of it is left behind.
        """
        scratch = await self._scratch_for(plan)
        way = await self._ways.find(plan.network)
        with contextlib.ExitStack() as undo:
            restoration = Restoration(plan, image, own, keeper=self._keeper, undo=undo)
            site = Site(
                _unprepared,
                scratch.memory_mib(plan),
                way.leave,
                start=lambda group: self._restore(restoration, scratch, way, group),
                processes=image.processes,
            )
            sandbox = await self._sandboxes.create(plan, watcher, HABITAT, site)
            undo.pop_all()
        return Copy(sandbox, restoration.connections)

    async def _restore(
        self, restoration: Restoration, scratch: Scratch, way: Way, group: SandboxGroup
    ) -> launch.Init:
        plan = restoration.plan
        words = await in_thread(self._lay_out, restoration, scratch)
        for directory in sorted(group.joined - {group.freezer_of_v1}):
            words = [str(self._host.init), "--enter", str(directory), "--", *words]
        words = [str(self._host.init), "--leash", "--", *begun_later(words, plan.directory)]
        try:
            child = await restoration.run(words, group.birthplace, lambda pid: self._wire(way, pid))
        except SandboxError as error:
            if not group.memory_kills():
                raise
            text = f"{plan.memory_mib} MB of memory are too little for a copy of {plan.name}: {error}"
            raise SandboxError(text) from error
        try:
            await in_thread(_freeze_later, group, child.pid)
            return await launch.shake_hands(child, plan.directory / "control")
        except BaseException:
            await restoration.end(child)
            raise
        finally:
            self._keeper.unwatch(child.pid)

    def _lay_out(self, restoration: Restoration, scratch: Scratch) -> list[str]:
        """Make the plan's directory, with what belongs to the copy; return the command that restores it."""
        plan, own = restoration.plan, restoration.own
        prepare(plan, scratch, is_tmp_new=False)
        self._prepare(plan)
        sources = self._sources(plan, scratch)
        missing = [target for target in restoration.image.mounts if target not in sources]
        if missing:
            raise SandboxError(f"what was mounted as {missing[0]} is not there any more")
        mounts = {target: sources[target] for target in restoration.image.mounts}
        self._make_root(plan.directory / ROOT, mounts)
        if scratch.kind == "disk":
            write_copy(plan.directory / IMAGE, self.directory / own.images / TMP)
        arrange_meeting(plan.directory)
        root = str(plan.directory / ROOT)
        show, shown = self._show([Source(root), *mounts.values()])
        words = self._criu.restore(
            Path(shown[root]),
            Path(PLACE, own.images),
            plan.directory,
            plan.directory / PIDFILE,
            mounts={target: shown.get(source.path, source.path) for target, source in mounts.items()},
            pipes=own.pipes,
        )
        return self._keeper.inside(scratch.launched([*show, *words], plan))

    def _make_root(self, root: Path, mounts: Mapping[str, Source]) -> None:
        """Make a place for everything that is mounted, as bubblewrap does."""
        root.mkdir(mode=0o755)
        targets = ("/proc", "/dev", *mounts)
        for target in (*targets, *EMPTY_DIRECTORIES):
            if any(target.startswith(f"{other}/") for other in targets):
                continue
            place = root / target[1:]
            if target not in mounts or Path(mounts[target].path).is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
        for entry in self._host.entries:
            if entry.target is not None:
                (root / entry.name).symlink_to(entry.target)
        for directory, names, files in os.walk(root):
            for name in (".", *names, *files):
                os.chown(Path(directory, name), self._ids.base, self._ids.base, follow_symlinks=False)


def _told(said: bytes) -> str:
    return said.decode(errors="replace").strip()


def _unprepared(_: SandboxGroup) -> list[str]:
    raise AssertionError("a copy is not started by a command")


def is_public(path: str) -> bool:
    """Tell whether everybody may look at a path, so that the owner of a sandbox need not be shown it."""
    return path.split("/")[1] in _PUBLIC


def _mounts(words: Sequence[str]) -> dict[str, Source]:
    """Return what bubblewrap is told to mount of the host, by where."""
    return {
        words[number + 2]: Source(words[number + 1], is_writable=word == "--bind")
        for number, word in enumerate(words)
        if word in {"--bind", "--ro-bind"}
    }


def _run(
    words: list[str], failed: str, *, explain: Callable[[bytes], str] = _told, retryable: bool = False
) -> None:
    """Run a program; raises SandboxError if it fails, which says `failed` and what the program said."""
    done = subprocess.run(words, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SandboxError(f"{failed}: {explain(done.stderr)}", retryable=retryable)


def _read_tmp(mounted: int, image: Path, copy: Path) -> None:
    """Make a file like the file system `image`, which is mounted where `mounted` is."""
    if ctypes.CDLL(None, use_errno=True).syncfs(mounted) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    write_copy(copy, image)


def _freeze_later(group: SandboxGroup, pid: int) -> None:
    """
    Put everything but pid 1 where it can be frozen, if that is a group of its own.

    A pid 1 that is frozen would not notice the end of the platform.
    """
    freezer = group.freezer_of_v1
    if freezer is None:
        return
    known: set[int] = {pid}
    while found := set(group.pids()) - known:
        for each in found:
            with contextlib.suppress(ProcessLookupError):
                (freezer / "cgroup.procs").write_text(str(each))
        known |= found
