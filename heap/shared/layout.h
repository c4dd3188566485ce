/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What lies in shared memory, and who writes it
 *
 * Two POSIX shared memory objects make a heap. The *control* segment has the manager's records at fixed places: this
 * header, the counters, the global lock with its undo log, the sessions, types, name buckets, arenas and pools. The
 * *heap* segment is a sparse file: arena i lies at i * arena_size, pool p at p * 4 KiB.
 *
 * Shared memory has offsets, indices and positions, and never pointers. An index or position that may be none is kept
 * plus one, so that 0, the content of fresh memory, means none; the names of such members end in 1 (`next1`).
 *
 * Who writes a member is said beside it:
 *   locked   the owner of the global lock, through the undo log (heap_set(), log.h)
 *   daemon   the daemon alone, without the lock
 *   owner    the session that owns the pool, by plain stores inside a critical section (critical.c); or the owner of
 *            the lock, through the log, while that session is kept out of its critical sections, or is dead
 *   nothing  written once, before the segment is handed out
 *
 * A ref is a position and a generation. Bits 0..35 are the payload's offset in the heap segment in units of 8 bytes, so
 * 512 GiB can be named; bits 36..63 are the generation, which is never 0. Each pool counts its generations in the
 * control segment, where they outlive the arena's memory; every block that the pool hands out gets the next one. So an
 * old ref differs from the ref of what lies in its block now, until the pool has made 2^28 objects more.
 *
 * The header word is the one truth of whether a block is alive. The headers of a pool's blocks are together at the
 * start of its page, for two reasons: collecting remote frees reads a page of them fast, and a client that writes past
 * the end of its object hits its neighbour's payload before any header. An object of whole pools or arenas has its
 * header in the control segment, in the entry of its first pool, so that its payload starts on a page and wastes none.
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_MAGIC   UINT64_C(0x0070616568797001) /* "\1pyheap\0" */
#define LAYOUT_VERSION 8U

#define ARENA_SIZE_DEFAULT (UINT32_C(256) << 10)
#define ARENA_SIZE_MIN     (UINT32_C(64) << 10)
#define ARENA_SIZE_MAX     (UINT32_C(4) << 20)
#define HEAP_SIZE_MAX      (UINT64_C(512) << 30) /* what the position of a ref can name */

#define POOL_SIZE           4096U
#define POOL_SHIFT          12U
#define POOLS_PER_ARENA_MAX (ARENA_SIZE_MAX / POOL_SIZE)

#define BLOCK_ALIGNMENT  8U
#define BLOCK_SIZE_MAX   512U   /* largest small object; their classes are the first N_SMALL_CLASSES */
#define MEDIUM_SIZE_MAX  32704U /* largest medium object; larger ones take runs of pools or of arenas */
#define MEDIUM_ALIGNMENT 64U    /* of medium blocks, and of their sizes */
#define N_SMALL_CLASSES  64U
#define N_CLASSES        128U /* a power of two; not all of them are used */
#define CLASS_NONE       255U

#define REF_POSITION_BITS 36U
#define REF_POSITION_MASK ((UINT64_C(1) << REF_POSITION_BITS) - 1)
#define GENERATION_MAX    ((UINT32_C(1) << 28) - 1)

#define SESSIONS_MAX     4096U
#define SESSIONS_DEFAULT 512U
#define TYPES_MAX        1024U
#define TYPE_SLOTS_MAX   16384U /* offsets of all registered types together */
#define LOG_CAPACITY     8192U
#define HOLDS_INLINE     64U              /* entries of a hold table that needs no memory of its own */
#define SPARE_RUN_MAX    16U              /* pools of the longest free run that a session keeps for its next object */
#define SESSION_DAEMON   (UINT32_MAX - 1) /* in place of a session's index: the daemon itself */

/* Header of an object */

