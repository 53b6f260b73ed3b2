/* Texts into tokens, and their bits. See tokens.py and hashing.py for the same in Python.

   Nearly all text is ASCII. So 64 bytes are looked at at once: one bit says of each whether it is a letter, a digit or beyond
   ASCII, and runs are found by looking for the lowest bits. Runs with bytes beyond ASCII are read again, by code points. */

#include <string.h>

#include "signer.h"

#define EACH(byte) (0x0101010101010101u * (uint64_t)(byte))

enum { LONGEST = 255, START = 1, KIND = 3, BLOCK = 128 };

static const uint64_t FIRST = 0x9E3779B97F4A7C15u, SECOND = 0xBF58476D1CE4E5B9u;

void signer_start(signer *to, const chronik_unicode *unicode, const chronik_signature *signature) {
    to->unicode = unicode;
    to->signature = *signature;
    for (uint64_t i = 0; i < REMEMBERED; i++) to->seen[i] = ~i; /* no hash that belongs here */
}

static inline void set_bits(signer *to, uint64_t hash) {
    uint64_t *last = &to->seen[hash % REMEMBERED];
    if (*last == hash) return;
    *last = hash;
    uint32_t at = (uint32_t)hash, step = (uint32_t)(hash >> 32) | 1, mask = to->signature.mask;
    for (int32_t n = to->signature.hashes; n > 0; n--, at += step)
        to->signature.bits[(at & mask) >> 3] |= (uint8_t)(1u << (at & 7));
}

static inline uint64_t mixed(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * FIRST;
    return hash ^ hash >> 32;
}

static inline uint64_t finished(uint64_t hash, size_t length) {
    hash = (hash ^ length) * SECOND;
    return hash ^ hash >> 32;
}

/* Up to eight bytes, the first lowest; zeros for those beyond `available`. */
static inline uint64_t load(const uint8_t *text, size_t available) {
    uint64_t word = 0;
    if (available >= 8) {
        memcpy(&word, text, 8);
    } else {
        for (size_t i = 0; i < available; i++) word |= (uint64_t)text[i] << (8 * i);
        return word;
    }
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static inline size_t lowest(uint64_t mask) { return (size_t)__builtin_ctzll(mask); }

void add_token(signer *to, const uint8_t *token, size_t length) {
    uint64_t hash = FIRST;
    for (size_t at = 0; at < length; at += 8) hash = mixed(hash, load(token + at, length - at));
    set_bits(to, finished(hash, length));
}

/* The code point at `text`, and its bytes; 0 bytes for what is not UTF-8. */
static inline size_t read_utf8(const uint8_t *text, size_t available, uint32_t *code) {
    uint32_t lead = text[0];
    if (lead < 0x80) {
        *code = lead;
        return 1;
    }
    size_t length = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (!length || length > available) return 0;
    uint32_t value = lead & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xC0) != 0x80) return 0;
        value = value << 6 | (text[i] & 0x3F);
    }
    static const uint32_t fewest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (value < fewest[length] || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return 0;
    *code = value;
    return length;
}

size_t write_utf8(uint32_t code, uint8_t *out) {
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xC0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xE0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (code & 0x3F));
    return 4;
}

/* What is at `text`: a token, which is added, or something that separates. Returns its bytes. */
static size_t add_next(signer *to, const uint8_t *text, size_t available) {
    uint8_t token[LONGEST], form[4];
    size_t at = 0, length = 0;
    int full = 0;
    while (at < available) {
        uint32_t code;
        size_t bytes = read_utf8(text + at, available - at, &code);
        if (!bytes) break;
        int32_t entry = to->unicode->entries[to->unicode->blocks[code / BLOCK] * BLOCK + code % BLOCK];
        if (!(entry & KIND) || (!at && (entry & KIND) != START)) break;
        at += bytes;
        if (full) continue;
        size_t lower = write_utf8((uint32_t)((int32_t)code + (entry >> 2)), form);
        if (length + lower > LONGEST) {
            full = 1;
            continue;
        }
        memcpy(token + length, form, lower);
        length += lower;
    }
    if (!at) return 1; /* bytes that go on with what separates separate too, one by one */
    add_token(to, token, length);
    return at;
}

/* A token of ASCII letters and digits: all that have a lower case get it by 0x20, which digits have. Nothing is read
   beyond `available`. */
static inline void add_ascii(signer *to, const uint8_t *token, size_t length, size_t available) {
    if (length > LONGEST) length = LONGEST;
    uint64_t hash = FIRST;
    size_t at = 0;
    for (; at + 8 < length; at += 8) hash = mixed(hash, load(token + at, 8) | EACH(0x20));
    uint64_t last = load(token + at, available - at) | EACH(0x20);
    hash = mixed(hash, last & ~(uint64_t)0 >> 8 * (8 - (length - at)));
    set_bits(to, finished(hash, length));
}

static int is_ascii(const uint8_t *text, size_t length) {
    uint8_t all = 0;
    for (size_t i = 0; i < length; i++) all |= text[i];
    return all < 0x80;
}

/* A run of bytes between ASCII that separates: one token, if it is ASCII itself; else there may be some or none. */
static inline void add_run(signer *to, const uint8_t *run, size_t length, size_t available, int ascii) {
    if (ascii || is_ascii(run, length)) {
        add_ascii(to, run, length, available);
    } else {
        for (size_t at = 0; at < length;) at += add_next(to, run + at, length - at);
    }
}

/* One bit for each of 64 bytes, for those that are not ASCII that separates. `ascii` becomes 0 where one is not ASCII. */
static inline uint64_t classify(const uint8_t *text, int *ascii) {
    uint8_t inside[64], all = 0;
    for (int i = 0; i < 64; i++) { /* compilers make vectors of it */
        uint8_t byte = text[i];
        all |= byte;
        inside[i] = (uint8_t)(((uint8_t)((byte | 0x20) - 'a') < 26) | ((uint8_t)(byte - '0') < 10) | (byte >> 7));
    }
    if (all >= 0x80) *ascii = 0;
    uint64_t mask = 0;
    for (int i = 0; i < 64; i += 8) mask |= (load(inside + i, 8) * 0x0102040810204080u >> 56) << i;
    return mask;
}

void add_text(signer *to, const uint8_t *text, size_t length) {
    size_t start = 0;
    uint64_t open = 0; /* 1 while a run goes on from the bytes before */
    int ascii = 1;     /* what was read so far */
    for (size_t at = 0; at < length; at += 64) {
        uint8_t last[64] = {0};
        const uint8_t *chunk = text + at;
        if (length - at < 64) chunk = memcpy(last, chunk, length - at);
        uint64_t mask = classify(chunk, &ascii), before = mask << 1 | open;
        uint64_t starts = mask & ~before, ends = ~mask & before;
        for (; ends; ends &= ends - 1) {
            if (!open) {
                start = at + lowest(starts);
                starts &= starts - 1;
            }
            open = 0;
            add_run(to, text + start, at + lowest(ends) - start, length - start, ascii);
        }
        if (starts) start = at + lowest(starts);
        open = mask >> 63;
    }
    if (open) add_run(to, text + start, length - start, length - start, ascii);
}
