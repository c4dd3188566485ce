// SPDX-License-Identifier: MIT
/*
 * Why a session could not be opened or resumed, in more words than an errno has
 *
 * The sentence is the thread's own: threads that open sessions at the same time do not overwrite each other's. It is
 * freed with its thread. Where there is no memory for it, there is no sentence.
 */
#include "client/why.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_key_t key;
static bool has_key;

static void why_init(void)
{
	has_key = pthread_key_create(&key, free) == 0;
}

static char *why_get(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, why_init);
	return has_key ? pthread_getspecific(key) : NULL;
}

static void why_replace(char *why)
{
	char *before = why_get();

	if (has_key && pthread_setspecific(key, why) == 0)
		free(before);
	else
		free(why);
}

void why_set(const char *format, ...)
{
	va_list arguments;
	char *why;

	va_start(arguments, format);
	if (vasprintf(&why, format, arguments) < 0)
		why = NULL;
	va_end(arguments);
	why_replace(why);
}

void why_clear(void)
{
	why_replace(NULL);
}

const char *why_last(void)
{
	const char *why = why_get();

	return why ? why : "";
}
