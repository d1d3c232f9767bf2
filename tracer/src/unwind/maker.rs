//! The thread that makes tables, so that nobody waits for a large object.

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

/// Where an object's bytes are.
pub(super) enum Source {
    /// An open file.
    File(File),
    /// Bytes read from memory.
    Bytes(Vec<u8>),
}

/// What came of one object.
pub(super) struct Made {
    /// Which.
    pub(super) file: FileId,
    /// Its table, or why there is none.
    pub(super) table: Result<Table, Unusable>,
    /// Rules that occur in it for the first time.
    pub(super) fresh: Vec<(RuleNumber, Rule)>,
}

/// The thread's two ends. It ends when this is dropped, after the object that it is at.
pub(super) struct Maker {
    orders: Sender<(FileId, Source)>,
    made: Receiver<Made>,
}

impl Maker {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (orders, incoming) = mpsc::channel();
        let (outgoing, made) = mpsc::channel();
        thread::Builder::new()
            .name("unwind tables".to_owned())
            .spawn(move || make(&incoming, &outgoing))?;
        Ok(Self { orders, made })
    }

    /// Asks for an object's table. Whether anybody is there to make it.
    pub(super) fn order(&self, file: FileId, source: Source) -> bool {
        self.orders.send((file, source)).is_ok()
    }

    /// A table that is ready, waiting for one at most this long.
    pub(super) fn next(&self, patience: Duration) -> Option<Made> {
        self.made.recv_timeout(patience).ok()
    }
}

/// Makes what is ordered, small objects first: most stacks are whole soon.
fn make(orders: &Receiver<(FileId, Source)>, made: &Sender<Made>) {
    let mut rules = Rules::default();
    let mut waiting: Vec<(u64, FileId, Source)> = Vec::new();
    loop {
        if waiting.is_empty() {
            let Ok((file, source)) = orders.recv() else { return };
            waiting.push((effort(&source), file, source));
        }
        loop {
            match orders.try_recv() {
                Ok((file, source)) => waiting.push((effort(&source), file, source)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        let smallest = waiting.iter().enumerate().min_by_key(|(_, one)| one.0);
        let Some((at, _)) = smallest else { continue };
        let (_, file, source) = waiting.swap_remove(at);
        let table = match &source {
            Source::File(file) => compile(&ReadCache::new(file), &mut rules),
            Source::Bytes(bytes) => compile(bytes.as_slice(), &mut rules),
        };
        if made.send(Made { file, table, fresh: rules.take_fresh() }).is_err() {
            return;
        }
    }
}

fn effort(source: &Source) -> u64 {
    match source {
        Source::File(file) => expected_rows(&ReadCache::new(file)),
        Source::Bytes(bytes) => expected_rows(bytes.as_slice()),
    }
}
