//! Usage in the embedded store: packed records, up to some thousand in a row of SQLite.
//!
//! A row for each record, with its texts and indexes, would cost the process that also carries the requests more than all
//! its limits and budgets together. Here a row is a block of records; a query reads the blocks of its time span and scans
//! them.

use std::collections::{HashMap, HashSet};

use super::SqlRecords;
use super::engine::Writing;
use super::row::Row;
use super::statement::Statement;
use crate::store::records::{Details, RecordError, Usage, UsageBatch, UsageBy, UsageFilter, UsageRecord, UsageSum};

/// Most records in a block.
const BLOCK: usize = 4096;
/// Number of block outlines read at once, and of records whose blocks are read at once.
const OUTLINES: u32 = 1000;
const BODIES: u64 = 4 * BLOCK as u64;
const MOST_GROUPS: usize = 10_000;

/// A block without its body.
#[derive(Debug, Clone, Copy)]
struct Outline {
    id: i64,
    last_at: i64,
    records: u64,
}

/// A block being filled.
#[derive(Default)]
struct Block {
    first_at: i64,
    last_at: i64,
    ids: Vec<u8>,
    batch: UsageBatch,
}

impl Block {
    fn push(&mut self, id: u128, at: i64, packed: &[u8]) {
        let (first, last) = if self.batch.is_empty() { (at, at) } else { (self.first_at.min(at), self.last_at.max(at)) };
        (self.first_at, self.last_at) = (first, last);
        self.ids.extend_from_slice(&id.to_le_bytes());
        self.batch.push(id, packed);
    }

    async fn insert(self, tx: &mut Writing) -> Result<(), RecordError> {
        let text = "INSERT INTO usage_blocks (first_at, last_at, records, ids, body) VALUES ($1, $2, $3, $4, $5)";
        let records = self.batch.len() as u64;
        let statement = Statement::fixed(text).value(self.first_at).value(self.last_at).value(records);
        tx.execute(statement.value(self.ids).value(self.batch.into_bytes())).await.map(|_| ())
    }
}

/// Whether a record matches a filter.
fn wanted(usage: &Usage<'_>, filter: &UsageFilter) -> bool {
    let is = |wanted: &Option<String>, here: Option<&str>| wanted.as_deref().is_none_or(|wanted| here == Some(wanted));
    filter.from.is_none_or(|from| usage.at >= from)
        && filter.until.is_none_or(|until| usage.at < until)
        && is(&filter.organisation, Some(usage.organisation))
        && is(&filter.key, Some(usage.key))
        && is(&filter.team, usage.team)
        && is(&filter.user, usage.user)
        && is(&filter.provider, usage.provider)
        && is(&filter.model, usage.model)
        && (!filter.accepted || accepted(usage))
        && (!filter.failed || usage.status >= 400 && usage.end != "blocked")
        && filter.plugin.as_deref().is_none_or(|plugin| usage.ran().any(|ran| ran == plugin))
}

