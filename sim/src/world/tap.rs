//! News that goes by relays, read on the wire: what each relay was given, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plimsoll::core::Transmit;
use plimsoll::gossip::wire::{Kind, Message, Passed, epoch_mark, id_mark};
use plimsoll::id::{NodeId, Seq, cluster_tag};
use plimsoll::time::Time;

use super::World;
use super::carry::Carried;
use crate::check::Rule;

/// Relays hold nothing for longer.
const HELD: Duration = Duration::from_secs(1);
/// Pieces of news are remembered until there are so many; then the old ones are forgotten.
const MANY: usize = 4096;

/// A piece of news at a relay: which node in which life, and of whose which report.
type Piece = (usize, u32, u32, u16, Seq);

/// What relays were given: when it came last, by the relay's clock, and to whom it was passed on.
#[derive(Debug, Default)]
pub(super) struct Tap {
    given: BTreeMap<Piece, (Time, BTreeSet<NodeId>)>,
    /// Forgotten from here on.
    many: usize,
}

impl World {
    /// Something arrived at `to`.
    pub(super) fn tap_delivered(&mut self, from: usize, to: usize, carried: &Carried) {
        let Some(Message::Pass(pass)) = relay_message(&carried.data) else { return };
        let (origin, rows, now) = (self.nodes[from].id, pass.rows, self.local(to));
        let piece = (to, self.nodes[to].life, id_mark(origin), epoch_mark(rows.epoch), rows.seq);
        self.tap.given.entry(piece).or_default().0 = now;
        if self.tap.given.len() > self.tap.many.max(MANY) {
            let locals: Vec<Time> = (0..self.nodes.len()).map(|n| self.local(n)).collect();
            let lives: Vec<u32> = self.nodes.iter().map(|node| node.life).collect();
            self.tap.given.retain(|(n, life, ..), (at, _)| *life == lives[*n] && locals[*n].since(*at) <= HELD);
            self.tap.many = 2 * self.tap.given.len();
        }
    }

    /// `from` sends something.
    pub(super) fn tap_sent(&mut self, from: usize, transmit: &Transmit) {
        let Some(Message::Relayed(relayed)) = relay_message(&transmit.data) else { return };
        for passed in relayed.news {
            self.judge_passed(from, transmit.node, &passed);
        }
    }

    fn judge_passed(&mut self, n: usize, to: Option<NodeId>, passed: &Passed) {
        let now = self.local(n);
        let piece = (n, self.nodes[n].life, passed.origin, passed.epoch, passed.seq);
        let given = self.tap.given.get_mut(&piece).map(|(at, told)| (*at, to.is_some_and(|to| told.insert(to))));
        let (at, first) = given.unwrap_or((now, false));
        self.judge(Rule::RelayedOnce, Some(n), None, first, || {
            format!("expected what its origin gave it, once to each; got {passed:?} for {to:?}, given: {given:?}")
        });
        let (age, held) = (Duration::from_micros(100 * u64::from(passed.age_100us)), now.since(at));
        self.judge(Rule::RelayedAge, Some(n), None, age >= held, || {
            format!("expected an age of {held:?} at least, as long as it was held; got {age:?}")
        });
    }
}

/// The message, if it is one to do with relays: others need not be read here.
fn relay_message(data: &[u8]) -> Option<Message> {
    let kind = *data.get(1)?;
    let of_relays = [Kind::Pass, Kind::Relayed].map(|kind| Kind::ALL.iter().position(|k| *k == kind));
    if !of_relays.contains(&Some(kind.into())) {
        return None;
    }
    Message::decode(data, Kind::Pass.channel(), cluster_tag("default")).ok()
}
