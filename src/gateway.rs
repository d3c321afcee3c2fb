//! The process: one Pingora server with the proxy, the admin listener and the upkeep service; start, reload, upgrade and
//! drain.

mod announce;
mod drain;
mod listeners;
mod outbox;
mod signals;
mod startable;
mod taken;

pub use startable::{hindrances, startable};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use announce::{announce, notify};
use arc_swap::ArcSwap;
use async_trait::async_trait;
pub use drain::TAIL;
use listeners::{addresses, free};
use pingora::apps::HttpServerOptions;
use pingora::apps::http_app::HttpServer;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{ExecutionPhase, RunArgs, Server, ShutdownWatch};
use pingora::services::ServiceWithDependents;
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service;
use signals::Signals;
use taken::Taken;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;

use crate::config::{self, Diagnostic, RecordsSettings, Severity, Snapshot, StateSettings};
use crate::evidence::{Evidence, Signer};
use crate::gate::guard::Sessions;
use crate::gate::{Background, Worker};
use crate::identity::{KeyHasher, Keyring, is_minted_id};
use crate::outbox::Outbox;
use crate::plugin::{Manifest, Roster, SharedHost, Stores};
use crate::proxy::{
    Admin, Edge, Flights, Governor, Live, LiveError, Patient, PingoraEgress, Readiness, State, watch_addresses, watch_health,
};
use crate::safety::modules::{self, Blueprint};
use crate::store::StateError;
use crate::store::memory::MemoryState;
use crate::store::records::{RecordError, RecordStore, UsageRecord};
use crate::store::redis::{self, RedisState};
use crate::store::sql::{self, SqlRecords};
use crate::telemetry::{Metrics, MetricsError};
use crate::usage::{Books, Debts};

/// How much is buffered for a caller before it is sent (bytes): head and body of a usual answer leave in one write. Every event
/// of a stream, and the end of any answer, is sent at once.
const ANSWER_BUFFER: usize = 16 * 1024;
/// The interval of releasing expired reservations.
const REAPING: Duration = Duration::from_secs(30);
/// The interval of attempts to open the record store.
const REOPENING: Duration = Duration::from_secs(2);
/// How long the start waits for the record store before the gateway becomes ready without it.
const RECORDS_PATIENCE: Duration = Duration::from_secs(3);

/// Why the gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The configuration is invalid; contains every diagnostic.
    #[error("the configuration is invalid")]
    Config(Vec<Diagnostic>),
    /// The configuration is valid, but an address or certificate in it cannot be used.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The evidence directory or its signing key cannot be used.
    #[error("evidence: {0}")]
    Evidence(String),
    /// The key with which keys made at run time are hashed cannot be used.
    #[error("the hashing key of keys: {0}")]
    Keys(String),
    /// The directory of the usage spool cannot be used.
    #[error("governance.usage_spool: {0}")]
    Usage(String),
    /// Two metrics have the same name, which is a defect.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The address of the state store is invalid.
    #[error("state.url: {0}")]
    State(String),
    /// The certificate of the listener cannot be used.
    #[error("server.tls: {0}")]
    Tls(String),
    /// The process cannot listen on an address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

/// Assembles a gateway from the bundled plugins and additional ones.
#[derive(Default)]
pub struct Builder {
    plugins: Vec<&'static Manifest>,
    services: Vec<Box<dyn ServiceWithDependents>>,
}

/// A gateway, ready to run.
pub struct Gateway {
    server: Server,
    shared: Arc<Shared>,
}

