//! The log of connections, written by a thread of its own, so that a slow disk blocks no other thread.
//!
//! Takes events from the collector, passes on lines in a file, and their count. Events that do not fit into the queue
//! are lost and counted.

use std::{
    mem,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc::{Receiver, TrySendError, sync_channel},
    },
    time::{Duration, Instant, SystemTime},
};

use super::threads::spawn;
use crate::{
    assemble::{
        SessionInfo,
        journal::{Clock, line},
    },
    error::Failure,
    ledger::connections::Occurrence,
    output::lines::{Lines, Written},
    report::ConnectionsLog,
};

/// Capacity of the queue: all events that the BPF programs can buffer, which may arrive at once.
const QUEUE: usize = 1 << 17;
/// Bytes per write.
const BATCH_BYTES: usize = 1 << 16;
/// How long to wait for the last lines at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The state of the log, for the report.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    path: String,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    queued: AtomicU64,
    written: AtomicU64,
    lost: AtomicU64,
    why: Mutex<Option<String>>,
}

impl Counts {
    fn lose(&self, number: u64, why: String) {
        self.lost.fetch_add(number, SeqCst);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// An open log, without a thread yet.
pub(super) struct Opened {
    journal: Journal,
    lines: Lines,
    queue: Receiver<Occurrence>,
}

impl Opened {
    /// Starts the thread for this session, whose report will show the log's state.
    pub(super) fn begin(self, session: &mut SessionInfo) -> anyhow::Result<Journal> {
        let clock = Clock { started: SystemTime::now(), started_ns: session.started_ns };
        let journal = self.start(clock)?;
        session.log = Some(journal.clone().accountant());
        Ok(journal)
    }

    /// Starts the thread; its times are relative to `clock`.
    fn start(self, clock: Clock) -> anyhow::Result<Journal> {
        let Self { journal, lines, queue } = self;
        let counts = Arc::clone(&journal.counts);
        spawn("connections' log", move || write(lines, &queue, &clock, &counts))?;
        Ok(journal)
    }
}

impl Journal {
    /// Opens the file. The second value is the function that takes events.
    pub(super) fn open(
        path: &Path,
    ) -> Result<(Opened, impl FnMut(Occurrence) + Send + use<>), Failure> {
        let lines = Lines::open(path)?;
        let counts = Arc::new(Counts::default());
        let (sender, queue) = sync_channel(QUEUE);
        let shared = Arc::clone(&counts);
        let log = move |occurrence| {
            shared.queued.fetch_add(1, SeqCst);
            if let Err(refused) = sender.try_send(occurrence) {
                shared.queued.fetch_sub(1, SeqCst);
                let why = match refused {
                    TrySendError::Full(_) => "the disk is too slow",
                    TrySendError::Disconnected(_) => "the log's thread has failed",
                };
                shared.lose(1, why.to_owned());
            }
        };
        let journal = Self { path: path.to_string_lossy().into_owned(), counts };
        Ok((Opened { journal, lines, queue }, log))
    }

    /// Waits for a limited time until all lines are written.
    pub(super) fn settle(&self) {
        let limit = Instant::now() + PATIENCE;
        while self.counts.queued.load(SeqCst) > 0 && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A function that returns the log's state for a report; for the last one it waits for the thread.
    fn accountant(self) -> Box<dyn Fn(bool) -> ConnectionsLog + Send> {
        Box::new(move |end| {
            if end {
                self.settle();
            }
            self.account()
        })
    }

    /// The log's state.
    fn account(&self) -> ConnectionsLog {
        ConnectionsLog {
            path: self.path.clone(),
            written: self.counts.written.load(SeqCst),
            lost: self.counts.lost.load(SeqCst),
            why: self.counts.why.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// The thread: writes events until the channel closes.
fn write(mut lines: Lines, queue: &Receiver<Occurrence>, clock: &Clock, counts: &Counts) {
    let mut bytes = Vec::new();
    while let Ok(first) = queue.recv() {
        let (mut next, mut taken) = (Some(first), 0);
        while let Some(occurrence) = next.take() {
            let before = bytes.len();
            taken += 1;
            match serde_json::to_writer(&mut bytes, &line(&occurrence, clock)) {
                Ok(()) => bytes.push(b'\n'),
                Err(error) => {
                    bytes.truncate(before);
                    counts.lose(1, error.to_string());
                }
            }
            if bytes.len() < BATCH_BYTES {
                next = queue.try_recv().ok();
            }
        }
        let Written { written, lost, why } = lines.add(&mem::take(&mut bytes));
        counts.written.fetch_add(written, SeqCst);
        if lost > 0 {
            counts.lose(lost, why.map_or_else(|| "unknown".to_owned(), |why| why.to_string()));
        }
        counts.queued.fetch_sub(taken, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Sum, connections::Peer};

    fn orphans(id: u64) -> Occurrence {
        let left = Sum { count: 2, bytes: 64 };
        let client = Peer::Name("@bus".into());
        Occurrence::Orphans { id, client, closed_ns: 2_500_000_000, at_ns: 8_000_000_000, left }
    }

    const CLOCK: Clock = Clock { started: SystemTime::UNIX_EPOCH, started_ns: 1_500_000_000 };

    fn path(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("journal-{name}-{}", std::process::id()))
    }

    #[test]
    fn each_event_is_a_line_and_all_are_counted() {
        let path = path("all");
        let (opened, mut log) = Journal::open(&path).unwrap();
        (1..=1_000).for_each(|id| log(orphans(id)));
        let journal = opened.start(CLOCK).unwrap();
        let account = journal.accountant()(true);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((account.written, account.lost, account.why), (1_000, 0, None));
        assert_eq!(text.lines().count(), 1_000);
        assert_eq!(
            text.lines().next().unwrap(),
            "{\"event\":\"orphans\",\"time\":\"1970-01-01T00:00:06.500Z\",\"at_s\":6.5,\"id\":1,\
             \"client\":\"@bus\",\"closed_s\":1.0,\"orphans\":{\"count\":2,\"bytes\":64}}"
        );
    }

    #[test]
    fn a_full_queue_loses_events_and_blocks_nobody() {
        let path = path("slow");
        let (opened, mut log) = Journal::open(&path).unwrap();
        let most = QUEUE as u64;
        (1..=most + 7).for_each(|id| log(orphans(id)));
        let journal = opened.start(CLOCK).unwrap();
        // A busy machine may take longer than the limit at the end of a session.
        let finished = (0..60).find(|_| {
            journal.settle();
            journal.counts.queued.load(SeqCst) == 0
        });
        let account = journal.accountant()(true);
        std::fs::remove_file(&path).unwrap();
        assert!(finished.is_some());
        assert_eq!((account.written, account.lost), (most, 7));
        assert_eq!(
            account.warning().unwrap(),
            format!(
                "7 lines of the log of connections `{}` could not be written: the disk is too slow",
                path.display()
            )
        );
    }

    #[test]
    fn a_full_disk_is_reported() {
        let (opened, mut log) = Journal::open(Path::new("/dev/full")).unwrap();
        log(orphans(1));
        let account = opened.start(CLOCK).unwrap().accountant()(true);
        assert_eq!((account.written, account.lost), (0, 1));
        assert!(account.why.unwrap().contains("No space left on device"));
    }
}
