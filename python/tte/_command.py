"""What the command lines share: output that any terminal takes, and a sentence for a path that cannot be used."""

from __future__ import annotations

import errno
import io
import sys


def tolerate_any_terminal() -> None:
    """Let a letter that the terminal's encoding lacks become a question mark, not an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # Not where it is captured.
        sys.stdout.reconfigure(errors="replace")


def told(error: Exception) -> str:
    """An error as a sentence, whether it is ours or the system's."""
    return sentence(error) if isinstance(error, OSError) else str(error)


def sentence(error: OSError) -> str:
    """What the system says of a path, such as an --out that is a file or a folder that cannot be written to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" at {str(error.filename)!r}" if error.filename is not None else ""
        return f"the disk is full{where}: free some space and give the same command again, what is done is kept."
    names = " -> ".join(repr(str(name)) for name in (error.filename, error.filename2) if name is not None)
    if not names:
        return f"the system refuses: {error.strerror or error}."
    return f"{names} cannot be used ({error.strerror or error}): check the path, and that it can be written to."
