//! TLS clients of `churn`: they test how a server handles failures, and do not verify whom they talk to.

use std::sync::Arc;

use anyhow::Result;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Accepts every certificate, or none.
#[derive(Debug)]
struct Verdict {
    provider: Arc<CryptoProvider>,
    trusts: bool,
}

impl ServerCertVerifier for Verdict {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.trusts {
            Ok(ServerCertVerified::assertion())
        } else {
            // The client then sends the alert `unknown_ca`.
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Client configurations.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    trusting: Arc<ClientConfig>,
    distrusting: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Creates both kinds of clients, once.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            trusting: config(true)?,
            distrusting: config(false)?,
            name: ServerName::try_from("localhost")?,
        })
    }

    /// A client that accepts every certificate, or none.
    pub(crate) fn client(&self, trusts: bool) -> Result<ClientConnection, Error> {
        let config = if trusts { &self.trusting } else { &self.distrusting };
        ClientConnection::new(Arc::clone(config), self.name.clone())
    }
}

fn config(trusts: bool) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let verdict = Verdict { provider: Arc::clone(&provider), trusts };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verdict))
        .with_no_client_auth();
    // Full handshakes only: no session resumption.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A `ClientHello` of TLS 1.2 (RFC 5246, 7.4.1.2) that offers only `TLS_NULL_WITH_NULL_NULL`, which no server may
/// choose.
pub(crate) fn hello_without_common_cipher(random: &[u8; 32]) -> Vec<u8> {
    const VERSION: [u8; 2] = [3, 3];
    // After the random: no session; two bytes of cipher suites, the null one; one compression method, none.
    let body = [&VERSION[..], random, &[0], &[0, 2, 0, 0], &[1, 0]].concat();
    // Both lengths are below 256: 41, and 45 with the header of the message.
    let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
    let message = [&[1, 0, 0, length], &body[..]].concat();
    [&[22, 3, 1, 0, length.saturating_add(4)], &message[..]].concat()
}
