//! Checks listeners before they are needed: Pingora opens them when their service runs, retries for half a minute, and then
//! leaves behind a process that serves nothing.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::GatewayError;
use crate::config;

/// How long to wait for an address that a process on its way out may still hold.
const PATIENCE: Duration = Duration::from_secs(2);

/// All addresses that a configuration listens on.
pub(super) fn addresses(server: &config::ServerSettings, admin: Option<SocketAddr>) -> impl Iterator<Item = SocketAddr> {
    server.listen.iter().copied().chain(admin)
}

/// Checks that all these addresses can be bound at the same time.
///
/// # Errors
/// The first address that cannot: another process uses it, this machine does not have it, or it is not permitted.
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

/// Checks that the listener can use these files. Pingora reads them when the service starts, which is too late after the
/// listeners of a running process have been taken over.
pub(super) fn usable(files: &config::TlsFiles) -> Result<(), String> {
    let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
    let bad = |reason: String| format!("{cert}, {key}: {reason}");
    let loaded = pingora::tls::load_certs_and_key_files(&cert, &key).map_err(|e| bad(e.to_string()))?;
    let (chain, key_der) = loaded.ok_or_else(|| bad("no certificate, or no key".to_owned()))?;
    let built = pingora::tls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key_der);
    built.map(|_| ()).map_err(|e| bad(e.to_string()))
}
