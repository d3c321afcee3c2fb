//! The gateway under test, in its configurations.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::process::{Core, Process, free_address};
use super::{Args, Result, client};

/// One configuration.
pub struct Variant {
    pub name: &'static str,
    evidence: bool,
    log: &'static str,
    /// The sections `plugins` and `chains`.
    chain: String,
    /// Whether limits, budgets and usage are configured.
    full: bool,
}

/// Limits that are never reached, so that the checks are measured and not refusals.
const POLICY: &str =
    "{ratelimit: {requests: {per_second: 900000, per_minute: 50000000}, tokens: {per_minute: 900000000000}, concurrency: {max: 100000}}}";

const EMPTY: &str = "chains: {default: {}}\n";

/// A typical first chain: an audit line, a transform, and masking of personal data, which is restored in the answer, so
/// that the answer is held.
const GOVERNED: &str = "\
plugins:
  - {name: audit_log}
  - {name: request_transform}
  - {name: pii_mask}
chains:
  default:
    pre_route: {sequential: [request_transform], parallel: [audit_log]}
    pre_upstream: {sequential: [pii_mask]}
    post_upstream: {sequential: [pii_mask]}
    post_response: {parallel: [audit_log], async: true}
";

/// `empty` is the minimum: authentication, routing and metrics. `evidence` adds the evidence log, `guarded` adds
/// SafetySec's default modules to that (observing, because the answers are checked), `governed` is a typical first chain.
/// `full` is all of governance on the empty chain: limits of four scopes, two budgets and usage.
pub fn variants(args: &Args) -> Result<Vec<Variant>> {
    let chain = match &args.chain {
        Some(path) => fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?,
        None => GOVERNED.to_owned(),
    };
    Ok(vec![
        Variant { name: "empty", evidence: false, log: "warn", chain: EMPTY.to_owned(), full: false },
        Variant { name: "evidence", evidence: true, log: "warn", chain: EMPTY.to_owned(), full: false },
        Variant { name: "guarded", evidence: true, log: "warn", chain: format!("{EMPTY}safety: {{mode: observe}}\n"), full: false },
        Variant { name: "governed", evidence: true, log: "info", chain, full: false },
        Variant { name: "full", evidence: false, log: "warn", chain: EMPTY.to_owned(), full: true },
    ])
}

/// The same gateway with SafetySec off, and with every module active on requests and streams.
pub fn guards() -> [Variant; 2] {
    let of = |name, safety| Variant { name, evidence: true, log: "warn", chain: format!("{EMPTY}{safety}"), full: false };
    [of("off", ""), of("pack", "safety: {mode: security}\n")]
}

/// Starts a gateway; it may not serve yet.
pub fn start(args: &Args, variant: &Variant, upstream: SocketAddr, folder: &Path) -> Result<(Process, SocketAddr)> {
    let (listen, admin) = (free_address()?, free_address()?);
    let folder = folder.join(variant.name);
    fs::create_dir_all(&folder)?;
    let file = folder.join("odock.yaml");
    fs::write(&file, configuration(variant, listen, admin, upstream, &folder))?;
    let program = program(args)?;
    let arguments = ["run".as_ref(), "-c".as_ref(), file.as_os_str()];
    let process = Process::start(Core::Proxy, &program, &arguments, &[("BENCH_PROVIDER_KEY", "sk_provider")])?;
    Ok((process, listen))
}

fn program(args: &Args) -> Result<PathBuf> {
    match (&args.gateway, option_env!("CARGO_BIN_EXE_odock-edge")) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(path)) => Ok(path.into()),
        (None, None) => Err("no gateway: run by cargo bench, or give --gateway PATH".into()),
    }
}

fn configuration(variant: &Variant, listen: SocketAddr, admin: SocketAddr, upstream: SocketAddr, folder: &Path) -> String {
    let mut sha256 = String::new();
    for byte in ring::digest::digest(&ring::digest::SHA256, client::KEY.as_bytes()).as_ref() {
        let _ = write!(sha256, "{byte:02x}");
    }
    let Variant { evidence, log, chain, full, .. } = variant;
    let folder = folder.display();
    let (policy, global) = if *full { (format!(", policies: {POLICY}"), format!("policies: {POLICY}\n")) } else { Default::default() };
    let pricing = match full {
        true => ", max_output_tokens: 100, pricing: {input: {text_cost_per_1k_tokens: 0.001}, output: {text_cost_per_1k_tokens: 0.002}}",
        false => "",
    };
    let accounts = match full {
        true => format!(
            "    policies: {POLICY}\n    budgets: [{{name: all, period: MONTHLY, amount: 4000000}}, {{name: key, owner: {{type: APIKEY, name: bench}}, period: DAILY, amount: 4000000}}]\n"
        ),
        false => String::new(),
    };
    format!(
        r#"version: 1
server: {{listen: ["{listen}"], threads: 1, upgrade_sock: "{folder}/upgrade.sock"}}
admin: {{listen: "{admin}"}}
log: {{level: {log}}}
evidence: {{enabled: {evidence}, path: "{folder}/evidence"}}
records: {{path: "{folder}/odock.db"}}
governance: {{usage: {full}, usage_spool: "{folder}/usage"}}
{global}providers:
  - {{name: mock, type: openai, base_url: "http://{upstream}", api_key: {{env: BENCH_PROVIDER_KEY}}}}
organisations:
  - name: acme
    models: [{{name: bench, provider: mock, slug: mock-model{pricing}{policy}}}]
    api_keys: [{{name: bench, sha256: "{sha256}", models: "*"{policy}}}]
{accounts}routes:
  - {{name: openai, match: {{path_prefix: /v1/}}, chain: default}}
{chain}"#
    )
}
