# SPDX-License-Identifier: GPL-2.0-only
"""What the emulator can say of a VM entry that it refuses, and which fields of the VMCS it means.

The keys are Bochs 2.7's own format strings, so that a message that is missing here is found by looking into the
program. {0} is the message's first value.
"""

# Where an entry gets another verdict from models with CET: SDM Vol. 3A, appendix A.1, bit 56 of IA32_VMX_BASIC.
WITHOUT_CET = ("corei7_haswell_4770",)
WITH_CET = ("tigerlake",)
NEWER = ("tigerlake",)  # page-modification logging, sub-page permissions, TSC scaling, monitor trap flag

# Message: fields.
FIELDS = {
    # VM-execution controls
    "VMFAIL: VMCS EXEC CTRL: VMX pin-based controls allowed 0-settings": "PIN_BASED_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: VMX pin-based controls allowed 1-settings [0x%08x]": "PIN_BASED_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: VMX proc-based controls allowed 0-settings": "CPU_BASED_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: VMX proc-based controls allowed 1-settings [0x%08x]": "CPU_BASED_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: VMX secondary controls allowed 1-settings [0x%08x]": "SECONDARY_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: too may CR3 targets %d": "CR3_TARGET_COUNT",
    "VMFAIL: VMCS EXEC CTRL: I/O bitmap %c phy addr malformed": "IO_BITMAP_{0}",
    "VMFAIL: VMCS EXEC CTRL: MSR bitmap phy addr malformed": "MSR_BITMAP",
    "VMFAIL: VMCS EXEC CTRL: misconfigured virtual NMI control": "PIN_BASED_VM_EXEC_CONTROL CPU_BASED_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: VMREAD bitmap phy addr malformed": "VMREAD_BITMAP",
    "VMFAIL: VMCS EXEC CTRL: VMWRITE bitmap phy addr malformed": "VMWRITE_BITMAP",
    "VMFAIL: VMCS EXEC CTRL: broken #VE information address": "VE_INFO_ADDRESS",
    "VMFAIL: VMCS EXEC CTRL: virtual apic phy addr malformed": "VIRTUAL_APIC_PAGE_ADDR",
    "VMFAIL: VMCS EXEC CTRL: virtual interrupt delivery must be set together with external interrupt exiting":
        "PIN_BASED_VM_EXEC_CONTROL SECONDARY_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: TPR threshold too big": "TPR_THRESHOLD",
    "VMFAIL: VMCS EXEC CTRL: TPR threshold > TPR shadow": "TPR_THRESHOLD",
    "VMFAIL: VMCS EXEC CTRL: apic virtualization is enabled without TPR shadow": "SECONDARY_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: apic access page phy addr malformed": "APIC_ACCESS_ADDR",
    "VMFAIL: VMCS EXEC CTRL: virtualize X2APIC mode enabled together with APIC access virtualization":
        "SECONDARY_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: invalid EPTPTR value": "EPT_POINTER",
    "VMFAIL: VMCS EXEC CTRL: unrestricted guest without EPT": "SECONDARY_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: guest VPID == 0": "VIRTUAL_PROCESSOR_ID",
    "VMFAIL: VMCS VM Functions control reserved bits set": "VM_FUNCTION_CONTROL",
    "VMFAIL: VMFUNC EPTP-SWITCHING: EPT disabled": "VM_FUNCTION_CONTROL SECONDARY_VM_EXEC_CONTROL",
    "VMFAIL: VMFUNC EPTP-SWITCHING: eptp list phy addr malformed": "EPTP_LIST_ADDRESS",
    "VMFAIL: VMCS EXEC CTRL: PML is enabled without EPT": "SECONDARY_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: PML base phy addr malformed": "PML_ADDRESS",
    "VMFAIL: VMCS EXEC CTRL: SPP is enabled without EPT": "SECONDARY_VM_EXEC_CONTROL",
    "VMFAIL: VMCS EXEC CTRL: SPP base phy addr malformed": "SPP_TABLE_POINTER",
    "VMFAIL: VMCS EXEC CTRL: TSC multiplier should be non zero": "TSC_MULTIPLIER",
    # VM-exit controls
    "VMFAIL: VMCS EXEC CTRL: VMX vmexit controls allowed 0-settings": "VM_EXIT_CONTROLS",
    "VMFAIL: VMCS EXEC CTRL: VMX vmexit controls allowed 1-settings [0x%08x]": "VM_EXIT_CONTROLS",
    "VMFAIL: save_VMX_preemption_timer VMEXIT control is set but VMX_preemption_timer VMEXEC control is clear":
        "VM_EXIT_CONTROLS",
    "VMFAIL: VMCS VMEXIT CTRL: msr store addr malformed": "VM_EXIT_MSR_STORE_ADDR",
    "VMFAIL: VMCS VMEXIT CTRL: msr store addr too high": "VM_EXIT_MSR_STORE_ADDR",
    "VMFAIL: VMCS VMEXIT CTRL: msr load addr malformed": "VM_EXIT_MSR_LOAD_ADDR",
    "VMFAIL: VMCS VMEXIT CTRL: msr load addr too high": "VM_EXIT_MSR_LOAD_ADDR",
    # VM-entry controls
    "VMFAIL: VMCS EXEC CTRL: VMX vmentry controls allowed 0-settings": "VM_ENTRY_CONTROLS",
    "VMFAIL: VMCS EXEC CTRL: VMX vmentry controls allowed 1-settings [0x%08x]": "VM_ENTRY_CONTROLS",
    "VMFAIL: VMENTRY from outside SMM with dual-monitor treatment enabled": "VM_ENTRY_CONTROLS",
    "VMFAIL: VMCS VMENTRY CTRL: msr load addr malformed": "VM_ENTRY_MSR_LOAD_ADDR",
    "VMFAIL: VMCS VMENTRY CTRL: msr load addr too high": "VM_ENTRY_MSR_LOAD_ADDR",
    "VMFAIL: VMENTRY broken interruption info field": "VM_ENTRY_INTR_INFO_FIELD",
    "VMFAIL: VMENTRY bad injected event vector %d": "VM_ENTRY_INTR_INFO_FIELD",
    "VMFAIL: VMENTRY bad injected event instr length": "VM_ENTRY_INSTRUCTION_LEN",
    "VMFAIL: VMENTRY bad MTF injection with vector=%d": "VM_ENTRY_INTR_INFO_FIELD",
    "VMFAIL: VMENTRY bad injected event type %d": "VM_ENTRY_INTR_INFO_FIELD",
    "VMFAIL: VMENTRY injected event vector %d broken error code": "VM_ENTRY_INTR_INFO_FIELD",
    "VMFAIL: VMENTRY bad error code 0x%08x for injected event %d": "VM_ENTRY_EXCEPTION_ERROR_CODE",
    # Host state
    "VMFAIL: VMCS x86-64 host control invalid on VMENTRY": "VM_EXIT_CONTROLS",
    "VMFAIL: VMCS host state invalid CR0 0x%08x": "HOST_CR0",
    "VMFAIL: VMCS host state invalid CR3": "HOST_CR3",
    "VMFAIL: VMCS host state invalid CR4 0x%016lx": "HOST_CR4",
    "VMFAIL: VMCS host segreg %d TI/RPL != 0": "HOST_{segment}_SELECTOR",
    "VMFAIL: VMCS host CS selector 0": "HOST_CS_SELECTOR",
    "VMFAIL: VMCS invalid host TR selector": "HOST_TR_SELECTOR",
    "VMFAIL: VMCS host TR BASE non canonical": "HOST_TR_BASE",
    "VMFAIL: VMCS host FS BASE non canonical": "HOST_FS_BASE",
    "VMFAIL: VMCS host GS BASE non canonical": "HOST_GS_BASE",
    "VMFAIL: VMCS host GDTR BASE non canonical": "HOST_GDTR_BASE",
    "VMFAIL: VMCS host IDTR BASE non canonical": "HOST_IDTR_BASE",
    "VMFAIL: VMCS host SYSENTER_ESP_MSR non canonical": "HOST_IA32_SYSENTER_ESP",
    "VMFAIL: VMCS host SYSENTER_EIP_MSR non canonical": "HOST_IA32_SYSENTER_EIP",
    "VMFAIL: invalid Memory Type in host MSR_PAT": "HOST_IA32_PAT",
    "VMFAIL: VMCS host IA32_S_CET/EB_LEG_BITMAP_BASE non canonical or invalid": "HOST_S_CET",
    "VMFAIL: VMCS host IA32_S_CET invalid": "HOST_S_CET",
    "VMFAIL: VMCS host SSP non canonical or invalid": "HOST_SSP",
    "VMFAIL: VMCS host SSP[1:0] not zero": "HOST_SSP",
    "VMFAIL: VMCS host INTERRUPT_SSP_TABLE_ADDR non canonical or invalid": "HOST_INTR_SSP_TABLE",
    "FAIL: VMCS host CR4.CET=1 when CR0.WP=0": "HOST_CR4 HOST_CR0",
    "VMFAIL: VMCS host EFER reserved bits set !": "HOST_IA32_EFER",
    "VMFAIL: VMCS host EFER (0x%08x) inconsistent value !": "HOST_IA32_EFER",
    "VMFAIL: VMCS host CR4.PAE=0 with x86-64 host": "HOST_CR4",
    "VMFAIL: VMCS host RIP non-canonical": "HOST_RIP",
    # Guest registers
    "VMENTER FAIL: RFLAGS reserved bits are set": "GUEST_RFLAGS",
    "VMENTER FAIL: RFLAGS[1] cleared": "GUEST_RFLAGS",
    "VMENTER FAIL: Enter to x86-64 guest with RFLAGS.VM": "GUEST_RFLAGS",
    "VMENTER FAIL: VMCS guest invalid CR0": "GUEST_CR0",
    "VMENTER FAIL: VMCS unrestricted guest CR0.PG without CR0.PE": "GUEST_CR0",
    "VMENTER FAIL: VMCS guest invalid CR3": "GUEST_CR3",
    "VMENTER FAIL: VMCS guest invalid CR4": "GUEST_CR4",
    "VMENTER FAIL: VMCS guest CR4.PAE=0 in x86-64 mode": "GUEST_CR4",
    "VMENTER FAIL: VMCS CR4.PCIDE set in 32-bit guest": "GUEST_CR4",
    "VMENTER FAIL: VMCS guest invalid DR7": "GUEST_DR7",
    "VMENTER FAIL: VMCS guest CR4.CET=1 when CR0.WP=0": "GUEST_CR4 GUEST_CR0",
    "VMFAIL: VMCS guest IA32_S_CET/EB_LEG_BITMAP_BASE non canonical or invalid": "GUEST_S_CET",
    "VMFAIL: VMCS guest IA32_S_CET invalid": "GUEST_S_CET",
    "VMFAIL: VMCS guest SSP non canonical or invalid": "GUEST_SSP",
    "VMFAIL: VMCS guest SSP[1:0] not zero": "GUEST_SSP",
    "VMFAIL: VMCS guest INTERRUPT_SSP_TABLE_ADDR non canonical or invalid": "GUEST_INTR_SSP_TABLE",
    # Guest segments
    "VMENTER FAIL: VMCS v8086 guest bad %s.BASE": "GUEST_{0}_BASE",
    "VMENTER FAIL: VMCS v8086 guest %s.LIMIT != 0xFFFF": "GUEST_{0}_LIMIT",
    "VMENTER FAIL: VMCS v8086 guest %s.AR != 0xF3": "GUEST_{0}_AR_BYTES",
    "VMENTER FAIL: VMCS guest %s.BASE non canonical": "GUEST_{0}_BASE",
    "VMENTER FAIL: VMCS guest %s.BASE > 32 bit": "GUEST_{0}_BASE",
    "VMENTER FAIL: VMCS guest %s not segment": "GUEST_{0}_AR_BYTES",
    "VMENTER FAIL: VMCS guest %s not present": "GUEST_{0}_AR_BYTES",
    "VMENTER FAIL: VMCS guest %s.AR/LIMIT malformed": "GUEST_{0}_AR_BYTES GUEST_{0}_LIMIT",
    "VMENTER FAIL: VMCS guest non-conforming CS.RPL <> CS.DPL": "GUEST_CS_AR_BYTES GUEST_CS_SELECTOR",
    "VMENTER FAIL: VMCS guest non-conforming CS.RPL < CS.DPL": "GUEST_CS_AR_BYTES GUEST_CS_SELECTOR",
    "VMENTER FAIL: VMCS unrestricted guest CS.DPL != 0": "GUEST_CS_AR_BYTES",
    "VMENTER FAIL: VMCS guest CS.TYPE": "GUEST_CS_AR_BYTES",
    "VMENTER FAIL: VMCS x86_64 guest wrong CS.D_B/L": "GUEST_CS_AR_BYTES",
    "VMENTER FAIL: VMCS guest SS.TYPE": "GUEST_SS_AR_BYTES",
    "VMENTER FAIL: VMCS guest %s not ACCESSED": "GUEST_{0}_AR_BYTES",
    "VMENTER FAIL: VMCS guest CODE segment %s not READABLE": "GUEST_{0}_AR_BYTES",
    "VMENTER FAIL: VMCS guest non-conforming %s.RPL < %s.DPL": "GUEST_{0}_AR_BYTES GUEST_{0}_SELECTOR",
    "VMENTER FAIL: VMCS guest CS.RPL != SS.RPL": "GUEST_SS_SELECTOR GUEST_CS_SELECTOR",
    "VMENTER FAIL: VMCS guest SS.RPL <> SS.DPL": "GUEST_SS_AR_BYTES GUEST_SS_SELECTOR",
    "VMENTER FAIL: VMCS unrestricted guest SS.DPL != 0": "GUEST_SS_AR_BYTES",
    "VMENTER FAIL: VMCS guest IDTR/IDTR.BASE non canonical": "GUEST_GDTR_BASE GUEST_IDTR_BASE",
    "VMENTER FAIL: VMCS guest GDTR/IDTR limit > 0xFFFF": "GUEST_GDTR_LIMIT GUEST_IDTR_LIMIT",
    "VMENTER FAIL: VMCS guest LDTR.TI set": "GUEST_LDTR_SELECTOR",
    "VMENTER FAIL: VMCS guest incorrect LDTR type (%d)": "GUEST_LDTR_AR_BYTES",
    "VMENTER FAIL: VMCS guest LDTR is not system segment": "GUEST_LDTR_AR_BYTES",
    "VMENTER FAIL: VMCS guest LDTR not present": "GUEST_LDTR_AR_BYTES",
    "VMENTER FAIL: VMCS guest LDTR.AR/LIMIT malformed": "GUEST_LDTR_AR_BYTES GUEST_LDTR_LIMIT",
    "VMENTER FAIL: VMCS guest LDTR.BASE non canonical": "GUEST_LDTR_BASE",
    "VMENTER FAIL: VMCS guest TR.BASE non canonical": "GUEST_TR_BASE",
    "VMENTER FAIL: VMCS guest TR invalid": "GUEST_TR_AR_BYTES",
    "VMENTER FAIL: VMCS guest TR.TI set": "GUEST_TR_SELECTOR",
    "VMENTER FAIL: VMCS guest TR is not system segment": "GUEST_TR_AR_BYTES",
    "VMENTER FAIL: VMCS guest TR not present": "GUEST_TR_AR_BYTES",
    "VMENTER FAIL: VMCS guest TR.AR/LIMIT malformed": "GUEST_TR_AR_BYTES GUEST_TR_LIMIT",
    "VMENTER FAIL: VMCS guest incorrect TR type": "GUEST_TR_AR_BYTES",
    # Guest MSRs, RIP
    "VMENTER FAIL: VMCS guest SYSENTER_ESP_MSR non canonical": "GUEST_SYSENTER_ESP",
    "VMENTER FAIL: VMCS guest SYSENTER_EIP_MSR non canonical": "GUEST_SYSENTER_EIP",
    "VMENTER FAIL: invalid Memory Type in guest MSR_PAT": "GUEST_IA32_PAT",
    "VMENTER FAIL: VMCS guest EFER reserved bits set !": "GUEST_IA32_EFER",
    "VMENTER FAIL: VMCS guest EFER.LMA doesn't match x86_64_guest !": "GUEST_IA32_EFER",
    "VMENTER FAIL: VMCS guest EFER (0x%08x) inconsistent value !": "GUEST_IA32_EFER",
    "VMENTER FAIL: VMCS guest RIP > 32 bit": "GUEST_RIP",
    # Guest state that is no register
    "VMFAIL: VMCS link pointer malformed": "VMCS_LINK_POINTER",
    "VMFAIL: VMCS link pointer must indicate shadow VMCS revision ID = %d": "VMCS_LINK_POINTER",
    "VMFAIL: VMCS link pointer incorrect revision ID %d != %d": "VMCS_LINK_POINTER",
    "VMFAIL: VMCS link pointer equal to current VMCS pointer": "VMCS_LINK_POINTER",
    "VMENTER FAIL: VMCS guest tmpDR6 reserved bits": "GUEST_PENDING_DBG_EXCEPTIONS",
    "VMENTER FAIL: VMCS guest activity state %d": "GUEST_ACTIVITY_STATE",
    "VMENTER FAIL: VMCS guest HLT state with SS.DPL=%d": "GUEST_ACTIVITY_STATE",
    "VMENTER FAIL: VMCS guest interruptibility state broken": "GUEST_INTERRUPTIBILITY_INFO",
    "VMENTER FAIL: VMCS guest interruptibility state broken when entering non active CPU state %d":
        "GUEST_INTERRUPTIBILITY_INFO GUEST_ACTIVITY_STATE",
    "VMENTER FAIL: VMCS guest interrupts can't be blocked by STI when EFLAGS.IF = 0":
        "GUEST_INTERRUPTIBILITY_INFO GUEST_RFLAGS",
    "VMENTER FAIL: VMCS guest interrupts blocked when injecting external interrupt":
        "GUEST_INTERRUPTIBILITY_INFO GUEST_RFLAGS",
    "VMENTER FAIL: VMCS guest interrupts blocked when injecting NMI": "GUEST_INTERRUPTIBILITY_INFO",
    "VMENTER FAIL: No guest interruptions are allowed when entering Wait-For-Sipi state":
        "VM_ENTRY_INTR_INFO_FIELD GUEST_ACTIVITY_STATE",
    "VMENTER FAIL: Only NMI or #MC guest interruption is allowed when entering shutdown state":
        "VM_ENTRY_INTR_INFO_FIELD GUEST_ACTIVITY_STATE",
    "VMENTER FAIL: VMCS SMM guest should block SMI": "GUEST_INTERRUPTIBILITY_INFO",
    "VMENTER FAIL: The activity state must not indicate the wait-for-SIPI state if entering to SMM guest":
        "GUEST_ACTIVITY_STATE",
    "VMENTER FAIL: VMCS SMI blocked when not in SMM mode": "GUEST_INTERRUPTIBILITY_INFO",
    "VMENTER: EPT Guest State PDPTRs Checks Failed": "GUEST_PDPTR0 GUEST_PDPTR1 GUEST_PDPTR2 GUEST_PDPTR3",
    # The MSRs that an entry loads
    "VMX LoadMSRs %d: broken msr index 0x%lx": "VM_ENTRY_MSR_LOAD_ADDR",
    "VMX LoadMSRs %d: unable to restore FSBASE or GSBASE": "VM_ENTRY_MSR_LOAD_ADDR",
    "VMX LoadMSRs %d: unable to restore X2APIC range MSR %x": "VM_ENTRY_MSR_LOAD_ADDR",
    "VMX LoadMSRs %d: unable to set up MSR %x": "VM_ENTRY_MSR_LOAD_ADDR",
    # The instructions themselves: no field
    "VMFAIL: VMLAUNCH with non-clear VMCS!": "",
    "VMFAIL: VMRESUME with non-launched VMCS!": "",
}

