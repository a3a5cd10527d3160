# SPDX-License-Identifier: GPL-2.0-only
"""The one error that is shown to the user without a Python trace, and the programs that may cause it."""

import subprocess


class MachineError(Exception):
    """A failure that a sentence explains; `lines` are the last lines of whatever failed."""

    def __init__(self, message, lines=()):
        super().__init__(message)
        self.lines = list(lines)


def run_tool(*command):
    """Runs a program that must succeed; what it printed is shown if it does not."""
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError:
        raise MachineError(f"{command[0]} is not installed") from None
    if run.returncode != 0:
        raise MachineError(f"{command[0]} failed", run.stdout.splitlines()[-10:])
