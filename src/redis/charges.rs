//! Load that others report, as tickets: what callers of the Redis face say that they have at a pod, and what a bridge reads in
//! a Redis. Like any ticket of this node they are in its row, so that every peer counts them, and they are gone with it.
//!
//! A caller's account is kept twice: its score to the last digit, as a Redis would answer it, and tickets whose costs add up to
//! it, which is what picks and peers see. A score below zero is answered as it is and charged as nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Unit;
use crate::driver::clock;
use crate::observe::{Cost, Pod};
use crate::pick::{Picker, Request, Ticket};

/// Tickets held on one pod: beyond, a charge is added to the last one. More requests than this are not in flight on any pod.
const MOST_TICKETS: usize = 16_384;
/// Charges that are looked through for the one that is given back, oldest first. What is not among them is taken from the
/// oldest.
const LOOKED_THROUGH: usize = 1024;
/// Pods with an account, those that are gone included: beyond, those at zero that no pod has are forgotten.
const MOST_ACCOUNTS: usize = 4096;

/// What is charged by others on each pod.
#[derive(Debug)]
pub(crate) struct Charges {
    picker: Picker,
    unit: Unit,
    model: Box<str>,
    accounts: BTreeMap<Box<str>, Account>,
}

#[derive(Debug, Default)]
struct Account {
    score: f64,
    /// Scores and their tickets, oldest first; all on one life of the pod.
    tickets: VecDeque<(f64, Ticket)>,
    /// What the tickets cost together.
    charged_us: u64,
}

impl Account {
    fn push(&mut self, score: f64, ticket: Ticket) {
        self.charged_us += ticket.cost().as_us();
        self.tickets.push_back((score, ticket));
    }

    /// Ends the ticket at `index`; what it was charged with.
    fn end(&mut self, index: usize) -> Option<f64> {
        let (score, ticket) = self.tickets.remove(index)?;
        self.charged_us -= ticket.cost().as_us();
        ticket.release(clock::now());
        Some(score)
    }

    fn end_all(&mut self) {
        while self.end(self.tickets.len().saturating_sub(1)).is_some() {}
    }

    fn is_on(&self, pod: &Arc<Pod>) -> bool {
        self.tickets.front().is_some_and(|(_, ticket)| Arc::ptr_eq(ticket.pod(), pod))
    }
}

impl Charges {
    /// None yet. `model` is what they are counted as: the nameless one where nobody says.
    pub(crate) fn new(picker: Picker, unit: Unit, model: &str) -> Charges {
        Charges { picker, unit, model: model.into(), accounts: BTreeMap::new() }
    }

    /// What is charged on the pod called `name`.
    pub(crate) fn score(&self, name: &str) -> f64 {
        self.accounts.get(name).map_or(0.0, |account| account.score)
    }

    /// What all others have in flight on `pod`, in the unit of scores: peers, and this node's own requests.
    pub(crate) fn beside(&self, pod: &Arc<Pod>) -> f64 {
        let mine = self.accounts.get(pod.name()).filter(|account| account.is_on(pod));
        let (count, us) = mine.map_or((0, 0), |account| (account.tickets.len(), account.charged_us));
        match self.unit {
            Unit::Ms(scale) => pod.gauge.all_us().saturating_sub(us) as f64 / 1e3 / scale,
            // Of a peer whose row fades, a part of a request is no request.
            Unit::Count => (f64::from(pod.in_flight()) - count as f64).max(0.0).round(),
        }
    }

    /// Sets what is charged on `pod`, or on the pod of that name that was, to `score`.
    pub(crate) fn set(&mut self, name: &str, pod: Option<&Arc<Pod>>, score: f64) {
        if self.accounts.len() >= MOST_ACCOUNTS && !self.accounts.contains_key(name) {
            let pods = self.picker.pods();
            self.accounts.retain(|name, account| account.score != 0.0 || pods.iter().any(|pod| pod.name() == &**name));
        }
        if !self.accounts.contains_key(name) {
            self.accounts.insert(name.into(), Account::default());
        }
        let Some(account) = self.accounts.get_mut(name) else { return };
        let before = account.score.max(0.0);
        account.score = score;
        let charged = score.max(0.0);
        if charged == 0.0 {
            account.end_all();
        } else if charged > before {
            let by = charged - before;
            let count = if self.unit == Unit::Count { by.round().min(MOST_TICKETS as f64) as usize } else { 1 };
            for _ in 0..count {
                self.charge(name, pod, by / count as f64);
            }
        } else if charged < before {
            self.give_back(name, pod, before - charged);
        }
    }

    /// Gives everything back.
    pub(crate) fn clear(&mut self) {
        std::mem::take(&mut self.accounts).values_mut().for_each(Account::end_all);
    }

    fn charge(&mut self, name: &str, pod: Option<&Arc<Pod>>, score: f64) {
        let (Some(account), Some(pod)) = (self.accounts.get_mut(name), pod) else { return };
        if !account.is_on(pod) {
            // What was charged on a life that is over died with it.
            account.end_all();
        }
        let mut score = score;
        if account.tickets.len() >= MOST_TICKETS {
            score += account.end(account.tickets.len() - 1).unwrap_or(0.0);
        }
        let request = Request::new(&self.model);
        let request = match self.unit {
            Unit::Ms(scale) => request.cost(Cost::from_ms(score * scale).unwrap_or_default()),
            Unit::Count => request,
        };
        // A pod that is gone has nothing to charge; the score stands all the same.
        if let Some(ticket) = self.picker.charge_at(clock::now(), &request, pod.id()) {
            account.push(score, ticket);
        }
    }

    /// Ends tickets worth `score`: the one that was charged with just that, or else the oldest, of which the last may be
    /// charged again with what is left of it.
    fn give_back(&mut self, name: &str, pod: Option<&Arc<Pod>>, score: f64) {
        let Some(account) = self.accounts.get_mut(name) else { return };
        let is_it = |(charged, _): &(f64, Ticket)| (charged - score).abs() <= 1e-9 * score;
        if let Some(index) = account.tickets.iter().take(LOOKED_THROUGH).position(is_it) {
            account.end(index);
            return;
        }
        let mut left = score;
        while left > 1e-9 * score
            && let Some(charged) = account.end(0)
        {
            left -= charged;
        }
        if left < -1e-9 * score {
            self.charge(name, pod, -left);
        }
    }
}

impl Drop for Charges {
    /// Gives everything back: tickets that are dropped would leave remainders, as if somebody had cancelled.
    fn drop(&mut self) {
        self.clear();
    }
}