/*
 * word     bits 0..6    how many holds the session that owns the pool has, without its hold table
 *          bits 7..9    enum object_state
 *          bits 10..24  size of the payload, of a block; a run has it in its pool's entry
 *          bits 25..35  the type
 *          bits 36..63  the generation
 *   Of a free block bits 20..35 are the link instead: the next block of the free list plus one; bits 0..19 are 0.
 *   A pool's headers are zeroed when it takes a class. So the word 0 is a block that was never carved, or the last of
 *   those that were carved together and never handed out.
 *
 * rights   how many rights to the object others have: sessions by their hold tables, slots, cells of queues, names.
 *   number of rights = (rights_counted >> 2) + rights_given, modulo 2^30
 *     rights_counted   bits 2..31 the rights that were counted, which may be less than 0; bits 0..1 RIGHTS_LOCKED and
 *                      RIGHTS_SHARED
 *     rights_given     rights that the pool's owner gave away
 *   biased1 is the one session, plus one, that may change rights_counted without the lock. 0: any session may, and
 *   becomes it. BIAS_READERS: no session may, but sessions may hold the object uncounted, by their hold tables alone
 *   (readers.c). BIAS_UNCOUNTED: the same, and one right stands for all uncounted holds; nobody else has any.
 * RIGHTS_SHARED is set once others may know the object, and stays for the object's life. RIGHTS_LOCKED: the owner of
 * the lock is changing the header. See count.c. A block that is free has 0 here, a remotely freed one RIGHTS_SHARED, a
 * dying object the position of the next dying object of its session, plus one, times RIGHTS_ONE, and in bits
 * 48..63, of a block, how many of its slots are dropped.
 *
 * An object is alive while its state is LIVE and the holds of its pool's owner or the number of rights are not 0.
 */
struct object_header {
	uint64_t word; /* owner while it holds the object; else locked, with RIGHTS_LOCKED; from LIVE to REMOTE_FREE
			  also by the session that drops the last right. The truth about the object */
	union {
		struct {
			uint32_t rights_counted; /* locked, with RIGHTS_LOCKED; or the session of biased1, with the
						    word */
			uint16_t biased1;        /* as rights_counted, but not logged; to BIAS_READERS any session, with
						    the word; from there on locked, with RIGHTS_LOCKED */
			uint16_t rights_given;   /* owner while it holds the object; else locked, with RIGHTS_LOCKED */
		};
		uint64_t rights; /* all three */
	};
};

#define OWN_HOLDS_MAX    UINT64_C(127) /* what the word can count; further holds go into the hold table */
#define RIGHTS_LOCKED    UINT32_C(1)
#define RIGHTS_SHARED    UINT32_C(2)
#define RIGHTS_ONE       UINT32_C(4)
#define RIGHTS_MAX       (UINT32_MAX / RIGHTS_ONE)
#define RIGHTS_GIVEN_MAX UINT16_MAX
#define BIAS_READERS     UINT16_MAX /* in place of a session, see readers.c */
#define BIAS_UNCOUNTED   (UINT16_MAX - 1U)

enum object_state {
	STATE_FREE = 0,
	STATE_LIVE = 1,
	STATE_DYING = 2,       /* nobody has a right to it: on the deferred free list of a session */
	STATE_MAKING = 3,      /* allocated, its slots not finished yet: the making1 of a session */
	STATE_REMOTE_FREE = 4, /* freed by another session than the pool's owner, which has not collected it */
};

/* Types that are there from the start. A ref of one of the heap's own records (HOLDS, NAME) is refused outside. */
enum record_type {
	TYPE_NONE = 0,
	TYPE_BYTES = 1,
	TYPE_LIST = 2,
	TYPE_QUEUE = 3,
	TYPE_HOLDS = 4, /* record: the hold table of a session */
	TYPE_NAME = 5,  /* record: a name entry */
	TYPE_FIRST_REGISTERED = 16,
};

/* Lists */

/* The neighbours of an entry in a doubly linked list, see list.h. */
union list_links {
	struct {
		uint32_t next1;
		uint32_t prev1;
	};
	uint64_t both;
};

/* Pools */

enum pool_kind {
	POOL_FREE = 0,   /* free, or any pool of a run but its first */
	POOL_BLOCKS = 1, /* blocks of one class: a pool of small ones, or the first pool of a span of medium ones */
	POOL_RUN = 2,    /* the first pool of a run: one object of whole pools or arenas */
	POOL_BODY = 3,   /* any pool of a span but its first */
};

