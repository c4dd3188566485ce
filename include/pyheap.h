/* SPDX-License-Identifier: MIT */
/*
 * pyheap: a heap of reference-counted objects shared by the processes of one machine
 *
 * This header is the manual of libpyheap. The words: the *heap* is what one pyheapd serves; a *session* is one
 * connection of one client; a *ref* is a 64-bit name of an object, the same in every process; a *hold* is a session's
 * right to an object: while it holds, the object stays; a *slot* is a place inside an object that holds a ref.
 *
 * Returns.   Functions return 0 or more, or a negative errno, unless they say otherwise; pyheap_strerror() says what
 *            each means here. No function changes anything when it fails, and none writes to its `ret` then.
 * Any ref.   Every function that takes a ref may be given any 64-bit number: 0 and what can name no object give
 *            -EINVAL, an object that is gone gives -ESTALE. Neither touches memory outside the heap.
 * Units.     Sizes and offsets are bytes, times are milliseconds.
 * Threads.   A session is used by one thread at a time; several threads open a session each. Sessions of one process
 *            share one mapping of the heap, so that a pointer means the same to all its threads.
 * Death.     A process may be killed between any two instructions. Each call has then either happened as a whole or
 *            not at all; what only the dead process held is dropped by the daemon, what others hold stays.
 * fork().    The child's copy of a session answers -ECHILD to every call (NULL and errno ECHILD where the call returns
 *            a pointer) and never works on the parent's holds; the child opens its own. pyheap_close() frees the copy.
 * Daemon.    Without its daemon a session goes on with what it has. Only calls that need fresh memory wait for the
 *            daemon to come back, see pyheap_set_timeout(), and re-attach to it; in the end they answer -ECONNRESET.
 *            When the daemon was ended (SIGTERM) and took the heap down, every call answers -EPIPE.
 * Trust.     Clients of one heap map it for writing and so can damage it by stray writes; what is damaged is noticed
 *            (-EUCLEAN) rather than followed. Admit only programs that may trust each other.
 * Speed.     A session makes objects in pools of its own. Making, holding, reading and dropping those, as long as it
 * has handed them to nobody, takes no lock, no system call and no atomic read-modify-write; holding and reading what
 * was used lately is inline in the program, see the end. Handing over by a queue takes one compare-and-swap on each
 * side, and so does a first or last hold of another session's object, as long as the same session comes and goes; where
 * they take turns every second one goes under the global lock, and so does what frees an object with slots. Under it
 * slots and names are changed. Numbers.   A ref that was handed over by a slot, a queue or a name is held by
 * pyheap_incref() as said. One that came as a bare number (by a pipe, say), of an object that its maker has told the
 * heap of in no other way, costs a membarrier(2), some microseconds, the first time; -EOPNOTSUPP where a kernel or a
 * sandbox forbids that call to this process and its maker relies on it. Signals.   No function raises SIGPIPE or
 * installs a handler; none is async-signal-safe.
 */
#ifndef PYHEAP_H
#define PYHEAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pyheap pyheap; /* one session */
typedef uint64_t pyheap_ref;  /* names an object in every process; 0: none */
typedef uint32_t pyheap_type; /* one of the three below, or what pyheap_type_register() gave */

#define PYHEAP_BYTES ((pyheap_type)1) /* plain bytes, no slots */
#define PYHEAP_LIST  ((pyheap_type)2) /* nothing but slots: n refs of 8 bytes */
#define PYHEAP_QUEUE ((pyheap_type)3) /* a bounded queue of refs */

#define PYHEAP_NAME_MAX       255 /* longest name of an object, bytes without the NUL */
#define PYHEAP_TYPE_NAME_MAX  63  /* longest name of a type, bytes without the NUL */
#define PYHEAP_TYPE_SLOTS_MAX 256 /* most slots of one registered type */
#define PYHEAP_CLASSES        64  /* size classes of small objects, 8 bytes apart */

/* ---- session ---------------------------------------------------------------------------------------------------- */

