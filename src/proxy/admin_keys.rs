//! The API for keys made at run time on the admin listener, for whoever has the token:
//!
//! | Request | does |
//! |---|---|
//! | `GET /v1/keys?organisation=&after=&limit=` | lists |
//! | `POST /v1/keys` | creates; the answer has the secret, this once |
//! | `GET /v1/keys/ID` | shows, with past rotations |
//! | `POST /v1/keys/ID/rotate` | a new secret, shown this once |
//! | `POST /v1/keys/ID/revoke`, `…/unrevoke` | off, on |
//! | `POST /v1/keys/ID/grant`, `…/revoke-grant` | `{"models": [], "mcp_servers": []}` |

use http::{Method, Response, StatusCode};
use pingora::protocols::http::ServerSession;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::admin::{Admin, answer, authorized};
use crate::identity::{CHANGED, Desk, DeskError, Issued, KeyAsk, describe};
use crate::store::records::{KeyFilter, Page, RecordError};

/// Where it begins.
pub(super) const PATH: &str = "/v1/keys";
/// The largest request.
const LARGEST: usize = 64 << 10;
/// Keys on a page unless another number is asked for, and at most.
const PAGE: (u32, u32) = (100, 1000);

struct Failed(StatusCode, &'static str, String);

impl From<DeskError> for Failed {
    fn from(error: DeskError) -> Self {
        let (status, code) = match &error {
            DeskError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            DeskError::NoKey(_) => (StatusCode::NOT_FOUND, "key_not_found"),
            DeskError::Store(RecordError::Conflict(_)) => (StatusCode::CONFLICT, "key_exists"),
            DeskError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
            DeskError::Chance(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        };
        Self(status, code, error.to_string())
    }
}

impl From<RecordError> for Failed {
    fn from(error: RecordError) -> Self {
        DeskError::Store(error).into()
    }
}

/// Answers, with the token alone.
pub(super) async fn respond(admin: &Admin, session: &mut ServerSession) -> Response<Vec<u8>> {
    let (status, body) = match handle(admin, session).await {
        Ok(body) => (StatusCode::OK, body),
        Err(Failed(status, code, message)) => (status, json!({"error": {"code": code, "message": message}})),
    };
    answer(status, "application/json", body.to_string().into_bytes())
}

async fn handle(admin: &Admin, session: &mut ServerSession) -> Result<Value, Failed> {
    let live = admin.live.load_full();
    let off = || Failed(StatusCode::NOT_FOUND, "not_found", "there is no such API; `admin.token` switches it on".to_owned());
    authorized(admin, session.req_header()).map_err(|(status, code, message)| Failed(status, code, message.to_owned()))?;
    let head = session.req_header();
    let ring = admin.keyring.as_ref().ok_or_else(off)?;
    let records = ring
        .records()
        .ok_or_else(|| Failed(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "the record store was not reached yet".to_owned()))?;
    let desk = Desk { records: records.as_ref(), hasher: ring.hasher(), homes: &live.snapshot.homes };
    let (method, uri) = (head.method.clone(), head.uri.clone());
    let parts: Vec<&str> = uri.path()[PATH.len()..].split('/').filter(|part| !part.is_empty()).collect();
    let answer = match (&method, parts.as_slice()) {
        (&Method::GET, []) => {
            let (filter, page) = listing(uri.query().unwrap_or_default())?;
            let keys = records.keys(&filter, &page).await?;
            let next = keys.last().filter(|_| keys.len() as u64 == u64::from(page.limit)).map(|key| key.id.clone());
            return Ok(json!({"data": keys.iter().map(describe).collect::<Vec<_>>(), "next": next}));
        }
        (&Method::GET, [id]) => {
            let key = desk.key(id).await?;
            let history = records.rotations(id).await?;
            let mut shown = describe(&key);
            let past = |row: &crate::store::records::RotationRow| json!({"at": row.at, "previous_hint": row.previous_hint, "previous_expires": row.previous_expires, "expires": row.expires, "by": row.by});
            shown["history"] = history.iter().map(past).collect();
            return Ok(shown);
        }
        (&Method::POST, []) => issued(&desk.create(&read::<KeyAsk>(session).await?).await?),
        (&Method::POST, [id, "rotate"]) => issued(&desk.rotate(id, &read(session).await?).await?),
        (&Method::POST, [id, "revoke"]) => describe(&desk.revoke(id, true).await?),
        (&Method::POST, [id, "unrevoke"]) => describe(&desk.revoke(id, false).await?),
        (&Method::POST, [id, "grant"]) => describe(&desk.grant(id, &read(session).await?).await?),
        (&Method::POST, [id, "revoke-grant"]) => describe(&desk.revoke_grant(id, &read(session).await?).await?),
        _ => return Err(Failed(StatusCode::NOT_FOUND, "not_found", "there is no such path".to_owned())),
    };
    // Who does not hear it asks the store within a second or two.
    if let Err(error) = admin.bus.publish(CHANGED).await {
        log::warn!(target: "keys", "replicas hear of a change later: {error}");
    }
    Ok(answer)
}

fn issued(issued: &Issued) -> Value {
    let mut shown = describe(&issued.key);
    shown["key"] = json!(issued.secret.expose());
    shown
}

fn listing(query: &str) -> Result<(KeyFilter, Page), Failed> {
    let mut filter = KeyFilter::default();
    let mut page = Page::first(PAGE.0);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "organisation" => filter.organisation = Some(value.to_owned()),
            "team" => filter.team = Some(value.to_owned()),
            "user" => filter.user = Some(value.to_owned()),
            "revoked" => filter.revoked = Some(value == "true"),
            "after" => page.after = Some(value.to_owned()),
            "limit" => page.limit = value.parse().map_or(PAGE.0, |limit: u32| limit.clamp(1, PAGE.1)),
            _ => return Err(DeskError::Invalid(format!("`{name}` is no filter")).into()),
        }
    }
    Ok((filter, page))
}

/// The body as JSON; an empty one is an empty object.
async fn read<T: DeserializeOwned>(session: &mut ServerSession) -> Result<T, Failed> {
    let mut body = Vec::new();
    let broken = |error: String| Failed(StatusCode::BAD_REQUEST, "invalid_request", error);
    while let Some(more) = session.read_request_body().await.map_err(|error| broken(error.to_string()))? {
        body.extend_from_slice(&more);
        if body.len() > LARGEST {
            return Err(Failed(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "the request is too large".to_owned()));
        }
    }
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(text).map_err(|error| broken(error.to_string()))
}
