// SPDX-License-Identifier: GPL-2.0-only
#include "guest_cpu.hpp"

#include <minivmx/control_bits.hpp>
#include <minivmx/x86.hpp>

#include <cstring>

namespace minivmx::sim {

namespace {

constexpr u64 kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40,
              kLarge = 0x80, kNoExecute = u64{1} << 63, kAddress = 0x000ffffffffff000;
constexpr u32 kFaultPresent = 1, kFaultWrite = 2, kFaultUser = 4, kFaultReserved = 8,
              kFaultFetch = 16;
constexpr u32 kLongestInstruction = 15;
/// A guest that goes on for so long has lost its way.
constexpr u64 kMaxInstructions = 100'000;

} // namespace

Program &Program::mov(unsigned gpr, u64 value)
{
    bytes_.push_back(0x48);
    bytes_.push_back(static_cast<u8>(0xb8 + gpr));
    for (unsigned i = 0; i < 8; i++)
        bytes_.push_back(static_cast<u8>(value >> (8 * i)));
    return *this;
}

struct GuestCpu::Instruction {
    std::vector<u8> opcode;
    u32 length;
    bool (GuestCpu::*run)(const u8 *code, u32 length);
};

// By their first bytes.
const GuestCpu::Instruction GuestCpu::kInstructions[] = {
    {{0x48, 0x8b, 0x07}, 3, &GuestCpu::run_load},
    {{0x48, 0x89, 0x07}, 3, &GuestCpu::run_store},
    {{0x48, 0xcf}, 2, &GuestCpu::run_iret},
    {{0x48}, 10, &GuestCpu::run_mov},
    {{0x8b, 0x07}, 2, &GuestCpu::run_load},
    {{0x89, 0x07}, 2, &GuestCpu::run_store},
    {{0x0f, 0x32}, 2, &GuestCpu::run_rdmsr},
    {{0x0f, 0x30}, 2, &GuestCpu::run_wrmsr},
    {{0x0f, 0xa2}, 2, &GuestCpu::run_cpuid},
    {{0x0f, 0x22, 0xd8}, 3, &GuestCpu::run_cr3},
    {{0x0f, 0x20, 0xd8}, 3, &GuestCpu::run_cr3},
    {{0x44, 0x0f, 0x22, 0xc0}, 4, &GuestCpu::run_set_cr8},
    {{0x44, 0x0f, 0x20, 0xc0}, 4, &GuestCpu::run_get_cr8},
    {{0x0f, 0x01, 0x3f}, 3, &GuestCpu::run_invlpg},
    {{0xfb}, 1, &GuestCpu::run_sti},
    {{0xfa}, 1, &GuestCpu::run_cli},
    {{0x90}, 1, &GuestCpu::run_nop},
    {{0xe6}, 2, &GuestCpu::run_out},
    {{0xf4}, 1, &GuestCpu::run_hlt},
};

GuestCpu::GuestCpu(Machine &machine) : machine_(machine)
{
    machine_.on_vmenter = [this](host_vcpu &vcpu) { return enter(vcpu); };
    machine_.on_invvpid = [this](u64 type, u64 vpid, u64 linear) {
        if (type == 0)
            tlb_.erase({vpid, linear >> 12});
        else if (type == 2)
            tlb_.clear();
        else
            drop_translations(vpid);
    };
}

GuestCpu::~GuestCpu()
{
    machine_.on_vmenter = nullptr;
    machine_.on_invvpid = nullptr;
}

bool GuestCpu::secondary(u32 bit)
{
    return primary(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) &&
           (get(SECONDARY_VM_EXEC_CONTROL) & bit) != 0;
}

// ---- Entry and exit -----------------------------------------------------------------------------

u64 GuestCpu::vpid()
{
    return secondary(SECONDARY_EXEC_ENABLE_VPID) ? get(VIRTUAL_PROCESSOR_ID) : 0;
}

void GuestCpu::drop_translations(u64 vpid)
{
    std::erase_if(tlb_, [vpid](const auto &entry) { return entry.first.first == vpid; });
}

// SDM Vol. 3C, 27.3.1: what this guest's state must be, without unrestricted guest and EPT.
void GuestCpu::check_state()
{
    const u64 cr0 = get(GUEST_CR0), cr4 = get(GUEST_CR4);
    if ((cr0 & (X86_CR0_PG | X86_CR0_PE)) != (X86_CR0_PG | X86_CR0_PE))
        machine_.violation("VM entry without protection and paging, but not as unrestricted guest");
    if (!(cr4 & X86_CR4_PAE))
        machine_.violation("VM entry for shadow tables without CR4.PAE");
    if (secondary(SECONDARY_EXEC_ENABLE_EPT))
        machine_.violation("the simulated guest CPU knows no EPT");
    if (secondary(SECONDARY_EXEC_ENABLE_VPID) && get(VIRTUAL_PROCESSOR_ID) == 0)
        machine_.violation("VM entry with VPID 0");
}

u32 GuestCpu::enter(host_vcpu &vcpu)
{
    vcpu_ = &vcpu;
    check_state();
    // SDM Vol. 3C, 29.4.3.1: VM entries and exits forget VPID 0's translations.
    drop_translations(0);
    const u32 information = static_cast<u32>(get(VM_ENTRY_INTR_INFO_FIELD));
    if (information & INTR_INFO_VALID)
        deliver(information);
    if (is_lost_) {
        exit(EXIT_REASON_TRIPLE_FAULT, 0, 0);
        return 0;
    }
    for (const u64 begin = instructions; instructions - begin < kMaxInstructions;) {
        if (exits_for_window())
            break;
        if (before_instruction)
            before_instruction();
        if (!step())
            break;
        instructions++;
    }
    drop_translations(0);
    return 0;
}

void GuestCpu::lost(const char *how)
{
    if (!may_get_lost)
        machine_.violation(how);
    is_lost_ = true;
}

bool GuestCpu::exit(u32 reason, u64 qualification, u32 length)
{
    exits[reason]++;
    field(VM_EXIT_REASON.encoding) = reason;
    field(EXIT_QUALIFICATION.encoding) = qualification;
    field(VM_EXIT_INSTRUCTION_LEN.encoding) = length;
    field(IDT_VECTORING_INFO_FIELD.encoding) = 0;
    if (reason != EXIT_REASON_EXCEPTION_NMI)
        field(VM_EXIT_INTR_INFO.encoding) = 0;
    return false;
}

// The vector's handler returns at once, with IRET, but that of an NMI, which the program ends.
void GuestCpu::deliver(u32 information)
{
    const u32 type = information & INTR_INFO_TYPE_MASK;
    const bool open = (get(GUEST_RFLAGS) & X86_EFLAGS_IF) != 0;
    const u64 blocking = get(GUEST_INTERRUPTIBILITY_INFO);
    // SDM Vol. 3C, 27.3.1.4 and 27.3.1.5.
    if (type == INTR_TYPE_EXT_INTR &&
        (!open || (blocking & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)) != 0))
        machine_.violation("an interrupt is injected that the guest has closed its doors to");
    if (type == INTR_TYPE_NMI) {
        if (pin(PIN_BASED_VIRTUAL_NMIS) && (blocking & GUEST_INTR_STATE_NMI) != 0)
            machine_.violation("an NMI is injected while virtual NMIs are blocked");
        if (pin(PIN_BASED_VIRTUAL_NMIS))
            field(GUEST_INTERRUPTIBILITY_INFO.encoding) |= GUEST_INTR_STATE_NMI;
    }
    const bool has_code = (information & INTR_INFO_HAS_ERROR_CODE) != 0;
    events.push_back({type, static_cast<u8>(information),
                      has_code ? static_cast<u32>(get(VM_ENTRY_EXCEPTION_ERROR_CODE)) : 0,
                      vcpu_->area.cr2, get(GUEST_RIP)});
    field(VM_ENTRY_INTR_INFO_FIELD.encoding) &= ~u64{INTR_INFO_VALID};
    // The handler of a fault returns behind the instruction, which would only fault again.
    if (type == INTR_TYPE_HARD_EXCEPTION) {
        u8 code[kLongestInstruction];
        std::optional<Fault> fault;
        if (const Instruction *const instruction = fetch(code, fault))
            field(GUEST_RIP.encoding) += instruction->length;
        else
            lost("the guest faults where there is no instruction");
        field(GUEST_RFLAGS.encoding) &= ~u64{X86_EFLAGS_RF};
    }
}

