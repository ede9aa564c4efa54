//! Faults as they strike, and as they pass.

use std::time::Duration;

use super::{Happening, World};
use crate::fault::Fault;
use crate::link::Link;
use crate::plan::Ending;
use crate::rng::Share;

/// What weighs on every link for a while.
#[derive(Clone, Copy)]
pub(super) struct Trouble {
    loss: Share,
    delay_us: u64,
}

/// A link under the worst of the losses and the sum of the delays.
fn troubled(link: Link, troubles: &[(u64, Trouble)]) -> Link {
    let worst = troubles.iter().map(|(_, trouble)| trouble.loss).fold(link.loss, Share::max);
    let added = troubles.iter().map(|(_, trouble)| trouble.delay_us).sum::<u64>();
    Link { loss: worst, delay_us: link.delay_us + added, ..link }
}

/// What makes a fault pass.
pub(super) enum Undo {
    Start {
        node: usize,
        epoch: u64,
        life: u32,
    },
    Resume {
        node: usize,
    },
    Quicken {
        node: usize,
    },
    Open {
        walls: Vec<(usize, usize)>,
    },
    /// The link trouble of this number.
    Clear(u64),
    RestartPod {
        pod: usize,
    },
    ResumePod {
        pod: usize,
    },
    SpeedUpPod {
        pod: usize,
    },
    CurePod {
        pod: usize,
    },
    FillHole {
        pod: usize,
        model: usize,
    },
    LoadModel {
        pod: usize,
        model: usize,
    },
    StopDraining {
        pod: usize,
        spread: Duration,
    },
    AnnouncePod {
        pod: usize,
        spread: Duration,
    },
    Calm,
    OldModel,
    RestartRedis,
}

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        if self.settled {
            return;
        }
        *self.struck.entry(fault.kind()).or_default() += 1;
        let kind = Fault::KINDS.iter().position(|kind| *kind == fault.kind()).unwrap_or(Fault::KINDS.len());
        self.note("fault", [kind as u64, fault.lasts_ms(), crate::trace::struck(&fault)]);
        let after = Duration::from_millis(fault.lasts_ms());
        if let Some(undo) = self.begin(fault) {
            self.later(after, Happening::Undo(Box::new(undo)));
        }
    }

    fn begin(&mut self, fault: Fault) -> Option<Undo> {
        match fault {
            Fault::NodeCrash { node, clock_back, .. } => self.down(node, clock_back, World::crash),
            Fault::NodeRestart { node, .. } => self.down(node, false, World::leave),
            Fault::NodeSwap { node, with, for_ms } => {
                let other = self.down(with, false, World::crash);
                if let Some(other) = other {
                    self.later(Duration::from_millis(for_ms), Happening::Undo(Box::new(other)));
                }
                let undo = self.down(node, false, World::crash);
                let (a, b) = (self.nodes[node].address, self.nodes[with].address);
                (self.nodes[node].address, self.nodes[with].address) = (b, a);
                undo
            }
            Fault::NodePause { node, .. } => {
                self.pause(node);
                Some(Undo::Resume { node })
            }
            Fault::NodeSlow { node, us, .. } => {
                self.nodes[node].slow = Duration::from_micros(us);
                Some(Undo::Quicken { node })
            }
            Fault::Wall { from, to, .. } => {
                self.wall(from, to);
                Some(Undo::Open { walls: vec![(from, to)] })
            }
            Fault::Partition { group, .. } => {
                let walls = self.border(&group);
                self.partition(&group);
                Some(Undo::Open { walls })
            }
            Fault::Clog { from, to, for_ms } => {
                let until = self.now + Duration::from_millis(for_ms);
                self.links.clog(from, to, until);
                None
            }
            Fault::Loss { share, .. } => Some(self.trouble(Trouble { loss: share, delay_us: 0 })),
            Fault::Delay { add_ms, .. } => Some(self.trouble(Trouble { loss: Share::NEVER, delay_us: add_ms * 1000 })),
            Fault::Replay { node, count } => {
                self.replay(node, count);
                None
            }
            Fault::Hostile { node, trick, count } => {
                self.turn_hostile(node, trick, count);
                None
            }
            Fault::PodCrash { pod, .. } => {
                self.crash_pod(pod);
                Some(Undo::RestartPod { pod })
            }
            Fault::PodHang { pod, .. } => {
                self.hang_pod(pod, true);
                Some(Undo::ResumePod { pod })
            }
            Fault::PodSlow { pod, percent, .. } => {
                self.slow_pod(pod, percent);
                Some(Undo::SpeedUpPod { pod })
            }
            Fault::PodErrors { pod, share, .. } => {
                self.pods[pod].errors = share;
                Some(Undo::CurePod { pod })
            }
            Fault::ModelHole { pod, model, after_ms, .. } => {
                self.set_hole(pod, model, Some(Duration::from_millis(after_ms)));
                Some(Undo::FillHole { pod, model })
            }
            Fault::ModelUnload { pod, model, .. } => {
                self.load_model(pod, model, false);
                Some(Undo::LoadModel { pod, model })
            }
            Fault::PodDrain { pod, spread_ms, .. } => {
                let spread = Duration::from_millis(spread_ms);
                self.drain_pod(pod, true, spread);
                Some(Undo::StopDraining { pod, spread })
            }
            Fault::PodReplace { pod, spread_ms, .. } => {
                let spread = Duration::from_millis(spread_ms);
                self.crash_pod(pod);
                self.announce(pod, None, spread);
                Some(Undo::AnnouncePod { pod, spread })
            }
            Fault::RedisStall { for_ms } => {
                self.stall_store(Duration::from_millis(for_ms));
                None
            }
            Fault::RedisDeath { .. } => {
                self.kill_store();
                Some(Undo::RestartRedis)
            }
            Fault::Surge { percent, .. } => {
                self.surge_percent = percent;
                self.set_load(self.load);
                Some(Undo::Calm)
            }
            Fault::ModelChange { percent, .. } => {
                self.service_percent = percent;
                Some(Undo::OldModel)
            }
        }
    }

    /// Adds trouble to every link, for as long as it is not undone: several may overlap, and end in any order.
    fn trouble(&mut self, trouble: Trouble) -> Undo {
        self.serial += 1;
        self.troubles.push((self.serial, trouble));
        self.links.link = troubled(self.config.link, &self.troubles);
        Undo::Clear(self.serial)
    }

    /// Takes a node down, if it is up, and says how it comes back.
    fn down(&mut self, node: usize, clock_back: bool, how: fn(&mut World, usize)) -> Option<Undo> {
        self.nodes[node].core.as_ref()?;
        how(self, node);
        let (epoch, life) = (self.nodes[node].epoch, self.nodes[node].life);
        // Set back, but not to a moment at which it started before: in the product, a part of the epoch is chance.
        let set_back = (epoch / 2 + u64::from(life)).min(epoch - 1);
        Some(Undo::Start { node, epoch: if clock_back { set_back } else { epoch + 1 }.max(1), life })
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        // Whoever was healed or broken for good stays so.
        if self.settled {
            return;
        }
        match undo {
            Undo::Start { node, epoch, life } => {
                if self.nodes[node].core.is_none() && self.nodes[node].life == life {
                    self.start(node, epoch);
                }
            }
            Undo::Resume { node } => self.resume(node),
            Undo::Quicken { node } => self.nodes[node].slow = Duration::ZERO,
            Undo::Open { walls } => walls.into_iter().for_each(|(from, to)| self.open(from, to)),
            Undo::Clear(number) => {
                self.troubles.retain(|(of, _)| *of != number);
                self.links.link = troubled(self.config.link, &self.troubles);
            }
            Undo::RestartPod { pod } => self.restart_pod(pod),
            Undo::ResumePod { pod } => self.hang_pod(pod, false),
            Undo::SpeedUpPod { pod } => self.slow_pod(pod, 100),
            Undo::CurePod { pod } => self.cure_pod(pod),
            Undo::FillHole { pod, model } => self.set_hole(pod, model, None),
            Undo::LoadModel { pod, model } => self.load_model(pod, model, true),
            Undo::StopDraining { pod, spread } => self.drain_pod(pod, false, spread),
            Undo::AnnouncePod { pod, spread } => {
                self.pods[pod].incarnation += 1;
                self.restart_pod(pod);
                let incarnation = self.pods[pod].incarnation;
                self.announce(pod, Some(incarnation), spread);
            }
            Undo::RestartRedis => self.restart_store(),
            Undo::OldModel => self.service_percent = 100,
            Undo::Calm => {
                self.surge_percent = 100;
                self.set_load(self.load);
            }
        }
    }
}