/// Whether a request was sent to a provider, or its process died when it may have been.
fn accepted(usage: &Usage<'_>) -> bool {
    usage.end == "killed"
        || match &usage.details {
            Details::Parts(parts) => parts.attempts > 0,
            // The same test as the query for PostgreSQL. Within a JSON string the quotes would be escaped.
            Details::Text(json) => !json.contains(r#""attempts":0"#),
        }
}

fn add(sum: &mut UsageSum, usage: &Usage<'_>) {
    sum.requests += 1;
    sum.errors += u64::from(usage.status >= 400);
    for (sum, more) in [
        (&mut sum.input_tokens, usage.input_tokens),
        (&mut sum.cached_tokens, usage.cached_tokens),
        (&mut sum.output_tokens, usage.output_tokens),
        (&mut sum.reasoning_tokens, usage.reasoning_tokens),
        (&mut sum.total_tokens, usage.total_tokens),
        (&mut sum.units, usage.units),
        (&mut sum.latency_ms, usage.latency_ms),
    ] {
        *sum = sum.saturating_add(more);
    }
    sum.cost_nanos = sum.cost_nanos.saturating_add(usage.cost_nanos.unwrap_or(0));
}

/// A consumer of records during a scan.
trait Look: Send {
    /// Whether records that ended at this time or earlier can still matter; otherwise the scan stops.
    fn goes_on(&mut self, _newest: i64) -> bool {
        true
    }

    /// Takes a matching record.
    fn see(&mut self, id: u128, usage: &Usage<'_>);
}

/// Collects the newest records behind a place in the listing.
struct Newest {
    after: Option<(i64, u128)>,
    limit: usize,
    /// Unsorted; cut back to the newest now and then.
    found: Vec<(i64, u128, UsageRecord)>,
}

impl Newest {
    fn cut(&mut self) {
        self.found.sort_unstable_by_key(|(at, id, _)| std::cmp::Reverse((*at, *id)));
        self.found.truncate(self.limit);
    }
}

impl Look for Newest {
    fn goes_on(&mut self, newest: i64) -> bool {
        if self.found.len() < self.limit {
            return true;
        }
        self.cut();
        self.found.last().is_none_or(|(at, _, _)| newest >= *at)
    }

    fn see(&mut self, id: u128, usage: &Usage<'_>) {
        if self.after.is_some_and(|after| (usage.at, id) >= after) {
            return;
        }
        self.found.push((usage.at, id, usage.row(id)));
        if self.found.len() >= self.limit.saturating_mul(2).max(BLOCK) {
            self.cut();
        }
    }
}

/// Sums records by group.
struct Sums<'a> {
    by: UsageBy,
    plugin: Option<&'a str>,
    of_none: Option<UsageSum>,
    named: HashMap<String, UsageSum>,
}

impl Sums<'_> {
    fn count(&mut self, group: Option<&str>, usage: &Usage<'_>) {
        let sum = match group {
            None => self.of_none.get_or_insert_default(),
            // Copy the name only for the first record of a group.
            Some(name) => match self.named.get_mut(name) {
                Some(sum) => return add(sum, usage),
                None => self.named.entry(name.to_owned()).or_default(),
            },
        };
        add(sum, usage);
    }
}

impl Look for Sums<'_> {
    fn see(&mut self, _: u128, usage: &Usage<'_>) {
        match self.by {
            UsageBy::Nothing => self.count(None, usage),
            UsageBy::Organisation => self.count(Some(usage.organisation), usage),
            UsageBy::Key => self.count(Some(usage.key), usage),
            UsageBy::Team => self.count(usage.team, usage),
            UsageBy::User => self.count(usage.user, usage),
            UsageBy::Provider => self.count(usage.provider, usage),
            UsageBy::Model => self.count(usage.model, usage),
            UsageBy::Status => self.count(Some(&usage.status.to_string()), usage),
            UsageBy::Day => self.count(Some(&day(usage.at)), usage),
            UsageBy::Plugin => {
                let mut seen: Vec<&str> = Vec::new();
                for ran in usage.ran().filter(|ran| self.plugin.is_none_or(|only| only == *ran)).collect::<Vec<_>>() {
                    if !seen.contains(&ran) {
                        seen.push(ran);
                        self.count(Some(ran), usage);
                    }
                }
            }
        }
    }
}

impl SqlRecords {
    /// Writes records that are not stored yet. Returns how many.
    pub(super) async fn append_blocks(&self, batch: &UsageBatch) -> Result<u64, RecordError> {
        self.within(async {
            let mut tx = self.engine.begin().await?;
            let new = append(&mut tx, batch).await?;
            tx.commit().await?;
            Ok(new)
        })
        .await
    }

    /// Blocks that may hold records of the filter's time span, newest first, beginning behind the block `before`.
    async fn outlines(&self, filter: &UsageFilter, before: Option<(i64, i64)>) -> Result<Vec<Outline>, RecordError> {
        let mut statement = Statement::fixed("SELECT id, last_at, records FROM usage_blocks WHERE last_at >= ");
        statement.bind(filter.from.unwrap_or(0)).push(" AND first_at < ").bind(filter.until.unwrap_or(i64::MAX));
        if let Some((at, id)) = before {
            statement.push(" AND (last_at, id) < (").bind(at).push(", ").bind(id).push(")");
        }
        statement.push(" ORDER BY last_at DESC, id DESC LIMIT ").bind(OUTLINES);
        let mut rows = self.within(self.engine.fetch(statement)).await?;
        let read = |row: &mut Row| Ok(Outline { id: row.int()?, last_at: row.int()?, records: row.count()? });
        rows.iter_mut().map(read).collect()
    }