/*
 * One entry for each pool of the heap segment. A pool that no session owns (owner1 is 0) is changed under the lock
 * alone. Members that share a word are logged together, and mostly changed by one store to the word.
 *
 * Medium blocks lie in spans: n_pools adjacent pools of one arena (size_class.h), which are one pool in all but their
 * length. All headers stand at the start of the first pool, whose entry speaks for the span. The entries of the others
 * are POOL_BODY, with its class and owner, and say in span_index how far away it is. Only the generations are counted
 * by each of them, for the blocks that begin in it: so a ref differs from all that its place had before, as whatever.
 *
 * Of a pool of blocks (n_blocks in size_class.h):
 *   n_carved  = n_used + length of the freeblock list
 *   n_used    = blocks that are LIVE, DYING, MAKING or REMOTE_FREE
 *   has room  = freeblock1 or n_carved < n_blocks; then it is on usedpools, of its owner or else of its space
 *   is_on_remote_list = it has blocks that are REMOTE_FREE, but for those whose remote free is not notified yet
 * Of a run: run_size <= run_n_pools * POOL_SIZE, and the pools behind the first are POOL_FREE and in no freepools.
 */
struct pool_entry {
	union {
		struct {
			uint8_t kind;       /* locked: enum pool_kind */
			uint8_t size_class; /* locked: the class of its headers and free list; kept while POOL_FREE, as
					       CPython keeps szidx */
			uint16_t owner1;    /* locked: the session that makes objects in it, plus one */
		};
		uint32_t identity; /* all three, read at once */
	};
	uint32_t generation; /* owner: the last one handed out, 1..GENERATION_MAX; never reset */

	union {
		struct {
			uint16_t n_used;     /* owner: blocks that are not free */
			uint16_t n_carved;   /* owner: nextoffset, in blocks: those from here on are untouched */
			uint16_t span_index; /* locked: of POOL_BODY: the span's first pool is that many before it */
			uint16_t freeblock1; /* owner: the block freed last; the top bits of counts: one shift */
		};
		uint64_t counts; /* all three, which the owner reads and mostly stores at once */
	};

	struct object_header header; /* of the run that starts here */

	union {
		struct {
			uint32_t next1; /* owner: in usedpools[class], of its owner or of its space */
			uint32_t prev1; /* owner */
		};
		union list_links links; /* both */
	};
	union {
		struct {                        /* of a run */
			uint64_t run_size;      /* owner: its payload, bytes */
			uint32_t run_n_pools;   /* locked: its pools, of all its arenas */
			uint32_t run_n_dropped; /* locked: how many of its slots are dropped, while it is dying */
		};
		struct { /* of a pool of blocks that a session owns; all locked */
			union {
				struct {
					uint32_t remote_next1; /* in its owner's remote_pools */
					uint32_t remote_prev1;
				};
				union list_links remote_links; /* both */
			};
			union {
				struct {
					uint16_t is_on_remote_list; /* it is on remote_pools */
					uint16_t is_notified; /* not logged: a remote free need not put it there; see
							     count.c */
					uint32_t reserved2;
				};
				uint64_t remote_flags; /* both */
			};
		};
	};
	union {
		struct {
			uint32_t owned_next1; /* locked: in its owner's owned_pools, with all classes and runs */
			uint32_t owned_prev1; /* locked */
		};
		union list_links owned_links; /* both */
	};
};

/* Arenas */

/*
 * Which process makes each transition:
 *
 *            daemon            session          any session          daemon
 *   HOLE --> MAPPING --> GRANTED --> POOLS ---------------------> RETURNING --> HOLE
 *                                \-> RUN --> RETURNABLE --------/
 *                                     ^----------/ \--> POOLS
 *
 * A run of n arenas has its state at its head; the others are BODY. A run that is free may be cut into runs, and those
 * that follow each other may become one.
 */
enum arena_state {
	ARENA_HOLE = 0,       /* not there: no memory, not mapped */
	ARENA_MAPPING = 1,    /* daemon: is being allocated and mapped for session1 */
	ARENA_GRANTED = 2,    /* daemon: has memory, and session1 may take it into use */
	ARENA_POOLS = 3,      /* locked: is of pools: on usable_arenas, or without a free pool */
	ARENA_RUN = 4,        /* locked: is one large object */
	ARENA_RETURNABLE = 5, /* locked: was a large object; on returnable_arenas */
	ARENA_RETURNING = 6,  /* locked to become so, then daemon: is being unmapped and punched */
	ARENA_BODY = 7,       /* as its head: of the run whose head counts it in n_arenas */
};

