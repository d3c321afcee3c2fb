//! An answer that passes unheld: what is kept of it, for its usage and for those who only observe. They see a copy when the
//! caller has the answer, which passed as it came.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use pingora_http::ResponseHeader;

use super::context::Context;
use super::inflate::decoded;
use crate::gate::guard::Claim;
use crate::gate::{self, Exchange, Gate, Guard, Turn};
use crate::route::Route;

/// Of an answer that passes unheld, at most this much is kept to read its usage from.
const METERED: usize = 1024 * 1024;

/// Who looks at an answer when the caller has it.
pub struct Watched {
    /// A guard that only observes.
    guard: Option<Arc<Guard>>,
    /// The route whose chain has steps that only observe and want the whole body.
    route: Option<Arc<Route>>,
    streamed: bool,
    encodings: Vec<HeaderValue>,
    /// Its status and `content-type`.
    status: u16,
    content_type: Option<String>,
    /// More than this is not kept [bytes].
    cap: usize,
    /// So much of it has passed [bytes].
    passed: usize,
    /// It has come to its end, and all of it is here.
    whole: bool,
}

impl Watched {
    /// Watches an answer of this head, as it goes to the caller; nothing if there is nobody who would look. `cap` is the most
    /// that is kept [bytes].
    pub fn of(
        head: &ResponseHeader,
        guard: Option<Arc<Guard>>,
        route: Option<Arc<Route>>,
        streamed: bool,
        cap: usize,
    ) -> Option<Box<Self>> {
        if guard.is_none() && route.is_none() {
            return None;
        }
        Some(Box::new(Self {
            guard,
            route,
            streamed,
            encodings: head.headers.get_all(CONTENT_ENCODING).iter().cloned().collect(),
            status: head.status.as_u16(),
            content_type: head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned),
            cap,
            passed: 0,
            whole: false,
        }))
    }

    /// Shows the answer to guard and steps, which refuse nothing. `body` is what was kept; usage is read from what is left of it.
    pub async fn look(self, exchange: &mut Exchange, body: &mut VecDeque<Bytes>) {
        let Some(text) = self.text(body) else {
            for (who, _) in [("safety", self.guard.is_some()), ("plugins", self.route.is_some())].iter().filter(|(_, due)| *due) {
                exchange.draft.tags.push(((*who).to_owned(), "answer_unread".to_owned()));
            }
            return;
        };
        body.clear();
        if !self.streamed {
            body.push_back(text.clone());
        }
        if let Some(guard) = &self.guard {
            let claim = Claim { status: self.status, content_type: self.content_type.as_deref(), must_read: false };
            let _ = guard.answer(exchange, text.clone(), claim).await;
        }
        let (Some(route), Some(seen)) = (&self.route, &mut exchange.draft.response) else { return };
        seen.body = Some(text);
        let turn = Turn::Copy { streamed: self.streamed };
        let _ = gate::run_turn(&route.chain, Gate::PostUpstream, exchange, &HeaderMap::new(), turn).await;
        exchange.draft.response = None;
    }

    /// The whole body as text, if it was kept and can be decoded.
    fn text(&self, kept: &mut VecDeque<Bytes>) -> Option<Bytes> {
        if !self.whole {
            return None;
        }
        let whole = match &*kept.make_contiguous() {
            [] => Bytes::new(),
            [one] => one.clone(),
            several => several.concat().into(),
        };
        decoded(&self.encodings, whole, self.cap).ok()
    }
}

impl Context {
    /// Keeps a piece of an answer as it passes; `end` says that it was the last.
    pub(super) fn keep(&mut self, piece: Option<&Bytes>, end: bool) {
        if let Some(piece) = piece
            && !self.unmetered
        {
            self.metered_bytes += piece.len();
            self.metered.push_back(piece.clone());
            // Usage stands at the end: of a large answer the tail is enough, unless somebody wants to see all of it.
            let most = self.watched.as_ref().map_or(METERED, |watched| watched.cap.max(METERED));
            while self.metered_bytes > most
                && let Some(first) = self.metered.front()
                && self.metered_bytes - first.len() >= METERED
            {
                self.metered_bytes -= first.len();
                self.metered.pop_front();
            }
        }
        if let Some(watched) = &mut self.watched {
            watched.passed += piece.map_or(0, Bytes::len);
            watched.whole |= end && watched.passed <= watched.cap;
        }
    }
}
