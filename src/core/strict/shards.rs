//! Which shard a pod is in, and which node owns a shard: rendezvous hashing (Thaler, Ravishankar 1998), so that every
//! node that knows the same pods and members computes the same, and one that comes or goes moves only what is its own.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use crate::gossip::wire::MAX_SHARDS;
use crate::id::{NodeId, PodId};
use crate::pick::mix;

/// Pods of one shard, about. Fewer make more shards, and the choice between shards is by hearsay; more make an owner
/// answer more questions: fifty pods of 20 ms requests ask 2,500 times a second.
const PODS: usize = 50;

/// Told apart from each other by hashing twice with the shard between: a pod's rank in a shard.
fn rank(id: u64, shard: u16) -> u64 {
    mix(id ^ mix(u64::from(shard)))
}

/// The shard, of `shards`, that `pod` is in.
pub(super) fn shard_of(pod: PodId, shards: u16) -> u16 {
    (0..shards).max_by_key(|shard| rank(pod.0, *shard)).unwrap_or(0)
}

/// Which of `nodes` owns `shard`; none where there are none.
fn owner_of(shard: u16, nodes: &[NodeId]) -> Option<NodeId> {
    // Equal ranks are as good as impossible, and must not depend on the order all the same.
    nodes.iter().copied().max_by_key(|node| (rank(node.0, shard), *node))
}

/// The shards as this node sees them.
#[derive(Debug, Default)]
pub(super) struct Shards {
    wanted: Option<NonZeroU16>,
    shard: BTreeMap<PodId, u16>,
    /// By shard; at least one.
    owners: Vec<Option<NodeId>>,
    nodes: Vec<NodeId>,
}

impl Shards {
    pub(super) fn new(wanted: Option<NonZeroU16>, me: NodeId) -> Shards {
        let mut shards = Shards { wanted, ..Shards::default() };
        shards.set_pods([].into_iter());
        shards.set_nodes(vec![me]);
        shards
    }

    pub(super) fn count(&self) -> u16 {
        self.owners.len() as u16
    }

    pub(super) fn set_pods(&mut self, pods: impl Iterator<Item = PodId>) {
        let pods: Vec<PodId> = pods.collect();
        let count = match self.wanted {
            Some(wanted) => wanted.get().min(MAX_SHARDS),
            None => pods.len().div_ceil(PODS).clamp(2, usize::from(MAX_SHARDS)) as u16,
        };
        self.shard = pods.into_iter().map(|pod| (pod, shard_of(pod, count))).collect();
        self.owners = vec![None; usize::from(count)];
        self.find_owners();
    }

    /// The nodes that may own shards, by id.
    pub(super) fn set_nodes(&mut self, nodes: Vec<NodeId>) {
        if nodes != self.nodes {
            self.nodes = nodes;
            self.find_owners();
        }
    }

    fn find_owners(&mut self) {
        for (shard, owner) in self.owners.iter_mut().enumerate() {
            *owner = owner_of(shard as u16, &self.nodes);
        }
    }

    /// The shard of a pod; none of one that is not known.
    pub(super) fn of(&self, pod: PodId) -> Option<u16> {
        self.shard.get(&pod).copied()
    }

    /// Who owns a shard, of this node's or of another number of them: how many there are does not decide about an owner.
    pub(super) fn owner(&self, shard: u16) -> Option<NodeId> {
        match self.owners.get(usize::from(shard)) {
            Some(owner) => *owner,
            None => owner_of(shard, &self.nodes),
        }
    }

    /// How many of the shards `node` owns.
    pub(super) fn owned_by(&self, node: NodeId) -> usize {
        self.owners.iter().filter(|owner| **owner == Some(node)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: std::ops::Range<u64>) -> Vec<NodeId> {
        names.map(|n| NodeId::of(&format!("node-{n}"))).collect()
    }

    fn pods(count: u64) -> Vec<PodId> {
        (0..count).map(|k| PodId::of(&format!("10.0.0.{k}:8001"))).collect()
    }

    /// Two versions of the product, or two machines, that computed other owners would ask whoever is not one: fixed
    /// vectors, made with another implementation.
    #[test]
    fn owners_and_shards_are_the_same_everywhere() {
        let owners: Vec<_> = (0..8).map(|shard| owner_of(shard, &nodes(0..5)).unwrap()).collect();
        let names: Vec<_> = owners.iter().map(|id| nodes(0..5).iter().position(|node| node == id).unwrap()).collect();
        assert_eq!(names, OWNERS);
        assert_eq!(pods(16).into_iter().map(|pod| shard_of(pod, 4)).collect::<Vec<_>>(), SHARDS);
    }

    const OWNERS: [usize; 8] = [1, 0, 3, 4, 4, 4, 1, 1];
    const SHARDS: [u16; 16] = [0, 1, 3, 0, 1, 3, 3, 2, 3, 2, 1, 2, 3, 2, 2, 1];

    /// A node that comes or goes must move only its own shards, or every deploy would have all nodes ask the wrong ones.
    #[test]
    fn a_node_that_goes_moves_nothing_but_its_own_shards() {
        let (before, after) = (nodes(0..20), nodes(1..20));
        for shard in 0..200 {
            let owner = owner_of(shard, &before).unwrap();
            if owner != before[0] {
                assert_eq!(owner_of(shard, &after), Some(owner));
            }
        }
        let owned = |node: NodeId| (0..1000).filter(|shard| owner_of(*shard, &before) == Some(node)).count();
        // 50 each are expected of 1000 over 20 nodes; a standard deviation is 7.
        assert!(before.iter().all(|node| (22..79).contains(&owned(*node))));
    }

    /// One more shard takes pods from all others, and moves none between them.
    #[test]
    fn one_more_shard_only_takes() {
        for pod in pods(500) {
            let (before, after) = (shard_of(pod, 10), shard_of(pod, 11));
            assert!(after == before || after == 10);
        }
    }

    #[test]
    fn there_are_two_shards_or_one_for_fifty_pods_or_as_many_as_wanted() {
        let count = |wanted, number| {
            let mut shards = Shards::new(NonZeroU16::new(wanted), NodeId(1));
            shards.set_pods(pods(number).into_iter());
            shards.count()
        };
        assert_eq!(
            [count(0, 0), count(0, 100), count(0, 101), count(1, 500), count(5000, 8)],
            [2, 2, 3, 1, MAX_SHARDS]
        );
    }
}
