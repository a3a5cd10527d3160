#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""tools/machine/count-exits: from the debugger's lines to counts. Prints test lines."""

import base64
import gzip
import sys
import tempfile
import types
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools/machine"))
sys.dont_write_bytecode = True

from emulated import exit_counts, exit_tables, symbols, trace  # noqa: E402
from emulated.errors import MachineError  # noqa: E402

KERNEL, USER, GUEST = "0010:ffffffff810000{:02x}", "0033:00000000004011{:02x}", "0008:00000000001000{:02x}"


def line(where, text, place=0):
    return f"(0).[422876996] [0x0000013ca06b] {where.format(place)} (unk. ctxt): {text:<25} ; 90\n".encode()


def region(*lines):
    return [b"(0) Magic breakpoint\n", b"Next at t=1\n", line(USER, "pop rbx").replace(b").[", b") ["),
            b"Tracing enabled for CPU0\n", *lines, b"(0) Magic breakpoint\n", b"Tracing disabled for CPU0\n"]


def steps(*lines):
    (only,) = trace.regions(region(*lines))
    return only


def one_exit(*kernel):
    """A guest's instruction that exits, the kernel's path, and the entry."""
    return [line(GUEST, "cpuid"), *[line(KERNEL, text) for text in kernel], line(KERNEL, "vmresume")]


def guest_window(*exits):
    return [line(GUEST, "rdtsc"), line(GUEST, "shl rdx, 0x20"), *[step for one in exits for step in one],
            line(GUEST, "rdtsc"), line(GUEST, "dec r15d")]


def user_window(*kernel):
    """KVM_RUN to KVM_RUN: the way in, the guest's OUT, the way out."""
    return [line(USER, "rdtsc"), line(USER, "syscall"), line(KERNEL, "swapgs"), line(KERNEL, "vmresume"),
            line(GUEST, "out 0x80, al"), *[line(KERNEL, text) for text in kernel], line(KERNEL, "sysret"),
            line(USER, "ret"), line(USER, "rdtsc"), line(USER, "sub rax, rbx")]


class Parsing(unittest.TestCase):
    def test_a_line_becomes_a_step(self):
        (step,) = steps(b"(0).[422876996] [0x0000013ca06b] 0010:ffffffff813ca06b (unk. ctxt): "
                        b"lock cmpxchg qword ptr ds:[rdi], rdx ; f0480fb117\n")
        self.assertEqual(step, (0xffffffff813ca06b, trace.KERNEL, "lock cmpxchg qword ptr ds:[rdi], rdx"))
        self.assertEqual(step.mnemonic, "lock")

    def test_address_and_segment_tell_who_runs(self):
        found = steps(line(KERNEL, "nop"), line(USER, "nop"), line("0023:080490{:02x}", "nop"), line(GUEST, "nop"))
        self.assertEqual([step.who for step in found], [trace.KERNEL, trace.USER, trace.USER, trace.GUEST])

    def test_other_lines_are_no_steps(self):
        self.assertEqual(len(steps(line(KERNEL, "nop"), b"CPU 0: Interrupt 0xec occurred (error_code=0x0000)\n",
                                   b"(0) [0x1] 0010:1 (unk. ctxt): nop ; 90\n")), 1)

    def test_each_pair_of_breakpoints_is_a_region(self):
        lines = region(line(KERNEL, "nop")) + [line(KERNEL, "hlt")] + region(line(KERNEL, "cli"), line(KERNEL, "sti"))
        self.assertEqual([[step.text for step in one] for one in trace.regions(lines)], [["nop"], ["cli", "sti"]])

    def test_an_unfinished_region_is_none(self):
        self.assertEqual(list(trace.regions(region(line(KERNEL, "nop"))[:-1])), [])


class Windows(unittest.TestCase):
    def test_readings_of_the_clock_bound_a_window(self):
        found = trace.windows(steps(line(KERNEL, "nop"), *guest_window(one_exit("vmread rax, rax")),
                                    *guest_window(one_exit("cli"), one_exit("sti", "nop"))))
        self.assertEqual([window.exits for window in found], [1, 2])
        self.assertEqual([[step.text for step in path] for path in found[1].paths],
                         [["cli", "vmresume"], ["sti", "nop", "vmresume"]])

    def test_the_kernels_clock_bounds_nothing(self):
        self.assertEqual(len(trace.windows(steps(*guest_window(one_exit("rdtsc", "rdtsc"))))), 1)

    def test_a_window_of_the_vmm_is_both_ways(self):
        (window,) = trace.windows(steps(*user_window("vmread rax, rax")))
        self.assertEqual([step.text for step in window.steps], ["swapgs", "vmresume", "vmread rax, rax", "sysret"])
        self.assertEqual((window.exits, window.paths), (1, []))

    def test_an_exit_before_the_guests_first_instruction_has_a_path(self):
        (window,) = trace.windows(steps(*guest_window([*one_exit("cli"), line(KERNEL, "sti"), line(KERNEL, "vmresume")])))
        self.assertEqual([[step.text for step in path] for path in window.paths],
                         [["cli", "vmresume"], ["sti", "vmresume"]])