// SDM Vol. 3C, 26.2: windows are looked for before each instruction, NMIs' first.
bool GuestCpu::exits_for_window()
{
    const u64 blocking = get(GUEST_INTERRUPTIBILITY_INFO);
    constexpr u64 kShadow = GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS;
    if (primary(CPU_BASED_NMI_WINDOW_EXITING) && pin(PIN_BASED_VIRTUAL_NMIS) &&
        (blocking & (GUEST_INTR_STATE_NMI | GUEST_INTR_STATE_MOV_SS)) == 0)
        return !exit(EXIT_REASON_NMI_WINDOW, 0, 0);
    if (primary(CPU_BASED_INTR_WINDOW_EXITING) && (get(GUEST_RFLAGS) & X86_EFLAGS_IF) != 0 &&
        (blocking & kShadow) == 0)
        return !exit(EXIT_REASON_INTERRUPT_WINDOW, 0, 0);
    return false;
}

// ---- Instructions -------------------------------------------------------------------------------

const GuestCpu::Instruction *GuestCpu::fetch(u8 *code, std::optional<Fault> &fault)
{
    const u64 rip = get(GUEST_RIP) + get(GUEST_CS_BASE);
    u32 available = 0;
    for (; available < kLongestInstruction; available++) {
        Fault missed{};
        const auto page = translate(rip + available, Access::kFetch, missed);
        if (!page) {
            fault = missed;
            break;
        }
        const u8 *const byte = memory_at(*page, rip + available);
        if (!byte)
            break;
        code[available] = *byte;
        if (on_access && available == 0)
            on_access(rip, page->pfn, false, true);
        for (const Instruction &known : kInstructions) {
            if (available + 1 == known.length &&
                std::memcmp(code, known.opcode.data(), known.opcode.size()) == 0) {
                fault.reset();
                return &known;
            }
        }
    }
    return nullptr;
}

