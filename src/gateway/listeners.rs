//! What the process listens on, looked at before it is needed: Pingora opens listeners when their service runs, tries for
//! half a minute and then leaves a process behind that serves nothing.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::GatewayError;
use crate::config;

/// A process that is on its way out may hold an address for so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everything a configuration listens on.
pub(super) fn addresses(server: &config::ServerSettings, admin: Option<SocketAddr>) -> impl Iterator<Item = SocketAddr> {
    server.listen.iter().copied().chain(admin)
}

/// Whether all of these addresses can be had, together.
///
/// # Errors
/// The first that cannot: it is another process's, not this machine's, or not allowed.
pub(super) fn free(addresses: impl Iterator<Item = SocketAddr>) -> Result<(), GatewayError> {
    let until = Instant::now() + PATIENCE;
    let mut held = Vec::new();
    for address in addresses {
        let listener = loop {
            match TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(GatewayError::Listen(address, error)),
            }
        };
        held.push(listener);
    }
    Ok(())
}

/// Whether the listener can use these files. Pingora reads them when the service starts, which after taking over the
/// listeners of a running process is too late.
pub(super) fn usable(files: &config::TlsFiles) -> Result<(), String> {
    let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
    let bad = |reason: String| format!("{cert}, {key}: {reason}");
    let loaded = pingora::tls::load_certs_and_key_files(&cert, &key).map_err(|e| bad(e.to_string()))?;
    let (chain, key_der) = loaded.ok_or_else(|| bad("no certificate, or no key".to_owned()))?;
    let built = pingora::tls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key_der);
    built.map(|_| ()).map_err(|e| bad(e.to_string()))
}