/*
 * Open a session with the daemon that listens on `socket` (NULL: $PYHEAP_SOCKET, else /run/pyheap/pyheap.sock for root
 * and $XDG_RUNTIME_DIR/pyheap.sock for others). The caller owns *ret and ends it with pyheap_close().
 *
 * -ENOENT no such socket, -ECONNREFUSED nobody listens, -EACCES not admitted, -ENAMETOOLONG the path does not fit a
 * socket address, -EUSERS all sessions are taken, -EPROTO the daemon is of another version, -ETIMEDOUT it does not
 * answer, -ECONNRESET it went away meanwhile, -EUCLEAN what it handed over is no heap, -ENOMEM no room for the mapping.
 */
int pyheap_open(pyheap **ret, const char *socket);

/*
 * Drop every hold of the session and end it. Takes NULL. Returns NULL, so that `heap = pyheap_close(heap);` leaves no
 * dangling pointer. Pointers from pyheap_data() end with the last session of the process. The global lock is given
 * back, if this session has it; by another thread than the one that took it that cannot be done: see pyheap_lock().
 */
pyheap *pyheap_close(pyheap *heap);

/*
 * The session's descriptor, for poll(2): readable when the daemon has something to say, most often that it went away;
 * call pyheap_dispatch() then. It belongs to the session: neither read, write nor close it. Its number stays the same
 * over a restart of the daemon, the socket behind it does not: an epoll set has to be told of it again.
 */
int pyheap_fd(pyheap *heap);

/*
 * Take in what the daemon said, without waiting for more. When it is gone, wait for its successor (see
 * pyheap_set_timeout()) and be the same session there. 0: all is well. -ECONNRESET no daemon came, or it does not know
 * the session; -EPIPE the heap was taken down; -EPERM it is gone, and another thread of the session has the global
 * lock.
 */
int pyheap_dispatch(pyheap *heap);

/*
 * How long calls of this session that need the daemon wait for it, milliseconds: for its answer, and for its return
 * when it is being restarted. 0: not at all, -1: for ever, 10000 to begin with. Who has the global lock never waits for
 * a restart.
 */
int pyheap_set_timeout(pyheap *heap, int timeout_ms);

/*
 * What an error means in this heap's terms, as one static sentence in English. Takes the negative errno as returned
 * (or the positive one). Thread-safe, never NULL.
 */
const char *pyheap_strerror(int error);

/* The version of the library, "MAJOR.MINOR.PATCH". Static, thread-safe. */
const char *pyheap_version(void);

/* ---- objects ---------------------------------------------------------------------------------------------------- */

/*
 * Make an object of `size` bytes, held once by this session. Its slots are empty; its other bytes are as malloc's: not
 * cleared. The payload is aligned to 8, and to 16 where the size is a multiple of 16, or to what its type asks for;
 * above 512 bytes it starts on a page.
 *
 * For PYHEAP_LIST the size is 8 times the number of slots. For a registered type it is the type's size, or more where a
 * flexible array follows (0 stands for the type's size). Queues are made by pyheap_queue_new().
 *
 * -EINVAL no such type, or a size that it cannot have; -ENOMEM the heap, or the machine's shared memory, is full;
 * -ECONNRESET fresh memory was needed and the daemon is away, -ETIMEDOUT the daemon did not answer.
 */
int pyheap_new(pyheap *heap, pyheap_type type, size_t size, pyheap_ref *ret);

/* Make a PYHEAP_BYTES object with a copy of `size` bytes at `data` (NULL only where size is 0), held once. */
int pyheap_put(pyheap *heap, const void *data, size_t size, pyheap_ref *ret);

/*
 * Where the object's payload lies in this process. The pointer is good while something (a hold of this session, a name,
 * a slot of something held) keeps the object; aligned as pyheap_new() says. Concurrent reading and writing of the bytes
 * is the clients' own affair. The slots that lie in it are only to be read: they are changed by pyheap_list_set() and
 * pyheap_slot_set(). NULL with errno ESTALE, EINVAL (a queue has no payload for its users too) or ECHILD.
 */
void *pyheap_data(pyheap *heap, pyheap_ref ref);

/* The payload's size in bytes, as asked for when it was made. A list: 8 times its slots; a queue: 8 times its n. */
ssize_t pyheap_size(pyheap *heap, pyheap_ref ref);

