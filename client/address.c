// SPDX-License-Identifier: MIT
/*
 * Which socket a session is opened on, and who may serve it
 *
 * The default is $PYHEAP_SOCKET. Without it root uses the socket of the system's daemon. Others use the one in
 * $XDG_RUNTIME_DIR if there is one, and else the system's, which members of its group may open.
 *
 * A path is made absolute when the session is opened, since the session connects again when the daemon is restarted,
 * and the process may have another working directory then.
 *
 * A process that serves the socket is given what the program says, and gives it the memory that it works in. In a
 * folder that many may write to, any user can listen in the daemon's place. So the server must be root, this process's
 * user, or the owner of the socket's folder. $PYHEAP_TRUST_SERVER names another user by its number; `any` trusts all.
 */
#include "client/address.h"

#include "client/why.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKET_SYSTEM "/run/pyheap/pyheap.sock"
#define SOCKET_USER   "pyheap.sock" /* in $XDG_RUNTIME_DIR */

/* Finding it */

static int address_fill(struct sockaddr_un *address, const char *folder, const char *name)
{
	int n;

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	n = snprintf(address->sun_path, sizeof(address->sun_path), "%s%s%s", folder, *folder ? "/" : "", name);
	return n < 0 || (size_t)n >= sizeof(address->sun_path) ? -ENAMETOOLONG : 0;
}

static int address_given(struct sockaddr_un *address, const char *path)
{
	char folder[sizeof(address->sun_path)];

	if (!*path)
		return -ENOENT;
	/* Too long when absolute: it is good for as long as the process stays in this folder. */
	if (*path != '/' && getcwd(folder, sizeof(folder)) && address_fill(address, folder, path) == 0)
		return 0;
	return address_fill(address, "", path);
}

static int address_default(struct sockaddr_un *address)
{
	const char *folder;
	int r;

	if (geteuid() == 0)
		return address_fill(address, "", SOCKET_SYSTEM);
	folder = secure_getenv("XDG_RUNTIME_DIR");
	if (folder && *folder) {
		r = address_fill(address, folder, SOCKET_USER);
		if (r < 0 || access(address->sun_path, F_OK) == 0 || access(SOCKET_SYSTEM, W_OK) < 0)
			return r;
	} else if (access(SOCKET_SYSTEM, F_OK) < 0) {
		return -ENOENT;
	}
	return address_fill(address, "", SOCKET_SYSTEM);
}

int address_find(const char *socket, struct sockaddr_un *ret)
{
	if (!socket)
		socket = secure_getenv("PYHEAP_SOCKET");
	return socket ? address_given(ret, socket) : address_default(ret);
}

/* Who serves it */

static bool is_folders_owner(uid_t uid, const struct sockaddr_un *address)
{
	char folder[sizeof(address->sun_path)];
	struct stat st;
	char *slash;

	memcpy(folder, address->sun_path, sizeof(folder));
	slash = strrchr(folder, '/');
	if (!slash)
		strcpy(folder, ".");
	else
		slash[slash == folder] = '\0';
	return stat(folder, &st) == 0 && st.st_uid == uid;
}

static bool is_trusted(uid_t uid)
{
	const char *trusted = secure_getenv("PYHEAP_TRUST_SERVER");
	char number[16];

	snprintf(number, sizeof(number), "%u", uid);
	return trusted && (strcmp(trusted, "any") == 0 || strcmp(trusted, number) == 0);
}

int address_check_server(int fd, const struct sockaddr_un *address)
{
	struct ucred server;
	socklen_t size = sizeof(server);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &server, &size) < 0)
		return -errno;
	if (server.uid == 0 || server.uid == geteuid() || is_folders_owner(server.uid, address) ||
		is_trusted(server.uid))
		return 0;
	why_set("%s is served by user %u, who is neither root, nor this user, nor the owner of its folder; if that is "
		"right, set PYHEAP_TRUST_SERVER=%u",
		address->sun_path, server.uid, server.uid);
	return -EPERM;
}
