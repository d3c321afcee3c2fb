//! The usage API of the admin listener. Every request needs the admin token.
//!
//! `GET /v1/usage` answers with one total; with `by=` (organisation, key, team, user, provider, model, plugin, status or day)
//! with one total per value; with `list=N` with the newest N records. `organisation=`, `key=`, `team=`, `user=`, `provider=`,
//! `model=`, `plugin=`, `from=` and `until=` filter the records. `format=csv` writes CSV instead of
//! `{"data": […], "next": …}`; `next`, present when more records may follow, is the `after=` of the next page.

use http::{Method, Response, StatusCode};
use pingora::protocols::http::ServerSession;
use serde_json::json;

use super::admin::{Admin, answer, authorized};
use super::asked;
use crate::store::records::{UsageBy, UsageFilter};
use crate::usage::{Table, by_name, moment};

/// The path of this API.
pub(super) const PATH: &str = "/v1/usage";
/// The most records on one page.
const MOST: u32 = 10_000;

/// A query string, parsed.
#[derive(Default)]
struct Question {
    filter: UsageFilter,
    by: Option<UsageBy>,
    list: Option<u32>,
    after: Option<(i64, String)>,
    csv: bool,
}

struct Failed(StatusCode, &'static str, String);

fn invalid(why: String) -> Failed {
    Failed(StatusCode::BAD_REQUEST, "invalid_request", why)
}

/// Answers a request to this API, provided it has the admin token.
pub(super) async fn respond(admin: &Admin, session: &mut ServerSession) -> Response<Vec<u8>> {
    match handle(admin, session).await {
        Ok((content_type, body)) => answer(StatusCode::OK, content_type, body.into_bytes()),
        Err(Failed(status, code, message)) => {
            let body = json!({"error": {"code": code, "message": message}});
            answer(status, "application/json", body.to_string().into_bytes())
        }
    }
}

async fn handle(admin: &Admin, session: &mut ServerSession) -> Result<(&'static str, String), Failed> {
    authorized(admin, session.req_header()).map_err(|(status, code, message)| Failed(status, code, message.to_owned()))?;
    let head = session.req_header();
    if head.uri.path() != PATH {
        return Err(Failed(StatusCode::NOT_FOUND, "not_found", "there is no such path".to_owned()));
    }
    if head.method != Method::GET {
        return Err(Failed(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "usage is only read".to_owned()));
    }
    let question = read(head.uri.query().unwrap_or_default())?;
    let away = |why: String| Failed(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", why);
    let records = admin.books.records().ok_or_else(|| away("the record store was not reached yet, or no usage is kept".to_owned()))?;
    let failed = |error: crate::store::records::RecordError| away(error.to_string());
    let (table, next) = match question.list {
        Some(limit) => {
            let after = question.after.as_ref().map(|(at, id)| (*at, id.as_str()));
            let found = records.usage(&question.filter, after, limit).await.map_err(failed)?;
            let next =
                found.last().filter(|_| found.len() as u64 == u64::from(limit)).map(|last| format!("{}.{}", last.at, last.request_id));
            (Table::of_records(&found), next)
        }
        None => {
            let by = question.by.unwrap_or(UsageBy::Nothing);
            (Table::of_sums(by, &records.sum_usage(&question.filter, by).await.map_err(failed)?), None)
        }
    };
    Ok(match question.csv {
        true => ("text/csv; charset=utf-8", table.csv()),
        false => ("application/json", json!({"data": table.json(), "next": next}).to_string()),
    })
}

fn read(query: &str) -> Result<Question, Failed> {
    let mut question = Question::default();
    for pair in asked::pairs(query) {
        let (name, value) = pair.map_err(invalid)?;
        let filter = &mut question.filter;
        match name {
            "organisation" => filter.organisation = Some(value),
            "key" => filter.key = Some(value),
            "team" => filter.team = Some(value),
            "user" => filter.user = Some(value),
            "provider" => filter.provider = Some(value),
            "model" => filter.model = Some(value),
            "plugin" => filter.plugin = Some(value),
            "from" => filter.from = Some(moment(&value).map_err(invalid)?),
            "until" => filter.until = Some(moment(&value).map_err(invalid)?),
            "by" => question.by = Some(by_name(&value).ok_or_else(|| invalid(format!("usage is not told apart by `{value}`")))?),
            "list" => question.list = Some(asked::limit(name, &value, MOST).map_err(invalid)?),
            "after" => {
                let place = value.split_once('.').and_then(|(at, id)| Some((at.parse().ok()?, id.to_owned())));
                question.after = Some(place.ok_or_else(|| invalid("`after` is a `next` of the page before".to_owned()))?);
            }
            "format" if value == "csv" => question.csv = true,
            "format" if value == "json" => question.csv = false,
            "format" => return Err(invalid("`format` is json or csv".to_owned())),
            _ => return Err(invalid(format!("`{name}` is no filter"))),
        }
    }
    match (question.by, question.list) {
        (Some(_), Some(_)) => Err(invalid("`by` asks for sums and `list` for records".to_owned())),
        _ => Ok(question),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_from_the_query() {
        let question = read("by=team&key=acme%2Fapp&from=1970-01-02&until=1970-01-03T00:00:00Z&format=csv").ok().unwrap();
        assert_eq!((question.by, question.filter.key.as_deref(), question.csv), (Some(UsageBy::Team), Some("acme/app"), true));
        assert_eq!((question.filter.from, question.filter.until), (Some(86_400_000), Some(172_800_000)));
        let page = read("list=99999999&after=5.00ff").ok().unwrap();
        assert_eq!((page.list, page.after), (Some(MOST), Some((5, "00ff".to_owned()))));
        for wrong in ["by=colour", "list=x", "from=yesterday", "after=x", "by=key&list=1", "colour=red", "key=%zz", "key=%f", "format=xml"]
        {
            assert!(read(wrong).is_err_and(|failed| failed.0 == StatusCode::BAD_REQUEST), "{wrong}");
        }
    }
}