    async fn bodies(&self, outlines: &[Outline]) -> Result<Vec<UsageBatch>, RecordError> {
        let mut statement = Statement::fixed("SELECT body FROM usage_blocks WHERE id IN (");
        statement.list(outlines.iter().map(|outline| outline.id)).push(")");
        let mut rows = self.within(self.engine.fetch(statement)).await?;
        rows.iter_mut().map(|row| row.bytes().map(UsageBatch::of_bytes)).collect()
    }

    /// Shows matching records to a consumer, block by block, the newest block first, until it needs no more.
    async fn show(&self, filter: &UsageFilter, to: &mut impl Look) -> Result<(), RecordError> {
        let mut before = None;
        loop {
            let outlines = self.outlines(filter, before).await?;
            let Some(last) = outlines.last() else { return Ok(()) };
            before = Some((last.last_at, last.id));
            let mut rest = outlines.as_slice();
            while let Some(newest) = rest.first() {
                if !to.goes_on(newest.last_at) {
                    return Ok(());
                }
                let mut records = 0;
                let fits = |outline: &&Outline| {
                    records += outline.records;
                    records <= BODIES
                };
                let some = rest.iter().take_while(fits).count().max(1);
                for batch in self.bodies(&rest[..some]).await? {
                    for (id, packed) in batch.iter() {
                        if let Some(usage) = Usage::unpack(packed).filter(|usage| wanted(usage, filter)) {
                            to.see(id, &usage);
                        }
                    }
                    // Other tasks share this thread: it is yielded after each block.
                    tokio::task::yield_now().await;
                }
                rest = &rest[some..];
            }
        }
    }

    /// Records, newest first.
    pub(super) async fn list_blocks(
        &self,
        filter: &UsageFilter,
        after: Option<(i64, &str)>,
        limit: u32,
    ) -> Result<Vec<UsageRecord>, RecordError> {
        let mut filter = filter.clone();
        let after = after.map(|(at, id)| (at, u128::from_str_radix(id, 16).unwrap_or(0)));
        if let Some((at, _)) = after {
            filter.until = Some(filter.until.unwrap_or(i64::MAX).min(at.saturating_add(1)));
        }
        let mut newest = Newest { after, limit: limit.max(1) as usize, found: Vec::new() };
        self.show(&filter, &mut newest).await?;
        newest.cut();
        Ok(newest.found.into_iter().map(|(_, _, record)| record).collect())
    }

    /// Sums, most expensive first.
    pub(super) async fn sum_blocks(&self, filter: &UsageFilter, by: UsageBy) -> Result<Vec<UsageSum>, RecordError> {
        let mut sums = Sums { by, plugin: filter.plugin.as_deref(), of_none: None, named: HashMap::new() };
        self.show(filter, &mut sums).await?;
        let named = sums.named.into_iter().map(|(group, sum)| UsageSum { group: Some(group), ..sum });
        let mut sums: Vec<UsageSum> = named.chain(sums.of_none).collect();
        sums.sort_by(|a, b| (b.cost_nanos, b.requests).cmp(&(a.cost_nanos, a.requests)).then_with(|| a.group.cmp(&b.group)));
        sums.truncate(MOST_GROUPS);
        if by == UsageBy::Nothing && sums.is_empty() {
            sums.push(UsageSum::default());
        }
        Ok(sums)
    }

    /// Deletes records that ended before a time, at most `limit`: whole blocks, and the old part of a block that also holds
    /// younger records.
    pub(super) async fn forget_blocks(&self, before: i64, limit: u32) -> Result<u64, RecordError> {
        self.within(async {
            let mut tx = self.engine.begin().await?;
            let (mut left, mut forgotten) = (u64::from(limit.max(1)), 0);
            while left > 0 {
                let text = "SELECT id, records, last_at FROM usage_blocks WHERE first_at < $1 ORDER BY last_at, id LIMIT 1";
                let mut rows = tx.fetch(Statement::fixed(text).value(before)).await?;
                let Some(row) = rows.first_mut() else { break };
                let (id, records, last_at) = (row.int()?, row.count()?, row.int()?);
                let gone = match last_at < before && records <= left {
                    true => records,
                    false => rewrite(&mut tx, id, before, left).await?,
                };
                tx.execute(Statement::fixed("DELETE FROM usage_blocks WHERE id = $1").value(id)).await?;
                (left, forgotten) = (left - gone.min(left), forgotten + gone);
            }
            tx.commit().await?;
            Ok(forgotten)
        })
        .await
    }

