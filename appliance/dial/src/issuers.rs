//! The issuers of certificates that a TLS client trusts: those in a file, or those that browsers trust.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the certificates in {}: {error}", file.display())]
pub struct IssuersError {
    file: PathBuf,
    error: String,
}

/// A client that trusts the issuers in `ca_file` (PEM) alone; without a file, those that browsers trust.
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
