//! A member that turns on the others: it has a certificate and a connection, and says what it likes.

use bytes::Bytes;
use plimsoll::gossip::wire::{
    Channel, Costs, Entry, GiveBack, Grant, Hello, Ident, Key, MAX_DATAGRAM, MemberState, Message, ModelCosts, Names,
    Paces, Part, Pass, Passed, PodPace, Relayed, Reserve, Rows, Sync, SyncMember, epoch_mark, id_mark,
};
use plimsoll::id::{Epoch, NodeId, PodId, Seq, cluster_tag};
use plimsoll::observe::{SizeClass, SizeCost};

use super::World;
use super::carry::Carried;
use super::node::address;
use crate::config::spec;
use crate::fault::Trick;
use crate::rng::Rng;

impl World {
    /// Node `n` sends `count` messages of `trick` to everybody.
    pub(super) fn turn_hostile(&mut self, n: usize, trick: Trick, count: u32) {
        if self.nodes[n].core.is_none() || self.nodes[n].paused {
            return;
        }
        let mut chance = Rng::new(self.config.seed ^ self.now.as_nanos(), "hostile", n as u64);
        for _ in 0..count {
            for to in (0..self.nodes.len()).filter(|to| *to != n) {
                for (channel, data) in self.say(n, to, trick, &mut chance) {
                    self.push(n, to, Carried { channel, data });
                }
            }
        }
    }

    fn say(&self, n: usize, to: usize, trick: Trick, chance: &mut Rng) -> Vec<(Channel, Bytes)> {
        let own = |message: &Message| (message.kind().channel(), message.encode(cluster_tag("default")));
        match trick {
            Trick::Noise => {
                let length = chance.below(MAX_DATAGRAM as u64 + 100);
                let noise = (0..length).map(|_| chance.bits() as u8).collect::<Vec<u8>>();
                let channel = if chance.below(2) == 0 { Channel::Datagram } else { Channel::Stream };
                vec![(channel, noise.into())]
            }
            Trick::Flips => {
                self.plausible(n, to, chance).iter().map(own).map(|(c, data)| (c, flip(&data, chance))).collect()
            }
            Trick::Cuts => {
                let whole: Vec<_> = self.plausible(n, to, chance).iter().map(own).collect();
                let mut cut = |data: &Bytes| data.slice(..chance.below(data.len() as u64) as usize);
                whole.iter().map(|(channel, data)| (*channel, cut(data))).collect()
            }
            Trick::HugeRows => self.huge(n, chance).iter().map(own).collect(),
            Trick::FutureRows => vec![own(&Message::Rows(self.rows(Epoch(u64::MAX), Seq(u64::MAX), chance)))],
            Trick::Forged => self.forged(to, chance).iter().map(own).collect(),
            Trick::Downs => vec![own(&Message::Sync(self.everybody(n, MemberState::Down, u16::MAX)))],
            Trick::Ghosts => vec![own(&Message::Sync(self.ghosts(n, chance)))],
            Trick::Reserves => (0..100).flat_map(|_| self.strict(n, chance)).map(|message| own(&message)).collect(),
            Trick::Costs => [Message::Costs(costs(chance)), self.paces(chance)].iter().map(own).collect(),
        }
    }

