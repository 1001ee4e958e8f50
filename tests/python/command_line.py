"""The command `tte`, called as a function."""

from __future__ import annotations

import pytest
from tte.__main__ import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Return what it prints, or what it says of the error."""
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out
