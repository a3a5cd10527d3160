// SPDX-License-Identifier: GPL-2.0-only
//
// A small test harness for the clients that run inside the emulated machine.
//
// Every test runs in a forked child, so a test that crashes, or a KVM_RUN that never returns, costs
// that one test and its own seconds; the parent prints the verdict. One line a test:
//   ok - client.name          (and what test::note() says of it)
//   not ok - client.name: file:line: what (expected ..., got ...)
//   skip - client.name: why
// The exit status is 0 only if no test failed and at least one ran.
#pragma once

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <type_traits>
#include <vector>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace test {

// The verdict of one test, in memory that parent and child share.
struct Verdict {
    enum State : int { kPassed, kFailed, kSkipped } state;
    char why[1024];
};

struct Case {
    const char *name;
    void (*body)();
    unsigned seconds;
    Case *next;

    static inline Case *first = nullptr;
    static inline Case **last = &first;

    Case(const char *n, void (*b)(), unsigned s) : name(n), body(b), seconds(s), next(nullptr)
    {
        *last = this;
        last = &next;
    }
};

struct Options {
    std::string device = "/dev/minivmx";
    std::vector<std::string> filters; // run only the tests whose name contains one of them
    std::vector<std::string> args;    // what the harness does not know
    bool list = false;
    bool fork = true;
    unsigned slow = 1; // multiplies every test's time limit
    // True when the device is KVM's own: the reference the expectations were measured on.
    bool reference() const { return device == "/dev/kvm"; }
};

inline Options options;
inline Verdict *verdict;
inline const char *client = "client";

// Notes a failure; the first one of a test is the one reported.
[[gnu::format(printf, 3, 4)]] inline void fail(const char *file, int line, const char *format, ...)
{
    if (verdict->state == Verdict::kFailed)
        return;
    verdict->state = Verdict::kFailed;
    const char *base = strrchr(file, '/');
    int used =
        snprintf(verdict->why, sizeof(verdict->why), "%s:%d: ", base ? base + 1 : file, line);
    va_list list;
    va_start(list, format);
    vsnprintf(verdict->why + used, sizeof(verdict->why) - used, format, list);
    va_end(list);
}

[[noreturn]] inline void leave()
{
    fflush(stdout);
    _exit(0);
}

[[gnu::format(printf, 1, 2)]] inline void skip(const char *format, ...)
{
    if (verdict->state == Verdict::kPassed) {
        verdict->state = Verdict::kSkipped;
        va_list list;
        va_start(list, format);
        vsnprintf(verdict->why, sizeof(verdict->why), format, list);
        va_end(list);
    }
    leave();
}

// What a test that passes has to say: how much it did.
[[gnu::format(printf, 1, 2)]] inline void note(const char *format, ...)
{
    if (verdict->state == Verdict::kPassed) {
        va_list list;
        va_start(list, format);
        vsnprintf(verdict->why, sizeof(verdict->why), format, list);
        va_end(list);
    }
}

template <class T>
long long as_number(T value)
{
    if constexpr (std::is_pointer_v<T>)
        return static_cast<long long>(reinterpret_cast<intptr_t>(value));
    else
        return static_cast<long long>(value);
}

template <class A, class B>
bool check_eq(const char *file, int line, const char *what, A got, B expected)
{
    if (as_number(got) == as_number(expected))
        return true;
    fail(file, line, "%s (expected %lld = 0x%llx, got %lld = 0x%llx)", what, as_number(expected),
         as_number(expected), as_number(got), as_number(got));
    return false;
}

inline const char *errno_name(int number)
{
    return number == 0 ? "success" : strerrorname_np(number) ? strerrorname_np(number) : "?";
}

// `result` is what a system call returned; on -1 errno still holds its reason.
inline bool check_errno(const char *file, int line, const char *what, long result, int expected)
{
    int got = result == -1 ? errno : 0;
    if (got == expected)
        return true;
    fail(file, line, "%s (expected %s, got %s)", what, errno_name(expected), errno_name(got));
    return false;
}

inline void run_body(const Case &c)
{
    c.body();
}

