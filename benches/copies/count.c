/* Counts what a process copies: memcpy and memmove of 512 bytes and more, which is what messages are copied in. Put before the C
   library by LD_PRELOAD; SIGUSR2 has it write both sums to stderr. Smaller ones are headers and the like, and would be counted at
   the price of every one of them. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

enum { LEAST = 512 };
static unsigned long bytes, calls;

static void count(size_t n) {
    if (n >= LEAST) {
        __atomic_fetch_add(&bytes, n, __ATOMIC_RELAXED);
        __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
    }
}

/* Not by the library's own: it is what stands behind these names. */
static void *copy(char *to, const char *from, size_t n) {
    void *start = to;
    if (to <= from || to >= from + n) {
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
    } else {
        to += n - 1, from += n - 1;
        __asm__ volatile("std; rep movsb; cld" : "+D"(to), "+S"(from), "+c"(n)::"memory");
    }
    return start;
}

void *memcpy(void *to, const void *from, size_t n) {
    count(n);
    return copy(to, from, n);
}

void *memmove(void *to, const void *from, size_t n) {
    count(n);
    return copy(to, from, n);
}

static void say(int signal) {
    char line[80];
    int length = snprintf(line, sizeof line, "copied %lu bytes in %lu calls\n", bytes, calls);
    if (write(2, line, length) < 0) _exit(1);
}

__attribute__((constructor)) static void begin(void) { signal(SIGUSR2, say); }
