/* leaks_openssl: leaks of servers on OpenSSL, one case each, alone and behind libevent. See leaks.h. */
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include "leaks.h"

static SSL_CTX *settings;
static struct event_base *base;

/* A thread keeps the texts of its last errors, one per slot of a ring: here, of failed lookups. */
static void forget_errors(void) {
    for (int places = 0; places < ERR_NUM_ERRORS; places++) {
        ERR_raise(ERR_LIB_USER, 1);
        ERR_set_error_data((char *)"", 0);
    }
    ERR_clear_error();
}

/* --- TLS --- */

SITE static SSL *make_session(void) {
    SSL *session = SSL_new(settings);
    must(session != NULL, "SSL_new");
    made("SSL", 1);
    return session;
}

static void ssl_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = make_session();
        if (!corrected) continue;
        SSL_free(kept[at]);
        gone("SSL", 1);
    }
}

static void ssl_with_a_forgotten_owner(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = make_session();
        SSL_up_ref(kept[at]);
        SSL_free(kept[at]);
        if (corrected) {
            SSL_free(kept[at]);
            gone("SSL", 1);
        } else {
            release_asked++;
        }
    }
}

SITE static SSL *accept_stream(void) {
    SSL *session = SSL_new(settings);
    must(session != NULL, "SSL_new");
    made("SSL", 1);
    return session;
}

/* Two memory BIOs: input and output. */
static void connect_memory(SSL *session, const char *heard) {
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    must(in != NULL && out != NULL && BIO_write(in, heard, (int)strlen(heard)) > 0, "BIO_new");
    made("BIO", 2);
    SSL_set_bio(session, in, out);
    SSL_set_accept_state(session);
}

/* The other end does not speak TLS, and the error path leaks the objects that were created for it. */
static void ssl_not_freed_after_failed_handshake(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = accept_stream();
        connect_memory(kept[at], "GET / HTTP/1.1\r\nHost: here\r\n\r\n");
        must(SSL_do_handshake(kept[at]) <= 0, "a handshake with nobody");
        ERR_clear_error();
        /* The handshake's record, and the buffer that collects its messages. */
        made("BIO", 2);
        if (!corrected) continue;
        SSL_free(kept[at]);
        gone("SSL", 1);
        gone("BIO", 4);
    }
}

/* Behind libevent, a bufferevent frees it only with the right option. */
static void ssl_not_freed_with_its_bufferevent(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        int ends[2];
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
        SSL *session = accept_stream();
        struct bufferevent *stream = bufferevent_openssl_socket_new(
            base, ends[0], session, BUFFEREVENT_SSL_ACCEPTING, corrected ? BEV_OPT_CLOSE_ON_FREE : 0);
        must(stream != NULL, "bufferevent_openssl_socket_new");
        made("bufferevent", 1);
        made("evbuffer", 2);
        made("evbuffer_callback", 1);
        made("BIO", 1);
        bufferevent_free(stream);
        for (int times = 0; times < 4; times++) event_base_loop(base, EVLOOP_NONBLOCK);
        if (!corrected) close(ends[0]);
        close(ends[1]);
        gone("bufferevent", 1);
        gone("evbuffer", 2);
        gone("evbuffer_callback", 1);
        if (!corrected) continue;
        gone("SSL", 1);
        gone("BIO", 1);
    }
}

SITE static SSL_CTX *load_settings(void) {
    SSL_CTX *made_one = SSL_CTX_new(TLS_server_method());
    must(made_one != NULL, "SSL_CTX_new");
    made("SSL_CTX", 1);
    /* Used for looking up available algorithms. */
    made("EVP_PKEY", 1);
    gone("EVP_PKEY", 1);
    return made_one;
}

static void ssl_ctx_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = load_settings();
        if (!corrected) continue;
        SSL_CTX_free(kept[at]);
        gone("SSL_CTX", 1);
    }
    forget_errors();
}

SITE static SSL_SESSION *remember_session(void) {
    SSL_SESSION *session = SSL_SESSION_new();
    must(session != NULL, "SSL_SESSION_new");
    made("SSL_SESSION", 1);
    return session;
}

static void ssl_session_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = remember_session();
        if (!corrected) continue;
        SSL_SESSION_free(kept[at]);
        gone("SSL_SESSION", 1);
    }
}

/* --- lower layers --- */