class Counting(unittest.TestCase):
    def count(self, *texts):
        return {name: number for name, number in trace.count(steps(*[line(KERNEL, text) for text in texts])).items()
                if number}

    def test_each_mnemonic_has_its_count(self):
        for name in trace.MNEMONICS:
            self.assertEqual(self.count("nop", f"{name} rax, rbx"), {"instructions": 2, name: 1})

    def test_xsave_and_xrstor_have_variants(self):
        self.assertEqual(self.count("xsaves ds:[rax]", "xsaveopt ds:[rax]", "fxsave ds:[rax+64]", "xrstors ds:[rax]",
                                    "fxrstor ds:[rax]", "xor eax, eax"),
                         {"instructions": 6, "xsave": 3, "xrstor": 2})

    def test_locked_are_prefixes_and_xchg_with_memory(self):
        self.assertEqual(self.count("lock inc dword ptr ds:[rax]", "xchg dword ptr ds:[rdi], eax", "xchg rax, rbx",
                                    "xchg ax, ax", "cmpxchg qword ptr ds:[rdi], rdx"),
                         {"instructions": 5, "locked": 2})


class Kinds(unittest.TestCase):
    def test_one_of_eight_exits_in_the_guests_window(self):
        run = steps(*guest_window(*[one_exit("vmread rax, rax", "nop")] * 7, one_exit("nop", "nop", "nop", "nop")))
        path = exit_counts.path_of("cpuid", run, 8, "/dev/kvm")
        self.assertEqual((path.counts["exits"], path.counts["instructions"], path.counts["vmread"]), (1, 3, 1))

    def test_a_window_with_an_interrupt_is_left_out(self):
        run = steps(*guest_window(*[one_exit("nop")] * 9), *guest_window(*[one_exit("nop", "nop")] * 8))
        self.assertEqual(exit_counts.path_of("cpuid", run, 17, "/dev/kvm").counts["instructions"], 3)

    def test_exits_must_be_as_many_as_the_module_counted(self):
        run = steps(*guest_window(*[one_exit("nop")] * 8))
        with self.assertRaisesRegex(MachineError, "cpuid on /dev/kvm: 8 VM entries in the trace, but 9 exits"):
            exit_counts.path_of("cpuid", run, 9, "/dev/kvm")

    def test_every_operation_must_exit(self):
        run = steps(*guest_window(*[one_exit("nop")] * 7))
        with self.assertRaisesRegex(MachineError, "no window has 8 VM exits"):
            exit_counts.path_of("cpuid", run, 7, "/dev/kvm")

    def test_the_way_over_the_vmm_counts_as_a_whole(self):
        path = exit_counts.path_of("pio-out", steps(*user_window(*["nop"] * 9), *user_window("nop")), 2, "/dev/kvm")
        self.assertEqual((path.counts["exits"], path.counts["instructions"]), (1, 4))

    def test_a_window_with_more_exits_than_others_is_left_out(self):
        windows = [guest_window(*[one_exit("nop")] * 2), *[guest_window(*[one_exit("nop")] * 3)] * 2]
        path = exit_counts.path_of("self-ipi", steps(*[text for one in windows for text in one]), 8, "/dev/kvm")
        self.assertEqual((path.counts["exits"], path.counts["instructions"]), (2, 4))

    def test_a_window_of_several_operations_is_divided(self):
        run = steps(*guest_window(*[one_exit("nop")] * 3))
        path = exit_counts.path_of("ipi", run, 3, "/dev/kvm")
        self.assertEqual((path.counts["exits"], path.counts["instructions"]), (1.5, 3))

    def test_all_of_them_are_in_order_and_complete(self):
        found = exit_counts.Counts("lean", "model")
        lines = ["cpuid              CPUID leaf 0", "@device /dev/kvm", "marked cpuid 8", "@device /dev/minivmx",
                 "marked cpuid 16"]
        marked, _ = exit_counts.read_output(lines, found)
        self.assertEqual(marked, [("cpuid", "/dev/kvm", 8), ("cpuid", "/dev/minivmx", 16)])
        run = [region(*guest_window(*[one_exit("nop")] * 8)),
               region(*guest_window(*[one_exit("vmwrite rax, rdx")] * 8), *guest_window(*[one_exit("nop")] * 8))]
        exit_counts.read_trace(run[0] + run[1], marked, ["cpuid"], found)
        (row,) = found.to_json()["paths"]
        self.assertEqual((row["name"], row["operation"]), ("cpuid", "CPUID leaf 0"))
        self.assertEqual([device["device"] for device in row["devices"]], ["/dev/kvm", "/dev/minivmx"])
        self.assertNotIn("functions", row["devices"][0])
        found.symbols = symbols.Symbols(["ffffffff81000000 T whole", "ffffffff81000100 T other"])
        self.assertEqual(found.to_json()["paths"][0]["devices"][1]["functions"], [["whole", 2]])
        with self.assertRaisesRegex(MachineError, "1 runs, expected 2"):
            exit_counts.read_trace(run[0], marked, ["cpuid"], found)
        with self.assertRaisesRegex(MachineError, "3 runs, expected 2"):
            exit_counts.read_trace(run[0] + run[1] + run[1], marked, ["cpuid"], found)
        with self.assertRaisesRegex(MachineError, "not traced: vmcall on /dev/kvm, vmcall on /dev/minivmx"):
            exit_counts.read_trace(run[0] + run[1], marked, ["vmcall"], exit_counts.Counts("lean", "model"))