/// What the services of the process share.
struct Shared {
    config: PathBuf,
    roster: Roster,
    host: SharedHost,
    /// The stores that plugins with a storage grant can use.
    stores: Stores,
    metrics: Arc<Metrics>,
    live: Arc<ArcSwap<Live>>,
    /// How many configurations were loaded, the same file again included.
    loads: AtomicU64,
    flights: Arc<Flights>,
    closing: Arc<AtomicBool>,
    ready: Arc<AtomicBool>,
    evidence: Evidence,
    background: Background,
    /// The deliveries of plugins, and the task that sends them.
    outbox: Outbox,
    sending: parking_lot::Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// Counters and sessions, which survive a reload.
    state: State,
    workers: parking_lot::Mutex<Vec<Worker>>,
    drain: Duration,
    /// Limits, budgets, quotas and usage.
    governor: Arc<Governor>,
    /// Keys made at run time.
    keyring: Option<Arc<Keyring>>,
    records: RecordsSettings,
    opened: parking_lot::Mutex<Option<Arc<dyn RecordStore>>>,
    /// The addresses that this process listens on, regardless of later reloads.
    listening: Vec<SocketAddr>,
    /// Where this process sends its listeners, whatever was loaded since: a successor waits there or in vain.
    upgrade_sock: PathBuf,
    taken: Taken,
}

impl Gateway {
    /// A builder with the bundled plugins.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Builder {
    /// Adds a plugin, whose name must be new.
    #[must_use]
    pub fn plugin(mut self, manifest: &'static Manifest) -> Self {
        self.plugins.push(manifest);
        self
    }

    /// Adds a safety module, for the rest of the process. Its name must be new; the configuration uses it under `safety.modules`
    /// like those of the built-in modules.
    #[must_use]
    pub fn safety_module(self, blueprint: &'static Blueprint) -> Self {
        if !modules::link(blueprint) {
            log::error!(target: "safety", security_module = blueprint.name; "a built-in module has this name: the linked one is left out");
        }
        self
    }

    /// Adds another service to the process; the demo runs its mock provider in this way.
    #[must_use]
    pub fn service(mut self, service: Box<dyn ServiceWithDependents>) -> Self {
        self.services.push(service);
        self
    }

    /// All plugins of this build, bundled and added.
    pub fn roster(&self) -> Roster {
        self.plugins.iter().copied().fold(Roster::bundled(), Roster::with)
    }

