//! The API for keys made at run time, on the admin listener. Every request needs the admin token.
//!
//! | Request | Effect |
//! |---|---|
//! | `GET /v1/keys?organisation=&team=&user=&revoked=&after=&limit=` | lists |
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
use super::asked;
use crate::identity::{CHANGED, Desk, DeskError, Issued, KeyAsk, describe, rotation};
use crate::store::records::{KeyFilter, Page, RecordError};

/// The prefix of every path of this API.
pub(super) const PATH: &str = "/v1/keys";
/// The largest request body (bytes).
const LARGEST: usize = 64 << 10;
/// Keys per page: by default, and at most.
const PAGE: (u32, u32) = (100, 1000);

struct Failed(StatusCode, &'static str, String);

impl From<DeskError> for Failed {
    fn from(error: DeskError) -> Self {
        let (status, code) = match &error {
            DeskError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            DeskError::NoKey(_) => (StatusCode::NOT_FOUND, "key_not_found"),
            DeskError::Taken(_) | DeskError::Store(RecordError::Conflict(_)) => (StatusCode::CONFLICT, "key_exists"),
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

/// Answers a request to this API, provided it has the admin token.
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
            shown["history"] = history.iter().map(rotation).collect();
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
    // A replica that misses the message notices the change in the store within a second or two.
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
    for pair in asked::pairs(query) {
        let (name, value) = pair.map_err(DeskError::Invalid)?;
        match name {
            "organisation" => filter.organisation = Some(value),
            "team" => filter.team = Some(value),
            "user" => filter.user = Some(value),
            "revoked" => filter.revoked = Some(value.parse().map_err(|_| DeskError::Invalid("`revoked` is true or false".to_owned()))?),
            "after" => page.after = Some(value),
            "limit" => page.limit = asked::limit(name, &value, PAGE.1).map_err(DeskError::Invalid)?,
            _ => return Err(DeskError::Invalid(format!("`{name}` is no filter")).into()),
        }
    }
    Ok((filter, page))
}

/// Reads the request body as JSON; an empty body counts as an empty object.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_from_the_query_or_refused() {
        let (filter, page) = listing("organisation=a%20b&team=x%2Fy&revoked=true&limit=5000&after=key_1").ok().unwrap();
        assert_eq!((filter.organisation.as_deref(), filter.team.as_deref(), filter.revoked), (Some("a b"), Some("x/y"), Some(true)));
        assert_eq!((page.after.as_deref(), page.limit), (Some("key_1"), PAGE.1));
        assert_eq!(listing("").ok().unwrap().1.limit, PAGE.0);
        for wrong in ["revoked=x", "revoked=", "limit=x", "limit=", "team=%zz", "colour=red", "colour"] {
            assert!(listing(wrong).is_err_and(|failed| failed.0 == StatusCode::BAD_REQUEST), "{wrong}");
        }
    }
}
