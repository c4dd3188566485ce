// SPDX-License-Identifier: MIT
/*
 * Peer: Boost.Interprocess
 *
 * A managed_shared_memory (its usual allocator and index, under its process-shared mutex) is made here and inherited by
 * the second process; its name is removed at once, so that nothing stays behind. Refs are the segment's handles.
 *
 *   pair, bulk-48, bulk-mixed, two-at-once   allocate and deallocate; no count, no type
 *   hold-drop       a copy of another process's boost::interprocess::shared_ptr: an atomic count, which stays too high
 *                   for ever when a process that has a copy is killed
 *   push-pop        message_queue of handles: any number of senders and receivers, under a mutex
 *   there-and-back  two of them
 *   hand-over       boost::lockfree::spsc_queue of handles: one sender, one receiver, no lock: its fastest way
 *   name-get        find; nothing keeps the object while it is looked at
 *
 * Nothing of C++ leaves this file: what is thrown becomes -EIO.
 */
#include "partner.h"
#include "works.h"

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/smart_ptr/shared_ptr.hpp>
#include <boost/lockfree/spsc_queue.hpp>
#include <boost/version.hpp>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

namespace ipc = boost::interprocess;

namespace
{

using segment = ipc::managed_shared_memory;
using handle = segment::handle_t;
using ring = boost::lockfree::spsc_queue<handle, boost::lockfree::capacity<QUEUE_SIZE>>;

/* Enough for a million of the mixed ones; memory is taken only as it is used. */
constexpr size_t SEGMENT_SIZE = size_t(1) << 30;

template <typename F> int guarded(F function) noexcept
{
	try {
		return function();
	} catch (const std::bad_alloc &) {
		return -ENOMEM;
	} catch (const std::exception &) {
		return -EIO;
	}
}

std::string unique_name(const char *what)
{
	return "pyheap-bench." + std::to_string(getpid()) + "." + what;
}

std::unique_ptr<segment> segment_new(void)
{
	std::string name = unique_name("segment");
	std::unique_ptr<segment> made(new segment(ipc::create_only, name.c_str(), SEGMENT_SIZE));

	ipc::shared_memory_object::remove(name.c_str());
	return made;
}

/* ---- pair and two-at-once --------------------------------------------------------------------------------------- */

struct pair_state {
	segment &memory;
	size_t size;
	void *other; /* of that size, all the while */

	pair_state(segment &in, size_t bytes) : memory(in), size(bytes), other(in.allocate(bytes))
	{
	}
	~pair_state()
	{
		memory.deallocate(other);
	}
	pair_state(const pair_state &) = delete;
};

struct pair_alone_state {
	std::unique_ptr<segment> memory = segment_new();
	size_t n_free = memory->get_free_memory();
	pair_state pair;

	explicit pair_alone_state(size_t bytes) : pair(*memory, bytes)
	{
	}
};

int pairs(const pair_state &pair, uint64_t n)
{
	return guarded([&] {
		for (uint64_t i = 0; i < n; i++) {
			void *object = pair.memory.allocate(pair.size);

			keep(object);
			pair.memory.deallocate(object);
		}
		return 0;
	});
}

int pair_setup(void **ret, uint64_t argument)
{
	return guarded([&] {
		*ret = new pair_alone_state(argument);
		return 0;
	});
}

int pair_loop(void *state, uint64_t n)
{
	return pairs(static_cast<pair_alone_state *>(state)->pair, n);
}

int pair_teardown(void *state)
{
	delete static_cast<pair_alone_state *>(state);
	return 0;
}

int two_begin(void *userdata, void **ret)
{
	return guarded([&] {
		*ret = new pair_state(*static_cast<segment *>(userdata), PAIR_SIZE);
		return 0;
	});
}

int two_loop(void *state, uint64_t n)
{
	return pairs(*static_cast<pair_state *>(state), n);
}

int two_end(void *state)
{
	delete static_cast<pair_state *>(state);
	return 0;
}

struct both_state {
	std::unique_ptr<segment> memory = segment_new();
	struct two *two = nullptr;
};

int two_at_once_setup(void **ret, uint64_t)
{
	static const struct two_way way = {two_begin, two_loop, two_end};

	return guarded([&] {
		std::unique_ptr<both_state> both(new both_state);
		int r = two_setup(&both->two, &way, both->memory.get());

		if (r >= 0)
			*ret = both.release();
		return r;
	});
}

int two_at_once_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	return two_measure(static_cast<both_state *>(state)->two, n, ret);
}

