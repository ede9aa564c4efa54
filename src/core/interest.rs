//! Which pods this node uses, which its peers use, and so who must tell whom.

use std::sync::Arc;
use std::time::Duration;

use super::{Core, Peer};
use crate::gossip::wire::{Ident, Interested, Key, Message};
use crate::gossip::{Interest, choose, rank};
use crate::id::{Epoch, NodeId, PodId};
use crate::time::Time;

/// A node looks at its place on the ring again this long after a look at the earliest: while a fleet forms, every member
/// that is new moves all places, and each move is told to everybody.
const LOOK_GAP: Duration = Duration::from_secs(1);

/// What this node uses, and who else uses some of it.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) interest: Interest,
    /// How often it changed.
    number: u32,
    /// Since when it is so.
    since: Time,
    /// Its pods, sorted.
    pub(super) pods: Vec<PodId>,
    /// Whether members or pods changed since the last look.
    stale: bool,
    look_at: Time,
    /// Whether anybody leaves out any pod.
    pub(super) parted: bool,
    /// The active peers that share pods with this node.
    pub(super) near: Arc<[Ident]>,
    /// How many peers use a pod of this node's, on the mean.
    pub(super) users: f64,
}

/// What a peer uses.
#[derive(Debug, Default)]
pub(super) struct Theirs {
    /// As it said last: under which epoch, and which number that was.
    said: Option<(Epoch, u32, Interest)>,
    /// The number of our own interest that it was told; none where it was told none on this connection.
    pub(super) told: Option<u32>,
    /// Of this node's pods, how many it uses, and of all, how many.
    shared: usize,
    used: usize,
    /// Whether that makes it one that must hear of this node, and be heard.
    near: bool,
}

impl Own {
    pub(super) fn new(now: Time) -> Own {
        Own {
            interest: Interest::All,
            number: 0,
            since: now,
            pods: Vec::new(),
            stale: true,
            look_at: now + LOOK_GAP,
            parted: false,
            near: Arc::default(),
            users: 0.0,
        }
    }
}

impl Peer {
    /// Which pods it uses.
    pub(super) fn interest(&self) -> Interest {
        match self.theirs.said {
            Some((epoch, _, interest)) if epoch == self.ident.epoch => interest,
            _ => Interest::All,
        }
    }

    /// Whether it shares pods with this node, so that each needs to hear of the other; in a fleet without pods, all do.
    pub(super) fn is_near(&self) -> bool {
        self.theirs.near
    }

    /// Which part of what it picks for goes to this node's pods.
    pub(super) fn share(&self) -> f64 {
        self.theirs.shared as f64 / self.theirs.used.max(1) as f64
    }
}

impl Core {
    /// Which pods this node uses, and since when.
    pub fn interest(&self) -> (Interest, Time) {
        (self.uses.interest, self.uses.since)
    }

    /// Members or pods are others than they were.
    pub(super) fn outdate_interest(&mut self) {
        self.uses.stale = true;
        self.note_near();
    }

    /// Takes the place on the ring that is right by now, and tells what is used there to who was not told.
    pub(super) fn look_at_interest(&mut self, now: Time) {
        if self.uses.stale && self.uses.look_at <= now {
            (self.uses.stale, self.uses.look_at) = (false, now + LOOK_GAP);
            let all: Vec<PodId> = self.pods.keys().copied().collect();
            let place = rank(self.id, self.active.iter().map(|ident| ident.id));
            let interest = choose(place, self.active.len() + 1, &all, self.config.subset, self.uses.interest);
            if interest != self.uses.interest {
                self.uses.number += 1;
                (self.uses.interest, self.uses.since) = (interest, now);
                self.picker.set_pods(self.picker.pods(), interest);
                self.note_near();
            }
            let used = self.picker.pods();
            self.own.index_pods(used.iter().filter(|pod| interest.uses(pod.id())));
        }
        let number = self.uses.number;
        let not_told = |peer: &&Peer| peer.connected && peer.theirs.told.unwrap_or(0) != number && peer.is_active();
        let to: Vec<Ident> = self.peers.values().filter(not_told).map(|peer| peer.ident).collect();
        if to.is_empty() {
            return;
        }
        let interested = Interested { epoch: self.swim.me().epoch, number, interest: self.uses.interest };
        let message = Message::Interest(interested);
        let data = message.encode(self.tag);
        for ident in to {
            if let Some(peer) = self.peers.get_mut(&ident.id) {
                peer.theirs.told = Some(number);
            }
            self.transmit(now, Some(ident.id), ident.addr, message.kind(), data.clone());
        }
    }

    pub(super) fn handle_interest(&mut self, now: Time, from: NodeId, interested: Interested) {
        let Some(peer) = self.peers.get_mut(&from) else { return self.stats.refuse("stranger") };
        let Interested { epoch, number, interest } = interested;
        if peer.theirs.said.is_some_and(|(known, last, _)| (known, last) >= (epoch, number)) {
            return self.stats.refuse("old");
        }
        peer.theirs.said = Some((epoch, number, interest));
        self.note_near();
        // It was not told of the pods that are new to it.
        self.tell_everything(now, from);
    }

    /// Who shares which of this node's pods.
    fn note_near(&mut self) {
        let own = self.uses.interest;
        let all: Vec<PodId> = self.pods.keys().copied().collect();
        self.uses.pods = all.iter().copied().filter(|pod| own.uses(*pod)).collect();
        let pods = &self.uses.pods;
        let (mut parted, mut users) = (own != Interest::All, 0);
        for peer in self.peers.values_mut() {
            let theirs = peer.interest();
            (peer.theirs.shared, peer.theirs.used) = match theirs {
                Interest::All => (pods.len(), all.len()),
                Interest::Arc { .. } => (theirs.count(pods), theirs.count(&all)),
            };
            peer.theirs.near = peer.theirs.shared > 0 || all.is_empty();
            if peer.is_active() {
                parted |= theirs != Interest::All;
                users += peer.theirs.shared;
            }
        }
        self.uses.parted = parted;
        self.uses.near = if parted {
            self.active().filter(|peer| peer.is_near()).map(|peer| peer.ident).collect()
        } else {
            self.active.clone()
        };
        self.uses.users = if parted { users as f64 / pods.len().max(1) as f64 } else { self.active.len() as f64 };
        self.note_groups();
    }

    /// The active peers that use any of the pods that `keys` are of.
    pub(super) fn users_of<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Arc<[Ident]> {
        if !self.uses.parted {
            return self.active.clone();
        }
        let mut pods: Vec<PodId> = keys.filter_map(|key| self.own.pod(key.pod)).collect();
        pods.sort_unstable();
        pods.dedup();
        let uses_any = |peer: &&Peer| pods.iter().any(|pod| peer.interest().uses(*pod));
        self.active().filter(uses_any).map(|peer| peer.ident).collect()
    }

    /// Whether `peer` must hear from this node though nothing changes: it shares pods, or uses one where something is; or it
    /// owned pods that it does not use, and heard of a request there whose end went to the next owner.
    pub(super) fn is_kept_told(&self, peer: &Peer) -> bool {
        peer.is_near() || self.strict.is_on() || self.own.told_pods().any(|pod| peer.interest().uses(pod))
    }
}
