/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Check, as all tests here use it
 *
 * An assertion that holds costs one branch. Check's own writes its line to a file each time, in case the test crashes
 * before the next one: in a test with a million of them that is nearly all of the time.
 */

#include <check.h>

#undef ck_assert_msg
#define ck_assert_msg(expr, ...)                                                                                       \
	((expr) ? (void)0 : _ck_assert_failed(__FILE__, __LINE__, "Assertion '" #expr "' failed", ##__VA_ARGS__))