struct arena_entry {
	uint32_t state;        /* enum arena_state, which says who writes it */
	uint32_t session1;     /* daemon: the session that it was granted to, plus one */
	uint32_t n_arenas;     /* as the state: length of the run whose head this is */
	uint32_t space;        /* locked: enum space_kind of its pools */
	uint32_t n_free_pools; /* locked: CPython's nfreepools: bits that are set in its freepools */
	uint32_t free_since;   /* locked: clock_ms when it became wholly free, or the run RETURNABLE */
	union {
		struct {
			uint32_t next1; /* locked: in usable_arenas or returnable_arenas */
			uint32_t prev1; /* locked */
		};
		union list_links links; /* both */
	};
	uint64_t reserved1[4];
};

/* Rank of an arena by its free pools: 0 none is free, 1 to 8 by eighths, RANK_FREE all are; see arena_rank(). */
#define RANK_FREE 9U
#define N_RANKS   (RANK_FREE + 1)

/* Spaces */

/* Memory for the manager's own records is kept apart from memory for objects: each space has pools and arenas. */
enum space_kind {
	SPACE_OBJECTS = 0,
	SPACE_RECORDS = 1,
	N_SPACES = 2,
};

struct space {
	uint32_t usedpools1[N_CLASSES]; /* locked: per class the first pool with room that nobody owns */
	uint32_t usable_arenas1;        /* locked: the first arena with free pools; ascending by rank */
	uint32_t n_free_arenas;         /* locked: arenas of RANK_FREE among them */
	uint32_t rank2lasta1[N_RANKS];  /* locked: the last usable arena of each rank */
};

/* Sessions */

enum session_state {
	SESSION_FREE = 0,
	SESSION_ACTIVE = 1,
	SESSION_DEAD = 2, /* its process has ended, or it has said goodbye: is being reclaimed */
};

/*
 * The low two bits of `attachment`. The other bits are of the session's token, so that an offer belongs to one
 * admission and no other. Session and daemon leave OFFERED by compare-and-swap: the first one wins.
 */
enum attachment {
	ATTACHMENT_OFFERED = 0, /* daemon: admitted; the client may not know of it */
	ATTACHMENT_TAKEN = 1,   /* session: in use until its process ends or it is closed */
	ATTACHMENT_CLOSED = 2,  /* session: has dropped everything and goes; daemon: nobody has taken it */
	ATTACHMENT_MASK = 3,
};

/* An entry of a hold table, which is a hash table with linear probing. */
struct hold {
	uint64_t ref; /* locked, or the session alone with an intent: what it holds, or HOLD_EMPTY */
	union {
		struct {
			uint32_t count; /* locked, or the session alone from 1 up: how often; says nothing where ref is
					   HOLD_EMPTY */
			uint32_t is_uncounted; /* as ref: 1: the object's header does not count this hold; else 0 */
		};
		uint64_t how; /* both */
	};
};

#define HOLD_ONCE           UINT64_C(1)              /* `how`: counted, once */
#define HOLD_ONCE_UNCOUNTED (UINT64_C(1) << 32 | 1U) /* `how`: uncounted, once */

#define HOLD_EMPTY UINT64_C(0)

/* What a session must do, with the lock, before its next critical section. Bits of `requests`. */
enum request {
	REQUEST_BLOCK = 1,    /* wait for the lock, whose owner keeps the session out */
	REQUEST_STRANGER = 2, /* notice that a stranger may hold an object that the session alone knew */
	REQUEST_COLLECT = 4,  /* collect remotely freed blocks */
	REQUEST_ENDED = 8,    /* fail: the heap has ended; this bit stays */
	REQUEST_REBUILD = 16, /* make its own lists and counts anew, which may be half made; see rebuild.c */
};

/* Is the session in a critical section? See critical.c. */
enum activity {
	ACTIVITY_NONE = 0,   /* daemon, from ACTIVITY_DONE: not, and has not been since */
	ACTIVITY_ACTIVE = 1, /* session: it is active */
	ACTIVITY_DONE = 2,   /* session: it is not */
};