bool GuestCpu::step()
{
    u8 code[kLongestInstruction] = {};
    std::optional<Fault> fault;
    const Instruction *const instruction = fetch(code, fault);
    if (!instruction) {
        const usize faults = events.size();
        if (fault && !raise(*fault, 0) && events.size() == faults)
            return false;
        lost("the simulated guest CPU doesn't find or know the instruction");
        return exit(EXIT_REASON_TRIPLE_FAULT, 0, 0);
    }
    const u64 rip = get(GUEST_RIP), shadow = get(GUEST_INTERRUPTIBILITY_INFO);
    const usize faults = events.size();
    trap_like_exit_ = false;
    const bool completed = (this->*instruction->run)(code, instruction->length);
    if (!completed && !trap_like_exit_ && events.size() == faults)
        return false; // a fault-like exit: nothing has changed
    field(GUEST_RIP.encoding) = rip + instruction->length;
    // A shadow covers one instruction.
    if (shadow & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS))
        field(GUEST_INTERRUPTIBILITY_INFO.encoding) &=
            ~u64{GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS};
    return !trap_like_exit_;
}

bool GuestCpu::run_mov(const u8 *code, u32)
{
    u64 value = 0;
    std::memcpy(&value, code + 2, sizeof(value));
    vcpu_->area.regs[code[1] & 7] = value;
    return true;
}

bool GuestCpu::run_load(const u8 *code, u32 length)
{
    u64 value = 0;
    if (!copy(vcpu_->area.regs[7], &value, code[0] == 0x48 ? 8 : 4, Access::kRead, length))
        return false;
    rax() = value;
    return true;
}

bool GuestCpu::run_store(const u8 *code, u32 length)
{
    return copy(vcpu_->area.regs[7], &rax(), code[0] == 0x48 ? 8 : 4, Access::kWrite, length);
}

bool GuestCpu::run_cpuid(const u8 *, u32 length)
{
    return exit(EXIT_REASON_CPUID, 0, length);
}

bool GuestCpu::run_nop(const u8 *, u32)
{
    return true;
}

bool GuestCpu::run_cli(const u8 *, u32)
{
    field(GUEST_RFLAGS.encoding) &= ~u64{X86_EFLAGS_IF};
    return true;
}

bool GuestCpu::run_sti(const u8 *, u32)
{
    if ((get(GUEST_RFLAGS) & X86_EFLAGS_IF) == 0)
        field(GUEST_INTERRUPTIBILITY_INFO.encoding) |= GUEST_INTR_STATE_STI;
    field(GUEST_RFLAGS.encoding) |= X86_EFLAGS_IF;
    return true;
}

