//! Writes a tape while leaktrace runs.
//!
//! Takes answers from the threads of the line, passes on blocks in a file, which a thread of its own packs and writes.
//! A disk that is full ends the tape, not the tracing: there is one warning, and the tape is shorter. A disk that is
//! slow slows the line down as soon as its queue is full, so that memory stays bounded; losses that this causes are
//! counted as all are.

use std::{
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::Serialize;

use super::{
    Question, Redact, Redactor,
    format::{MAX_BLOCK, Packer, end, header},
};
use crate::error::{self, Failure};

/// Blocks that may wait for the disk: with [`BLOCK`] bytes each, 8 MiB.
const QUEUE: usize = 64;
/// A block is complete with this many bytes, which compress nearly as well as more.
const BLOCK: usize = 1 << 17;
/// A tape contains addresses and names: only its owner may read it.
const MODE: u32 = 0o600;

/// A tape that is being written.
#[derive(Debug)]
pub struct TapeWriter {
    sender: SyncSender<Message>,
    thread: Mutex<Option<JoinHandle<Option<io::Error>>>>,
    /// It will not be complete.
    broken: Arc<AtomicBool>,
    /// Number of the next stream.
    next: AtomicU32,
    path: PathBuf,
    redact: bool,
}

#[derive(Debug)]
enum Message {
    /// More of a stream.
    Bytes(u32, Vec<u8>),
    /// The tape is complete.
    End,
    /// It ends here, and is not complete.
    Cut,
}

impl TapeWriter {
    /// Creates the file; replaces one that is there. With `redact`, names and addresses are left out.
    pub fn create(path: &Path, redact: bool) -> Result<Self, Failure> {
        let failed = |source| Failure::TapeNotWritable { path: path.to_owned(), source };
        let file = create(path).map_err(failed)?;
        Self::start(file, path.to_owned(), redact).map_err(failed)
    }

    /// Starts the thread that writes.
    fn start(
        mut file: impl io::Write + Send + 'static,
        path: PathBuf,
        redact: bool,
    ) -> io::Result<Self> {
        file.write_all(&header())?;
        let (sender, messages) = sync_channel(QUEUE);
        let broken = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&broken);
        let thread = thread::Builder::new()
            .name("tape".to_owned())
            .spawn(move || write(file, &messages, &shared))?;
        let (thread, next) = (Mutex::new(Some(thread)), AtomicU32::new(0));
        Ok(Self { sender, thread, broken, next, path, redact })
    }

    /// The next stream.
    pub fn recorder(&self) -> Recorder {
        let stream = self.next.fetch_add(1, Relaxed);
        let (sender, broken) = (self.sender.clone(), Arc::clone(&self.broken));
        let redactor = self.redact.then(Redactor::default);
        Recorder { stream, sender, broken, bytes: Vec::new(), redactor }
    }

    /// Ends the tape, after its streams; a tape of a run that has failed is not `complete`. A tape that could not be
    /// written completely gets a warning.
    pub fn finish(&self, complete: bool) {
        // A thread that has failed takes nothing more, and is asked why.
        drop(self.sender.send(if complete { Message::End } else { Message::Cut }));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let failed = thread.and_then(|thread| {
            thread.join().unwrap_or_else(|_| Some(io::Error::other("a thread of leaktrace failed")))
        });
        if let Some(failed) = failed {
            let path = self.path.display();
            error::warn(
                &format!("could not write the whole tape `{path}`: {failed}; it ends early"),
                "leaktrace replay reads it up to there; record to a disk with more space",
            );
        }
    }
}

/// Creates the file, for its owner only. Two runs cannot record on the same one.
fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(path)?;
    // A device or a pipe is not ours to change. A file that was there keeps its mode otherwise.
    if file.metadata()?.is_file() {
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => io::Error::other("another leaktrace records on it"),
            other => other.into(),
        })?;
        file.set_len(0)?;
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

/// The thread: writes until the tape's end. Returns why not all could be written.
fn write(
    mut file: impl io::Write,
    messages: &Receiver<Message>,
    broken: &AtomicBool,
) -> Option<io::Error> {
    let mut packers: Vec<Packer> = Vec::new();
    let mut failed = None;
    while let Ok(message) = messages.recv() {
        let outcome = match message {
            Message::Cut => break,
            Message::End if failed.is_some() => break,
            Message::End => {
                failed = file.write_all(&end()).and_then(|()| file.flush()).err();
                break;
            }
            // Empties the queue: nobody may wait for a disk that takes nothing.
            Message::Bytes(..) if failed.is_some() => continue,
            Message::Bytes(stream, bytes) => {
                let at = stream as usize;
                while packers.len() <= at {
                    packers.push(Packer::new(u32::try_from(packers.len()).unwrap_or(0)));
                }
                let pieces = || bytes.chunks(MAX_BLOCK);
                packers.get_mut(at).map_or(Ok(()), |packer| {
                    pieces().try_for_each(|piece| file.write_all(&packer.pack(piece)))
                })
            }
        };
        if let Err(error) = outcome {
            log::info!("the tape ends here: {error}");
            broken.store(true, Relaxed);
            failed = Some(error);
        }
    }
    failed
}

