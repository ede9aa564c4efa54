//! What happened, as records: each is folded into one hash, so that two runs are equal if their hashes are.
//!
//! Every 1,024 records the hash is kept as a checkpoint: two runs that part can be compared by these, and the stretch in
//! which they part be told record by record.

mod diff;
mod tell;

use plimsoll::time::Time;

use crate::rng::mix;
pub use diff::{FilesPart, RunsPart, files_part, first_difference, runs_part};
pub(crate) use tell::struck;
pub use tell::{Latest, listener_to};

/// Records between checkpoints.
pub const STRETCH: u64 = 1024;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The world's time.
    pub at: Time,
    /// Which, counted from 1.
    pub number: u64,
    /// What: "deliver", "pick", "finish", "timer", ...
    pub what: &'static str,
    /// To which node or pod, from whom, how much: as `what` has it.
    pub words: [u64; 3],
}

/// Takes records while a trace is written.
pub type Listener = Box<dyn FnMut(&Record)>;

/// The rolling hash, its checkpoints, and who listens.
#[derive(Default)]
pub struct Trace {
    hash: u64,
    number: u64,
    checkpoints: Vec<u64>,
    listener: Option<Listener>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("hash", &self.hash).field("number", &self.number).finish_non_exhaustive()
    }
}

impl Trace {
    /// Everything so far in one number.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many records there were.
    pub fn records(&self) -> u64 {
        self.number
    }

    /// The hash after every 1,024 records.
    pub fn checkpoints(&self) -> &[u64] {
        &self.checkpoints
    }

    /// Tells `listener` every record from now on.
    pub fn listen(&mut self, listener: Listener) {
        self.listener = Some(listener);
    }

    /// Tells nobody any more.
    pub fn mute(&mut self) {
        self.listener = None;
    }

    pub(crate) fn note(&mut self, at: Time, what: &'static str, words: [u64; 3]) {
        self.number += 1;
        // The name's first bytes stand for it: they differ for all kinds of records.
        let name = u64::from_le_bytes(std::array::from_fn(|k| what.as_bytes().get(k).copied().unwrap_or(0)));
        let folded = [at.as_nanos(), name, words[0], words[1]].into_iter().fold(self.hash, fold);
        self.hash = mix(fold(folded, words[2]));
        if self.number.is_multiple_of(STRETCH) {
            self.checkpoints.push(self.hash);
        }
        if let Some(listener) = &mut self.listener {
            listener(&Record { at, number: self.number, what, words });
        }
    }
}

/// A hash of bytes, eight at a time: a datagram's contents as one word.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let (eights, rest) = bytes.as_chunks::<8>();
    let hash = eights.iter().fold(bytes.len() as u64, |hash, eight| fold(hash, u64::from_le_bytes(*eight)));
    mix(rest.iter().fold(hash, |hash, byte| fold(hash, u64::from(*byte))))
}

fn fold(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash that missed a word, an order or a byte would call different runs equal.
    #[test]
    fn everything_moves_the_hash() {
        let run = |records: &[(u64, &'static str, [u64; 3])]| {
            let mut trace = Trace::default();
            records.iter().for_each(|(at, what, words)| trace.note(Time::from_nanos(*at), what, *words));
            trace.hash()
        };
        let base = run(&[(1, "pick", [1, 2, 3]), (2, "pick", [4, 5, 6])]);
        for other in [
            [(2, "pick", [1, 2, 3]), (2, "pick", [4, 5, 6])],
            [(1, "tick", [1, 2, 3]), (2, "pick", [4, 5, 6])],
            [(1, "pick", [1, 2, 4]), (2, "pick", [4, 5, 6])],
            [(2, "pick", [4, 5, 6]), (1, "pick", [1, 2, 3])],
        ] {
            assert_ne!(run(&other), base);
        }
        assert_ne!(digest(&[0; 8]), digest(&[0; 9]));
        assert_ne!(digest(b"12345678a"), digest(b"12345678b"));
    }
}
