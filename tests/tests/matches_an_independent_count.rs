//! Of real programs under load, leaktrace counts the objects of each kind that another tool counts: as many made, as
//! many gone, and what is gone is not outstanding.

use anyhow::Result;
use tests::{real, root_or_skip};

fn matches(program: &real::Real) -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    program.holds(&program.counted()?)
}

#[test]
fn of_transmission_daemon_with_libevents_http_server() -> Result<()> {
    matches(&real::TRANSMISSION)
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
