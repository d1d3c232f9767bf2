/* With COUNT_OBJECTS, preload_count also counts library objects.
 *
 * A block of the malloc family that a constructor returns is an object of the constructor's kind, and it is destroyed
 * when any code frees that block. If nested constructors return the same block, the outer one decides the kind. The
 * output has an additional line for each kind that was seen: its name, how many were created and how many were
 * destroyed. Libraries that bind their own calls at build time (OpenSSL) hide constructor calls within. An object in
 * the program's own memory (libuv, event_assign) lives until it is ended, or until another one is placed there. */
static struct { const char *name; long created; } kinds[MOST_KINDS];

static int kind_named(const char *name) {
    for (int at = 1; at < MOST_KINDS; at++) {
        if (kinds[at].name == NULL) kinds[at].name = name;
        if (strcmp(kinds[at].name, name) == 0) return at;
    }
    abort();
}

/* An object that moves keeps its kind; an object that was counted as another kind is removed from that count. */
static void *object(const char *name, void *handle) {
    if (!counting || handle == NULL) return handle;
    pthread_mutex_lock(&lock);
    size_t at = place((uintptr_t)handle);
    while (table[at].address != 0 && table[at].address != (uintptr_t)handle) at = (at + 1) % ROOM;
    if (table[at].address != 0) {
        if (table[at].kind != 0) kinds[table[at].kind].created--;
        table[at].kind = kind_named(name);
        kinds[table[at].kind].created++;
    }
    pthread_mutex_unlock(&lock);
    return handle;
}

/* Addresses of caller-allocated objects: their kind, 0 after the end. */
enum { MOST_PLACES = 1 << 12 };
static struct { void *address; int kind; } places[MOST_PLACES];

/* An object of this kind was initialized at this address, or with NULL ended. */
static void placed(const char *name, void *address) {
    if (!counting) return;
    pthread_mutex_lock(&lock);
    int at = 0;
    while (places[at].address != NULL && places[at].address != address)
        if (++at == MOST_PLACES) abort();
    if (places[at].kind != 0) ended[places[at].kind]++;
    places[at].address = address;
    places[at].kind = name == NULL ? 0 : kind_named(name);
    if (name != NULL) kinds[places[at].kind].created++;
    pthread_mutex_unlock(&lock);
}

static void write_kinds(int out) {
    for (int at = 1; at < MOST_KINDS && kinds[at].name != NULL; at++) {
        char text[128];
        int length = snprintf(text, sizeof text, "%s %ld %ld\n", kinds[at].name, kinds[at].created, ended[at]);
        if (syscall(SYS_write, out, text, length) != length) _exit(5);
    }
}

/* The function that ours interposes. */
#define NEXT(name)                                                             \
    static __typeof__(&name) next;                                             \
    if (next == NULL) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
typedef void *any;
typedef const void *text;

#define MAKER0(kind, name) any name(void) { NEXT(name); return object(kind, next()); }
#define MAKER1(kind, name, A) any name(A a) { NEXT(name); return object(kind, next(a)); }
#define MAKER2(kind, name, A, B) any name(A a, B b) { NEXT(name); return object(kind, next(a, b)); }
#define MAKER3(kind, name, A, B, C) any name(A a, B b, C c) { NEXT(name); return object(kind, next(a, b, c)); }
#define MAKER4(kind, name, A, B, C, D)                                         \
    any name(A a, B b, C c, D d) { NEXT(name); return object(kind, next(a, b, c, d)); }
#define MAKER5(kind, name, A, B, C, D, E)                                      \
    any name(A a, B b, C c, D d, E e) { NEXT(name); return object(kind, next(a, b, c, d, e)); }
#define MAKER6(kind, name, A, B, C, D, E, F)                                   \
    any name(A a, B b, C c, D d, E e, F f) { NEXT(name); return object(kind, next(a, b, c, d, e, f)); }
#define MAKER7(kind, name, A, B, C, D, E, F, G)                                \
    any name(A a, B b, C c, D d, E e, F f, G g) { NEXT(name); return object(kind, next(a, b, c, d, e, f, g)); }

/* The object is the first block that is acquired within the call, if any. */
#define FIRST_BLOCK(kind, call)                                                \
    first_is = kind;                                                           \
    int result = call;                                                         \
    first_is = NULL;                                                           \
    return result