int two_at_once_teardown(void *state)
{
	std::unique_ptr<both_state> both(static_cast<both_state *>(state));

	return two_teardown(both->two);
}

/* ---- bulk-48 and bulk-mixed ------------------------------------------------------------------------------------- */

struct bulk_state {
	std::unique_ptr<segment> memory = segment_new();
	size_t n_free = memory->get_free_memory(), n_free_at_peak = 0;
	std::vector<void *> objects;
	std::unique_ptr<uint32_t, decltype(&free)> sizes{nullptr, free}, order{nullptr, free};

	explicit bulk_state(size_t n) : objects(n)
	{
	}

	/* What making and dropping one took, nanoseconds. */
	int round(double &ret_new, double &ret_drop)
	{
		return guarded([&] {
			size_t n = objects.size();
			uint64_t begin = clock_now();

			for (size_t i = 0; i < n; i++) {
				objects[i] = memory->allocate(sizes ? sizes.get()[i] : PAIR_SIZE);
				*static_cast<volatile char *>(objects[i]) = 1;
			}
			ret_new = double(clock_now() - begin) / double(n);
			n_free_at_peak = memory->get_free_memory();
			begin = clock_now();
			for (size_t i = 0; i < n; i++)
				memory->deallocate(objects[order ? order.get()[i] : i]);
			ret_drop = double(clock_now() - begin) / double(n);
			return memory->get_free_memory() == n_free ? 0 : -EBADMSG;
		});
	}
};

int bulk_begin(void **ret, size_t n, bool mixed)
{
	return guarded([&] {
		std::unique_ptr<bulk_state> bulk(new bulk_state(n));
		double figures[2];

		if (mixed) {
			bulk->sizes.reset(work_sizes(n));
			bulk->order.reset(work_order(n));
			if (!bulk->sizes || !bulk->order)
				return -ENOMEM;
		}
		int r = bulk->round(figures[0], figures[1]);

		if (r >= 0)
			*ret = bulk.release();
		return r;
	});
}

int bulk_48_setup(void **ret, uint64_t argument)
{
	return bulk_begin(ret, argument, false);
}

int bulk_mixed_setup(void **ret, uint64_t argument)
{
	return bulk_begin(ret, argument, true);
}

int bulk_48_measure(void *state, uint64_t, double ret[FIGURES_MAX])
{
	bulk_state *bulk = static_cast<bulk_state *>(state);
	int r = bulk->round(ret[0], ret[1]);

	ret[2] = double(bulk->n_free - bulk->n_free_at_peak) / double(bulk->objects.size());
	return r < 0 ? r : 3;
}

int bulk_mixed_measure(void *state, uint64_t, double ret[FIGURES_MAX])
{
	double drop = 0;
	int r = static_cast<bulk_state *>(state)->round(ret[1], drop);

	ret[0] = ret[1] + drop;
	return r < 0 ? r : 2;
}

int bulk_teardown(void *state)
{
	delete static_cast<bulk_state *>(state);
	return 0;
}

/* ---- hold-drop -------------------------------------------------------------------------------------------------- */

struct small {
	char bytes[PAIR_SIZE];
};
using small_pointer = ipc::managed_shared_ptr<small, segment>::type;

struct hold_state {
	std::unique_ptr<segment> memory = segment_new();
	small_pointer *pointers = nullptr; /* the partner's, in the segment */
	struct partner partner = {};
	uint64_t next = 0;
};

int hold_serve(void *userdata, int fd)
{
	segment &memory = *static_cast<hold_state *>(userdata)->memory;

	return guarded([&] {
		small_pointer *pointers = memory.construct<small_pointer>("pointers")[N_SHARED]();
		uint64_t word;

		for (size_t i = 0; i < N_SHARED; i++)
			pointers[i] = ipc::make_managed_shared_ptr(
				memory.construct<small>(ipc::anonymous_instance)(), memory);
		int r = partner_say(fd, N_SHARED);
		if (r >= 0)
			r = partner_wait(fd, &word);
		return r == -ECONNRESET ? 0 : r;
	});
}

int hold_teardown(void *state)
{
	std::unique_ptr<hold_state> hold(static_cast<hold_state *>(state));
	int r = 0;

	for (size_t i = 0; hold->pointers && i < N_SHARED; i++) {
		if (hold->pointers[i].use_count() != 1)
			r = -EBADMSG;
	}
	int stopped = partner_stop(&hold->partner);
	return r < 0 ? r : stopped;
}