/*
 * What a session is about to do without the lock, or in steps that are committed one by one. The intent is complete
 * before the session enters its critical section, and is the truth about one right: see queue.c and, for holding and
 * dropping, count.c. Each kind says who has the right, step by step.
 */
enum intent_kind {
	INTENT_NONE = 0,
	INTENT_RIGHT = 1,      /* the intent */
	INTENT_PUSH = 2,       /* the hold table, then the intent, then the cell */
	INTENT_PUSH_RIGHT = 3, /* the intent, then the cell */
	INTENT_PUSH_OWN = 4,   /* the pool's owner, by the header word; then, given away, the intent, then the cell */
	INTENT_POP = 5,        /* the cell, then the intent, then the hold table */
	INTENT_POP_RIGHT = 6,  /* the cell, then the intent */
	INTENT_HOLD = 7,       /* nobody, then, counted, the intent, then the hold table */
	INTENT_DROP = 8,       /* the hold table, then nobody: not counted, and not in the table */
	INTENT_READ = 9,       /* nobody, then, uncounted, the hold table */
	INTENT_UNREAD = 10,    /* the hold table, uncounted, then nobody */
};

/* Written by the session; once that is dead, by the owner of the lock. */
struct intent {
	uint64_t ref;
	uint64_t queue;    /* ref of the queue, which the session holds; to read: what else it reads, see read.c */
	uint64_t position; /* in the queue; to hold or drop: rights_counted before, or INTENT_UNKNOWN */
	uint64_t word;     /* bits 0..3 enum intent_kind, stored last; bits 4..63 the intent's number, stored first */
};

struct session_entry {
	uint32_t state;      /* daemon: enum session_state */
	int32_t pid;         /* daemon: of the process, in the daemon's pid namespace; 0: it has none there */
	uint64_t start_time; /* daemon: of the process, clock ticks since boot: pid and start_time name it for good */
	uint32_t uid;        /* daemon */
	uint32_t gid;        /* daemon */
	uint64_t token[2];   /* daemon: by which a client resumes the session */
	char program[40];    /* daemon: name of the process, NUL-terminated */

	uint64_t holds_position1;     /* locked: position of the hold table, plus one; 0: holds_inline */
	uint64_t new_holds_position1; /* locked: position of the table that is being filled to replace it, plus one */
	uint32_t holds_shift;         /* locked: log2 of the table's entries */
	uint32_t attachment;          /* enum attachment, which says who writes it */
	uint64_t n_holds;             /* as the table: its entries that are not HOLD_EMPTY */
	uint64_t dying1;              /* locked: position of the first object of its deferred free list, plus one */
	uint64_t making1;             /* locked: position of the object that it is making, plus one */
	uint64_t pid_namespace;       /* daemon: inode of the pid namespace that pid is a number of */

	uint64_t intent_before;   /* session, with its intent: n_holds, or rights_given, before; or INTENT_UNKNOWN */
#define INTENT_UNKNOWN UINT64_MAX /* nothing has changed yet */
	uint64_t waits_at;        /* session: the queue that it waits at; 0: none. See queue_wait.c */
	uint64_t displaced;       /* locked: a ref that a place of before had, whose right is to be dropped; 0: none */
	uint64_t displaced_name1; /* locked: position of a name that is deleted, plus one, which is to be freed */
	uint32_t max_types;       /* daemon: types that its user may have registered; 0: no limit */
	uint32_t reserved4;
	uint64_t reserved0[2];

	uint64_t n_own_holds; /* owner: objects in its own pools that it holds; for reports */
	uint32_t requests;    /* owner of the lock, without the log, and the daemon: enum request; see critical.c */
	uint32_t is_fenced;   /* session: it executes barriers itself; see critical.c */
	uint32_t activity;    /* enum activity, which says who writes it */
	uint32_t reserved1;
	uint64_t n_blocks_returned; /* session: remote frees without the lock; go to figures when it is reclaimed */
	struct intent intent;

	uint32_t usedpools1[N_CLASSES];      /* owner: per class its first pool with room */
	uint32_t spare_runs1[SPARE_RUN_MAX]; /* owner: a free run of 1, 2, ... pools that it keeps */