/* The object's type. */
int pyheap_typeof(pyheap *heap, pyheap_ref ref, pyheap_type *ret);

/*
 * Hold the object once more. Also how a ref that arrived from elsewhere (a pipe, a slot, a message) is held at all.
 * -ENOMEM no room to write the hold down, -EOVERFLOW held too often (2^32 - 1 times), -EOPNOTSUPP see "Numbers" above.
 */
int pyheap_incref(pyheap *heap, pyheap_ref ref);

/*
 * Drop one of this session's holds. When it was the last right to the object anywhere, the object is taken down: what
 * its slots held is dropped too, iteratively, and its memory is free for others. -EPERM the object lives, but this
 * session does not hold it (any more).
 */
int pyheap_decref(pyheap *heap, pyheap_ref ref);

/*
 * How many rights to the object there are now: holds of all sessions, each as often as it was taken, slots, queue
 * places and names. As sys.getrefcount(), without its own temporary one.
 */
int64_t pyheap_refcount(pyheap *heap, pyheap_ref ref);

/* ---- lists ------------------------------------------------------------------------------------------------------ */

/* Make a list of n empty slots, held once. */
int pyheap_list_new(pyheap *heap, size_t n, pyheap_ref *ret);

/*
 * Put `ref` (0: nothing) into slot i; the slot has its own right to the object from now on, the session keeps its
 * holds. What was there before is dropped. -EINVAL not a list, -ERANGE i is past the end.
 */
int pyheap_list_set(pyheap *heap, pyheap_ref list, size_t i, pyheap_ref ref);

/* Take a new hold of what slot i has; *ret is 0 where it is empty. */
int pyheap_list_get(pyheap *heap, pyheap_ref list, size_t i, pyheap_ref *ret);

/* ---- types ------------------------------------------------------------------------------------------------------ */

typedef struct pyheap_type_spec {
	const char *name;    /* 1 to PYHEAP_TYPE_NAME_MAX bytes of UTF-8, what the type is known by */
	size_t size;         /* of the fixed part, bytes; at least 1 */
	size_t alignment;    /* a power of two up to 4096; 0: as pyheap_new() does without */
	size_t n_slots;      /* how many ref slots, at most PYHEAP_TYPE_SLOTS_MAX */
	const size_t *slots; /* their offsets: multiples of 8, ascending, within size; may be NULL for none */
} pyheap_type_spec;

/*
 * Make a struct type known to the heap, or find it: the same spec twice gives the same type, in any process. A type is
 * data, not code, so that any process can drop what a dead one's object held. Types stay as long as the heap.
 * -EEXIST the name is taken by another spec, -EINVAL the spec is wrong, -ENOSPC no room for more types.
 */
int pyheap_type_register(pyheap *heap, const pyheap_type_spec *spec, pyheap_type *ret);

/* Copy the name of a type ("bytes", "list", "queue" or a registered one), NUL-terminated. -EINVAL no such type. */
int pyheap_type_name(pyheap *heap, pyheap_type type, char ret[PYHEAP_TYPE_NAME_MAX + 1]);

/* As pyheap_list_set(), for the slot at byte `offset` of a struct. -EINVAL where the type has no slot there. */
int pyheap_slot_set(pyheap *heap, pyheap_ref obj, size_t offset, pyheap_ref ref);

/* As pyheap_list_get(), for the slot at byte `offset` of a struct. */
int pyheap_slot_get(pyheap *heap, pyheap_ref obj, size_t offset, pyheap_ref *ret);

/* ---- queues ----------------------------------------------------------------------------------------------------- */

/* Make a queue of at most n refs (n at least 1), many senders to many receivers, first in first out; held once. */
int pyheap_queue_new(pyheap *heap, size_t n, pyheap_ref *ret);

