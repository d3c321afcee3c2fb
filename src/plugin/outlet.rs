//! The ways out other than HTTP: sockets, mail and files, under the same rules as `Host::fetch`: only what the operator
//! granted, names resolved once, every address checked, and connections only to checked addresses.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::host::{Host, HostError};
use super::manifest::Need;
use super::network::{HostName, Target};
use crate::identity::Secret;

/// Serialises appends: otherwise two could find a file full at the same time, and one would rotate the other's new file away.
static APPENDING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// One datagram for each piece; nobody says whether it arrived.
    Udp,
    /// A connection that anybody on the way can read.
    Tcp,
    /// A connection whose other end has proved its name.
    Tls,
}

/// Bytes to send through a socket.
#[derive(Debug, Clone)]
pub struct Transmission {
    /// `host:port`, which must be in `grant.network`.
    pub to: String,
    /// The transport.
    pub carrier: Carrier,
    /// The datagrams, or the pieces to be written one after the other.
    pub pieces: Vec<Bytes>,
    /// Additional certificate authorities to trust, PEM.
    pub authorities: Option<Secret>,
    /// The time for the whole transmission.
    pub timeout: Duration,
}

/// How a mail server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MailSecurity {
    /// In clear until `STARTTLS`, which must work.
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// In clear; for a server on the same machine.
    Plain,
}

/// A mail server.
#[derive(Debug, Clone)]
pub struct Relay {
    /// `host:port`, which must be in `grant.network`.
    pub address: String,
    /// Whether and when TLS is used.
    pub security: MailSecurity,
    /// User name and password.
    pub credentials: Option<(String, Secret)>,
    /// Additional certificate authorities to trust, PEM.
    pub authorities: Option<Secret>,
    /// The time for the whole submission.
    pub timeout: Duration,
}

/// A mail with a plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// `Name <address>` or an address.
    pub from: String,
    /// The recipients, at least one.
    pub to: Vec<String>,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The part of `Message-ID` before the `@`, the same at every attempt.
    pub id: String,
}

impl Mail {
    /// Whether a text is a sender or recipient: `Name <address>` or an address (RFC 5322 §3.4).
    pub fn is_mailbox(text: &str) -> bool {
        !text.contains(['\r', '\n']) && text.parse::<lettre::message::Mailbox>().is_ok()
    }
}

/// A connection that was judged: to this very address; `tls_host` is the name to verify.
#[derive(Debug, Clone)]
pub struct Place {
    /// The address.
    pub address: SocketAddr,
    /// The host name that it was resolved from.
    pub host: String,
}

impl Host {
    /// Checks that a `host:port` may be connected to, when a configuration is loaded.
    ///
    /// # Errors
    /// Without `network`, for a malformed address, or for a host that is not granted.
    pub fn may_connect(&self, to: &str) -> Result<(), HostError> {
        self.need(Need::Network)?;
        let target = Target::of_socket(to)?;
        self.rule(&target).map(|_| ())
    }

