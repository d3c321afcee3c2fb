//! Who is told that the gateway serves: the log and systemd.

use std::sync::atomic::Ordering;

use super::Shared;

/// From now on the gateway is ready, and says so.
pub(super) fn announce(shared: &Shared) {
    shared.ready.store(true, Ordering::Release);
    let live = shared.live.load();
    let listen: Vec<String> = live.snapshot.server.listen.iter().map(ToString::to_string).collect();
    log::info!(target: "start", listen = listen.join(",").as_str(), config_hash = live.snapshot.hash.as_str(), version = env!("CARGO_PKG_VERSION"); "serving");
    notify(&[sd_notify::NotifyState::Ready]);
}

pub(super) fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // Without NOTIFY_SOCKET there is no systemd to tell.
    let _ = sd_notify::notify(states);
}
