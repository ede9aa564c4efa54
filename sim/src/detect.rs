//! How long a fleet takes to notice that a node died, and how often it is wrong about nodes that live.
//!
//! Three moments count after a death: the first suspicion anywhere, the first node that holds it for down, and the last.
//! What a mistake costs is a node's share of the view: while a healthy node is down for its peers, they pick as if it
//! had nothing in flight.

use std::time::Duration;

use plimsoll::core::Event;
use plimsoll::gossip::PROBE_PERIOD;
use plimsoll::gossip::wire::MemberState;
use plimsoll::id::NodeId;

use crate::config::Config;
use crate::link::Link;
use crate::rng::{Rng, Share};
use crate::world::World;

/// One node dies in a fleet that is otherwise well.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// How many nodes there are before.
    pub nodes: usize,
    /// The share of datagrams that get lost.
    pub loss: Share,
    /// Decides who dies and when.
    pub seed: u64,
    /// How long the fleet is watched after the death.
    pub watch: Duration,
}

/// What came of a death.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noticed {
    /// Probes that every node had sent before.
    pub probes_before: u64,
    /// From the death to the first suspicion on any node, as [`STEP`] sees it; none where there was none.
    pub suspected: Option<Duration>,
    /// To the first node that holds it for down.
    pub down: Option<Duration>,
    /// To the last.
    pub known: Option<Duration>,
    /// Healthy nodes that were declared down, once for each node that did.
    pub false_downs: usize,
    /// Nodes times the time they were watched.
    pub node_hours: f64,
}

/// Nodes that stop and go on, again and again, as on a machine that swaps; the others are well.
#[derive(Clone, Copy, Debug)]
pub struct Stalls {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them stall, all at once.
    pub paused: usize,
    /// For this long.
    pub pause: Duration,
    /// Decides everything else.
    pub seed: u64,
    /// For how long all of it goes on.
    pub watch: Duration,
}

/// What came of stalls: members declared down, once for each node that did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mistaken {
    /// Healthy nodes, by healthy nodes.
    pub healthy: usize,
    /// Nodes that stalled, by healthy nodes.
    pub stalled: usize,
    /// By nodes that stalled.
    pub by_stalled: usize,
    /// Nodes times the time they were watched.
    pub node_hours: f64,
}

/// Views are looked at this often: a moment is seen half of it late on average.
pub const STEP: Duration = Duration::from_millis(5);

/// How long a stalled node runs between two stalls: long enough to answer what came, too short to be well.
const GASP: Duration = Duration::from_millis(64);

/// Nodes know each other by then; those that take longer are waited for.
const FORMED: Duration = Duration::from_secs(2);
/// But not for ever.
const FORMED_AT_MOST: Duration = Duration::from_secs(60);

impl Death {
    /// Plays it.
    pub fn play(&self) -> Noticed {
        let (mut world, mut rng) = formed(self.nodes, self.loss, self.seed);
        // Anywhere between two probes.
        world.run_for(rng.between(Duration::ZERO, PROBE_PERIOD));
        let victim = rng.below(self.nodes as u64) as usize;
        let probes_before = world.now().as_nanos() / PROBE_PERIOD.as_nanos() as u64;
        world.crash(victim);
        let (name, died) = (format!("node-{victim}"), world.now());
        let id = NodeId::of(&name);
        let mut noticed = Noticed {
            probes_before,
            suspected: None,
            down: None,
            known: None,
            false_downs: 0,
            node_hours: node_hours(self.nodes, world.now().since(plimsoll::time::Time::ZERO) + self.watch),
        };
        while world.now().since(died) < self.watch {
            if noticed.known.is_some() {
                world.run_for(self.watch - world.now().since(died));
                break;
            }
            world.run_for(STEP.min(self.watch - world.now().since(died)));
            look(&world, id, world.now().since(died), &mut noticed);
        }
        noticed.false_downs = downs(&world).filter(|(_, member)| *member != name).count();
        noticed
    }
}

/// Notes what the live nodes hold the victim for.
fn look(world: &World, victim: NodeId, after: Duration, noticed: &mut Noticed) {
    let (mut doubted, mut down, mut trusted) = (false, false, false);
    for n in world.live() {
        match world.core(n).member_state(victim) {
            Some(MemberState::Alive) => trusted = true,
            Some(MemberState::Suspect) => (doubted, trusted) = (true, true),
            Some(MemberState::Down) | None => down = true,
        }
    }
    if doubted || down {
        noticed.suspected.get_or_insert(after);
    }
    if down {
        noticed.down.get_or_insert(after);
    }
    if !trusted {
        noticed.known.get_or_insert(after);
    }
}

