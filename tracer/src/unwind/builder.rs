//! The thread that builds tables, so that nothing else waits for a large object.

use std::{
    fs::File,
    io,
    sync::mpsc::{self, Receiver, Sender, TryRecvError},
    thread,
    time::Duration,
};

use object::read::ReadCache;
use tracer_common::unwind::{Rule, RuleNumber};

use super::{
    compile::{Table, Unusable, compile, expected_rows},
    rules::Rules,
};
use crate::target::mappings::FileId;

/// The source of an object's bytes.
pub(super) enum Source {
    /// An open file.
    File(File),
    /// Bytes read from memory.
    Bytes(Vec<u8>),
}

/// The result for one object.
pub(super) struct Built {
    /// The object.
    pub(super) file: FileId,
    /// Its table, or why there is none.
    pub(super) table: Result<Table, Unusable>,
    /// Rules that occur for the first time.
    pub(super) new_rules: Vec<(RuleNumber, Rule)>,
}

/// The channels to the thread. Dropping this ends the thread after its current object.
pub(super) struct Builder {
    requests: Sender<(FileId, Source)>,
    built: Receiver<Built>,
}

impl Builder {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (requests, incoming) = mpsc::channel();
        let (outgoing, built) = mpsc::channel();
        thread::Builder::new()
            .name("unwind tables".to_owned())
            .spawn(move || build(&incoming, &outgoing))?;
        Ok(Self { requests, built })
    }

    /// Requests an object's table. Returns whether the thread is still running.
    pub(super) fn request(&self, file: FileId, source: Source) -> bool {
        self.requests.send((file, source)).is_ok()
    }

    /// The next finished table; waits for it at most this long.
    pub(super) fn next(&self, timeout: Duration) -> Option<Built> {
        self.built.recv_timeout(timeout).ok()
    }
}

/// Builds the requested tables, small objects first, so that most stacks soon unwind completely.
fn build(requests: &Receiver<(FileId, Source)>, built: &Sender<Built>) {
    let mut rules = Rules::default();
    let mut waiting: Vec<(u64, FileId, Source)> = Vec::new();
    loop {
        if waiting.is_empty() {
            let Ok((file, source)) = requests.recv() else { return };
            waiting.push((expected_work(&source), file, source));
        }
        loop {
            match requests.try_recv() {
                Ok((file, source)) => waiting.push((expected_work(&source), file, source)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        let smallest = waiting.iter().enumerate().min_by_key(|(_, one)| one.0);
        let Some((index, _)) = smallest else { continue };
        let (_, file, source) = waiting.swap_remove(index);
        let table = match &source {
            Source::File(file) => compile(&ReadCache::new(file), &mut rules),
            Source::Bytes(bytes) => compile(bytes.as_slice(), &mut rules),
        };
        if built.send(Built { file, table, new_rules: rules.take_new() }).is_err() {
            return;
        }
    }
}

fn expected_work(source: &Source) -> u64 {
    match source {
        Source::File(file) => expected_rows(&ReadCache::new(file)),
        Source::Bytes(bytes) => expected_rows(bytes.as_slice()),
    }
}
