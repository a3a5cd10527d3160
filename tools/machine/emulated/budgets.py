# SPDX-License-Identifier: GPL-2.0-only
"""What an exit may cost beside kvm_intel's, and whether it does.

A budget is a share of kvm_intel's figure, after each side's floor has been taken off: what no hypervisor saves.
"""

from dataclasses import dataclass

from .benchmark import EXITS_WITHOUT_EPT, PAGING

BOTH = ("lean", "stock")
# Every KVM_RUN is an ioctl, and flushes the L1D cache once where that is in force.
KVM_RUN = (("null-ioctl", 1), ("l1d-flush", 1))

# These also never sleep.
LIFE = ("create-1-vcpu", "destroy-1-vcpu", "create-4-vcpus", "destroy-4-vcpus")


@dataclass(frozen=True)
class Budget:
    case: str
    limit: float
    measurements: tuple = BOTH
    floors: tuple = ()  # (case, how many of it)

    def __str__(self):
        net = " and ".join(f"{'' if number == 1 else f'{number:g} '}{name}" for name, number in self.floors)
        return f"{self.case}, net of {net}" if net else self.case


BUDGETS = (
    *(Budget(case, 0.35, ("lean",)) for case in ("cpuid", "vmcall", "rdmsr")),
    *(Budget(case, 0.35, ("lean",), (("null-ioctl", 1),)) for case in ("pio-out", "pio-in", "mmio-write", "mmio-read")),
    *(Budget(case, 0.8, ("stock",)) for case in ("pio-out", "pio-in")),
    *(Budget(case, 0.75, ("stock",)) for case in ("mmio-write", "mmio-read")),
    *(Budget(case, 0.45, ("stock",), KVM_RUN) for case in ("pio-out", "pio-in", "mmio-write", "mmio-read")),
    Budget("touch-populated", 0.25), Budget("touch-sparse", 0.6), Budget("touch-logged", 0.6),
    Budget("touch-fresh", 0.5, floors=(("host-touch", 1),)),
    *(Budget(case, 0.25) for case in LIFE),
    Budget("halt-wakeup", 0.5, floors=(("eventfd-ping", 1),)),
    Budget("ipi", 0.5, floors=(("eventfd-ping", 0.5),)), Budget("self-ipi", 0.5),
    Budget("linux-boot", 1), Budget("qemu-boot", 1),
    Budget("vm-memory", 1), Budget("vcpu-memory", 1),
    *(Budget(case, 1, ("lean-ept0",)) for case in (*PAGING, *EXITS_WITHOUT_EPT)),
)
# In a VM that has much of something an exit may cost so much more.
GROWTH = 100
GROWING = ("touch-4000-slots", "mmio-4000-slots", "out-64-vcpus", "ipi-64-vcpus")
# With many vCPUs each is made and destroyed for no more than a VM with one.
LINEAR = (("create-64-vcpus", "create-1-vcpu"), ("destroy-64-vcpus", "destroy-1-vcpu"))


@dataclass(frozen=True)
class Verdict:
    """One budget, judged. ratio: net of the floors; excess: what is too much, in the case's unit; below 0: to spare."""

    what: str
    case: str
    limit: str
    value: str
    excess: float

    @property
    def met(self):
        return self.excess <= 0


class Figures:
    """A saved report: each case's figure on kvm_intel and on minivmx, without waiting."""

    def __init__(self, report):
        self.cases = {case["name"]: case for case in report["cases"] if len(case["devices"]) == 2}

    def __contains__(self, name):
        return name in self.cases

    def busy(self, name):
        case = self.cases[name]
        return [cell[case["unit"]] - cell.get("waiting", 0) for cell in case["devices"]]

    def waiting(self, name):
        return [cell.get("waiting", 0) for cell in self.cases[name]["devices"]]


def verdicts(name, report):
    """Every budget that can be judged by this report of the measurement `name`."""
    figures = Figures(report)
    found = [judge(budget, figures) for budget in BUDGETS
             if name in budget.measurements and all(name in figures for name in (budget.case, *dict(budget.floors)))]
    found += [absolute(f"{name}: ticks slept", name, figures.waiting(name)[1], 0) for name in LIFE if name in figures]
    found += [absolute(name, name, figures.busy(name)[1], GROWTH) for name in GROWING if name in figures]
    found += [absolute(f"{name}, a vCPU", name, figures.busy(name)[1], figures.busy(one)[1])
              for name, one in LINEAR if name in figures and one in figures]
    return found


def judge(budget, figures):
    floors = [sum(number * figures.busy(name)[side] for name, number in budget.floors) for side in (0, 1)]
    theirs, ours = (figure - floor for figure, floor in zip(figures.busy(budget.case), floors))
    ratio = ours / theirs if theirs > 0 else float("inf")
    return Verdict(str(budget), budget.case, f"{budget.limit:g}", f"{ratio:.2f}", ours - budget.limit * theirs)


def absolute(what, case, value, limit):
    return Verdict(what, case, f"{limit:,.0f} ticks", f"{value:,.0f}", value - limit)


def operation_excess(counts):
    """(path, theirs, ours) of every path on which minivmx has more VMREADs and VMWRITEs than kvm_intel."""
    found = []
    for path in counts["paths"]:
        theirs, ours = (device["vmread"] + device["vmwrite"] for device in path["devices"])
        if ours > theirs:
            found.append((path["name"], theirs, ours))
    return found
