//! What strict mode needs of a picker: a choice without a charge. What charges for it is in `elsewhere.rs`.

use smallvec::SmallVec;

use super::{Candidates, Context, Draw, Picker, Request, Rung, Shared};
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
    among: SmallVec<[PodId; 4]>,
    at_most: Option<u32>,
}

impl OwnedRequest {
    /// It as a pick takes it.
    pub fn borrowed(&self) -> Request<'_> {
        Request {
            model: &self.model,
            bytes: self.bytes,
            cost: self.cost,
            exclude: &self.exclude,
            among: &self.among,
            at_most: self.at_most,
        }
    }
}

impl From<&Request<'_>> for OwnedRequest {
    fn from(request: &Request<'_>) -> OwnedRequest {
        OwnedRequest {
            model: request.model.into(),
            bytes: request.bytes,
            cost: request.cost,
            exclude: request.exclude.into(),
            among: request.among.into(),
            at_most: request.at_most,
        }
    }
}

impl<'a> Request<'a> {
    pub(crate) fn model(&self) -> &'a str {
        self.model
    }

    /// Whether any pod may take it, however full.
    #[cfg(feature = "driver")]
    pub(crate) fn is_free(&self) -> bool {
        self.among.is_empty() && self.at_most.is_none()
    }

    pub(crate) fn excluded(&self) -> &'a [PodId] {
        self.exclude
    }
}

impl Picker {
    /// The pod that a pick would fall on now, of those that are neither ejected nor on trial; nothing
    /// is charged.
    pub(crate) fn would_pick(&self, now: Time, request: &Request<'_>, draw: Draw) -> Option<PodId> {
        let context = self.shared.hub.context(self.model(request.model), self.cost_of(request), draw);
        self.choose(now, request, |_, load| Some(load), &context)
    }

    /// The same where nothing is unseen, of the pods that have a load in `load`'s eyes; it is given what this node knows.
    pub(crate) fn best_of(
        &self,
        now: Time,
        request: &Request<'_>,
        load: impl Fn(PodId, PodLoad) -> Option<PodLoad>,
        draw: Draw,
    ) -> Option<PodId> {
        let context = self.shared.hub.context(self.model(request.model), self.cost_of(request), draw);
        let context = Context { unseen_ms: 0.0, others: 0.0, rung: Rung::Fill, ..context };
        self.choose(now, request, load, &context)
    }

    fn choose(
        &self,
        now: Time,
        request: &Request<'_>,
        load: impl Fn(PodId, PodLoad) -> Option<PodLoad>,
        context: &Context,
    ) -> Option<PodId> {
        let Shared { table, policy, hub, .. } = &*self.shared;
        let (table, model) = (table.load(), self.model(request.model));
        let (mut loads, mut parts) = (Vec::new(), Vec::new());
        for place in table.serving(model).firsts() {
            let (id, known) = (place.pod.id(), place.pod.load(place.index));
            if !place.pod.is_ejected()
                && !place.is_tried_now(model)
                && !request.exclude.contains(&id)
                && let Some(load) = load(id, known)
            {
                if hub.plays {
                    let seen = place.parts(model, 1e3 * (load.cost_ms - known.cost_ms), now);
                    let others = (1..=seen.others()).map(|k| seen.get(k));
                    parts.push([seen.lowest()].into_iter().chain(others).collect());
                }
                loads.push(load);
            }
        }
        if loads.is_empty() {
            return None;
        }
        let chosen = policy.choose(&Candidates::with_parts(&loads, &parts), context).min(loads.len() - 1);
        Some(table.pods[loads[chosen].index].id())
    }
}