bool GuestCpu::run_iret(const u8 *, u32)
{
    if (pin(PIN_BASED_VIRTUAL_NMIS))
        field(GUEST_INTERRUPTIBILITY_INFO.encoding) &= ~u64{GUEST_INTR_STATE_NMI};
    return true;
}

bool GuestCpu::run_hlt(const u8 *, u32 length)
{
    if (primary(CPU_BASED_HLT_EXITING))
        return exit(EXIT_REASON_HLT, 0, length);
    machine_.violation("the guest sleeps");
    return exit(EXIT_REASON_TRIPLE_FAULT, 0, 0);
}

// SDM Vol. 3C, 26.1.3, and table 28-5.
bool GuestCpu::run_out(const u8 *code, u32 length)
{
    const u8 port = code[1];
    bool exits = primary(CPU_BASED_UNCOND_IO_EXITING);
    if (primary(CPU_BASED_USE_IO_BITMAPS)) {
        const auto *const bitmap = static_cast<const u8 *>(host_phys_page(get(IO_BITMAP_A)));
        exits = (bitmap[port / 8] >> port % 8 & 1) != 0;
    }
    if (!exits) {
        machine_.violation("the guest reaches a port of the host");
        return true;
    }
    constexpr u64 kImmediate = 1 << 6;
    return exit(EXIT_REASON_IO_INSTRUCTION, kImmediate | u64{port} << 16, length);
}

// ---- MSRs ---------------------------------------------------------------------------------------

// SDM Vol. 3C, 25.6.9, and 26.1.3: without a bitmap every access exits.
bool GuestCpu::msr_exits(bool write)
{
    if (!primary(CPU_BASED_USE_MSR_BITMAPS))
        return true;
    const u32 msr = msr_number();
    if (msr > 0x1fff && (msr < 0xc0000000 || msr > 0xc0001fff))
        return true;
    const auto *const bitmap = static_cast<const u8 *>(host_phys_page(get(MSR_BITMAP)));
    const u32 base = (write ? 2048 : 0) + (msr >= 0xc0000000 ? 1024 : 0), bit = msr & 0x1fff;
    return (bitmap[base + bit / 8] >> bit % 8 & 1) != 0;
}

// What the guest's own access reaches: MSRs that the VMCS or the host switches.
u64 *GuestCpu::native_msr()
{
    switch (msr_number()) {
    case 0x174:
        return &field(GUEST_SYSENTER_CS.encoding);
    case 0x175:
        return &field(GUEST_SYSENTER_ESP.encoding);
    case 0x176:
        return &field(GUEST_SYSENTER_EIP.encoding);
    case 0xc0000100:
        return &field(GUEST_FS_BASE.encoding);
    case 0xc0000101:
        return &field(GUEST_GS_BASE.encoding);
    case 0xc0000102:
        return &vcpu_->kernel_gs_base;
    default:
        return nullptr;
    }
}

bool GuestCpu::run_rdmsr(const u8 *, u32 length)
{
    if (msr_exits(false))
        return exit(EXIT_REASON_MSR_READ, 0, length);
    const u64 *const value = native_msr();
    if (!value) {
        machine_.violation("the guest reads an MSR of the host");
        return true;
    }
    rax() = static_cast<u32>(*value);
    vcpu_->area.regs[2] = *value >> 32;
    return true;
}

bool GuestCpu::run_wrmsr(const u8 *, u32 length)
{
    if (msr_exits(true))
        return exit(EXIT_REASON_MSR_WRITE, 0, length);
    u64 *const value = native_msr();
    if (value)
        *value = static_cast<u32>(rax()) | vcpu_->area.regs[2] << 32;
    else
        machine_.violation("the guest writes an MSR of the host");
    return true;
}

// ---- Control registers --------------------------------------------------------------------------

// SDM Vol. 3C, table 28-3: register 3, RAX.
bool GuestCpu::run_cr3(const u8 *code, u32 length)
{
    const bool load = code[1] == 0x22;
    if (primary(load ? CPU_BASED_CR3_LOAD_EXITING : CPU_BASED_CR3_STORE_EXITING))
        return exit(EXIT_REASON_CR_ACCESS, 3 | (load ? 0 : 1 << 4), length);
    machine_.violation("the guest reaches the CR3 of the shadow tables");
    return true;
}

bool GuestCpu::run_invlpg(const u8 *, u32 length)
{
    if (primary(CPU_BASED_INVLPG_EXITING))
        return exit(EXIT_REASON_INVLPG, vcpu_->area.regs[7], length);
    machine_.violation("INVLPG without an exit, though tables are shadowed");
    return true;
}