# Not on every model of the suite.
ONLY_ON = {
    "VMFAIL: VMENTRY injected event vector %d broken error code": WITHOUT_CET,
    "VMFAIL: VMENTRY bad MTF injection with vector=%d": NEWER,
    "VMFAIL: VMCS EXEC CTRL: PML is enabled without EPT": NEWER,
    "VMFAIL: VMCS EXEC CTRL: PML base phy addr malformed": NEWER,
    "VMFAIL: VMCS EXEC CTRL: SPP is enabled without EPT": NEWER,
    "VMFAIL: VMCS EXEC CTRL: SPP base phy addr malformed": NEWER,
    "VMFAIL: VMCS EXEC CTRL: TSC multiplier should be non zero": NEWER,
    **{message: WITH_CET for message, fields in FIELDS.items() if "_S_CET" in fields or "SSP" in fields or "CET=1" in message},
}

# Message: why no entry of this suite can bring it about.
OTHER_INSTRUCTION = "another instruction's, not that of a VM entry"
HOST_32_BIT = "only for a host outside long mode, and the kernel is a 64-bit one"
IN_SMM = "only in system-management mode"
UNREACHABLE = {
    "VMFAIL: VMCS x86-64 guest(%d)/host(%d) controls invalid on VMENTRY": HOST_32_BIT,
    "VMFAIL: VMCS host SS selector 0": "only with a 32-bit host, whose control fails before",
    "VMFAIL: VMCS host RIP > 32 bit": "only with a 32-bit host, whose control fails before",
    "VMFAIL: VMCS host CR4.PCIDE set": "only with a 32-bit host, whose control fails before",
    "VMFAIL: VMCS link pointer equal to VMXON pointer": IN_SMM,
    "VMENTER: Guest State PDPTRs Checks Failed": "only without EPT, without which no vCPU runs here",
    "VMFAIL: VMLAUNCH with invalid VMCS ptr !": "a vCPU that is loaded has a current VMCS",
    "VMFAIL: VMLAUNCH with interrupts blocked by MOV_SS !": "the module has no MOV SS right before VMLAUNCH",
    "VMFAIL: VMCALL with invalid VMCS ptr": OTHER_INSTRUCTION,
    "VMFAIL: VMCALL with launched VMCS": OTHER_INSTRUCTION,
    "VMFAIL: invalid or not page aligned physical address !": OTHER_INSTRUCTION,
    "VMFAIL: VMPTRLD with VMXON ptr !": OTHER_INSTRUCTION,
    "VMFAIL: VMREAD with invalid VMCS ptr !": OTHER_INSTRUCTION,
    "VMFAIL: VMWRITE with invalid VMCS ptr !": OTHER_INSTRUCTION,
    "VMFAIL: VMCLEAR with invalid physical address!": OTHER_INSTRUCTION,
    "VMFAIL: VMLEAR with VMXON ptr !": OTHER_INSTRUCTION,
}
