/* SPDX-License-Identifier: MIT */
#pragma once

/* What a daemon before this one left in the heap: see adopt.c. */

struct daemon;

/* Bring the heap that was adopted to where this daemon can go on. -EUCLEAN it is damaged; the log says what is wrong.
 */
int adopt_heap(struct daemon *daemon);
