//! What can be seen of a world: by tests, checkers and reports.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plimsoll::core::Core;
use plimsoll::time::Time;

use super::World;
use crate::config::Config;
use crate::server::Server;

impl World {
    /// The world's time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// What it was made of.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Node `n`'s time.
    pub fn local(&self, n: usize) -> Time {
        self.nodes[n].local(self.now)
    }

    /// Node `n`'s core; it must be up.
    pub fn core(&self, n: usize) -> &Core {
        self.nodes[n].core.as_ref().expect("the node is up")
    }

    /// The nodes that are up.
    pub fn live(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].core.is_some()).collect()
    }

    /// Whether node `n` is stopped.
    pub fn is_paused(&self, n: usize) -> bool {
        self.nodes[n].paused
    }

    /// Pod `k` as a server.
    pub fn server(&self, k: usize) -> &Server {
        &self.pods[k].server
    }

    /// Whether pod `k` answers.
    pub fn pod_is_well(&self, k: usize) -> bool {
        self.pods[k].up && !self.pods[k].hung
    }

    /// Tickets that node `n` really has at each pod.
    pub fn ledger(&self, n: usize) -> &[u32] {
        &self.nodes[n].ledger
    }

    /// Slot time that each pod has spent so far.
    pub fn busy(&self) -> Vec<Duration> {
        self.pods.iter().map(|pod| pod.server.busy_at(self.now)).collect()
    }

    /// The members that node `n` holds for alive (or suspect), itself included.
    pub fn members(&self, n: usize) -> BTreeSet<String> {
        let members = self.core(n).members(self.local(n));
        members.into_iter().filter(|m| matches!(m.state, "alive" | "suspect")).map(|m| m.name).collect()
    }

    /// Whether every live node knows all live nodes, and no other.
    pub fn all_know_all(&self) -> bool {
        let all: BTreeSet<String> = self.live().into_iter().map(|n| format!("node-{n}")).collect();
        self.live().into_iter().all(|n| self.members(n) == all)
    }

    /// What node `n` believes that its peers have in flight, by pod and peer; what weighs nothing is left out.
    pub fn believed(&self, n: usize) -> BTreeMap<(String, String), u32> {
        let view = self.core(n).view(self.local(n));
        let shares = view.pods.into_iter().flat_map(|pod| pod.peers.into_iter().map(move |p| (pod.name.clone(), p)));
        shares.filter(|(_, p)| p.in_flight > 0).map(|(pod, p)| ((pod, p.node), p.in_flight)).collect()
    }

    /// What is really in flight on node `n`'s peers, by pod and peer.
    pub fn truth(&self, n: usize) -> BTreeMap<(String, String), u32> {
        let peers = self.live().into_iter().filter(|peer| *peer != n);
        let counts = peers.flat_map(|peer| {
            let pods = self.core(peer).picker().pods();
            pods.iter()
                .map(|pod| ((pod.name().to_owned(), format!("node-{peer}")), pod.own_in_flight()))
                .collect::<Vec<_>>()
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Whether every live node's view is the truth.
    pub fn views_are_true(&self) -> bool {
        self.live().into_iter().all(|n| self.believed(n) == self.truth(n))
    }

    /// Whether no live node believes that anything is in flight anywhere.
    pub fn all_is_idle(&self) -> bool {
        let idle =
            |n: usize| self.core(n).view(self.local(n)).pods.iter().all(|p| p.in_flight == 0.0 && p.cost_ms == 0.0);
        self.live().into_iter().all(idle)
    }

    /// How many tickets each node's pickers hold, against the ledger: a difference is a leak.
    pub fn own_counts_are_exact(&self) -> bool {
        self.live().into_iter().all(|n| {
            let pods = self.core(n).picker().pods();
            pods.iter().all(|pod| pod.own_in_flight() == self.nodes[n].ledger[super::ask::pod_index(pod.name())])
        })
    }
}
