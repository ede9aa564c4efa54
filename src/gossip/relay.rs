//! Who passes on small news: groups of neighbours on the ring of nodes, and in each the one that an origin tells.
//!
//! Telling one change to a hundred users is a hundred datagrams, and nine tenths of each is its own overhead. So where
//! a pod has many users, small news goes to one member of each group of neighbours, and that one passes it on to the
//! others together with what it heard from other origins meanwhile. A group is all nodes whose ids begin with the same
//! bits: ids are hashes, so groups are about equal; neighbours by id use nearly the same pods (see [`super::interest`]);
//! and no two nodes need to agree on who is a member to agree on where groups begin. (Groups by rank move all borders
//! with each node that comes or goes.) The origin says how many bits it goes by, so nobody needs to agree on that either.

use std::f64::consts::SQRT_2;

use crate::id::NodeId;
use crate::pick::mix;

/// Groups by so many bits at most: more than members that are kept.
const MOST_BITS: u8 = 12;
/// The number of bits changes where groups are off by this factor: halving all groups and putting them together again with
/// each member that comes and goes would mix up what relays hold.
const SLACK: f64 = 1.68;
/// What began stays until there are this share fewer users than where it begins: news that goes now this way, now that,
/// overtakes itself.
const KEPT: f64 = 7.0 / 8.0;
/// A relay's or a receiver's groups may be this many times halved or doubled against what it makes of the fleet itself.
/// Nodes see members come at different times.
pub(crate) const OFF: u8 = 2;

/// The group of `id` where groups go by the first `bits`.
pub(crate) fn group(id: NodeId, bits: u8) -> u64 {
    id.0.checked_shr(64 - u32::from(bits.min(64))).unwrap_or(0)
}

/// The first and the last id that can be in the group of `id`.
pub(crate) fn span(id: NodeId, bits: u8) -> (NodeId, NodeId) {
    let rest = u64::MAX.checked_shr(bits.into()).unwrap_or(0);
    (NodeId(id.0 & !rest), NodeId(id.0 | rest))
}

/// How many bits groups go by where `nodes` share the ring and a pod has `users`: groups of about the root of its users,
/// so that an origin tells about as many relays as a relay has neighbours. `before` is what it was so far.
pub(crate) fn bits(nodes: usize, users: f64, before: u8) -> u8 {
    let size = users.max(1.0).sqrt();
    let groups = (nodes.max(1) as f64 / size).max(1.0);
    let of = |bits: u8| (1_u64 << bits.min(MOST_BITS)) as f64;
    if groups <= of(before) * SLACK && groups * SLACK >= of(before) && before <= MOST_BITS {
        return before;
    }
    // The nearest power of two, by ratio.
    (0..MOST_BITS).find(|bits| groups <= of(*bits) * SQRT_2).unwrap_or(MOST_BITS)
}

/// Whether a node that makes groups of `own` bits may have to do with groups of `theirs`.
pub(crate) fn is_near(own: u8, theirs: u8) -> bool {
    own.abs_diff(theirs) <= OFF
}

/// Whether pods with so many `users` have enough for relays, as they had `before` or not; never where `limit` is 0.
pub(crate) fn is_crowd(users: f64, limit: usize, before: bool) -> bool {
    let limit = if before { KEPT * limit as f64 } else { limit as f64 };
    limit > 0.0 && users > limit
}

