//! Sometimes: what a swarm has come across at all. A fault that never struck and a rung that was never stepped on prove
//! nothing, however many seeds were green.

use std::collections::BTreeMap;

use plimsoll::core::Event;
use plimsoll::pick::Rung;

use crate::check::Rule;
use crate::run::Phase;
use crate::world::{End, World};

/// What occurred, how often, and what might have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks(BTreeMap<(&'static str, &'static str), u64>);

const EVENTS: [&str; 5] = ["member-up", "member-down", "member-left", "name-taken", "refused"];
const RUNGS: [Rung; 3] = [Rung::Fill, Rung::TwoChoices, Rung::Shuffled];
const ENDS: [&str; 4] = ["served", "failed", "refused", "cancelled"];
const PHASES: [&str; 4] = ["forming", "asking", "living", "quiet"];

impl Default for Marks {
    fn default() -> Marks {
        let (rungs, rules) = (RUNGS.map(Rung::name), Rule::ALL.map(Rule::id));
        let kinds = super::faults::ALL.map(|kind| kind.name);
        let groups: [(&str, &[&'static str]); 6] = [
            ("fault", &kinds),
            ("end", &ENDS),
            ("event", &EVENTS),
            ("rung", &rungs),
            ("phase", &PHASES),
            ("rule", &rules),
        ];
        let named = groups.into_iter().flat_map(|(group, names)| names.iter().map(move |name| ((group, *name), 0)));
        Marks(named.collect())
    }
}

impl Marks {
    /// Adds what another run came across.
    pub fn add(&mut self, other: &Marks) {
        other.0.iter().for_each(|(mark, hits)| *self.0.entry(*mark).or_default() += hits);
    }

    /// By group and name, how often.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.0.iter().map(|((group, name), hits)| (*group, *name, *hits))
    }

    pub(super) fn hit(&mut self, group: &'static str, name: &'static str, times: u64) {
        *self.0.entry((group, name)).or_default() += times;
    }

    pub(super) fn of_phase(&mut self, phase: Phase) {
        let name = match phase {
            Phase::Forming => "forming",
            Phase::Asking => "asking",
            Phase::Living => "living",
            Phase::Quiet => "quiet",
        };
        self.hit("phase", name, 1);
    }

    pub(super) fn of_world(&mut self, world: &World) {
        world.marks.iter().for_each(|(rule, times)| self.hit("rule", rule.id(), times));
        world.struck.iter().for_each(|(kind, times)| self.hit("fault", kind, *times));
        for (_, _, event) in &world.events {
            let (group, name) = event_name(event);
            self.hit(group, name, 1);
        }
        for done in &world.done {
            let name = match done.end {
                End::Served => "served",
                End::Failed => "failed",
                End::Refused => "refused",
                End::Cancelled => "cancelled",
            };
            self.hit("end", name, 1);
        }
    }
}

fn event_name(event: &Event) -> (&'static str, &'static str) {
    match event {
        Event::MemberUp(_) => ("event", "member-up"),
        Event::MemberDown(_) => ("event", "member-down"),
        Event::MemberLeft(_) => ("event", "member-left"),
        Event::Rung(rung) => ("rung", rung.name()),
        Event::NameTaken(_) => ("event", "name-taken"),
        Event::Refused(..) => ("event", "refused"),
        _ => ("event", "unknown"),
    }
}
