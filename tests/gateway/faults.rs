//! Plugins that fail, refuse, sleep and rewrite on purpose, linked like out-of-tree plugins: this test binary starts itself
//! again and runs the whole command line with the manifests below.

use std::process::Command;

use odock_edge::plugin::prelude::*;

/// Tells a started copy of this binary to be the gateway; holds its arguments as a JSON list.
const ARGUMENTS: &str = "ODOCK_FAULT_ARGS";

/// Tells that copy that a bundled plugin asks for mail and files, too; holds its name.
const WIDER: &str = "ODOCK_FAULT_WIDER";

/// The gateway in which a bundled plugin asks for more than it uses.
pub fn command_with_wider(plugin: &str, args: &[String]) -> Command {
    let mut command = command(args);
    command.env(WIDER, plugin);
    command
}

/// The gateway with the plugins of this file.
pub fn command(args: &[String]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "faults::fault_gateway_child", "--nocapture", "--test-threads=1"]);
    command.env(ARGUMENTS, serde_json::to_string(args).unwrap());
    command
}

/// Not a test by itself: the body of the child process that [`command`] starts.
#[test]
fn fault_gateway_child() {
    let Ok(args) = std::env::var(ARGUMENTS) else { return };
    let args: Vec<String> = serde_json::from_str(&args).unwrap();
    let args = std::iter::once("odock-edge".into()).chain(args.into_iter().map(Into::into));
    let mut plugins = crate::made::manifests();
    plugins.extend([&FAULT, &REWRITE, &JUDGE, &FRAMES]);
    if let Ok(name) = std::env::var(WIDER) {
        let manifest = odock_edge::plugin::Roster::bundled().find(&name).unwrap();
        let more = [Need::Mail, Need::Files].into_iter().filter(|need| !manifest.needs.contains(need));
        let needs: Vec<Need> = manifest.needs.iter().copied().chain(more).collect();
        plugins.push(Box::leak(Box::new(Manifest { needs: needs.leak(), ..*manifest })));
    }
    let _ =
        odock_edge::gateway::Gateway::builder().safety_module(&crate::safety_modules::CLUMSY).safety_module(&crate::safety_modules::FRUIT);
    std::process::exit(odock_edge::cli::main_from(args, plugins));
}

/// What a `fault` does when its gate comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum How {
    Pass,
    Error,
    Panic,
    Sleep,
    Block,
    /// Tries to replace the body, which its manifest does not allow.
    Overreach,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FaultConfig {
    how: How,
    /// Slept before anything else.
    #[serde(default)]
    after_ms: u64,
    #[serde(default)]
    status: u16,
    #[serde(default)]
    code: String,
}

static FAULT: Manifest = Manifest {
    name: "fault",
    version: "1.0.0",
    author: "tests",
    category: "testing",
    kind: "fault",
    summary: "Fails, refuses or sleeps at every gate it is listed at.",
    gates: &Gate::ALL,
    styles: &[Style::Sequential, Style::Parallel, Style::Background],
    needs: &[Need::Block, Need::Background],
    streams: false,
    evidence: &[],
    codes: &[],
    config_schema: schema_of::<FaultConfig>,
    build: |cx| Ok(Arc::new(Fault(cx.parse()?))),
};

struct Fault(FaultConfig);

impl Fault {
    async fn act(&self) -> PluginResult {
        let config = &self.0;
        tokio::time::sleep(Duration::from_millis(config.after_ms)).await;
        match config.how {
            How::Pass | How::Overreach => Ok(Verdict::Next),
            How::Error => Err(PluginError::failed("out of order")),
            How::Panic => panic!("a plugin of the tests panics"),
            How::Sleep => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok(Verdict::Next)
            }
            How::Block => Ok(Verdict::Abort(Box::new(Denial::custom(config.status, &config.code, "refused by a test")))),
        }
    }
}

