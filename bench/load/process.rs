//! Child processes: pinned to cores, measured, and killed with the benchmark.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use super::Result;

/// Clock ticks in `/proc/PID/stat`; 100 on every Linux that Rust supports.
const TICKS: f64 = 100.0;
/// How much of a process's stderr is quoted in an error, in bytes.
const LAST_WORDS: u64 = 2000;

/// The core to which a process is pinned.
#[derive(Clone, Copy)]
pub enum Core {
    /// The core of everything that is not measured.
    Client,
    /// The core of the proxies, of which only one at a time is loaded.
    Proxy,
}

/// Whether processes can be pinned to different cores.
static PINNED: LazyLock<bool> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let probe = Command::new("taskset").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let pinned = cores > 1 && probe.is_ok_and(|status| status.success());
    if !pinned {
        eprintln!("load: without taskset and two cores the proxies share theirs with the client");
    }
    pinned
});

/// A child process; killed when dropped.
pub struct Process {
    child: Child,
    /// The stdout of a role; the gateway's goes to its stderr.
    stdout: Option<BufReader<ChildStdout>>,
    /// The stdin of a role.
    stdin: Option<ChildStdin>,
    stderr: File,
}

impl Process {
    /// Starts this binary in another role.
    pub fn role<S: AsRef<OsStr>>(core: Core, arguments: &[S]) -> Result<Self> {
        Self::spawn(core, &std::env::current_exe()?, arguments, &[], true)
    }

    /// Starts another program, with additional environment variables.
    pub fn start<S: AsRef<OsStr>>(core: Core, program: &Path, arguments: &[S], environment: &[(&str, &str)]) -> Result<Self> {
        Self::spawn(core, program, arguments, environment, false)
    }

    fn spawn<S: AsRef<OsStr>>(core: Core, program: &Path, arguments: &[S], environment: &[(&str, &str)], speaks: bool) -> Result<Self> {
        let mut line: Vec<OsString> = Vec::new();
        if *PINNED {
            let core = match core {
                Core::Client => "0",
                Core::Proxy => "1",
            };
            line.extend(["taskset", "-c", core].map(OsString::from));
        }
        line.push(program.into());
        line.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
        // A file instead of a pipe, because it is not read while the load runs.
        let stderr = tempfile::tempfile()?;
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).envs(environment.iter().copied());
        let stdout = if speaks { Stdio::piped() } else { stderr.try_clone()?.into() };
        command.stdin(if speaks { Stdio::piped() } else { Stdio::null() }).stdout(stdout).stderr(stderr.try_clone()?);
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let stdout = child.stdout.take().map(BufReader::new);
        let stdin = child.stdin.take();
        Ok(Self { child, stdout, stdin, stderr })
    }

    /// Writes a line to its stdin.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().ok_or("a child that does not listen")?;
        Ok(writeln!(stdin, "{line}").and_then(|()| stdin.flush()).map_err(|error| format!("{error}{}", self.last_words()))?)
    }

    /// Reads a line of its stdout.
    pub fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read_line(&mut line))? == 0 {
            return Err(format!("a child process ended{}", self.last_words()).into());
        }
        Ok(line)
    }

    /// The end of its stderr, for error messages.
    pub fn last_words(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = self.stderr.try_clone()?;
            let length = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        match read() {
            Ok(words) if !words.is_empty() => format!("\nits last words:\n{words}"),
            _ => String::new(),
        }
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        Ok(fs::read_to_string(&path).map_err(|error| format!("{path}: {error}{}", self.last_words()))?)
    }

    /// User and system time of all its threads so far, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // The name of the program may contain anything, but is the last thing in parentheses.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).ok_or("odd /proc/PID/stat");
        Ok((ticks(11)? + ticks(12)?) / TICKS)
    }

    /// Resident memory in MiB.
    pub fn rss_mib(&self) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("odd /proc/PID/status")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    /// Number of open file descriptors.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on which nothing listens yet.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
