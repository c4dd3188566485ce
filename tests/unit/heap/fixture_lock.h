/* SPDX-License-Identifier: MIT */
#pragma once

/* Threads that use session 0 while another thread has its lock: see fixture_lock.c. */

#include "tests/unit/heap/fixture_picture.h"

/* An object of another session's. */
extern uint64_t theirs;

/* Run a function in a thread of its own, to its end. */
void in_thread(void *(*what)(void *), void *ret);

/* session_unlock(), session_lock(), object_incref() of theirs, change_try_begin() and object_new(): five results. */
void *use_in_thread(void *ret);
