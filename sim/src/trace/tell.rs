//! Records for people and for files: what the three words of each kind mean.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::rc::Rc;

use serde::Serialize;

use super::{Listener, Record};
use crate::fault::Fault;

/// What a record is about.
#[derive(Clone, Copy, Debug, Default)]
struct About {
    nodes: [Option<u64>; 2],
    pod: Option<u64>,
}

/// Whom a fault strikes, as one word: a node, a pod, or many of either.
pub(crate) fn struck(fault: &Fault) -> u64 {
    match (&fault.nodes()[..], fault.pod()) {
        ([node], _) => *node as u64 + 1,
        (_, Some(pod)) => (pod as u64 + 1) << 32,
        _ => 0,
    }
}

impl Record {
    fn about(&self) -> About {
        let [a, b, c] = self.words;
        let about = |nodes, pod| About { nodes, pod };
        match self.what {
            "deliver" => about([Some(a >> 32), Some(a & u64::from(u32::MAX))], None),
            "connect" | "disconnect" => about([Some(a), Some(b)], None),
            "pick" | "eject" | "readmit" => about([Some(a), None], Some(b)),
            "end" => about([Some(a), None], Some(b >> 8)),
            "pod down" | "pod up" => about([None; 2], Some(a)),
            "fault" if c > u64::from(u32::MAX) => about([None; 2], Some((c >> 32) - 1)),
            "fault" => about([c.checked_sub(1), None], None),
            "settle" => about([None; 2], None),
            _ => about([Some(a), None], None),
        }
    }

    /// Whether it is about `node` and `pod`, as far as these are named, or about everybody.
    fn concerns(&self, node: Option<usize>, pod: Option<usize>) -> bool {
        let About { nodes, pod: its } = self.about();
        let everybody = nodes == [None; 2] && its.is_none();
        let node = node.is_none_or(|n| nodes.contains(&Some(n as u64)) || nodes == [None; 2]);
        let pod = pod.is_none_or(|k| its.is_none_or(|its| its == k as u64));
        everybody || node && pod
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.words;
        write!(f, "{:>12.6} s  #{:<8} ", self.at.as_nanos() as f64 / 1e9, self.number)?;
        match self.what {
            "deliver" => write!(f, "deliver  node-{} to node-{}, {b:016x}", a >> 32, a & u64::from(u32::MAX)),
            "connect" | "disconnect" => write!(f, "{}  node-{a} and node-{b}", self.what),
            "pick" => write!(f, "pick     node-{a} takes pod-{b} for request {}", c >> 24),
            "end" => write!(f, "end      request {} of node-{a} at pod-{}: {}", c >> 24, b >> 8, end_name(b & 0xff)),
            "eject" | "readmit" => write!(f, "{}  pod-{b} at node-{a}", self.what),
            "start" => write!(f, "start    node-{a}, epoch {b}"),
            "pod down" | "pod up" => write!(f, "{}  pod-{a}", self.what),
            "fault" => write!(f, "fault    {} for {b} ms", Fault::KINDS.get(a as usize).unwrap_or(&"of no kind")),
            what => write!(f, "{what:<8} node-{a}"),
        }
    }
}

fn end_name(end: u64) -> &'static str {
    ["served", "failed", "refused", "cancelled"].get(end as usize).unwrap_or(&"in no known way")
}

/// As it stands in a file, one a line.
#[derive(Serialize)]
struct Line<'a> {
    number: u64,
    at_ns: u64,
    what: &'a str,
    /// Hashes among them do not fit the numbers of most readers of JSON.
    words: [String; 3],
}

/// Writes every record to `file` as a line of JSON; what goes wrong with that is left in `failed`.
pub fn listener_to(file: impl Write + 'static, failed: Rc<RefCell<Option<io::Error>>>) -> Listener {
    let mut lines = Lines { file, failed };
    Box::new(move |record| {
        let words = record.words.map(|word| word.to_string());
        lines.write(&Line { number: record.number, at_ns: record.at.as_nanos(), what: record.what, words });
    })
}

/// A file of lines. What is buffered is written at its end, and an error then counts too.
struct Lines<W: Write> {
    file: W,
    failed: Rc<RefCell<Option<io::Error>>>,
}

