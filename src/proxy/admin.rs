//! The admin listener: `/metrics`, `/livez`, `/readyz`, `/version`, and the key and usage APIs where `admin.token` is
//! configured. Bound to loopback unless configured otherwise.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use pingora_http::RequestHeader;
use serde_json::json;
use subtle::ConstantTimeEq;

use super::live::Live;
use super::presented::bearer;
use super::readiness::Readiness;
use super::{admin_keys, admin_usage};
use crate::identity::Keyring;
use crate::store::StateStore;
use crate::telemetry::Metrics;
use crate::usage::Books;

/// The content type of plain-text answers.
const PLAIN: &str = "text/plain; charset=utf-8";

/// Pages that need no token: path and description.
const PAGES: [(&str, &str); 4] = [
    ("/metrics", "for Prometheus"),
    ("/livez", "whether the process lives"),
    ("/readyz", "whether traffic should come, and how the stores stand"),
    ("/version", "version, configuration and process as JSON"),
];
/// APIs that need the admin token: path and description.
const API: [(&str, &str); 2] = [(admin_keys::PATH, "keys made at run time"), (admin_usage::PATH, "what was used, and records")];

/// What the admin listener reads its answers from.
pub struct Admin {
    /// The metrics that `/metrics` renders.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` answers from.
    pub readiness: Arc<Readiness>,
    /// The configuration in use.
    pub live: Arc<ArcSwap<Live>>,
    /// Keys made at run time; `None` when that feature is off.
    pub keyring: Option<Arc<Keyring>>,
    /// The usage records.
    pub books: Books,
    /// The bus on which changes of keys are published to the other replicas.
    pub bus: Arc<dyn StateStore>,
    /// The hash of the configuration in use.
    pub config_hash: Box<dyn Fn() -> String + Send + Sync>,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let path = session.req_header().uri.path();
        let below = |api: &str| path.strip_prefix(api).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below(admin_keys::PATH) {
            return admin_keys::respond(self, session).await;
        }
        if below(admin_usage::PATH) {
            return admin_usage::respond(self, session).await;
        }
        let head = session.req_header();
        if head.method != Method::GET && head.method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        }
        match head.uri.path() {
            "/metrics" => answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.render().into_bytes()),
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => {
                let live = self.live.load_full();
                let standing = self.readiness.standing(&live.snapshot).await;
                let status = if standing.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                answer(status, PLAIN, standing.text().into_bytes())
            }
            "/version" => {
                let version = json!({"name": "odock-edge", "version": env!("CARGO_PKG_VERSION"), "config_hash": (self.config_hash)(), "pid": std::process::id()});
                answer(StatusCode::OK, "application/json", version.to_string().into_bytes())
            }
            "/" => answer(StatusCode::OK, PLAIN, self.contents().into_bytes()),
            _ => text(StatusCode::NOT_FOUND, "not found; / says what is here\n"),
        }
    }
}

impl Admin {
    /// The index page: one line per page and API.
    fn contents(&self) -> String {
        let api = if self.live.load().snapshot.admin.token.is_some() { "with the token" } else { "switched off: no admin.token" };
        let own = PAGES.iter().map(|(path, what)| format!("{path:<10} {what}\n"));
        let of_api = API.iter().map(|(path, what)| format!("{path:<10} {what} ({api})\n"));
        format!("odock-edge {}\n\n", env!("CARGO_PKG_VERSION")) + &own.chain(of_api).collect::<String>()
    }
}

/// Checks the admin token of a request, in constant time. The error is the answer: status, code and message.
pub(super) fn authorized(admin: &Admin, head: &RequestHeader) -> Result<(), (StatusCode, &'static str, &'static str)> {
    let live = admin.live.load();
    let Some(token) = live.snapshot.admin.token.as_ref() else {
        return Err((StatusCode::NOT_FOUND, "not_found", "there is no such API; `admin.token` switches it on"));
    };
    match bool::from(token.expose().as_bytes().ct_eq(bearer(&head.headers).unwrap_or_default())) {
        true => Ok(()),
        false => Err((StatusCode::UNAUTHORIZED, "unauthorized", "the token of the admin API is missing or wrong")),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Vec<u8>> {
    answer(status, PLAIN, body.as_bytes().to_vec())
}

pub(super) fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(length));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(http::header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
    }
    response
}
