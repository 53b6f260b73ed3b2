/* Values into columns: their text one behind another, the members of JSON objects, headers. See values.py for the same in
   Python, and what counts as JSON. */

#include <string.h>

#include "records.h"
#include "signer.h"

enum { DEEPEST = 100, LONGEST_NAME = 512, MOST_DIGITS = 18 };

/* The states and kinds of values.py. */
enum { NO_VALUE = 0, IS_OBJECT = 1, IS_OTHER = 2, IS_NO_JSON = 3 };
enum { ABSENT = 0, IS_NULL = 1, BOOLEAN = 2, INTEGER = 3, NUMBER = 4, STRING = 5, ESCAPED = 6, OBJECT = 7, ARRAY = 8 };

typedef struct {
    const uint8_t *at, *end;
} text;

/* The length of the character at `at`, which isn't ASCII; 0 where it is none. RFC 3629: no surrogates, nothing overlong. */
static inline int character(const uint8_t *at, const uint8_t *end) {
    uint8_t first = *at;
    if (first < 0xC2 || end - at < 2 || (at[1] & 0xC0) != 0x80) return 0;
    if (first < 0xE0) return 2;
    if (end - at < 3 || (at[2] & 0xC0) != 0x80) return 0;
    if (first < 0xF0) return (first == 0xE0 && at[1] < 0xA0) || (first == 0xED && at[1] > 0x9F) ? 0 : 3;
    if (first > 0xF4 || end - at < 4 || (at[3] & 0xC0) != 0x80) return 0;
    return (first == 0xF0 && at[1] < 0x90) || (first == 0xF4 && at[1] > 0x8F) ? 0 : 4;
}

static int is_utf8(const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        uint64_t word;
        while (end - at >= 8 && (memcpy(&word, at, 8), !(word & 0x8080808080808080u))) at += 8;
        if (at == end) break;
        if (*at < 0x80) {
            at++;
            continue;
        }
        int length = character(at, end);
        if (!length) return 0;
        at += length;
    }
    return 1;
}

static inline int is_digit(uint8_t byte) { return (uint8_t)(byte - '0') < 10; }

static inline void pass_space(text *in) {
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\n' || *in->at == '\r' || *in->at == '\t')) in->at++;
}

/* The code unit of the four hexadecimal digits at `at`, or -1. */
static int32_t four_digits(const uint8_t *at, const uint8_t *end) {
    int32_t unit = 0;
    if (end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        uint8_t letter = (uint8_t)((at[i] | 0x20) - 'a');
        if (is_digit(at[i])) unit = unit << 4 | (at[i] - '0');
        else if (letter < 6) unit = unit << 4 | (letter + 10);
        else return -1;
    }
    return unit;
}

/* The escape whose backslash is at the cursor. */
static int pass_escape(text *in) {
    if (in->end - in->at < 2) return 0;
    uint8_t name = in->at[1];
    in->at += 2;
    if (name != 'u') return name && strchr("\"\\/bfnrt", name) != NULL;
    int32_t unit = four_digits(in->at, in->end);
    if (unit < 0 || (unit >= 0xDC00 && unit < 0xE000)) return 0;
    in->at += 4;
    if (unit < 0xD800 || unit >= 0xE000) return 1;
    if (in->end - in->at < 6 || in->at[0] != '\\' || in->at[1] != 'u') return 0;
    unit = four_digits(in->at + 2, in->end);
    in->at += 6;
    return unit >= 0xDC00 && unit < 0xE000;
}

/* The string whose opening quote is at the cursor: STRING or ESCAPED, ABSENT for none. */
static uint8_t pass_string(text *in) {
    uint8_t kind = STRING;
    in->at++;
    while (in->at < in->end) {
        uint8_t byte = *in->at;
        if (byte == '"') {
            in->at++;
            return kind;
        }
        if (byte == '\\') {
            kind = ESCAPED;
            if (!pass_escape(in)) return ABSENT;
        } else if (byte >= 0x80) {
            int length = character(in->at, in->end);
            if (!length) return ABSENT;
            in->at += length;
        } else if (byte < 0x20) {
            return ABSENT;
        } else {
            in->at++;
        }
    }
    return ABSENT;
}

static inline int64_t pass_digits(text *in) {
    const uint8_t *start = in->at;
    while (in->at < in->end && is_digit(*in->at)) in->at++;
    return in->at - start;
}

