// SPDX-License-Identifier: MIT
/*
 * The command line
 *
 * What is wrong on any machine is a usage error, and found here. What depends on the machine (is there room in
 * /dev/shm, does the socket's folder exist) is found where it is used.
 */
#include "daemon/options.h"

#include "daemon/log.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static const char help[] = "Usage: pyheapd [OPTION]...\n"
			   "Serve a shared heap of reference-counted objects to the processes of this machine.\n"
			   "\n"
			   "  --socket PATH       listen at PATH (default: /run/pyheap/pyheap.sock for root,\n"
			   "                      $XDG_RUNTIME_DIR/pyheap.sock otherwise; a socket that\n"
			   "                      systemd passes is used instead)\n"
			   "  --name NAME         of the heap, 1 to 48 of A-Z a-z 0-9 _ . -, no - in front\n"
			   "                      (default: default for root, user-UID otherwise)\n"
			   "  --size BYTES        the heap may grow to BYTES (default: half of what /dev/shm\n"
			   "                      can hold, and of what memory cgroups allow)\n"
			   "  --arena-size BYTES  size of the pieces in which memory comes and goes, a power of\n"
			   "                      two from 64K to 4M (default: 256K)\n"
			   "  --max-sessions N    sessions at one time, 1 to 4096 (default: 512)\n"
			   "  --user-sessions N   of them, those that a user may have who is neither root nor\n"
			   "                      this user (default: half of them)\n"
			   "  --user-connections N  connections that such a user may have (default: its\n"
			   "                      sessions and 16)\n"
			   "  --user-arenas N     arenas that such a user may have been granted and not use\n"
			   "                      (default: half of the heap's)\n"
			   "  --user-types N      types that such a user may register (default: 512)\n"
			   "  --kept-sessions N   sessions kept for processes of root and this user that\n"
			   "                      have none, such as pyheapctl (default: 2, or 0 of fewer\n"
			   "                      than 16)\n"
			   "  --spare-arenas N    free arenas that always stay for the next session that needs\n"
			   "                      memory (default: 1)\n"
			   "  --decay MS          other free arenas stay that long, and go at once when somebody\n"
			   "                      would get ENOMEM otherwise; 0: go at the next tick; -1: stay\n"
			   "                      (default: 1000)\n"
			   "  --lock-timeout S    kill the process that keeps the global lock for S seconds,\n"
			   "                      most often because it was stopped; 0: never\n"
			   "                      (default: 10)\n"
			   "  --group GROUP       its members may connect too, not only root and this user\n"
			   "  --log-level LEVEL   say what is at least that important: error, warning, notice,\n"
			   "                      info or debug (default: info)\n"
			   "  --until PID         end, as by SIGTERM, when the process PID ends\n"
			   "  --keep              when ended by SIGTERM, leave the heap to the next pyheapd\n"
			   "  --remove            remove the heap of that name, which no daemon serves, and exit\n"
			   "  --help, --version   print this, or the version, and exit\n"
			   "\n"
			   "BYTES may end in K, M, G or T, powers of 1024.\n"
			   "\n"
			   "Exit status:\n"
			   "  0  ended by SIGTERM or SIGINT, or --remove, --help or --version did what it says\n"
			   "  1  something failed; the last line on stderr says what\n"
			   "  2  the command line is wrong\n"
			   "  3  another daemon serves that name or that socket\n"
			   "  4  the heap of that name is of another version, or damaged (see --remove)\n";