/*
 * Hand an object over: one of the caller's holds becomes the queue's. At every moment exactly one of sender, queue and
 * receiver has it, whoever is killed when. Where the call fails the caller keeps its hold.
 *
 * timeout_ms: negative waits for ever, 0 not at all (-EAGAIN when full), else that long (-ETIMEDOUT). -EPERM the caller
 * does not hold `ref`; -EDEADLK it would wait while this session has the global lock. -EINTR a signal handler ran while
 * it waited. The caller should hold the queue: then neither call takes the lock, makes a system call (unless somebody
 * sleeps) or waits for anybody. Who does not takes a hold for the length of the call: -ESTALE it was freed.
 * Without the lock means of an object that the caller holds once, or made itself; what it holds several times goes
 * under it, and so does receiving what one holds already. A sender or receiver that is stopped in the middle delays who
 * sleeps for its sake by a second at most.
 */
int pyheap_queue_push(pyheap *heap, pyheap_ref queue, pyheap_ref ref, int timeout_ms);

/* Receive: the queue's hold becomes the caller's. Timeouts and errors as pyheap_queue_push() (-EAGAIN when empty). */
int pyheap_queue_pop(pyheap *heap, pyheap_ref queue, pyheap_ref *ret, int timeout_ms);

/* ---- names ------------------------------------------------------------------------------------------------------ */

/*
 * Give an object a name: 1 to PYHEAP_NAME_MAX bytes of UTF-8. The name has its own right to the object; what had the
 * name before is dropped. -EINVAL empty or not UTF-8, -ENAMETOOLONG, -ENOMEM.
 */
int pyheap_name_set(pyheap *heap, const char *name, pyheap_ref ref);

/* Take a new hold of the object of that name. -ENOENT nothing has it. */
int pyheap_name_get(pyheap *heap, const char *name, pyheap_ref *ret);

/* Take the name away; the object goes when nothing else holds it. -ENOENT nothing has it. */
int pyheap_name_del(pyheap *heap, const char *name);

/*
 * Walk the names: start with *cursor 0 and call until it returns 0; each 1 gives a name and its object, which is not
 * held for the caller. Names that come and go meanwhile may be seen or not; all others are seen once.
 */
int pyheap_name_next(pyheap *heap, uint64_t *cursor, char name[PYHEAP_NAME_MAX + 1], pyheap_ref *ret);

/* ---- the global lock -------------------------------------------------------------------------------------------- */

/*
 * Take the global lock, for a change made of several calls; calls of this session made under it work as always. All
 * others wait meanwhile when they change anything that is shared (slots, queues, names, holds of others' objects), so
 * keep it short; with objects that nobody else knows they go on. Who was stopped in the middle of a push or a pop is
 * waited for only some milliseconds, and finishes it when it goes on. A death in between keeps the calls that were
 * finished and frees the lock. It is the calling thread's: until that gives it back, what the session does in another
 * thread is -EPERM where it needs the lock. When the thread ends without having given it back, the lock is free and the
 * session has it no more. When another thread closes the session, the lock is free when the one that took it ends or
 * next calls for another session of the heap, if that call needs the lock or closes it. (A process of another pid
 * namespace than the heap's is an exception: there any thread of the session works under the lock and gives it back.)
 * -EDEADLK this session has it already, or another one of this thread has; the latter also from any call that needs it.
 */
int pyheap_lock(pyheap *heap);

/* Give the global lock back. -EPERM this session does not have it, or another of its threads took it. */
int pyheap_unlock(pyheap *heap);

/* ---- looking at the heap ---------------------------------------------------------------------------------------- */

typedef struct pyheap_class_stats {
	uint32_t size;        /* bytes of a block of this class */
	uint32_t pool_blocks; /* blocks in one pool of this class */
	uint64_t n_pools;     /* pools of this class */
	uint64_t n_used;      /* blocks that are an object now */
	uint64_t n_available; /* blocks of those pools that are not */
} pyheap_class_stats;

