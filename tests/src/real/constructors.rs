//! Constructors of library objects, from the libraries' headers and manuals: the witness's own table.
//!
//! Omits a function whose only caller is another function of the table that returns its result.

use crate::bpftrace::{Constructor, Handle, returned};

/// Constructors of libevent 2.1: `event2/*.h`.
pub const LIBEVENT: &[Constructor] = &[
    // EV_SIGNAL is 8: `event2/event.h`.
    Constructor { other: Some((2, 8, "event_signal")), ..returned("event", "event_new") },
    Constructor { handle: Handle::FirstBlock, ..returned("event_once", "event_base_once") },
    returned("event_base", "event_base_new_with_config"),
    returned("event_config", "event_config_new"),
    returned("evbuffer", "evbuffer_new"),
    returned("evbuffer_callback", "evbuffer_add_cb"),
    returned("evbuffer_file_segment", "evbuffer_file_segment_new"),
    returned("bufferevent", "bufferevent_socket_new"),
    returned("bufferevent", "bufferevent_filter_new"),
    returned("bufferevent", "bufferevent_openssl_socket_new"),
    returned("bufferevent", "bufferevent_openssl_filter_new"),
    Constructor { handle: Handle::Stored(2, 0), ..returned("bufferevent", "bufferevent_pair_new") },
    Constructor { handle: Handle::Stored(2, 8), ..returned("bufferevent", "bufferevent_pair_new") },
    returned("bufferevent_rate_limit_group", "bufferevent_rate_limit_group_new"),
    returned("ev_token_bucket_cfg", "ev_token_bucket_cfg_new"),
    returned("evconnlistener", "evconnlistener_new"),
    returned("evdns_base", "evdns_base_new"),
    returned("evdns_request", "evdns_base_resolve_ipv4"),
    returned("evdns_request", "evdns_base_resolve_ipv6"),
    returned("evdns_request", "evdns_base_resolve_reverse"),
    returned("evdns_request", "evdns_base_resolve_reverse_ipv6"),
    returned("evdns_getaddrinfo_request", "evdns_getaddrinfo"),
    returned("evdns_server_port", "evdns_add_server_port_with_base"),
    returned("evhttp", "evhttp_new"),
    returned("evhttp", "evhttp_start"),
    returned("evhttp_bound_socket", "evhttp_bind_listener"),
    returned("evhttp_connection", "evhttp_connection_base_bufferevent_new"),
    returned("evhttp_request", "evhttp_request_new"),
    returned("evhttp_uri", "evhttp_uri_new"),
    returned("evhttp_uri", "evhttp_uri_parse_with_flags"),
];

/// Constructors of OpenSSL 3: its manual, section 3. `X_new` is `X_new_ex` there.
pub const OPENSSL: &[Constructor] = &[
    returned("SSL", "SSL_new"),
    returned("SSL_CTX", "SSL_CTX_new_ex"),
    returned("SSL_SESSION", "SSL_SESSION_new"),
    returned("SSL_SESSION", "SSL_SESSION_dup"),
    returned("BIO", "BIO_new_ex"),
    returned("X509", "X509_new_ex"),
    returned("X509", "X509_dup"),
    returned("X509", "d2i_X509"),
    returned("X509_STORE_CTX", "X509_STORE_CTX_new_ex"),
    returned("EVP_PKEY", "EVP_PKEY_new"),
    returned("EVP_PKEY_CTX", "EVP_PKEY_CTX_new"),
    returned("EVP_PKEY_CTX", "EVP_PKEY_CTX_new_id"),
    returned("EVP_PKEY_CTX", "EVP_PKEY_CTX_new_from_name"),
    returned("EVP_PKEY_CTX", "EVP_PKEY_CTX_new_from_pkey"),
    returned("EVP_PKEY_CTX", "EVP_PKEY_CTX_dup"),
    returned("EVP_MD_CTX", "EVP_MD_CTX_new"),
    returned("EVP_CIPHER_CTX", "EVP_CIPHER_CTX_new"),
    returned("EVP_MAC_CTX", "EVP_MAC_CTX_new"),
    returned("EVP_MAC_CTX", "EVP_MAC_CTX_dup"),
    returned("EVP_KDF_CTX", "EVP_KDF_CTX_new"),
    returned("EVP_KDF_CTX", "EVP_KDF_CTX_dup"),
];

/// Constructors of libzmq 4: `zmq.h`.
pub const LIBZMQ: &[Constructor] = &[
    returned("zmq_ctx", "zmq_ctx_new"),
    returned("zmq_socket", "zmq_socket"),
    // Content that does not fit into the caller's structure.
    Constructor { handle: Handle::FirstBlock, ..returned("zmq_msg", "zmq_msg_init_size") },
    Constructor { handle: Handle::FirstBlock, ..returned("zmq_msg", "zmq_msg_init_data") },
    returned("zmq_timers", "zmq_timers_new"),
    returned("zmq_atomic_counter", "zmq_atomic_counter_new"),
    returned("zmq_stopwatch", "zmq_stopwatch_start"),
    returned("zmq_thread", "zmq_threadstart"),
];

/// Constructors of uSockets: `libusockets.h`, and `internal/internal.h` for the object that wakes up a loop.
pub const USOCKETS: &[Constructor] = &[
    returned("us_socket", "us_create_poll"),
    returned("us_socket", "us_socket_context_connect"),
    returned("us_listen_socket", "us_socket_context_listen"),
    returned("us_listen_socket", "us_socket_context_listen_unix"),
    returned("us_udp_socket", "us_create_udp_socket"),
    returned("us_timer", "us_create_timer"),
    returned("us_async", "us_internal_create_async"),
    returned("us_socket_context", "us_create_socket_context"),
    returned("us_socket_context", "us_create_child_socket_context"),
    returned("us_loop", "us_create_loop"),
];
