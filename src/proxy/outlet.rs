//! The ways out for plugins other than HTTP: sockets with Tokio and rustls, mail with lettre. Addresses are chosen and checked
//! in `plugin::outlet`; nothing is resolved here.

use std::sync::{Arc, OnceLock};

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::identity::Secret;
use crate::plugin::HostError;
use crate::plugin::outlet::{Carrier, Mail, MailSecurity, Place, Relay, Transmission};

/// The most that is read from the peer of a stream while it closes (bytes).
const LAST_WORDS: u64 = 4096;

/// Sends a transmission to the address that was checked.
pub(super) async fn transmit(place: &Place, transmission: &Transmission) -> Result<(), HostError> {
    match transmission.carrier {
        Carrier::Udp => {
            let any = if place.address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any).await.map_err(|_| HostError::Unreachable)?;
            socket.connect(place.address).await.map_err(|_| HostError::Unreachable)?;
            for piece in &transmission.pieces {
                socket.send(piece).await.map_err(|_| HostError::Broken("datagram"))?;
            }
            Ok(())
        }
        Carrier::Tcp => write(connect(place).await?, transmission).await,
        Carrier::Tls => {
            let connector = TlsConnector::from(config(transmission.authorities.as_ref())?);
            let name = ServerName::try_from(place.host.clone()).map_err(|_| HostError::BadUrl("not a name that TLS verifies"))?;
            let stream = connector.connect(name, connect(place).await?).await.map_err(|_| HostError::Unreachable)?;
            write(stream, transmission).await
        }
    }
}

async fn connect(place: &Place) -> Result<TcpStream, HostError> {
    TcpStream::connect(place.address).await.map_err(|_| HostError::Unreachable)
}

/// Writes all pieces, closes the sending side and waits until the peer has closed its own.
async fn write(mut stream: impl AsyncRead + AsyncWrite + Unpin, transmission: &Transmission) -> Result<(), HostError> {
    let broken = |_| HostError::Broken("stream");
    for piece in &transmission.pieces {
        stream.write_all(piece).await.map_err(broken)?;
    }
    stream.shutdown().await.map_err(broken)?;
    let mut words = Vec::new();
    match stream.take(LAST_WORDS).read_to_end(&mut words).await {
        // A peer that closes without TLS `close_notify` has nevertheless received everything.
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(HostError::Broken("stream")),
        _ => Ok(()),
    }
}

fn certificates(pem: &Secret) -> Result<Vec<CertificateDer<'static>>, HostError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose().as_bytes()).collect();
    read.ok().filter(|found| !found.is_empty()).ok_or(HostError::BadUrl("the certificate authorities are not PEM"))
}

/// Whom TLS believes: the system's authorities, and those that are named. The system's are many files, read once.
fn config(authorities: Option<&Secret>) -> Result<Arc<ClientConfig>, HostError> {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    static USUAL: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let build = |more: Vec<CertificateDer<'static>>| {
        let system = SYSTEM.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        });
        let mut roots = system.clone();
        roots.add_parsable_certificates(more);
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    };
    match authorities {
        None => Ok(USUAL.get_or_init(|| build(Vec::new())).clone()),
        Some(pem) => Ok(build(certificates(pem)?)),
    }
}

/// Sends a mail through the relay at the address that was checked; TLS verifies the name it was resolved from.
pub(super) async fn mail(place: &Place, relay: &Relay, mail: &Mail) -> Result<Option<String>, HostError> {
    let message = message(mail).ok_or_else(|| HostError::MailRefused("an address or the subject is malformed".to_owned()))?;
    let tls = match relay.security {
        MailSecurity::Plain => Tls::None,
        MailSecurity::Starttls => Tls::Required(parameters(place, relay)?),
        MailSecurity::Tls => Tls::Wrapper(parameters(place, relay)?),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(place.address.ip().to_string())
        .port(place.address.port())
        .tls(tls)
        .timeout(Some(relay.timeout));
    if let Some((name, password)) = &relay.credentials {
        builder = builder.credentials(Credentials::new(name.clone(), password.expose().to_owned()));
    }
    match builder.build().send(message).await {
        Ok(response) => Ok(response.first_word().map(str::to_owned)),
        // The server's texts are not passed on: they may quote addresses.
        Err(error) => {
            let code = error.status().map_or_else(|| "no answer".to_owned(), |code| format!("SMTP {code}"));
            Err(match error.is_permanent() {
                true => HostError::MailRefused(code),
                false if error.status().is_none() && error.is_tls() => HostError::Mail("TLS failed".to_owned()),
                false => HostError::Mail(code),
            })
        }
    }
}

fn parameters(place: &Place, relay: &Relay) -> Result<TlsParameters, HostError> {
    let mut builder = TlsParameters::builder(place.host.clone());
    if let Some(pem) = &relay.authorities {
        for certificate in certificates(pem)? {
            let read = Certificate::from_der(certificate.to_vec());
            builder = builder.add_root_certificate(read.map_err(|_| HostError::BadUrl("a certificate authority cannot be read"))?);
        }
    }
    builder.build_rustls().map_err(|_| HostError::Mail("TLS cannot be set up".to_owned()))
}

fn message(mail: &Mail) -> Option<Message> {
    let from: Mailbox = mail.from.parse().ok()?;
    let domain = from.email.domain().to_owned();
    let mut builder = Message::builder().from(from).message_id(Some(format!("<{}@{domain}>", mail.id))).subject(mail.subject.clone());
    for to in &mail.to {
        builder = builder.to(to.parse().ok()?);
    }
    builder.header(ContentType::TEXT_PLAIN).body(mail.text.clone()).ok()
}
