// SPDX-License-Identifier: MIT
/*
 * The command line of pyheapd: what each option sets, and what is refused in which words
 */
#include "tests/unit/daemon/box.h"

#include "daemon/options.h"

#include <getopt.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KIB UINT64_C(1024)

static struct options options;

/* Parse a command line of at most four words; NULL is none. */
static int parse(const char *a, const char *b, const char *c, const char *d)
{
	char words[5][128] = {"pyheapd"};
	char *argv[6] = {words[0]};
	const char *given[] = {a, b, c, d};
	int argc = 1;

	for (int i = 0; i < 4 && given[i]; i++, argc++) {
		snprintf(words[argc], sizeof(words[0]), "%s", given[i]);
		argv[argc] = words[argc];
	}
	optind = 0; /* getopt begins anew */
	memset(&options, 0, sizeof(options));
	return options_parse(&options, argc, argv);
}

static void set_up(void)
{
	box_catch_log();
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);
}

START_TEST(sizes)
{
	static const struct {
		const char *text;
		int r;
		uint64_t n;
	} rows[] = {
		{"0", 0, 0},
		{"12", 0, 12},
		{"64K", 0, 64 * KIB},
		{"3m", 0, 3 * KIB * KIB},
		{"2G", 0, 2 * KIB * KIB * KIB},
		{"1t", 0, KIB * KIB * KIB * KIB},
		{"18446744073709551615", 0, UINT64_MAX},
		{"18446744073709551616", -ERANGE, 0},
		{"16777216T", -ERANGE, 0},
		{"16777215T", 0, UINT64_C(16777215) << 40},
		{"", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{"K", -EINVAL, 0},
		{"1KK", -EINVAL, 0},
		{"1KiB", -EINVAL, 0},
		{"1x", -EINVAL, 0},
		{"1 K", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t n = 0;

		ck_assert_msg(options_parse_size(rows[i].text, &n) == rows[i].r && n == rows[i].n, "%s", rows[i].text);
	}
}
END_TEST

START_TEST(defaults)
{
	ck_assert_int_eq(parse(NULL, NULL, NULL, NULL), 0);
	char name[32];

	if (geteuid() == 0)
		snprintf(name, sizeof(name), "default");
	else
		snprintf(name, sizeof(name), "user-%u", (unsigned int)geteuid());
	ck_assert_str_eq(options.name, name);
	ck_assert_uint_eq(options.geometry.heap_size, 0);
	ck_assert_uint_eq(options.geometry.arena_size, ARENA_SIZE_DEFAULT);
	ck_assert_uint_eq(options.geometry.n_sessions, SESSIONS_DEFAULT);
	ck_assert_uint_eq(options.n_spare_arenas, 1);
	ck_assert_uint_eq(options.lock_timeout_s, LOCK_TIMEOUT_S);
	ck_assert(!options.has_group && !options.keep && !options.remove && !options.done);
	ck_assert(options.socket_is_default);
	ck_assert_str_eq(options.socket, geteuid() == 0 ? "/run/pyheap/pyheap.sock" : "/run/user/1/pyheap.sock");
}
END_TEST

START_TEST(each_option)
{
	ck_assert_int_eq(parse("--socket", "/s", "--name", "A.b_c-9"), 0);
	ck_assert_str_eq(options.socket, "/s");
	ck_assert(!options.socket_is_default);
	ck_assert_str_eq(options.name, "A.b_c-9");
	ck_assert_int_eq(parse("--size=64M", "--arena-size=64K", NULL, NULL), 0);
	ck_assert_uint_eq(options.geometry.heap_size, 64 * KIB * KIB);
	ck_assert_uint_eq(options.geometry.arena_size, 64 * KIB);
	ck_assert_int_eq(parse("--max-sessions", "4096", "--spare-arenas", "0"), 0);
	ck_assert_uint_eq(options.geometry.n_sessions, 4096);
	ck_assert_uint_eq(options.n_spare_arenas, 0);
	ck_assert_int_eq(parse("--user-sessions", "3", "--user-connections", "4"), 0);
	ck_assert_uint_eq(options.user.n_sessions, 3);
	ck_assert_uint_eq(options.user.n_connections, 4);
	ck_assert_int_eq(parse("--user-arenas", "5", "--user-types", "6"), 0);
	ck_assert_uint_eq(options.user.n_arenas, 5);
	ck_assert_uint_eq(options.user.n_types, 6);
	ck_assert_int_eq(options.decay_ms, DECAY_MS);
	ck_assert_int_eq(parse("--decay", "-1", NULL, NULL), 0);
	ck_assert_int_eq(options.decay_ms, -1);
	ck_assert_int_eq(parse("--decay", "0", NULL, NULL), 0);
	ck_assert_int_eq(options.decay_ms, 0);
	ck_assert_int_eq(parse("--decay", "2500", NULL, NULL), 0);
	ck_assert_int_eq(options.decay_ms, 2500);
	ck_assert_int_eq(parse("--lock-timeout", "0", "--keep", NULL), 0);
	ck_assert_uint_eq(options.lock_timeout_s, 0);
	ck_assert(options.keep);
	ck_assert_int_eq(options.until, 0);
	ck_assert_int_eq(parse("--until", "4711", NULL, NULL), 0);
	ck_assert_int_eq(options.until, 4711);
	ck_assert_int_eq(parse("--group", "12345", "--remove", NULL), 0);
	ck_assert(options.has_group && options.remove);
	ck_assert_uint_eq(options.group, 12345);
}
END_TEST

START_TEST(group_by_name)
{
	const struct group *group = getgrgid(0);

	if (!group)
		return;
	ck_assert_int_eq(parse("--group", group->gr_name, NULL, NULL), 0);
	ck_assert(options.has_group);
	ck_assert_uint_eq(options.group, 0);
}
END_TEST

/* A size is cut to whole arenas, whichever option comes first. */
START_TEST(whole_arenas)
{
	ck_assert_int_eq(parse("--size", "1000000", "--arena-size", "128K"), 0);
	ck_assert_uint_eq(options.geometry.heap_size, 7 * 128 * KIB);
	ck_assert_int_eq(parse("--arena-size", "4M", "--size", "4M"), 0);
	ck_assert_uint_eq(options.geometry.heap_size, 4 * KIB * KIB);
}
END_TEST

START_TEST(refused)
{
	static const char longer[] = "n234567890123456789012345678901234567890123456789";
	static const char *const rows[][3] = {
		{"--socket", "", "empty or too long"},
		{"--name", "", "give 1 to 48"},
		{"--name", "a/b", "give 1 to 48"},
		{"--name", "a b", "give 1 to 48"},
		{"--name", longer, "give 1 to 48"},
		{"--size", "0", "give a number of bytes"},
		{"--size", "many", "give a number of bytes"},
		{"--size", "9999999T", "at most"},
		{"--size", "100K", "less than one arena"},
		{"--arena-size", "32K", "power of two"},
		{"--arena-size", "96K", "power of two"},
		{"--arena-size", "8M", "at most"},
		{"--max-sessions", "0", "from 1 to 4096"},
		{"--max-sessions", "4097", "from 1 to 4096"},
		{"--user-sessions", "0", "from 1 to 4096"},
		{"--kept-sessions", "4096", "from 0 to 4095"},
		{"--user-connections", "0", "give a number from 1"},
		{"--user-arenas", "0", "give a number from 1"},
		{"--user-types", "1025", "from 1 to 1024"},
		{"--max-sessions", "1x", "from 1 to 4096"},
		{"--spare-arenas", "-1", "give a number from 0"},
		{"--decay", "-2", "give a number from 0"},
		{"--decay", "1s", "give a number from 0"},
		{"--lock-timeout", "99999999999", "give a number from 0"},
		{"--until", "0", "give a number from 1"},
		{"--until", "-1", "give a number from 1"},
		{"--group", "no such group", "no such group"},
		{"--group", "4294967295", "give a number from 0"},
		{"--colour", "red", "no such option"},
		{"--keep=yes", NULL, "takes none"},
		{"--name", NULL, "lacks its value"},
		{"more", NULL, "more: there is nothing that this could be"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ck_assert_msg(parse(rows[i][0], rows[i][1], NULL, NULL) == -EINVAL, "%s", rows[i][0]);
		ck_assert_msg(box_logged(rows[i][2]), "%s: %s", rows[i][0], rows[i][2]);
	}
}
END_TEST

START_TEST(no_default_socket)
{
	char path[5000];

	if (geteuid() == 0)
		return;
	unsetenv("XDG_RUNTIME_DIR");
	ck_assert_int_eq(parse(NULL, NULL, NULL, NULL), -EINVAL);
	ck_assert(box_logged("XDG_RUNTIME_DIR is not set"));
	ck_assert_int_eq(parse("--socket", "/s", NULL, NULL), 0);
	ck_assert_int_eq(parse("--remove", NULL, NULL, NULL), 0); /* which needs none */
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	setenv("XDG_RUNTIME_DIR", path, 1);
	ck_assert_int_eq(parse(NULL, NULL, NULL, NULL), -EINVAL);
	ck_assert(box_logged("too long"));
}
END_TEST

/* What comes behind it is not looked at. */
START_TEST(help_and_version)
{
	ck_assert_ptr_nonnull(freopen("/dev/null", "w", stdout));
	ck_assert_int_eq(parse("--help", "--name", "", NULL), 0);
	ck_assert(options.done);
	ck_assert_int_eq(parse("--version", NULL, NULL, NULL), 0);
	ck_assert(options.done);
}
END_TEST

START_TEST(exit_codes)
{
	ck_assert_int_eq(options_exit_code(0), EXIT_OK);
	ck_assert_int_eq(options_exit_code(-EADDRINUSE), EXIT_SERVED);
	ck_assert_int_eq(options_exit_code(-EUCLEAN), EXIT_REFUSED);
	ck_assert_int_eq(options_exit_code(-EMEDIUMTYPE), EXIT_REFUSED);
	ck_assert_int_eq(options_exit_code(-EPROTONOSUPPORT), EXIT_REFUSED);
	ck_assert_int_eq(options_exit_code(-EINVAL), EXIT_RUNTIME);
	ck_assert_int_eq(options_exit_code(-ENOMEM), EXIT_RUNTIME);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon options");
	TCase *t = tcase_create("options");

	tcase_add_checked_fixture(t, set_up, NULL);
	tcase_add_test(t, sizes);
	tcase_add_test(t, defaults);
	tcase_add_test(t, each_option);
	tcase_add_test(t, group_by_name);
	tcase_add_test(t, whole_arenas);
	tcase_add_test(t, refused);
	tcase_add_test(t, no_default_socket);
	tcase_add_test(t, help_and_version);
	tcase_add_test(t, exit_codes);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return box_main(suite);
}
