//! Reads a tape.
//!
//! Takes a file, passes on the answers of each of its streams in order. Never trusts the file: what does not fit ends
//! the stream there.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::de::DeserializeOwned;

use super::{
    Fault, Question,
    format::{END, HEAD, HEADER, Head, NotATape, Unpacker, VERSION, check_header},
};
use crate::error::Failure;

/// More streams than any tape has: two for each pipeline, and a light one is followed by one full one.
const MAX_STREAMS: u32 = 64;

/// A tape that can be read.
#[derive(Clone, Debug)]
pub struct Tape {
    input: Input,
    /// Number of its streams.
    streams: u32,
    /// Whether it was written to its end.
    complete: bool,
}

#[derive(Clone, Debug)]
enum Input {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

trait Seekable: Read + Seek + Send {}

impl<T: Read + Seek + Send> Seekable for T {}

impl Input {
    fn open(&self) -> io::Result<Box<dyn Seekable>> {
        Ok(match self {
            Self::File(path) => Box::new(io::BufReader::new(File::open(path)?)),
            Self::Bytes(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
        })
    }
}

impl Tape {
    /// Opens the file and looks through the heads of its blocks.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let unreadable = |source| Failure::TapeUnreadable { path: path.to_owned(), source };
        let unusable = |why| Failure::NotATape { path: path.to_owned(), why };
        Self::new(Input::File(path.to_owned())).map_err(unreadable)?.map_err(|error| {
            unusable(match error {
                NotATape::Other => "it is no tape of leaktrace".to_owned(),
                NotATape::Newer(version) => format!(
                    "it has format {version}, and this leaktrace reads formats up to {VERSION}"
                ),
                NotATape::Older(version) => {
                    format!("it has format {version}, which this leaktrace no longer reads")
                }
            })
        })
    }

    /// A tape in memory; `None` if it is none.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Option<Self> {
        Self::new(Input::Bytes(bytes.into())).ok()?.ok()
    }

    fn new(input: Input) -> io::Result<Result<Self, NotATape>> {
        let mut file = input.open()?;
        let mut header = Vec::new();
        file.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
        if let Err(error) = check_header(&header) {
            return Ok(Err(error));
        }
        let (mut streams, mut complete) = (0, false);
        while let Some(head) = next_head(&mut file) {
            if head.stream == END {
                complete = head.fits(&[]);
                break;
            }
            if head.stream >= MAX_STREAMS || skip(&mut file, head.packed).is_none() {
                break;
            }
            streams = streams.max(head.stream + 1);
        }
        Ok(Ok(Self { input, streams, complete }))
    }

    /// Number of its streams.
    pub const fn streams(&self) -> u32 {
        self.streams
    }

    /// Whether it was written to its end.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Reads one of its streams from the beginning.
    pub fn player(&self, stream: u32) -> io::Result<Player> {
        let mut file = self.input.open()?;
        file.seek(SeekFrom::Start(HEADER as u64))?;
        Ok(Player {
            stream,
            file,
            unpacker: Unpacker::new(),
            bytes: Vec::new(),
            at: 0,
            complete: false,
        })
    }
}

/// The next block's head; `None` at the end of what can be read.
fn next_head(file: &mut impl Read) -> Option<Head> {
    let mut bytes = [0; HEAD];
    file.read_exact(&mut bytes).ok()?;
    Head::parse(&bytes)
}

/// Skips a block's content. A file that is too short ends at the next head.
fn skip(file: &mut impl Seek, bytes: usize) -> Option<()> {
    file.seek_relative(i64::try_from(bytes).ok()?).ok()
}

/// Reads one stream of a tape.
pub struct Player {
    stream: u32,
    file: Box<dyn Seekable>,
    unpacker: Unpacker,
    /// What is unpacked, and where the next answer begins.
    bytes: Vec<u8>,
    at: usize,
    /// Whether the tape's last block was met.
    complete: bool,
}

impl Player {
    /// The next question.
    pub(super) fn peek(&mut self) -> Result<Question, Fault> {
        let length = self.next_length()?;
        let entry = self.need(length.saturating_add(4))?.get(4..).ok_or(Fault::Malformed)?;
        let question = postcard::take_from_bytes(entry).map_err(|_error| Fault::Malformed)?;
        Ok(question.0)
    }

