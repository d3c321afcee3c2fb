//! A mock provider: deterministic answers in the formats of OpenAI and Anthropic, and faults on demand.
//!
//! `odock-edge mock-provider` serves it, `demo` runs it beside the gateway, the tests use it to provoke the failures of
//! real providers, and `bench/load` measures against it, so the path without switches must stay cheap. The same request
//! always gets the same bytes, except for the request id, which is a counter.

mod anthropic;
mod app;
mod ask;
mod openai;
mod reply;
mod send;
mod socket;
mod switches;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;

use app::App;
use socket::Socket;
pub use switches::{Fault, Switches};

/// Where the provider listens, and how it behaves towards requests that say nothing else.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9091")]
    pub listen: SocketAddr,
    /// Answer 401 unless this credential comes as `Authorization: Bearer`, `x-api-key` or `x-goog-api-key`.
    #[arg(long, value_name = "KEY")]
    pub require_key: Option<String>,
    /// Defaults that `x-mock-*` headers, `x-mock-*` query members and the body's `mock` object override.
    #[command(flatten)]
    pub switches: Switches,
}

impl Options {
    /// A well-behaved provider at `listen`.
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, require_key: None, switches: Switches::default() }
    }
}

/// The mock provider, ready to be added to a Pingora server or to be run with [`Provider::serve`].
pub struct Provider {
    address: SocketAddr,
    /// The bound listener; `None` until it is bound.
    listener: Option<TcpListener>,
    app: Arc<App>,
}

/// Counts the requests whose head reached the provider. Tests use it to prove that a refused request did not.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<AtomicU64>);

impl Seen {
    /// The count so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The provider as a Pingora service, which binds its address when it is started. HTTP/1.1 and h2c share the port.
pub fn service(options: Options) -> Provider {
    Provider { address: options.listen, listener: None, app: Arc::new(App::new(options)) }
}

/// [`service`] with its address bound already, so that errors show at once and port 0 is resolved.
///
/// # Errors
/// Errors from binding the address.
pub fn bind(options: Options) -> io::Result<Provider> {
    let mut provider = service(options);
    let listener = listen(provider.address)?;
    provider.address = listener.local_addr()?;
    provider.listener = Some(listener);
    Ok(provider)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Provider {
    /// The address; with the real port once it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle to the count of requests.
    pub fn seen(&self) -> Seen {
        self.app.seen().clone()
    }

    /// Serves in the running Tokio runtime, without a Pingora server, until the future is dropped.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn serve(mut self) -> io::Result<()> {
        let (_keep, shutdown) = tokio::sync::watch::channel(false);
        self.accept(shutdown).await
    }

    async fn accept(&mut self, mut shutdown: ShutdownWatch) -> io::Result<()> {
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => listen(self.address)?,
        };
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                changed = shutdown.changed() => match changed {
                    Ok(()) if !*shutdown.borrow() => continue,
                    _ => return Ok(()),
                },
            };
            match accepted {
                Ok((stream, _)) => {
                    let (app, shutdown) = (self.app.clone(), shutdown.clone());
                    tokio::spawn(async move {
                        if let Ok(socket) = Socket::new(stream) {
                            app.process_new(Box::new(socket), &shutdown).await;
                        }
                    });
                }
                // Out of file descriptors, or the peer closed already. Neither may end the provider or make it spin.
                Err(error) => {
                    log::warn!("mock provider: accept failed: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            }
        }
    }
}

#[async_trait]
impl Service for Provider {
    async fn start_service(&mut self, _fds: Option<ListenFds>, shutdown: ShutdownWatch, _listeners_per_fd: usize) {
        if let Err(error) = self.accept(shutdown).await {
            log::error!("mock provider on {}: {error}", self.address);
        }
    }

    fn name(&self) -> &str {
        "mock provider"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
