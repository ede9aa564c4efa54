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

    /// Tells `each` of the pods among which somebody else may choose for `request`: those that a pick would fall on, but of all
    /// pods, not only of those that this node uses, because the other knows what is in flight on every one. None where no pod is
    /// left but one that is ejected: which of these may answer is this node's own guess.
    pub fn offer(&self, request: &Request<'_>, each: impl FnMut(&Arc<Pod>)) {
        let Shared { table, seed, hub, .. } = &*self.shared;
        let (table, model) = (table.load(), self.model(request.model));
        let draw = Draw::new(*seed, hub.next_number());
        let serving = table.serving(model);
        let choice = Choice::of((serving, model), serving.first, request, hub.out.is_any(), &draw);
        choice.pods().filter(|pod| !pod.is_ejected()).for_each(each);
    }

    /// Charges `pod` for `request`; none, and nothing charged, where it is gone, ejected, on trial with another request, or not
    /// for such a request.
    pub fn pick_at(&self, now: Time, request: &Request<'_>, pod: PodId) -> Option<Ticket> {
        let Shared { table, hub, .. } = &*self.shared;
        let (table, model) = (table.load(), self.model(request.model));
        let is_out = |place: &Place| place.pod.is_ejected() || place.is_tried_now(model);
        let named = request.among.is_empty() || request.among.contains(&pod);
        let may = |place: &&Place| place.pod.id() == pod && !is_out(place) && !request.exclude.contains(&pod) && named;
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

    fn picker(pods: usize, interest: Interest) -> Picker {
        let picker = Picker::new(PolicyKind::default().policy(), 1, Formulas::new(), Box::new(NoWake));
        let spec = |k| PodSpec::new(format!("pod-{k}"), format!("http://127.0.0.1:{k}"));
        let pod = |k| Arc::new(Pod::new(spec(k), 0, picker.out().clone()));
        picker.set_pods(Arc::new((0..pods).map(pod).collect()), interest);
        picker
    }

    fn offered(picker: &Picker, request: &Request<'_>) -> Vec<String> {
        let mut names = Vec::new();
        picker.offer(request, |pod| names.push(pod.name().to_owned()));
        names.sort();
        names
    }

    /// Whoever chooses elsewhere knows nothing of this node's: a pod that is out here, was tried, or is not among those that
    /// the request is bound to must not be offered; and whoever is offered can be charged.
    #[test]
    fn who_is_offered_can_be_charged_and_nobody_else_is() {
        let picker = picker(5, Interest::All);
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
        let picker = picker(3, Interest::All);
        picker.pods().iter().for_each(|pod| assert_eq!(pod.eject(), Ejection::Now));
        assert_eq!(offered(&picker, &Request::new("m")), [""; 0]);
        assert!(picker.pick(NOW, &Request::new("m")).is_ok());
    }

    /// A node of many pods is told of some; a store knows of all.
    #[test]
    fn pods_that_the_node_does_not_use_are_offered_too() {
        let mut ids: Vec<PodId> = picker(12, Interest::All).pods().iter().map(|pod| pod.id()).collect();
        ids.sort();
        let picker = picker(12, Interest::Arc { first: ids[0], last: ids[7] });
        let mut picked: Vec<String> =
            (0..100).map(|_| picker.pick(NOW, &Request::new("m")).unwrap().pod().name().to_owned()).collect();
        picked.sort();
        picked.dedup();
        assert!(picked.len() < 12, "{picked:?}");
        assert_eq!(offered(&picker, &Request::new("m")).len(), 12);
    }
}
