"""The files that data comes from and goes to: paths, pipes, standard input and output.

A file that is read is read once and line by line, so that it may be a pipe and of any size.
"""

import gzip
import io
import os
import secrets
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import BinaryIO, TextIO

from kith.cli.terminal import CommandError

# Far more than the longest text that may be posted; a missing line break or quote is an error
# before the memory is full.
LONGEST_LINE = 1_000_000
_GZIP = b"\x1f\x8b"  # no UTF-8 text begins so
_STANDARD = Path("-")
# The parent process has opened what these name, perhaps for appending.
_DESCRIPTORS = ("/dev/std", "/dev/fd/", "/proc/")


class Input:
    """A text that is read once."""

    def __init__(self, name: str, file: io.BufferedReader) -> None:
        self._name = name
        self._file = file
        self._is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)

    @property
    def size(self) -> int | None:
        """How many bytes there are to be read, if that is known."""
        return os.fstat(self._file.fileno()).st_size if self._is_regular else None

    @property
    def position(self) -> int:
        """How many of them have been read; 0 for what has no size."""
        return self._file.tell() if self._is_regular else 0

    def lines(self) -> Iterator[str]:
        """Yield each line with its end, unpacked if it is gzip.

        Raises CommandError naming the line that cannot be read, is too long, or is not UTF-8.
        """
        line_at = self._reader()
        for number in count(1):
            try:
                line = line_at(LONGEST_LINE + 1)
            except (OSError, EOFError, zlib.error) as error:
                reason = getattr(error, "strerror", None) or error
                raise CommandError(
                    f"cannot read line {number} of {self._name}: {reason}"
                ) from error
            if not line:
                return
            if len(line) > LONGEST_LINE:
                raise CommandError(
                    f"line {number} of {self._name} is longer than {LONGEST_LINE:,} bytes"
                )
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise CommandError(f"line {number} of {self._name} is not UTF-8 text") from error

    def _reader(self) -> Callable[[int], bytes]:
        try:
            is_packed = self._file.peek(len(_GZIP)).startswith(_GZIP)
        except OSError as error:
            raise CommandError(f"cannot read {self._name}: {error.strerror}") from error
        return gzip.GzipFile(fileobj=self._file).readline if is_packed else self._file.readline


@contextmanager
def opened(path: Path) -> Iterator[Input]:
    """Open a file to be read, or standard input for `-`. Raises CommandError when it cannot."""
    if path == _STANDARD:
        if sys.stdin is None:
            raise CommandError("standard input is closed")
        yield Input("standard input", sys.stdin.buffer)  # type: ignore[arg-type]  # it is buffered
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield Input(str(path), file)


@contextmanager
def written(path: Path | None) -> Iterator[TextIO]:
    """Open a file to be written, packed if its name ends in .gz; standard output for None or `-`.

    A file is there, or takes the place of a former one, as a whole at the end of the block; after
    an error everything is as it was. Raises CommandError when it cannot be written.
    """
    if path is None or path == _STANDARD:
        yield sys.stdout
        return
    try:
        with _destination(path) as file, _text(file, is_packed=path.suffix == ".gz") as text:
            yield text
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def _text(file: BinaryIO, *, is_packed: bool) -> Iterator[TextIO]:
    packed = gzip.GzipFile(filename="", fileobj=file, mode="wb") if is_packed else nullcontext(file)
    with packed as binary, io.TextIOWrapper(binary, encoding="utf-8", newline="") as text:
        yield text


@contextmanager
def _destination(path: Path) -> Iterator[BinaryIO]:
    former = _status(path)
    is_special = former is not None and not stat.S_ISREG(former.st_mode)
    if is_special or str(path).startswith(_DESCRIPTORS):
        with path.open("ab") as file:
            yield file
        return
    # Behind a symbolic link, which is to stay one.
    target = Path(os.path.realpath(path))
    if former is not None:
        # To be asked for leave: renaming would put another file where one is protected.
        target.open("ab").close()
    beside = target.with_name(f".kith-{secrets.token_hex(8)}")
    try:
        with beside.open("xb") as file:
            if former is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(former.st_mode))
            yield file
        _to_disk(beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _to_disk(path: Path) -> None:
    """Have the contents on disk before the name is, or a crash leaves the name without them."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
