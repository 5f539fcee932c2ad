"""The ledger of a store: which files must be there, and whether their bytes are what was written.

Three rules, for every kind of file:

* ``ledger.log`` has a line for each JSON file and each segment once it is there (``+``) and one
  before it goes (``-``). A file whose last line is ``+`` and that is not there was lost. Each line
  has a checksum of its own.
* A JSON file holds the checksum of its content *and of its place*, so that a changed bit, a cut
  end and two files that changed places are all seen (``write_json``, ``read_json``).
* A file whose SHA-256 stands elsewhere (a part in its manifest) is hashed when it is first read,
  and again only when its size, time or inode changed (``vouch``). What was seen is kept in
  ``.seen.json``, which may be lost at any time and then costs one more hashing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import xxhash

from factory.errors import CorruptError
from factory.store.durable import TMP_PREFIX, disk_error, fsync_dir, locked, replacing, sha256_file

NAME = "ledger.log"
SEEN = ".seen.json"
CHECKSUM = "checksum"
REPAIR = "`factory check --repair` brings back what is whole"
_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_INDENTED = _OPTIONS | orjson.OPT_INDENT_2  # no line feed: no byte may be lost unseen


class Ledger:
    """The ledger of the store at ``root``; safe for threads and for several processes.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> Ledger(root).write_json(root / "a.json", {"n": 1})
    >>> Ledger(root).read_json(root / "a.json")
    {'n': 1}
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / NAME
        self.must_exist = False
        """Whether the store was made with a ledger, so that one that is not there was lost."""
        self._lock = threading.RLock()
        self._there: dict[str, set[str]] = {}
        """Folder → the files in it that must be there."""
        self._read_to = 0
        self._seen: dict[str, list[Any]] | None = None

    # ---- which files must be there

    def note(self, paths: Iterable[Path], *, there: bool) -> None:
        """Write down that files are there, or that they are about to go; durable on return.

        Raises:
            CorruptError: the ledger is damaged or lost; a new one would hide what else is missing.
            StoreError: the disk is full or gone.
        """
        with self._lock:
            new = [p for p in paths if self.expects(p) is not there]
            if not new:
                return
            lines = b"".join(_line("+" if there else "-", self.name_of(p)) for p in new)
            try:
                with locked(self.root / ".ledger.lock"):
                    self._append(lines)
            except OSError as error:
                raise disk_error(error, self.path, "nothing else was changed") from error

    def _append(self, lines: bytes) -> None:
        is_new = not self.path.exists()
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            end = os.fstat(fd).st_size
            # A line that a power loss cut off must not swallow the next one.
            torn = end and os.pread(fd, 1, end - 1) != b"\n"
            os.write(fd, b"\n" + lines if torn else lines)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        if is_new:
            fsync_dir(self.root)

    def expects(self, path: Path) -> bool:
        """Tell whether a file must be there.

        Raises:
            CorruptError: the ledger is damaged or lost.
        """
        with self._lock:
            self._refresh()
            folder, _, name = self.name_of(path).rpartition("/")
            return name in self._there.get(folder, ())

    def expected(self, under: str) -> list[Path]:
        """Return the files that must be there, of those in a folder and below (``""``: all)."""
        with self._lock:
            self._refresh()
            folders = [
                f for f in self._there if not under or f == under or f.startswith(under + "/")
            ]
            return sorted(self.root / f / n for f in folders for n in self._there[f])

    def lost(self, under: str) -> list[Path]:
        """Return the files that must be there and are not."""
        gone = [p for p in self.expected(under) if not p.exists()]
        return [p for p in gone if self.expects(p)]  # one may have been removed in order meanwhile

    def bad_lines(self) -> list[int]:
        """Return the numbers of the lines that are damaged, the first being 1."""
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        return [n for n, line in enumerate(lines, 1) if line and read_line(line) is None]

    def rewrite(self, paths: Iterable[Path]) -> None:
        """Replace the ledger by one that expects these files."""
        with self._lock, locked(self.root / ".ledger.lock"):
            lines = b"".join(_line("+", self.name_of(path)) for path in sorted(paths))
            with replacing(self.path) as tmp:
                tmp.write_bytes(lines)
            self._there, self._read_to = {}, 0

    def _refresh(self) -> None:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            if self.must_exist:
                raise CorruptError(f"{self.path} is missing", REPAIR) from None
            size = 0
        if size < self._read_to:
            self._there, self._read_to = {}, 0
        if size == self._read_to:
            return
        with self.path.open("rb") as handle:
            handle.seek(self._read_to)
            lines, end, _ = handle.read().rpartition(b"\n")
        for line in filter(None, lines.split(b"\n")):
            found = read_line(line)
            if found is None:
                raise CorruptError(f"{self.path} is damaged", REPAIR)
            folder, _, name = found[1].rpartition("/")
            files = self._there.setdefault(folder, set())
            files.add(name) if found[0] == "+" else files.discard(name)
        self._read_to += len(lines) + len(end)

    def name_of(self, path: Path) -> str:
        """Return the name of a file here: its path under the root."""
        return path.relative_to(self.root).as_posix()

    # ---- JSON files

    def write_json(self, path: Path, value: Mapping[str, Any], *, at: Path | None = None) -> None:
        """Write an object with its checksum, whole or not at all, and note that it is there.

        Args:
            path: where it goes.
            value: NaN and infinity become null.
            at: where its folder will be moved to, where that is another place; ``note`` it then.
        """
        plain = orjson.loads(orjson.dumps(dict(value), option=_OPTIONS))
        sealed = {**plain, CHECKSUM: self._checksum(at or path, plain)}
        with replacing(path) as tmp:
            tmp.write_bytes(orjson.dumps(sealed, option=_INDENTED))
        if at is None:
            self.note([path], there=True)

    def read_json(self, path: Path) -> dict[str, Any]:
        """Read what ``write_json`` wrote.

        Raises:
            FileNotFoundError: it is not there, and need not be.
            CorruptError: it is damaged, in another's place, or lost; the message names it.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            if self.expects(path):
                raise CorruptError(f"{path} is missing, says {self.path}", REPAIR) from None
            raise
        except OSError as error:
            raise CorruptError(f"{path} cannot be read ({error.strerror})", REPAIR) from None
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise CorruptError(f"{path} is damaged (no JSON)", REPAIR) from None
        if not isinstance(value, dict):
            raise CorruptError(f"{path} is damaged (no JSON object)", REPAIR)
        found = value.pop(CHECKSUM, None)
        # Stores of earlier versions have no checksums, and no entry here.
        if found is None and not self.expects(path):
            return value
        if found != self._checksum(path, value):
            raise CorruptError(f"{path} is damaged (its checksum does not fit)", REPAIR)
        return value

    def _checksum(self, path: Path, value: Mapping[str, Any]) -> str:
        data = self.name_of(path).encode() + b"\n" + orjson.dumps(value, option=_OPTIONS)
        return xxhash.xxh3_128_hexdigest(data)

    # ---- files whose SHA-256 stands elsewhere

    def vouch(self, path: Path, sha256: str) -> Path:
        """Return ``path``, once its bytes are known to have that SHA-256.

        Raises:
            CorruptError: they have another, or the file is not there; the message names it.
        """
        try:
            stat = path.stat()
            now = [stat.st_size, stat.st_mtime_ns, stat.st_ino, sha256]
            with self._lock:
                if self._remembered().get(self.name_of(path)) == now:
                    return path
            found = sha256_file(path)
        except FileNotFoundError:
            raise CorruptError(f"{path} is missing", REPAIR) from None
        except OSError as error:
            raise CorruptError(f"{path} cannot be read ({error.strerror})", REPAIR) from None
        if found != sha256:
            raise CorruptError(f"{path} is damaged (its SHA-256 changed)", REPAIR)
        with self._lock:
            self._remembered()[self.name_of(path)] = now
            self._save_seen()
        return path

    def _remembered(self) -> dict[str, list[Any]]:
        if self._seen is None:
            self._seen = {}
            with contextlib.suppress(OSError, ValueError):
                found = orjson.loads((self.root / SEEN).read_bytes())
                self._seen = found if isinstance(found, dict) else {}
        return self._seen

    def _save_seen(self) -> None:
        # A courtesy to the next process; a store that cannot be written is read all the same.
        tmp = self.root / f"{TMP_PREFIX}seen-{os.getpid()}-{threading.get_ident()}"
        with contextlib.suppress(OSError):
            try:
                tmp.write_bytes(orjson.dumps(self._seen))
                tmp.replace(self.root / SEEN)
            finally:
                tmp.unlink(missing_ok=True)


def _line(state: str, name: str) -> bytes:
    body = orjson.dumps([state, name])
    return b"%08x %b\n" % (zlib.crc32(body), body)


def read_line(line: bytes) -> tuple[str, str] | None:
    """Return state and file of a line; None where it is damaged."""
    digest, _, body = line.partition(b" ")
    try:
        if int(digest, 16) != zlib.crc32(body):
            return None
        state, name = orjson.loads(body)
    except (ValueError, TypeError):
        return None
    return state, name
