// SPDX-License-Identifier: MIT
/*
 * client/connection.c: which socket is chosen, and what pyheap_open() makes of each answer of a daemon that is good,
 * old, broken or hostile
 */
#include "peer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

START_TEST(test_address)
{
	char exact[sizeof(((struct sockaddr_un *)0)->sun_path)], longer[sizeof(exact) + 1];
	struct sockaddr_un address;

	setenv("PYHEAP_SOCKET", "/from/environment", 1);
	ck_assert_int_eq(connection_address("/given", &address), 0);
	ck_assert_str_eq(address.sun_path, "/given");
	ck_assert_int_eq(address.sun_family, AF_UNIX);
	ck_assert_int_eq(connection_address(NULL, &address), 0);
	ck_assert_str_eq(address.sun_path, "/from/environment");
	ck_assert_int_eq(connection_address("", &address), -ENOENT);
	setenv("PYHEAP_SOCKET", "", 1);
	ck_assert_int_eq(connection_address(NULL, &address), -ENOENT);

	memset(exact, 'x', sizeof(exact) - 1);
	exact[sizeof(exact) - 1] = '\0';
	ck_assert_int_eq(connection_address(exact, &address), 0);
	ck_assert_str_eq(address.sun_path, exact);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	ck_assert_int_eq(connection_address(longer, &address), -ENAMETOOLONG);
}
END_TEST

START_TEST(test_address_default)
{
	struct sockaddr_un address;

	unsetenv("PYHEAP_SOCKET");
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	if (geteuid() == 0) {
		ck_assert_int_eq(connection_address(NULL, &address), 0);
		ck_assert_str_eq(address.sun_path, "/run/pyheap/pyheap.sock");
		ck_assert_int_eq(seteuid(65534), 0);
	}
	ck_assert_int_eq(connection_address(NULL, &address), 0);
	ck_assert_str_eq(address.sun_path, "/run/user/7/pyheap.sock");
	unsetenv("XDG_RUNTIME_DIR");
	ck_assert_int_eq(connection_address(NULL, &address), -ENOENT);
	/* A leak checker traces this process at its end, which a change of the user forbids. */
	if (getuid() == 0) {
		ck_assert_int_eq(seteuid(0), 0);
		ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0);
	}
}
END_TEST

static void ck_refused(void (*play)(struct peer *peer, int fd), int code)
{
	pyheap *heap = NULL;

	ck_assert_int_eq(peer_open(play, &heap), -code);
	ck_assert_ptr_null(heap);
	peer_end();
}

static void play_users(struct peer *p, int fd)
{
	(void)p;
	peer_send_error(fd, EUSERS);
}

static void play_access(struct peer *p, int fd)
{
	(void)p;
	peer_send_error(fd, EACCES);
}

static void play_no_errno(struct peer *p, int fd)
{
	(void)p;
	peer_send_error(fd, -5);
}

static void play_silence(struct peer *p, int fd)
{
	(void)p, (void)fd; /* and the end of the connection */
}

static void play_goodbye(struct peer *p, int fd)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Goodbye goodbye = PYHEAP__GOODBYE__INIT;

	(void)p;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_GOODBYE;
	message.goodbye = &goodbye;
	peer_send(fd, &message);
}

static void play_out_of_order(struct peer *p, int fd)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Grant grant = PYHEAP__GRANT__INIT;

	(void)p;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_GRANT;
	message.grant = &grant;
	peer_send(fd, &message);
}

static void play_too_long(struct peer *p, int fd)
{
	(void)p;
	ck_assert_int_eq(send(fd, "\xff\xff\xff\xff", 4, MSG_NOSIGNAL), 4);
}

static void play_rubbish(struct peer *p, int fd)
{
	(void)p;
	ck_assert_int_eq(send(fd, "\x04\0\0\0\xff\xff\xff\xff", 8, MSG_NOSIGNAL), 8);
}

static void play_cut(struct peer *p, int fd)
{
	(void)p;
	ck_assert_int_eq(send(fd, "\x20\0\0\0\x01", 5, MSG_NOSIGNAL), 5);
}

/* Good, but the second descriptor is not a heap's. */
static void play_other_files(struct peer *p, int fd)
{
	int control_fd = p->heap->control_fd;

	p->heap->control_fd = p->heap->heap_fd;
	peer_welcome(p, fd);
	p->heap->control_fd = control_fd;
}

START_TEST(test_refusals)
{
	ck_refused(play_users, EUSERS);
	ck_refused(play_access, EACCES);
	ck_refused(play_no_errno, EPROTO);
	ck_refused(play_silence, ECONNRESET);
	ck_refused(play_goodbye, ECONNRESET);
	ck_refused(play_out_of_order, EPROTO);
	ck_refused(play_too_long, EPROTO);
	ck_refused(play_rubbish, EPROTO);
	ck_refused(play_cut, ECONNRESET);
}
END_TEST

START_TEST(test_welcomes_that_are_wrong)
{
	peer_lie.protocol = 1;
	ck_refused(peer_welcome, EPROTO);
	peer_lie.protocol = 0, peer_lie.layout_hash = 1;
	ck_refused(peer_welcome, EPROTO);
	peer_lie.layout_hash = 0, peer_lie.session = 4;
	ck_refused(peer_welcome, EUCLEAN);
	peer_lie.session = UINT32_MAX - 1;
	ck_refused(peer_welcome, EUCLEAN);
	peer_lie.session = 0, peer_lie.id_len = 1;
	ck_refused(peer_welcome, EPROTO);
	peer_lie.id_len = 0, peer_lie.token_len = 1;
	ck_refused(peer_welcome, EPROTO);
	peer_lie.token_len = 0, peer.n_fds = 1;
	ck_refused(peer_welcome, EPROTO);
	peer.n_fds = 0;
	ck_refused(peer_welcome, EPROTO);
	peer.n_fds = 2;
	ck_refused(play_other_files, EUCLEAN);
}
END_TEST

START_TEST(test_hello_says_who)
{
	pyheap *heap;

	ck_assert_int_eq(peer_open(peer_welcome, &heap), 0);
	peer_wait();
	ck_assert_int_eq(peer.request->body_case, PYHEAP__TO_DAEMON__BODY_HELLO);
	ck_assert_uint_eq(peer.request->hello->protocol, PROTO_VERSION);
	ck_assert_uint_eq(peer.request->hello->layout_hash, layout_hash());
	ck_assert_str_eq(peer.request->hello->program, program_invocation_short_name);
	ck_assert_uint_eq(peer.request->hello->resume_token.len, 0);
	ck_assert_int_ge(pyheap_fd(heap), 0);
	pyheap_close(heap);
	peer_end();
}
END_TEST

static Suite *connection_suite(void)
{
	Suite *suite = suite_create("client_connection");
	TCase *address = tcase_create("address"), *answers = tcase_create("answers");

	tcase_add_test(address, test_address);
	tcase_add_test(address, test_address_default);
	suite_add_tcase(suite, address);
	tcase_add_checked_fixture(answers, peer_heap_setup, peer_heap_teardown);
	tcase_add_test(answers, test_refusals);
	tcase_add_test(answers, test_welcomes_that_are_wrong);
	tcase_add_test(answers, test_hello_says_who);
	suite_add_tcase(suite, answers);
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(connection_suite());
	int n_failed;

	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
