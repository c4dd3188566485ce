// SPDX-License-Identifier: MIT
/*
 * pyheap.h as a C++ program uses it: every inline call, macro and struct
 *
 * test_header.sh compiles this file by each compiler and standard, with all warnings as errors. test_client_cpp.c runs
 * it with a real daemon. The failures are told by their line, since Check's macros are not made for C++ warnings.
 */
#include <pyheap.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			return __LINE__;                                                                               \
	} while (0)

namespace
{

struct node {
	pyheap_ref next;
	uint64_t value;
};

int use_bytes(pyheap *heap)
{
	pyheap_type type = PYHEAP_BYTES;
	pyheap_ref ref = 0, other = 0;
	volatile std::size_t size = 100;

	static_assert(PYHEAP_BYTES != PYHEAP_LIST && PYHEAP_LIST != PYHEAP_QUEUE, "types are constants");
	MUST(pyheap_new(heap, PYHEAP_BYTES, 48, &ref) == 0);
	MUST(pyheap_new(heap, type, size, &other) == 0);
	MUST(pyheap_decref(heap, other) == 0);
	void *data = pyheap_data(heap, ref);
	MUST(data);
	std::memset(data, 'x', 48);
	for (int i = 1; i < 200; i++) { /* past the holds that a header word counts */
		MUST(pyheap_refcount(heap, ref) == i);
		MUST(pyheap_incref(heap, ref) == 0);
	}
	for (int i = 1; i < 200; i++)
		MUST(pyheap_decref(heap, ref) == 0);
	MUST(static_cast<char *>(pyheap_data(heap, ref))[47] == 'x');
	MUST(pyheap_size(heap, ref) == 48 && pyheap_typeof(heap, ref, &type) == 0 && type == PYHEAP_BYTES);
	MUST(pyheap_decref(heap, ref) == 0);
	MUST(pyheap_incref(heap, ref) == -ESTALE && pyheap_decref(heap, ref) == -ESTALE);
	MUST(!pyheap_data(heap, ref) && errno == ESTALE);
	return 0;
}

int use_no_session()
{
	pyheap *none = nullptr;
	pyheap_ref ref = 8;

	MUST(pyheap_new(none, PYHEAP_BYTES, 48, &ref) == -EINVAL);
	MUST(!pyheap_data(none, ref) && errno == EINVAL);
	MUST(pyheap_incref(none, ref) == -EINVAL && pyheap_decref(none, ref) == -EINVAL);
	MUST(pyheap_close(none) == nullptr);
	return 0;
}

int use_structs(pyheap *heap)
{
	const std::size_t slots[] = {offsetof(node, next)};
	pyheap_type_spec spec = {"node", sizeof(node), 0, 1, slots};
	char name[PYHEAP_TYPE_NAME_MAX + 1];
	pyheap_ref first = 0, second = 0;
	pyheap_type type = 0;

	MUST(pyheap_type_register(heap, &spec, &type) == 0);
	MUST(pyheap_type_name(heap, type, name) == 0 && std::strcmp(name, "node") == 0);
	MUST(pyheap_new(heap, type, 0, &first) == 0 && pyheap_new(heap, type, 0, &second) == 0);
	static_cast<node *>(pyheap_data(heap, second))->value = 7;
	MUST(pyheap_slot_set(heap, first, offsetof(node, next), second) == 0);
	MUST(pyheap_decref(heap, second) == 0);
	const node *p = static_cast<const node *>(pyheap_data(heap, first));
	MUST(p->next == second);
	MUST(static_cast<const node *>(pyheap_data(heap, p->next))->value == 7);
	MUST(pyheap_decref(heap, first) == 0);
	return 0;
}

int use_list_and_queue(pyheap *heap)
{
	pyheap_ref list = 0, queue = 0, ref = 0, got = 0;

	MUST(pyheap_new(heap, PYHEAP_LIST, 2 * sizeof(pyheap_ref), &list) == 0);
	MUST(pyheap_put(heap, "hello", 6, &ref) == 0);
	MUST(pyheap_list_set(heap, list, 1, ref) == 0);
	MUST(pyheap_list_get(heap, list, 1, &got) == 0 && got == ref);
	MUST(pyheap_decref(heap, got) == 0);
	MUST(pyheap_queue_new(heap, 1, &queue) == 0);
	MUST(pyheap_queue_push(heap, queue, ref, 0) == 0);
	MUST(pyheap_queue_pop(heap, queue, &got, 0) == 0 && got == ref);
	MUST(std::strcmp(static_cast<const char *>(pyheap_data(heap, got)), "hello") == 0);
	MUST(pyheap_name_set(heap, "greeting", got) == 0 && pyheap_name_del(heap, "greeting") == 0);
	MUST(pyheap_decref(heap, got) == 0 && pyheap_decref(heap, queue) == 0 && pyheap_decref(heap, list) == 0);
	return 0;
}

/* pyheap_stats is a type here and nothing else: it can be made, copied and returned. */
pyheap_stats stats_of(pyheap *heap)
{
	pyheap_stats stats = pyheap_stats();

	if (pyheap_get_stats(heap, &stats) < 0)
		return pyheap_stats();
	return stats;
}

int use_figures(pyheap *heap)
{
	pyheap_client_info info = pyheap_client_info();
	const pyheap_stats stats = stats_of(heap);
	uint64_t cursor = 0;

	MUST(stats.bytes_total == stats.n_arenas_current * stats.arena_size && stats.n_sessions == 1);
	MUST(stats.classes[63].size == 512);
	MUST(pyheap_client_next(heap, &cursor, &info) == 1 && info.self == 1);
	MUST(pyheap_check(heap, nullptr, nullptr) == 0);
	return 0;
}

} // namespace

/* 0, or the line of the first failure. */
extern "C" int header_use(pyheap *heap);

int header_use(pyheap *heap)
{
	int line = use_no_session();

	if (line == 0)
		line = use_bytes(heap);
	if (line == 0)
		line = use_structs(heap);
	if (line == 0)
		line = use_list_and_queue(heap);
	if (line == 0)
		line = use_figures(heap);
	return line;
}
