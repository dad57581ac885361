"""The two ways a PIGEN command ends badly."""

from __future__ import annotations


class PigenError(Exception):
    """The work failed (exit code 1); the message is one clear line for the user."""

    exit_code = 1


class UsageError(PigenError):
    """The request itself is wrong (exit code 2): found before any work starts."""

    exit_code = 2
