/* SPDX-License-Identifier: MIT */
#pragma once

/* Runs of free arenas: returnable_arenas. All within a change. See returnable.c. */

#include "heap/memory/arena_list.h"

/* Make n arenas from `head` on, of which all but the head are BODY, one free run: the first that is used again. */
void returnable_add(struct heap *heap, struct arena_entry *head, uint32_t n);

/* Take n adjacent free arenas off the list as one run, whose state is not set yet. NULL: none were found. */
struct arena_entry *returnable_take(struct heap *heap, uint32_t n);

/* Take the last n arenas, at least 1, of a free run; or all that it has. Returns the head of what was taken. */
struct arena_entry *returnable_take_last(struct heap *heap, struct arena_entry *head, uint32_t n);

/* The run that has been free for longest; NULL: there is none. */
struct arena_entry *returnable_oldest(struct heap *heap);

/* The length of the free run that begins at arena `index`; 0: none does. */
uint32_t returnable_length(struct heap *heap, uint32_t index);
