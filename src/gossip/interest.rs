//! Which pods a node uses, and so which news it needs.
//!
//! Pods lie on a ring by their ids, which are hashes; nodes lie on the same ring by the order of their own ids, evenly. A
//! node uses the `m` pods that follow its place. So every pod is used by as many nodes, give or take one; whoever shares a
//! pod with a node lies near it on the ring, which keeps the peers that a node must tell as few as its pods, whatever the
//! size of the fleet; and the pods that a node uses are an arc of the ring, told in two numbers. (Each node drawing its
//! pods by a hash of the pair gives a pod N m / P users give or take the square root of that, and makes every node
//! everybody's peer.)

use crate::id::{NodeId, PodId};

/// A pod has this many users at least, or nodes use more pods than they were told to: with few, one busy node is a pod's
/// whole load, and there is nothing to save by telling fewer than this.
const LEAST_USERS: usize = 16;
/// A node moves when its place is off by this share of what it uses. Each start or end of a node moves all places by a
/// little, and each move is told to everybody.
const SLACK: usize = 16;

/// The pods that a node uses: all, or an arc of the ring of ids, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interest {
    /// All there are.
    #[default]
    All,
    /// From the first on to the last, past the largest id if the last is the smaller.
    Arc {
        /// The first.
        first: PodId,
        /// The last.
        last: PodId,
    },
}

impl Interest {
    /// Whether it uses `pod`.
    pub fn uses(&self, pod: PodId) -> bool {
        match *self {
            Interest::All => true,
            Interest::Arc { first, last } if first <= last => (first..=last).contains(&pod),
            Interest::Arc { first, last } => pod >= first || pod <= last,
        }
    }

    /// How many of `pods`, which are sorted, it uses.
    pub(crate) fn count(&self, pods: &[PodId]) -> usize {
        let below = |id: PodId| pods.partition_point(|pod| *pod < id);
        let upto = |id: PodId| pods.partition_point(|pod| *pod <= id);
        match *self {
            Interest::All => pods.len(),
            Interest::Arc { first, last } if first <= last => upto(last) - below(first),
            Interest::Arc { first, last } => pods.len() - below(first) + upto(last),
        }
    }
}

/// What the node that stands at `rank` of `nodes`, in the order of their ids, should use: `most` of `pods`, which are
/// sorted; all where `most` is 0. `before` is what it used so far, which it keeps while that is near enough.
pub(crate) fn choose(rank: usize, nodes: usize, pods: &[PodId], most: usize, before: Interest) -> Interest {
    let (nodes, all) = (nodes.max(1), pods.len());
    let size = most.max((LEAST_USERS * all).div_ceil(nodes));
    if most == 0 || size >= all {
        return Interest::All;
    }
    let place = rank * all / nodes % all;
    let mut start = place;
    if let Interest::Arc { first, .. } = before {
        // Where it was, or the next one if that pod is gone.
        let was = pods.partition_point(|pod| *pod < first) % all;
        let off = was.abs_diff(place).min(all - was.abs_diff(place));
        if off <= size / SLACK {
            start = was;
        }
    }
    Interest::Arc { first: pods[start], last: pods[(start + size - 1) % all] }
}

