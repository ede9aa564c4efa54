//! Picks that somebody else makes, the owner of a shard or a shared Redis: what a node tells of the request, whom it offers,
//! and how it charges whom the other chose.

use std::sync::Arc;

use super::candidates::Choice;
use super::places::Place;
use super::{Draw, Picker, Request, Shared, Ticket};
use crate::id::PodId;
use crate::observe::{Cost, Pod};
use crate::time::Time;

impl Picker {
    /// What the request is expected to cost.
    pub fn cost_of(&self, request: &Request<'_>) -> Cost {
        request.cost.unwrap_or_else(|| self.model(request.model).cost.estimate(request.bytes))
    }

    /// The pods that a pick would choose among now and that [`Picker::pick_at`] would charge, each with what it can do at once,
    /// relative to the others. None where a pick could only fall on a last resort: which of these may answer is this node's own
    /// guess.
    pub fn may_take(&self, now: Time, request: &Request<'_>) -> Vec<(Arc<Pod>, f32)> {
        let Shared { table, seed, hub, .. } = &*self.shared;
        let (table, model) = (table.load(), self.model(request.model));
        hub.saw(now);
        let draw = Draw::new(*seed, hub.next_number());
        let choice = Choice::of((table.serving(model), model), request, hub.out.is_any(), &draw);
        let chosen = choice.places().filter(|place| !place.pod.is_ejected() && !place.is_tried_now(model));
        chosen.map(|place| (place.pod.clone(), place.pod.capacity() as f32)).collect()
    }

    /// Charges `pod` for `request`; none, and nothing charged, where it is gone, ejected, on trial with another request, or not
    /// for such a request.
    pub fn pick_at(&self, now: Time, request: &Request<'_>, pod: PodId) -> Option<Ticket> {
        let Shared { table, hub, .. } = &*self.shared;
        let (table, model) = (table.load(), self.model(request.model));
        let is_out = |place: &Place| place.pod.is_ejected() || place.is_tried_now(model);
        let is_full = |place: &Place| request.at_most.is_some_and(|most| place.pod.in_flight() >= most as f32);
        let is_asked = !request.exclude.contains(&pod) && (request.among.is_empty() || request.among.contains(&pod));
        let may = |place: &&Place| place.pod.id() == pod && is_asked && !is_out(place) && !is_full(place);
        let place = table.serving(model).firsts().iter().find(may)?;
        hub.saw(now);
        Some(self.charge(now, request, (model, self.cost_of(request), hub.next_number()), place))
    }

    /// Charges `pod` for a request that others have sent there already, whatever its health; none where it is gone.
    #[cfg(feature = "redis")]
    pub(crate) fn charge_at(&self, now: Time, request: &Request<'_>, pod: PodId) -> Option<Ticket> {
        let Shared { table, hub, .. } = &*self.shared;
        let (table, model) = (table.load(), self.model(request.model));
        let place = table.serving(model).places.iter().find(|place| place.pod.id() == pod)?;
        hub.saw(now);
        Some(self.charge(now, request, (model, self.cost_of(request), hub.next_number()), place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::Interest;
    use crate::observe::{Ejection, Formulas, PodSpec};
    use crate::pick::{PolicyKind, Wake};

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    const NOW: Time = Time::ZERO;

    fn picker(pods: usize) -> Picker {
        let picker = Picker::new(PolicyKind::default().policy(), 1, Formulas::new(), Box::new(NoWake));
        let spec = |k| PodSpec::new(format!("pod-{k}"), format!("http://127.0.0.1:{k}"));
        let pod = |k| Arc::new(Pod::new(spec(k), 0, picker.out().clone()));
        picker.set_pods(Arc::new((0..pods).map(pod).collect()), Interest::All);
        picker
    }

    fn offered(picker: &Picker, request: &Request<'_>) -> Vec<String> {
        let mut names: Vec<String> =
            picker.may_take(NOW, request).iter().map(|(pod, _)| pod.name().to_owned()).collect();
        names.sort();
        names
    }

    /// Whoever chooses elsewhere knows nothing of this node's: a pod that is out here, was tried, or is not among those that
    /// the request is bound to must not be offered; and whoever is offered can be charged.
    #[test]
    fn who_is_offered_can_be_charged_and_nobody_else_is() {
        let picker = picker(5);
        let pods = picker.pods();
        assert_eq!(pods[0].eject(), Ejection::Now);
        assert!(picker.set_available(NOW, pods[1].id(), "m", false));
        let (tried, bound) = ([pods[2].id()], [pods[2].id(), pods[3].id()]);
        assert_eq!(offered(&picker, &Request::new("m").exclude(&tried)), ["pod-3", "pod-4"]);
        assert_eq!(offered(&picker, &Request::new("m").among(&bound)), ["pod-2", "pod-3"]);
        let request = Request::new("m").exclude(&tried);
        for pod in pods.iter() {
            let offered = offered(&picker, &request).iter().any(|name| name == pod.name());
            let ticket = picker.pick_at(NOW, &request, pod.id());
            assert_eq!((ticket.is_some(), pod.own_in_flight()), (offered, u32::from(offered)), "{}", pod.name());
        }
    }

    /// Where all pods are out somebody must guess which one answers, and that is the node's own pick.
    #[test]
    fn nobody_is_offered_where_all_are_out() {
        let picker = picker(3);
        picker.pods().iter().for_each(|pod| assert_eq!(pod.eject(), Ejection::Now));
        assert_eq!(offered(&picker, &Request::new("m")), [""; 0]);
        assert!(picker.pick(NOW, &Request::new("m")).is_ok());
    }
}
