//! How fast pods are beside each other: what this node saw is told to a few peers, once, and what peers saw is taken as seen.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Core;
use super::costs::TELL_AT_MOST;
use crate::gossip::wire::{Ident, MAX_PACES, Message, Paces, PodPace};
use crate::id::{NodeId, PodId};
use crate::observe::pace::{Words, compare};
use crate::time::Time;

/// Speeds are compared this often.
const LOOK: Duration = Duration::from_secs(1);
/// What was seen is told this often, for 1 % of the default budget.
const TELL: Duration = Duration::from_secs(2);
/// Samples of a pod that wait to be told, at most: they count for no more, and nobody may be there to tell for days.
const MOST_UNTOLD: u32 = 255;

/// What is known of the pods' speeds.
#[derive(Debug)]
pub(super) struct Speeds {
    words: BTreeMap<PodId, Words>,
    /// Seen since it was told last: samples, and the sum of what they took over what they should have.
    untold: BTreeMap<PodId, (u32, f32)>,
    look_at: Time,
    tell_at: Time,
}

impl Speeds {
    pub(super) fn new(now: Time, id: NodeId) -> Speeds {
        // Each node has its own phase, so that a crowd does not speak at once.
        let phase = Duration::from_nanos(id.0 % TELL.as_nanos() as u64);
        Speeds { words: BTreeMap::new(), untold: BTreeMap::new(), look_at: now + LOOK, tell_at: now + phase }
    }
}

impl Core {
    /// Takes in what requests showed, compares, and tells a few peers, if it is time.
    pub(super) fn look_at_speeds(&mut self, now: Time) {
        if self.speeds.look_at > now {
            return;
        }
        self.speeds.look_at = now + LOOK;
        let Speeds { words, untold, .. } = &mut self.speeds;
        words.retain(|id, _| self.pods.contains_key(id));
        untold.retain(|id, _| self.pods.contains_key(id));
        for (id, pod) in &self.pods {
            if let Some((samples, ratio)) = pod.pace.take() {
                words.entry(*id).or_default().take(None, (samples, ratio), now);
                let (waiting, sum) = untold.entry(*id).or_default();
                if *waiting < MOST_UNTOLD {
                    let more = samples.min(MOST_UNTOLD - *waiting);
                    (*waiting, *sum) = (*waiting + more, *sum + ratio * more as f32);
                }
            }
        }
        compare(self.pods.iter().map(|(id, pod)| (&pod.pace, words.get(id))), now);
        self.pods.values().for_each(|pod| pod.weigh());
        if self.speeds.tell_at <= now {
            self.tell_paces(now);
        }
    }

    fn tell_paces(&mut self, now: Time) {
        // Rows matter more: this waits until the budget is out of debt.
        let can = self.config.tell_costs && !self.leaving && self.budget.heavy_at(now) <= now;
        if !can || self.speeds.untold.is_empty() || self.uses.near.is_empty() {
            return;
        }
        self.speeds.tell_at = now + TELL;
        let untold = std::mem::take(&mut self.speeds.untold);
        let seen = untold.into_iter().map(|(pod, (samples, sum))| (pod, samples, sum / samples as f32));
        let near: Vec<Ident> = self.uses.near.to_vec();
        let to = self.some_of(near, TELL_AT_MOST);
        self.send_paces(now, seen.collect(), &to);
    }

    /// Tells `to`, which is new, all that was seen here.
    pub(super) fn tell_all_paces(&mut self, now: Time, to: Ident) {
        let words = self.speeds.words.iter();
        let seen = words.filter_map(|(pod, words)| words.own(now).map(|(samples, ratio)| (*pod, samples, ratio)));
        self.send_paces(now, seen.collect(), &[to]);
    }

    fn send_paces(&mut self, now: Time, seen: Vec<(PodId, u32, f32)>, to: &[Ident]) {
        let pace = |&(pod, samples, ratio): &(PodId, u32, f32)| PodPace {
            pod,
            ratio_x256: (ratio * 256.0).clamp(1.0, f32::from(u16::MAX)) as u16,
            samples: samples.min(MOST_UNTOLD) as u8,
        };
        for some in seen.chunks(MAX_PACES) {
            let message = Message::Paces(Paces { pods: some.iter().map(pace).collect() });
            let data = message.encode(self.tag);
            for ident in to {
                self.transmit(now, Some(ident.id), ident.addr, message.kind(), data.clone());
            }
        }
    }

    pub(super) fn handle_paces(&mut self, now: Time, from: NodeId, paces: &Paces) {
        if !self.is_active(from) {
            return self.stats.refuse("stranger");
        }
        for PodPace { pod, ratio_x256, samples } in &paces.pods {
            // Of pods that are not known here there is nothing to keep.
            if self.pods.contains_key(pod) {
                let seen = (u32::from(*samples), f32::from(*ratio_x256) / 256.0);
                self.speeds.words.entry(*pod).or_default().take(Some(from), seen, now);
            }
        }
    }
}