typedef struct pyheap_stats {
	uint64_t heap_size;  /* bytes the heap may grow to */
	uint64_t arena_size; /* bytes of an arena */
	uint64_t pool_size;  /* bytes of a pool */
	pyheap_class_stats classes[PYHEAP_CLASSES];

	uint64_t n_arenas_allocated; /* arenas ever taken into use */
	uint64_t n_arenas_reclaimed; /* arenas given back */
	uint64_t n_arenas_highwater; /* most in use at one time */
	uint64_t n_arenas_current;   /* in use now */

	/* Where every byte of the current arenas is; the eight add up to bytes_total exactly. */
	uint64_t bytes_allocated_blocks; /* blocks that are objects */
	uint64_t bytes_available_blocks; /* blocks that are not, in pools that are in use */
	uint64_t bytes_unused_pools;     /* pools that are wholly free */
	uint64_t bytes_pool_headers;     /* the header words of the pools' blocks */
	uint64_t bytes_quantization;     /* what no block fits into at the end of a pool */
	uint64_t bytes_medium_objects;   /* objects of whole pools */
	uint64_t bytes_large_objects;    /* objects of whole arenas */
	uint64_t bytes_records;          /* the heap's own: hold tables and names */
	uint64_t bytes_total;            /* n_arenas_current * arena_size */

	uint64_t n_medium_objects;
	uint64_t n_large_objects;
	uint64_t n_names;
	uint64_t n_types;      /* registered ones */
	uint64_t n_sessions;   /* in use now */
	uint64_t max_sessions; /* that the heap has room for */

	uint64_t n_lock_acquisitions; /* times the global lock was taken */
	uint64_t n_lock_recoveries;   /* times its owner was found dead and its change taken back */
	uint64_t n_lock_waits;        /* times that somebody had to wait for it */
	uint64_t lock_wait_ns;        /* how long, all together */
	uint64_t lock_wait_max_ns;    /* the longest time */
	uint64_t n_locks_timed;       /* times that it was looked how long it was held, one in 64 */
	uint64_t lock_held_ns;        /* how long, all together */
	uint64_t lock_held_max_ns;    /* the longest time of those */

	uint64_t n_pools_claimed;   /* pools, and runs of them, that came to a session to make its objects in */
	uint64_t n_blocks_returned; /* blocks that another session freed than the one that made the object */
} pyheap_stats;

/*
 * Read the heap's figures. They are counted without the lock: each pool as what it is when it is looked at, and the sum
 * of bytes is exact also while others change the heap. It takes some 0.2 ms per million small objects. In C a type and
 * a function cannot share a name, so pyheap_stats(heap, ret) is a macro for pyheap_get_stats(), which other languages
 * bind.
 */
int pyheap_get_stats(pyheap *heap, pyheap_stats *ret);
#define pyheap_stats(heap, ret) pyheap_get_stats((heap), (ret))

typedef struct pyheap_client_info {
	uint32_t session; /* its slot in the session table */
	int32_t pid;      /* as the daemon saw it when it connected; 0: of another pid namespace */
	uint32_t uid;
	uint32_t gid;
	uint64_t n_holds;    /* different objects that it holds */
	uint64_t start_time; /* of the process, clock ticks since boot, as in /proc/PID/stat */
	uint8_t self;        /* 1: this very session */
	uint8_t has_lock;    /* 1: it has the global lock at this moment */
	uint8_t dead;        /* 1: it is gone and being reclaimed */
	char program[40];    /* what the process called itself when it connected, cut to fit, NUL-terminated */
} pyheap_client_info;

/* Walk the sessions: start with *cursor 0, until it returns 0; each 1 fills *ret. */
int pyheap_client_next(pyheap *heap, uint64_t *cursor, pyheap_client_info *ret);

/*
 * Compare every derived figure and list of the whole heap (free lists, bitmaps, counters, arena order, counts) with the
 * truth (header words, hold tables, slots, names). The global lock is taken for the length of the walk (some 0.2 s per
 * million objects), so everyone else's changes wait. Then calls `report` (may be NULL) with one line per fault, the
 * first 1000 of them. Returns the number of faults. -ENOMEM no (process-private) memory for the walk.
 */
int64_t pyheap_check(pyheap *heap, void (*report)(void *userdata, const char *fault), void *userdata);