class Tables(unittest.TestCase):
    def found(self, theirs, ours):
        found = exit_counts.Counts("lean", "model")
        for device, texts in zip(exit_counts.DEVICES, (theirs, ours)):
            found.paths["cpuid", device] = exit_counts.ExitPath(steps(*[line(KERNEL, text) for text in texts]), 1, 1)
        return found

    def test_more_accesses_than_kvm_intel_are_told(self):
        self.assertEqual(exit_tables.excess(self.found(["vmread rax, rax"], ["vmwrite rax, rdx"])), [])
        self.assertEqual(exit_tables.excess(self.found(["vmread rax, rax"], ["vmwrite rax, rdx"] * 2)), [("cpuid", 1, 2)])

    def test_the_table_has_a_line_for_each_device(self):
        lines = exit_tables.table_text(self.found(["nop"], ["nop", "nop"])).splitlines()
        self.assertEqual([text.split()[:3] for text in lines[1:]], [["cpuid", "kvm", "1"], ["minivmx", "1", "2"]])

    def test_fields_are_found_where_their_numbers_are_loaded(self):
        run = steps(line(KERNEL, "mov eax, 0x00004402"), line(KERNEL, "mov r9d, 0x0000681e"),
                    line(KERNEL, "vmread qword ptr ss:[rsp+8], rax"), line(KERNEL, "vmwrite r9, rdx"),
                    line(KERNEL, "vmread rbx, rcx"))
        self.assertEqual(exit_tables.vmcs_fields(run, "vmread"), [0x4402, None])
        self.assertEqual(exit_tables.vmcs_fields(run, "vmwrite"), [0x681e])

    def test_a_profile_is_by_function(self):
        found = symbols.Symbols(["ffffffff81000000 T first", "ffffffff81000010 t second\t[kvm]"])
        run = steps(*[line(KERNEL, "nop", place) for place in (0x10, 0x11, 0x01, 0x12)])
        self.assertEqual([(one.name, one.module, one.instructions, one.times) for one in found.profile(run)],
                         [("second", "kvm", 3, 2), ("first", "", 1, 1)])


class Dumps(unittest.TestCase):
    @staticmethod
    def lines(text):
        dump = base64.b64encode(gzip.compress(text.encode())).decode()
        return [dump[:20], dump[20:]]

    def test_the_kernels_functions_are_asked_for_once(self):
        with tempfile.TemporaryDirectory() as directory:
            kernel = types.SimpleNamespace(bzimage=Path(directory) / "vmlinuz")
            self.assertEqual(symbols.dump_command(kernel), symbols.DUMP_ALL)
            symbols.read_dump(self.lines("ffffffff81000000 T own\nffffffffa0000000 t old\t[kvm]\n"), kernel)
            self.assertEqual(symbols.dump_command(kernel), symbols.DUMP)
            found = symbols.read_dump(self.lines("ffffffffa0000000 t new\t[kvm]\n"), kernel)
            self.assertEqual(found.find(0xffffffff81000001), ("own", "", 1))
            self.assertEqual(found.find(0xffffffffa0000002), ("new", "kvm", 2))


class TestLines(unittest.TestResult):
    @staticmethod
    def name(test):
        return f"{type(test).__name__}: {test._testMethodName.removeprefix('test_').replace('_', ' ')}"

    def addSuccess(self, test):
        print(f"ok - {self.name(test)}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        print(f"not ok - {self.name(test)}: {' '.join(str(err[1]).split())}")

    addError = addFailure


if __name__ == "__main__":
    result = TestLines()
    unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]).run(result)
    sys.exit(0 if result.testsRun and not result.failures else 1)
