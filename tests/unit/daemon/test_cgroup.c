// SPDX-License-Identifier: MIT
/*
 * Memory cgroups, of both versions, as files of the test's own show them
 */
#include "tests/unit/daemon/box.h"

#include "daemon/cgroup.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)

static void write_file(const char *folder, const char *name, const char *text)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "we");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

static void write_number(const char *folder, const char *name, uint64_t n)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64 "\n", n);
	write_file(folder, name, text);
}

static const char *folder_at(const char *name)
{
	const char *folder = box_path(name);

	ck_assert(mkdir(folder, 0700) == 0 || errno == EEXIST);
	return folder;
}

/* A line of mountinfo. */
static void mount_at(const char *root, const char *point, const char *type, const char *options)
{
	char text[1024];

	snprintf(text, sizeof(text),
		"22 1 8:1 / / rw shared:1 - ext4 /dev/root rw\n"
		"31 22 0:28 %s %s rw,relatime shared:9 - %s cgroup %s\n",
		root, point, type, options);
	write_file(box_path(""), "mountinfo", text);
}

static void set_up(void)
{
	box_catch_log();
}

START_TEST(version_2)
{
	char point[256], inner[256];

	snprintf(point, sizeof(point), "%s", folder_at("v2"));
	snprintf(inner, sizeof(inner), "%s", folder_at("v2/a"));
	write_file(box_path(""), "cgroup", "0::/a\n");
	mount_at("/", point, "cgroup2", "rw,nsdelegate");
	write_file(inner, "memory.max", "max\n");
	write_number(inner, "memory.current", MIB);
	write_file(inner, "memory.stat", "anon 1\nfile 2\n");
	cgroup_memory_open(box_path(""));
	ck_assert_uint_eq(cgroup_memory_limit(), UINT64_MAX);
	ck_assert_uint_eq(cgroup_memory_room(), UINT64_MAX);

	/* It is asked anew each time. */
	write_number(inner, "memory.max", 128 * MIB);
	write_number(inner, "memory.current", 100 * MIB);
	write_file(inner, "memory.stat",
		"anon 1\nfile 41943040\nshmem 31457280\ninactive_file 8388608\nactive_file 2097152\n");
	ck_assert_uint_eq(cgroup_memory_limit(), 128 * MIB);
	ck_assert_uint_eq(cgroup_memory_room(), (128 - 100 + 8 + 2 - 2) * MIB);
	write_number(inner, "memory.current", 300 * MIB);
	ck_assert_uint_eq(cgroup_memory_room(), 0);

	/* The cgroup that it is in allows less. */
	write_number(point, "memory.max", 64 * MIB);
	write_number(point, "memory.current", 10 * MIB);
	cgroup_memory_open(box_path(""));
	write_number(inner, "memory.current", 0);
	ck_assert_uint_eq(cgroup_memory_limit(), 64 * MIB);
	ck_assert_uint_eq(cgroup_memory_room(), (64 - 10 - 1) * MIB);
	cgroup_memory_close();
	ck_assert_uint_eq(cgroup_memory_limit(), UINT64_MAX);
}
END_TEST

/* Of version 1, in a container that sees its own cgroup only; other controllers are elsewhere. */
START_TEST(version_1)
{
	const char *point = folder_at("v1");

	write_file(box_path(""), "cgroup", "0::/\n9:cpu,cpuacct:/elsewhere\n4:hugetlb,memory:/docker/0123\n");
	mount_at("/docker/0123", point, "cgroup", "rw,memory,hugetlb");
	write_number(point, "memory.limit_in_bytes", 200 * MIB);
	write_number(point, "memory.usage_in_bytes", 64 * MIB);
	write_file(
		point, "memory.stat", "cache 5\ninactive_file 99\ntotal_inactive_file 4194304\ntotal_active_file 0\n");
	cgroup_memory_open(box_path(""));
	ck_assert_uint_eq(cgroup_memory_limit(), 200 * MIB);
	ck_assert_uint_eq(cgroup_memory_room(), 200 * MIB - 64 * MIB + 4 * MIB - 200 * MIB / 64);
	write_file(point, "memory.limit_in_bytes", "9223372036854771712\n");
	ck_assert_uint_eq(cgroup_memory_limit(), UINT64_MAX);
	ck_assert_uint_eq(cgroup_memory_room(), UINT64_MAX);
	cgroup_memory_close();
}
END_TEST

/* Nothing is known: nothing is limited. */
START_TEST(none)
{
	cgroup_memory_open("/nowhere");
	ck_assert_uint_eq(cgroup_memory_limit(), UINT64_MAX);
	write_file(box_path(""), "cgroup", "0::/../outside\n");
	mount_at("/..", "/nowhere", "cgroup2", "rw");
	cgroup_memory_open(box_path(""));
	ck_assert_uint_eq(cgroup_memory_room(), UINT64_MAX);
	write_file(box_path(""), "cgroup", "rubbish\n::\n:\n");
	cgroup_memory_open(box_path(""));
	ck_assert_uint_eq(cgroup_memory_room(), UINT64_MAX);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon cgroup");
	TCase *t = tcase_create("cgroup");

	tcase_add_checked_fixture(t, set_up, NULL);
	tcase_add_test(t, version_2);
	tcase_add_test(t, version_1);
	tcase_add_test(t, none);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return box_main(suite);
}