static uint8_t pass_number(text *in) {
    uint8_t kind = INTEGER;
    if (*in->at == '-') in->at++;
    const uint8_t *start = in->at;
    int64_t digits = pass_digits(in);
    if (!digits || (digits > 1 && *start == '0')) return ABSENT;
    if (digits > MOST_DIGITS) kind = NUMBER;
    if (in->at < in->end && *in->at == '.') {
        kind = NUMBER;
        in->at++;
        if (!pass_digits(in)) return ABSENT;
    }
    if (in->at < in->end && (*in->at | 0x20) == 'e') {
        kind = NUMBER;
        in->at++;
        if (in->at < in->end && (*in->at == '+' || *in->at == '-')) in->at++;
        if (!pass_digits(in)) return ABSENT;
    }
    return kind;
}

static int pass_word(text *in, const char *word, int64_t length) {
    if (in->end - in->at < length || memcmp(in->at, word, (size_t)length)) return 0;
    in->at += length;
    return 1;
}

/* A value that is neither object nor array: its kind, ABSENT for none. */
static inline uint8_t pass_scalar(text *in) {
    switch (*in->at) {
    case '"': return pass_string(in);
    case 't': return pass_word(in, "true", 4) ? BOOLEAN : ABSENT;
    case 'f': return pass_word(in, "false", 5) ? BOOLEAN : ABSENT;
    case 'n': return pass_word(in, "null", 4) ? IS_NULL : ABSENT;
    default: return *in->at == '-' || is_digit(*in->at) ? pass_number(in) : ABSENT;
    }
}

/* The name of a member, its colon, and the space around: STRING or ESCAPED, ABSENT for none. */
static uint8_t pass_name(text *in, field *name) {
    if (in->at == in->end || *in->at != '"') return ABSENT;
    name->start = in->at + 1;
    uint8_t kind = pass_string(in);
    if (!kind) return ABSENT;
    name->length = (int32_t)(in->at - 1 - name->start);
    pass_space(in);
    if (in->at == in->end || *in->at != ':') return ABSENT;
    in->at++;
    pass_space(in);
    return kind;
}

/* The value at the cursor, whatever is in it: its kind, ABSENT for none. `outside` is how deep the cursor is in others. */
static uint8_t pass_value(text *in, int outside) {
    uint8_t closing[DEEPEST];
    int depth = 0;
    uint8_t kind = ABSENT;
    field name;
    for (;;) {
        if (in->at == in->end) return ABSENT;
        uint8_t byte = *in->at;
        if (byte == '{' || byte == '[') {
            if (outside + depth >= DEEPEST) return ABSENT;
            if (!depth) kind = byte == '{' ? OBJECT : ARRAY;
            closing[depth++] = byte == '{' ? '}' : ']';
            in->at++;
            pass_space(in);
            if (in->at < in->end && *in->at == closing[depth - 1]) {
                in->at++;
                depth--;
            } else {
                if (byte == '{' && !pass_name(in, &name)) return ABSENT;
                continue;
            }
        } else {
            uint8_t found = pass_scalar(in);
            if (!found) return ABSENT;
            if (!depth) return found;
        }
        for (;;) { /* after a value that is in another one */
            if (!depth) return kind;
            pass_space(in);
            if (in->at == in->end) return ABSENT;
            if (*in->at == ',') {
                in->at++;
                pass_space(in);
                if (closing[depth - 1] == '}' && !pass_name(in, &name)) return ABSENT;
                break;
            }
            if (*in->at != closing[depth - 1]) return ABSENT;
            in->at++;
            depth--;
        }
    }
}

/* Which of the wanted names this is, or -1. They tend to come in the same order: `guess` is tried first. */
static int64_t find_name(const field *name, uint8_t kind, const chronik_names *names, int64_t guess) {
    uint8_t resolved[LONGEST_NAME * 6];
    const uint8_t *start = name->start;
    int32_t length = name->length;
    if (kind == ESCAPED) {
        if (length > (int32_t)sizeof resolved) return -1;
        length = (int32_t)unescape(start, (size_t)length, resolved);
        start = resolved;
    }
    for (int64_t n = 0; n < names->count; n++) {
        int64_t here = guess + n < names->count ? guess + n : guess + n - names->count;
        int32_t from = here ? names->ends[here - 1] : 0;
        if (names->ends[here] - from == length && !memcmp(names->bytes + from, start, (size_t)length)) return here;
    }
    return -1;
}