/// The place of `id` among `others`, which are sorted and without it.
pub(crate) fn rank(id: NodeId, others: impl Iterator<Item = NodeId>) -> usize {
    others.take_while(|other| *other < id).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ids(seed: u64, count: usize) -> BTreeSet<u64> {
        (0..count as u64).map(|k| PodId::of(&format!("{seed} {k}")).0).collect()
    }

    fn sorted(pods: &BTreeSet<u64>) -> Vec<PodId> {
        pods.iter().map(|pod| PodId(*pod)).collect()
    }

    /// What each node uses, by its id.
    fn all(
        nodes: &BTreeSet<u64>,
        pods: &BTreeSet<u64>,
        most: usize,
        before: &[(u64, Interest)],
    ) -> Vec<(u64, Interest)> {
        let pods = sorted(pods);
        let of = |node: u64| before.iter().find(|(id, _)| *id == node).map_or(Interest::All, |(_, interest)| *interest);
        let chosen = nodes.iter().map(|node| {
            let place = rank(NodeId(*node), nodes.iter().filter(|other| *other != node).map(|other| NodeId(*other)));
            (*node, choose(place, nodes.len(), &pods, most, of(*node)))
        });
        chosen.collect()
    }

    fn used(interest: Interest, pods: &BTreeSet<u64>) -> BTreeSet<u64> {
        pods.iter().copied().filter(|pod| interest.uses(PodId(*pod))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        /// Every pod must have its share of users, no more and no less, or some run hot while others idle; and a node or a
        /// pod that comes or goes must not make the others start over.
        #[test]
        fn pods_have_equal_shares_of_users_and_churn_moves_few(
            seed in any::<u64>(), nodes in 1..200_usize, pods in 1..200_usize, most in 0..80_usize, grows in any::<bool>(),
            of_nodes in any::<bool>(),
        ) {
            let (mut n, mut p) = (ids(seed, nodes), ids(!seed, pods));
            let before = all(&n, &p, most, &[]);
            let size = most.max((LEAST_USERS * pods).div_ceil(nodes));
            for pod in &p {
                let users = before.iter().filter(|(_, interest)| interest.uses(PodId(*pod))).count();
                let share = if most == 0 || size >= pods { nodes as f64 } else { (nodes * size) as f64 / pods as f64 };
                // Whole nodes at whole places: one off at each end of the stretch from which it is reached.
                prop_assert!((users as f64 - share).abs() <= 2.0, "{users} users, {share} expected");
            }
            for (_, interest) in &before {
                let expected = if most == 0 || size >= pods { pods } else { size };
                prop_assert_eq!(used(*interest, &p).len(), expected);
                prop_assert_eq!(interest.count(&sorted(&p)), expected);
            }
            let changed = if of_nodes { &mut n } else { &mut p };
            if grows {
                changed.extend(ids(seed ^ 1, 1));
            } else if changed.len() > 1 {
                changed.pop_first();
            }
            let after = all(&n, &p, most, &before);
            for (node, interest) in &after {
                let Some((_, old)) = before.iter().find(|(id, _)| id == node) else { continue };
                if *old == Interest::All || *interest == Interest::All {
                    continue;
                }
                let (old, new) = (used(*old, &p), used(*interest, &p));
                // A sixteenth where it moves, and what a size that is a sixteenth of N / P changes by itself.
                let moved = new.difference(&old).count();
                prop_assert!(moved <= size / SLACK + 3 + size / nodes, "{moved} of {size} new");
            }
        }
    }

    /// By hand: ten nodes, forty pods, sixteen users at least would be all pods; at a hundred nodes it is ten pods.
    #[test]
    fn few_nodes_use_more_pods_than_they_were_told() {
        let pods: Vec<PodId> = (0..40).map(|k| PodId(10 * k)).collect();
        assert_eq!(choose(3, 10, &pods, 8, Interest::All), Interest::All);
        let arc = |first, last| Interest::Arc { first: PodId(first), last: PodId(last) };
        assert_eq!(choose(50, 100, &pods, 10, Interest::All), arc(200, 290));
        assert_eq!(choose(90, 100, &pods, 10, Interest::All), arc(360, 50));
        assert_eq!(choose(50, 100, &pods, 32, arc(180, 490)), arc(180, 90));
        assert_eq!(choose(50, 100, &pods, 32, arc(170, 480)), arc(200, 110));
        assert_eq!(choose(50, 100, &pods, 0, Interest::All), Interest::All);
        assert!(arc(360, 50).uses(PodId(0)) && arc(360, 50).uses(PodId(360)) && !arc(360, 50).uses(PodId(60)));
        assert_eq!(arc(360, 50).count(&pods), 10);
    }
}