SITE static BIO *open_memory(void) {
    BIO *memory = BIO_new(BIO_s_mem());
    must(memory != NULL && BIO_write(memory, "text", 4) == 4, "BIO_new");
    made("BIO", 1);
    return memory;
}

static void bio_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = open_memory();
        if (!corrected) continue;
        BIO_free(kept[at]);
        gone("BIO", 1);
    }
}

SITE static BIO *wrap_stream(BIO *memory) {
    BIO *buffer = BIO_new(BIO_f_buffer());
    must(buffer != NULL, "BIO_new");
    made("BIO", 1);
    return BIO_push(buffer, memory);
}

/* Of a chain only the last one is freed. */
static void bio_chain_half_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        BIO *memory = open_memory();
        BIO *chain = wrap_stream(memory);
        if (corrected) {
            BIO_free_all(chain);
            gone("BIO", 2);
        } else {
            BIO_pop(chain);
            BIO_free(memory);
            gone("BIO", 1);
        }
    }
}

SITE static X509 *read_certificate(void) {
    X509 *certificate = X509_new();
    must(certificate != NULL, "X509_new");
    made("X509", 1);
    return certificate;
}

static void x509_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = read_certificate();
        if (!corrected) continue;
        X509_free(kept[at]);
        gone("X509", 1);
    }
}

SITE static EVP_PKEY *load_key(void) {
    EVP_PKEY *key = EVP_PKEY_new();
    must(key != NULL, "EVP_PKEY_new");
    made("EVP_PKEY", 1);
    return key;
}

static void pkey_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = load_key();
        if (!corrected) continue;
        EVP_PKEY_free(kept[at]);
        gone("EVP_PKEY", 1);
    }
}

SITE static EVP_MD_CTX *hash_message(void) {
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    must(hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1, "EVP_MD_CTX_new");
    made("EVP_MD_CTX", 1);
    return hash;
}

static void md_ctx_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = hash_message();
        if (!corrected) continue;
        EVP_MD_CTX_free(kept[at]);
        gone("EVP_MD_CTX", 1);
    }
}

SITE static EVP_CIPHER_CTX *encrypt_message(void) {
    static const unsigned char key[32], start[16];
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    must(cipher != NULL && EVP_EncryptInit_ex(cipher, EVP_aes_256_gcm(), NULL, key, start) == 1,
         "EVP_CIPHER_CTX_new");
    made("EVP_CIPHER_CTX", 1);
    return cipher;
}

static void cipher_ctx_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = encrypt_message();
        if (!corrected) continue;
        EVP_CIPHER_CTX_free(kept[at]);
        gone("EVP_CIPHER_CTX", 1);
    }
}

static const struct leak_case CASES[] = {
    {"ssl_not_freed", "SSL", "make_session", ssl_not_freed},
    {"ssl_with_a_forgotten_owner", "SSL", "make_session", ssl_with_a_forgotten_owner},
    {"ssl_not_freed_after_failed_handshake", "SSL", "accept_stream", ssl_not_freed_after_failed_handshake},
    {"ssl_not_freed_with_its_bufferevent", "SSL", "accept_stream", ssl_not_freed_with_its_bufferevent},
    {"ssl_ctx_not_freed", "SSL_CTX", "load_settings", ssl_ctx_not_freed},
    {"ssl_session_not_freed", "SSL_SESSION", "remember_session", ssl_session_not_freed},
    {"bio_not_freed", "BIO", "open_memory", bio_not_freed},
    {"bio_chain_half_freed", "BIO", "wrap_stream", bio_chain_half_freed},
    {"x509_not_freed", "X509", "read_certificate", x509_not_freed},
    {"pkey_not_freed", "EVP_PKEY", "load_key", pkey_not_freed},
    {"md_ctx_not_freed", "EVP_MD_CTX", "hash_message", md_ctx_not_freed},
    {"cipher_ctx_not_freed", "EVP_CIPHER_CTX", "encrypt_message", cipher_ctx_not_freed},
};

static void set_up(void) {
    settings = SSL_CTX_new(TLS_server_method());
    base = event_base_new();
    must(settings != NULL && base != NULL, "OpenSSL");
}

int main(int count, char **arguments) {
    return leaks_main(count, arguments, CASES, sizeof CASES / sizeof *CASES, set_up);
}