enum option_key {
	OPTION_SOCKET = 256,
	OPTION_NAME,
	OPTION_SIZE,
	OPTION_ARENA_SIZE,
	OPTION_MAX_SESSIONS,
	OPTION_USER_SESSIONS,
	OPTION_KEPT_SESSIONS,
	OPTION_USER_CONNECTIONS,
	OPTION_USER_ARENAS,
	OPTION_USER_TYPES,
	OPTION_SPARE_ARENAS,
	OPTION_DECAY,
	OPTION_LOCK_TIMEOUT,
	OPTION_GROUP,
	OPTION_LOG_LEVEL,
	OPTION_UNTIL,
	OPTION_KEEP,
	OPTION_REMOVE,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{"socket", required_argument, NULL, OPTION_SOCKET},
	{"name", required_argument, NULL, OPTION_NAME},
	{"size", required_argument, NULL, OPTION_SIZE},
	{"arena-size", required_argument, NULL, OPTION_ARENA_SIZE},
	{"max-sessions", required_argument, NULL, OPTION_MAX_SESSIONS},
	{"user-sessions", required_argument, NULL, OPTION_USER_SESSIONS},
	{"kept-sessions", required_argument, NULL, OPTION_KEPT_SESSIONS},
	{"user-connections", required_argument, NULL, OPTION_USER_CONNECTIONS},
	{"user-arenas", required_argument, NULL, OPTION_USER_ARENAS},
	{"user-types", required_argument, NULL, OPTION_USER_TYPES},
	{"spare-arenas", required_argument, NULL, OPTION_SPARE_ARENAS},
	{"decay", required_argument, NULL, OPTION_DECAY},
	{"lock-timeout", required_argument, NULL, OPTION_LOCK_TIMEOUT},
	{"group", required_argument, NULL, OPTION_GROUP},
	{"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
	{"until", required_argument, NULL, OPTION_UNTIL},
	{"keep", no_argument, NULL, OPTION_KEEP},
	{"remove", no_argument, NULL, OPTION_REMOVE},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{NULL, 0, NULL, 0},
};

int options_exit_code(int error)
{
	switch (error) {
	case 0:
		return EXIT_OK;
	case -EADDRINUSE:
		return EXIT_SERVED;
	case -EUCLEAN:
	case -EMEDIUMTYPE:
	case -EPROTONOSUPPORT:
		return EXIT_REFUSED;
	default:
		return EXIT_RUNTIME;
	}
}

__attribute__((format(printf, 1, 2))) static int usage(const char *format, ...)
{
	va_list arguments;

	fputs("pyheapd: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputs("; see pyheapd --help\n", stderr);
	return -EINVAL;
}

int options_parse_size(const char *s, uint64_t *ret)
{
	static const char suffixes[] = "kmgt";
	unsigned int shift = 0;
	uint64_t n;
	char *end;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(s, &end, 10);
	if (errno)
		return -errno;
	if (*end) {
		const char *suffix = strchr(suffixes, *end | 0x20);

		if (!suffix || end[1])
			return -EINVAL;
		shift = 10 * (unsigned int)(suffix - suffixes + 1);
	}
	if (n > UINT64_MAX >> shift)
		return -ERANGE;
	*ret = n << shift;
	return 0;
}

static int number_parse(const char *option, const char *s, uint32_t min, uint32_t max, uint32_t *ret)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(s, &end, 10);
	if (*s < '0' || *s > '9' || *end || errno || n < min || n > max)
		return usage("--%s %s: give a number from %u to %u", option, s, min, max);
	*ret = (uint32_t)n;
	return 0;
}

static int pid_parse(const char *s, pid_t *ret)
{
	uint32_t n = 0;
	int r = number_parse("until", s, 1, INT_MAX, &n);

	if (r == 0)
		*ret = (pid_t)n;
	return r;
}

static int decay_parse(const char *s, int32_t *ret)
{
	uint32_t n = 0;
	int r = strcmp(s, "-1") ? number_parse("decay", s, 0, DECAY_MS_MAX, &n) : 0;

	if (r == 0)
		*ret = strcmp(s, "-1") ? (int32_t)n : -1;
	return r;
}

static int name_parse(const char *s, char ret[NAME_LENGTH_MAX + 1])
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	size_t n = strlen(s);

	/* A - in front is an option that was meant, or a name that other programs would take for one. */
	if (!n || n > NAME_LENGTH_MAX || strspn(s, allowed) != n || *s == '-')
		return usage("--name %s: give 1 to %d of A-Z a-z 0-9 _ . -, no - in front", s, NAME_LENGTH_MAX);
	memcpy(ret, s, n + 1);
	return 0;
}

static int group_parse(const char *s, gid_t *ret)
{
	struct group *group = getgrnam(s);
	uint32_t n = 0;

	if (group) {
		*ret = group->gr_gid;
		return 0;
	}
	if (*s < '0' || *s > '9')
		return usage("--group %s: there is no such group", s);
	if (number_parse("group", s, 0, UINT32_MAX - 1, &n) < 0)
		return -EINVAL;
	*ret = n;
	return 0;
}

static int bytes_parse(const char *option, const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;

	if (options_parse_size(s, &n) < 0 || !n)
		return usage("--%s %s: give a number of bytes, such as 64M", option, s);
	if (n > max)
		return usage("--%s %s: at most %s", option, s, log_size(max));
	*ret = n;
	return 0;
}