	uint32_t owned_pools1;   /* locked: the first of all pools and runs that it owns */
	uint32_t remote_pools1;  /* locked: the first of them with remotely freed blocks */
	uint32_t n_remote_frees; /* owner of the lock, not logged: moves with each remote free of its blocks */
	uint32_t reserved2;
	uint64_t done;          /* locked: the intent of this number has taken place, and its traces may be gone */
	uint64_t done_counting; /* owner of the lock, not logged: as `done`, of an intent to hold or to drop */
	uint64_t reserved3[4];

	struct hold holds_inline[HOLDS_INLINE]; /* locked */
};

/* Types and names */

struct type_entry {
	char name[64]; /* locked, as all of it; never changed once n_types counts it */
	uint64_t size;
	uint32_t alignment;
	uint32_t n_slots;
	uint32_t first_slot; /* into type_slots */
	uint32_t uid;        /* the user who has registered it */
	uint64_t reserved1[5];
};

/* A block of SPACE_RECORDS, as large as the name needs. */
struct name_entry {
	uint64_t next; /* locked: position of the next entry of its bucket; 0, where no block lies: none */
	uint64_t ref;  /* locked: the object that it names */
	uint64_t hash; /* as the rest: written before the entry is linked; a bucket's entries ascend by hash */
	uint16_t length;
	char name[6]; /* `length` bytes, of which six fill the struct */
};

/* Queues */

/*
 * A cell of a queue; both words change by one compare-and-swap. Positions count all pushes from 0 on; cell i has the
 * positions that are i modulo the queue's n.
 *
 * stamp    bits 0..39   the position that is in the cell or, while it is empty, the one that it waits for, less i: so
 *                       zeroed memory is an empty queue
 *          bits 40..51  the session that filled it last
 *          bits 52..63  the session that emptied it last
 */
struct cell {
	uint64_t ref; /* any session: the queue's right; 0: empty */
	uint64_t stamp;
};

#define CELL_LAP_BITS   40U
#define CELL_LAP_MASK   ((UINT64_C(1) << CELL_LAP_BITS) - 1)
#define CELL_SESSION    UINT64_C(0xfff)
#define CELL_FILLED_BY  40U /* shifts */
#define CELL_EMPTIED_BY 52U

/* The payload of a PYHEAP_QUEUE. What the two sides write lies in different cache lines. */
struct queue {
	uint64_t n;         /* cells: fixed when the queue is made */
	uint32_t push_wait; /* any session: a futex, where sessions sleep that wait to push; see queue_wait.c */
	uint32_t pop_wait;  /* any session: the same, for those that wait to pop */
	uint64_t reserved0[6];
	uint64_t head; /* any session, a hint: no position before it is in a cell */
	uint64_t reserved1[7];
	uint64_t tail; /* any session, a hint: all positions before it were pushed */
	uint64_t reserved2[7];
	struct cell cells[];
};

/* Lock and log */

struct log_entry {
	uint64_t where; /* bit 63: in the heap segment, else in control; bit 0: a header lock; the rest: the offset */
	uint64_t old;   /* the aligned word of 8 bytes before the change; of a header lock: rights_counted, 4 bytes */
};

#define LOG_WHERE_HEAP        (UINT64_C(1) << 63)
#define LOG_WHERE_HEADER_LOCK UINT64_C(1)

#define LOCK_UNIT     65536U /* bytes: the largest page of any processor */
#define LOCK_HEAD_OFF 2112U  /* of struct global_lock in the control segment */

/*
 * How a thread that keeps the lock between calls has it in its robust list. Not in shared memory: it lies behind the
 * lock's word, where each process has memory of its own over the file (segment.c), which is empty in a forked child.
 * See thread_list.c.
 */
struct lock_node {
	void *prev;         /* written by the C library, where a mutex of its own comes before it; never read */
	void *next;         /* the kernel goes by it when the thread ends */
	uint32_t holder;    /* the thread that has it in its list; 0: none */
	uint32_t number;    /* how often it was put into a list */
	uint32_t abandoned; /* as `number`, when it was left to the holder: lock.c */
};

/*
 * The lock is the futex word at its end, with what the owner of the lock writes before it. The word ends a unit of
 * LOCK_UNIT bytes, and so a page, whatever the size of pages is. The next unit of the file is not used.
 */
