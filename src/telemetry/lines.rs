//! Log lines on their way to stderr: gathered in memory and written in one call every few milliseconds. A request pays for
//! formatting its line, but not for a system call, and a stderr that blocks stops no request.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;

use super::sheets::Sheets;

/// Most bytes that may wait. While stderr blocks, further lines are lost; the loss is counted and logged.
const CAPACITY: usize = 4 * 1024 * 1024;
/// The longest time that a line waits while there is traffic.
const BUSY: Duration = Duration::from_millis(5);
/// How long the writer sleeps after it found nothing to write.
const IDLE: Duration = Duration::from_millis(50);

/// How long [`Lines::flush`] waits for a blocked stderr.
const PATIENCE: Duration = Duration::from_secs(1);
/// Number of lines that this process lost.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Number of lines that this process lost because stderr was blocked.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// The line that tells of lost ones.
type Loss = dyn Fn(u64) -> Vec<u8> + Send + Sync;

#[derive(Default)]
struct Waiting {
    lines: Sheets,
    lost: u64,
}

/// The queue of formatted lines. Cheap to clone.
#[derive(Clone)]
pub struct Lines {
    waiting: Arc<Mutex<Waiting>>,
    /// The batch being written. Locked while it is written, so that batches stay in order when [`Self::flush`] and the
    /// thread both write.
    output: Arc<Mutex<Sheets>>,
    loss: Arc<Loss>,
    writer: Thread,
}

impl Lines {
    /// Starts the thread that writes. `loss` forms the line that tells how many lines were lost.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(loss: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> io::Result<Self> {
        let loss: Arc<Loss> = Arc::new(loss);
        let waiting = Arc::<Mutex<Waiting>>::default();
        let output = Arc::<Mutex<Sheets>>::default();
        let shared = (waiting.clone(), output.clone(), loss.clone());
        let handle = thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let wrote = write_out(&shared.0, &shared.1, &*shared.2);
                thread::park_timeout(if wrote { BUSY } else { IDLE });
            }
        })?;
        Ok(Self { waiting, output, loss, writer: handle.thread().clone() })
    }

    /// Queues a formatted line, including its line feed.
    pub fn append(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock();
        if waiting.lines.len() + line.len() > CAPACITY {
            waiting.lost += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
        } else {
            waiting.lines.append(&[line]);
        }
    }

    /// Wakes the writer now.
    pub fn hurry(&self) {
        self.writer.unpark();
    }

    /// Writes all queued lines before it returns, for the end of the process and its last messages. Gives up on a blocked
    /// stderr after one second, so that a process whose output is not read can still end.
    pub fn flush(&self) {
        let (waiting, output, loss) = (self.waiting.clone(), self.output.clone(), self.loss.clone());
        let (done, ended) = std::sync::mpsc::sync_channel(1);
        let writing = thread::Builder::new().name("last words".to_owned()).spawn(move || {
            write_out(&waiting, &output, &*loss);
            let _ = done.send(());
        });
        match writing {
            Ok(_) => {
                let _ = ended.recv_timeout(PATIENCE);
            }
            Err(_) => {
                write_out(&self.waiting, &self.output, &*self.loss);
            }
        }
    }
}

fn write_out(waiting: &Mutex<Waiting>, output: &Mutex<Sheets>, loss: &Loss) -> bool {
    let mut batch = output.lock();
    let lost = {
        let mut waiting = waiting.lock();
        std::mem::swap(&mut waiting.lines, &mut *batch);
        std::mem::take(&mut waiting.lost)
    };
    if batch.is_empty() && lost == 0 {
        return false;
    }
    let mut stderr = io::stderr().lock();
    // An error here could be reported nowhere but on stderr itself.
    for lines in batch.filled() {
        let _ = stderr.write_all(lines);
    }
    batch.clear();
    if lost > 0 {
        let _ = stderr.write_all(&loss(lost));
    }
    true
}
