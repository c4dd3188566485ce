// SPDX-License-Identifier: MIT
/*
 * pyheapctl put, get: files in and out
 *
 * A regular file is read straight into the object, and an object is written straight from its payload: only the kernel
 * copies the bytes. A pipe, a terminal or a file of /proc does not tell its size beforehand. It is read into memory of
 * this process first, which doubles as it fills, up to what the heap could hold: an endless pipe ends in an error. The
 * name is set when the whole content is there, so that no reader sees half of a file.
 *
 * A file that an object is written to gets its name when it is whole, too: it is written beside, and renamed. What had
 * the name before stays until then. What is no regular file, a pipe or a device, is written to directly, and so is a
 * file in a folder in which none can be made.
 */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_FIRST 65536U

static const char *file_advice(int error)
{
	switch (error) {
	case EISDIR:
		return "give a file, not a folder";
	case EBADF:
		return "it is closed: open it, or name a file";
	case ENOSPC:
	case EDQUOT:
		return "make room, or write to another place";
	case EFBIG:
		return "raise the limit of the length of files (ulimit -f)";
	default:
		return "check that it is there, and its permissions";
	}
}

/* After read() or write() failed: can it be tried again? Waits where the descriptor is non-blocking, as another process
 * may have made a standard stream. */
static bool try_again(int fd, short events)
{
	struct pollfd pollfd = {.fd = fd, .events = events};

	if (errno == EAGAIN)
		return poll(&pollfd, 1, -1) >= 0 || errno == EINTR;
	return errno == EINTR;
}

/* Read n bytes, or fewer at the end of the input. Returns their number, or a negative errno. */
static ssize_t read_up_to(int fd, void *buffer, size_t n)
{
	size_t n_read = 0;

	while (n_read < n) {
		ssize_t l = read(fd, (char *)buffer + n_read, n - n_read);

		if (l < 0 && try_again(fd, POLLIN))
			continue;
		if (l < 0)
			return -errno;
		if (l == 0)
			break;
		n_read += (size_t)l;
	}
	return (ssize_t)n_read;
}

static int write_all(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n > 0) {
		ssize_t l = write(fd, p, n);

		if (l < 0 && try_again(fd, POLLOUT))
			continue;
		if (l < 0)
			return -errno;
		p += l;
		n -= (size_t)l;
	}
	return 0;
}

/* Put */

/* How reading a file into the heap ended. At most one of the two is a negative errno, else 0. */
struct outcome {
	int heap_error;
	int file_error;
};

/* How many bytes a regular file has from its current offset on. 0: it is no regular file, or says that it is empty,
 * as files of /proc do. */
static uint64_t known_size(int fd)
{
	struct stat st;
	off_t at;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	at = lseek(fd, 0, SEEK_CUR);
	return at >= 0 && at < st.st_size ? (uint64_t)(st.st_size - at) : 0;
}

/* The file was cut short while it was read: the object gets the n bytes that were there. */
static struct outcome put_short(pyheap *heap, pyheap_ref longer, size_t n, pyheap_ref *ret)
{
	struct outcome outcome = {0};

	outcome.heap_error = pyheap_put(heap, pyheap_data(heap, longer), n, ret);
	pyheap_decref(heap, longer);
	return outcome;
}

static struct outcome put_known(pyheap *heap, int fd, uint64_t size, pyheap_ref *ret)
{
	struct outcome outcome = {0};
	pyheap_ref ref;
	ssize_t n;

	outcome.heap_error = pyheap_new(heap, PYHEAP_BYTES, size, &ref);
	if (outcome.heap_error < 0)
		return outcome;
	n = read_up_to(fd, pyheap_data(heap, ref), size);
	if (n < 0) {
		outcome.file_error = (int)n;
		pyheap_decref(heap, ref);
		return outcome;
	}
	if ((uint64_t)n < size)
		return put_short(heap, ref, (size_t)n, ret);
	*ret = ref;
	return outcome;
}

/* Read the whole input into fresh memory, which the caller frees. -ENOMEM: it is longer than `limit`. */
static struct outcome read_unknown(int fd, uint64_t limit, char **ret, size_t *ret_size)
{
	struct outcome outcome = {0};
	size_t n = 0, n_allocated = BUFFER_FIRST;
	char *buffer = malloc(n_allocated);

	while (buffer) {
		ssize_t l = read_up_to(fd, buffer + n, n_allocated - n);
		char *larger;

		if (l < 0) {
			outcome.file_error = (int)l;
			break;
		}
		n += (size_t)l;
		if (n < n_allocated) {
			*ret = buffer;
			*ret_size = n;
			return outcome;
		}
		larger = n <= limit ? realloc(buffer, n_allocated *= 2) : NULL;
		if (!larger)
			break;
		buffer = larger;
	}
	free(buffer);
	if (!outcome.file_error)
		outcome.heap_error = -ENOMEM;
	return outcome;
}

static struct outcome put_unknown(pyheap *heap, int fd, pyheap_ref *ret)
{
	struct outcome outcome = {0};
	pyheap_stats stats;
	char *data = NULL;
	size_t n = 0;

	outcome.heap_error = pyheap_stats(heap, &stats);
	if (outcome.heap_error < 0)
		return outcome;
	outcome = read_unknown(fd, stats.heap_size, &data, &n);
	if (outcome.heap_error < 0 || outcome.file_error < 0)
		return outcome;
	outcome.heap_error = pyheap_put(heap, data, n, ret);
	free(data);
	return outcome;
}

