// SPDX-License-Identifier: MIT
/*
 * The table of subcommands, and the help that is made of it
 *
 * `pyheapctl --help` describes everything, `pyheapctl COMMAND --help` the one command with the options that it has.
 * Both are printed from the table, so neither can forget a command.
 */
#include "ctl.h"

#include <string.h>

#define JSON_INDENT "\n           "

static const struct command commands[] = {
	{
		.name = "stats",
		.arguments = "[--json]",
		.info = "where every byte is, by class, arena and kind",
		.run = run_stats,
		.json_keys =
			"the members of pyheap_stats in pyheap.h, `classes` a list of those that have "
			"pools," JSON_INDENT "each with the members of pyheap_class_stats and `class`; and n_objects",
	},
	{
		.name = "ls",
		.arguments = "[--json]",
		.info = "names with their objects' type, size, reference count and ref",
		.run = run_ls,
		.json_keys = "a list of {name, type, size, refcount, ref}; ref is a string of hexadecimal digits",
	},
	{
		.name = "put",
		.arguments = "NAME [FILE]",
		.info = "make a bytes object of FILE (or stdin) and name it",
		.run = run_put,
		.min_args = 1,
		.max_args = 2,
	},
	{
		.name = "get",
		.arguments = "NAME [FILE]",
		.info = "write the bytes object of that name to FILE (or stdout)",
		.run = run_get,
		.min_args = 1,
		.max_args = 2,
	},
	{
		.name = "rm",
		.arguments = "NAME...",
		.info = "remove names; an object is freed when nothing else holds it",
		.run = run_rm,
		.min_args = 1,
		.max_args = -1,
	},
	{
		.name = "clients",
		.arguments = "[--json]",
		.info = "sessions: process, user, program, objects held, memory, flags",
		.run = run_clients,
		.json_keys =
			"a list of {session, pid, uid, gid, program, n_holds, n_arenas, n_bytes, start_time, self, "
			"has_lock, dead}",
	},
	{
		.name = "evict",
		.arguments = "SESSION",
		.info = "kill the process of a session, by its number",
		.run = run_evict,
		.min_args = 1,
		.max_args = 1,
	},
	{
		.name = "check",
		.arguments = "[--repair]",
		.info = "compare the whole heap with itself; faults go to stderr",
		.run = run_check,
		.has_repair = true,
	},
	{
		.name = "reset",
		.arguments = "[--yes]",
		.info = "empty the heap: all that is in it is gone",
		.run = run_reset,
		.has_yes = true,
		.needs_no_session = true,
	},
	{
		.name = "run",
		.arguments = "[--size BYTES] -- COMMAND...",
		.info = "run a command with a heap of its own, which is gone with it",
		.run = run_run,
		.min_args = 1,
		.max_args = -1,
		.has_size = true,
		.needs_no_session = true,
	},
	{
		.name = "help",
		.arguments = "[COMMAND]",
		.info = "this text, or that of one command",
		.max_args = 1,
	},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* The functions below print what concerns one command, or everything where it is NULL. */

static void print_usage(const struct command *command)
{
	if (command) {
		printf("usage: pyheapctl [--socket PATH] %s %s\n\n%s\n", command->name, command->arguments,
			command->info);
		return;
	}
	printf("usage: pyheapctl [--socket PATH] COMMAND [ARGUMENT...]\n\n"
	       "Looks at the heap that a pyheapd serves, and moves files in and out of it.\n\n"
	       "commands:\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		printf("  %-7s %-12s %s\n", commands[i].name, commands[i].arguments, commands[i].info);
}

static void print_options(const struct command *command)
{
	printf("\noptions:\n"
	       "  --socket PATH        the daemon's socket; default: $PYHEAP_SOCKET, else\n"
	       "                       /run/pyheap/pyheap.sock for root, and for others\n"
	       "                       $XDG_RUNTIME_DIR/pyheap.sock, or that of root if there is none\n");
	if (!command || command->json_keys)
		printf("  --json               the same figures for programs\n");
	if (!command || command->has_repair)
		printf("  --repair             with check: make what is derived anew, drop what nothing holds; clients "
		       "go on "
		       "working\n");
	if (!command || command->has_yes)
		printf("  --yes                with reset: also where sessions use the heap, which ends for them\n");
	if (!command || command->has_size)
		printf("  --size BYTES         with run: the heap may grow to that (K, M, G, T); default: pyheapd's\n");
	printf("  --help, --version\n");
}

static void print_arguments(const struct command *command)
{
	bool has_file = !command || strstr(command->arguments, "FILE");

	if (has_file || strstr(command->arguments, "NAME"))
		printf("\n%s`--` ends the options, for names that start with a dash.\n",
			has_file ? "FILE `-` is stdin or stdout. " : "");
}

static void print_json_keys(const struct command *command)
{
	if (command && !command->json_keys)
		return;
	printf("\nKeys of --json:\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (commands[i].json_keys && (!command || command == &commands[i]))
			printf("  %-7s  %s\n", commands[i].name, commands[i].json_keys);
}

void help_print(const struct command *command)
{
	print_usage(command);
	print_options(command);
	print_arguments(command);
	print_json_keys(command);
	printf("\nexit codes:\n"
	       "  0  done\n"
	       "  1  it failed: no such name, no room, faults found, a file that cannot be read or written\n"
	       "  2  wrong usage\n"
	       "  3  no daemon, or not admitted by it\n");
}
