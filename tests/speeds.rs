//! Pods' speeds, between cores, by hand: what one node saw counts for those that never saw it, and what nobody can have seen
//! counts for nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "fleet/mod.rs"]
mod fleet;

use fleet::{Fleet, ms};
use plimsoll::gossip::wire::{Message, Paces, PodPace};
use plimsoll::id::PodId;
use plimsoll::observe::{Cost, PodSpec};
use plimsoll::pick::{Outcome, Request};

impl Fleet {
    fn new(nodes: usize) -> Fleet {
        Fleet::form(nodes, 3, (ms(1), ms(500)), |_| {})
    }

    /// Node `n`'s speeds of the pods, by name.
    fn speeds(&mut self, n: usize) -> Vec<f64> {
        let now = self.now;
        self.core(n).view(now).pods.iter().map(|pod| pod.speed).collect()
    }

    /// Node `n` asks so often, one at a time: pod p2 takes 30 ms for what takes 10 on the others.
    fn ask(&mut self, n: usize, times: usize) {
        for k in 0..times {
            // Each pod in turn, whatever the policy thinks of it.
            let pods: Vec<PodId> = self.core(n).picker().pods().iter().map(|pod| pod.id()).collect();
            let others: Vec<PodId> = pods.iter().copied().filter(|pod| *pod != pods[k % 3]).collect();
            let (now, request) = (self.now, Request::new("m").bytes(1000).cost(Cost::from_ms(10.0).unwrap()));
            let ticket = self.core(n).picker().pick(now, &request.exclude(&others)).unwrap();
            let slow = ticket.pod().spec().name == "p2";
            self.run(ms(if slow { 30 } else { 10 }));
            ticket.finish(self.now, Outcome::Served);
            self.run(ms(20));
        }
    }
}

fn told(pod: PodId, ratio_x256: u16) -> Message {
    Message::Paces(Paces { pods: vec![PodPace { pod, ratio_x256, samples: 255 }] })
}

/// Nodes that saw a pod a few times each know together what none of them knows alone, one that never saw it among them.
#[test]
fn what_each_saw_a_few_times_all_know() {
    let mut fleet = Fleet::new(6);
    for n in 0..5 {
        fleet.ask(n, 21);
    }

    fleet.run(ms(4000));
    for n in 0..6 {
        let speeds = fleet.speeds(n);
        assert!(speeds[2] < 0.5 && speeds[0] == 1.0 && speeds[1] == 1.0, "node {n}: {speeds:?}");
    }
}

/// One member that says of pods what it likes, as often as it likes, makes no pod slow and none fast: its last word counts,
/// for two samples; and of pods that are not there nothing is kept. (It can hide that one is slow: where words are at odds
/// nothing is sure, and pods are taken for alike.)
#[test]
fn a_liar_alone_moves_no_speed() {
    let mut fleet = Fleet::new(3);
    fleet.ask(0, 60);
    let pod = |name: &str| PodSpec::new(name, format!("{name}:1")).id();
    for k in 0..1000 {
        fleet.say(1, 0, &told(pod("p0"), u16::MAX));
        fleet.say(1, 0, &told(pod("p2"), 1));
        fleet.say(1, 0, &told(PodId(k), 1));
        fleet.say(1, 0, &told(pod("p1"), 0));
    }
    fleet.run(ms(2000));
    let speeds = fleet.speeds(0);
    assert!(speeds[0] == 1.0 && speeds[1] == 1.0 && speeds[2] <= 1.0, "{speeds:?}");
}