/// Which of `members` passes on what `origin` has to tell them: each by chance, so that none passes on more than its
/// share; and as long as it is there, the same.
pub(crate) fn relay_of(origin: NodeId, members: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    members.max_by_key(|member| (mix(origin.0 ^ mix(member.0)), *member))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn ids(seed: u64, count: usize) -> BTreeSet<NodeId> {
        (0..count as u64).map(|k| NodeId::of(&format!("{seed} {k}"))).collect()
    }

    /// Who tells whom: by group, its relay and whom that passes on to.
    fn told(origin: NodeId, users: &BTreeSet<NodeId>, bits: u8) -> BTreeMap<u64, (NodeId, Vec<NodeId>)> {
        let mut groups: BTreeMap<u64, Vec<NodeId>> = BTreeMap::new();
        for user in users.iter().filter(|user| **user != origin) {
            groups.entry(group(*user, bits)).or_default().push(*user);
        }
        let relayed = groups.into_iter().map(|(group, members)| {
            let relay = relay_of(origin, members.iter().copied()).unwrap();
            (group, (relay, members.into_iter().filter(|member| *member != relay).collect()))
        });
        relayed.collect()
    }

    /// By hand: 1,000 nodes and pods of 128 users make groups of 11.3, of which there are 88, next to which is 2^6; 100
    /// nodes that all use all make groups of ten, and eight of them; one group does for four nodes.
    #[test]
    fn groups_are_about_the_root_of_a_pods_users() {
        assert_eq!(bits(1000, 128.0, 0), 6);
        assert_eq!(bits(100, 99.0, 0), 3);
        assert_eq!(bits(4, 3.0, 0), 1);
        assert_eq!((bits(1, 0.0, 0), bits(0, 0.0, 9)), (0, 0));
        assert_eq!(bits(1 << 20, 1.0, 0), MOST_BITS);
        // 6.46 wanted: 6 or 7, whichever it was.
        assert_eq!((bits(1000, 128.0, 7), bits(1000, 128.0, 8)), (7, 6));
        let id = NodeId(0xabcd_0000_0000_0001);
        assert_eq!((group(id, 0), group(id, 4), group(id, 8), group(id, 64)), (0, 0xa, 0xab, id.0));
        assert_eq!(span(id, 0), (NodeId(0), NodeId(u64::MAX)));
        assert_eq!(span(id, 8), (NodeId(0xab00_0000_0000_0000), NodeId(0xabff_ffff_ffff_ffff)));
        assert_eq!(span(id, 64), (id, id));
    }

    /// Right at the limit news must not go now this way and now that.
    #[test]
    fn relays_are_for_more_users_than_the_limit_and_kept_for_a_few_less() {
        assert!(!is_crowd(1000.0, 0, true) && !is_crowd(1000.0, 0, false));
        assert!(!is_crowd(64.0, 64, false) && is_crowd(64.5, 64, false));
        assert!(is_crowd(57.0, 64, true) && !is_crowd(56.0, 64, true));
        assert!(is_near(6, 8) && is_near(8, 6) && !is_near(6, 9));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whoever uses a pod must hear of it once: not never, and not by two ways. And what comes or goes must leave all
        /// other groups, and whoever else its own group's news goes by, as they were.
        #[test]
        fn every_user_is_told_once_and_churn_moves_one_group(
            seed in any::<u64>(), count in 2..200_usize, bits in 0..8_u8, grows in any::<bool>(),
        ) {
            let mut users = ids(seed, count);
            let origin = NodeId::of(&format!("{seed} 0"));
            let before = told(origin, &users, bits);
            let mut heard: Vec<NodeId> = before.values().flat_map(|(relay, rest)| rest.iter().chain([relay])).copied().collect();
            heard.sort_unstable();
            let others: Vec<NodeId> = users.iter().copied().filter(|user| *user != origin).collect();
            prop_assert_eq!(&heard, &others);
            for (at, (relay, rest)) in &before {
                let (first, last) = span(*relay, bits);
                prop_assert!(rest.iter().all(|member| group(*member, bits) == *at && (first..=last).contains(member)));
            }
            let moved = if grows {
                let new = NodeId::of(&format!("{seed} new"));
                users.insert(new);
                new
            } else {
                let gone = others[seed as usize % others.len()];
                users.remove(&gone);
                gone
            };
            let after = told(origin, &users, bits);
            for (at, (relay, _)) in &after {
                let Some((old, _)) = before.get(at) else { continue };
                prop_assert!(relay == old || *relay == moved || *old == moved, "another relay for no reason");
            }
        }

        /// No node may have to pass on more than its share of what others tell: of 16 members, each is the relay of a
        /// sixteenth of 1,600 origins, which is 100, give or take five times the root of that.
        #[test]
        fn origins_are_shared_out_evenly(seed in any::<u64>()) {
            let members = ids(seed, 16);
            let mut origins: BTreeMap<NodeId, u32> = BTreeMap::new();
            for origin in ids(!seed, 1600) {
                *origins.entry(relay_of(origin, members.iter().copied()).unwrap()).or_default() += 1;
            }
            prop_assert!(members.iter().all(|member| origins.get(member).is_some_and(|n| (50..=150).contains(n))));
        }
    }
}