// Whether it becomes so within a minute of the machine's time: a bound for hangs, not a measure. It
// looks seldom, since on a slow machine with one CPU each look takes from the guest's time.
template <class Condition>
bool soon(Condition condition)
{
    for (int look = 0; look < 3000; look++) {
        if (condition())
            return true;
        usleep(20'000);
    }
    return condition();
}

// Runs one test in a child of its own, with a limit in seconds of the machine's clock.
inline void run_forked(const Case &c)
{
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0);
        run_body(c);
        leave();
    }
    setpgid(child, child);
    timespec tick = {0, 2'000'000};
    time_t limit = time(nullptr) + static_cast<time_t>(c.seconds) * options.slow;
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (time(nullptr) > limit) {
            fail(c.name, 0, "no end after %u s", c.seconds * options.slow);
            kill(-child, SIGKILL);
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return;
        }
        nanosleep(&tick, nullptr);
        tick.tv_nsec = tick.tv_nsec < 20'000'000 ? tick.tv_nsec * 2 : tick.tv_nsec;
    }
    if (WIFSIGNALED(status))
        fail(c.name, 0, "died of signal %d (%s)", WTERMSIG(status), sigdescr_np(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0)
        fail(c.name, 0, "exit status %d", WEXITSTATUS(status));
    kill(-child, SIGKILL); // whatever the test left running
}

inline bool wanted(const Case &c)
{
    if (options.filters.empty())
        return true;
    for (const std::string &filter : options.filters)
        if (strstr(c.name, filter.c_str()))
            return true;
    return false;
}

inline void parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        std::string arg = argv[i];
        if (arg == "--device" && i + 1 < argc)
            options.device = argv[++i];
        else if (arg == "--slow" && i + 1 < argc)
            options.slow = static_cast<unsigned>(atoi(argv[++i]));
        else if (arg == "--list")
            options.list = true;
        else if (arg == "--no-fork")
            options.fork = false;
        else if (arg == "--") {
            while (++i < argc)
                options.args.push_back(argv[i]);
        } else if (arg.starts_with("-")) {
            fprintf(stderr,
                    "%s: unknown option %s\n"
                    "usage: %s [--device NODE] [--list] [--slow N] [--no-fork] [NAME-PART ...]\n",
                    argv[0], arg.c_str(), argv[0]);
            exit(2);
        } else
            options.filters.push_back(arg);
    }
}

inline int run_all(int argc, char **argv, const char *client_name)
{
    client = client_name;
    parse(argc, argv);
    verdict = static_cast<Verdict *>(
        mmap(nullptr, sizeof(Verdict), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    unsigned failed = 0, ran = 0;
    for (Case *c = Case::first; c; c = c->next) {
        if (!wanted(*c))
            continue;
        if (options.list) {
            printf("%s.%s\n", client, c->name);
            continue;
        }
        ran++;
        memset(verdict, 0, sizeof(*verdict));
        fflush(stdout);
        if (options.fork)
            run_forked(*c);
        else
            run_body(*c);
        if (verdict->state == Verdict::kPassed)
            printf("ok - %s.%s%s%s\n", client, c->name, verdict->why[0] ? ": " : "", verdict->why);
        else if (verdict->state == Verdict::kSkipped)
            printf("skip - %s.%s: %s\n", client, c->name, verdict->why);
        else {
            failed++;
            printf("not ok - %s.%s: %s\n", client, c->name, verdict->why);
        }
        fflush(stdout);
    }
    if (options.list)
        return 0;
    if (ran == 0)
        printf("not ok - %s: no test of that name\n", client);
    return failed || ran == 0;
}

} // namespace test

#define TEST_LIMIT(name, seconds)                                                                  \
    static void test_body_##name();                                                                \
    static test::Case test_case_##name(#name, test_body_##name, seconds);                          \
    static void test_body_##name()
#define TEST(name) TEST_LIMIT(name, 20)

// EXPECT_* note a failure and go on; REQUIRE_* end the test.
#define EXPECT_EQ(got, expected) test::check_eq(__FILE__, __LINE__, #got, got, expected)
#define EXPECT(condition)                                                                          \
    ((condition) ? true : (test::fail(__FILE__, __LINE__, "not so: %s", #condition), false))
#define EXPECT_ERRNO(call, expected)                                                               \
    test::check_errno(__FILE__, __LINE__, #call, static_cast<long>(call), expected)
#define REQUIRE_EQ(got, expected)                                                                  \
    do {                                                                                           \
        if (!EXPECT_EQ(got, expected))                                                             \
            test::leave();                                                                         \
    } while (0)
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!EXPECT(condition))                                                                    \
            test::leave();                                                                         \
    } while (0)
#define REQUIRE_OK(call)                                                                           \
    do {                                                                                           \
        if ((call) == -1) {                                                                        \
            test::fail(__FILE__, __LINE__, "%s: %s", #call, test::errno_name(errno));              \
            test::leave();                                                                         \
        }                                                                                          \
    } while (0)