    /// Converts records that an earlier build stored as rows.
    pub(super) async fn pack_rows(&self) -> Result<(), RecordError> {
        loop {
            let mut tx = self.engine.begin().await?;
            let rows = super::usage::oldest(&mut tx, BLOCK as u32).await?;
            if rows.is_empty() {
                return Ok(());
            }
            append(&mut tx, &packed(&rows)).await?;
            super::usage::remove(&mut tx, &rows).await?;
            tx.commit().await?;
        }
    }
}

/// Rows as a batch. A row whose id is not a hex number was not written by the gateway and is skipped.
pub(super) fn packed(rows: &[UsageRecord]) -> UsageBatch {
    let mut batch = UsageBatch::default();
    let mut bytes = Vec::new();
    for row in rows {
        let Ok(id) = u128::from_str_radix(&row.request_id, 16) else { continue };
        let mut plugins = String::new();
        bytes.clear();
        Usage::of_row(row, &mut plugins).pack(&mut bytes);
        batch.push(id, &bytes);
    }
    batch
}

async fn append(tx: &mut Writing, batch: &UsageBatch) -> Result<u64, RecordError> {
    let times = batch.iter().filter_map(|(_, packed)| Usage::at(packed));
    let Some((first, last)) = times.fold(None, |span: Option<(i64, i64)>, at| {
        let (first, last) = span.unwrap_or((at, at));
        Some((first.min(at), last.max(at)))
    }) else {
        return Ok(0);
    };
    // A record that is written again has the same time as before, so only blocks of the batch's time span can hold it.
    let text = "SELECT ids FROM usage_blocks WHERE last_at >= $1 AND first_at <= $2";
    let mut rows = tx.fetch(Statement::fixed(text).value(first).value(last)).await?;
    let mut known: HashSet<u128> = HashSet::new();
    for row in &mut rows {
        known.extend(row.bytes()?.chunks_exact(16).filter_map(|id| id.try_into().ok().map(u128::from_le_bytes)));
    }
    let (mut block, mut new) = (Block::default(), 0);
    for (id, packed) in batch.iter() {
        let Some(at) = Usage::at(packed) else {
            // The checksum was right, so another build wrote it in a format that no retry makes readable.
            log::error!(target: "usage", "a usage record of another form was left out");
            continue;
        };
        if !known.insert(id) {
            continue;
        }
        block.push(id, at, packed);
        new += 1;
        if block.batch.len() == BLOCK {
            std::mem::take(&mut block).insert(tx).await?;
        }
    }
    if !block.batch.is_empty() {
        block.insert(tx).await?;
    }
    Ok(new)
}

/// Writes a copy of a block without its oldest records before a time, at most `limit` of them. Returns how many were left
/// out. The caller removes the block itself.
async fn rewrite(tx: &mut Writing, id: i64, before: i64, limit: u64) -> Result<u64, RecordError> {
    let mut rows = tx.fetch(Statement::fixed("SELECT body FROM usage_blocks WHERE id = $1").value(id)).await?;
    let Some(row) = rows.first_mut() else { return Ok(0) };
    let batch = UsageBatch::of_bytes(row.bytes()?);
    let mut old: Vec<(i64, u128)> =
        batch.iter().filter_map(|(id, packed)| Usage::at(packed).filter(|at| *at < before).map(|at| (at, id))).collect();
    old.sort_unstable();
    old.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let gone: HashSet<u128> = old.iter().map(|(_, id)| *id).collect();
    let mut block = Block::default();
    for (id, packed) in batch.iter().filter(|(id, _)| !gone.contains(id)) {
        if let Some(at) = Usage::at(packed) {
            block.push(id, at, packed);
        }
    }
    if !block.batch.is_empty() {
        block.insert(tx).await?;
    }
    Ok(gone.len() as u64)
}

/// The day in UTC, as `2026-11-21`.
fn day(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d").to_string())
}
