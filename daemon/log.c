// SPDX-License-Identifier: MIT
/*
 * The log: one line per event, on stderr
 *
 * The charter of the levels, so that a reader can filter by them:
 *
 *   error    pyheapd cannot do what it is there for, and ends; or a part of the heap is lost. An operator has to act.
 *   warning  a connection was ended or refused, or a session holds all others up. pyheapd goes on.
 *   notice   pyheapd itself: ready, adopted, ending. A handful in its lifetime.
 *   info     sessions that come, go and are reclaimed.
 *
 * There is no line per request. A line says what failed, on what, and what to do about it where anything can be done.
 *
 * Under systemd stderr is a stream of the journal (JOURNAL_STREAM names its device and inode): lines then start with
 * their syslog priority in angle brackets, which the journal removes. Anywhere else they start with "pyheapd: ".
 */
#include "daemon/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

static bool to_journal;

void log_init(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;

	to_journal = stream && sscanf(stream, "%ju:%ju", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
		     (uintmax_t)st.st_dev == device && (uintmax_t)st.st_ino == inode;
}

/* One write per line, so that lines of several processes on one stderr do not mix. */
static void log_line(int priority, const char *format, va_list arguments)
{
	char line[1024];
	int n, n_prefix;

	n_prefix =
		to_journal ? snprintf(line, sizeof(line), "<%d>", priority) : snprintf(line, sizeof(line), "pyheapd: ");
	n = n_prefix + vsnprintf(line + n_prefix, sizeof(line) - 1 - (size_t)n_prefix, format, arguments);
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	for (int i = n_prefix; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* there is nowhere left to log it */
}

#define LOG_FUNCTION(name, priority)                                                                                   \
	void name(const char *format, ...)                                                                             \
	{                                                                                                              \
		va_list arguments;                                                                                     \
                                                                                                                       \
		va_start(arguments, format);                                                                           \
		log_line(priority, format, arguments);                                                                 \
		va_end(arguments);                                                                                     \
	}

LOG_FUNCTION(log_error, LOG_ERR)
LOG_FUNCTION(log_warning, LOG_WARNING)
LOG_FUNCTION(log_notice, LOG_NOTICE)
LOG_FUNCTION(log_info, LOG_INFO)