impl<W: Write> Lines<W> {
    fn write(&mut self, line: &Line<'_>) {
        let written = serde_json::to_writer(&mut self.file, line).map_err(io::Error::from);
        let written = written.and_then(|()| writeln!(self.file));
        self.note(written);
    }

    fn note(&self, done: io::Result<()>) {
        if let Err(error) = done {
            self.failed.borrow_mut().get_or_insert(error);
        }
    }
}

impl<W: Write> Drop for Lines<W> {
    fn drop(&mut self) {
        let flushed = self.file.flush();
        self.note(flushed);
    }
}

/// The latest records of some kind.
#[derive(Clone, Debug)]
pub struct Latest {
    node: Option<usize>,
    pod: Option<usize>,
    numbers: Range<u64>,
    most: usize,
    kept: Rc<RefCell<VecDeque<Record>>>,
}

impl Latest {
    /// Keeps the latest `most` records about `node` and `pod`, about everybody where they are not named.
    pub fn new(node: Option<usize>, pod: Option<usize>, most: usize) -> Latest {
        Latest { node, pod, numbers: 0..u64::MAX, most, kept: Rc::default() }
    }

    /// Keeps the records of these numbers.
    pub fn among(numbers: Range<u64>) -> Latest {
        Latest { numbers, ..Latest::new(None, None, usize::MAX) }
    }

    /// What a trace tells its records to.
    pub fn listener(&self) -> Listener {
        let this = self.clone();
        Box::new(move |record| {
            if this.numbers.contains(&record.number) && record.concerns(this.node, this.pod) {
                let mut kept = this.kept.borrow_mut();
                if kept.len() == this.most {
                    kept.pop_front();
                }
                kept.push_back(*record);
            }
        })
    }

    /// The records, the latest last.
    pub fn records(&self) -> Vec<Record> {
        self.kept.borrow().iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use plimsoll::time::Time;

    use super::*;

    fn record(what: &'static str, words: [u64; 3]) -> Record {
        Record { at: Time::from_nanos(83_214_000_000), number: 7, what, words }
    }

    /// Whoever reads the last records of a failing node must find those of its own and of what struck everybody, and
    /// nobody else's: a hundred nodes' chatter in between would hide them.
    #[test]
    fn the_latest_records_are_those_of_the_node_and_the_pod() {
        let latest = Latest::new(Some(5), Some(12), 3);
        let mut listen = latest.listener();
        let all = [
            record("deliver", [3 << 32 | 5, 1, 0]),
            record("deliver", [3 << 32 | 4, 1, 0]),
            record("pick", [5, 12, 9 << 24]),
            record("pick", [5, 11, 9 << 24]),
            record("fault", [0, 100, struck(&Fault::PodHang { pod: 12, for_ms: 100 })]),
            record("fault", [0, 100, struck(&Fault::PodHang { pod: 3, for_ms: 100 })]),
            record("fault", [0, 100, struck(&Fault::NodePause { node: 4, for_ms: 100 })]),
            record("end", [5, 12 << 8, 9 << 24]),
        ];
        all.iter().for_each(&mut listen);
        let told: Vec<String> = latest.records().iter().map(Record::to_string).collect();
        assert_eq!(told.len(), 3);
        assert!(told[0].contains("node-5 takes pod-12 for request 9"), "{told:?}");
        assert!(told[1].contains("fault"), "{told:?}");
        assert!(told[2].contains("request 9 of node-5 at pod-12: served"), "{told:?}");
    }

    /// A file that a full disk cut short would make two equal runs differ: the error must come out.
    #[test]
    fn a_line_is_json_and_a_failed_write_is_told() {
        let (failed, file) = (Rc::default(), Rc::new(RefCell::new(Vec::new())));
        struct Shared(Rc<RefCell<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.borrow_mut().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        listener_to(Shared(Rc::clone(&file)), Rc::clone(&failed))(&record("pick", [1, 2, u64::MAX]));
        let line: serde_json::Value = serde_json::from_slice(&file.borrow()).unwrap();
        assert_eq!(line["words"][2], u64::MAX.to_string());
        assert!(failed.borrow().is_none());
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        listener_to(Full, Rc::clone(&failed))(&record("pick", [1, 2, 3]));
        assert!(failed.borrow().is_some());
    }
}
