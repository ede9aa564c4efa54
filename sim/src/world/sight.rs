//! What can be seen of a world: by tests, checkers and reports.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plimsoll::core::Core;
use plimsoll::gossip::Interest;
use plimsoll::id::NodeId;
use plimsoll::observe::{Belief, Pod};
use plimsoll::time::Time;

use super::tally::Tally;
use super::{FormerLife, World};
use crate::config::Config;
use crate::rng::Share;
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

    /// What is counted of what really happens.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether node `n` runs.
    pub fn is_up(&self, n: usize) -> bool {
        self.nodes[n].core.is_some()
    }

    /// Whether node `n` runs, neither stopped nor slow, and has nothing left over from when it was.
    pub(crate) fn node_is_well(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        node.core.is_some() && !node.paused && node.slow.is_zero() && node.busy_until <= self.now
    }

    /// Whether node `n` is slow, or has not caught up since.
    pub(crate) fn node_is_slow(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        node.core.is_some() && (!node.slow.is_zero() || node.busy_until > self.now)
    }

    /// When node `n` started last.
    pub(crate) fn started(&self, n: usize) -> Time {
        self.nodes[n].started
    }

    /// Which life of node `n` this is.
    pub(crate) fn life(&self, n: usize) -> u32 {
        self.nodes[n].life
    }

    /// Inputs that wait for node `n`.
    pub(crate) fn inbox(&self, n: usize) -> usize {
        self.nodes[n].inbox.len()
    }

    /// The nodes that are dead, and since when.
    pub(crate) fn dead(&self) -> impl Iterator<Item = (usize, Time)> {
        let dead = self.nodes.iter().enumerate().filter(|(_, node)| node.core.is_none());
        dead.map(|(n, node)| (n, node.former.last().map_or(Time::ZERO, |life| life.ended)))
    }

    /// The last life of each node that had one before, or has none now.
    pub(crate) fn former_lives(&self) -> impl Iterator<Item = (usize, FormerLife)> {
        self.nodes.iter().enumerate().filter_map(|(n, node)| Some((n, *node.former.last()?)))
    }

    /// What node `n` believes about node `m`.
    pub(crate) fn belief(&self, n: usize, m: usize) -> Option<Belief> {
        self.nodes[n].core.as_ref()?.belief(self.local(n), self.nodes[m].id)
    }

    /// Who has the addresses that node `n` is told to join.
    pub(crate) fn told_to_join(&self, n: usize) -> Vec<usize> {
        self.join_list(n).into_iter().filter_map(|addr| self.at_address(addr)).collect()
    }

    /// How many walls stand.
    pub(crate) fn walls(&self) -> usize {
        self.links.walls()
    }

    /// Whether anything gets through from `a` to `b`.
    pub(crate) fn is_open(&self, a: usize, b: usize) -> bool {
        self.links.is_open(a, b)
    }

    /// Whether walls keep everybody who is up from node `n`.
    pub(crate) fn hears_nobody(&self, n: usize) -> bool {
        (0..self.nodes.len()).all(|m| m == n || !self.is_up(m) || !self.links.is_open(m, n))
    }

    /// Whether links are as the plan's world has them.
    pub(crate) fn links_are_as_planned(&self) -> bool {
        self.links.link == self.config.link
    }

    /// Calls `look` with each pod that node `n` knows, by its number.
    pub(crate) fn each_pod(&self, n: usize, mut look: impl FnMut(usize, &Pod)) {
        let pods = self.core(n).picker().pods();
        let known = self.nodes[n].known.iter().enumerate().filter(|(_, known)| known.is_some());
        known.zip(pods.iter()).for_each(|((k, _), pod)| look(k, pod));
    }

    /// Whether nodes `n` and `m` have used a pod in common for `span`: only then must each hear of the other.
    pub(crate) fn have_shared_for(&self, span: Duration, n: usize, m: usize) -> bool {
        let (n, m) = (self.core(n), self.core(m));
        let ((ours, _), (theirs, _)) = (n.interest(), m.interest());
        if (ours, theirs) == (Interest::All, Interest::All) {
            return true;
        }
        self.has_used_for(span, n) && self.has_used_for(span, m) && {
            let (ours_of, theirs_of) = (n.picker().pods(), m.picker().pods());
            let known = |id| theirs_of.iter().any(|pod| pod.id() == id);
            ours_of.iter().any(|pod| ours.uses(pod.id()) && theirs.uses(pod.id()) && known(pod.id()))
        }
    }

    /// Whether what the node uses has been the same for `span`.
    fn has_used_for(&self, span: Duration, core: &Core) -> bool {
        let n = self.nodes.iter().position(|node| node.id == core.id()).unwrap_or_default();
        self.local(n).since(core.interest().1) > span
    }

    /// Whether all nodes that are up have used the same pods for `span`.
    pub(crate) fn interests_are_older_than(&self, span: Duration) -> bool {
        let of = |n: &usize| (self.core(*n), self.local(*n).since(self.core(*n).interest().1));
        self.live().iter().map(of).all(|(core, age)| core.interest().0 == Interest::All || age > span)
    }

    /// Pairs of pod and model that a node may count on.
    pub(crate) fn lanes(&self) -> u64 {
        let models = match &self.recorded {
            Some(recording) => recording.models.len(),
            None => self.config.clients.models,
        };
        (self.pods.len() * models) as u64
    }
    /// The request that was asked for first, of those on nodes that are not stopped: node, and when.
    pub(crate) fn oldest_awake(&self) -> Option<(usize, Time)> {
        let awake = self.requests.iter().filter(|(_, asked)| !self.nodes[asked.node].paused);
        awake.map(|(_, asked)| (asked.node, asked.asked_at)).min_by_key(|(_, asked_at)| *asked_at)
    }

    /// Whether pod `k` listens.
    pub(crate) fn pod_is_up(&self, k: usize) -> bool {
        self.pods[k].up
    }

    /// Whether pod `k` is announced, up, not hung and as fast and right as ever.
    pub(crate) fn pod_is_itself(&self, k: usize) -> bool {
        let pod = &self.pods[k];
        let there = pod.up && !pod.hung && pod.announced == Some(pod.incarnation);
        there && !pod.drains && pod.ills.are_well() && pod.errors == Share::NEVER && pod.server.is_normal()
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

    /// What people call the node with this id.
    pub(crate) fn name_of(&self, id: NodeId) -> String {
        self.nodes.iter().position(|node| node.id == id).map_or_else(|| id.to_string(), |n| format!("node-{n}"))
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
