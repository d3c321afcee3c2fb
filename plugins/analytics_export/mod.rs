//! Writes usage and decisions to PostgreSQL tables, one row for each request, for analysis in SQL.

use crate::plugin::prelude::*;

mod parts;
mod rows;

use parts::Parts;
use rows::{CREATE, Row, insert};

/// The manifest, as printed by `plugins show analytics_export`.
pub static MANIFEST: Manifest = Manifest {
    name: "analytics_export",
    version: "1.0.0",
    author: "Odock",
    category: "analytics",
    kind: "export",
    summary: "Writes one row for each request and each plugin decision into tables of PostgreSQL, never content.",
    gates: &[Gate::PostResponse],
    styles: &[Style::Background, Style::Parallel, Style::Sequential],
    needs: &[Need::Background, Need::Deliver, Need::Storage(StorageScope::Postgres)],
    streams: false,
    evidence: &[],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| {
        let config: Config = cx.parse()?;
        Ok(Arc::new(AnalyticsExport { config, ready: std::sync::atomic::AtomicBool::new(false), host: cx.host.clone() }))
    },
};

/// Configuration of `analytics_export`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// How many requests go together, 1 to 500.
    batch: usize,
    /// How long requests gather before they go.
    gather: Span,
    /// Tags of requests that are written, by name; none without.
    tags: Vec<String>,
    /// Rows are written of requests whose plugins decided something; `false` writes no decisions.
    decisions: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { batch: 200, gather: Span::seconds(2), tags: Vec::new(), decisions: true }
    }
}

/// The destination's name in evidence and the outbox.
const DESTINATION: &str = "postgres";

struct AnalyticsExport {
    config: Config,
    /// Whether the tables are known to exist.
    ready: std::sync::atomic::AtomicBool,
    host: Host,
}

impl AnalyticsExport {
    async fn write(&self, rows: &[Row]) -> Result<(), HostError> {
        use std::sync::atomic::Ordering;
        let tables = self.host.storage().postgres()?;
        if !self.ready.load(Ordering::Acquire) {
            for statement in CREATE {
                tables.execute(statement, &[]).await?;
            }
            self.ready.store(true, Ordering::Release);
        }
        // Inserting a row again changes nothing, so a retry after an unknown outcome is safe.
        for (statement, values) in insert(rows, self.config.decisions) {
            tables.execute(&statement, &values).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for AnalyticsExport {
    fn is_prompt(&self) -> bool {
        true
    }

    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        let Some(mut event) = Event::of_request(cx).into_iter().next() else { return Ok(()) };
        if let Some(Value::Object(tags)) = event.data.get_mut("tags") {
            tags.retain(|name, _| self.config.tags.contains(name));
        }
        let mut delivery = Delivery::new(DESTINATION, "application/json", event.native().to_string()).with_id(event.id.as_str());
        delivery.request = event.request;
        let id = self.host.deliver(delivery.not_before(self.host.now() + self.config.gather.0))?;
        cx.external(DESTINATION, Some(id.to_string()));
        Ok(())
    }

    fn batch(&self) -> usize {
        self.config.batch.clamp(1, 500)
    }

    async fn deliver_all(&self, deliveries: &[Delivery]) -> Vec<Delivered> {
        let read: Vec<Option<Row>> = deliveries.iter().map(|delivery| Row::read(&delivery.body)).collect();
        let readable: Vec<bool> = read.iter().map(Option::is_some).collect();
        let rows: Vec<Row> = read.into_iter().flatten().collect();
        let mut parts = Parts::of(rows.len());
        while let Some(part) = parts.next() {
            if let Err(error) = self.write(&rows[part.clone()]).await {
                // A table that somebody removed is made again.
                self.ready.store(false, std::sync::atomic::Ordering::Release);
                parts.failed(part, &error);
            }
        }
        let mut written = parts.outcomes().into_iter();
        let strange = || Delivered::dead("the event is of another format");
        readable.into_iter().map(|readable| if readable { written.next() } else { None }.unwrap_or_else(strange)).collect()
    }
}
