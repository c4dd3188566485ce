// SPDX-License-Identifier: MIT
/*
 * pyheapctl: look at a heap, put files into it and get them out
 *
 * It stands on the public header alone, so that it is also a test of whether that is enough. A table names the
 * subcommands; main() reads the options, opens the session, runs one of them and sees to it that what was written
 * really got out. Errors are one line on stderr. A reader that goes away (`pyheapctl get x | head`) is no error worth a
 * line: the session is closed and the process ends by SIGPIPE, as other tools do.
 */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct command {
	const char *name;
	const char *arguments;
	const char *info;
	ctl_run run;
	int min_args;
	int max_args; /* -1: any number */
	bool has_json;
	bool has_repair;
};

static const struct command commands[] = {
	{"stats", "[--json]", "where every byte is, by class, arena and kind", run_stats, 0, 0, true, false},
	{"ls", "[--json]", "names with their objects' type, size, reference count and ref", run_ls, 0, 0, true, false},
	{"put", "NAME [FILE]", "make a bytes object of FILE (or stdin) and name it", run_put, 1, 2, false, false},
	{"get", "NAME [FILE]", "write the bytes object of that name to FILE (or stdout)", run_get, 1, 2, false, false},
	{"rm", "NAME...", "take names away; objects go when nothing else holds them", run_rm, 1, -1, false, false},
	{"clients", "[--json]", "sessions: process, user, program, objects held, flags", run_clients, 0, 0, true,
		false},
	{"check", "[--repair]", "compare the whole heap with itself; faults go to stderr; and mend them", run_check, 0,
		0, false, true},
	{"help", "", "this text", NULL, 0, -1, false, false},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(void)
{
	printf("usage: pyheapctl [--socket PATH] COMMAND [ARGUMENT...]\n\n"
	       "Looks at the heap that a pyheapd serves, and moves files in and out of it.\n\n"
	       "commands:\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		printf("  %-7s %-12s %s\n", commands[i].name, commands[i].arguments, commands[i].info);
	printf("\noptions:\n"
	       "  --socket PATH        the daemon's socket; default: $PYHEAP_SOCKET, else\n"
	       "                       /run/pyheap/pyheap.sock for root, $XDG_RUNTIME_DIR/pyheap.sock for others\n"
	       "  --json               the same figures for programs\n"
	       "  --repair             with check: make what is derived anew, drop what is lost; clients go on "
	       "working\n"
	       "  --help, --version\n"
	       "\nFILE `-` is stdin or stdout. `--` ends the options, for names that start with a dash.\n"
	       "\nKeys of --json:\n"
	       "  stats    the members of pyheap_stats in pyheap.h, `classes` a list of those that have pools,\n"
	       "           each with the members of pyheap_class_stats and `class`; and n_objects\n"
	       "  ls       a list of {name, type, size, refcount, ref}; ref is a string of hexadecimal digits\n"
	       "  clients  a list of {session, pid, uid, gid, program, n_holds, start_time, self, has_lock, dead}\n"
	       "\nexit codes:\n"
	       "  0  done\n"
	       "  1  it failed: no such name, no room, faults found, a file that cannot be read or written\n"
	       "  2  wrong usage\n"
	       "  3  no daemon, or not admitted by it\n");
}

/* ---- errors ----------------------------------------------------------------------------------------------------- */

int ctl_fail(const char *what, const char *on, const char *why, const char *advice)
{
	fflush(stdout);
	fprintf(stderr, "pyheapctl: %s", what);
	if (on) {
		fputs(", on '", stderr);
		print_escaped(stderr, on);
		fputs("'", stderr);
	}
	fprintf(stderr, ": %s%s%s\n", why, advice ? "; " : "", advice ? advice : "");
	return CTL_FAILED;
}

/* What the person at the terminal can do about it. */
static const char *advice_for(int error)
{
	switch (-error) {
	case ENOENT:
		return "`pyheapctl ls` shows the names that there are";
	case EINVAL:
	case ENAMETOOLONG:
		return "a name is 1 to 255 bytes of UTF-8";
	case ENOMEM:
		return "remove what is not needed (`pyheapctl rm`), or start pyheapd with a larger --size";
	case EPIPE:
	case ECONNRESET:
		return "start pyheapd again";
	case ESTALE:
		return "somebody removed it meanwhile: try again";
	case ETIMEDOUT:
		return "see in its log what pyheapd is doing";
	case EUCLEAN:
		return "`pyheapctl check` says what is damaged";
	default:
		return "see `pyheapctl --help`";
	}
}

/* pyheap_strerror() speaks of all calls; what subcommands give from outside is names. */
static const char *why_for(int error)
{
	switch (-error) {
	case ENOENT:
		return "nothing has that name";
	case EINVAL:
		return "the name is empty or not UTF-8";
	case ENAMETOOLONG:
		return "the name is too long";
	default:
		return pyheap_strerror(error);
	}
}

int ctl_fail_heap(const char *what, const char *on, int error)
{
	return ctl_fail(what, on, why_for(error), advice_for(error));
}

static int usage_fail(const char *what, const char *on, const char *why)
{
	ctl_fail(what, on, why, "see `pyheapctl --help`");
	return CTL_USAGE;
}

static const char *connect_advice(int error)
{
	switch (-error) {
	case EACCES:
		return "ask whoever runs pyheapd to admit this user";
	case ENAMETOOLONG:
		return "use a path of at most 107 bytes";
	case EUSERS:
		return "close a client, or start pyheapd with more sessions";
	case EPROTO:
		return "use the pyheapctl that came with the running pyheapd";
	case ETIMEDOUT:
		return "see whether pyheapd is stopped, and its log";
	case ENOMEM:
		return "raise the limit of this process's address space (ulimit -v), or free memory";
	case EUCLEAN:
		return "end pyheapd and start it anew; `pyheapd --remove` takes the damaged heap away";
	default:
		return "start pyheapd, or name its socket by --socket or $PYHEAP_SOCKET";
	}
}

static int connect_fail(const char *socket, int error)
{
	const char *env = getenv("PYHEAP_SOCKET");
	const char *folder = getenv("XDG_RUNTIME_DIR");
	const char *why = pyheap_strerror(error);
	char path[4096];

	if (!socket && !env && geteuid() != 0) {
		snprintf(path, sizeof(path), "%s/pyheap.sock", folder && *folder ? folder : "$XDG_RUNTIME_DIR");
		socket = path;
	}
	if (!socket)
		socket = env ? env : "/run/pyheap/pyheap.sock";
	if (error == -ENOENT && socket == path && (!folder || !*folder))
		why = "XDG_RUNTIME_DIR is not set";
	else if (error == -ENOENT)
		why = "there is no such socket";
	else if (error == -ENAMETOOLONG)
		why = "the path is longer than a socket's can be";
	else if (error == -ENOTDIR || error == -ENOTSOCK || error == -EPROTOTYPE)
		why = strerror(-error);
	ctl_fail("cannot open a session", socket, why, connect_advice(error));
	return CTL_NO_DAEMON;
}

/* ---- options and commands --------------------------------------------------------------------------------------- */

struct options {
	const char *socket;
	bool json;
	bool repair;
	bool help;
	bool version;
};

/* 0, or the exit code of wrong usage. optind is left at the first argument that is no option. */
static int options_read(struct options *ret, int argc, char **argv)
{
	static const struct option longs[] = {
		{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'},
		{"repair", no_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			ret->socket = optarg;
			break;
		case 'j':
			ret->json = true;
			break;
		case 'r':
			ret->repair = true;
			break;
		case 'h':
			ret->help = true;
			break;
		case 'v':
			ret->version = true;
			break;
		case ':':
			return usage_fail("wrong option", argv[optind - 1], "it needs a value");
		default:
			return usage_fail("wrong option", argv[optind - 1], "there is none of that name");
		}
	}
	return CTL_OK;
}

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int usage_check(const struct command *command, const char *name, int n_args, const struct options *options)
{
	if (!command)
		return usage_fail("unknown command", name, "there is none of that name");
	if (n_args < command->min_args)
		return usage_fail("too few arguments", name, "a NAME is needed");
	if (command->max_args >= 0 && n_args > command->max_args)
		return usage_fail("too many arguments", name, "it does not take so many");
	if (options->json && !command->has_json)
		return usage_fail("wrong option", "--json", "this command has no figures to show");
	if (options->repair && !command->has_repair)
		return usage_fail("wrong option", "--repair", "this command mends nothing");
	return CTL_OK;
}

static int command_run(const struct command *command, const struct options *options, int n_args, char **args)
{
	struct ctl ctl = {.json = options->json, .repair = options->repair};
	int r;

	r = pyheap_open(&ctl.heap, options->socket);
	if (r < 0)
		return connect_fail(options->socket, r);
	r = command->run(&ctl, n_args, args);
	pyheap_close(ctl.heap);
	return r;
}

static int end_by_sigpipe(void)
{
	signal(SIGPIPE, SIG_DFL);
	raise(SIGPIPE);
	return CTL_FAILED; /* it is blocked here */
}

/* Did everything that was printed get out? */
static int output_finish(int code)
{
	int error = 0;

	if (fflush(stdout) != 0)
		error = errno;
	else if (ferror(stdout))
		error = EIO;
	if (error == EPIPE || code == CTL_BROKEN_PIPE)
		return end_by_sigpipe();
	if (error)
		return ctl_fail("cannot write", "stdout", strerror(error), "make room, or write to somewhere else");
	return code;
}

/* What is closed must not become a socket or a file by being the next free number; reading or writing it still fails.
 */
static void fill_stdio(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			_exit(CTL_FAILED);
}

int main(int argc, char **argv)
{
	struct options options = {0};
	const struct command *command;
	int r;

	fill_stdio();
	/* A session is closed in order first, whoever stops reading. */
	signal(SIGPIPE, SIG_IGN);
	r = options_read(&options, argc, argv);
	if (r != CTL_OK)
		return r;
	argc -= optind;
	argv += optind;
	command = argc > 0 ? command_find(argv[0]) : NULL;
	if (options.help || (command && !command->run)) {
		print_help();
	} else if (options.version) {
		printf("pyheapctl %s\n", pyheap_version());
	} else if (argc == 0) {
		return usage_fail("nothing to do", NULL, "a command is needed");
	} else {
		r = usage_check(command, argv[0], argc - 1, &options);
		if (r == CTL_OK)
			r = command_run(command, &options, argc - 1, argv + 1);
	}
	return output_finish(r);
}
