//! Answers of the approval system.

use crate::plugin::prelude::*;

/// The state of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Approved,
    Denied,
    Pending,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Pending => "pending",
        }
    }
}

/// A parsed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub state: State,
    /// The approval system's id of the approval.
    pub id: Option<String>,
    pub reason: Option<String>,
    /// How long the answer is valid, if the system says so.
    pub ttl: Option<Duration>,
    /// When to ask again.
    pub retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct Told {
    status: State,
    id: Option<String>,
    reason: Option<String>,
    ttl: Option<u32>,
    retry_after: Option<u32>,
}

impl Answer {
    /// Parses `{"status": "approved" | "denied" | "pending", "id"?, "reason"?, "ttl"?, "retry_after"?}`, times in seconds.
    pub fn read(body: &[u8]) -> Result<Self, &'static str> {
        let told: Told =
            serde_json::from_slice(body).map_err(|_| "the approval system's answer says neither approved, denied nor pending")?;
        let plain = |id: &String| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
        Ok(Self {
            state: told.status,
            id: told.id.filter(plain),
            reason: told.reason.filter(|reason| !reason.is_empty()),
            ttl: told.ttl.map(|seconds| Duration::from_secs(seconds.into())),
            retry_after: told.retry_after.map(|seconds| Duration::from_secs(seconds.into())),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn only_three_states_are_answers() {
        let answer = Answer::read(br#"{"status":"pending","id":"REQ-7","retry_after":5,"more":1}"#).unwrap();
        assert_eq!((answer.state, answer.id.as_deref(), answer.retry_after), (State::Pending, Some("REQ-7"), Some(Duration::from_secs(5))));
        assert_eq!(Answer::read(b"{\"status\":\"approved\",\"id\":\"a b\\n\"}").unwrap().id, None);
        for none in ["", "{}", "\"approved\"", r#"{"status":"Approved"}"#, r#"{"status":true}"#, r#"{"status":"approved","ttl":-1}"#] {
            assert!(Answer::read(none.as_bytes()).is_err(), "{none}");
        }
    }
}