    /// Loads the configuration and prepares the process. With `upgrade`, the listeners are taken over from the running process
    /// instead of being opened.
    ///
    /// # Errors
    /// The configuration is invalid, an address or certificate cannot be used, or a directory cannot be written.
    pub fn build(self, config: &Path, upgrade: bool) -> Result<Gateway, GatewayError> {
        pingora::tls::install_default_crypto_provider();
        let roster = self.roster();
        let metrics = Metrics::new()?;
        let loaded = config::load(config, &roster).map_err(GatewayError::Config)?;
        let plugins = loaded.config.plugin_settings();
        let (background, workers) = Background::new(plugins.async_queue, plugins.async_workers, Some(metrics.pool("plugins")));
        let stores = Stores::default();
        let outbox = Outbox::new(Arc::new(loaded.config.outbox_settings()), metrics.outbox());
        let host = SharedHost::new(Arc::new(PingoraEgress::new()), background.clone()).with_stores(stores.clone());
        let host = host.with_dispatch(Arc::new(outbox.clone()));
        let snapshot = Arc::new(build(&loaded, &roster, &host, &metrics)?);
        startable(&loaded.config, snapshot.server.tls.as_ref()).map_err(GatewayError::Config)?;
        if !upgrade {
            free(addresses(&snapshot.server, snapshot.admin.listen))?;
        }
        let signer = Signer::load(&snapshot.evidence.signing_key).map_err(|e| GatewayError::Evidence(e.to_string()))?;
        let evidence =
            Evidence::start(&snapshot.evidence, Arc::new(signer), metrics.evidence()).map_err(|e| GatewayError::Evidence(e.to_string()))?;
        outbox.record_in(evidence.clone());
        let settings = snapshot.server.clone();
        let admin = snapshot.admin.listen;
        let state = state(&loaded.config, &stores)?;
        let live = Arc::new(ArcSwap::from_pointee(Live::new(snapshot, &metrics, &state)?));
        let spool = live.load().snapshot.governance.usage_spool.clone();
        let books = Books::open(spool.as_deref(), metrics.governance()).map_err(|e| GatewayError::Usage(e.to_string()))?;
        let governor = Arc::new(Governor::new(state.store.clone(), books, metrics.governance()));
        let keyring = keyring(&live.load().snapshot, &metrics)?;
        if let Some(keyring) = &keyring {
            stores.offer_keyring(Arc::clone(keyring));
        }
        let shared = Arc::new(Shared {
            keyring,
            config: config.to_owned(),
            roster,
            host,
            stores,
            metrics,
            live,
            loads: AtomicU64::new(1),
            flights: Arc::default(),
            closing: Arc::default(),
            ready: Arc::default(),
            evidence,
            background,
            outbox,
            sending: parking_lot::Mutex::default(),
            state,
            workers: parking_lot::Mutex::new(workers),
            drain: settings.drain,
            governor,
            records: loaded.config.records_settings().map_err(GatewayError::Config)?,
            opened: parking_lot::Mutex::default(),
            listening: addresses(&settings, admin).collect(),
            upgrade_sock: settings.upgrade_sock.clone(),
            taken: Taken::of(loaded.config.sections()),
        });

        let conf = ServerConf {
            threads: settings.threads,
            // Pingora sleeps for exactly this long and then drops everything; the process ends by itself before that.
            grace_period_seconds: Some((settings.drain + TAIL).as_secs().max(1)),
            graceful_shutdown_timeout_seconds: Some(1),
            upgrade_sock: settings.upgrade_sock.display().to_string(),
            max_retries: 8,
            ..ServerConf::default()
        };
        let options = Opt { upgrade, ..Opt::default() };
        let mut server = Server::new_with_opt_and_conf(Some(options), conf);
        server.bootstrap();

        let books = shared.governor.books.clone();
        let readiness = Arc::new(Readiness::new(shared.ready.clone(), shared.keyring.clone(), shared.state.store.clone(), books));
        let edge = Edge {
            live: shared.live.clone(),
            flights: shared.flights.clone(),
            closing: shared.closing.clone(),
            evidence: shared.evidence.clone(),
            background: shared.background.clone(),
            governor: shared.governor.clone(),
            keyring: shared.keyring.clone(),
            readiness: readiness.clone(),
            metrics: shared.metrics.clone(),
        };
        let mut proxy = pingora_proxy::http_proxy(&server.configuration, edge);
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        options.h2_idle_timeout = Some(settings.keepalive.max(Duration::from_secs(1)));
        proxy.server_options = Some(options);
        let mut proxy = Service::new("proxy".to_owned(), Patient::new(proxy, shared.live.clone()));
        for address in &settings.listen {
            let mut listener = ListenerConfig::tcp(address.to_string()).l4_buffer(L4BufferSettings::default().write(ANSWER_BUFFER));
            if let Some(files) = &settings.tls {
                let mut tls = TlsSettings::intermediate(&files.cert.display().to_string(), &files.key.display().to_string())
                    .map_err(|e| GatewayError::Tls(e.to_string()))?;
                tls.enable_h2();
                listener = listener.tls(tls);
            }
            proxy.add_listener(listener);
        }
        server.add_service(proxy);
        if let Some(address) = admin {
            let live = shared.live.clone();
            let app = Admin {
                metrics: shared.metrics.clone(),
                readiness,
                live: shared.live.clone(),
                keyring: shared.keyring.clone(),
                books: shared.governor.books.clone(),
                bus: shared.state.store.clone(),
                config_hash: Box::new(move || live.load().snapshot.hash.clone()),
            };
            let mut service = Service::new("admin".to_owned(), HttpServer::new_app(app));
            service.threads = Some(1);
            service.add_tcp(&address.to_string());
            server.add_service(service);
        }
        for service in self.services {
            server.add_boxed_service(service);
        }
        let mut upkeep = background_service(
            "upkeep",
            Upkeep { shared: shared.clone(), phases: parking_lot::Mutex::new(Some(server.watch_execution_phase())) },
        );
        upkeep.threads = Some(1);
        server.add_service(upkeep);
        Ok(Gateway { server, shared })
    }
}

