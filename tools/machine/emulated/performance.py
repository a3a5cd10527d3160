# SPDX-License-Identifier: GPL-2.0-only
"""docs/performance.md, from what was saved in data/bench."""

import json
import os

from . import benchmark, budgets, build
from .errors import MachineError, run_tool

DOCUMENT = build.TOP / "docs/performance.md"
HEADLINES = {"lean": "On the lean kernel, without mitigations", "stock": "On Debian's kernel with its default mitigations",
             "lean-ept0": "Without EPT"}
# What stands below a headline.
WORDS = {"lean-ept0": "Both modules with ept=0, on the lean kernel. For exits, and for what a guest does to its page\n"
                      "tables, the budget is at most 1.00 of kvm_intel's figure."}
GROUPS = {"floor": "What no hypervisor can save", "in-kernel": "Exits that the kernel answers",
          "to-user": "Exits to the VMM and back", "interrupts": "Interrupts", "memory": "Memory, for each page",
          "paging": "What a guest does to its page tables", "life": "VMs that come and go",
          "growth": "In a VM that has much of something"}
MOST_FUNCTIONS = 6

HEAD = """<!-- SPDX-License-Identifier: GPL-2.0-only -->
<!-- Written by `make bench`: change tools/machine/emulated/performance.py instead. -->
# What an exit costs, beside kvm_intel

`minivmx bench --device /dev/kvm --device /dev/minivmx` measures both modules in one boot, in turns, never with two VMs
open at once. Here it ran in the emulated machine (Bochs, Skylake-X, one CPU), where the time-stamp counter counts
instructions: **all figures are instructions for one operation**, the least of many short windows. On hardware `minivmx
bench` shows cycles. VMREAD, VMWRITE and accesses to MSRs take more cycles than other instructions, so these are
counted apart, below.

- Exits that the kernel answers are told from what is passed through by the exit counters of both modules: each operation
  takes exactly one exit, or the run fails. RDMSR and WRMSR are of IA32_APIC_BASE, the write to CR0 toggles CD.
- MMIO runs in 64-bit mode with four levels of page tables: the walk and the decoding are in it.
- Nothing is mapped or populated while VMs are made. Time in which the only CPU slept is shown apart ("slept").
- Bochs has no usable page-modification log for kvm_intel, so both modules run with pml=0.
- A page is touched by one write of the guest; "fresh" is new to the host, too.
- Mitigations are the same in both. The flush of the L1D cache reads the same lines in the same order, but minivmx's loop
  is unrolled, as is its filling of the return stack: fewer instructions, while on hardware the loads and calls remain.
- Of threads that take turns the one that is woken never preempts the other (SCHED_BATCH), so that a vCPU is found in HLT.

`make bench` measures again and writes this page; `make test` compares the exits' ratios with `data/bench` and fails when
one has grown by more than 3 %.
"""


def write(command):
    """Writes the document and a picture for each report, drawn by the minivmx command; returns what it wrote."""
    reports = {name: load(f"{name}.json") for name in HEADLINES if (benchmark.SAVED / f"{name}.json").exists()}
    if not reports:
        raise MachineError("data/bench has no figures: run `make bench`")
    counts = load("counts-lean.json") if (benchmark.SAVED / "counts-lean.json").exists() else None
    written = [DOCUMENT]
    for name in reports:
        picture = DOCUMENT.with_name(f"performance-{name}.svg")
        run_tool(command, "bench", "--from", benchmark.SAVED / f"{name}.json", "--plot", picture, "--json")
        written.append(picture)
    parts = [HEAD, summary(reports, counts)]
    parts += [section(name, report) for name, report in reports.items()]
    parts += [budget_section(reports, counts)]
    parts += [count_section(counts)] if counts else []
    partial = DOCUMENT.with_suffix(".part")
    partial.write_text("\n".join(parts))
    os.replace(partial, DOCUMENT)
    return written


def load(name):
    try:
        return json.loads((benchmark.SAVED / name).read_text())
    except ValueError as error:
        raise MachineError(f"data/bench/{name}: {error}") from error


def summary(reports, counts):
    judged = [verdict for name, report in reports.items() for verdict in budgets.verdicts(name, report)]
    met = sum(verdict.met for verdict in judged)
    text = f"Of {len(judged)} budgets {met} are met"
    if counts:
        excess = len(budgets.operation_excess(counts))
        text += f"; on {len(counts['paths']) - excess} of {len(counts['paths'])} paths minivmx has no more VMREADs and " \
                "VMWRITEs than kvm_intel"
    return text + ".\n"


