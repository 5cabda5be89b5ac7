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

/// Notes libpq's message and returns false.
bool libpq_arm_fail(libpq_arm *arm, const char *what);
uint64_t libpq_arm_now(void);
