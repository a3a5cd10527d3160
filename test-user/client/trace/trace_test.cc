// SPDX-License-Identifier: GPL-2.0-only
#include "trace_test.hpp"

#include <sys/stat.h>

std::string read_file(const std::string &path)
{
    Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) {
        test::fail(__FILE__, __LINE__, "open %s: %s", path.c_str(), test::errno_name(errno));
        test::leave();
    }
    std::string text;
    char buffer[4096];
    ssize_t n;
    while ((n = read(fd.get(), buffer, sizeof(buffer))) > 0)
        text.append(buffer, static_cast<size_t>(n));
    if (n < 0) {
        test::fail(__FILE__, __LINE__, "read %s: %s", path.c_str(), test::errno_name(errno));
        test::leave();
    }
    return text;
}

int write_file(const std::string &path, const std::string &text)
{
    Fd fd(open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
    if (fd.get() < 0)
        return errno;
    return write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0
                                                                                          : errno;
}

bool exists(const std::string &path)
{
    struct stat s;
    return stat(path.c_str(), &s) == 0;
}

std::string about_us(const std::string &rest)
{
    return DEBUGFS "/" + std::to_string(getpid()) + (rest.empty() ? "" : "/" + rest);
}

namespace {

// Calls `take` with each line.
template <class Take>
void for_each_line(const std::string &text, Take take)
{
    for (size_t at = 0; at < text.size();) {
        size_t end = text.find('\n', at);
        if (end == std::string::npos)
            end = text.size();
        take(text.substr(at, end - at));
        at = end + 1;
    }
}

void set_event(const std::string &name, const char *value)
{
    REQUIRE_EQ(write_file(EVENTS "/" + name + "/enable", value), 0);
}

// "     comm-47   [000] d..1.    19.403618: exit: 47/0/0 CPUID ...": the event's name begins behind
// the first ": " and its text behind our names.
bool parse_event(const std::string &line, Event &event)
{
    const std::string ours = ": " + std::to_string(getpid()) + "/";
    const size_t time_end = line.find(": ");
    const size_t name_end = line.find(ours);
    if (line.empty() || line[0] == '#' || name_end == std::string::npos || time_end >= name_end)
        return false;
    event.name = line.substr(time_end + 2, name_end - time_end - 2);
    const size_t text = line.find(' ', name_end + 2);
    event.text = text == std::string::npos ? "" : line.substr(text + 1);
    while (!event.text.empty() && event.text.back() == ' ')
        event.text.pop_back();
    return true;
}

} // namespace

Counters counters(const std::string &rest)
{
    Counters result;
    for_each_line(read_file(about_us(rest)), [&](const std::string &line) {
        const size_t space = line.find(' ');
        REQUIRE(space != std::string::npos);
        result[line.substr(0, space)] = strtoull(line.c_str() + space, nullptr, 10);
    });
    return result;
}

Listener::Listener(std::vector<std::string> names) : names_(names)
{
    if (!exists(EVENTS))
        test::skip("this kernel has no tracepoints");
    REQUIRE_EQ(write_file(TRACING "/trace", ""), 0);
    for (const std::string &name : names_)
        set_event(name, "1");
}

Listener::~Listener()
{
    for (const std::string &name : names_)
        set_event(name, "0");
}

std::vector<Event> Listener::events()
{
    std::vector<Event> events;
    for_each_line(read_file(TRACING "/trace"), [&](const std::string &line) {
        Event event;
        if (parse_event(line, event))
            events.push_back(event);
    });
    REQUIRE_EQ(write_file(TRACING "/trace", ""), 0);
    return events;
}

std::vector<std::string> texts(const std::vector<Event> &events, const std::string &name)
{
    std::vector<std::string> result;
    for (const Event &event : events)
        if (event.name == name && !event.is("EXTERNAL_INTERRUPT") &&
            !event.is("PREEMPTION_TIMER") && !event.is("EPT_VIOLATION"))
            result.push_back(event.text);
    return result;
}

void expect_texts(int line, const std::vector<std::string> &got,
                  const std::vector<std::string> &expected)
{
    for (size_t i = 0; i < got.size() || i < expected.size(); i++) {
        const char *a = i < got.size() ? got[i].c_str() : "(nothing)";
        const char *b = i < expected.size() ? expected[i].c_str() : "(nothing)";
        if (strcmp(a, b) != 0)
            test::fail(__FILE__, line, "line %zu (expected '%s', got '%s')", i, b, a);
    }
}