/* libevent */
int event_base_once(any base, int fd, short what, any callback, any argument, text when) {
    NEXT(event_base_once);
    FIRST_BLOCK("event_once", next(base, fd, what, callback, argument, when));
}
/* The library assigns and removes its own events through the same functions. */
static int called_by_program(const void *caller) {
    Dl_info of;
    return dladdr(caller, &of) != 0 && strstr(of.dli_fname, "/libevent") == NULL;
}
/* An assigned event counts once it is added, which the program does next. */
static any assigned;
int event_assign(any event, any base, int fd, short what, any callback, any argument) {
    NEXT(event_assign);
    if (called_by_program(__builtin_return_address(0))) assigned = event;
    return next(event, base, fd, what, callback, argument);
}
int event_add(any event, text timeout) {
    NEXT(event_add);
    if (event == assigned) placed("event_assigned", event);
    assigned = NULL;
    return next(event, timeout);
}
int event_del(any event) {
    NEXT(event_del);
    if (called_by_program(__builtin_return_address(0))) placed(NULL, event);
    return next(event);
}
any event_new(any base, int fd, short what, any callback, any argument) {
    NEXT(event_new);
    return object(what & 8 ? "event_signal" : "event", next(base, fd, what, callback, argument));
}
MAKER0("event_base", event_base_new)
MAKER1("event_base", event_base_new_with_config, any)
MAKER0("event_config", event_config_new)
MAKER0("evbuffer", evbuffer_new)
MAKER3("evbuffer_callback", evbuffer_add_cb, any, any, any)
MAKER4("evbuffer_file_segment", evbuffer_file_segment_new, int, long, long, unsigned)
MAKER3("bufferevent", bufferevent_socket_new, any, int, int)
MAKER5("bufferevent", bufferevent_openssl_socket_new, any, int, any, int, int)
MAKER5("ev_token_bucket_cfg", ev_token_bucket_cfg_new, size_t, size_t, size_t, size_t, any)
MAKER2("bufferevent_rate_limit_group", bufferevent_rate_limit_group_new, any, any)
MAKER6("evconnlistener", evconnlistener_new, any, any, any, unsigned, int, int)
MAKER7("evconnlistener", evconnlistener_new_bind, any, any, any, unsigned, int, any, int)
MAKER2("evdns_base", evdns_base_new, any, int)
MAKER5("evdns_request", evdns_base_resolve_ipv4, any, text, int, any, any)
MAKER1("evhttp", evhttp_new, any)
MAKER5("evhttp_connection", evhttp_connection_base_bufferevent_new, any, any, any, text, unsigned short)
MAKER2("evhttp_request", evhttp_request_new, any, any)
MAKER0("evhttp_uri", evhttp_uri_new)
MAKER1("evhttp_uri", evhttp_uri_parse, text)
MAKER2("evhttp_uri", evhttp_uri_parse_with_flags, text, unsigned)

/* libzmq */
MAKER0("zmq_ctx", zmq_ctx_new)
MAKER2("zmq_socket", zmq_socket, any, int)
MAKER0("zmq_timers", zmq_timers_new)
int zmq_msg_init_size(any message, size_t size) {
    NEXT(zmq_msg_init_size);
    FIRST_BLOCK("zmq_msg", next(message, size));
}
int zmq_msg_init_data(any message, any data, size_t size, any free_function, any hint) {
    NEXT(zmq_msg_init_data);
    FIRST_BLOCK("zmq_msg", next(message, data, size, free_function, hint));
}

/* OpenSSL */
MAKER1("SSL", SSL_new, any)
MAKER1("SSL_CTX", SSL_CTX_new, any)
MAKER3("SSL_CTX", SSL_CTX_new_ex, any, text, any)
MAKER0("SSL_SESSION", SSL_SESSION_new)
MAKER1("BIO", BIO_new, any)
MAKER2("BIO", BIO_new_ex, any, any)
MAKER2("BIO", BIO_new_mem_buf, text, int)
MAKER0("X509", X509_new)
MAKER2("X509", X509_new_ex, any, text)
MAKER0("EVP_PKEY", EVP_PKEY_new)
MAKER0("EVP_MD_CTX", EVP_MD_CTX_new)
MAKER0("EVP_CIPHER_CTX", EVP_CIPHER_CTX_new)

/* uSockets, linked as a shared object for this purpose */
MAKER3("us_socket", us_create_poll, any, int, unsigned)
MAKER3("us_async", us_internal_create_async, any, int, unsigned)
MAKER3("us_timer", us_create_timer, any, int, unsigned)
MAKER5("us_loop", us_create_loop, any, any, any, any, unsigned)
MAKER6("us_listen_socket", us_socket_context_listen, int, any, text, int, int, int)
struct options { text texts[6]; int flag; };
MAKER4("us_socket_context", us_create_socket_context, int, any, int, struct options)
MAKER3("us_socket_context", us_create_child_socket_context, int, any, int)

/* c-ares: ares_init and ares_dup call this. */
int ares_init_options(any channel, any options, int mask) {
    NEXT(ares_init_options);
    int result = next(channel, options, mask);
    if (result == 0) object("ares_channel", *(any *)channel);
    return result;
}
int ares_parse_a_reply(any answer, int length, any host, any addresses, any address_count) {
    NEXT(ares_parse_a_reply);
    int result = next(answer, length, host, addresses, address_count);
    if (result == 0) object("ares_hostent", *(any *)host);
    return result;
}

/* libuv: uv_tcp_init calls uv_tcp_init_ex. */
int uv_loop_init(any loop) {
    NEXT(uv_loop_init);
    placed("uv_loop", loop);
    return next(loop);
}
int uv_loop_close(any loop) {
    NEXT(uv_loop_close);
    int result = next(loop);
    if (result == 0) placed(NULL, loop);
    return result;
}
int uv_timer_init(any loop, any timer) {
    NEXT(uv_timer_init);
    placed("uv_timer", timer);
    return next(loop, timer);
}
int uv_tcp_init_ex(any loop, any stream, unsigned flags) {
    NEXT(uv_tcp_init_ex);
    placed("uv_tcp", stream);
    return next(loop, stream, flags);
}
int uv_fs_scandir(any loop, any request, text path, int flags, any callback) {
    NEXT(uv_fs_scandir);
    placed("uv_fs", request);
    return next(loop, request, path, flags, callback);
}
void uv_fs_req_cleanup(any request) {
    NEXT(uv_fs_req_cleanup);
    placed(NULL, request);
    next(request);
}
void uv_close(any handle, any callback) {
    NEXT(uv_close);
    placed(NULL, handle);
    next(handle, callback);
}
