#pragma once
#include "include/libpq_arms.h"

#include <libpq-fe.h>
#include <stddef.h>

struct libpq_arm {
    PGconn *connection;
    char error[512];
};

typedef struct {
    char *key;
    char *data;
    int key_length;
    int data_length;
} libpq_row;

struct libpq_rows {
    libpq_row *row;
    int32_t count;
    int32_t capacity;
};

struct libpq_arrays {
    char *bytes[2];
    int length[2];
};

/// Sends statement number `index` of a flight, without a Sync.
typedef bool (*libpq_send)(libpq_arm *arm, const void *context, int32_t index);

/// `count` statements in pipeline mode, with a Sync after each or one for all.
bool libpq_arm_flight(libpq_arm *arm, int32_t count, bool sync_each, libpq_send send, const void *context);
/// Notes libpq's message and returns false.
bool libpq_arm_fail(libpq_arm *arm, const char *what);
uint64_t libpq_arm_now(void);
