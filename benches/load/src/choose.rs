//! Which target an arrival goes to.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use clap::ValueEnum;
use plimsoll_files::TraceArrival;

/// How the target of an arrival is chosen.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The target of the arrival's node: targets are nodes
    Node,
    /// The one with the fewest requests in flight, at every moment exact; ties go in turns
    Fewest,
    /// One after the other, each of the recording's nodes by itself
    Turns,
}

/// Chooses targets, one arrival after the other.
pub(crate) struct Chooser {
    choice: Choice,
    /// Where each of the recording's nodes goes next.
    turns: Vec<usize>,
}

impl Chooser {
    pub(crate) fn new(choice: Choice, nodes: usize) -> Chooser {
        Chooser { choice, turns: (0..nodes).collect() }
    }

    pub(crate) fn choose(&mut self, arrival: &TraceArrival, in_flight: &[AtomicUsize]) -> usize {
        let turn = &mut self.turns[arrival.node];
        let next = *turn % in_flight.len();
        match self.choice {
            Choice::Node => arrival.node % in_flight.len(),
            Choice::Turns => {
                *turn += 1;
                next
            }
            Choice::Fewest => {
                *turn += 1;
                let from_next = |k: usize| (next + k) % in_flight.len();
                let least = (0..in_flight.len()).map(from_next).min_by_key(|target| in_flight[*target].load(Relaxed));
                least.unwrap_or(next)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn chosen(choice: Choice, in_flight: &[usize], nodes: &[usize]) -> Vec<usize> {
        let in_flight: Vec<_> = in_flight.iter().map(|count| AtomicUsize::new(*count)).collect();
        let mut chooser = Chooser::new(choice, 4);
        let arrival = |node| TraceArrival {
            at: Duration::ZERO,
            node,
            model: String::new(),
            bytes: 3,
            service: Duration::from_micros(1500),
        };
        nodes.iter().map(|node| chooser.choose(&arrival(*node), &in_flight)).collect()
    }

    /// An oracle that did not see the fewest, or piled ties on the first pod, would be too easy to reach.
    #[test]
    fn the_fewest_in_flight_is_chosen_and_ties_go_in_turns() {
        assert_eq!(chosen(Choice::Fewest, &[2, 1, 3], &[0, 1, 2, 3]), [1; 4]);
        assert_eq!(chosen(Choice::Fewest, &[1, 1, 2], &[0, 0, 0, 0]), [0, 1, 0, 0]);
        assert_eq!(chosen(Choice::Fewest, &[0, 0, 0], &[0, 0, 0]), [0, 1, 2]);
    }

    /// Callers who know nothing each have their own turn; nodes get what is theirs.
    #[test]
    fn every_node_has_its_own_turns() {
        assert_eq!(chosen(Choice::Turns, &[9, 0], &[0, 1, 0, 1]), [0, 1, 1, 0]);
        assert_eq!(chosen(Choice::Node, &[9, 0], &[0, 1, 2, 3]), [0, 1, 0, 1]);
    }
}
