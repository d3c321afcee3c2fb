//! The gateway's own services on the traffic listener: health, readiness, what a caller's key stands for, and the command that
//! makes all replicas read their keys again.

use std::time::{Duration, SystemTime};

use http::Method;
use pingora_proxy::Session;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::admit::{Refusal, authenticate, say};
use super::context::Context;
use super::govern::Turn;
use super::presented::bearer;
use super::{Edge, address, body};
use crate::config::Snapshot;
use crate::error::{Denial, codes};
use crate::identity::{ALL_AGAIN, KeyKind};

/// The largest body of an invalidation command (bytes).
const COMMAND: usize = 64 << 10;

/// A service of the gateway's own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `GET /v1/health`: answers as long as the process runs.
    Health,
    /// `GET /v1/healthz`: whether traffic should come.
    Ready,
    /// `POST /v1/keys/validate`: what the presented key stands for.
    Validate,
    /// `POST /v1/internal/cache/invalidate`: served only where a secret for it is configured.
    Invalidate,
}

impl Service {
    /// The service at a path. It takes precedence over routes.
    pub fn of(snapshot: &Snapshot, path: &str) -> Option<Self> {
        match path {
            "/v1/health" => Some(Self::Health),
            "/v1/healthz" => Some(Self::Ready),
            "/v1/keys/validate" => Some(Self::Validate),
            "/v1/internal/cache/invalidate" => snapshot.governance.invalidation_secret.as_ref().map(|_| Self::Invalidate),
            _ => None,
        }
    }

    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            Self::Health | Self::Ready => method == Method::GET || method == Method::HEAD,
            Self::Validate | Self::Invalidate => method == Method::POST,
        }
    }
}

/// Answers a request to a service.
pub async fn serve(service: Service, edge: &Edge, session: &mut Session, cx: &mut Context) -> Refusal {
    let mut status = 200;
    let answer = match service {
        _ if !service.takes(&session.req_header().method) => Err(Denial::of(codes::METHOD_NOT_ALLOWED)),
        Service::Health => Ok(json!({"status": "ok"})),
        Service::Ready => {
            let standing = edge.readiness.standing(&cx.live.snapshot).await;
            status = if standing.is_ready() { 200 } else { 503 };
            Ok(standing.json())
        }
        Service::Validate => match counted("keys_validate", edge, session, cx).await {
            Ok(()) => validate(edge, session, cx),
            Err(denial) => Err(denial),
        },
        Service::Invalidate => match counted("cache_invalidate", edge, session, cx).await {
            Ok(()) => invalidate(edge, session, cx).await,
            Err(denial) => Err(denial),
        },
    };
    match answer {
        Ok(answer) => {
            // No body was asked for, so none is read; a connection with an unread body is closed after the answer.
            if !session.as_mut().is_body_done() {
                session.set_keepalive(None);
            }
            say(session, cx, status, &answer).await
        }
        Err(denial) => denial.into(),
    }
}

/// Keys and secrets can be tried here as on any route: the cap of the process and the gateway's own policy hold here as well.
async fn counted(name: &'static str, edge: &Edge, session: &Session, cx: &mut Context) -> Result<(), Denial> {
    let live = cx.live.clone();
    let snapshot = &live.snapshot;
    cx.service = Some((name, None));
    cx.in_flight = edge.flights.begin(snapshot.server.max_concurrent_requests);
    cx.gauge = Some(edge.metrics.enter());
    if cx.in_flight.is_none() {
        return Err(Denial::of(codes::OVERLOADED).with_retry_after(Duration::from_secs(1)));
    }
    let client = address::client(session, &snapshot.server.trusted_proxies);
    let turn = Turn { snapshot, id: cx.id, governed: &mut cx.governed, later: false, keyed: false };
    edge.governor.pre_auth(turn, client, Some(0)).await
}

/// What the presented key stands for: nothing that its holder could not find out by making requests.
fn validate(edge: &Edge, session: &Session, cx: &mut Context) -> Result<Value, Denial> {
    let caller = authenticate(session, &cx.live.snapshot.keys, edge.keyring.as_deref(), SystemTime::now())?;
    if let Some((_, presented)) = &mut cx.service {
        *presented = Some(caller.clone());
    }
    let mut models: Vec<&String> = caller.models.iter().collect();
    models.sort_unstable();
    Ok(json!({
        "valid": true,
        "id": &*caller.key_id,
        "name": &*caller.key_name,
        "type": match caller.kind {
            KeyKind::Organisation => "ORGANISATION",
            KeyKind::Team => "TEAM",
            KeyKind::User => "USER",
        },
        "organisation": &*caller.organisation.id,
        "team": caller.team.as_ref().map(|team| &*team.id),
        "user": caller.user.as_ref().map(|user| &*user.id),
        "models": models,
    }))
}

/// Makes all replicas read their keys again. Whatever keys the command names, all of them are read.
async fn invalidate(edge: &Edge, session: &mut Session, cx: &Context) -> Result<Value, Denial> {
    let snapshot = &cx.live.snapshot;
    let headers = &session.req_header().headers;
    let own = headers.get("x-cache-invalidation-secret").map(http::HeaderValue::as_bytes);
    let presented = own.or_else(|| bearer(headers)).unwrap_or_default();
    let secret = snapshot.governance.invalidation_secret.as_ref().ok_or_else(|| Denial::of(codes::ROUTE_NOT_FOUND))?;
    if !bool::from(secret.expose().as_bytes().ct_eq(presented)) {
        return Err(Denial::of(codes::UNAUTHORIZED));
    }
    let command = match body::read(session, COMMAND, snapshot.server.body_timeout, &mut Duration::default()).await {
        Ok(command) => command,
        Err(body::ReadError::Denied(denial)) => return Err(denial),
        Err(body::ReadError::CallerGone) => return Err(Denial::of(codes::CALLER_GONE)),
    };
    if !command.is_empty() && serde_json::from_slice::<Value>(&command).is_err() {
        return Err(Denial::of(codes::INVALID_REQUEST).with_message("a command is JSON"));
    }
    edge.governor.bus().publish(ALL_AGAIN).await.map_err(|_| Denial::of(codes::STORE_UNAVAILABLE))?;
    Ok(json!({"status": "ok"}))
}
