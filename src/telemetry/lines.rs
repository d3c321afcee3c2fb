//! Log lines on their way to stderr: gathered in memory and written in one go every few milliseconds, so that a request
//! pays for forming its line and not for a system call, and a stderr that blocks stops nobody.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;

/// Lines that wait, in bytes; a stderr that takes nothing loses what comes beyond, and the loss is told.
const CAPACITY: usize = 4 * 1024 * 1024;
/// How long a line waits at the most while there is traffic.
const BUSY: Duration = Duration::from_millis(5);
/// How long the writer sleeps when the last look found nothing.
const IDLE: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    lost: u64,
}

/// Where formed lines go. Cheap to clone.
#[derive(Clone)]
pub struct Lines {
    waiting: Arc<Mutex<Waiting>>,
    /// Held while writing, so that batches stay in order when [`Self::flush`] and the thread meet.
    output: Arc<Mutex<()>>,
    writer: Thread,
}

impl Lines {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start() -> io::Result<Self> {
        let waiting = Arc::<Mutex<Waiting>>::default();
        let output = Arc::<Mutex<()>>::default();
        let shared = (waiting.clone(), output.clone());
        let handle = thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let wrote = write_out(&shared.0, &shared.1);
                thread::park_timeout(if wrote { BUSY } else { IDLE });
            }
        })?;
        Ok(Self { waiting, output, writer: handle.thread().clone() })
    }

    /// Has the writer look now.
    pub fn hurry(&self) {
        self.writer.unpark();
    }

    /// Writes what waits before returning: for the end of the process and for its last words.
    pub fn flush(&self) {
        write_out(&self.waiting, &self.output);
    }
}

fn write_out(waiting: &Mutex<Waiting>, output: &Mutex<()>) -> bool {
    let _turn = output.lock();
    let batch = std::mem::take(&mut *waiting.lock());
    if batch.bytes.is_empty() {
        return false;
    }
    let mut stderr = io::stderr().lock();
    // A stderr that is gone has nobody to be told about it.
    let _ = stderr.write_all(&batch.bytes);
    if batch.lost > 0 {
        let _ = writeln!(stderr, "{{\"level\":\"warn\",\"target\":\"log\",\"msg\":\"lines were lost\",\"lines\":{}}}", batch.lost);
    }
    true
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.waiting.lock();
        if waiting.bytes.len() + line.len() > CAPACITY {
            waiting.lost += 1;
        } else {
            waiting.bytes.extend_from_slice(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
