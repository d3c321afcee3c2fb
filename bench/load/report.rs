//! The table of results, and the bars they must meet.

use super::client::{MODES, Outcome};

/// One load of one target.
pub struct Cell {
    pub round: usize,
    pub mode: &'static str,
    /// Index of the target.
    pub target: usize,
    pub outcome: Outcome,
    /// CPU time of the proxy per request, in µs.
    pub cpu_us: f64,
}

/// The memory of one target.
pub struct Row {
    pub name: &'static str,
    /// In MiB.
    pub idle_rss: f64,
    pub loaded_rss: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// The median over the rounds of one figure of one target.
fn typical(cells: &[Cell], mode: &str, target: usize, figure: impl Fn(&Cell) -> f64) -> f64 {
    median(cells.iter().filter(|cell| cell.mode == mode && cell.target == target).map(figure).collect())
}

/// The median over the rounds of `compare(figure, figure of bare in the same round)`.
fn against(
    rows: &[Row],
    cells: &[Cell],
    mode: &str,
    target: usize,
    figure: impl Fn(&Cell) -> f64,
    compare: impl Fn(f64, f64) -> f64,
) -> f64 {
    beside(rows, cells, (mode, "bare"), target, figure, compare)
}

/// [`against`] relative to another target than bare.
fn beside(
    rows: &[Row],
    cells: &[Cell],
    (mode, other): (&str, &str),
    target: usize,
    figure: impl Fn(&Cell) -> f64,
    compare: impl Fn(f64, f64) -> f64,
) -> f64 {
    let bare = rows.iter().position(|row| row.name == other);
    let of = |round: usize, target| cells.iter().find(|c| c.round == round && c.mode == mode && Some(c.target) == target).map(&figure);
    let rounds = cells.iter().map(|cell| cell.round + 1).max().unwrap_or(0);
    median((0..rounds).filter_map(|round| Some(compare(of(round, Some(target))?, of(round, bare)?))).collect())
}

/// Prints one table per mode.
pub fn print(rows: &[Row], cells: &[Cell]) {
    println!("\nmedians of {} rounds; × and + against bare in the same round", cells.iter().map(|c| c.round + 1).max().unwrap_or(0));
    for mode in &MODES {
        let time = if mode.name == "stream" { "TTFB" } else { "time" };
        println!(
            "\n{:<10} {:>9} {:>7} {:>11} {:>11} {:>9} {:>9} {:>9} {:>7}",
            mode.name,
            "req/s",
            "×",
            format!("{time} p50 µs"),
            format!("{time} p99 µs"),
            "+p50",
            "+p99",
            "CPU µs",
            "×"
        );
        for (index, row) in rows.iter().enumerate() {
            if !cells.iter().any(|cell| cell.mode == mode.name && cell.target == index) {
                continue;
            }
            let own = |figure: fn(&Cell) -> f64| typical(cells, mode.name, index, figure);
            let times = |figure: fn(&Cell) -> f64| against(rows, cells, mode.name, index, figure, |a, b| a / b);
            let added = |figure: fn(&Cell) -> f64| against(rows, cells, mode.name, index, figure, |a, b| a - b);
            println!(
                "{:<10} {:>9.0} {:>7.2} {:>11.0} {:>11.0} {:>9.0} {:>9.0} {:>9.1} {:>7.2}",
                row.name,
                own(|c| c.outcome.per_second),
                times(|c| c.outcome.per_second),
                own(|c| c.outcome.p50),
                own(|c| c.outcome.p99),
                added(|c| c.outcome.p50),
                added(|c| c.outcome.p99),
                own(|c| c.cpu_us),
                times(|c| c.cpu_us),
            );
        }
    }
    println!("\n{:<10} {:>9} {:>9}", "RSS MiB", "idle", "loaded");
    for row in rows.iter().filter(|row| row.idle_rss > 0.0) {
        println!("{:<10} {:>9.1} {:>9.1}", row.name, row.idle_rss, row.loaded_rss);
    }
    let failed: usize = cells.iter().map(|cell| cell.outcome.failed).sum();
    println!("\n{failed} of {} requests failed", cells.iter().map(|cell| cell.outcome.requests).sum::<usize>());
}

/// Prints every bar with the measured value; `false` when one is missed.
pub fn bars(rows: &[Row], cells: &[Cell]) -> bool {
    let mut held = true;
    let mut bar = |what: String, measured: f64, limit: f64| {
        // A figure that could not be measured does not meet its bar.
        let good = measured <= limit;
        held &= good;
        println!("{} {what}: {measured:.2} (bar {limit})", if good { "ok    " } else { "MISSED" });
    };
    println!();
    for (index, row) in rows.iter().enumerate() {
        if row.name == "full" {
            let of = |name: &str| rows.iter().position(|row| row.name == name);
            let cpu = |target| against(rows, cells, "c=32", target, |c| c.cpu_us, |a, b| a / b);
            let more = of("empty").map_or(f64::NAN, |empty| cpu(index) - cpu(empty));
            bar("full: CPU per request on top of empty, × bare".to_owned(), more, 0.15);
        }
        if row.name == "guarded" {
            for (mode, what) in [("c=32", "unseen"), ("c=32 grows", "last of a conversation"), ("c=32 again", "seen before")] {
                let lost = beside(rows, cells, (mode, "evidence"), index, |c| c.outcome.per_second, |a, b| 1.0 - a / b);
                bar(format!("guarded: share of requests/s lost to SafetySec, words {what}"), lost, 0.2);
            }
        }
        let cpu_limit = match row.name {
            "empty" => 1.3,
            "governed" => 1.6,
            _ => continue,
        };
        let cpu = against(rows, cells, "c=32", index, |c| c.cpu_us, |a, b| a / b);
        bar(format!("{}: CPU per request, × bare", row.name), cpu, cpu_limit);
        let p50 = against(rows, cells, "c=1", index, |c| c.outcome.p50, |a, b| a - b);
        bar(format!("{}: p50 added at c=1, µs", row.name), p50, 60.0);
        let first = against(rows, cells, "stream", index, |c| c.outcome.p99, |a, b| a - b);
        bar(format!("{}: p99 of the first byte of a stream added, µs", row.name), first, 500.0);
        bar(format!("{}: RSS idle, MiB", row.name), row.idle_rss, 30.0);
    }
    held
}