static int put_from(pyheap *heap, int fd, const char *file, const char *name)
{
	uint64_t size = known_size(fd);
	struct outcome outcome;
	pyheap_ref ref;
	int r;

	outcome = size > 0 ? put_known(heap, fd, size, &ref) : put_unknown(heap, fd, &ref);
	if (outcome.file_error < 0)
		return ctl_fail("cannot read", file, strerror(-outcome.file_error), file_advice(-outcome.file_error));
	if (outcome.heap_error < 0)
		return ctl_fail_heap("cannot put into the heap", file, outcome.heap_error);
	r = pyheap_name_set(heap, name, ref);
	pyheap_decref(heap, ref);
	return r < 0 ? ctl_fail_heap("cannot set the name", name, r) : CTL_OK;
}

/* Ask for the name first: one that no object can have is refused before a large file is read. */
static int name_try(pyheap *heap, const char *name)
{
	pyheap_ref ref;
	int r;

	r = pyheap_name_get(heap, name, &ref);
	if (r == 0)
		pyheap_decref(heap, ref);
	return r == -ENOENT ? 0 : r;
}

static bool is_standard(int n_args, char **args)
{
	return n_args < 2 || strcmp(args[1], "-") == 0;
}

int run_put(struct ctl *ctl, int n_args, char **args)
{
	int fd, r;

	r = name_try(ctl->heap, args[0]);
	if (r < 0)
		return ctl_fail_heap("cannot set the name", args[0], r);
	if (is_standard(n_args, args))
		return put_from(ctl->heap, STDIN_FILENO, "stdin", args[0]);
	fd = open(args[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return ctl_fail("cannot open", args[1], strerror(errno), file_advice(errno));
	r = put_from(ctl->heap, fd, args[1], args[0]);
	close(fd);
	return r;
}

/* Get */

static int get_to_stdout(const void *data, size_t n)
{
	int r = write_all(STDOUT_FILENO, data, n);

	if (r == -EPIPE)
		return CTL_BROKEN_PIPE;
	return r < 0 ? ctl_fail("cannot write", "stdout", strerror(-r), file_advice(-r)) : CTL_OK;
}

static int write_and_close(int fd, const void *data, size_t n)
{
	int r = write_all(fd, data, n);

	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

static int write_directly(const char *file, const void *data, size_t n)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		return ctl_fail("cannot open for writing", file, strerror(errno), file_advice(errno));
	return write_and_close(fd, data, n);
}

/* Give a new file the rights and the owner that `file` has, or the rights that it would be made with. */
static int set_rights(int fd, const char *file)
{
	struct stat st;
	mode_t mask;

	if (stat(file, &st) == 0) {
		if (fchown(fd, st.st_uid, st.st_gid) < 0)
			errno = 0; /* it is this user's then */
		return fchmod(fd, st.st_mode & 0777) < 0 ? -errno : 0;
	}
	mask = umask(0);
	umask(mask);
	return fchmod(fd, 0666 & ~mask) < 0 ? -errno : 0;
}

/* Write to a new file beside `file`, and give it that name. 1: no file can be made there. */
static int write_beside(const char *file, const void *data, size_t n)
{
	char beside[PATH_MAX];
	int fd, r;

	if (snprintf(beside, sizeof(beside), "%s.XXXXXX", file) >= (int)sizeof(beside))
		return 1;
	fd = mkostemp(beside, O_CLOEXEC);
	if (fd < 0)
		return 1;
	r = set_rights(fd, file);
	if (r == 0)
		r = write_and_close(fd, data, n);
	else
		close(fd);
	if (r == 0 && rename(beside, file) < 0)
		r = -errno;
	if (r < 0)
		unlink(beside);
	return r;
}

static int get_to_file(const char *file, const void *data, size_t n)
{
	char *target = realpath(file, NULL); /* a link stays one */
	struct stat st;
	int r = 1;

	if (!target || (stat(target, &st) == 0 && S_ISREG(st.st_mode)))
		r = write_beside(target ? target : file, data, n);
	if (r == 1)
		r = write_directly(file, data, n);
	free(target);
	return r < 0 ? ctl_fail("cannot write", file, strerror(-r), file_advice(-r)) : r;
}

static int get_object(pyheap *heap, pyheap_ref ref, int n_args, char **args)
{
	char type_name[PYHEAP_TYPE_NAME_MAX + 1] = "?", why[PYHEAP_TYPE_NAME_MAX + 64];
	pyheap_type type;
	int r;

	r = pyheap_typeof(heap, ref, &type);
	if (r < 0)
		return ctl_fail_heap("cannot get", args[0], r);
	if (type != PYHEAP_BYTES) {
		pyheap_type_name(heap, type, type_name);
		snprintf(why, sizeof(why), "it is of the type %s, not bytes", type_name);
		return ctl_fail("cannot get", args[0], why, "only bytes objects can be written to a file");
	}
	if (is_standard(n_args, args))
		return get_to_stdout(pyheap_data(heap, ref), (size_t)pyheap_size(heap, ref));
	return get_to_file(args[1], pyheap_data(heap, ref), (size_t)pyheap_size(heap, ref));
}

int run_get(struct ctl *ctl, int n_args, char **args)
{
	pyheap_ref ref;
	int r;

	r = pyheap_name_get(ctl->heap, args[0], &ref);
	if (r < 0)
		return ctl_fail_heap("cannot get", args[0], r);
	r = get_object(ctl->heap, ref, n_args, args);
	pyheap_decref(ctl->heap, ref);
	return r;
}