#[async_trait]
impl Plugin for Fault {
    async fn pre_route(&self, cx: &mut PreRoute<'_>) -> PluginResult {
        if self.0.how == How::Overreach {
            cx.set_body(Bytes::from_static(b"{}"))?;
        }
        self.act().await
    }

    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        if self.0.how == How::Overreach {
            cx.set_body(Bytes::from_static(b"{}"))?;
        }
        self.act().await
    }

    async fn post_upstream(&self, _cx: &mut PostUpstream<'_>) -> PluginResult {
        self.act().await
    }

    async fn post_response(&self, _cx: &PostResponse<'_>) -> Result<(), PluginError> {
        self.act().await.map(|_| ())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Edit {
    /// Keeps the first half.
    Shrink,
    /// Adds [`GROWTH`].
    Grow,
    /// Adds `text`.
    Append,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RewriteConfig {
    edit: Edit,
    #[serde(default)]
    text: String,
    /// Set to `1` towards whoever gets the message.
    header: Option<String>,
}

/// What [`Edit::Grow`] adds.
pub const GROWTH: &[u8] = &[b'g'; 70_000];

static REWRITE: Manifest = Manifest {
    name: "rewrite",
    version: "1.0.0",
    author: "tests",
    category: "testing",
    kind: "transform",
    summary: "Shortens or lengthens the body.",
    gates: &[Gate::PreRoute, Gate::PreUpstream, Gate::PostUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::ReadRequest, Need::WriteRequest, Need::ReadResponse, Need::WriteResponse, Need::Headers],
    streams: false,
    evidence: &[],
    codes: &[],
    config_schema: schema_of::<RewriteConfig>,
    build: |cx| Ok(Arc::new(Rewrite(cx.parse()?))),
};

struct Rewrite(RewriteConfig);

impl Rewrite {
    fn apply(&self, body: &Bytes) -> Bytes {
        match self.0.edit {
            Edit::Shrink => body.slice(..body.len() / 2),
            Edit::Grow => [body, GROWTH].concat().into(),
            Edit::Append => [body, self.0.text.as_bytes()].concat().into(),
        }
    }
}

#[async_trait]
impl Plugin for Rewrite {
    async fn pre_route(&self, cx: &mut PreRoute<'_>) -> PluginResult {
        let body = self.apply(cx.body()?);
        cx.set_body(body)?;
        if let Some(name) = &self.0.header {
            cx.set_header(name, "1")?;
        }
        Ok(Verdict::Next)
    }

    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        let body = self.apply(cx.body()?);
        cx.set_body(body)?;
        if let Some(name) = &self.0.header {
            cx.set_header(name, "1")?;
        }
        Ok(Verdict::Next)
    }

    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        let body = cx.response_body()?.map(|body| self.apply(body));
        if let Some(body) = body {
            cx.set_response_body(body)?;
        }
        if let Some(name) = &self.0.header {
            cx.set_response_header(name, "1")?;
        }
        Ok(Verdict::Next)
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JudgeConfig {
    needle: String,
}

static JUDGE: Manifest = Manifest {
    name: "judge",
    version: "1.0.0",
    author: "tests",
    category: "testing",
    kind: "privacy",
    summary: "Refuses an answer that contains the needle.",
    gates: &[Gate::PostUpstream],
    styles: &[Style::Sequential, Style::Parallel],
    needs: &[Need::ReadResponse, Need::Block],
    streams: false,
    evidence: &[],
    codes: &[],
    config_schema: schema_of::<JudgeConfig>,
    build: |cx| Ok(Arc::new(Judge(cx.parse()?))),
};

struct Judge(JudgeConfig);

#[async_trait]
impl Plugin for Judge {
    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        let needle = self.0.needle.as_bytes();
        let found = cx.response_body()?.is_some_and(|body| body.windows(needle.len()).any(|w| w == needle));
        Ok(if found { Verdict::Abort(Box::new(Denial::custom(403, "answer_refused", "the answer was refused"))) } else { Verdict::Next })
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FramesConfig {
    how: How,
    /// At which frame, from 0.
    at: usize,
}

static FRAMES: Manifest = Manifest {
    name: "frames",
    version: "1.0.0",
    author: "tests",
    category: "testing",
    kind: "fault",
    summary: "Fails or refuses at one frame of a stream.",
    gates: &[Gate::PostUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::ReadResponse, Need::WriteResponse, Need::Block],
    streams: true,
    evidence: &[],
    codes: &[],
    config_schema: schema_of::<FramesConfig>,
    build: |cx| Ok(Arc::new(Frames(cx.parse()?))),
};

struct Frames(FramesConfig);

#[async_trait]
impl Plugin for Frames {
    fn stream(&self, _cx: &PostUpstream<'_>) -> Option<Box<dyn StreamFilter>> {
        Some(Box::new(FrameFault { config: self.0.clone(), seen: 0 }))
    }
}

struct FrameFault {
    config: FramesConfig,
    seen: usize,
}

impl StreamFilter for FrameFault {
    fn frame(&mut self, _frame: Frame<'_>) -> Result<StreamVerdict, PluginError> {
        self.seen += 1;
        if self.seen - 1 != self.config.at {
            return Ok(StreamVerdict::Pass);
        }
        match self.config.how {
            How::Error => Err(PluginError::failed("out of order")),
            How::Panic => panic!("a stream filter of the tests panics"),
            How::Block => Ok(StreamVerdict::Abort(Box::new(Denial::custom(403, "frame_refused", "the stream was refused")))),
            How::Pass | How::Sleep | How::Overreach => Ok(StreamVerdict::Pass),
        }
    }
}