// The task-priority register on the virtual-APIC page.
u64 *GuestCpu::virtual_tpr()
{
    auto *const page = static_cast<u8 *>(host_phys_page(get(VIRTUAL_APIC_PAGE_ADDR)));
    return page ? reinterpret_cast<u64 *>(page + 0x80) : nullptr;
}

// SDM Vol. 3C, 30.3: CR8 with the TPR shadow is bits 7:4 of the virtual TPR, and 30.1.2.
bool GuestCpu::run_set_cr8(const u8 *, u32 length)
{
    if (primary(CPU_BASED_CR8_LOAD_EXITING))
        return exit(EXIT_REASON_CR_ACCESS, 8, length);
    if (!primary(CPU_BASED_TPR_SHADOW)) {
        machine_.violation("the guest writes the host's task priority");
        return true;
    }
    *virtual_tpr() = (rax() & 15) << 4;
    if ((rax() & 15) < (get(TPR_THRESHOLD) & 15)) {
        trap_like_exit_ = true;
        return exit(EXIT_REASON_TPR_BELOW_THRESHOLD, 0, length);
    }
    return true;
}

bool GuestCpu::run_get_cr8(const u8 *, u32 length)
{
    if (primary(CPU_BASED_CR8_STORE_EXITING))
        return exit(EXIT_REASON_CR_ACCESS, 8 | 1 << 4, length);
    if (!primary(CPU_BASED_TPR_SHADOW))
        machine_.violation("the guest reads the host's task priority");
    else
        rax() = *virtual_tpr() >> 4 & 15;
    return true;
}

// ---- Memory -------------------------------------------------------------------------------------

// SDM Vol. 3C, 26.2: whether a #PF exits depends on its error code, too. Else it is the guest's.
bool GuestCpu::raise(const Fault &fault, u32 length)
{
    const bool matches =
        (fault.error_code & get(PAGE_FAULT_ERROR_CODE_MASK)) == get(PAGE_FAULT_ERROR_CODE_MATCH);
    const bool wanted = (get(EXCEPTION_BITMAP) >> PF_VECTOR & 1) != 0;
    if (matches == wanted) {
        field(VM_EXIT_INTR_INFO.encoding) =
            INTR_INFO_VALID | INTR_INFO_HAS_ERROR_CODE | INTR_TYPE_HARD_EXCEPTION | PF_VECTOR;
        field(VM_EXIT_INTR_ERROR_CODE.encoding) = fault.error_code;
        return exit(EXIT_REASON_EXCEPTION_NMI, fault.address, length);
    }
    vcpu_->area.cr2 = fault.address;
    events.push_back(
        {INTR_TYPE_HARD_EXCEPTION, PF_VECTOR, fault.error_code, fault.address, get(GUEST_RIP)});
    return false;
}

bool GuestCpu::copy(u64 linear, void *data, u32 size, Access access, u32 length)
{
    Fault fault{};
    const auto page = translate(linear, access, fault);
    if (!page)
        return raise(fault, length);
    if (secondary(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES) &&
        page->pfn << 12 == get(APIC_ACCESS_ADDR))
        // SDM Vol. 3C, table 28-6.
        return exit(EXIT_REASON_APIC_ACCESS,
                    (linear & 0xfff) | (access == Access::kWrite ? u64{1} << 12 : 0), length);
    u8 *const at = memory_at(*page, linear);
    if (!at) {
        machine_.violation("a translation leads to a page that nobody has");
        return true;
    }
    if (on_access)
        on_access(linear, page->pfn, access == Access::kWrite, false);
    if (access == Access::kWrite)
        std::memcpy(at, data, size);
    else
        std::memcpy(data, at, size);
    return true;
}

// A page of the simulated process, or one of the core's own.
u8 *GuestCpu::memory_at(const Translation &page, u64 linear)
{
    if (const auto own = machine_.pages_by_phys.find(page.pfn << 12);
        own != machine_.pages_by_phys.end())
        return static_cast<u8 *>(own->second) + (linear & 0xfff);
    for (const auto &[hva_page, pfn] : machine_.pfns) {
        if (pfn == page.pfn)
            return reinterpret_cast<u8 *>(hva_page << 12 | (linear & 0xfff));
    }
    return nullptr;
}

