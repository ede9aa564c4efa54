//! Connections between nodes, and what goes over them: as much of QUIC as a core can notice.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use plimsoll::core::Transmit;
use plimsoll::gossip::wire::Channel;
use plimsoll::id::NodeId;
use plimsoll::time::Time;

use super::node::address;
use super::{Happening, World};
use crate::link::Fate;
use crate::trace::digest;

/// A connection over which nothing comes for this long is given up, as QUIC does.
const IDLE: Duration = Duration::from_secs(5);
/// After a failed dial nobody is dialed again for this long.
const REDIAL: Duration = Duration::from_millis(500);
/// Messages that wait for a dial; older ones are dropped.
const DIAL_QUEUE: usize = 16;
/// A stream that does not get through is tried again after this.
const RETRANSMIT: Duration = Duration::from_millis(100);
/// Old datagrams that are kept for replays.
const KEPT: usize = 256;

/// Bytes on the way.
#[derive(Clone)]
pub(super) struct Carried {
    pub(super) channel: Channel,
    pub(super) data: Bytes,
}

struct Connection {
    id: u64,
    lives: (u32, u32),
    /// None once it is up; before, what waits for it.
    waiting: Option<VecDeque<(usize, Carried)>>,
}

/// All connections, by pair, and which are not to be dialed yet.
pub(super) struct Connections {
    nodes: usize,
    all: Vec<Option<Box<Connection>>>,
    redial_at: Vec<Time>,
    /// The last datagrams: from whom, to whom.
    kept: VecDeque<(u32, u32, Carried)>,
    pub(super) keep: bool,
}

impl Connections {
    pub(super) fn new(nodes: usize) -> Connections {
        let all = (0..nodes * nodes).map(|_| None).collect();
        Connections { nodes, all, redial_at: vec![Time::ZERO; nodes * nodes], kept: VecDeque::new(), keep: false }
    }

    fn at(&self, (a, b): (usize, usize)) -> usize {
        a * self.nodes + b
    }

    fn get(&mut self, pair: (usize, usize)) -> Option<&mut Connection> {
        let at = self.at(pair);
        self.all[at].as_deref_mut()
    }

    fn remove(&mut self, pair: (usize, usize)) {
        let at = self.at(pair);
        self.all[at] = None;
    }
}

impl World {
    /// Lets nothing through from `from` to `to`; the other direction is another wall.
    pub fn wall(&mut self, from: usize, to: usize) {
        self.links.wall(from, to);
        self.watch_connections(|pair| pair == pair_of(from, to));
    }

    /// Takes one wall down.
    pub fn open(&mut self, from: usize, to: usize) {
        self.links.open(from, to);
    }

    /// Cuts the nodes in `group` off from all others, both ways.
    pub fn partition(&mut self, group: &[usize]) {
        for (a, b) in self.border(group) {
            self.wall(a, b);
        }
    }