/// Writes one stream of a tape.
#[derive(Debug)]
pub struct Recorder {
    stream: u32,
    sender: SyncSender<Message>,
    broken: Arc<AtomicBool>,
    bytes: Vec<u8>,
    /// If names and addresses are left out.
    redactor: Option<Redactor>,
}

impl Recorder {
    /// Appends an answer, without its names if the tape has none.
    pub(super) fn write<T: Serialize + Redact>(&mut self, question: Question, answer: &T) {
        if self.broken.load(Relaxed) {
            return;
        }
        match &mut self.redactor {
            None => self.append(question, answer),
            Some(redactor) => {
                let answer = answer.redacted(redactor);
                self.append(question, &answer);
            }
        }
    }

    /// Appends an answer as it is.
    fn append(&mut self, question: Question, answer: &impl Serialize) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        let written = postcard::to_io(&question, &mut self.bytes)
            .map(drop)
            .and_then(|()| postcard::to_io(answer, &mut self.bytes).map(drop));
        // Cannot fail: the vector grows, and all types have a form.
        if let Err(error) = written {
            log::warn!("could not record the answer to {question:?}: {error}; the tape ends here");
            self.bytes.truncate(start);
            self.flush();
            self.broken.store(true, Relaxed);
            return;
        }
        let length = u32::try_from(self.bytes.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        if self.bytes.len() >= BLOCK {
            self.flush();
        }
    }

    /// Hands on what there is: a process that is killed from now on leaves it on its tape.
    pub(super) fn flush(&mut self) {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            // Without the thread, the tape ends early, which `TapeWriter::finish` reports.
            drop(self.sender.send(Message::Bytes(self.stream, bytes)));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A file in memory with limited space.
    #[derive(Clone)]
    pub(in crate::tape) struct Disk {
        pub(in crate::tape) bytes: Arc<Mutex<Vec<u8>>>,
        space: usize,
    }

    impl Disk {
        pub(in crate::tape) fn new(space: usize) -> Self {
            Self { bytes: Arc::default(), space }
        }
    }

    impl io::Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut all = self.bytes.lock().unwrap();
            let fits = bytes.len().min(self.space - all.len());
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            all.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(in crate::tape) fn start(disk: &Disk) -> TapeWriter {
        TapeWriter::start(disk.clone(), PathBuf::from("memory"), false).unwrap()
    }

    #[test]
    fn a_full_disk_ends_the_tape_and_blocks_nobody() {
        let disk = Disk::new(1000);
        let tape = start(&disk);
        let mut recorder = tape.recorder();
        let noise: Vec<u64> =
            (0..50_u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        for _ in 0..QUEUE * 4 {
            recorder.write(Question::Records, &noise);
            recorder.flush();
        }
        drop(recorder);
        drop(tape.sender.send(Message::End));
        let thread = tape.thread.lock().unwrap().take().unwrap();
        let failed = thread.join().unwrap().unwrap();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.bytes.lock().unwrap().len(), 1000);
    }

    #[test]
    fn a_tape_is_for_its_owner_only() {
        let path = std::env::temp_dir().join(format!("leaktrace-tape-{}", std::process::id()));
        std::fs::write(&path, "older").unwrap();
        TapeWriter::create(&path, false).unwrap().finish(true);
        let (mode, bytes) =
            (std::fs::metadata(&path).unwrap().permissions().mode(), std::fs::read(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mode & 0o777, MODE);
        assert_eq!(bytes, [&header()[..], &end()[..]].concat());
    }

    #[test]
    fn a_tape_that_is_being_recorded_is_left_alone() {
        let path = std::env::temp_dir().join(format!("leaktrace-lock-{}", std::process::id()));
        let first = TapeWriter::create(&path, false).unwrap();
        let failure = TapeWriter::create(&path, false).unwrap_err();
        first.finish(true);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let source = std::error::Error::source(&failure).map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("another leaktrace records on it"), "{failure}");
        assert_eq!(bytes, [&header()[..], &end()[..]].concat());
    }

    #[test]
    fn a_tape_that_cannot_be_created_is_a_failure_with_its_name() {
        let failure = TapeWriter::create(Path::new("/nonexistent/x.tape"), false).unwrap_err();
        assert!(failure.to_string().contains("/nonexistent/x.tape"), "{failure}");
    }
}
