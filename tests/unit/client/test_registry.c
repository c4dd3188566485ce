// SPDX-License-Identifier: MIT
/*
 * client/registry.c: one mapping for each heap, however many sessions use it, and no descriptor left open
 */
#include "client/registry.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct heap *heaps[2]; /* as a daemon has them */

static void setup(void)
{
	struct heap_geometry geometry = {UINT64_C(16) << 20, ARENA_SIZE_DEFAULT, 4};

	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(heap_create(&heaps[i], memfd_create("control", MFD_CLOEXEC),
					 memfd_create("heap", MFD_CLOEXEC), "test", &geometry),
			0);
}

static void teardown(void)
{
	heap_free(heaps[0]);
	heap_free(heaps[1]);
}

/* What a daemon gives a session of the heap. The descriptors are open until registry_attach() has them. */
static struct admission admission_of(const struct heap *heap)
{
	struct admission admission = {
		.control_fd = fcntl(heap->control_fd, F_DUPFD_CLOEXEC, 3),
		.heap_fd = fcntl(heap->heap_fd, F_DUPFD_CLOEXEC, 3),
	};

	memcpy(admission.heap_id, heap->control->heap_id, HEAP_ID_SIZE);
	return admission;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static struct mapping *attach(const struct heap *heap)
{
	struct admission admission = admission_of(heap);
	struct mapping *mapping = NULL;

	ck_assert_int_eq(registry_attach(&mapping, &admission), 0);
	return mapping;
}

START_TEST(test_shared)
{
	struct mapping *first = attach(heaps[0]), *second = attach(heaps[0]), *other = attach(heaps[1]);

	ck_assert_ptr_eq(first, second);
	ck_assert_ptr_ne(first, other);
	ck_assert_ptr_ne(first->heap->base, other->heap->base);
	ck_assert_uint_eq(first->n_sessions, 2);
	ck_assert_mem_eq(first->heap_id, heaps[0]->control->heap_id, HEAP_ID_SIZE);

	ck_assert_ptr_null(registry_detach(first));
	ck_assert_uint_eq(second->n_sessions, 1);
	ck_assert_mem_eq(second->heap->control->heap_id, heaps[0]->control->heap_id, HEAP_ID_SIZE);
	registry_detach(other);
	registry_detach(second);
	ck_assert_ptr_null(registry_detach(NULL));
}
END_TEST

/* The descriptors are the registry's in any case: those of a second session, and of what is no heap, are closed. */
START_TEST(test_descriptors)
{
	struct admission first = admission_of(heaps[0]), second = admission_of(heaps[0]),
			 wrong = admission_of(heaps[1]);
	struct mapping *mapping, *none = NULL;
	int fd = wrong.control_fd;

	ck_assert_int_eq(registry_attach(&mapping, &first), 0);
	ck_assert_int_eq(registry_attach(&mapping, &second), 0);
	ck_assert(!is_open(second.control_fd) && !is_open(second.heap_fd));
	wrong.control_fd = wrong.heap_fd;
	wrong.heap_fd = fd;
	ck_assert_int_lt(registry_attach(&none, &wrong), 0);
	ck_assert_ptr_null(none);
	ck_assert(!is_open(wrong.control_fd) && !is_open(wrong.heap_fd));
	registry_detach(mapping);
	ck_assert(mapping->n_sessions == 1);
	registry_detach(mapping);
	ck_assert(!is_open(first.control_fd) && !is_open(first.heap_fd));
}
END_TEST

/* A child has its parent's mappings, and may give them back and take others. */
START_TEST(test_forked)
{
	struct mapping *mapping = attach(heaps[0]);
	int status;
	pid_t pid;

	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct mapping *own = attach(heaps[0]), *other = attach(heaps[1]);

		ck_assert_ptr_eq(own, mapping);
		ck_assert_uint_eq(mapping->n_sessions, 2);
		registry_detach(mapping);
		registry_detach(own);
		registry_detach(other);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(mapping->n_sessions, 1);
	registry_detach(mapping);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_registry");
	TCase *tcase = tcase_create("registry");
	SRunner *runner;
	int n_failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_shared);
	tcase_add_test(tcase, test_descriptors);
	tcase_add_test(tcase, test_forked);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
