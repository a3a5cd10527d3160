// SPDX-License-Identifier: GPL-2.0-only
/* The core's messages on their way to dmesg. */
#define pr_fmt(fmt) "minivmx: " fmt

#include <linux/printk.h>
#include <linux/ratelimit.h>

#include <minivmx/host.h>

void host_log(enum host_log_level level, const char *line)
{
	switch (level) {
	case HOST_LOG_ERROR:
		pr_err("%s\n", line);
		break;
	case HOST_LOG_WARNING:
		pr_warn("%s\n", line);
		break;
	case HOST_LOG_INFO:
		pr_info("%s\n", line);
		break;
	}
}

bool host_log_allowed(void)
{
	static DEFINE_RATELIMIT_STATE(limit, DEFAULT_RATELIMIT_INTERVAL, DEFAULT_RATELIMIT_BURST);

	return __ratelimit(&limit);
}
