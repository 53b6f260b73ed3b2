/* What this library was made of, for whoever loads it. */

#include "native.h"

const char *chronik_sources(void) { return CHRONIK_SOURCES; }

const char *chronik_compiler(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}
