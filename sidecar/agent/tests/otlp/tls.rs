//! TLS of servers of tests that demand a client's certificate. The certificates are made by
//! `tls/make.sh`.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// `authority.pem`, which signed the others, and `server` and `client` as `.pem` and `.key`.
pub(crate) fn file(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/otlp/tls");
    PathBuf::from(folder).join(name)
}

pub(crate) fn http() -> TlsAcceptor {
    // Another test of the process may have installed one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = |name| CertificateDer::from_pem_file(file(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate("authority.pem")).unwrap();
    let clients = WebPkiClientVerifier::builder(Arc::new(roots));
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![certificate("server.pem")],
            PrivateKeyDer::from_pem_file(file("server.key")).unwrap(),
        );
    Arc::new(config.unwrap()).into()
}

pub(crate) fn grpc() -> ServerTlsConfig {
    let read = |name| std::fs::read(file(name)).unwrap();
    ServerTlsConfig::new()
        .identity(Identity::from_pem(read("server.pem"), read("server.key")))
        .client_ca_root(Certificate::from_pem(read("authority.pem")))
}