/// The store of counters and sessions. That its server is unavailable is no error here; the first request to it notices.
fn state(config: &config::Config, stores: &Stores) -> Result<State, GatewayError> {
    let state = match config.state_settings().map_err(GatewayError::Config)? {
        StateSettings::Embedded => State { store: Arc::new(MemoryState::default()), secret: rand::random::<[u8; 32]>().to_vec() },
        StateSettings::Redis(address) => {
            let store = RedisState::open(address.expose(), redis::Options::default()).map_err(|e| GatewayError::State(e.to_string()))?;
            stores.offer_values(Arc::new(store.clone()));
            // All replicas know the address, and nobody else does if there is a password in it; otherwise a warning says so.
            State { store: Arc::new(store), secret: address.expose().as_bytes().to_vec() }
        }
    };
    stores.offer_state(state.store.clone());
    Ok(state)
}

/// The ring of keys made at run time, which is still empty.
fn keyring(snapshot: &Snapshot, metrics: &Metrics) -> Result<Option<Arc<Keyring>>, GatewayError> {
    let Some(settings) = &snapshot.governance.keys else { return Ok(None) };
    let hasher = KeyHasher::of(&settings.hashing).map_err(|error| GatewayError::Keys(error.to_string()))?;
    Ok(Some(Arc::new(Keyring::new(hasher, snapshot.homes.clone(), settings.grace).counted(metrics.keys()))))
}

/// Reads, checks and builds a configuration, without opening anything.
fn load(path: &Path, roster: &Roster, host: &SharedHost, metrics: &Metrics) -> Result<Snapshot, GatewayError> {
    let loaded = config::load(path, roster).map_err(GatewayError::Config)?;
    let snapshot = build(&loaded, roster, host, metrics)?;
    startable(&loaded.config, snapshot.server.tls.as_ref()).map_err(GatewayError::Config)?;
    Ok(snapshot)
}

fn build(loaded: &config::Loaded, roster: &Roster, host: &SharedHost, metrics: &Metrics) -> Result<Snapshot, GatewayError> {
    for warning in &loaded.warnings {
        log::warn!(target: "config", "{warning}");
    }
    Snapshot::build(&loaded.config, roster, host, metrics).map_err(GatewayError::Config)
}

impl Gateway {
    /// Serves until a signal ends the process: SIGTERM and SIGINT drain, SIGHUP reloads, SIGUSR2 hands over to a new process.
    pub fn run(self) {
        let arguments = RunArgs { shutdown_signal: Box::new(Signals { shared: self.shared.clone() }) };
        self.server.run(arguments);
    }
}

