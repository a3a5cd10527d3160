// SPDX-License-Identifier: GPL-2.0-only
//
// The dump of a valid VMCS in kvm_intel's format, for tests to change: a 64-bit Linux guest whose
// user code runs, on a CPU like a Haswell.
#pragma once

#include <string>
#include <vector>

namespace minivmx::test {

class DumpLines {
  public:
    /// The lines that a complete dump has at least; those behind are there in this dump.
    static constexpr std::size_t kNeeded = 42;

    const std::vector<std::string> &lines() const { return lines_; }
    std::string text() const
    {
        std::string all;
        for (const std::string &line : lines_)
            all += prefix_ + line + end_;
        return all;
    }
    DumpLines &prefixed(const std::string &prefix)
    {
        prefix_ = prefix;
        return *this;
    }
    DumpLines &ended(const std::string &end)
    {
        end_ = end;
        return *this;
    }
    /// Changes the first line that has `old`.
    DumpLines &replace(const std::string &old, const std::string &text)
    {
        for (std::string &line : lines_) {
            const std::size_t at = line.find(old);
            if (at == std::string::npos)
                continue;
            line.replace(at, old.size(), text);
            return *this;
        }
        return *this;
    }

  private:
    std::string prefix_, end_ = "\n";
    std::vector<std::string> lines_ = {
        "VMCS 00000000cafe1234, last attempted VM-entry on CPU 3",
        "*** Guest State ***",
        "CR0: actual=0x0000000080050033, shadow=0x0000000080050033, gh_mask=fffffffffffffff7",
        "CR4: actual=0x00000000000026f0, shadow=0x00000000000006f0, gh_mask=fffffffffffff871",
        "CR3 = 0x0000000004442000",
        "PDPTR0 = 0x0000000000001001  PDPTR1 = 0x0000000000002001",
        "PDPTR2 = 0x0000000000003001  PDPTR3 = 0x0000000000004001",
        "RSP = 0xffffc90000017418  RIP = 0xffffffff818e3a0c",
        "RFLAGS=0x00000286         DR7 = 0x0000000000000400",
        "Sysenter RSP=fffffe0000003000 CS:RIP=0010:ffffffff81a01e60",
        "CS:   sel=0x0010, attr=0x0a09b, limit=0xffffffff, base=0x0000000000000000",
        "DS:   sel=0x0000, attr=0x1c001, limit=0xffffffff, base=0x0000000000000000",
        "SS:   sel=0x0018, attr=0x0c093, limit=0xffffffff, base=0x0000000000000000",
        "ES:   sel=0x0000, attr=0x1c001, limit=0xffffffff, base=0x0000000000000000",
        "FS:   sel=0x0000, attr=0x1c000, limit=0xffffffff, base=0x0000000000000000",
        "GS:   sel=0x0000, attr=0x1c001, limit=0xffffffff, base=0xffff888236e00000",
        "GDTR:                           limit=0x0000007f, base=0xfffffe0000001000",
        "LDTR: sel=0x0000, attr=0x1c000, limit=0xffffffff, base=0x0000000000000000",
        "IDTR:                           limit=0x00000fff, base=0xfffffe0000000000",
        "TR:   sel=0x0040, attr=0x0008b, limit=0x00004087, base=0xfffffe0000003000",
        "EFER= 0x0000000000000d01",
        "PAT = 0x0407050600070106",
        "DebugCtl = 0x0000000000000000  DebugExceptions = 0x0000000000000000",
        "Interruptibility = 00000000  ActivityState = 00000000",
        "*** Host State ***",
        "RIP = 0xffffffffc11accb0  RSP = 0xffffacd087de7d28",
        "CS=0010 SS=0018 DS=0000 ES=0000 FS=0000 GS=0000 TR=0040",
        "FSBase=00007f5088e006c0 GSBase=ffff90ecbec00000 TRBase=fffffe4d122bd000",
        "GDTBase=fffffe4d122bb000 IDTBase=fffffe0000000000",
        "CR0=0000000080050033 CR3=000000035dde6000 CR4=00000000001726e0",
        "Sysenter RSP=fffffe4d122bd000 CS:RIP=0010:ffffffff82e02020",
        "EFER= 0x0000000000000d01",
        "PAT = 0x0407050600070106",
        "*** Control State ***",
        "CPUBased=0xb5986dfa SecondaryExec=0x000000aa TertiaryExec=0x0000000000000000",
        "PinBased=0x0000003f EntryControls=0000d3ff ExitControls=002fefff",
        "ExceptionBitmap=00060042 PFECmask=00000000 PFECmatch=00000000",
        "VMEntry: intr_info=000000ec errcode=00000000 ilen=00000002",
        "VMExit: intr_info=00000000 errcode=00000000 ilen=00000003",
        "        reason=80000021 qualification=0000000000000000",
        "IDTVectoring: info=00000000 errcode=00000000",
        "TSC Offset = 0xfffff9be78c9dd49",
        "EPT pointer = 0x0000000299e9305e",
        "PLE Gap=00000080 Window=00001000",
        "Virtual processor ID = 0x0001",
    };
};

inline std::string dump_text()
{
    return DumpLines().text();
}

} // namespace minivmx::test
