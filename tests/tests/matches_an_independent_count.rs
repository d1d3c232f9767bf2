//! For real programs under load, leaktrace counts the same library objects of each kind as bpftrace: created and
//! destroyed; destroyed objects are not outstanding.

use anyhow::Result;
use tests::real;

fn matches(program: &real::RealProgram) -> Result<()> {
    program.check(&program.counted()?)
}

#[test]
fn of_transmission_daemon_with_libevents_http_server() -> Result<()> {
    matches(&real::TRANSMISSION)
}

#[test]
fn of_a_jupyter_kernel_with_pyzmqs_own_libzmq() -> Result<()> {
    matches(&real::IPYKERNEL)
}

#[test]
fn of_a_service_with_pyzmqs_own_libzmq() -> Result<()> {
    matches(&real::PYZMQ)
}

#[test]
fn of_a_service_with_debians_pyzmq_and_libzmq() -> Result<()> {
    matches(&real::PYZMQ_OF_DEBIAN)
}

fn lives(server: &real::Server) -> Result<()> {
    server.matches()
}

#[test]
fn of_socketify_with_usockets_on_libuv() -> Result<()> {
    lives(&real::SOCKETIFY)
}

#[test]
fn of_a_server_on_uwebsockets() -> Result<()> {
    lives(&real::UWEBSOCKETS)
}

#[test]
fn of_a_server_on_uwebsockets_with_tls() -> Result<()> {
    lives(&real::UWEBSOCKETS_TLS)
}

#[test]
fn of_tor_with_a_relays_tls() -> Result<()> {
    matches(&real::TOR)
}

#[test]
fn of_coturn_with_tcp_tls_and_dtls() -> Result<()> {
    matches(&real::COTURN)
}

#[test]
fn of_sslsplit_between_two_tls_connections() -> Result<()> {
    matches(&real::SSLSPLIT)
}

#[test]
fn of_nginx_with_tls() -> Result<()> {
    matches(&real::NGINX_TLS)
}
