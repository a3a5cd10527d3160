# SPDX-License-Identifier: GPL-2.0-only
# suite: count-exits: from the debugger's lines to counts; no exit takes more VMREADs and VMWRITEs than kvm_intel's
# kernel: none
# timeout: 900
test-user/machine/exit_counts_test.py
failed=$?
name="each exit has at most as many VMREADs and VMWRITEs as kvm_intel's"
if tools/machine/count-exits --check >build/test/exit-counts.txt 2>&1; then
    echo "ok - $name"
else
    echo "not ok - $name: $(grep '^count-exits:' build/test/exit-counts.txt | tr '\n' ' ')"
    failed=1
fi
exit $failed
