//! Cores that talk to each other by hand, on links that take 0.3 ms and lose what they are told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use plimsoll::core::{Core, CoreConfig, Transmit};
use plimsoll::gossip::wire::{Channel, Kind, Message};
use plimsoll::id::{NodeId, cluster_tag};
use plimsoll::observe::PodSpec;
use plimsoll::pick::Wake;
use plimsoll::time::Time;

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

const WAY: Duration = Duration::from_micros(300);

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + n as u8], 7600))
}

/// See the module's description.
pub(crate) struct Fleet {
    /// None: it died.
    pub(crate) cores: Vec<Option<Core>>,
    pub(crate) ids: Vec<NodeId>,
    pub(crate) now: Time,
    /// Messages that get lost: from whom, which.
    pub(crate) lost: Vec<(usize, Kind)>,
    /// Every message that was sent, lost or not: by whom, to whom.
    #[allow(dead_code, reason = "not every test looks at what was said")]
    pub(crate) sent: Vec<(usize, usize, Message)>,
    step: Duration,
    on_the_way: VecDeque<(Time, usize, usize, Transmit)>,
}

impl Fleet {
    /// So many nodes, as `configure` has them, with so many pods, that take `forms` to know each other and look at their
    /// mail every `step`.
    pub(crate) fn form(
        nodes: usize,
        pods: usize,
        (step, forms): (Duration, Duration),
        configure: impl Fn(&mut CoreConfig),
    ) -> Fleet {
        let make = |n: usize| {
            let mut config = CoreConfig::new(format!("node-{n}"), addr(n));
            config.seed = n as u64;
            configure(&mut config);
            let mut core = Core::new(config, Time::ZERO, Box::new(NoWake));
            core.set_pods(Time::ZERO, (0..pods).map(|k| PodSpec::new(format!("p{k}"), format!("p{k}:1"))).collect());
            core
        };
        let cores: Vec<Core> = (0..nodes).map(make).collect();
        let ids: Vec<NodeId> = cores.iter().map(Core::id).collect();
        let (cores, on_the_way) = (cores.into_iter().map(Some).collect(), VecDeque::new());
        let mut fleet = Fleet { cores, ids, now: Time::ZERO, lost: vec![], sent: vec![], step, on_the_way };
        for a in 0..nodes {
            for b in (0..nodes).filter(|b| *b != a) {
                let id = fleet.ids[b];
                fleet.core(a).handle_connected(Time::ZERO, id, addr(b));
            }
        }
        fleet.run(forms);
        for n in 0..nodes {
            let now = fleet.now;
            assert_eq!(fleet.core(n).members(now).iter().filter(|m| m.state == "alive").count(), nodes);
        }
        fleet
    }

    pub(crate) fn core(&mut self, n: usize) -> &mut Core {
        self.cores[n].as_mut().unwrap()
    }

    /// What node `n` has to do now.
    pub(crate) fn turn(&mut self, n: usize) {
        let now = self.now;
        let Some(core) = &mut self.cores[n] else { return };
        core.handle_changes(now);
        core.handle_timeout(now);
        while core.poll_event().is_some() {}
        while let Some(transmit) = core.poll_transmit() {
            let to = self.ids.iter().position(|id| transmit.node == Some(*id));
            let to = to.or_else(|| (0..self.ids.len()).find(|n| addr(*n) == transmit.addr)).unwrap();
            let message = Message::decode(&transmit.data, transmit.channel, cluster_tag("default")).unwrap();
            if !self.lost.contains(&(n, message.kind())) {
                self.on_the_way.push_back((now + WAY, n, to, transmit));
            }
            self.sent.push((n, to, message));
        }
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            while let Some((_, from, to, transmit)) = self.on_the_way.pop_front_if(|(at, ..)| *at <= self.now) {
                self.deliver(from, to, transmit.channel, &transmit.data);
            }
            (0..self.cores.len()).for_each(|n| self.turn(n));
            self.now = self.now + self.step;
        }
    }

    fn deliver(&mut self, from: usize, to: usize, channel: Channel, data: &[u8]) {
        let (now, id) = (self.now, self.ids[from]);
        if let Some(core) = &mut self.cores[to] {
            core.handle_message(now, id, addr(from), channel, data, WAY);
            self.turn(to);
        }
    }

    /// Tells node `to` something in the name of `from`.
    pub(crate) fn say(&mut self, from: usize, to: usize, message: &Message) {
        self.deliver(from, to, message.kind().channel(), &message.encode(cluster_tag("default")));
    }
}
