//! A busy fleet to pick from: two nodes that know each other, with requests in flight from both on every pod, so that own
//! counters, the peers' sums and what is played through all have something in them.

use std::time::Duration;

use plimsoll::core::{Core, CoreConfig, Transmit};
use plimsoll::observe::{Batching, Cost, PodSpec};
use plimsoll::pick::{Picker, PolicyKind, Request, Ticket, Wake};
use plimsoll::time::Time;

/// How the pods run requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// One at a time.
    OneSlot,
    /// Four at a time.
    FourSlots,
    /// In padded batches of eight.
    Batches,
}

/// See the module's description.
pub(crate) struct Busy {
    /// The node that picks.
    pub(crate) picker: Picker,
    /// What time it is for both nodes.
    pub(crate) now: Time,
    cores: [Core; 2],
    _held: Vec<Ticket>,
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// How long a message is on its way: nothing.
const WAY: Duration = Duration::ZERO;

impl Busy {
    /// So many pods of that kind, and a node that picks by `policy`.
    pub(crate) fn new(policy: PolicyKind, pods: usize, kind: Kind) -> Busy {
        let core = |n: u8| {
            let mut config = CoreConfig::new(format!("node-{n}"), ([10, 0, 0, n], 7600).into());
            // All pods are used, however many, and all is told at once.
            (config.policy, config.subset, config.budget_bits) = (policy, 0, 100_000_000);
            let mut core = Core::new(config, Time::ZERO, Box::new(NoWake));
            core.set_pods(Time::ZERO, (0..pods).map(|k| spec(k, kind)).collect());
            core
        };
        let cores = [core(1), core(2)];
        let picker = cores[0].picker().clone();
        let mut busy = Busy { picker, now: Time::ZERO, cores, _held: Vec::new() };
        for n in 0..2 {
            let (other, remote) = (busy.cores[1 - n].id(), ([10, 0, 0, 2 - n as u8], 7600).into());
            busy.cores[n].handle_connected(Time::ZERO, other, remote);
        }
        busy.run(Duration::from_millis(500));
        let in_flight = match kind {
            Kind::OneSlot => 1,
            Kind::FourSlots => 4,
            Kind::Batches => 6,
        };
        for k in 0..pods * in_flight {
            for n in 0..2 {
                let request = Request::new("resnet50").cost(cost(3 * k + n));
                busy._held.push(busy.cores[n].picker().pick(busy.now, &request).expect("there are pods"));
            }
            if k.is_multiple_of(16) {
                busy.run(Duration::from_micros(200));
            }
        }
        busy.run(Duration::from_millis(300));
        let model = busy.picker.models().into_iter().find(|model| model.name() == "resnet50");
        let model = model.expect("it was picked for");
        (0..40).for_each(|k| _ = model.cost.learn(5000, cost(k).as_ms(), busy.now));
        busy
    }

    /// Lets both nodes do what they have to do for so long.
    pub(crate) fn run(&mut self, span: Duration) {
        let (end, step) = (self.now + span, Duration::from_micros(100).max(span / 2000));
        while self.now < end {
            self.now = self.now + step;
            for n in 0..2 {
                self.cores[n].handle_changes(self.now);
                self.cores[n].handle_timeout(self.now);
                while self.cores[n].poll_event().is_some() {}
                while let Some(transmit) = self.cores[n].poll_transmit() {
                    self.deliver(n, &transmit);
                }
            }
        }
    }

    fn deliver(&mut self, from: usize, transmit: &Transmit) {
        let (id, remote) = (self.cores[from].id(), ([10, 0, 0, from as u8 + 1], 7600).into());
        let Transmit { channel, data, .. } = transmit;
        self.cores[1 - from].handle_message(self.now, id, remote, *channel, data, WAY);
    }
}

fn spec(k: usize, kind: Kind) -> PodSpec {
    let mut spec = PodSpec::new(format!("pod-{k}"), format!("http://10.1.{}.{}:8001", k / 256, k % 256));
    match kind {
        Kind::OneSlot => {}
        Kind::FourSlots => spec.slots = 4,
        Kind::Batches => spec.batching = Some(Batching::padded(8)),
    }
    spec
}

/// 15 % cost about 120 ms, the rest about 5; no two quite the same.
fn cost(k: usize) -> Cost {
    let share = (k * 37 % 100) as f64 / 1000.0;
    let ms = if k % 20 < 3 { 120.0 } else { 5.0 };
    Cost::from_ms(ms * (1.0 + share)).expect("a number")
}
