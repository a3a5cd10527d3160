// SPDX-License-Identifier: GPL-2.0-only
// The 8259A pair. Section names are those of Intel's datasheet 231468-003.
#include <minivmx/host_guard.hpp>
#include <minivmx/pic.hpp>
#include <minivmx/vm.hpp>

namespace minivmx {

namespace {

constexpr u8 kCascadePin = 2;
constexpr u8 kCascade = 1 << kCascadePin; // the slave's INT is the master's IR2

// What others must hear of after the lock is released: bits of the 16 pins.
struct PicEffect {
    u32 acked;
    u32 unmasked;
};

// ---- Priorities --------------------------------------------------------------

// The highest priority in mask, counted from the one that rotation put first; 8: mask is empty.
u32 pic_priority(const kvm_pic_state &chip, u32 mask)
{
    if ((mask & 0xff) == 0)
        return 8;
    u32 priority = 0;
    while ((mask & 1u << ((priority + chip.priority_add) & 7)) == 0)
        priority++;
    return priority;
}

// The pin whose request goes to the CPU, or -1. "Fully Nested Mode": only above what is in service.
int pic_request(const Pic &pic, u32 n)
{
    const kvm_pic_state &chip = pic.chip[n];
    const u32 priority = pic_priority(chip, chip.irr & ~chip.imr);
    u32 in_service = chip.isr;
    // "Special Fully Nested Mode": the slave may interrupt its own service.
    if (chip.special_fully_nested_mode && n == 0)
        in_service &= ~u32{kCascade};
    // "Special Mask Mode": a masked level in service holds nobody up.
    if (chip.special_mask)
        in_service &= ~u32{chip.imr};
    if (priority >= pic_priority(chip, in_service))
        return -1;
    return static_cast<int>((priority + chip.priority_add) & 7);
}

// To be called whenever a request may have come or gone.
void pic_update(Pic &pic)
{
    kvm_pic_state &master = pic.chip[0];
    master.irr =
        static_cast<u8>(pic_request(pic, 1) >= 0 ? master.irr | kCascade : master.irr & ~kCascade);
    __atomic_store_n(&pic.output, pic_request(pic, 0) >= 0, __ATOMIC_RELEASE);
}

// ---- Lines and the acknowledge cycle -------------------------------------------

int pic_set_pin(kvm_pic_state &chip, u32 pin, bool level)
{
    const u8 bit = static_cast<u8>(1u << pin);
    const bool rises = level && (chip.last_irr & bit) == 0;
    const bool waits = chip.irr & bit;
    int result = 1;

    if (level && (rises || (chip.elcr & bit))) {
        result = !waits;
        chip.irr |= bit;
    } else if (!level && (chip.elcr & bit)) {
        chip.irr &= static_cast<u8>(~bit);
    }
    chip.last_irr = static_cast<u8>(level ? chip.last_irr | bit : chip.last_irr & ~bit);
    return chip.imr & bit ? -1 : result;
}

u32 pic_end_service(Pic &pic, u32 n, u32 pin)
{
    pic.chip[n].isr &= static_cast<u8>(~(1u << pin));
    return 1u << (8 * n + pin);
}

// "Interrupt Sequence": what the INTA pulses do to the chip. The pins it acknowledged for good.
u32 pic_take(Pic &pic, u32 n, u32 pin)
{
    kvm_pic_state &chip = pic.chip[n];
    const u8 bit = static_cast<u8>(1u << pin);
    if (!(chip.elcr & bit))
        chip.irr &= static_cast<u8>(~bit);
    chip.isr |= bit;
    if (!chip.auto_eoi)
        return 0;
    if (chip.rotate_on_auto_eoi)
        chip.priority_add = static_cast<u8>((pin + 1) & 7);
    return pic_end_service(pic, n, pin);
}

// The acknowledge cycle of both chips. A request that is gone by now is answered with IR7.
u8 pic_take_vector(Pic &pic, u32 &acked)
{
    constexpr u8 kSpurious = 7;
    const int pin = pic_request(pic, 0);
    if (pin < 0)
        return static_cast<u8>(pic.chip[0].irq_base + kSpurious);
    acked |= pic_take(pic, 0, static_cast<u32>(pin));
    if (pin != kCascadePin)
        return static_cast<u8>(pic.chip[0].irq_base + pin);
    const int slave_pin = pic_request(pic, 1);
    if (slave_pin < 0)
        return static_cast<u8>(pic.chip[1].irq_base + kSpurious);
    acked |= pic_take(pic, 1, static_cast<u32>(slave_pin));
    return static_cast<u8>(pic.chip[1].irq_base + slave_pin);
}

// ---- Command words --------------------------------------------------------------

// "Initialization Command Words 1 and 2".
u32 pic_icw1(Pic &pic, u32 n, u8 value)
{
    kvm_pic_state &chip = pic.chip[n];
    const u32 forgotten = (chip.irr & ~chip.elcr) | chip.isr;
    chip.init4 = value & 1;
    chip.last_irr = 0;
    chip.irr &= chip.elcr;
    chip.imr = 0;
    chip.isr = 0;
    chip.priority_add = 0;
    chip.special_mask = 0;
    chip.read_reg_select = 0;
    chip.poll = 0;
    if (!chip.init4) {
        chip.special_fully_nested_mode = 0;
        chip.auto_eoi = 0;
    }
    chip.init_state = 1;
    // Nobody will end them any more; who waits for an end must not wait forever.
    return forgotten << (8 * n);
}

// "Operation Command Word 3".
void pic_ocw3(kvm_pic_state &chip, u8 value)
{
    if (value & 0x04)
        chip.poll = 1;
    if (value & 0x02)
        chip.read_reg_select = value & 1;
    if (value & 0x40)
        chip.special_mask = value >> 5 & 1;
}

// "Operation Command Word 2": ends of interrupts, rotation.
u32 pic_ocw2(Pic &pic, u32 n, u8 value)
{
    enum {
        kRotateAutoClear,
        kEoi,
        kNothing,
        kSpecificEoi,
        kRotateAutoSet,
        kRotateEoi,
        kSetPriority,
        kRotateSpecificEoi
    };
    kvm_pic_state &chip = pic.chip[n];
    const u8 command = value >> 5;
    u32 pin = value & 7;

    switch (command) {
    case kRotateAutoClear:
    case kRotateAutoSet:
        chip.rotate_on_auto_eoi = command == kRotateAutoSet;
        return 0;
    case kSetPriority:
        chip.priority_add = static_cast<u8>((pin + 1) & 7);
        return 0;
    case kEoi:
    case kRotateEoi: {
        // In special mask mode a masked level is not the one meant.
        const u32 priority =
            pic_priority(chip, chip.special_mask ? chip.isr & ~chip.imr : chip.isr);
        if (priority == 8)
            return 0;
        pin = (priority + chip.priority_add) & 7;
        break;
    }
    case kSpecificEoi:
    case kRotateSpecificEoi:
        break;
    default:
        return 0;
    }
    if (command == kRotateEoi || command == kRotateSpecificEoi)
        chip.priority_add = static_cast<u8>((pin + 1) & 7);
    return pic_end_service(pic, n, pin);
}

// ICW2 to ICW4 while they are due, else OCW1: the mask. ICW3, the wiring, is a PC's anyway.
void pic_write_data(kvm_pic_state &chip, u8 value, u32 n, PicEffect &effect)
{
    switch (chip.init_state) {
    case 1:
        chip.irq_base = value & 0xf8;
        chip.init_state = 2;
        break;
    case 2:
        chip.init_state = chip.init4 ? 3 : 0;
        break;
    case 3:
        chip.special_fully_nested_mode = value >> 4 & 1;
        chip.auto_eoi = value >> 1 & 1;
        chip.init_state = 0;
        break;
    default:
        effect.unmasked = static_cast<u32>(chip.imr & ~value & 0xff) << (8 * n);
        chip.imr = value;
        break;
    }
}

void pic_write_command(Pic &pic, u32 n, u8 value, PicEffect &effect)
{
    if (value & 0x10)
        effect.acked = pic_icw1(pic, n, value);
    else if (value & 0x08)
        pic_ocw3(pic.chip[n], value);
    else
        effect.acked = pic_ocw2(pic, n, value);
}

// "Poll Command": a read that acknowledges.
u8 pic_poll(Pic &pic, u32 n, PicEffect &effect)
{
    const int pin = pic_request(pic, n);
    pic.chip[n].poll = 0;
    if (pin < 0)
        return 0;
    effect.acked = pic_take(pic, n, static_cast<u32>(pin));
    return static_cast<u8>(0x80 | pin);
}

u8 pic_read(Pic &pic, u16 port, PicEffect &effect)
{
    const u32 n = port >> 7 & 1;
    kvm_pic_state &chip = pic.chip[n];
    if (port >> 4 == 0x4d)
        return pic.chip[port & 1].elcr;
    if (chip.poll)
        return pic_poll(pic, n, effect);
    if (port & 1)
        return chip.imr;
    return chip.read_reg_select ? chip.isr : chip.irr;
}

void pic_write(Pic &pic, u16 port, u8 value, PicEffect &effect)
{
    const u32 n = port >> 7 & 1;
    if (port >> 4 == 0x4d)
        pic.chip[port & 1].elcr = value & pic.chip[port & 1].elcr_mask;
    else if (port & 1)
        pic_write_data(pic.chip[n], value, n, effect);
    else
        pic_write_command(pic, n, value, effect);
}

// ---- With the lock, and what follows when it is released ------------------------

void pic_tell(kvm_vm &kvm, u32 pins, void (*tell)(kvm_vm &, u32, u32))
{
    for (; pins != 0; pins &= pins - 1) {
        const u32 pin = lowest_bit(pins);
        tell(kvm, pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, pin);
    }
}

// Changes the chips and looks what that means for the CPU. Whoever waits for an acknowledged pin
// hears of it before that look: it may take its level-triggered line down, and then there is no
// second request.
template <class Change>
void pic_change(kvm_vm &kvm, Change change)
{
    Pic &pic = *kvm.pic;
    PicEffect effect{};
    bool before;
    {
        HostLockGuard guard{pic.lock};
        before = pic.output;
        change(pic, effect);
        if (effect.acked == 0)
            pic_update(pic);
    }
    if (effect.acked != 0) {
        pic_tell(kvm, effect.acked, irq_acked);
        HostLockGuard guard{pic.lock};
        pic_update(pic);
    }
    pic_tell(kvm, effect.unmasked, irq_unmasked);
    if (!before && __atomic_load_n(&pic.output, __ATOMIC_ACQUIRE))
        pic_output_changed(kvm);
}

} // namespace

int pic_set_line(kvm_vm &kvm, u32 pin, IrqSource source, bool level)
{
    int result = -1;
    pic_change(kvm, [&](Pic &pic, PicEffect &) {
        const bool up = assert_line(pic.sources[pin], source, level);
        result = pic_set_pin(pic.chip[pin >> 3], pin & 7, up);
    });
    return result;
}

bool pic_output(const kvm_vm &kvm)
{
    const Pic *pic = kvm.pic;
    return pic && __atomic_load_n(&pic->output, __ATOMIC_ACQUIRE);
}

u8 pic_acknowledge(kvm_vm &kvm)
{
    u8 vector = 0;
    pic_change(kvm,
               [&](Pic &pic, PicEffect &effect) { vector = pic_take_vector(pic, effect.acked); });
    return vector;
}

bool pic_port(kvm_vm &kvm, u16 port, bool write, void *data, u32 size)
{
    u8 &byte = *static_cast<u8 *>(data);
    switch (port) {
    case 0x20:
    case 0xa0:
    case 0x4d0:
        if (size > 2)
            return false;
        break;
    case 0x21:
    case 0xa1:
    case 0x4d1:
        if (size > 1)
            return false;
        break;
    default:
        return false;
    }
    if (size != 1) { // the chips have 8 data lines; KVM ignores a word
        if (!write)
            __builtin_memset(data, 0, size);
        return true;
    }
    pic_change(kvm, [&](Pic &pic, PicEffect &effect) {
        if (write)
            pic_write(pic, port, byte, effect);
        else
            byte = pic_read(pic, port, effect);
    });
    return true;
}

void pic_get_state(kvm_vm &kvm, u32 n, kvm_pic_state &state)
{
    HostLockGuard guard{kvm.pic->lock};
    state = kvm.pic->chip[n];
}

void pic_set_state(kvm_vm &kvm, u32 n, const kvm_pic_state &state)
{
    pic_change(kvm, [&](Pic &pic, PicEffect &) { pic.chip[n] = state; });
}

int pic_create(kvm_vm &kvm)
{
    Pic *pic = static_cast<Pic *>(host_zalloc(sizeof(Pic)));
    if (!pic)
        return -ENOMEM;
    pic->lock = host_lock_create();
    if (!pic->lock) {
        host_free(pic);
        return -ENOMEM;
    }
    // IRQs 0, 1, 2, 8 and 13 are always edge triggered.
    pic->chip[0].elcr_mask = 0xf8;
    pic->chip[1].elcr_mask = 0xde;
    kvm.pic = pic;
    return 0;
}

void pic_destroy(kvm_vm &kvm)
{
    if (!kvm.pic)
        return;
    host_lock_destroy(kvm.pic->lock);
    host_free(kvm.pic);
    kvm.pic = nullptr;
}

} // namespace minivmx