    /// The links that lead into `group` and out of it.
    pub(super) fn border(&self, group: &[usize]) -> Vec<(usize, usize)> {
        let nodes = self.nodes.len();
        let crosses = |(a, b): &(usize, usize)| group.contains(a) != group.contains(b);
        (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))).filter(crosses).collect()
    }

    /// Takes all walls down.
    pub fn heal(&mut self) {
        self.links.heal();
    }

    /// Who lives at `addr`.
    pub(super) fn at_address(&self, addr: std::net::SocketAddr) -> Option<usize> {
        let IpAddr::V4(ip) = addr.ip() else { return None };
        let [10, 0, high, low] = ip.octets() else { return None };
        let slot = usize::from(high) * 256 + usize::from(low);
        // Nearly always its own.
        match self.nodes.get(slot) {
            Some(node) if node.address == slot => Some(slot),
            _ => self.nodes.iter().position(|node| node.address == slot),
        }
    }

    pub(super) fn send(&mut self, from: usize, transmit: Transmit) {
        self.tally_send(from, transmit.channel, transmit.data.len());
        self.tap_sent(from, &transmit);
        let there = self.at_address(transmit.addr);
        let named = transmit.node.and_then(|id| self.named(id, there)).filter(|to| self.are_connected(from, *to));
        let Some(to) = named.or(there).filter(|to| *to != from) else { return };
        if transmit.node.is_none_or(|id| id == self.nodes[to].id) {
            self.push(from, to, Carried { channel: transmit.channel, data: transmit.data });
        } else if !self.are_connected(from, to) {
            // Dialing finds another there than whom it is for, who is not told.
            self.dial(from, pair_of(from, to), None);
        }
    }

    /// Which node has this id; nearly always the one at the address that is thought to be its.
    fn named(&self, id: NodeId, there: Option<usize>) -> Option<usize> {
        let is = |n: &usize| self.nodes[*n].id == id;
        there.filter(is).or_else(|| (0..self.nodes.len()).find(is))
    }

    /// Whether there is, or will soon be, a connection between these, as far as `from` knows.
    fn are_connected(&mut self, from: usize, to: usize) -> bool {
        let pair = pair_of(from, to);
        let own = |lives: (u32, u32)| if from == pair.0 { lives.0 } else { lives.1 };
        let life = self.nodes[from].life;
        self.connections.get(pair).is_some_and(|connection| own(connection.lives) == life)
    }

    pub(super) fn resend(&mut self, from: u32, to: u32, life: u32, carried: Carried) {
        if self.is(from as usize, life) {
            self.push(from as usize, to as usize, carried);
        }
    }

    pub(super) fn push(&mut self, from: usize, to: usize, carried: Carried) {
        let pair = pair_of(from, to);
        let lives = (self.nodes[pair.0].life, self.nodes[pair.1].life);
        let own_life = |lives: (u32, u32)| if from == pair.0 { lives.0 } else { lives.1 };
        match self.connections.get(pair) {
            Some(Connection { waiting: Some(waiting), .. }) => {
                if waiting.len() == DIAL_QUEUE {
                    waiting.pop_front();
                }
                waiting.push_back((from, carried));
            }
            Some(connection) if connection.lives == lives => self.carry(from, to, carried),
            // The other end was reborn, and this one has not noticed: what is sent into the old connection is lost.
            Some(connection) if own_life(connection.lives) == own_life(lives) => {}
            _ => self.dial(from, pair, Some(carried)),
        }
    }

    fn carry(&mut self, from: usize, to: usize, carried: Carried) {
        let (open, life) = (self.links.is_open(from, to), self.nodes[to].life);
        let deliver = |carried| Happening::Deliver { from: from as u32, to: to as u32, life, carried };
        match carried.channel {
            Channel::Datagram => {
                if self.connections.keep {
                    self.keep(from, to, &carried);
                }
                if let Fate::Arrives(delay, copy) = self.links.datagram(self.now, from, to, carried.data.len())
                    && open
                {
                    if let Some(late) = copy {
                        self.later(late, deliver(carried.clone()));
                    }
                    self.later(delay, deliver(carried));
                }
            }
            Channel::Stream if open => {
                let delay = self.links.stream(self.now, from, to);
                self.later(delay, deliver(carried));
            }
            // Retransmitted until it gets through or the connection is given up.
            Channel::Stream => {
                let life = self.nodes[from].life;
                self.later(RETRANSMIT, Happening::Resend { from: from as u32, to: to as u32, life, carried });
            }
        }
    }

    fn keep(&mut self, from: usize, to: usize, carried: &Carried) {
        let kept = &mut self.connections.kept;
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((from as u32, to as u32, carried.clone()));
    }

    /// Old datagrams for `to` arrive again, over connections that are up.
    pub(super) fn replay(&mut self, to: usize, count: u32) {
        let old: Vec<_> = self.connections.kept.iter().filter(|(_, t, _)| *t == to as u32).cloned().collect();
        let life = self.nodes[to].life;
        for (from, to, carried) in old.into_iter().take(count as usize) {
            self.later(Duration::from_millis(1), Happening::Deliver { from, to, life, carried });
        }
    }

    pub(super) fn arrived(&mut self, from: u32, to: u32, life: u32, carried: Carried) {
        let n = to as usize;
        if self.is(n, life) && self.takes(n, || Happening::Deliver { from, to, life, carried: carried.clone() }) {
            self.deliver(from as usize, n, &carried);
        }
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, carried: &Carried) {
        self.note("deliver", [(from as u64) << 32 | to as u64, digest(&carried.data), 0]);
        self.tally.heard_at[to] = self.now;
        self.tap_delivered(from, to, carried);
        let (now, transit) = (self.local(to), self.links.measured_transit());
        let (id, addr) = (self.nodes[from].id, address(self.nodes[from].address));
        if let Some(core) = &mut self.nodes[to].core {
            self.inputs += 1;
            core.handle_message(now, id, addr, carried.channel, &carried.data, transit);
        }
        self.turn(to);
    }

    fn dial(&mut self, from: usize, pair: (usize, usize), carried: Option<Carried>) {
        let at = self.connections.at(pair);
        if self.connections.redial_at[at] > self.now {
            return;
        }
        self.serial += 1;
        let (id, lives) = (self.serial, (self.nodes[pair.0].life, self.nodes[pair.1].life));
        let waiting = Some(carried.map(|carried| (from, carried)).into_iter().collect());
        self.connections.all[at] = Some(Box::new(Connection { id, lives, waiting }));
        let round_trip = self.links.round_trip(self.now, pair.0, pair.1);
        self.later(round_trip, Happening::Dialed { pair: (pair.0 as u32, pair.1 as u32), id });
    }

    pub(super) fn dialed(&mut self, pair: (u32, u32), id: u64) {
        let pair = (pair.0 as usize, pair.1 as usize);
        let lives = (self.nodes[pair.0].life, self.nodes[pair.1].life);
        let up = |n: usize| self.nodes[n].core.is_some() && !self.nodes[n].paused;
        let open = self.links.is_open(pair.0, pair.1) && self.links.is_open(pair.1, pair.0);
        let possible = open && up(pair.0) && up(pair.1);
        let Some(connection) = self.connections.get(pair).filter(|c| c.id == id) else { return };
        if connection.lives != lives || !possible {
            self.connections.remove(pair);
            let at = self.connections.at(pair);
            self.connections.redial_at[at] = self.now + REDIAL;
            return;
        }
        let waiting = connection.waiting.take().unwrap_or_default();
        self.note("connect", [pair.0 as u64, pair.1 as u64, id]);
        for (node, other) in [pair, (pair.1, pair.0)] {
            let now = self.local(node);
            let (id, addr) = (self.nodes[other].id, address(self.nodes[other].address));
            if let Some(core) = &mut self.nodes[node].core {
                self.inputs += 1;
                core.handle_disconnected(now, id);
                core.handle_connected(now, id, addr);
            }
        }
        for (from, carried) in waiting {
            let to = if from == pair.0 { pair.1 } else { pair.0 };
            self.push(from, to, carried);
        }
        self.turn(pair.0);
        self.turn(pair.1);
    }

    /// Connections of the pairs that `which` names may be dead: look when they have been idle for long enough.
    pub(super) fn watch_connections(&mut self, which: impl Fn((usize, usize)) -> bool) {
        let nodes = self.nodes.len();
        let up = self.connections.all.iter().enumerate().filter_map(|(at, c)| Some((at, c.as_ref()?.id)));
        let ids: Vec<_> = up.map(|(at, id)| ((at / nodes, at % nodes), id)).filter(|(pair, _)| which(*pair)).collect();
        for ((a, b), id) in ids {
            self.later(IDLE, Happening::Idle { pair: (a as u32, b as u32), id });
        }
    }

    pub(super) fn give_up(&mut self, pair: (u32, u32), id: u64) {
        let pair = (pair.0 as usize, pair.1 as usize);
        let Some(connection) = self.connections.get(pair).filter(|c| c.id == id) else { return };
        let lives = connection.lives;
        let open = self.links.is_open(pair.0, pair.1) && self.links.is_open(pair.1, pair.0);
        if open && self.is(pair.0, lives.0) && self.is(pair.1, lives.1) {
            return;
        }
        self.connections.remove(pair);
        self.note("disconnect", [pair.0 as u64, pair.1 as u64, id]);
        for (node, other, life) in [(pair.0, pair.1, lives.0), (pair.1, pair.0, lives.1)] {
            let (now, id) = (self.local(node), self.nodes[other].id);
            if self.is(node, life)
                && let Some(core) = &mut self.nodes[node].core
            {
                self.inputs += 1;
                core.handle_disconnected(now, id);
                self.turn(node);
            }
        }
    }
}

fn pair_of(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
