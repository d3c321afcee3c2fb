//! Announces that the gateway serves: in the log and to systemd.

use std::sync::atomic::Ordering;

use super::Shared;

/// Makes the gateway ready and announces it.
pub(super) fn announce(shared: &Shared) {
    shared.ready.store(true, Ordering::Release);
    let live = shared.live.load();
    let listen: Vec<String> = live.snapshot.server.listen.iter().map(ToString::to_string).collect();
    log::info!(target: "start", listen = listen.join(",").as_str(), config_hash = live.snapshot.hash.as_str(), version = env!("CARGO_PKG_VERSION"); "serving");
    notify(&[sd_notify::NotifyState::Ready]);
}

pub(super) fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // Fails without NOTIFY_SOCKET, that is, without systemd.
    let _ = sd_notify::notify(states);
}
