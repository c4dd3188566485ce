// SPDX-License-Identifier: MIT
/*
 * The log: one line per event, on stderr
 *
 * The charter of the levels, so that a reader can filter by them:
 *
 *   error    pyheapd cannot do what it is there for, and ends; or a part of the heap is lost. An operator has to act.
 *   warning  a connection was ended or refused, or a session holds all others up. pyheapd goes on.
 *   notice   pyheapd itself: ready, adopted, ending. A handful in its lifetime.
 *   info     what happens to the heap now and then.
 *   debug    sessions that come, go and are reclaimed: not seen unless --log-level debug asks for them.
 *
 * There is no line per request. A line says what failed, on what, and what to do about it where anything can be done.
 *
 * The log waits for nobody. stderr may be a pipe that nobody reads: it is opened once more without blocking, as other
 * processes may share its open file description. A line that does not fit is left out, and counted.
 *
 * The log does not flood. Each level has an allowance of lines, which grows by some each second; what is beyond it is
 * left out, and counted. debug has none: who asks for it wants all of it. The count is said as soon as there is room.
 *
 * Under systemd stderr is a stream of the journal (JOURNAL_STREAM names its device and inode): lines then start with
 * their syslog priority in angle brackets, which the journal removes. Anywhere else they start with the time in UTC and
 * "pyheapd: ".
 */
#include "daemon/log.h"

#include "daemon/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINES_AT_ONCE    100 /* of one level */
#define LINES_PER_SECOND 5

static const char *const level_names[] = {
	[LOG_ERR] = "error",
	[LOG_WARNING] = "warning",
	[LOG_NOTICE] = "notice",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};

/* used - what a second gives back for each that has passed = how far the level is from its allowance's end. */
struct allowance {
	int64_t n_used;     /* in thousandths of a line */
	int64_t since_ms;   /* n_used was brought up to date then */
	uint64_t n_omitted; /* lines that were beyond it, and not yet reported */
};

static bool to_journal, is_socket;
static int log_fd = STDERR_FILENO;
static int level = LOG_INFO;
static struct allowance allowances[LOG_DEBUG + 1];
static uint64_t n_unwritten; /* lines that stderr had no room for, and not yet reported */

/* A description of our own that does not block, where stderr is of a kind that could. */
static void open_unblocked(const struct stat *st)
{
	int fd;

	is_socket = S_ISSOCK(st->st_mode);
	if (!S_ISFIFO(st->st_mode) && !S_ISCHR(st->st_mode))
		return;
	fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd >= 0)
		log_fd = fd;
}

void log_init(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;

	if (fstat(STDERR_FILENO, &st) < 0)
		return;
	to_journal = stream && sscanf(stream, "%ju:%ju", &device, &inode) == 2 && (uintmax_t)st.st_dev == device &&
		     (uintmax_t)st.st_ino == inode;
	open_unblocked(&st);
}

void log_set_level(int priority)
{
	level = priority;
}

int log_parse_level(const char *s, int *ret)
{
	for (int i = LOG_ERR; i <= LOG_DEBUG; i++)
		if (strcmp(s, level_names[i]) == 0) {
			*ret = i;
			return 0;
		}
	return -EINVAL;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

/* False: there is no room for the line, or nobody will ever read it. */
static bool put(const char *line, size_t n)
{
	struct pollfd pollfd = {.fd = log_fd, .events = POLLOUT};

	if (is_socket)
		return send(log_fd, line, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
	/* It is asked first for the case that there is no description of our own. */
	return poll(&pollfd, 1, 0) == 1 && (pollfd.revents & POLLOUT) && write(log_fd, line, n) == (ssize_t)n;
}

static int put_prefix(char *line, size_t size, int priority)
{
	struct timespec now;
	struct tm tm;
	int n;

	if (to_journal)
		return snprintf(line, size, "<%d>", priority);
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = (int)strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + snprintf(line + n, size - (size_t)n, ".%03ldZ pyheapd: ", now.tv_nsec / 1000000);
}

/* One write per line, so that lines of several processes on one stderr do not mix. */
static bool put_line(int priority, const char *format, va_list arguments)
{
	char line[1024];
	int n_prefix = put_prefix(line, sizeof(line), priority), n;

	n = n_prefix + vsnprintf(line + n_prefix, sizeof(line) - 1 - (size_t)n_prefix, format, arguments);
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	for (int i = n_prefix; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	return put(line, (size_t)n);
}

__attribute__((format(printf, 2, 3))) static bool put_words(int priority, const char *format, ...)
{
	va_list arguments;
	bool is_put;

	va_start(arguments, format);
	is_put = put_line(priority, format, arguments);
	va_end(arguments);
	return is_put;
}

/* ---- what is left out ------------------------------------------------------------------------------------------ */

static void refill(struct allowance *a)
{
	int64_t now = now_ms();

	a->n_used -= (now - a->since_ms) * LINES_PER_SECOND;
	if (a->n_used < 0)
		a->n_used = 0;
	a->since_ms = now;
}

static bool allows(int priority)
{
	return priority == LOG_DEBUG || allowances[priority].n_used + 1000 <= INT64_C(1000) * LINES_AT_ONCE;
}

/* A level whose lines were left out waits until a quarter of its allowance is free, so that not each line is followed
 * by a count. */
static bool is_recovered(int priority)
{
	return allowances[priority].n_used <= INT64_C(750) * LINES_AT_ONCE;
}

bool log_catch_up(void)
{
	bool owes = false;

	if (n_unwritten &&
		put_words(LOG_WARNING, "%" PRIu64 " lines were left out here: stderr was not read", n_unwritten))
		n_unwritten = 0;
	for (int i = LOG_ERR; i <= LOG_INFO; i++) {
		struct allowance *a = &allowances[i];

		refill(a);
		if (a->n_omitted && is_recovered(i) &&
			put_words(i, "%" PRIu64 " lines of level %s were left out here: there were too many",
				a->n_omitted, level_names[i]))
			a->n_omitted = 0;
		owes = owes || a->n_omitted;
	}
	return owes || n_unwritten;
}

static void log_line(int priority, const char *format, va_list arguments)
{
	struct allowance *a = &allowances[priority];

	if (priority > level)
		return;
	log_catch_up();
	if (!allows(priority) || (a->n_omitted && !is_recovered(priority))) {
		a->n_omitted++;
		return;
	}
	a->n_used += 1000;
	if (n_unwritten || !put_line(priority, format, arguments))
		n_unwritten++;
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
LOG_FUNCTION(log_debug, LOG_DEBUG)

const char *log_size(uint64_t bytes)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	static char texts[4][32];
	static unsigned int n_texts;
	char *text = texts[n_texts++ % 4];
	unsigned int unit = 0;

	while (unit < 6 && bytes >> (10 * (unit + 1)))
		unit++;
	if (bytes & ((UINT64_C(1) << (10 * unit)) - 1))
		snprintf(text, sizeof(texts[0]), "%.1f %s", (double)bytes / (double)(UINT64_C(1) << (10 * unit)),
			units[unit]);
	else
		snprintf(text, sizeof(texts[0]), "%" PRIu64 " %s", bytes >> (10 * unit), units[unit]);
	return text;
}
