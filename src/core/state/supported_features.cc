// SPDX-License-Identifier: GPL-2.0-only
// Which features of this CPU guests may be given. A feature is offered if the CPU has
// it, the host kernel uses it (it may have turned it off for an erratum), and this hypervisor
// virtualises all of it.
#include <minivmx/arch.hpp>
#include <minivmx/capabilities.hpp>
#include <minivmx/cpuid.hpp>
#include <minivmx/hardware.hpp>

namespace minivmx {

namespace {

// Where a word of feature bits is in CPUID.
enum class Register : u8 { kEax, kEbx, kEcx, kEdx };

constexpr u32 kNoHostWord = HOST_FEATURE_WORDS;

template <class... Bit>
constexpr u32 bits(Bit... bit)
{
    return (u32{0} | ... | bit32(static_cast<unsigned>(bit)));
}

struct WordInfo {
    u32 leaf, subleaf;
    Register where;
    u32 host_word;
    u32 virtualised;
};

// In the order of CpuidWord. What isn't here needs something of the hypervisor that it doesn't do:
// MONITOR and MWAIT, which exit; the TSC-deadline timer, which KVM_CAP_TSC_DEADLINE_TIMER tells of,
// as it needs the local APIC in the kernel; debug store and performance
// counters; VMX, SMX, SGX; Intel PT; protection keys; 5-level paging; AMX; CET; bus-lock
// exceptions.
constexpr WordInfo kWords[kCpuidWordCount] = {
    // SSE3, PCLMULQDQ, SSSE3, FMA, CX16, PCID, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, AVX,
    // F16C, RDRAND
    {1, 0, Register::kEcx, HOST_FEATURES_1_ECX,
     bits(0, 1, 9, 12, 13, 17, 19, 20, 22, 23, 25, 26, 28, 29, 30)},
    // FPU, VME, DE, PSE, TSC, MSR, PAE, MCE, CX8, APIC, SEP, MTRR, PGE, MCA, CMOV, PAT, PSE36,
    // CLFLUSH, MMX, FXSR, SSE,
    // SSE2, SS
    {1, 0, Register::kEdx, HOST_FEATURES_1_EDX,
     bits(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26, 27)},
    // FSGSBASE, BMI1, HLE, AVX2, FDP_EXCPTN_ONLY, SMEP, BMI2, ERMS, INVPCID, RTM, ZERO_FCS_FDS,
    // MPX, AVX512F, AVX512DQ,
    // RDSEED, ADX, SMAP, AVX512_IFMA, CLFLUSHOPT, CLWB, AVX512PF, AVX512ER, AVX512CD, SHA,
    // AVX512BW, AVX512VL
    {7, 0, Register::kEbx, HOST_FEATURES_7_EBX,
     bits(0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 16, 17, 18, 19, 20, 21, 23, 24, 26, 27, 28, 29,
          30, 31)},
    // AVX512_VBMI, UMIP, WAITPKG, AVX512_VBMI2, GFNI, VAES, VPCLMULQDQ, AVX512_VNNI, AVX512_BITALG,
    // AVX512_VPOPCNTDQ,
    // RDPID, CLDEMOTE, MOVDIRI, MOVDIR64B
    {7, 0, Register::kEcx, HOST_FEATURES_7_ECX,
     bits(1, 2, 5, 6, 8, 9, 10, 11, 12, 14, 22, 25, 27, 28)},
    // AVX512_4VNNIW, AVX512_4FMAPS, FSRM, AVX512_VP2INTERSECT, MD_CLEAR, SERIALIZE, TSXLDTRK,
    // AVX512_FP16, IBRS and IBPB,
    // STIBP, SSBD
    {7, 0, Register::kEdx, HOST_FEATURES_7_EDX, bits(2, 3, 4, 8, 10, 14, 16, 23, 26, 27, 31)},
    // AVX_VNNI, AVX512_BF16
    {7, 1, Register::kEax, HOST_FEATURES_7_1_EAX, bits(4, 5)},
    // PSFD, IPRED_CTRL, RRSBA_CTRL, DDPD_U, BHI_CTRL, MCDT_NO
    {7, 2, Register::kEdx, kNoHostWord, bits(0, 1, 2, 3, 4, 5)},
    // XSAVEOPT, XSAVEC, XGETBV with ECX=1, XSAVES
    {0xd, 1, Register::kEax, HOST_FEATURES_D_1_EAX, bits(0, 1, 2, 3)},
    // LAHF in 64-bit mode, LZCNT, PREFETCHW
    {0x80000001, 0, Register::kEcx, HOST_FEATURES_80000001_ECX, bits(0, 5, 8)},
    // SYSCALL, NX, 1-GiB pages, RDTSCP, Intel 64
    {0x80000001, 0, Register::kEdx, HOST_FEATURES_80000001_EDX, bits(11, 20, 26, 27, 29)},
    // WBNOINVD
    {0x80000008, 0, Register::kEbx, HOST_FEATURES_80000008_EBX, bits(9)},
};

constexpr u32 kBitStibp = 27, kBitSsbd = 31; // of leaf 7, EDX
constexpr u32 kAmdSsbNo = bit32(26);         // of leaf 80000008H, EBX

constexpr u64 kXcr0Virtualised = 0xff; // x87, SSE, AVX, both of MPX, all of AVX-512
constexpr u64 kXcr0Mpx = bit64(3) | bit64(4);
constexpr u32 kMaxXstate = 8;

struct XstateComponent {
    u32 size, offset;
    bool aligned; // to 64 bytes, in the compacted form
};

// Of this CPU, written once at module load.
struct Supported {
    u32 words[kCpuidWordCount];
    u64 xcr0;
    XstateComponent xstate[kMaxXstate];
    bool umip_emulated;
};
constinit Supported supported = {};

u32 register_of(const arch::CpuidResult &answer, Register which)
{
    switch (which) {
    case Register::kEax:
        return answer.eax;
    case Register::kEbx:
        return answer.ebx;
    case Register::kEcx:
        return answer.ecx;
    case Register::kEdx:
        return answer.edx;
    }
    return 0;
}

bool leaf_exists(u32 leaf, u32 subleaf)
{
    if (arch::cpuid(leaf & 0x80000000, 0).eax < leaf)
        return false;
    return leaf != 7 || arch::cpuid(7, 0).eax >= subleaf;
}

u32 word_of_this_cpu(const WordInfo &info)
{
    if (!leaf_exists(info.leaf, info.subleaf))
        return 0;
    u32 word = register_of(arch::cpuid(info.leaf, info.subleaf), info.where) & info.virtualised;
    if (info.host_word != kNoHostWord)
        word &= hardware.info.features[info.host_word];
    return word;
}

void set_feature(CpuidFeature feature, bool on)
{
    const unsigned number = static_cast<unsigned>(feature);
    u32 &word = supported.words[number / 32];
    word = on ? word | bit32(number % 32) : word & ~bit32(number % 32);
}

void need(CpuidFeature feature, bool condition)
{
    if (!condition)
        set_feature(feature, false);
}

// Features that a VMX control gives to the guest or takes from it. RDRAND and RDSEED need none:
// without the control that makes them exit they just work.
void apply_controls()
{
    const vmcs_config &config = hardware.config;
    need(CpuidFeature::kInvpcid, cpu_has_vmx_invpcid(config));
    need(CpuidFeature::kRdtscp, cpu_has_vmx_rdtscp(config));
    need(CpuidFeature::kRdpid, cpu_has_vmx_rdtscp(config));
    need(CpuidFeature::kXsaves, cpu_has_vmx_xsaves(config));
    need(CpuidFeature::kWaitpkg, cpu_has_vmx_waitpkg(config));
    need(CpuidFeature::kMpx, (supported.xcr0 & kXcr0Mpx) == kXcr0Mpx);
}

// What the hypervisor itself adds.
void add_emulated()
{
    set_feature(CpuidFeature::kTscAdjust, true);
    set_feature(CpuidFeature::kX2apic, true);
    set_feature(CpuidFeature::kArchCapabilities, true);
    // Without UMIP of its own the CPU can make the guest exit where it would count.
    supported.umip_emulated = !supports(CpuidFeature::kUmip) && vmx_umip_emulated(hardware.config);
    if (supported.umip_emulated)
        set_feature(CpuidFeature::kUmip, true);

    // AMD's names of what leaf 7 has, for guests that look there.
    const u32 leaf_7 = supported.words[static_cast<unsigned>(CpuidWord::k7Edx)];
    set_feature(CpuidFeature::kAmdIbpb, supports(CpuidFeature::kSpecCtrl));
    set_feature(CpuidFeature::kAmdIbrs, supports(CpuidFeature::kSpecCtrl));
    set_feature(CpuidFeature::kAmdStibp, (leaf_7 & bit32(kBitStibp)) != 0);
    set_feature(CpuidFeature::kAmdSsbd, (leaf_7 & bit32(kBitSsbd)) != 0);
    if (!(hardware.info.bugs & HOST_BUG_SPEC_STORE_BYPASS))
        supported.words[static_cast<unsigned>(CpuidWord::kExt8Ebx)] |= kAmdSsbNo;
}

void measure_xstate()
{
    for (u32 i = 2; i < kMaxXstate; i++) {
        const arch::CpuidResult answer = arch::cpuid(0xd, i);
        supported.xstate[i] = {answer.eax, answer.ebx, (answer.ecx & 2) != 0};
    }
}

} // namespace

void init_supported_cpuid()
{
    supported = {};
    for (unsigned i = 0; i < kCpuidWordCount; i++)
        supported.words[i] = word_of_this_cpu(kWords[i]);
    if (supports(CpuidFeature::kXsave)) {
        supported.xcr0 = hardware.info.xcr0 & kXcr0Virtualised;
        measure_xstate();
    }
    if (!(hardware.config.vmentry_ctrl & VM_ENTRY_LOAD_BNDCFGS))
        supported.xcr0 &= ~kXcr0Mpx;
    apply_controls();
    add_emulated();
}

u32 supported_features(CpuidWord word)
{
    return supported.words[static_cast<unsigned>(word)];
}

bool supports(CpuidFeature feature)
{
    const unsigned number = static_cast<unsigned>(feature);
    return (supported.words[number / 32] >> number % 32 & 1) != 0;
}

bool umip_is_emulated()
{
    return supported.umip_emulated;
}

u64 supported_xcr0()
{
    return supported.xcr0;
}

u32 xstate_required_size(u64 components, bool compacted)
{
    constexpr u32 kLegacyAndHeader = 512 + 64;
    u32 size = kLegacyAndHeader;
    for (u32 i = 2; i < kMaxXstate; i++) {
        if (!(components >> i & 1))
            continue;
        const XstateComponent &component = supported.xstate[i];
        u32 offset = component.offset;
        if (compacted)
            offset = component.aligned ? (size + 63) & ~63u : size;
        if (offset + component.size > size)
            size = offset + component.size;
    }
    return size;
}

} // namespace minivmx