impl World {
    /// Heals what `ending` names for good, and breaks all other nodes for good: nothing can be waited for.
    pub(crate) fn settle(&mut self, ending: &Ending) {
        self.settled = true;
        self.links.heal();
        self.links.link = self.config.link;
        self.restart_store();
        (self.surge_percent, self.service_percent) = (100, 100);
        let named = |names: &[usize], k: usize| names.is_empty() || names.contains(&k);
        for n in 0..self.nodes.len() {
            self.resume(n);
            self.nodes[n].slow = Duration::ZERO;
            match named(&ending.nodes, n) {
                true if self.nodes[n].core.is_none() => self.start(n, self.nodes[n].epoch + 1),
                true => {}
                false => self.crash(n),
            }
        }
        for k in 0..self.pods.len() {
            self.hang_pod(k, false);
            self.slow_pod(k, 100);
            self.cure_pod(k);
            self.heal_models(k);
            self.drain_pod(k, false, Duration::ZERO);
            match named(&ending.pods, k) {
                true => {
                    // What was taken away comes back as another.
                    self.pods[k].incarnation += u32::from(self.pods[k].announced.is_none());
                    let incarnation = self.pods[k].incarnation;
                    self.restart_pod(k);
                    self.announce(k, Some(incarnation), Duration::ZERO);
                }
                false => self.crash_pod(k),
            }
        }
        self.note("settle", [0, 0, 0]);
        self.set_load(self.load);
    }

    /// Whether datagrams are kept for replays.
    pub(crate) fn keep_datagrams(&mut self, keep: bool) {
        self.connections.keep = keep;
    }
}
