//! TLS of the commands that connect to a blade, or to what stands before it (`wss://`).

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use fanblade_dial::{OpenError, trusting};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio_tungstenite::tungstenite;

/// Whom to trust.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TlsArgs {
    /// With wss://: trust these issuers (PEM) alone, in place of those that browsers trust
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With wss://: do not ask who the server is; anybody on the way can then read and change everything
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
}

impl TlsArgs {
    /// What a connection to `url` is made with; `None`: the issuers that browsers trust, where it is wss://.
    pub(crate) fn config(&self, url: &str) -> anyhow::Result<Option<Arc<ClientConfig>>> {
        if (self.ca.is_some() || self.insecure) && !url.starts_with("wss://") {
            bail!("--ca and --insecure are for wss://, and {url} is another address");
        }
        Ok(match &self.ca {
            Some(file) => Some(trusting(Some(file))?),
            None => self.insecure.then(trusting_anybody),
        })
    }
}

/// Why TLS failed, with what could be done; `None`: the error is another.
pub(crate) fn explain(error: &OpenError) -> Option<String> {
    let OpenError::Handshake(tungstenite::Error::Io(error)) = error else { return None };
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let hint = match error {
        rustls::Error::InvalidCertificate(_) => "; --ca FILE names issuers of your own, --insecure asks for none",
        rustls::Error::InvalidMessage(_) => "; does the server speak TLS at this port? Without it: ws://",
        _ => "",
    };
    Some(format!("TLS: {error}{hint}"))
}

fn trusting_anybody() -> Arc<ClientConfig> {
    let builder = ClientConfig::builder();
    let anybody = Arc::new(Anybody(Arc::clone(builder.crypto_provider())));
    Arc::new(builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth())
}

/// Takes every certificate. That the server has its key is still looked at, so that a broken one is found.
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
