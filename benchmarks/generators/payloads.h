/*
 * Message values: lines as servers log them, words and numbers mixed, so that codecs find about what they find in real logs.
 * Made from a fixed seed, the same in every run and for every broker.
 */
#ifndef CHRONIK_PAYLOADS_H
#define CHRONIK_PAYLOADS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PAYLOADS 4096

static inline uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* PAYLOADS values of `size` bytes, one behind the other. */
static inline char *make_payloads(size_t size)
{
    static const char *words[] = {"INFO ",     "WARN ",   "ERROR ", "request ", "completed ", "in ",      "session ", "opened ",
                                  "closed ",   "user=",   "addr=",  "block ",   "replica ",   "received ", "from ",    "status=",
                                  "duration=", "thread-", "retry ", "timeout ", "path=/api/", "bytes=",   "node-",    "queue "};
    uint64_t state = 88172645463325252u;
    char *all = malloc(size * PAYLOADS), piece[64];
    if (!all) abort();
    for (size_t at = 0; at < size * PAYLOADS;) {
        uint64_t r = next_random(&state);
        const char *word = words[r % (sizeof words / sizeof *words)];
        size_t n = strlen(word);
        memcpy(piece, word, n);
        if (r & 0x10000) {
            uint64_t digits = next_random(&state);
            for (int i = 0; i < 6; i++, digits >>= 4) piece[n++] = "0123456789abcdef"[digits & 15];
            piece[n++] = ' ';
        }
        if (n > size * PAYLOADS - at) n = size * PAYLOADS - at;
        memcpy(all + at, piece, n);
        at += n;
    }
    return all;
}

#endif
