# SPDX-License-Identifier: GPL-2.0-only
# suite: count-exits: from the debugger's lines to counts, tables, and profiles
# kernel: none
test-user/machine/exit_counts_test.py
