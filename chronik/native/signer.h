/* Texts into the tokens of a signature. */
#ifndef CHRONIK_SIGNER_H
#define CHRONIK_SIGNER_H

#include "native.h"

enum { REMEMBERED = 4096 };

typedef struct {
    const chronik_unicode *unicode;
    chronik_signature signature;
    uint64_t seen[REMEMBERED]; /* hashes whose bits are set already, each at the place of its lowest bits */
} signer;

void signer_start(signer *to, const chronik_unicode *unicode, const chronik_signature *signature);

/* Adds the tokens of a text. */
void add_text(signer *to, const uint8_t *text, size_t length);

/* Adds one token, as it is. At most 255 bytes. */
void add_token(signer *to, const uint8_t *token, size_t length);

/* `text` with JSON's escapes resolved, into `out`, which has as many bytes. Returns its length. See escapes.py. */
size_t unescape(const uint8_t *text, size_t length, uint8_t *out);

/* Whether a value has a number with an exponent. See numbers.py. */
int needs_marker(const uint8_t *value, size_t length);

/* UTF-8 of a code point, which is no surrogate. Returns its length. */
size_t write_utf8(uint32_t code, uint8_t *out);

#endif
