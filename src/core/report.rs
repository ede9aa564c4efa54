//! What a node believes, for people and tools.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Core;
use crate::gossip::wire::{Ident, MemberState};
use crate::id::{NodeId, PodId};
use crate::observe::{Because, Belief, Footprint, MemberView, PeerShare, Pod, PodView, View};
use crate::time::Time;

/// Costs in one view: enough for a hundred models of ten sizes, and no burden for who looks every second.
const MOST_COSTS: usize = 1000;

impl Core {
    /// What this node believes about the pods.
    pub fn view(&self, now: Time) -> View {
        let pods = self.picker.pods();
        let mut shares = self.view_shares(now);
        let fresh = self.rates.freshness;
        View {
            node: self.config.name.clone(),
            policy: self.picker.policy().name(),
            rung: self.ladder.rung().name(),
            unseen_ms: fresh.unseen_ms,
            news_age_ms: fresh.age_ms,
            critical_age_ms: fresh.critical_ms,
            load: fresh.load,
            mean_cost_ms: self.picker.mean_cost_ms(),
            theta_ms: self.pace.theta_ms(),
            told_at_once: self.pace.share(),
            news_age_small_ms: self.rates.news_age_ms(false),
            news_age_heavy_ms: self.rates.news_age_ms(true),
            pods: pods
                .iter()
                .enumerate()
                .map(|(index, pod)| self.view_pod(now, index, pod, shares.remove(&pod.id()).unwrap_or_default()))
                .collect(),
            costs: self.picker.models().iter().flat_map(|m| m.cost.view(m.name())).take(MOST_COSTS).collect(),
        }
    }

    pub(super) fn view_pod(&self, now: Time, index: usize, pod: &Pod, peers: Vec<PeerShare>) -> PodView {
        let load = pod.load(index);
        let stats = pod.stats();
        PodView {
            name: pod.name().to_owned(),
            id: pod.id().to_string(),
            addr: pod.spec().grpc.clone(),
            zone: pod.spec().zone.clone(),
            slots: pod.slots(),
            speed: pod.speed(),
            ejected: pod.is_ejected() || pod.fails_all(),
            draining: pod.is_draining(),
            models_out: self.models_out(now, pod),
            start_share: pod.start_share(),
            in_flight: f64::from(load.in_flight),
            own_in_flight: load.own_in_flight,
            peers_in_flight: pod.peers_in_flight(),
            own_remainders: pod.own_remainders(),
            cost_ms: f64::from(load.cost_ms),
            wait_ms: f64::from(pod.longest_wait_ms(now)),
            picks: pod.picks(),
            served: stats.served.load(Relaxed),
            failed: stats.failed.load(Relaxed),
            refused: stats.refused.load(Relaxed),
            cancelled: stats.cancelled.load(Relaxed),
            ejections: stats.ejections.load(Relaxed),
            ejections_by: Because::ALL.map(|because| (because.name(), stats.ejected_because(because))).into(),
            peers,
        }
    }

    /// What each peer's row adds to each pod now, in requests: the parts of [`Pod::peers_in_flight`]. For checks that run
    /// too often for a [`View`].
    pub fn peer_shares(&self) -> impl Iterator<Item = (NodeId, PodId, f64)> {
        self.peers.iter().flat_map(|(node, peer)| {
            peer.row.applied().map(|(pod, share)| (*node, pod, share.count_x256 as f64 / 256.0))
        })
    }

    /// What each peer has where, by pod.
    pub(super) fn view_shares(&self, now: Time) -> BTreeMap<PodId, Vec<PeerShare>> {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let mut by_pod: BTreeMap<PodId, Vec<PeerShare>> = BTreeMap::new();
        for peer in self.peers.values() {
            let weight = peer.weight_x256(now);
            if weight == 0 {
                continue;
            }
            let news_at = peer.row.news_at();
            for (pod, share) in peer.row.shares(now) {
                by_pod.entry(pod).or_default().push(PeerShare {
                    node: peer.name.clone(),
                    in_flight: (share.count_x256 / 256) as u32,
                    cost_ms: share.cost_us as f64 / 1e3,
                    news_age_ms: ms(news_at.get(&pod).map_or(Duration::ZERO, |at| now.since(*at))),
                    row_age_ms: ms(peer.row.age(now).unwrap_or_default()),
                    weight: weight as f64 / 256.0,
                });
            }
        }
        by_pod
    }

