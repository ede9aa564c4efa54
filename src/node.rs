//! The public handle of a node: join, pick, channel, view, leave.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::observe::{MemberView, Pod, PodSpec, View};
use crate::pick::{self, Outcome, PickError, Picker, PolicyKind, Request};

/// How a node proves that it belongs to the cluster.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// One secret that all nodes share: every holder is trusted alike.
    Secret(Vec<u8>),
    /// A certificate per node, PEM files: the cluster's CA, this node's certificate chain and key.
    Files {
        /// Certificates of the CA.
        ca: PathBuf,
        /// This node's chain, leaf first.
        cert: PathBuf,
        /// This node's key.
        key: PathBuf,
    },
}

/// What a node needs to join.
#[derive(Clone)]
#[non_exhaustive]
pub struct NodeConfig {
    /// Unique per process.
    pub name: String,
    /// Nodes of another cluster are refused.
    pub cluster: String,
    /// Where it gossips (UDP).
    pub gossip: SocketAddr,
    /// What peers dial; `gossip` where none is given.
    pub advertise: Option<SocketAddr>,
    /// `host:port` of any members; names are resolved again at each attempt.
    pub join: Vec<String>,
    /// Its proof of membership.
    pub credentials: Credentials,
    /// How it picks.
    pub policy: PolicyKind,
    /// Gossip budget, bit/s.
    pub budget_bits: u64,
    /// The pods it starts with.
    pub pods: Vec<PodSpec>,
}

/// A node of the cluster. Clones are handles to the same node.
#[derive(Clone)]
pub struct Node {
    picker: Picker,
}

/// Why a node could not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// placeholder
    #[error("{0}")]
    Other(String),
}

/// One request in flight; see [`pick::Ticket`]. Ends by [`Ticket::finish`], or as cancelled when dropped.
#[derive(Debug)]
pub struct Ticket {
    inner: Option<pick::Ticket>,
}

impl Ticket {
    /// The pod that was picked.
    pub fn pod(&self) -> &Arc<Pod> {
        todo!()
    }

    /// Ends it.
    pub fn finish(mut self, outcome: Outcome) {
        let _ = (self.inner.take(), outcome);
    }
}

impl Node {
    /// Starts a node and returns when it takes part.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(config: NodeConfig) -> Result<Node, JoinError> {
        let _ = config;
        todo!()
    }

    /// Chooses a pod and charges it.
    ///
    /// # Errors
    /// [`PickError`].
    pub fn pick(&self, request: &Request<'_>) -> Result<Ticket, PickError> {
        let _ = (request, &self.picker);
        todo!()
    }

    /// The picker itself (pods, policy).
    pub fn picker(&self) -> &Picker {
        &self.picker
    }

    /// Replaces the set of pods. Pods that stay keep their counters; pods that go finish their tickets.
    pub fn set_pods(&self, pods: Vec<PodSpec>) {
        let _ = pods;
        todo!()
    }

    /// What it believes about pods.
    pub async fn view(&self) -> View {
        todo!()
    }

    /// What it believes about members.
    pub async fn members(&self) -> Vec<MemberView> {
        todo!()
    }

    /// Counters of gossip: (name, kind, value); names end in `_total` where they only grow.
    pub async fn gossip_stats(&self) -> Vec<(&'static str, &'static str, u64)> {
        todo!()
    }

    /// Says goodbye: waits up to `drain` for tickets to finish, tells the peers zero, leaves.
    pub async fn leave(&self, drain: Duration) {
        let _ = drain;
        todo!()
    }
}