impl Stalls {
    /// Plays them.
    pub fn play(&self) -> Mistaken {
        let (mut world, _) = formed(self.nodes, Share::NEVER, self.seed);
        let start = world.now();
        while world.now().since(start) < self.watch {
            (0..self.paused).for_each(|n| world.pause(n));
            world.run_for(self.pause);
            (0..self.paused).for_each(|n| world.resume(n));
            world.run_for(GASP);
        }
        let stalled: Vec<String> = (0..self.paused).map(|n| format!("node-{n}")).collect();
        let mut mistaken = Mistaken { node_hours: node_hours(self.nodes, self.watch), ..Mistaken::default() };
        for (n, member) in downs(&world) {
            match (n < self.paused, stalled.iter().any(|name| name == member)) {
                (true, _) => mistaken.by_stalled += 1,
                (false, true) => mistaken.stalled += 1,
                (false, false) => mistaken.healthy += 1,
            }
        }
        mistaken
    }
}

/// A fleet whose nodes know each other, and chance for what is to happen to it.
fn formed(nodes: usize, loss: Share, seed: u64) -> (World, Rng) {
    let config = Config { nodes, pods: 1, seed, link: Link { loss, ..Link::default() }, ..Config::default() };
    let mut world = World::new(config);
    world.run_for(FORMED);
    while !world.all_know_all() && world.now().since(plimsoll::time::Time::ZERO) < FORMED_AT_MOST {
        world.run_for(PROBE_PERIOD);
    }
    (world, Rng::new(seed, "detect", 0))
}

fn node_hours(nodes: usize, span: Duration) -> f64 {
    nodes as f64 * span.as_secs_f64() / 3600.0
}

/// Who declared whom down.
fn downs(world: &World) -> impl Iterator<Item = (usize, &str)> {
    world.events.iter().filter_map(|(_, n, event)| match event {
        Event::MemberDown(name) => Some((*n, name.as_str())),
        _ => None,
    })
}

/// How many rounds of probes it takes, on average, until somebody probes a node that died: SWIM's e / (e - 1) for many
/// nodes, exactly for `nodes`.
///
/// All nodes probe in the same rounds (those of one deploy do), and each goes through a shuffled list of the
/// `m = nodes - 1` others, where the dead one is anywhere: that none of the next `k` probes of one prober meets it has the
/// chance `1 - k / m` while its pass lasts, times the same of the next pass. The `m` probers are independent, so that
/// this to the power of `m` is the chance that nobody has met it after `k` rounds, and the sum over `k` is the mean. Where
/// everybody drew anew each time, the chance would be `(1 - 1 / m)^(m k)`, and the mean nearly the same.
pub fn rounds_to_first_probe(nodes: usize, probes_before: u64) -> f64 {
    let m = nodes as i32 - 1;
    let left = m - (probes_before % m.max(1) as u64) as i32;
    let missed_by_one = |k: i32| {
        let (now, next) = (k.min(left), (k - left).max(0));
        (1.0 - f64::from(now) / f64::from(m)) * (1.0 - f64::from(next) / f64::from(m))
    };
    (0..=left + m).map(|k| missed_by_one(k).max(0.0).powi(m)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit is what the literature has; the smallest fleet can be counted by hand: of two nodes, the one that is left
    /// probes the dead one in every round; of three, each of two misses it in its pass with the chance 1/2.
    #[test]
    fn rounds_tend_to_e_over_e_minus_one() {
        let e = std::f64::consts::E;
        assert!((rounds_to_first_probe(100_000, 0) - e / (e - 1.0)).abs() < 1e-4);
        assert_eq!(rounds_to_first_probe(2, 7), 1.0);
        // Nobody after one round: 1/4; after two: every pass is over, 0.
        assert_eq!(rounds_to_first_probe(3, 0), 1.25);
        // In the middle of the pass: 1/4 after one, 1/16 after two, 0 after three.
        assert_eq!(rounds_to_first_probe(3, 1), 1.3125);
    }
}