    /// Sends bytes to a granted host. With TCP and TLS, the peer has received everything when this returns: it has closed its side.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn transmit(&self, transmission: Transmission) -> Result<(), HostError> {
        self.need(Need::Network)?;
        let deadline = Instant::now() + transmission.timeout;
        let mut outcome = Err(HostError::Unresolved(transmission.to.clone()));
        for place in self.places(&transmission.to, deadline).await? {
            let sent = self.egress().transmit(&place, &transmission);
            outcome = tokio::time::timeout_at(deadline, sent).await.unwrap_or(Err(HostError::Timeout));
            if !matches!(outcome, Err(HostError::Unreachable)) {
                break;
            }
        }
        outcome
    }

    /// Hands a mail to a granted server. Returns the first word of the server's reply, if there is one.
    ///
    /// # Errors
    /// Without `mail` or `network`; [`HostError::MailRefused`] if the server will not take it, else [`HostError::Mail`].
    pub async fn mail(&self, relay: &Relay, mail: &Mail) -> Result<Option<String>, HostError> {
        self.need(Need::Mail)?;
        self.need(Need::Network)?;
        let deadline = Instant::now() + relay.timeout;
        let mut outcome = Err(HostError::Unresolved(relay.address.clone()));
        for place in self.places(&relay.address, deadline).await? {
            let sent = self.egress().mail(&place, relay, mail);
            outcome = tokio::time::timeout_at(deadline, sent).await.unwrap_or(Err(HostError::Timeout));
            if !matches!(outcome, Err(HostError::Unreachable)) {
                break;
            }
        }
        outcome
    }

    /// The addresses to try, all of which have been checked.
    async fn places(&self, to: &str, deadline: Instant) -> Result<Vec<Place>, HostError> {
        let target = Target::of_socket(to)?;
        let host = match &target.host {
            HostName::Dns(name) => name.clone(),
            HostName::Ip(ip) => ip.to_string(),
        };
        let addresses = self.addresses(&target, deadline).await?;
        let place = |address: SocketAddr| Place { address: SocketAddr::new(address.ip().to_canonical(), target.port), host: host.clone() };
        Ok(addresses.into_iter().take(3).map(place).collect())
    }

    /// Checks that a file is under a granted directory.
    ///
    /// # Errors
    /// Without `files`, for a relative path or one with `..`, or for a directory that is not granted.
    pub fn may_write(&self, path: &Path) -> Result<(), HostError> {
        self.need(Need::Files)?;
        let plain = path.is_absolute() && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let granted = plain && self.granted().directories().iter().any(|directory| path.starts_with(directory) && path != directory);
        if granted { Ok(()) } else { Err(HostError::FileNotGranted(path.display().to_string())) }
    }

    /// Appends to a file under a granted directory. A file that would exceed `rotate` bytes is first renamed to `NAME.1`, that one
    /// to `NAME.2` and so on; `keep` of them are kept. The bytes are on disk when this returns.
    ///
    /// # Errors
    /// As for [`Self::may_write`], and if the file system reports an error.
    pub async fn append(&self, path: &Path, bytes: &[u8], rotate: u64, keep: u32) -> Result<(), HostError> {
        self.may_write(path)?;
        let failed = |error: std::io::Error| HostError::File(error.kind());
        let _alone = APPENDING.lock().await;
        let there = tokio::fs::metadata(path).await.map_or(0, |known| known.len());
        if there > 0 && there.saturating_add(bytes.len() as u64) > rotate {
            for number in (1..keep).rev() {
                let older = numbered(path, number);
                if tokio::fs::try_exists(&older).await.unwrap_or(false) {
                    tokio::fs::rename(&older, numbered(path, number + 1)).await.map_err(failed)?;
                }
            }
            match keep {
                0 => tokio::fs::remove_file(path).await.map_err(failed)?,
                _ => tokio::fs::rename(path, numbered(path, 1)).await.map_err(failed)?,
            }
        }
        let mut file = tokio::fs::OpenOptions::new().create(true).append(true).mode(0o640).open(path).await.map_err(failed)?;
        file.write_all(bytes).await.map_err(failed)?;
        file.flush().await.map_err(failed)?;
        file.sync_data().await.map_err(failed)
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::plugin::manifest::NeedSet;
    use crate::plugin::{Granted, SharedHost};
    use std::sync::Arc;

    fn host(granted: Granted) -> Host {
        let mut needs = NeedSet::default();
        [Need::Files, Need::Network, Need::Mail].into_iter().for_each(|need| needs.insert(need));
        Host::new("test".into(), needs, granted, SharedHost::offline(), Arc::default())
    }

    #[tokio::test]
    async fn files_stay_where_they_are_granted_and_turn_over() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(Granted::new().directory(dir.path().to_owned()));
        let file = dir.path().join("audit.jsonl");
        for bad in [
            dir.path().to_owned(),
            dir.path().join("../escape"),
            PathBuf::from("relative"),
            PathBuf::from("/etc/passwd"),
            PathBuf::from(format!("{}x/y", dir.path().display())),
        ] {
            assert!(matches!(host.append(&bad, b"x", 10, 1).await, Err(HostError::FileNotGranted(_))), "{}", bad.display());
        }
        for n in 0..7 {
            host.append(&file, format!("line {n}\n").as_bytes(), 14, 2).await.unwrap();
        }
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(text(&file), "line 6\n");
        assert_eq!(text(&numbered(&file, 1)), "line 4\nline 5\n");
        assert_eq!(text(&numbered(&file, 2)), "line 2\nline 3\n");
        assert!(!numbered(&file, 3).exists());
    }

    #[tokio::test]
    async fn sockets_and_mail_obey_the_rules_of_fetch() {
        let host = host(Granted::new().network(crate::plugin::network::HostRule::parse("127.0.0.1:514").unwrap()));
        let to = |to: &str| Transmission {
            to: to.into(),
            carrier: Carrier::Tcp,
            pieces: vec![],
            authorities: None,
            timeout: Duration::from_secs(1),
        };
        for (address, refused) in [
            ("127.0.0.1:514", "leads to an address"),
            ("[::ffff:127.0.0.1]:514", "leads to an address"),
            ("127.0.0.1:515", "not in grant.network"),
            ("169.254.169.254:514", "not in grant.network"),
            ("127.1:514", "URL refused"),
            ("2130706433:514", "URL refused"),
            ("user@127.0.0.1:514", "URL refused"),
            ("127.0.0.1", "URL refused"),
            ("127.0.0.1:514/x", "URL refused"),
        ] {
            let error = host.transmit(to(address)).await.unwrap_err().to_string();
            assert!(error.contains(refused), "{address}: {error}");
            let relay = Relay {
                address: address.into(),
                security: MailSecurity::Plain,
                credentials: None,
                authorities: None,
                timeout: Duration::from_secs(1),
            };
            let mail = Mail { from: String::new(), to: vec![], subject: String::new(), text: String::new(), id: String::new() };
            assert!(host.mail(&relay, &mail).await.unwrap_err().to_string().contains(refused), "{address}");
        }
        assert!(matches!(Host::detached().transmit(to("127.0.0.1:514")).await, Err(HostError::NotGranted("network"))));
    }
}
