"""What is made of CRIU's words."""

import pytest

from remora.sandbox.criu import complaint

CHILD = b"""\
Warn  (criu/kerndat.c:1): something
     2: Error (soccr/soccr.c:499): Can't bind it: Cannot assign requested address
     2: Error (criu/files.c:1221): Unable to open fd=4
     1: Error (criu/cr-restore.c:1265): 2 exited, status=1
Error (criu/cr-restore.c:2331): Restoring FAILED.
Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file or directory
"""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (CHILD, "Can't bind it: Cannot assign requested address; Unable to open fd=4; 2 exited, status=1"),
        (b"Error (a.c:1): rlimit: cannot\nError (b.c:2): Can't dump it\n", "Can't dump it"),
        (
            b"timeout: sending signal TERM to command 'criu'\n",
            "timeout: sending signal TERM to command 'criu'",
        ),
        (b"", "it did not say why"),
    ],
)
def test_errors_are_told_and_noise_is_not(said, told):
    assert complaint(said) == told
