// SPDX-License-Identifier: GPL-2.0-only
//
// Text in a buffer of fixed size: lines for dmesg and sentences for errors, built without a heap,
// printf or locale. What does not fit is cut, and the cut is shown by "..." at the end; the buffer
// is a NUL-terminated string at every moment.
#pragma once

#include "types.hpp"

namespace minivmx {

/// A number to be written as 0x..., with at least `digits` digits.
struct Hex {
    u64 value;
    unsigned digits;
};

constexpr Hex hex(u64 value, unsigned digits = 1)
{
    return Hex{value, digits};
}

/// The same without the 0x.
struct BareHex {
    u64 value;
    unsigned digits;
};

constexpr BareHex bare_hex(u64 value, unsigned digits = 1)
{
    return BareHex{value, digits};
}

/// A string to be filled up with spaces on the right to `width` characters.
struct Padded {
    const char *text;
    unsigned width;
};

constexpr Padded padded(const char *text, unsigned width)
{
    return Padded{text, width};
}

constexpr usize text_length(const char *s)
{
    usize n = 0;
    while (s[n] != '\0')
        n++;
    return n;
}

constexpr bool text_equal(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

/// Keeps the bodies that every put() needs out of line: texts are for people, who are slower than
/// any call, and inlined they made up most of the module's code.
#define MINIVMX_OUT_OF_LINE [[gnu::noinline]]

/// Appends to a buffer that somebody else owns. `capacity` counts the terminating NUL and must
/// be at least 4, so that the mark of a cut text fits.
class TextBuilder {
  public:
    TextBuilder(char *buffer, usize capacity) : buffer_(buffer), capacity_(capacity) { clear(); }
    TextBuilder(const TextBuilder &) = delete;
    TextBuilder &operator=(const TextBuilder &) = delete;

    void clear()
    {
        length_ = 0;
        truncated_ = false;
        buffer_[0] = '\0';
    }

    /// Appends all arguments: strings, characters, integers (decimal), hex(...), padded(...),
    /// other texts. Returns itself.
    template <typename... Args>
    TextBuilder &put(const Args &...args)
    {
        (put_one(args), ...);
        return *this;
    }

    /// Fills with spaces until the text is `column` characters long; at least one space if the
    /// text is already longer.
    MINIVMX_OUT_OF_LINE void pad_to(usize column)
    {
        put_char(' ');
        while (length_ < column && !truncated_)
            put_char(' ');
    }

    const char *c_str() const { return buffer_; }
    usize length() const { return length_; }
    bool empty() const { return length_ == 0; }
    /// True once something did not fit; the text then ends in "...".
    bool truncated() const { return truncated_; }

  private:
    void put_char(char c)
    {
        if (truncated_)
            return;
        if (length_ + 1 >= capacity_) {
            mark_truncated();
            return;
        }
        buffer_[length_++] = c;
        buffer_[length_] = '\0';
    }

    void mark_truncated()
    {
        truncated_ = true;
        length_ = capacity_ - 1;
        for (usize i = 1; i <= 3; i++)
            buffer_[length_ - i] = '.';
        buffer_[length_] = '\0';
    }

    MINIVMX_OUT_OF_LINE void put_string(const char *s)
    {
        for (; *s != '\0' && !truncated_; s++)
            put_char(*s);
    }

    MINIVMX_OUT_OF_LINE void put_digits(u64 value, unsigned base, unsigned min_digits)
    {
        char digits[20];
        unsigned n = 0;
        do {
            digits[n++] = "0123456789abcdef"[value % base];
            value /= base;
        } while (value != 0);
        for (unsigned i = n; i < min_digits; i++)
            put_char('0');
        while (n > 0)
            put_char(digits[--n]);
    }

    void put_one(char c) { put_char(c); }
    void put_one(const char *s) { put_string(s != nullptr ? s : "(none)"); }
    void put_one(const TextBuilder &other) { put_string(other.c_str()); }
    void put_one(const Hex &h)
    {
        put_string("0x");
        put_digits(h.value, 16, h.digits);
    }
    void put_one(const BareHex &h) { put_digits(h.value, 16, h.digits); }
    void put_one(const Padded &p)
    {
        const usize until = length_ + p.width;
        put_string(p.text);
        while (length_ < until && !truncated_)
            put_char(' ');
    }
    void put_one(u8 v) { put_digits(v, 10, 1); }
    void put_one(u16 v) { put_digits(v, 10, 1); }
    void put_one(u32 v) { put_digits(v, 10, 1); }
    void put_one(u64 v) { put_digits(v, 10, 1); }
    void put_one(unsigned long long v) { put_digits(v, 10, 1); }
    void put_one(int v) { put_one(static_cast<s64>(v)); }
    void put_one(s64 v)
    {
        if (v < 0)
            put_char('-');
        put_digits(v < 0 ? ~static_cast<u64>(v) + 1 : static_cast<u64>(v), 10, 1);
    }
    void put_one(bool) = delete; // "Y" or "yes"? The caller says.

    char *buffer_;
    usize capacity_;
    usize length_ = 0;
    bool truncated_ = false;
};

#undef MINIVMX_OUT_OF_LINE

/// A TextBuilder together with its buffer of N bytes.
template <usize N>
class Text : public TextBuilder {
    static_assert(N >= 4);

  public:
    // cppcheck-suppress uninitMemberVar ; the builder keeps what is in it terminated
    Text() : TextBuilder(storage_, N) {}

  private:
    char storage_[N];
};

/// One sentence for a person: an error, a warning.
using Sentence = Text<400>;

/// One line of the kernel log.
using Line = Text<160>;

/// Where lines go: dmesg in the kernel, standard output or a test's buffer in userspace.
/// The line is valid only during the call. Without a function lines are dropped.
struct LineSink {
    void (*write)(void *context, const char *line) = nullptr;
    void *context = nullptr;

    void operator()(const char *line) const
    {
        if (write != nullptr)
            write(context, line);
    }
    void operator()(const TextBuilder &line) const { (*this)(line.c_str()); }
};

} // namespace minivmx
