//! TLS options of the commands that connect to a blade, or to the proxy before it (`wss://`).

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use fanblade_dial::{OpenError, trusting, trusting_anybody};
use rustls::ClientConfig;
use tokio_tungstenite::tungstenite;

/// Which certificates to trust.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TlsArgs {
    /// With wss://: trust these issuers (PEM) alone, in place of those that browsers trust
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With wss://: do not check who the server is; anybody on the path can then read and change everything
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
}

impl TlsArgs {
    /// The TLS configuration for a connection to `url`; `None`: the default, which trusts the issuers that browsers
    /// trust.
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

/// Why TLS failed, and what could be done; `None`: the error is not about TLS.
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