/*
 * As pyheap_check(), and mend what is found: everything derived is made anew from the truth, counts become what hold
 * tables, slots, queues and names say, rights to what is not alive are taken away, what nobody has a right to is
 * dropped. Clients may go on working; their changes wait meanwhile. Returns the number of faults that there were, all
 * mended, or -EUCLEAN where some are left (reported once more at the end). Cut short by a death, it is finished by
 * whoever next needs the global lock; calls of a process that may not use membarrier(2) wait a second for one that may,
 * then give -EOPNOTSUPP.
 */
int64_t pyheap_repair(pyheap *heap, void (*report)(void *userdata, const char *fault), void *userdata);

/* ---- the most frequent calls, inline ----------------------------------------------------------------------------- */

/*
 * As with Py_INCREF(): where GCC or Clang optimizes, pyheap_data(), pyheap_incref() and pyheap_decref() do in place
 * what they do most often: look where an object lies that the session used lately, and hold once more or less one that
 * it made itself and goes on holding. pyheap_new() looks at its arguments there where the type is a constant. Anything
 * else goes into the library, which has all four whole: for other languages, and for pointers to them.
 *
 * PYHEAP_NO_INLINE leaves the inline ones out: for who makes bindings from this header, or replaces these calls
 * (LD_PRELOAD, --wrap, a test's mock).
 *
 * What is declared here is for these calls alone, and programs call none of it. It is part of the library's ABI and
 * changes with its soname.
 */

#define PYHEAP_INLINE_FACTOR 0xea956e0dU /* where a ref stands: the upper 8 bits of the product of its lower half */
#define PYHEAP_INLINE_SHIFT  24
#define PYHEAP_INLINE_HOLDS  127 /* how often a word can count */
#define PYHEAP_INLINE_SIZE   512 /* of the largest block, bytes */
#define PYHEAP_INLINE_CLASS  8   /* from one class to the next */

/* An object that the session used lately. In its process's own memory; the session writes it. */
struct pyheap_recent {
	pyheap_ref ref; /* what stands here now */
	uint64_t *word; /* of one in a pool of the session's own: where it counts its holds; else NULL */
	uint64_t word1; /* with it: what is there where the session holds it once; each hold more adds 1 */
	void *reserved0;
	void *data; /* NULL: it is not known, or there is none */
	uint64_t reserved1[3];
};

/* What a session begins with; the same as long as it is open. */
struct pyheap_inline {
	struct pyheap_recent *recent; /* 256 of them, which the kernel empties in a forked child */
	const uint64_t *ended; /* in shared memory; the daemon writes it: all bits once it took the heap down, else 0 */
};

/* The four, by names that are never inline. */
int pyheap_whole_new(pyheap *heap, pyheap_type type, size_t size, pyheap_ref *ret);
void *pyheap_whole_data(pyheap *heap, pyheap_ref ref);
int pyheap_whole_incref(pyheap *heap, pyheap_ref ref);
int pyheap_whole_decref(pyheap *heap, pyheap_ref ref);

/* pyheap_new() of 1 to 512 bytes, of the class that they are of. Neither pointer is NULL. */
int pyheap_new_bytes(pyheap *heap, size_t size_class, size_t size, pyheap_ref *ret);

/* pyheap_decref() of what stands at `recent`, by whose word it is held once; and of what does not stand where it would.
 * `heap` is not NULL. */
int pyheap_decref_last(pyheap *heap, pyheap_ref ref, struct pyheap_recent *recent);
int pyheap_decref_other(pyheap *heap, pyheap_ref ref);

#if defined(__GNUC__) && !defined(PYHEAP_NO_INLINE)
#define PYHEAP_EXTERN_INLINE extern __inline__ __attribute__((__gnu_inline__))
#define PYHEAP_ALWAYS_INLINE PYHEAP_EXTERN_INLINE __attribute__((__always_inline__))

/* Where ref would stand. */
PYHEAP_ALWAYS_INLINE struct pyheap_recent *pyheap_inline_place(const struct pyheap_inline *head, pyheap_ref ref)
{
	return &head->recent[(uint32_t)ref * PYHEAP_INLINE_FACTOR >> PYHEAP_INLINE_SHIFT];
}