int hold_setup(void **ret, uint64_t)
{
	return guarded([&] {
		std::unique_ptr<hold_state> hold(new hold_state);
		uint64_t n_made;
		int r = partner_start(&hold->partner, hold_serve, hold.get());

		if (r >= 0)
			r = partner_hear(hold->partner.fd, &n_made);
		if (r < 0) {
			partner_stop(&hold->partner);
			return r;
		}
		hold->pointers = hold->memory->find<small_pointer>("pointers").first;
		*ret = hold.release();
		return 0;
	});
}

int hold_loop(void *state, uint64_t n)
{
	hold_state *hold = static_cast<hold_state *>(state);

	return guarded([&] {
		for (uint64_t i = 0; i < n; i++) {
			small_pointer held(hold->pointers[hold->next++ % N_SHARED]);

			keep(&held);
		}
		return 0;
	});
}

/* ---- queues ----------------------------------------------------------------------------------------------------- */

struct queue_state {
	std::unique_ptr<segment> memory = segment_new();
	ring *objects = memory->construct<ring>("ring")();
	std::unique_ptr<ipc::message_queue> there = queue_new("there"), back = queue_new("back");
	size_t n_free = memory->get_free_memory();
	struct partner partner = {};

	static std::unique_ptr<ipc::message_queue> queue_new(const char *what)
	{
		std::string name = unique_name(what);
		std::unique_ptr<ipc::message_queue> made(
			new ipc::message_queue(ipc::create_only, name.c_str(), QUEUE_SIZE, sizeof(handle)));

		ipc::message_queue::remove(name.c_str());
		return made;
	}
};

/* Until `step` has succeeded. */
template <typename F> int poll_until(F step)
{
	struct spin spin = {};

	while (!step()) {
		if (spin_again(&spin) < 0)
			return -ETIMEDOUT;
	}
	return 0;
}

int send_polling(ipc::message_queue &queue, handle what)
{
	return poll_until([&] { return queue.try_send(&what, sizeof(what), 0); });
}

int receive_polling(ipc::message_queue &queue, handle &ret)
{
	ipc::message_queue::size_type size;
	unsigned int priority;

	return poll_until([&] { return queue.try_receive(&ret, sizeof(ret), size, priority); });
}

/* The partner's side: `part` as often as told. */
template <typename F> int queue_serve(int fd, F part)
{
	return guarded([&] {
		uint64_t n;
		int r;

		while ((r = partner_wait(fd, &n)) >= 0) {
			for (uint64_t i = 0; r >= 0 && i < n; i++)
				r = part();
			if (r >= 0)
				r = partner_say(fd, n);
		}
		return r == -ECONNRESET ? 0 : r;
	});
}

int queue_setup(void **ret, int (*serve)(void *userdata, int fd))
{
	return guarded([&] {
		std::unique_ptr<queue_state> queue(new queue_state);

		if (serve) {
			int r = partner_start(&queue->partner, serve, queue.get());

			if (r < 0)
				return r;
		}
		*ret = queue.release();
		return 0;
	});
}

int queue_teardown(void *state)
{
	std::unique_ptr<queue_state> queue(static_cast<queue_state *>(state));
	int r = partner_stop(&queue->partner);

	/* All that was handed over was given up there. */
	return r < 0 || queue->memory->get_free_memory() == queue->n_free ? r : -EBADMSG;
}

int push_pop_setup(void **ret, uint64_t)
{
	return queue_setup(ret, nullptr);
}

int push_pop_loop(void *state, uint64_t n)
{
	queue_state *queue = static_cast<queue_state *>(state);

	return guarded([&] {
		ipc::message_queue::size_type size;
		unsigned int priority;

		for (uint64_t i = 0; i < n; i++) {
			handle sent = handle(i), got;

			if (!queue->there->try_send(&sent, sizeof(sent), 0))
				return -EAGAIN;
			if (!queue->there->try_receive(&got, sizeof(got), size, priority))
				return -EAGAIN;
			if (got != sent)
				return -EBADMSG;
		}
		return 0;
	});
}

int round_trip_serve(void *userdata, int fd)
{
	queue_state *queue = static_cast<queue_state *>(userdata);

	return queue_serve(fd, [&] {
		handle what;
		int r = receive_polling(*queue->there, what);

		return r < 0 ? r : send_polling(*queue->back, what);
	});
}

int round_trip_setup(void **ret, uint64_t)
{
	return queue_setup(ret, round_trip_serve);
}

