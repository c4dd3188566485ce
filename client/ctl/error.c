// SPDX-License-Identifier: MIT
/*
 * What pyheapctl says when something fails: what, on what, why, and what to do about it, in one line
 */
#include "ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOCKET_SYSTEM "/run/pyheap/pyheap.sock"

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

int ctl_fail_usage(const char *what, const char *on, const char *why)
{
	ctl_fail(what, on, why, "see `pyheapctl --help`");
	return CTL_USAGE;
}

/* Calls on the heap. */

static const char *heap_advice(int error)
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
		return "another program removed it meanwhile: try again";
	case ETIMEDOUT:
		return "pyheapd's log says what it is doing";
	case EUCLEAN:
		return "`pyheapctl check` says what is damaged";
	default:
		return "see `pyheapctl --help`";
	}
}

/* pyheap_strerror() speaks of all calls. A subcommand's arguments are names, so some errnos have one meaning here. */
static const char *heap_why(int error)
{
	switch (-error) {
	case ENOENT:
		return "no object has that name";
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
	return ctl_fail(what, on, heap_why(error), heap_advice(error));
}

/* The session. */

static const char *connect_advice(int error)
{
	switch (-error) {
	case EACCES:
		return "ask the administrator of pyheapd to admit this user";
	case EPERM:
		return "use it only if that user may read and change all that this program shares";
	case ENAMETOOLONG:
		return "use a path of at most 107 bytes";
	case EUSERS:
		return "close a client, or start pyheapd with a larger limit";
	case EPROTO:
		return "use the pyheapctl that came with the running pyheapd";
	case ETIMEDOUT:
		return "see whether pyheapd is stopped, and its log";
	case ENOMEM:
		return "raise that limit, or free memory";
	case EMFILE:
	case ENFILE:
		return "close files, or raise the limit of open files (ulimit -n)";
	case EUCLEAN:
		return "`pyheapctl reset` empties the heap";
	default:
		return "start pyheapd, or name its socket by --socket or $PYHEAP_SOCKET";
	}
}

static const char *connect_why(int error, bool has_folder)
{
	switch (-error) {
	case ENOMEM:
	case EPERM:
	case EPROTO:
	case EUSERS:
	case EUCLEAN:
		return *pyheap_open_error() ? pyheap_open_error() : pyheap_strerror(error);
	case ENOENT:
		return has_folder ? "there is no such socket" : "XDG_RUNTIME_DIR is not set";
	case ENAMETOOLONG:
		return "the path is longer than a socket's can be";
	case ENOTDIR:
	case ENOTSOCK:
	case EPROTOTYPE:
		return strerror(-error);
	default:
		return pyheap_strerror(error);
	}
}

int ctl_fail_connect(const char *socket, int error)
{
	const char *folder = getenv("XDG_RUNTIME_DIR");
	bool has_folder = folder && *folder;
	char path[4096];

	if (!socket)
		socket = getenv("PYHEAP_SOCKET");
	/* As the library chooses, which says in the manual how. */
	if (!socket && (geteuid() == 0 || (error != -ENOENT && access(SOCKET_SYSTEM, F_OK) == 0)))
		socket = SOCKET_SYSTEM;
	if (!socket) {
		snprintf(path, sizeof(path), "%s/pyheap.sock", has_folder ? folder : "$XDG_RUNTIME_DIR");
		socket = path;
	} else {
		has_folder = true;
	}
	ctl_fail("cannot open a session", socket, connect_why(error, has_folder), connect_advice(error));
	return CTL_NO_DAEMON;
}
