//! What requests cost, told to peers: what moved, every few seconds and to a few of them; and all that was learned, to
//! somebody new.

use std::time::Duration;

use super::Core;
use crate::gossip::wire::{Costs, Ident, MAX_DATAGRAM, MAX_SIZES, MODEL_BYTES, Message, ModelCosts, SIZE_BYTES};
use crate::id::NodeId;
use crate::observe::{CostModel, Hearing, SizeCost};
use crate::time::Time;

/// News of costs is told this often at most. Four times as seldom costs a cluster a second after a model changed.
const TELL: Duration = Duration::from_millis(500);
/// And to so many peers, drawn anew each time: each keeps five voices, so that this many are enough for all to hear a few.
/// Of pods' speeds, each hears of so many times as much as it sees itself.
pub(super) const TELL_AT_MOST: usize = 16;
/// Bytes of a datagram before the models.
const HEAD: usize = 6 + 3;

/// What is to be told of costs.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) at: Time,
    /// Who is new, and is told all.
    new: Vec<NodeId>,
}

impl Telling {
    pub(super) fn new(now: Time, id: NodeId) -> Telling {
        // Each node has its own phase, so that a crowd does not speak at once.
        let phase = Duration::from_nanos(id.0 % TELL.as_nanos() as u64);
        Telling { at: now + phase, new: Vec::new() }
    }

    /// `node` is a member that may know nothing.
    pub(super) fn greet(&mut self, node: NodeId) {
        if !self.new.contains(&node) {
            self.new.push(node);
        }
    }
}

impl Core {
    /// Tells whoever is new what was learned, and a few peers what moved, if it is time.
    pub(super) fn tell_costs(&mut self, now: Time) {
        if !self.config.tell_costs || self.leaving || (self.telling.new.is_empty() && self.telling.at > now) {
            return;
        }
        // Rows matter more: costs wait until the budget is out of debt.
        if self.active.is_empty() || self.budget.heavy_at(now) > now {
            return;
        }
        for node in std::mem::take(&mut self.telling.new) {
            // In a large cluster a few of all tell; it needs a few voices.
            let tells = self.draw().below(0, self.active.len()) < TELL_AT_MOST;
            let ident = self.active.iter().find(|ident| ident.id == node).copied();
            if let Some(ident) = ident.filter(|_| tells) {
                let learned = self.costs(|model| model.learned(now, MAX_SIZES));
                self.send_costs(now, &learned, &[ident]);
                self.tell_all_paces(now, ident);
            }
        }
        if self.telling.at <= now {
            self.telling.at = now + TELL;
            let news = self.costs(|model| model.news(now, MAX_SIZES));
            let to = self.some_of(self.active.to_vec(), TELL_AT_MOST);
            self.send_costs(now, &news, &to);
        }
    }

    /// What is to be told of each model, in messages that fit a datagram.
    fn costs(&self, told: impl Fn(&CostModel) -> Vec<SizeCost>) -> Vec<Costs> {
        let mut messages: Vec<Costs> = Vec::new();
        let (mut bytes, mut sizes_in) = (MAX_DATAGRAM, MAX_SIZES);
        // The nameless model is many.
        for model in self.picker.models().iter().filter(|model| !model.name().is_empty()) {
            let name = model.name();
            for size in told(&model.cost) {
                let is_open =
                    messages.last().and_then(|costs| costs.models.last()).is_some_and(|model| model.name == name);
                let head = if is_open { 0 } else { MODEL_BYTES + name.len() };
                if bytes + head + SIZE_BYTES > MAX_DATAGRAM || sizes_in == MAX_SIZES {
                    messages.push(Costs { models: Vec::new() });
                    (bytes, sizes_in) = (HEAD, 0);
                }
                let Some(message) = messages.last_mut() else { continue };
                if message.models.last().is_none_or(|model| model.name != name) {
                    message.models.push(ModelCosts { name: name.to_owned(), sizes: Vec::new() });
                    bytes += MODEL_BYTES + name.len();
                }
                if let Some(model) = message.models.last_mut() {
                    model.sizes.push(size);
                }
                (bytes, sizes_in) = (bytes + SIZE_BYTES, sizes_in + 1);
            }
        }
        messages
    }

    fn send_costs(&mut self, now: Time, messages: &[Costs], to: &[Ident]) {
        for message in messages {
            let message = Message::Costs(message.clone());
            let data = message.encode(self.tag);
            for ident in to {
                self.transmit(now, Some(ident.id), ident.addr, message.kind(), data.clone());
            }
        }
    }

    /// At most so many of `all`, drawn by chance.
    pub(super) fn some_of(&mut self, mut all: Vec<Ident>, at_most: usize) -> Vec<Ident> {
        let draw = self.draw();
        for k in 0..at_most.min(all.len()) {
            let other = k + draw.below(k as u64, all.len() - k);
            all.swap(k, other);
        }
        all.truncate(at_most);
        all
    }

    pub(super) fn handle_costs(&mut self, now: Time, from: NodeId, costs: Costs) {
        if !self.is_active(from) {
            return self.stats.refuse("stranger");
        }
        for model in costs.models {
            for size in model.sizes {
                match self.picker.hear_cost(from, &model.name, size, now) {
                    Hearing::Taken => {}
                    Hearing::Absurd => {
                        self.stats.refuse("absurd_cost");
                        self.note_refusal(from, "a cost that no request can have".to_owned());
                    }
                    Hearing::TooMany => self.stats.refuse("too_many_costs"),
                }
            }
        }
    }
}