    /// The length of the next question and its answer.
    fn next_length(&mut self) -> Result<usize, Fault> {
        let length = self.need(4)?.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// The answer to a question.
    pub(super) fn read<T: DeserializeOwned>(&mut self, question: Question) -> Result<T, Fault> {
        let length = self.next_length()?;
        self.at += 4;
        let entry = self.need(length)?;
        let malformed = |error| {
            log::info!("could not read the answer to {question:?}: {error}");
            Fault::Malformed
        };
        let (found, rest) = postcard::take_from_bytes::<Question>(entry).map_err(malformed)?;
        if found != question {
            return Err(Fault::Mismatch { found, wanted: question });
        }
        let (answer, rest) = postcard::take_from_bytes(rest).map_err(malformed)?;
        if !rest.is_empty() {
            return Err(Fault::Malformed);
        }
        self.at += length;
        Ok(answer)
    }

    /// The next `length` bytes of the stream.
    fn need(&mut self, length: usize) -> Result<&[u8], Fault> {
        while self.bytes.len() - self.at < length {
            self.bytes.drain(..self.at);
            self.at = 0;
            self.next_block()?;
        }
        self.bytes.get(self.at..self.at + length).ok_or(Fault::Malformed)
    }

    /// Unpacks the next block of the stream.
    fn next_block(&mut self) -> Result<(), Fault> {
        while let Some(head) = next_head(&mut self.file) {
            if head.stream == END {
                self.complete = true;
                break;
            }
            if head.stream != self.stream {
                skip(&mut self.file, head.packed).ok_or(Fault::Ended)?;
                continue;
            }
            let mut payload = vec![0; head.packed];
            self.file.read_exact(&mut payload).map_err(|_short| Fault::Ended)?;
            let sound = head.fits(&payload);
            let unpacked = self.unpacker.unpack(&head, &payload, &mut self.bytes);
            if !sound || unpacked.is_none() {
                log::info!("a block of {} bytes is damaged: checksum {sound}", head.packed);
                return Err(Fault::Malformed);
            }
            return Ok(());
        }
        Err(Fault::Ended)
    }
}

impl std::fmt::Debug for Player {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Player").field("stream", &self.stream).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::writer::tests::*, *};
    use crate::tape::Timer;

    /// A small tape with two streams of several blocks.
    fn tape() -> Vec<u8> {
        let disk = Disk::new(usize::MAX);
        let writer = start(&disk);
        let (mut one, mut other) = (writer.recorder(), writer.recorder());
        for at in 0..6_u64 {
            one.write(Question::Now, &at);
            one.write(Question::IsDue(Timer::Pages), &true);
            other.write(Question::Modules, &vec![at.to_string(); 3]);
            if at % 2 == 1 {
                one.flush();
                other.flush();
            }
        }
        drop((one, other));
        writer.finish(true);
        disk.bytes.lock().unwrap().clone()
    }

    /// Reads everything, and returns how much of it there is.
    fn read(bytes: &[u8]) -> Option<(usize, usize, bool)> {
        let tape = Tape::from_bytes(bytes)?;
        let (mut one, mut other) = (tape.player(0).unwrap(), tape.player(1).unwrap());
        let mut counts = (0, 0, tape.is_complete());
        while let Ok(now) = one.read::<u64>(Question::Now) {
            assert_eq!(now, counts.0 as u64);
            let Ok(true) = one.read(Question::IsDue(Timer::Pages)) else { break };
            counts.0 += 1;
        }
        while let Ok(names) = other.read::<Vec<String>>(Question::Modules) {
            assert_eq!(names, vec![counts.1.to_string(); 3]);
            counts.1 += 1;
        }
        Some(counts)
    }

    #[test]
    fn a_tape_is_read_as_it_was_written() {
        let bytes = tape();
        assert_eq!(read(&bytes), Some((6, 6, true)));
        assert_eq!(Tape::from_bytes(bytes).unwrap().streams(), 2);
    }

    #[test]
    fn a_tape_that_was_cut_anywhere_is_readable_up_to_there() {
        let bytes = tape();
        let mut before = (0, 0);
        for length in 0..bytes.len() {
            match read(&bytes[..length]) {
                None => assert!(length < HEADER, "{length}"),
                Some((one, other, complete)) => {
                    assert!(!complete && one >= before.0 && other >= before.1, "{length}");
                    before = (one, other);
                }
            }
        }
        assert_eq!(before, (6, 6), "all answers precede the end");
    }

    #[test]
    fn a_tape_with_a_flipped_bit_is_readable_up_to_there() {
        let bytes = tape();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1 << bit;
                let Some((one, other, complete)) = read(&wrong) else {
                    assert!(at < HEADER);
                    continue;
                };
                assert!(one < 6 || other < 6 || !complete, "{at}");
            }
        }
    }

    #[test]
    fn the_next_question_can_be_read_before_its_answer() {
        let tape = Tape::from_bytes(tape()).unwrap();
        let mut one = tape.player(0).unwrap();
        for _ in 0..6 {
            assert_eq!(one.peek(), Ok(Question::Now));
            one.read::<u64>(Question::Now).unwrap();
            assert_eq!(one.peek(), Ok(Question::IsDue(Timer::Pages)));
            one.read::<bool>(Question::IsDue(Timer::Pages)).unwrap();
        }
        assert_eq!(one.peek(), Err(Fault::Ended));
    }

    #[test]
    fn another_question_is_a_fault_that_names_both() {
        let tape = Tape::from_bytes(tape()).unwrap();
        let fault = tape.player(0).unwrap().read::<u64>(Question::Died).unwrap_err();
        assert_eq!(fault, Fault::Mismatch { found: Question::Now, wanted: Question::Died });
        assert!(fault.to_string().contains("Now") && fault.to_string().contains("Died"));
        let fault = tape.player(0).unwrap().read::<(u64, u64)>(Question::Now).unwrap_err();
        assert_eq!(fault, Fault::Malformed);
    }
}
