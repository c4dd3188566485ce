// SPDX-License-Identifier: MIT
/*
 * Errors in this heap's terms
 *
 * One sentence for each errno that pyheap.h names, made to stand behind a colon: no capital, no full stop. A test takes
 * the list from the header, so that none can be forgotten.
 */
#include "client/session.h"

#include "version.h"

#include <limits.h>

PYHEAP_PUBLIC const char *pyheap_strerror(int error)
{
	switch (error < 0 && error > INT_MIN ? -error : error) {
	case 0:
		return "no error";
	case EACCES:
		return "this user is not admitted to the heap, or may not reach its socket";
	case EAGAIN:
		return "the queue is full or empty, and waiting was not asked for";
	case EBUSY:
		return "somebody else has the global lock at this moment";
	case ECHILD:
		return "the session belongs to the parent process: after fork() the child opens its own";
	case ECONNREFUSED:
		return "nobody listens on the socket";
	case ECONNRESET:
		return "the daemon is away, and only it can give fresh memory";
	case EDEADLK:
		return "this session or thread has the global lock already and would wait for itself";
	case EEXIST:
		return "another type has that name";
	case EINTR:
		return "a signal handler ran while the call waited";
	case EINVAL:
		return "the arguments can name no such object, type, slot, size or name";
	case EMFILE:
	case ENFILE:
		return "too many files are open for another session";
	case ENAMETOOLONG:
		return "the name is longer than a name, or a socket's path, can be";
	case ENOENT:
		return "nothing has that name, or there is no such socket";
	case ENOMEM:
		return "there is no room: the heap or the machine's memory is full";
	case ENOSPC:
		return "there is no room for more types";
	case EOPNOTSUPP:
		return "this kernel lets the process not use membarrier(2), which finding an object by its bare number "
		       "needs, and finishing a repair that was cut short";
	case EOVERFLOW:
		return "the object is held more often than can be counted";
	case EPERM:
		return "this session does not hold the object, or this thread of it does not have the lock";
	case EPIPE:
		return "the daemon was ended and took the heap down";
	case EPROTO:
		return "the daemon is of another version than this library, or no pyheapd";
	case ERANGE:
		return "the index is past the end of the list";
	case ESTALE:
		return "the object is gone";
	case ETIMEDOUT:
		return "it did not happen, or the daemon did not answer, in time";
	case EUCLEAN:
		return "the heap is damaged, or what the daemon handed over is no heap";
	case EUSERS:
		return "all sessions of the heap are taken";
	default:
		return "an error that is not the heap's own";
	}
}

PYHEAP_PUBLIC const char *pyheap_version(void)
{
	return PYHEAP_VERSION;
}
