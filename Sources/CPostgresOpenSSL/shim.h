// OpenSSL 3: digests and key derivation for the protocol core, TLS for the transport.
// `static inline` wrappers only where OpenSSL has a macro, which Swift cannot import. No logic.
#ifndef CPOSTGRES_OPENSSL_SHIM_H
#define CPOSTGRES_OPENSSL_SHIM_H

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#endif
