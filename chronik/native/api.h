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
