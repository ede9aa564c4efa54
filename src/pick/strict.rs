//! What strict mode needs of a picker: a choice without a charge, and a charge on a pod that somebody else chose.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;

use super::{Candidates, Context, Draw, Picker, Request, Rung, Ticket};
use crate::id::PodId;
use crate::observe::{Cost, PodLoad};
use crate::time::Time;

/// A request that outlives its caller's borrows, while it waits for an answer.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    model: Box<str>,
    bytes: u64,
    cost: Option<Cost>,
    exclude: SmallVec<[PodId; 4]>,
}

impl OwnedRequest {
    /// It as a pick takes it.
    pub fn borrowed(&self) -> Request<'_> {
        Request { model: &self.model, bytes: self.bytes, cost: self.cost, exclude: &self.exclude }
    }
}

impl From<&Request<'_>> for OwnedRequest {
    fn from(request: &Request<'_>) -> OwnedRequest {
        OwnedRequest {
            model: request.model.into(),
            bytes: request.bytes,
            cost: request.cost,
            exclude: request.exclude.into(),
        }
    }
}

impl<'a> Request<'a> {
    pub(crate) fn model(&self) -> &'a str {
        self.model
    }

    pub(crate) fn excluded(&self) -> &'a [PodId] {
        self.exclude
    }
}

impl Picker {
    /// What the request is expected to cost.
    pub(crate) fn cost_of(&self, request: &Request<'_>) -> Cost {
        request.cost.unwrap_or_else(|| self.shared.models.get(request.model).cost.estimate(request.bytes))
    }

    /// The pod that a pick would fall on now, of those that are not ejected; nothing is charged.
    pub(crate) fn would_pick(&self, now: Time, request: &Request<'_>, draw: Draw) -> Option<PodId> {
        self.choose(now, request, |_, load| Some(load), false, draw)
    }

    /// The same where nothing is unseen, of the pods that have a load in `load`'s eyes; it is given what this node knows.
    pub(crate) fn best_of(
        &self,
        now: Time,
        request: &Request<'_>,
        load: impl Fn(PodId, PodLoad) -> Option<PodLoad>,
        draw: Draw,
    ) -> Option<PodId> {
        self.choose(now, request, load, true, draw)
    }

    fn choose(
        &self,
        now: Time,
        request: &Request<'_>,
        load: impl Fn(PodId, PodLoad) -> Option<PodLoad>,
        all_is_seen: bool,
        draw: Draw,
    ) -> Option<PodId> {
        let shared = &self.shared;
        let (table, model) = (shared.table.load(), shared.models.get(request.model));
        let mut candidates = Candidates::default();
        for place in table.serving(&model) {
            let id = place.pod.id();
            if !place.pod.is_ejected()
                && !request.exclude.contains(&id)
                && let Some(load) = load(id, place.pod.load(place.index))
            {
                candidates.add(place, load, &model, now, shared.policy.reads_parts());
            }
        }
        let Candidates { loads, parts } = &candidates;
        if loads.is_empty() {
            return None;
        }
        let cost = request.cost.unwrap_or_else(|| model.cost.estimate(request.bytes));
        let mut context = shared.context(&model, cost, parts, draw);
        if all_is_seen {
            context = Context { unseen_ms: 0.0, others: 0.0, rung: Rung::Fill, ..context };
        }
        let chosen = shared.policy.choose(loads, &context).min(loads.len() - 1);
        Some(table.pods[loads[chosen].index].id())
    }

    /// Charges `pod` for `request`; none, and nothing charged, where it is gone, ejected, or not for such a request.
    pub(crate) fn pick_at(&self, now: Time, request: &Request<'_>, pod: PodId) -> Option<Ticket> {
        let shared = &self.shared;
        let (table, model) = (shared.table.load(), shared.models.get(request.model));
        let may = !request.exclude.contains(&pod);
        let place =
            table.serving(&model).iter().find(|place| place.pod.id() == pod && may && !place.pod.is_ejected())?;
        shared.last_seen.store(now.as_nanos(), Relaxed);
        let mut seen = Candidates::default();
        seen.add(place, place.pod.load(place.index), &model, now, shared.policy.reads_parts());
        Some(self.charge(now, request, &Arc::clone(&place.pod), &model, (&seen.loads[0], &seen.parts)))
    }
}
