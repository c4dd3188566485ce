// SPDX-License-Identifier: MIT
/*
 * Two threads that count in memory of their own process, under the global lock (for test_client_detector.py)
 *
 * It is built with a race detector, and the library is not: the detector sees the lock all the same.
 */
#include <pthread.h>
#include <pyheap.h>
#include <stdio.h>

#define N_EACH 500

static long n;

static void *count(void *failed)
{
	pyheap *heap;

	if (pyheap_open(&heap, NULL) < 0)
		return failed;
	for (int i = 0; i < N_EACH; i++) {
		if (pyheap_lock(heap) < 0)
			return failed;
		n++;
		if (pyheap_unlock(heap) < 0)
			return failed;
	}
	pyheap_close(heap);
	return NULL;
}

int main(void)
{
	pthread_t thread;
	void *theirs, *mine;

	if (pthread_create(&thread, NULL, count, &n))
		return 1;
	mine = count(&n);
	if (pthread_join(thread, &theirs))
		return 1;
	printf("%ld\n", n);
	return mine || theirs || n != 2 * N_EACH;
}