int round_trip_loop(void *state, uint64_t n)
{
	queue_state *queue = static_cast<queue_state *>(state);

	return guarded([&] {
		uint64_t n_done;
		int r = partner_say(queue->partner.fd, n);

		for (uint64_t i = 0; r >= 0 && i < n; i++) {
			handle sent = handle(i), got;

			r = send_polling(*queue->there, sent);
			if (r >= 0)
				r = receive_polling(*queue->back, got);
			if (r >= 0 && got != sent)
				r = -EBADMSG;
		}
		return r < 0 ? r : partner_hear(queue->partner.fd, &n_done);
	});
}

int hand_over_serve(void *userdata, int fd)
{
	queue_state *queue = static_cast<queue_state *>(userdata);

	return queue_serve(fd, [&] {
		handle what;
		int r = poll_until([&] { return queue->objects->pop(what); });

		if (r >= 0)
			queue->memory->deallocate(queue->memory->get_address_from_handle(what));
		return r;
	});
}

int hand_over_setup(void **ret, uint64_t)
{
	return queue_setup(ret, hand_over_serve);
}

int hand_over_loop(void *state, uint64_t n)
{
	queue_state *queue = static_cast<queue_state *>(state);

	return guarded([&] {
		uint64_t n_done;
		int r = partner_say(queue->partner.fd, n);

		for (uint64_t i = 0; r >= 0 && i < n; i++) {
			handle what = queue->memory->get_handle_from_address(queue->memory->allocate(PAIR_SIZE));

			r = poll_until([&] { return queue->objects->push(what); });
		}
		return r < 0 ? r : partner_hear(queue->partner.fd, &n_done);
	});
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

struct name_state {
	std::unique_ptr<segment> memory = segment_new();
	std::vector<std::string> used;

	explicit name_state(size_t n_names)
	{
		char name[WORK_NAME_BYTES];

		for (size_t i = 0; i < n_names; i++) {
			work_name(name, i);
			memory->construct<small>(name)();
		}
		for (size_t i = 0; i < N_NAMES_USED; i++) {
			work_name(name, i * (n_names / N_NAMES_USED));
			used.push_back(name);
		}
	}
};

int name_get_setup(void **ret, uint64_t argument)
{
	return guarded([&] {
		*ret = new name_state(argument);
		return 0;
	});
}

int name_get_loop(void *state, uint64_t n)
{
	const name_state *names = static_cast<name_state *>(state);

	return guarded([&] {
		size_t next = 0;

		for (uint64_t i = 0; i < n; i++) {
			const small *found = names->memory->find<small>(names->used[next].c_str()).first;

			if (!found)
				return -ENOENT;
			keep(found);
			if (++next == names->used.size())
				next = 0;
		}
		return 0;
	});
}

int name_get_teardown(void *state)
{
	delete static_cast<name_state *>(state);
	return 0;
}

/* ----------------------------------------------------------------------------------------------------------------- */

/* key, setup, loop, measure, teardown */
const struct work works[] = {
	{WORK_PAIR, pair_setup, pair_loop, nullptr, pair_teardown},
	{WORK_TWO_AT_ONCE, two_at_once_setup, nullptr, two_at_once_measure, two_at_once_teardown},
	{WORK_BULK_48, bulk_48_setup, nullptr, bulk_48_measure, bulk_teardown},
	{WORK_BULK_MIXED, bulk_mixed_setup, nullptr, bulk_mixed_measure, bulk_teardown},
	{WORK_HOLD_DROP, hold_setup, hold_loop, nullptr, hold_teardown},
	{WORK_PUSH_POP, push_pop_setup, push_pop_loop, nullptr, queue_teardown},
	{WORK_THERE_AND_BACK, round_trip_setup, round_trip_loop, nullptr, queue_teardown},
	{WORK_HAND_OVER, hand_over_setup, hand_over_loop, nullptr, queue_teardown},
	{WORK_NAME_GET, name_get_setup, name_get_loop, nullptr, name_get_teardown},
};

} // namespace

int main(int argc, char **argv)
{
	static const struct family family = {works, sizeof(works) / sizeof(*works)};
	static const struct family *const families[] = {&family};
	std::string version = std::to_string(BOOST_VERSION / 100000) + "." +
			      std::to_string(BOOST_VERSION / 100 % 1000) + "." + std::to_string(BOOST_VERSION % 100);

	return contender_main(argc, argv, version.c_str(), families, 1);
}