struct global_lock {
	/* All but `word` and what is behind it is written by the owner of the lock. */
	struct log_entry entries[LOG_CAPACITY];
	uint8_t unused[LOCK_UNIT - LOCK_HEAD_OFF - 128]; /* has no memory */
	uint32_t owner1;         /* its session (or SESSION_DAEMON) plus one; 0: nobody. For reports only */
	uint32_t n_entries;      /* entries of the log; storing 0 is the commit */
	uint64_t n_acquisitions; /* how often the lock was taken */
	uint64_t n_recoveries;   /* how often from a dead owner */
	uint32_t reserved0;
	uint32_t n_unlocking; /* of that many entries the headers are to be unlocked */
	uint64_t reserved1[4];
	uint8_t reserved2[56];
	uint32_t word; /* any session, and the kernel: the owner's thread id, FUTEX_WAITERS, FUTEX_OWNER_DIED */
	uint32_t reserved3;
	union { /* not shared: private memory of each process */
		struct {
			uint8_t reserved4[16];
			struct lock_node node;
		};
		uint8_t own[LOCK_UNIT];
	};
};

/* Counters */

/*
 * All locked, all derived: check.c counts them anew. Pools and blocks are counted when somebody asks: stats.c.
 * n_arenas_current = n_arenas_allocated - n_arenas_reclaimed <= n_arenas_highwater.
 */
struct counters {
	uint64_t n_arenas_allocated;
	uint64_t n_arenas_reclaimed;
	uint64_t n_arenas_highwater;
	uint64_t n_arenas_current;
	uint64_t n_names;
	uint64_t reserved[3];
};

/* Figures */

/* For reports only. The owner of the lock writes them without the log: a change that is rolled back counts, too. */
struct figures {
	uint64_t n_lock_waits;      /* how often a session waited for the lock */
	uint64_t lock_wait_ns;      /* the sum of these times */
	uint64_t lock_wait_max_ns;  /* the longest of them */
	uint64_t n_locks_timed;     /* how often the time was taken that the lock was held: once in LOCK_TIMED_ONE_IN */
	uint64_t lock_held_ns;      /* the sum of these times */
	uint64_t lock_held_max_ns;  /* the longest of them */
	uint64_t n_pools_claimed;   /* pools and runs that a session has come to own */
	uint64_t n_blocks_returned; /* remote frees */
};

/* The control segment */

/*
 * `ended` of a heap that has ended. It is above every address and number, so that one comparison with `ended` tells
 * that a pointer or number is good and the heap still there.
 */
#define HEAP_ENDED UINT64_MAX

struct control {
	uint64_t magic;
	uint32_t version;
	uint32_t reserved0;
	uint64_t layout_hash; /* of the version, sizes and offsets of all here; a new meaning needs a new version */
	uint64_t control_size;
	uint64_t heap_size;
	uint32_t arena_size;
	uint32_t n_arenas;
	uint32_t pools_per_arena;
	uint32_t n_sessions;
	uint32_t n_name_buckets; /* a power of two */
	uint32_t reserved4;
	uint8_t heap_id[16];  /* random, made with the heap */
	uint8_t name_key[16]; /* random: key of the hash of names */
	char heap_name[64];

	/* Offsets in this segment. */
	uint64_t sessions_off;
	uint64_t types_off;
	uint64_t type_slots_off;
	uint64_t name_buckets_off;
	uint64_t arenas_off;
	uint64_t freepools_off; /* per arena a bitmap, its freepools: a set bit is a free pool; locked */
	uint64_t pools_off;

	uint64_t geometry_hash; /* of heap_size, arena_size and n_sessions, from which the other sizes follow */
	uint64_t pid_namespace; /* inode of the home namespace, that of the heap's first daemon: see
				   foreign_lock.c */
	uint32_t clock_ms;      /* daemon: the time, until the next tick; ages of free arenas are counted by it */
	uint32_t reserved5;
	uint64_t reserved1[1];

