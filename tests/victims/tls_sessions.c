/* tls_sessions: TLS 1.2 and 1.3 connections between a server and a client of this process, whose server caches sessions
 * without tickets, and whose client keeps the newest session of each connection. OpenSSL makes copies of sessions inside.
 *
 * usage: tls_sessions ROUNDS. Its truth: sessions in the server's cache, by OpenSSL's own count, and sessions kept. */
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "victim.h"

enum { MOST = 10000 };

static SSL_SESSION *kept[MOST];
static long keeps;

static void must(int done, const char *what) {
    if (done) return;
    fprintf(stderr, "tls_sessions: %s failed\n", what);
    _exit(4);
}

static void certify(SSL_CTX *server) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    must(key != NULL && certificate != NULL, "EVP_EC_gen");
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    must(X509_sign(certificate, key, EVP_sha256()) > 0, "X509_sign");
    must(SSL_CTX_use_certificate(server, certificate) == 1, "SSL_CTX_use_certificate");
    must(SSL_CTX_use_PrivateKey(server, key) == 1, "SSL_CTX_use_PrivateKey");
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static SSL_CTX *server_settings(void) {
    SSL_CTX *server = SSL_CTX_new(TLS_server_method());
    must(server != NULL, "SSL_CTX_new");
    certify(server);
    SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_id_context(server, (const unsigned char *)"victim", 6);
    return server;
}

SITE static void accept_client(SSL *server) {
    SSL_do_handshake(server);
}

SITE static void keep_session(SSL *client) {
    must(keeps < MOST, "a session more");
    kept[keeps] = SSL_get1_session(client);
    must(kept[keeps] != NULL, "SSL_get1_session");
    keeps++;
}

static void connect_once(SSL_CTX *servers, SSL_CTX *clients) {
    BIO *one, *other;
    must(BIO_new_bio_pair(&one, 0, &other, 0) == 1, "BIO_new_bio_pair");
    SSL *server = SSL_new(servers), *client = SSL_new(clients);
    must(server != NULL && client != NULL, "SSL_new");
    SSL_set_bio(server, one, one);
    SSL_set_bio(client, other, other);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    for (int turn = 0; turn < 8 && !(SSL_is_init_finished(server) && SSL_is_init_finished(client)); turn++) {
        SSL_do_handshake(client);
        accept_client(server);
    }
    char text[8];
    must(SSL_write(server, "hello", 5) == 5, "SSL_write");
    must(SSL_read(client, text, sizeof text) == 5, "SSL_read");
    keep_session(client);
    SSL_shutdown(client);
    SSL_shutdown(server);
    SSL_free(client);
    SSL_free(server);
}

int main(int count, char **arguments) {
    long rounds = count > 1 ? atol(arguments[1]) : 100;
    ready();
    SSL_CTX *servers = server_settings(), *clients = SSL_CTX_new(TLS_client_method());
    must(clients != NULL, "SSL_CTX_new");
    for (long round = 0; round < rounds; round++) {
        SSL_CTX_set_max_proto_version(servers, round % 2 == 0 ? TLS1_3_VERSION : TLS1_2_VERSION);
        connect_once(servers, clients);
    }
    say("{\"cached\":%ld,\"kept\":%ld}\n", SSL_CTX_sess_number(servers), keeps);
    await_word("exit");
    return 0;
}