    /// What this node believes about the members, itself first.
    pub fn members(&self, now: Time) -> Vec<MemberView> {
        let me = self.swim.me();
        let view = |ident: &Ident, name: &str, state, age: Option<Duration>, weight, this_node| MemberView {
            name: name.to_owned(),
            id: ident.id.to_string(),
            addr: ident.addr.to_string(),
            state,
            epoch: ident.epoch.0,
            r#gen: ident.r#gen,
            this_node,
            row_age_ms: age.map(|age| age.as_secs_f64() * 1e3),
            weight,
        };
        let own = view(&me, &self.config.name, "alive", None, 1.0, true);
        let others = self.peers.values().map(|peer| {
            let weight = peer.weight_x256(now) as f64 / 256.0;
            let left = !peer.is_active() && peer.row.leaving;
            let state = if left { "left" } else { peer.state.name() };
            view(&peer.ident, &peer.name, state, peer.row.age(now), weight, false)
        });
        std::iter::once(own).chain(others).collect()
    }

    /// What SWIM holds `node` for at this instant; none where it knows no such member. [`Core::members`] has it too, a
    /// suspicion up to a tick later.
    pub fn member_state(&self, node: NodeId) -> Option<MemberState> {
        let known = self.swim.members().filter(|member| member.id().id == node);
        known.max_by_key(|member| (member.id().epoch, member.id().r#gen)).map(|member| member.state().into())
    }

    /// What this node believes about member `node`, in numbers: for who asks often. None where it never heard of it.
    pub fn belief(&self, now: Time, node: NodeId) -> Option<Belief> {
        let peer = self.peers.get(&node)?;
        Some(Belief {
            active: peer.is_active(),
            epoch: peer.ident.epoch,
            leaving: peer.row.leaving,
            row_epoch: peer.row.epoch(),
            row_seq: peer.row.floor(),
            row_age: peer.row.age(now),
            row_every: peer.row.every(),
            weight_x256: peer.weight_x256(now),
        })
    }

    /// Who this node is in gossip now: it may have taken a higher epoch or gen than it was born with.
    pub fn me(&self) -> Ident {
        self.swim.me()
    }

    /// How old the oldest reservation is that counts here: what is reserved counts until the asker's row tells of it.
    pub fn oldest_reservation(&self, now: Time) -> Option<Duration> {
        self.strict.oldest(now)
    }

    /// How much this node keeps, by kind: each of it is bounded.
    pub fn footprint(&self) -> Footprint {
        let (own_lanes, repeats) = self.own.held();
        let (asked, reservations) = self.strict.held();
        let (mut peer_entries, mut peer_names) = (0, 0);
        for (entries, names) in self.peers.values().map(|peer| peer.row.held()) {
            (peer_entries, peer_names) = (peer_entries + entries, peer_names + names);
        }
        Footprint {
            active: self.active().count(),
            peers: self.peers.len(),
            members: self.swim.members().count(),
            timers: self.swim.timers(),
            own_lanes,
            own_names: (self.own.table().1.0 + self.own.table().1.1) as usize,
            repeats,
            peer_entries,
            peer_names,
            asked,
            reservations,
            told_models: self.picker.told_models(),
            relayed: self.relay.held(),
            refusals: self.peers.values().map(|peer| peer.refused.len()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::CoreConfig;
    use crate::observe::{Cost, PodSpec};
    use crate::pick::{Candidates, Context, Policy, Request, Wake};

    struct Last;

    impl Policy for Last {
        fn name(&self) -> &'static str {
            "last"
        }

        fn choose(&self, pods: &Candidates<'_>, _: &Context) -> usize {
            pods.len() - 1
        }
    }

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    /// A comparison is worth nothing if the core picks by its own policy all the same, or the view calls it by another's
    /// name; and the reads without a view must say what the view says.
    #[test]
    fn a_policy_of_the_callers_own_chooses_and_is_named() {
        let now = Time::ZERO;
        let config = CoreConfig::new("a", ([127, 0, 0, 1], 7600).into());
        let mut core = Core::with_policy(config, now, Box::new(NoWake), Box::new(Last));
        core.set_pods(now, (0..3).map(|k| PodSpec::new(format!("pod-{k}"), format!("http://10.1.0.{k}:1"))).collect());
        let request = Request::new("m").cost(Cost::from_ms(20.0).unwrap());
        let _held = core.picker().pick(now, &request).unwrap();
        drop(core.picker().pick(now, &request).unwrap());
        let (view, pods) = (core.view(now), core.picker().pods());
        assert_eq!(view.policy, "last");
        let (seen, pod) = (&view.pods[2], &pods[2]);
        assert_eq!((pod.own_in_flight(), pod.own_remainders()), (1, 1));
        assert_eq!((seen.own_in_flight, seen.own_remainders), (1, 1));
        assert_eq!((pod.own_cost_ms(), pod.peers_in_flight(), pod.peers_cost_ms()), (20.0, 0.0, 0.0));
        assert_eq!(f64::from(pod.load(2).cost_ms), seen.cost_ms);
        assert_eq!(core.peer_shares().count(), 0);
    }
}
