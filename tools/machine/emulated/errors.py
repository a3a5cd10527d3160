# SPDX-License-Identifier: GPL-2.0-only
"""The one error that is shown to the user without a Python trace."""


class MachineError(Exception):
    """A failure that a sentence explains; `lines` are the last lines of whatever failed."""

    def __init__(self, message, lines=()):
        super().__init__(message)
        self.lines = list(lines)