def section(name, report):
    lines = [f"## {HEADLINES[name]}", "", f"Linux {report['machine']['kernel']}.", ""]
    lines += [WORDS[name], ""] if name in WORDS else []
    mitigations = [line for line in report["machine"]["mitigations"].splitlines() if "Mitigation" in line]
    if mitigations:
        lines += ["In force:", "", *(f"- {line}" for line in mitigations), ""]
    lines += [f"![Ratios](performance-{name}.svg)", "",
              "| | kvm_intel | minivmx | ratio | one operation |", "| --- | ---: | ---: | ---: | --- |"]
    group = None
    for case in report["cases"]:
        if case["group"] != group:
            group = case["group"]
            lines.append(f"| **{GROUPS[group]}** | | | | |")
        lines += case_rows(case)
    return "\n".join([*lines, ""])


def case_rows(case):
    if "problem" in case:
        return [f"| `{case['name']}` | | | | not measured: {case['problem']} |"]
    figures = budgets.Figures({"cases": [case]})
    theirs, ours = figures.busy(case["name"])
    ratio = f"{case['ratio']:.2f}" if "ratio" in case else ""
    unit = " (bytes)" if case["unit"] == "bytes" else ""
    rows = [f"| `{case['name']}` | {theirs:,.0f} | {ours:,.0f} | {ratio} | {case['operation']}{unit} |"]
    if any(slept >= 1 for slept in figures.waiting(case["name"])):
        rows.append("| &nbsp; slept | {:,.0f} | {:,.0f} | | |".format(*figures.waiting(case["name"])))
    exits = [cell.get("exits") for cell in case["devices"]]
    if "exits_expected" not in case and None not in exits and any(exits):
        rows.append("| &nbsp; VM exits | {:.2f} | {:.2f} | | |".format(*exits))
    return rows


def budget_section(reports, counts):
    lines = ["## Budgets", "",
             "A budget is a share of kvm_intel's figure; \"net of\" what no hypervisor saves, it is that of the rest.", ""]
    missed = []
    for name, report in reports.items():
        lines += [f"{HEADLINES[name]}:", "", "| | at most | is | |", "| --- | ---: | ---: | --- |"]
        for verdict in budgets.verdicts(name, report):
            answer = "met" if verdict.met else f"**missed** by {verdict.excess:,.0f}"
            lines.append(f"| {verdict.what} | {verdict.limit} | {verdict.value} | {answer} |")
            missed += [verdict.case] if not verdict.met else []
        lines.append("")
    profiles = [text for case in dict.fromkeys(missed) for text in profile(case, counts)]
    if profiles:
        lines += ["What stands in the way, by the functions in which minivmx spends most of such an exit (kvm_intel's behind):",
                  "", *profiles, ""]
    return "\n".join(lines)


def profile(case, counts):
    """One line about a path that was counted with its functions."""
    path = next((path for path in (counts or {"paths": []})["paths"] if path["name"] == case), None)
    if not path or any("functions" not in device for device in path["devices"]):
        return []
    theirs, ours = (", ".join(f"{name} {number:g}" for name, number in device["functions"][:MOST_FUNCTIONS])
                    for device in path["devices"])
    return [f"- `{case}`: {ours} ({theirs})"]


def count_section(counts):
    keys = [key for key, value in counts["paths"][0]["devices"][0].items() if isinstance(value, (int, float))]
    lines = ["## What is on the path of an exit", "",
             "Counted by `tools/machine/count-exits`, which steps through the host kernel's instructions from one end of an "
             "operation to the other; kvm_intel / minivmx.", "",
             f"| | {' | '.join(keys)} |", f"| --- |{' ---: |' * len(keys)}"]
    for path in counts["paths"]:
        theirs, ours = path["devices"]
        cells = [f"{theirs.get(key, 0):,g} / {ours.get(key, 0):,g}" if theirs.get(key, 0) or ours.get(key, 0) else ""
                 for key in keys]
        lines.append(f"| `{path['name']}` | {' | '.join(cells)} |")
    excess = budgets.operation_excess(counts)
    lines += ["", "minivmx has more VMREADs and VMWRITEs than kvm_intel on: " +
              ", ".join(f"`{name}` ({ours:g}, not {theirs:g})" for name, theirs, ours in excess) + "."
              if excess else "On no path has minivmx more VMREADs and VMWRITEs than kvm_intel."]
    return "\n".join([*lines, ""])