// SDM Vol. 3A, 4.6.1. CR0.WP is set: supervisor accesses obey the R/W flag, too.
bool GuestCpu::permits(const Translation &page, Access access)
{
    const bool user = (get(GUEST_SS_AR_BYTES) >> 5 & 3) == 3;
    const u64 cr4 = get(GUEST_CR4);
    if (user && !page.user)
        return false;
    if (!user && page.user) {
        const bool ac = (get(GUEST_RFLAGS) & X86_EFLAGS_AC) != 0;
        if (access == Access::kFetch ? (cr4 & X86_CR4_SMEP) != 0 : (cr4 & X86_CR4_SMAP) != 0 && !ac)
            return false;
    }
    return (access != Access::kWrite || page.writable) &&
           (access != Access::kFetch || page.executable);
}

std::optional<GuestCpu::Translation> GuestCpu::translate(u64 linear, Access access, Fault &fault)
{
    const auto cached = tlb_.find({vpid(), linear >> 12});
    if (cached != tlb_.end()) {
        const Translation &page = cached->second;
        if (permits(page, access) && (access != Access::kWrite || page.dirty))
            return page;
        // SDM Vol. 3A, 4.10.2.3 and 4.10.4.1: a fault, or a first write, is decided by the tables.
        tlb_.erase(cached);
    }
    const auto page = walk(linear, access, fault);
    if (page)
        tlb_[{vpid(), linear >> 12}] = *page;
    return page;
}

// SDM Vol. 3A, 4.4.2 and 4.5.4: the tables are 4-level ones in IA-32e mode, else PAE's.
std::optional<GuestCpu::Translation> GuestCpu::walk(u64 linear, Access access, Fault &fault)
{
    const bool long_mode = (get(VM_ENTRY_CONTROLS) & VM_ENTRY_IA32E_MODE) != 0;
    const bool user = (get(GUEST_SS_AR_BYTES) >> 5 & 3) == 3;
    const u64 reserved = kAddress & ~((u64{1} << machine_.host_info.maxphyaddr) - 1);
    u32 code = (access == Access::kWrite ? kFaultWrite : 0) | (user ? kFaultUser : 0) |
               (access == Access::kFetch ? kFaultFetch : 0);
    fault = {linear, code};
    bool writable = true, for_user = true, executable = true;
    std::array<u64 *, 4> used{};
    u64 table = get(GUEST_CR3) & (long_mode ? kAddress : 0xffffffe0);
    for (int level = long_mode ? 4 : 3; level >= 1; level--) {
        auto *const page = static_cast<u8 *>(host_phys_page(table & kAddress));
        if (!page) {
            machine_.violation("a table that the CPU walks is not the core's");
            return std::nullopt;
        }
        const bool pdpte = level == 3 && !long_mode;
        const u64 index = linear >> (12 + 9 * (level - 1)) & (pdpte ? 3 : 511);
        auto *const entry = reinterpret_cast<u64 *>(page + (pdpte ? table & 0xfe0 : 0)) + index;
        if (!(*entry & kPresent))
            return std::nullopt;
        fault.error_code = code | kFaultPresent | kFaultReserved;
        const bool large = (*entry & kLarge) != 0 && level == 2;
        if ((*entry & reserved) != 0 || (large && (*entry & 0x1fe000) != 0) ||
            (level == 4 && (*entry & kLarge) != 0) ||
            (pdpte && (*entry & (kNoExecute | 0x1e6)) != 0))
            return std::nullopt;
        fault.error_code = code;
        if (!pdpte) {
            writable &= (*entry & kWritable) != 0;
            for_user &= (*entry & kUser) != 0;
            executable &= (*entry & kNoExecute) == 0;
            used[static_cast<unsigned>(level - 1)] = entry;
        }
        table = *entry & kAddress;
        if (!large && level != 1)
            continue;

        fault.error_code = code | kFaultPresent;
        if (!permits({0, writable, for_user, executable, false}, access))
            return std::nullopt;
        for (u64 *const one : used) {
            if (one)
                *one |= kAccessed;
        }
        if (access == Access::kWrite)
            *entry |= kDirty;
        const u64 pfn = (table >> 12) + (large ? linear >> 12 & 511 : 0);
        return Translation{pfn, writable, for_user, executable, (*entry & kDirty) != 0};
    }
    return std::nullopt;
}

} // namespace minivmx::sim