static int option_take(struct options *options, int key, const char *value)
{
	uint64_t n = 0;
	int r;

	switch (key) {
	case OPTION_SOCKET:
		if (!*value || strlen(value) >= sizeof(options->socket))
			return usage("--socket: the path is empty or too long");
		memcpy(options->socket, value, strlen(value) + 1);
		return 0;
	case OPTION_NAME:
		return name_parse(value, options->name);
	case OPTION_SIZE:
		return bytes_parse("size", value, HEAP_SIZE_MAX, &options->geometry.heap_size);
	case OPTION_ARENA_SIZE:
		r = bytes_parse("arena-size", value, ARENA_SIZE_MAX, &n);
		if (r == 0)
			options->geometry.arena_size = (uint32_t)n;
		return r;
	case OPTION_MAX_SESSIONS:
		return number_parse("max-sessions", value, 1, SESSIONS_MAX, &options->geometry.n_sessions);
	case OPTION_USER_SESSIONS:
		return number_parse("user-sessions", value, 1, SESSIONS_MAX, &options->user.n_sessions);
	case OPTION_KEPT_SESSIONS:
		options->has_kept_sessions = true;
		return number_parse("kept-sessions", value, 0, SESSIONS_MAX - 1, &options->n_kept_sessions);
	case OPTION_USER_CONNECTIONS:
		return number_parse("user-connections", value, 1, INT_MAX, &options->user.n_connections);
	case OPTION_USER_ARENAS:
		return number_parse("user-arenas", value, 1, INT_MAX, &options->user.n_arenas);
	case OPTION_USER_TYPES:
		return number_parse("user-types", value, 1, TYPES_MAX, &options->user.n_types);
	case OPTION_SPARE_ARENAS:
		return number_parse("spare-arenas", value, 0, INT_MAX, &options->n_spare_arenas);
	case OPTION_DECAY:
		return decay_parse(value, &options->decay_ms);
	case OPTION_LOCK_TIMEOUT:
		return number_parse("lock-timeout", value, 0, INT_MAX / 1000, &options->lock_timeout_s);
	case OPTION_GROUP:
		options->has_group = true;
		return group_parse(value, &options->group);
	case OPTION_LOG_LEVEL:
		if (log_parse_level(value, &options->log_level) < 0)
			return usage("--log-level %s: give error, warning, notice, info or debug", value);
		return 0;
	case OPTION_UNTIL:
		return pid_parse(value, &options->until);
	case OPTION_KEEP:
		options->keep = true;
		return 0;
	case OPTION_REMOVE:
		options->remove = true;
		return 0;
	case OPTION_HELP:
		fputs(help, stdout);
		options->done = true;
		return 0;
	case OPTION_VERSION:
		puts("pyheapd " PYHEAP_VERSION);
		options->done = true;
		return 0;
	default:
		fputs("pyheapd: see pyheapd --help\n", stderr); /* getopt has printed what is wrong */
		return -EINVAL;
	}
}

/* Cut a given size to whole arenas. */
static int geometry_settle(struct heap_geometry *geometry)
{
	uint32_t arena_size = geometry->arena_size;

	if (arena_size < ARENA_SIZE_MIN || (arena_size & (arena_size - 1)))
		return usage("--arena-size %u: give a power of two from 64K to 4M", arena_size);
	if (geometry->heap_size && geometry->heap_size < arena_size)
		return usage("--size %llu: that is less than one arena, %s", (unsigned long long)geometry->heap_size,
			log_size(arena_size));
	geometry->heap_size -= geometry->heap_size % arena_size;
	return 0;
}

static int socket_default(struct options *options)
{
	const char *folder = getenv("XDG_RUNTIME_DIR");

	options->socket_is_default = true;
	if (geteuid() == 0) {
		strcpy(options->socket, "/run/pyheap/pyheap.sock");
		return 0;
	}
	if (!folder || !*folder)
		return usage("XDG_RUNTIME_DIR is not set: give --socket PATH");
	if (snprintf(options->socket, sizeof(options->socket), "%s/pyheap.sock", folder) >=
		(int)sizeof(options->socket))
		return usage("XDG_RUNTIME_DIR is too long: give --socket PATH");
	return 0;
}

/* Two users have daemons of their own, whose names must not meet in /dev/shm. */
static void name_default(char ret[NAME_LENGTH_MAX + 1])
{
	if (geteuid() == 0)
		strcpy(ret, "default");
	else
		snprintf(ret, NAME_LENGTH_MAX + 1, "user-%u", (unsigned int)geteuid());
}

int options_parse(struct options *ret, int argc, char **argv)
{
	struct options options = {
		.geometry = {.arena_size = ARENA_SIZE_DEFAULT, .n_sessions = SESSIONS_DEFAULT},
		.n_spare_arenas = 1,
		.decay_ms = DECAY_MS,
		.lock_timeout_s = LOCK_TIMEOUT_S,
		.log_level = LOG_INFO,
	};
	int key, r = 0;

	name_default(options.name);
	opterr = 0; /* getopt would print a line of its own */
	while (r == 0 && !options.done && (key = getopt_long(argc, argv, "", long_options, NULL)) >= 0)
		r = key == '?' ? usage("%s: there is no such option, or it lacks its value, or takes none",
					 argv[optind - 1])
			       : option_take(&options, key, optarg);
	if (r == 0 && !options.done && optind < argc)
		r = usage("%s: there is nothing that this could be", argv[optind]);
	if (r == 0 && !options.done)
		r = geometry_settle(&options.geometry);
	if (r == 0 && !options.done && !options.remove && !options.socket[0] && sd_listen_fds(0) <= 0)
		r = socket_default(&options);
	if (r == 0)
		*ret = options;
	return r;
}
