/* What the native code offers. cffi reads this file as it is: declarations only, no preprocessor.
   The contract, with its units and faults, is in interfaces.py; every function may be given hostile bytes. */

typedef struct {
    const uint8_t *bytes;
    int64_t length; /* in bytes, below 2^31 */
    int64_t count;  /* of records, as the batch's header says: not checked yet */
} chronik_section;

typedef struct {
    int64_t section, record, byte; /* counted from 0 */
    int32_t reason;                /* of sections.py, 0 for none */
} chronik_fault;

/* The flat form of unicode.py. */
typedef struct {
    const uint16_t *blocks;
    const int32_t *entries;
} chronik_unicode;

/* A signature to add to: 2^n bits, their number less one, and how many a token sets. */
typedef struct {
    uint8_t *bits;
    uint32_t mask;
    int32_t hashes;
} chronik_signature;

/* The SHA-256 of the sources that this was made of, and of what compiler. */
const char *chronik_sources(void);
const char *chronik_compiler(void);

/* The records of a section of `length` bytes, field by field: `count` timestamp deltas, and in `numbers` 7 times `count`
   of the other columns, in the order of sections.py. Returns 0, or the reason of the fault. */
int32_t chronik_columns(const uint8_t *section, int64_t length, int64_t count, int64_t last_offset_delta,
                        int64_t *timestamp_deltas, int32_t *numbers, chronik_fault *fault);

/* Adds the tokens of all records of `count` sections. `scratch` has the bytes of the longest section.
   Returns 0, or the reason of the fault; what came before it is added. */
int32_t chronik_sign(const chronik_section *sections, int64_t count, const chronik_unicode *unicode,
                     const chronik_signature *signature, uint8_t *scratch, chronik_fault *fault);

/* Names of members, one behind another: where each ends. */
typedef struct {
    const uint8_t *bytes;
    const int32_t *ends;
    int64_t count;
} chronik_names;

/* What values are, a state for each row; and their members, for each name a row of kinds, starts and lengths. */
typedef struct {
    uint8_t *states, *kinds;
    int32_t *starts, *lengths;
} chronik_members;

/* Reads values as JSON, wherever they are in `content`; -1 is the length of none. The places are checked by the caller. */
void chronik_read_members(const uint8_t *content, int64_t rows, const int32_t *starts, const int32_t *lengths,
                          const chronik_names *names, const chronik_members *out);

/* Copies what is at these places, one behind another; `data` has room for all of it. Escapes are resolved where `kinds`,
   which may be NULL, say so. A place of no length, and with `as_text` one that isn't UTF-8, is not valid, and empty. */
void chronik_gather(const uint8_t *content, int64_t rows, const int32_t *starts, const int32_t *lengths,
                    const uint8_t *kinds, int32_t as_text, uint8_t *data, int32_t *ends, uint8_t *valid);

/* The places of names and values of `counts` headers from each start on: 4 times `total`, which is the sum of the counts.
   Returns 0, or the reason why these are no headers. */
int32_t chronik_header_places(const uint8_t *content, int64_t length, int64_t rows, const int32_t *starts,
                              const int32_t *counts, int64_t total, int32_t *places);
