"""Started as root: shows a private folder to one other user, becomes that user, and goes on.

    python _launcher.py UID FOLDER COMMAND ARG...

bwrap has to run under a user id of its own, which often cannot look into the folder that holds the
interpreter (``/root`` is closed to others). In a mount namespace of this process alone, the folder
is bound to ``SEEN`` with an open parent; nobody else sees that mount. Stands alone: run as a file.
"""

from __future__ import annotations

import ctypes
import os
import sys

SEEN = "/tmp/python"
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18


def main() -> None:
    """Do what the module says; the error of the kernel goes to standard error."""
    uid, folder, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    libc = ctypes.CDLL(None, use_errno=True)

    def must(done: int, what: str) -> None:
        if done != 0:
            code = ctypes.get_errno()
            sys.exit(f"{what}: {os.strerror(code)}")

    must(libc.unshare(_CLONE_NEWNS), "unshare mount namespace")
    must(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "private mounts")
    must(libc.mount(b"seen", b"/tmp", b"tmpfs", 0, b"mode=755,size=64k"), "mount")
    os.mkdir(SEEN)  # noqa: PTH102
    must(libc.mount(folder.encode(), SEEN.encode(), None, _MS_BIND, None), "bind")
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