impl Shared {
    /// Loads the configuration file again. A file with errors changes nothing.
    fn reload(&self) {
        let started = Instant::now();
        let loaded = config::load(&self.config, &self.roster).map_err(GatewayError::Config).and_then(|loaded| {
            let snapshot = build(&loaded, &self.roster, &self.host, &self.metrics)?;
            Ok((Live::new(Arc::new(snapshot), &self.metrics, &self.state)?, Taken::of(loaded.config.sections())))
        });
        self.metrics.reloaded(loaded.is_ok());
        match loaded {
            Ok((live, taken)) => {
                let (restart, fixed) = self.taken.differing(&taken).into_iter().partition::<Vec<_>, _>(|name| *name == taken::UPGRADE_SOCK);
                let fixed = fixed.join(", ");
                if !fixed.is_empty() {
                    log::warn!(target: "reload", settings = fixed.as_str(); "these are taken at start and stay as they were: send SIGUSR2, or restart, to apply them");
                }
                if !restart.is_empty() {
                    log::warn!(target: "reload", settings = taken::UPGRADE_SOCK; "this process hands over at its old place: restart it to apply this; SIGUSR2 is refused meanwhile");
                }
                let hash = live.snapshot.hash.clone();
                let homes = live.snapshot.homes.clone();
                live.snapshot.follows(&self.live.load().snapshot);
                self.live.store(Arc::new(live));
                self.loads.fetch_add(1, Ordering::Release);
                if let Some(keyring) = &self.keyring {
                    keyring.table().rehome(homes);
                }
                self.probe();
                log::info!(target: "reload", config_hash = hash.as_str(), took_ms = started.elapsed().as_millis() as u64; "configuration reloaded");
            }
            Err(GatewayError::Config(diagnostics)) => {
                for diagnostic in diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error) {
                    log::error!(target: "reload", "the running configuration stays: {diagnostic}");
                }
            }
            Err(error) => log::error!(target: "reload", "the running configuration stays: {error}"),
        }
    }

    /// Whether another process could take over with the file as it is now: it loads, it would wait where this one hands over,
    /// and every address that it adds is free. The new process would find out about an address only after this one has let go
    /// of its own.
    fn replaceable(&self) -> Result<(), String> {
        let next = load(&self.config, &self.roster, &self.host, &self.metrics).map_err(|error| match error {
            GatewayError::Config(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            other => other.to_string(),
        })?;
        if next.server.upgrade_sock != self.upgrade_sock {
            let (ours, theirs) = (self.upgrade_sock.display(), next.server.upgrade_sock.display());
            return Err(format!("it hands over at {ours}, and server.upgrade_sock is {theirs} now: put it back, or restart"));
        }
        let added = addresses(&next.server, next.admin.listen).filter(|address| !self.listening.contains(address));
        free(added).map_err(|error| match error {
            GatewayError::Listen(address, error) => format!("the new configuration listens on {address}: {error}"),
            other => other.to_string(),
        })
    }

    /// Starts the upkeep of limits, budgets and usage.
    fn govern(self: &Arc<Self>) {
        let governor = self.governor.clone();
        tokio::spawn(async move { governor.renew().await });
        let governor = self.governor.clone();
        tokio::spawn(async move { governor.compare().await });
        let shared = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(REAPING).await;
                let live = shared.live.load_full();
                let organisations = live.snapshot.directory.organisations().iter().map(|organisation| Arc::clone(&organisation.id));
                shared.governor.reap(organisations.collect::<Vec<_>>()).await;
            }
        });
        if let RecordsSettings::Postgres(_) = &self.records
            && let Err(error) = self.opened()
        {
            log::error!(target: "records", "the record store cannot be used: {error}");
        }
        let settings = self.live.load().snapshot.governance.clone();
        if settings.usage_spool.is_none() {
            return;
        }
        let (books, shared) = (self.governor.books.clone(), self.clone());
        tokio::spawn(async move {
            loop {
                match shared.opened() {
                    Ok(records) => return books.keep(records, settings.usage_retention, shared.as_ref()).await,
                    Err(error) => log::error!(target: "usage", "usage waits in its spool: {error}"),
                }
                tokio::time::sleep(REOPENING).await;
            }
        });
    }

    /// The record store, opened once for all its users. That its server is unavailable is no error here.
    fn opened(&self) -> Result<Arc<dyn RecordStore>, RecordError> {
        let mut opened = self.opened.lock();
        if let Some(records) = &*opened {
            return Ok(records.clone());
        }
        let records: Arc<dyn RecordStore> = match &self.records {
            RecordsSettings::Embedded(path) => Arc::new(SqlRecords::embedded(path, sql::Options::default())?),
            RecordsSettings::Postgres(address) => {
                let records = Arc::new(SqlRecords::postgres(address.expose(), sql::Options::default())?);
                self.stores.offer_statements(records.clone());
                records
            }
        };
        self.stores.offer_records(records.clone());
        *opened = Some(records.clone());
        Ok(records)
    }

    /// Starts to follow keys made at run time, in the same store as usage.
    fn follow_keys(self: &Arc<Self>) {
        let (Some(keyring), Some(settings)) = (self.keyring.clone(), self.live.load().snapshot.governance.keys.clone()) else { return };
        let (shared, bus) = (self.clone(), self.state.store.clone());
        tokio::spawn(async move {
            loop {
                match shared.opened() {
                    Ok(records) => return keyring.follow(records, bus, settings.file).await,
                    Err(error) => {
                        log::error!(target: "keys", "the record store cannot be opened: {error}");
                        keyring.without_store(settings.file.clone()).await;
                    }
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        });
    }

    fn probe(&self) {
        tokio::spawn(Sessions::keep_telling(Arc::downgrade(&self.live.load().sessions)));
        for balancer in self.live.load().balancers() {
            tokio::spawn(watch_health(Arc::downgrade(balancer)));
            tokio::spawn(watch_addresses(Arc::downgrade(balancer)));
        }
    }
}

#[async_trait]
impl Debts for Shared {
    async fn pay(&self, record: &UsageRecord) -> Result<(), StateError> {
        let live = self.live.load_full();
        let made = || self.keyring.as_ref()?.table().by_id(&record.key);
        let key = live.snapshot.directory.api_key(&record.key).cloned().or_else(made);
        match key {
            Some(key) => self.governor.charge(&key.caller.terms.accounts, record).await,
            None if self.keyring.as_ref().is_some_and(|ring| !ring.is_ready() && is_minted_id(&record.key)) => {
                Err(StateError::Unavailable("the keys made at run time are still being read".into()))
            }
            // Without the key its accounts are unknown; the reservation expires by itself.
            None => Ok(()),
        }
    }
}

/// The service beside the proxy: readiness, systemd, health checks, reload and drain.
struct Upkeep {
    shared: Arc<Shared>,
    phases: parking_lot::Mutex<Option<broadcast::Receiver<ExecutionPhase>>>,
}

#[async_trait]
impl BackgroundService for Upkeep {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        for worker in std::mem::take(&mut *self.shared.workers.lock()) {
            tokio::spawn(worker.run());
        }
        self.shared.probe();
        self.shared.govern();
        self.shared.follow_keys();
        self.shared.deliver();
        self.shared.notify();
        let phases = self.phases.lock().take();
        if let Some(mut phases) = phases {
            let shared = self.shared.clone();
            tokio::spawn(async move {
                while let Ok(phase) = phases.recv().await {
                    match phase {
                        ExecutionPhase::Running => {
                            // New budget counters are seeded from the record store: wait for it a little, so that the first
                            // requests are not refused. An unavailable store is no reason to serve none.
                            let patience = Instant::now() + RECORDS_PATIENCE;
                            while !shared.governor.books.is_ready() && Instant::now() < patience {
                                tokio::time::sleep(Duration::from_millis(5)).await;
                            }
                            announce(&shared);
                        }
                        ExecutionPhase::GracefulUpgradeCloseTimeout => shared.closing.store(true, Ordering::Relaxed),
                        _ => {}
                    }
                }
            });
        }
        match signal(SignalKind::hangup()) {
            Err(error) => {
                log::error!(target: "reload", "SIGHUP cannot be heard; a new configuration needs a restart or an upgrade: {error}")
            }
            Ok(mut hangup) => {
                let shared = self.shared.clone();
                tokio::spawn(async move {
                    while hangup.recv().await.is_some() {
                        notify(&[
                            sd_notify::NotifyState::Reloading,
                            sd_notify::NotifyState::monotonic_usec_now().unwrap_or(sd_notify::NotifyState::Status("reloading")),
                        ]);
                        let again = shared.clone();
                        // Building a snapshot compiles patterns and resolves names: not on a worker that has to answer probes.
                        let loaded = tokio::task::spawn_blocking(move || {
                            let _runtime = tokio::runtime::Handle::current().enter();
                            again.reload();
                        });
                        if loaded.await.is_err() {
                            // The panic's payload is not logged: it may quote the file.
                            shared.metrics.reloaded(false);
                            log::error!(target: "reload", "the running configuration stays: loading the new one broke off, which is a defect");
                        }
                        notify(&[sd_notify::NotifyState::Ready]);
                    }
                });
            }
        }
        let _ = shutdown.changed().await;
        self.shared.drain().await;
    }
}