	uint64_t ended;             /* daemon: HEAP_ENDED once the heap has ended on purpose, else 0 */
	uint32_t n_arenas_known;    /* daemon: arenas before it have an entry; those from here on were always HOLE */
	uint32_t n_arenas_mapped;   /* daemon: arenas before it have pool entries; at most n_arenas_known */
	uint32_t n_repairs;         /* owner of the lock, without the log: moves when derived state was made anew */
	uint32_t queues_paused_by1; /* owner of the lock between its calls: its session, plus one; see
				       critical_pause_queues() */
	uint64_t room_number;       /* daemon: moves when it is about to make room; never 0 */
	uint64_t full_number;       /* daemon: room_number when it had no room; see full.c */
	uint32_t full_length;       /* daemon: for a run of so many arenas */
	uint32_t reserved6;
	uint64_t n_roll_backs; /* owner of the lock, without the log: moves before a roll-back is over */
	uint64_t reserved2[2];
	uint64_t readers[SESSIONS_MAX / 64]; /* each session its bit, before its first uncounted hold; cleared, by
						itself or the daemon, when it has given up what it had */

	struct counters counters;
	struct space spaces[N_SPACES];
	struct figures figures;
	uint32_t returnable_arenas1; /* locked: the first run of arenas that waits to be used again or unmapped: the one
					freed last */
	uint32_t n_types;            /* owner of the lock, without the log: see type.c */
	uint32_t n_type_slots;       /* locked */
	uint32_t rebuilding;         /* owner of the lock: derived state is being made anew, see rebuild.c */
	uint32_t returnable_last1;   /* locked: the last of them, which has been free for longest */
	uint32_t n_returnable;       /* locked: arenas of all of them */
	uint64_t reserved3;

	struct global_lock lock;
};

static_assert(sizeof(struct object_header) == 16, "headers are packed at a pool's start");
static_assert(sizeof(struct pool_entry) == 64, "one cache line");
static_assert(offsetof(struct pool_entry, n_used) == 8, "words that are logged together");
static_assert(offsetof(struct pool_entry, header) % 16 == 0, "changed as a whole");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "counts");
static_assert(offsetof(struct pool_entry, owned_next1) == 56, "");
static_assert(SESSIONS_MAX < BIAS_UNCOUNTED, "owner1");
static_assert(sizeof(struct arena_entry) == 64, "one cache line");
static_assert(sizeof(struct hold) == 16, "");
static_assert(sizeof(struct session_entry) == 896 + HOLDS_INLINE * sizeof(struct hold), "");
static_assert(offsetof(struct session_entry, n_own_holds) == 192,
	"what the session writes in its calls has cache lines of its own");
static_assert(offsetof(struct session_entry, usedpools1) == 256, "");
static_assert(offsetof(struct session_entry, owned_pools1) == 832, "so has what others write meanwhile");
static_assert(offsetof(struct session_entry, holds_position1) % 8 == 0, "");
static_assert(offsetof(struct session_entry, attachment) == 100, "clients in other languages store to it");
static_assert(sizeof(struct type_entry) == 128, "");
static_assert(offsetof(struct name_entry, name) == 26, "");
static_assert(sizeof(struct queue) == 192 && offsetof(struct queue, cells) == 192, "cells are aligned");
static_assert(sizeof(struct cell) == 16 && SESSIONS_MAX <= CELL_SESSION + 1, "");
static_assert(sizeof(struct log_entry) == 16, "");
static_assert(offsetof(struct control, lock) == LOCK_HEAD_OFF && LOCK_HEAD_OFF % 64 == 0, "");
static_assert(offsetof(struct control, lock.owner1) % 64 == 0, "the lock has cache lines of its own");
static_assert((offsetof(struct control, lock.word) + 8) % LOCK_UNIT == 0, "the last 8 bytes of a page");
static_assert(offsetof(struct control, lock.own) % LOCK_UNIT == 0, "begins a page");
static_assert(offsetof(struct control, lock.node) > offsetof(struct control, lock.own), "not shared");
static_assert(sizeof(struct space) % 8 == 0, "");
static_assert(BLOCK_SIZE_MAX / BLOCK_ALIGNMENT == N_SMALL_CLASSES && N_CLASSES < CLASS_NONE, "");
static_assert(TYPE_FIRST_REGISTERED + TYPES_MAX <= 1U << 11 && MEDIUM_SIZE_MAX < 1U << 15, "the header word");