/* Where ref stands; NULL: nowhere. */
PYHEAP_ALWAYS_INLINE struct pyheap_recent *pyheap_inline_find(const struct pyheap_inline *head, pyheap_ref ref)
{
	struct pyheap_recent *recent;

	if (__builtin_expect(!head, 0))
		return NULL;
	recent = pyheap_inline_place(head, ref);
	return __builtin_expect(recent->ref == ref, 1) ? recent : NULL;
}

/* Is n at most max, and is there a heap still? relaxed: nothing is read on the strength of it */
PYHEAP_ALWAYS_INLINE int pyheap_inline_may(const struct pyheap_inline *head, uint64_t n, uint64_t max)
{
	return (n | __atomic_load_n(head->ended, __ATOMIC_RELAXED)) <= max;
}

PYHEAP_EXTERN_INLINE int pyheap_new(pyheap *heap, pyheap_type type, size_t size, pyheap_ref *ret)
{
	/* A size of 0 is very large. */
	if (__builtin_constant_p(type) && type == PYHEAP_BYTES &&
		__builtin_expect(heap && ret && size - 1 < PYHEAP_INLINE_SIZE, 1))
		return pyheap_new_bytes(heap, (size - 1) / PYHEAP_INLINE_CLASS, size, ret);
	return pyheap_whole_new(heap, type, size, ret);
}

PYHEAP_EXTERN_INLINE void *pyheap_data(pyheap *heap, pyheap_ref ref)
{
	const struct pyheap_inline *head = (const struct pyheap_inline *)(const void *)heap;
	const struct pyheap_recent *recent = pyheap_inline_find(head, ref);

	/* Not NULL, and there is a heap still. relaxed: as above */
	if (__builtin_expect(recent && (uintptr_t)recent->data > __atomic_load_n(head->ended, __ATOMIC_RELAXED), 1))
		return recent->data;
	return pyheap_whole_data(heap, ref);
}

PYHEAP_EXTERN_INLINE int pyheap_incref(pyheap *heap, pyheap_ref ref)
{
	const struct pyheap_inline *head = (const struct pyheap_inline *)(const void *)heap;
	const struct pyheap_recent *recent = pyheap_inline_find(head, ref);
	uint64_t word;

	if (__builtin_expect(!recent || !recent->word, 0))
		return pyheap_whole_incref(heap, ref);
	/* relaxed, both: while the session holds it nobody else stores there; nobody's doing depends on how often it
	 * does, beyond once */
	word = __atomic_load_n(recent->word, __ATOMIC_RELAXED);
	/* How often more than once; very large if it is another object's word. */
	if (__builtin_expect(!pyheap_inline_may(head, word - recent->word1, PYHEAP_INLINE_HOLDS - 2), 0))
		return pyheap_whole_incref(heap, ref);
	__atomic_store_n(recent->word, word + 1, __ATOMIC_RELAXED);
	return 0;
}

PYHEAP_EXTERN_INLINE int pyheap_decref(pyheap *heap, pyheap_ref ref)
{
	const struct pyheap_inline *head = (const struct pyheap_inline *)(const void *)heap;
	struct pyheap_recent *recent;
	uint64_t word, n_more;

	if (__builtin_expect(!heap, 0))
		return pyheap_whole_decref(heap, ref);
	recent = pyheap_inline_place(head, ref);
	if (recent->ref != ref)
		return pyheap_decref_other(heap, ref);
	if (__builtin_expect(!recent->word, 0))
		return pyheap_whole_decref(heap, ref);
	/* relaxed, both: as in pyheap_incref() */
	word = __atomic_load_n(recent->word, __ATOMIC_RELAXED);
	n_more = word - recent->word1;
	if (!n_more)
		return pyheap_decref_last(heap, ref, recent);
	if (__builtin_expect(!pyheap_inline_may(head, n_more, PYHEAP_INLINE_HOLDS - 1), 0))
		return pyheap_whole_decref(heap, ref);
	__atomic_store_n(recent->word, word - 1, __ATOMIC_RELAXED);
	return 0;
}

#undef PYHEAP_EXTERN_INLINE
#undef PYHEAP_ALWAYS_INLINE
#endif

#ifdef __cplusplus
}
#endif

#endif
