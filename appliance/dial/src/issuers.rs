//! The issuers of certificates that a TLS client trusts: those in a file, those that browsers trust, or anybody.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the certificates in {}: {error}", file.display())]
pub struct IssuersError {
    file: PathBuf,
    error: String,
}

/// A TLS client that trusts only the issuers in `ca_file` (PEM), or without a file those that browsers trust.
///
/// # Errors
/// The file cannot be read, or names no issuer.
pub fn trusting(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, IssuersError> {
    let roots = match ca_file {
        Some(file) => read(file).map_err(|error| IssuersError { file: file.to_owned(), error })?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

fn read(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("there is none".to_owned()) } else { Ok(roots) }
}

/// A TLS client that does not check who the server is: anybody on the path can then read and change everything.
#[must_use]
pub fn trusting_anybody() -> Arc<ClientConfig> {
    let builder = ClientConfig::builder();
    let anybody = Arc::new(Anybody(Arc::clone(builder.crypto_provider())));
    Arc::new(builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth())
}

/// Accepts every certificate. The server's signature is still checked, so that a broken server is found.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_names_no_issuer_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let file = dir.path().join(name);
            std::fs::write(&file, content).unwrap();
            file
        };
        let pem = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
        assert!(trusting(Some(&file("good.pem", &pem))).is_ok());
        assert!(trusting(None).is_ok());
        let not_base64 = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (name, content) in [("empty", ""), ("words", "words\n"), ("base64", not_base64), ("der", no_certificate)] {
            let file = file(name, content);
            let error = trusting(Some(&file)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("the certificates in {}: ", file.display())), "{error}");
        }
        let error = trusting(Some(&dir.path().join("absent"))).unwrap_err().to_string();
        assert!(error.contains("absent: ") && error.contains("No such file"), "{error}");
    }
}
