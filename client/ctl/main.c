// SPDX-License-Identifier: MIT
/*
 * pyheapctl: look at a heap, put files into it and get them out
 *
 * It uses the public header alone, and so also tests whether that is enough. main() reads the options, opens a session,
 * runs one subcommand (command.c) and makes sure that everything printed was written. An error is one line on stderr
 * (error.c). A reader that goes away (`pyheapctl get x | head`) is no error: the session is closed, and the process
 * ends by SIGPIPE, as other tools do.
 */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

struct options {
	const char *socket;
	const char *size;
	bool json;
	bool repair;
	bool yes;
	bool help;
	bool version;
};

/* CTL_OK or CTL_USAGE. The arguments that are no option follow at optind. */
static int options_read(struct options *ret, int argc, char **argv)
{
	static const struct option longs[] = {
		{"socket", required_argument, NULL, 's'},
		{"size", required_argument, NULL, 'z'},
		{"json", no_argument, NULL, 'j'},
		{"repair", no_argument, NULL, 'r'},
		{"yes", no_argument, NULL, 'y'},
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
		case 'z':
			ret->size = optarg;
			break;
		case 'j':
			ret->json = true;
			break;
		case 'r':
			ret->repair = true;
			break;
		case 'y':
			ret->yes = true;
			break;
		case 'h':
			ret->help = true;
			break;
		case 'v':
			ret->version = true;
			break;
		case ':':
			return ctl_fail_usage("wrong option", argv[optind - 1], "it needs a value");
		default:
			return ctl_fail_usage("wrong option", argv[optind - 1], "there is no such option");
		}
	}
	return CTL_OK;
}

static int command_check(const struct command *command, const char *name, int n_args, const struct options *options)
{
	if (!command)
		return ctl_fail_usage("unknown command", name, "there is no such command");
	if (n_args < command->min_args)
		return ctl_fail_usage("too few arguments", name, "something more is needed: see its --help");
	if (command->max_args >= 0 && n_args > command->max_args)
		return ctl_fail_usage("too many arguments", name, "it takes fewer arguments");
	if (options->json && !command->json_keys)
		return ctl_fail_usage("wrong option", "--json", "this command has no figures");
	if (options->repair && !command->has_repair)
		return ctl_fail_usage("wrong option", "--repair", "this command mends nothing");
	if (options->yes && !command->has_yes)
		return ctl_fail_usage("wrong option", "--yes", "this command does not ask");
	if (options->size && !command->has_size)
		return ctl_fail_usage("wrong option", "--size", "this command makes no heap");
	return CTL_OK;
}

/* argv[0] is the command's name; `command` is NULL where there is none of that name. */
static int command_run(const struct command *command, const struct options *options, int argc, char **argv)
{
	struct ctl ctl = {.json = options->json,
		.repair = options->repair,
		.yes = options->yes,
		.size = options->size,
		.socket = options->socket};
	int r;

	r = command_check(command, argv[0], argc - 1, options);
	if (r != CTL_OK)
		return r;
	r = command->needs_no_session ? 0 : pyheap_open(&ctl.heap, options->socket);
	if (r < 0)
		return ctl_fail_connect(options->socket, r);
	r = command->run(&ctl, argc - 1, argv + 1);
	pyheap_close(ctl.heap);
	return r;
}

/* `pyheapctl --help`, `pyheapctl COMMAND --help`, `pyheapctl help [COMMAND]` */
static int help_run(const struct command *command, int argc, char **argv)
{
	if (command && !command->run)
		command = --argc > 0 ? command_find(*++argv) : NULL;
	if (!command && argc > 0)
		return ctl_fail_usage("unknown command", argv[0], "there is no such command");
	help_print(command);
	return CTL_OK;
}

static int end_by_sigpipe(void)
{
	signal(SIGPIPE, SIG_DFL);
	raise(SIGPIPE);
	return CTL_FAILED; /* SIGPIPE is blocked in this process */
}

/* The exit code, once everything that was printed is written. */
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

/*
 * A standard stream that is closed would be the next free number, and so become the session's socket. /dev/null takes
 * the number, opened so that reading or writing still fails.
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
	/* When the reader of stdout goes away, the session is closed before the process ends. */
	signal(SIGPIPE, SIG_IGN);
	/* A file that would be longer than RLIMIT_FSIZE is an error of write(), which is reported. */
	signal(SIGXFSZ, SIG_IGN);
	r = options_read(&options, argc, argv);
	if (r != CTL_OK)
		return r;
	argc -= optind;
	argv += optind;
	command = argc > 0 ? command_find(argv[0]) : NULL;
	if (options.help || (command && !command->run))
		r = help_run(command, argc, argv);
	else if (options.version)
		printf("pyheapctl %s\n", pyheap_version());
	else if (argc == 0)
		return ctl_fail_usage("nothing to do", NULL, "a command is needed");
	else
		r = command_run(command, &options, argc, argv);
	return output_finish(r);
}