/* What the value of `length` bytes is. The members that are wanted go into column `row` of the matrices. */
static uint8_t read_value(const uint8_t *content, int32_t start, int32_t length, const chronik_names *names,
                          const chronik_members *out, int64_t rows, int64_t row) {
    text in = {content + start, content + start + length};
    int64_t guess = 0;
    pass_space(&in);
    if (in.at == in.end) return IS_NO_JSON;
    if (*in.at != '{') {
        if (!pass_value(&in, 0)) return IS_NO_JSON;
        pass_space(&in);
        return in.at == in.end ? IS_OTHER : IS_NO_JSON;
    }
    in.at++;
    pass_space(&in);
    if (in.at < in.end && *in.at == '}') {
        in.at++;
    } else {
        for (;;) {
            field name;
            uint8_t how = pass_name(&in, &name);
            if (!how) return IS_NO_JSON;
            const uint8_t *from = in.at;
            uint8_t kind = pass_value(&in, 1);
            if (!kind) return IS_NO_JSON;
            int64_t wanted = names->count ? find_name(&name, how, names, guess) : -1;
            if (wanted >= 0) {
                int quotes = kind == STRING || kind == ESCAPED;
                int64_t place = wanted * rows + row;
                out->kinds[place] = kind;
                out->starts[place] = (int32_t)(from - content) + quotes;
                out->lengths[place] = (int32_t)(in.at - from) - 2 * quotes;
                guess = wanted + 1 < names->count ? wanted + 1 : 0;
            }
            pass_space(&in);
            if (in.at == in.end) return IS_NO_JSON;
            uint8_t after = *in.at++;
            if (after == '}') break;
            if (after != ',') return IS_NO_JSON;
            pass_space(&in);
        }
    }
    pass_space(&in);
    return in.at == in.end ? IS_OBJECT : IS_NO_JSON;
}

void chronik_read_members(const uint8_t *content, int64_t rows, const int32_t *starts, const int32_t *lengths,
                          const chronik_names *names, const chronik_members *out) {
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t n = 0; n < names->count; n++) out->kinds[n * rows + row] = ABSENT;
        uint8_t state = NO_VALUE;
        if (lengths[row] >= 0) state = read_value(content, starts[row], lengths[row], names, out, rows, row);
        out->states[row] = state;
        if (state == IS_NO_JSON)
            for (int64_t n = 0; n < names->count; n++) out->kinds[n * rows + row] = ABSENT;
        for (int64_t n = 0; n < names->count; n++) {
            int64_t place = n * rows + row;
            if (out->kinds[place] == ABSENT) {
                out->starts[place] = 0;
                out->lengths[place] = -1;
            }
        }
    }
}

void chronik_gather(const uint8_t *content, int64_t rows, const int32_t *starts, const int32_t *lengths,
                    const uint8_t *kinds, int32_t as_text, uint8_t *data, int32_t *ends, uint8_t *valid) {
    int32_t written = 0;
    for (int64_t row = 0; row < rows; row++) {
        const uint8_t *from = content + starts[row];
        int32_t length = lengths[row];
        valid[row] = length >= 0 && !(as_text && !is_utf8(from, from + length));
        if (valid[row] && kinds && kinds[row] == ESCAPED) {
            written += (int32_t)unescape(from, (size_t)length, data + written);
        } else if (valid[row]) {
            memcpy(data + written, from, (size_t)length);
            written += length;
        }
        ends[row] = written;
    }
}

int32_t chronik_header_places(const uint8_t *content, int64_t length, int64_t rows, const int32_t *starts,
                              const int32_t *counts, int64_t total, int32_t *places) {
    int64_t found = 0;
    for (int64_t row = 0; row < rows; row++) {
        cursor place = {content + starts[row], content + length};
        for (int32_t n = 0; n < counts[row]; n++, found++) {
            field name, value;
            int32_t reason = read_header(&place, place.end, &name, &value);
            if (reason) return reason;
            places[found] = (int32_t)(name.start - content);
            places[total + found] = name.length;
            places[2 * total + found] = (int32_t)(value.start - content);
            places[3 * total + found] = value.length;
        }
    }
    return FINE;
}
