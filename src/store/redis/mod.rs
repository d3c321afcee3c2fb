//! State in Redis or Valkey, shared by the replicas of a fleet.
//!
//! Every decision is one Lua script: atomic, and one round trip. Time is the server's, numbers are integers below 2⁵³ (Lua
//! counts in doubles), every key has a TTL, and the keys of one decision share a hash tag.

mod address;
mod bus;
mod decisions;
mod limits;
mod link;
mod reservations;
mod risk;
mod values;

use std::sync::Arc;
use std::time::Duration;

use link::Link;

use super::{Clock, StateError};

/// Timeouts of the connection, and the clock.
#[derive(Clone)]
pub struct Options {
    /// Timeout of one call, including connecting and one repetition.
    pub timeout: Duration,
    /// Timeout of one attempt to connect. The attempt continues in the background when the calls that wait for it give up.
    pub connect_timeout: Duration,
    /// A clock that replaces the server's, for tests.
    pub clock: Option<Arc<dyn Clock>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: Duration::from_millis(100), connect_timeout: Duration::from_secs(1), clock: None }
    }
}

/// The state of a fleet, kept in Redis.
#[derive(Clone)]
pub struct RedisState {
    link: Arc<Link>,
    hub: Arc<bus::Hub>,
    clock: Option<Arc<dyn Clock>>,
}

impl RedisState {
    /// A store at this address. It connects with the first call, and again whenever the connection is lost, so a server
    /// that is away is not an error here.
    ///
    /// `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, `redis+unix:///path`;
    /// `redis+sentinel://[user:password@]host[:port],host…/service[/db]`,
    /// `redis+cluster://[user:password@]host[:port],host…`, with `rediss+…` for TLS. `valkey` may stand for `redis`.
    ///
    /// # Errors
    /// [`StateError::Invalid`] for an address of another form.
    pub fn open(address: &str, options: Options) -> Result<Self, StateError> {
        let target = address::parse(address, &options)?;
        let link = Link::new(target, options.timeout, options.connect_timeout);
        Ok(Self { link, hub: bus::Hub::new(), clock: options.clock })
    }

    /// The current time in microseconds as a script's argument: the test clock's, or empty for the server's.
    fn time(&self) -> String {
        time_argument(self.now(1))
    }

    /// The time of the test clock in units of `divisor` microseconds; `None`: the script asks the server.
    fn now(&self, divisor: i64) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock.micros() / divisor)
    }

    /// Checks that the server answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StateError> {
        self.link.ask::<String>(&redis::cmd("PING")).await.map(|_| ())
    }
}

/// A time as a script's argument; empty for the server's own.
fn time_argument(now: Option<i64>) -> String {
    now.map_or_else(String::new, |now| now.to_string())
}

/// The error for a script's answer of an unexpected shape: another program writes keys under the gateway's names.
fn shape() -> StateError {
    StateError::Refused("an answer of another shape".into())
}
