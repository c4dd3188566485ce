// SPDX-License-Identifier: MIT
/*
 * The listening socket
 *
 * A daemon that was killed leaves its socket file, and bind() refuses to replace it; a daemon that lives must not lose
 * its own. The two are told apart by connect(): only a dead daemon's socket refuses. Another daemon could do the same
 * between the connect() and the bind(), so both happen under a lock on PATH.lock, which the daemon keeps while it runs.
 *
 * A client that finds the socket can use it: it is bound beside its path, as PATH.new, is given its mode and its group
 * (0600; 0660 with --group), listens, and only then gets its name. A socket whose path is too long for that is bound
 * through /proc/self/fd, where its folder has a short name.
 *
 * What is removed at the end is what was made here: somebody may have removed the files meanwhile, and another daemon
 * may have made its own.
 *
 * A socket that systemd passes is its own: it is neither locked, changed nor removed here.
 */
#include "daemon/listener.h"

#include "daemon/guard.h"
#include "daemon/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define BACKLOG 128

/* ---- from systemd ---------------------------------------------------------------------------------------------- */

/* 1: there is one, 0: there is none. */
static int take_passed(struct listener *listener)
{
	int n = sd_listen_fds(1);

	if (n < 0)
		log_error("cannot take the sockets that systemd passed: %s", strerror(-n));
	if (n <= 0)
		return n;
	if (n > 1) {
		log_error("systemd passed %d sockets: pyheapd serves one, so its .socket unit may list only one", n);
		return -E2BIG;
	}
	if (sd_is_socket_unix(SD_LISTEN_FDS_START, SOCK_STREAM, 1, NULL, 0) <= 0) {
		log_error("what systemd passed is no listening Unix stream socket: use ListenStream= with a path");
		return -ENOTSOCK;
	}
	if (fcntl(SD_LISTEN_FDS_START, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	listener->fd = SD_LISTEN_FDS_START;
	return 1;
}

/* ---- our own --------------------------------------------------------------------------------------------------- */

static int address_of(const char *path, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(ret->sun_path)) {
		log_error("the socket's path has %zu bytes, a socket's address only has room for %zu: give a shorter "
			  "--socket",
			strlen(path), sizeof(ret->sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(ret->sun_path, path, strlen(path) + 1);
	return 0;
}

static void make_folder(const char *path)
{
	char folder[112];

	snprintf(folder, sizeof(folder), "%s", path);
	*strrchr(folder, '/') = '\0';
	mkdir(folder, 0755); /* take_guard() logs what is wrong with the folder */
}

static int take_guard(struct listener *listener)
{
	int r;

	snprintf(listener->guard_path, sizeof(listener->guard_path), "%s.lock", listener->path);
	r = guard_take(listener->guard_path, O_RDWR | O_CREAT);
	if (r >= 0) {
		listener->guard_fd = r;
		return 0;
	}
	if (r == -EADDRINUSE)
		log_error("another pyheapd serves %s: give another --socket, or end it first", listener->path);
	else if (r == -ENOENT)
		log_error("the folder of %s is missing: make it, or give another --socket", listener->path);
	else if (r == -EACCES || r == -EROFS || r == -EPERM)
		log_error("the folder of %s is not writable: give another --socket, or the right to write there",
			listener->path);
	else
		log_error("cannot make %s: %s", listener->guard_path, strerror(-r));
	return r;
}

/* Does a process listen behind the socket file? 1 yes, 0 no. Never waits: a full backlog is a yes. */
static int probe(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	r = connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ? 0 : errno;
	close(fd);
	return r == ECONNREFUSED || r == ENOENT ? 0 : 1;
}

/* Is there nothing, or a dead daemon's socket, which can be replaced? */
static int check_path(const struct sockaddr_un *address)
{
	struct stat st;
	int r;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode)) {
		log_error("%s is there, and is no socket: give another --socket, or remove it", address->sun_path);
		return -EEXIST;
	}
	r = probe(address);
	if (r < 0)
		return r;
	if (r == 1) {
		log_error("another program listens on %s: give another --socket, or end it first", address->sun_path);
		return -EADDRINUSE;
	}
	log_notice("replacing %s, which a daemon before left there", address->sun_path);
	return 0;
}

static int bind_private(int fd, const struct sockaddr_un *address)
{
	mode_t mask = umask(0177);
	int r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	umask(mask);
	return r;
}

static int give_to_group(const char *path, gid_t group)
{
	if (chown(path, (uid_t)-1, group) < 0 || chmod(path, 0660) < 0) {
		int r = -errno;

		log_error("cannot give %s to the group %u: %s; this user has to be a member of it", path,
			(unsigned int)group, strerror(-r));
		return r;
	}
	return 0;
}

/* The address PATH.new, by its folder's descriptor where that is too long. The caller closes *ret_fd if it is not -1.
 */
static int address_beside(const char *path, struct sockaddr_un *ret, int *ret_fd)
{
	const char *slash = strrchr(path, '/');
	char folder[112] = ".";

	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	*ret_fd = -1;
	if (snprintf(ret->sun_path, sizeof(ret->sun_path), "%s.new", path) < (int)sizeof(ret->sun_path))
		return 0;
	if (slash)
		snprintf(folder, sizeof(folder), "%.*s", slash > path ? (int)(slash - path) : 1, path);
	*ret_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_fd < 0)
		return -errno;
	snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/pyheap.new", *ret_fd);
	return 0;
}

/* Bind at `address`, and give the socket file its rights, before it gets its name. */
static int bind_and_rename(
	struct listener *listener, const struct listener_options *options, const struct sockaddr_un *address)
{
	struct stat st = {0};
	int r;

	unlink(address->sun_path); /* a daemon may have died here; the guard says that none is at it now */
	r = bind_private(listener->fd, address);
	if (r < 0)
		return r;
	if (options->has_group)
		r = give_to_group(address->sun_path, options->group);
	if (r == 0 && (listen(listener->fd, BACKLOG) < 0 || lstat(address->sun_path, &st) < 0 ||
			      rename(address->sun_path, listener->path) < 0))
		r = -errno;
	if (r < 0) {
		unlink(address->sun_path);
		return r;
	}
	listener->device = st.st_dev;
	listener->inode = st.st_ino;
	return 0;
}

static int bind_own(struct listener *listener, const struct listener_options *options)
{
	struct sockaddr_un address;
	int folder_fd, r;

	r = address_of(options->path, &address);
	if (r < 0)
		return r;
	snprintf(listener->path, sizeof(listener->path), "%s", options->path);
	if (options->make_folder)
		make_folder(options->path);
	r = take_guard(listener);
	if (r < 0)
		return r;
	r = check_path(&address);
	if (r < 0)
		return r;
	r = address_beside(options->path, &address, &folder_fd);
	if (r == 0) {
		listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		r = listener->fd < 0 ? -errno : bind_and_rename(listener, options, &address);
	}
	if (folder_fd >= 0)
		close(folder_fd);
	if (r < 0)
		log_error("cannot listen on %s: %s", listener->path, strerror(-r));
	return r;
}

int listener_open(struct listener *listener, const struct listener_options *options)
{
	int r;

	*listener = (struct listener){.fd = -1, .guard_fd = -1};
	r = take_passed(listener);
	if (r == 0)
		r = bind_own(listener, options);
	if (r < 0)
		listener_close(listener);
	return r < 0 ? r : 0;
}

/* Somebody may have removed it, and another daemon may have made one in its place. */
static bool is_own_socket(const struct listener *listener)
{
	struct stat st;

	return lstat(listener->path, &st) == 0 && st.st_dev == listener->device && st.st_ino == listener->inode;
}

void listener_close(struct listener *listener)
{
	bool is_bound = listener->fd >= 0 && listener->guard_fd >= 0;

	if (listener->fd >= 0)
		close(listener->fd);
	if (is_bound && is_own_socket(listener))
		unlink(listener->path);
	if (listener->guard_fd >= 0) {
		if (guard_leads_to(listener->guard_path, listener->guard_fd))
			unlink(listener->guard_path);
		close(listener->guard_fd);
	}
	*listener = (struct listener){.fd = -1, .guard_fd = -1};
}

int listener_accept(const struct listener *listener)
{
	for (;;) {
		int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			return fd;
		if (errno != EINTR && errno != ECONNABORTED)
			return -errno;
	}
}
