/* api.h with what it needs, once. */
#ifndef CHRONIK_NATIVE_H
#define CHRONIK_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#include "api.h"

#endif
