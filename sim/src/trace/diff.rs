//! Where two runs part: by their files, or by their checkpoints and then record by record.

use std::io::{self, BufRead};
use std::ops::Range;

use super::{Latest, Record, STRETCH};
use crate::plan::Plan;
use crate::swarm::play_in;
use crate::world::World;

/// Where two files part: the last line that both have, and what each goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesPart {
    /// The first line that differs, counted from 1.
    pub line: u64,
    /// The line before.
    pub before: Option<String>,
    /// That line of the one, none where it is over.
    pub one: Option<String>,
    /// That line of the other.
    pub other: Option<String>,
}

/// Where two files of records part; none where they are equal.
///
/// # Errors
/// What reading gives.
pub fn files_part(one: impl BufRead, other: impl BufRead) -> io::Result<Option<FilesPart>> {
    let (mut ones, mut others) = (one.lines(), other.lines());
    let (mut line, mut before) = (0, None);
    loop {
        line += 1;
        match (ones.next().transpose()?, others.next().transpose()?) {
            (None, None) => return Ok(None),
            (one, other) if one != other => return Ok(Some(FilesPart { line, before, one, other })),
            (one, _) => before = one,
        }
    }
}

/// Where two runs part: the first record that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunsPart {
    /// The last record that both have.
    pub before: Option<Record>,
    /// The next record of the one; none where it is over.
    pub one: Option<Record>,
    /// The next record of the other.
    pub other: Option<Record>,
}

/// Where the runs of two plans part; none where they are equal. Checkpoints tell the stretch, and only that is kept when
/// both are played again.
pub fn runs_part(one: &Plan, other: &Plan) -> Option<RunsPart> {
    let checkpoints = |plan| {
        let played = crate::swarm::play(plan);
        (played.trace, played.checkpoints)
    };
    let ((trace, ones), (others_trace, others)) = (checkpoints(one), checkpoints(other));
    if (trace, &ones) == (others_trace, &others) {
        return None;
    }
    let stretch = first_difference(&ones, &others);
    // From the last record of the stretch before.
    let wanted = (stretch as u64 * STRETCH)..(stretch as u64 + 1) * STRETCH + 1;
    let (ones, others) = (stretch_of(one, &wanted), stretch_of(other, &wanted));
    let at = (0..).find(|k| ones.get(*k) != others.get(*k) || ones.get(*k).is_none())?;
    let before = at.checked_sub(1).and_then(|k| ones.get(k)).copied();
    Some(RunsPart { before, one: ones.get(at).copied(), other: others.get(at).copied() })
}

/// The place of the first difference; the end of the shorter where it is the beginning of the longer.
pub fn first_difference(ones: &[u64], others: &[u64]) -> usize {
    let same = ones.iter().zip(others).take_while(|(one, other)| one == other);
    same.count()
}

fn stretch_of(plan: &Plan, wanted: &Range<u64>) -> Vec<Record> {
    let latest = Latest::among(wanted.clone());
    let mut world = World::new(plan.world.clone());
    world.trace.listen(latest.listener());
    play_in(&mut world, plan);
    latest.records()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::fault::Fault;

    /// The whole use of two traces is the one line in which they part, with the last one that both have.
    #[test]
    fn files_part_where_they_first_differ() {
        let part = |one: &str, other: &str| files_part(one.as_bytes(), other.as_bytes()).unwrap();
        assert_eq!(part("a\nb\n", "a\nb\n"), None);
        let found = part("a\nb\nc\n", "a\nx\nc\n").unwrap();
        assert_eq!((found.line, found.before.as_deref()), (2, Some("a")));
        assert_eq!((found.one.as_deref(), found.other.as_deref()), (Some("b"), Some("x")));
        let found = part("a\n", "a\nb\n").unwrap();
        assert_eq!((found.line, found.one, found.other.as_deref()), (2, None, Some("b")));
    }

    /// Two plans that differ by one fault in the middle must part at that fault, not at their beginning and not at the
    /// next checkpoint.
    #[test]
    fn runs_part_at_the_fault_that_only_one_has() {
        let calm = Plan::new("test", Config { nodes: 3, pods: 2, ..Config::default() }, 3000).until(4000);
        let struck = calm.clone().with(1500, Fault::PodSlow { pod: 0, percent: 300, for_ms: 100 });
        assert_eq!(runs_part(&calm, &calm), None);
        let part = runs_part(&calm, &struck).unwrap();
        let (before, one, other) = (part.before.unwrap(), part.one.unwrap(), part.other.unwrap());
        assert_eq!(other.what, "fault");
        assert_ne!(one.what, "fault");
        assert_eq!(other.at.as_nanos(), 3_500_000_000);
        assert_eq!((before.number + 1, one.number), (other.number, other.number));
    }
}