    fn ident(&self, n: usize) -> Ident {
        let node = &self.nodes[n];
        Ident { id: node.id, epoch: Epoch(node.epoch), r#gen: 0, addr: address(node.address) }
    }

    /// One message of each kind that this node might send.
    fn plausible(&self, n: usize, to: usize, chance: &mut Rng) -> Vec<Message> {
        let me = self.ident(n);
        let hello = Hello { me, name: format!("node-{n}"), reply: chance.below(2) == 0, known_of_you: None };
        vec![
            Message::Rows(self.rows(me.epoch, Seq(chance.below(1000)), chance)),
            Message::Hello(hello),
            Message::Sync(self.everybody(n, MemberState::Alive, chance.below(3) as u16)),
            Message::Names(self.names(n)),
            Message::Costs(costs(chance)),
            self.paces(chance),
            Message::Pass(Pass {
                bits: chance.below(8) as u8,
                rows: self.some_changes(me.epoch, Seq(chance.below(1000)), chance),
            }),
            Message::Relayed(self.relayed(Seq(chance.below(1000)), chance)),
            Message::Hello(Hello { me: self.ident(to), name: format!("node-{to}"), reply: false, known_of_you: None }),
        ]
        .into_iter()
        .chain(self.strict(n, chance))
        .collect()
    }

    /// What strict mode says, about anything.
    fn strict(&self, n: usize, chance: &mut Rng) -> [Message; 3] {
        let pod = |chance: &mut Rng| spec(chance.below(self.pods.len() as u64) as usize, 1).id();
        let nonce = chance.bits();
        let reserve = Reserve {
            nonce,
            epoch: Epoch(self.nodes[n].epoch),
            seq: Seq(chance.below(1000)),
            shard: chance.below(4) as u16,
            shards: 4,
            class: SizeClass::new(39).expect("the last class"),
            model: "model".to_owned(),
            exclude: vec![pod(chance)],
        };
        let grant = Grant { nonce: chance.bits(), pod: Some(pod(chance)) };
        [Message::Reserve(reserve), Message::Grant(grant), Message::GiveBack(GiveBack { nonce: chance.bits() })]
    }

    fn names(&self, n: usize) -> Names {
        let pods = (0..self.pods.len()).map(|k| spec(k, 1).id()).collect();
        let models = vec!["model".to_owned()];
        Names { epoch: Epoch(self.nodes[n].epoch), table: u32::MAX, first_pod: 0, pods, first_model: 0, models }
    }

    /// As much as fits, of the heaviest there is.
    fn huge(&self, n: usize, chance: &mut Rng) -> Vec<Message> {
        let rows = self.rows(Epoch(self.nodes[n].epoch), Seq(u64::MAX - chance.below(1000)), chance);
        let pass = Pass { bits: 0, rows: Rows { part: None, ..rows.clone() } };
        let relayed = self.relayed(Seq(u64::MAX), chance);
        vec![Message::Names(self.names(n)), Message::Rows(rows), Message::Pass(pass), Message::Relayed(relayed)]
    }

    fn some_changes(&self, epoch: Epoch, seq: Seq, chance: &mut Rng) -> Rows {
        Rows { part: None, ..self.rows(epoch, seq, chance) }
    }

    /// What anybody may have said, as if it had been told to be passed on.
    fn relayed(&self, seq: Seq, chance: &mut Rng) -> Relayed {
        let origin = self.ident(chance.below(self.nodes.len() as u64) as usize);
        let (epoch, table) = (epoch_mark(origin.epoch), chance.below(2) as u32);
        let mut entries = self.some_changes(origin.epoch, seq, chance).entries;
        entries.truncate(30);
        Relayed { news: vec![Passed { origin: id_mark(origin.id), epoch, seq, table, age_100us: 0, entries }] }
    }

    fn rows(&self, epoch: Epoch, seq: Seq, chance: &mut Rng) -> Rows {
        let entry = |pod: usize| Entry {
            key: Key { pod: pod as u32, model: 0, class: SizeClass::new(39).expect("the last class") },
            count: 65_535,
            age_100us: u32::MAX,
            remainders_ms: vec![u32::MAX; 2],
        };
        let part = (chance.below(2) == 0).then_some(Part { after: None, upto: None, every: 20 });
        let entries = (0..self.pods.len().min(40)).map(entry).collect();
        Rows { epoch, seq, table: u32::MAX, leaving: chance.below(4) == 0, rates: (u32::MAX, u32::MAX), part, entries }
    }

    /// In the names of others: nobody may believe a word.
    fn forged(&self, to: usize, chance: &mut Rng) -> Vec<Message> {
        let victim = self.ident(chance.below(self.nodes.len() as u64) as usize);
        let stronger = Ident { epoch: Epoch(victim.epoch.0 + 1000), ..victim };
        let name = format!("node-{}", chance.below(self.nodes.len() as u64));
        vec![
            Message::Hello(Hello { me: stronger, name, reply: true, known_of_you: None }),
            Message::Sync(Sync { from: victim, ..self.everybody(to, MemberState::Down, 9) }),
        ]
    }

    fn everybody(&self, n: usize, state: MemberState, incarnation: u16) -> Sync {
        let others = (0..self.nodes.len()).filter(|other| *other != n).map(|other| SyncMember {
            ident: self.ident(other),
            incarnation,
            state,
            name: format!("node-{other}"),
        });
        Sync { from: self.ident(n), want_reply: false, members: others.take(200).collect() }
    }

    fn ghosts(&self, n: usize, chance: &mut Rng) -> Sync {
        let ghost = |k: u64| {
            let name = format!("ghost-{k}");
            let addr = address(60_000 + (k % 5000) as usize);
            let ident = Ident { id: NodeId::of(&name), epoch: Epoch(1), r#gen: 0, addr };
            SyncMember { ident, incarnation: 0, state: MemberState::Alive, name }
        };
        let members = (0..20).map(|_| ghost(chance.below(10_000))).collect();
        Sync { from: self.ident(n), want_reply: true, members }
    }
}

impl World {
    /// Of pods that there are, and of invented ones: stopped, and done before they began.
    fn paces(&self, chance: &mut Rng) -> Message {
        let mut pace = |k: usize| PodPace {
            pod: if k.is_multiple_of(4) { PodId(chance.below(u64::MAX)) } else { spec(k % self.pods.len(), 1).id() },
            ratio_x256: [0, 1, 256, u16::MAX][chance.below(4) as usize],
            samples: chance.below(256) as u8,
        };
        Message::Paces(Paces { pods: (0..40).map(&mut pace).collect() })
    }
}

/// Of the model that everybody asks for, and of invented ones: nothing, everything, and what is almost a cost.
fn costs(chance: &mut Rng) -> Costs {
    let invented = format!("invented-{}", chance.below(100_000));
    let mut size = |_| SizeCost {
        bucket: chance.below(70) as u8,
        mean_us: [0, 1, 3_600_000_000, u32::MAX, 1 << chance.below(32)][chance.below(5) as usize],
        samples: chance.below(256) as u8,
    };
    let mut of = |name: &str| ModelCosts { name: name.to_owned(), sizes: (0..30).map(&mut size).collect() };
    Costs { models: vec![of("model"), of(&invented)] }
}

fn flip(data: &Bytes, chance: &mut Rng) -> Bytes {
    let mut data = data.to_vec();
    for _ in 0..=chance.below(4) {
        let bit = chance.below(8 * data.len() as u64) as usize;
        data[bit / 8] ^= 1 << (bit % 8);
    }
    data.into()
}
