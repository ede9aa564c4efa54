//! Which pods are fit for which models: what is told to a picker beside loads.
//!
//! A pick does not look at it: when something changes, the table that picks read is made anew. So a pod that lacks a model
//! costs picks nothing, and a change costs each model one look at all pods.

use std::sync::Arc;
use std::time::Duration;

use super::Picker;
use crate::id::PodId;
use crate::observe::{Model, Pod, Rank};
use crate::time::Time;

/// So long after a model moved, what is known of where it is may be old: longer than it takes to ask all pods.
const MOVES: Duration = Duration::from_secs(10);
/// A pod that asks for more is one that answers nonsense, or is out for good: others find that out.
const MOST_HELD: Duration = Duration::from_secs(60);

impl Picker {
    /// Tells whether a pod has a model ready at `now`, as it says itself: without, picks go there only where no other pod is left that
    /// may have it. Does nothing where no pod is of that incarnation, and for names that are not kept apart (empty, too long,
    /// or one too many). Says whether it was news.
    pub fn set_available(&self, now: Time, pod: PodId, model: &str, available: bool) -> bool {
        let pods = self.pods();
        let Some(pod) = pods.iter().find(|known| known.id() == pod) else { return false };
        let news = mark(now, pod, self.shared.models.get(model), available);
        if news {
            self.renew_table();
        }
        news
    }

    /// The same of all models that were asked for so far, as `has` says; none where it does not know. Says of how many
    /// that was news.
    pub fn set_all_available(&self, now: Time, pod: &Pod, has: impl Fn(&Model) -> Option<bool>) -> usize {
        let models = self.shared.models.all();
        let news = models.iter().filter(|model| has(model).is_some_and(|has| mark(now, pod, model, has))).count();
        if news > 0 {
            self.renew_table();
        }
        news
    }

    /// The pod shows at `now` that it has a model that it was thought to lack, if it was. Names that were not asked for
    /// stay so.
    pub(crate) fn shows(&self, now: Time, pod: &Pod, model: &str) {
        let Ok(model) = self.shared.models.find(model) else { return };
        if pod.rank(model) == Rank::Lacking && mark(now, pod, model, true) {
            self.renew_table();
        }
    }

    /// The pod asked that it be spared requests for `model` for so long (`Retry-After`, gRPC's push-back), a minute at most: picks
    /// avoid it then, where enough others are left. Does nothing where no pod is of that incarnation, and for names that are not
    /// kept apart.
    pub fn hold_off(&self, now: Time, pod: PodId, model: &str, span: Duration) {
        let pods = self.pods();
        let (pod, model) = (pods.iter().find(|known| known.id() == pod), self.shared.models.get(model));
        if let Some(pod) = pod.filter(|_| model.index > 0) {
            let lane = pod.lane(model);
            lane.ends.hold_until(now + span.min(MOST_HELD));
            self.shared.hub.looks_sick(&lane);
        }
    }

    /// Whether a pod may have `model`, for all that is known at `now`. Where each is known to lack it, and nobody had it lately,
    /// the next that is asked will most likely say the same.
    pub fn may_be_served(&self, now: Time, model: &str) -> bool {
        let model = self.shared.models.get(model);
        self.shared.table.load().serving(model).have > 0 || model.moved_within(MOVES, now)
    }
}

fn mark(now: Time, pod: &Pod, model: &Arc<Model>, available: bool) -> bool {
    // Behind the first stand all names that are not kept apart.
    let news = model.index > 0 && pod.fitness.lacks.set(model.index, !available);
    // What was never there did not move: a name that nobody knows.
    if news && available {
        // The first request after a model was loaded may take long, and whoever looks emptiest would get many.
        pod.begin_trial(&pod.lane(model));
    }
    if news && (available || pod.existing_lane(model).is_some_and(|lane| lane.served() > 0)) {
        model.moves(now);
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::Interest;
    use crate::observe::{Formulas, PodSpec};
    use crate::pick::{Outcome, PickError, PolicyKind, Request, Wake};

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    const NOW: Time = Time::ZERO;

    fn picker(specs: &[PodSpec]) -> Picker {
        let picker = Picker::new(PolicyKind::RoundRobin.policy(), 1, Formulas::new(), Box::new(NoWake));
        let pod = |spec: &PodSpec| Arc::new(Pod::new(spec.clone(), 0, picker.out().clone()));
        picker.set_pods(Arc::new(specs.iter().map(pod).collect()), Interest::All);
        picker
    }

    fn spec(k: usize) -> PodSpec {
        PodSpec::new(format!("pod-{k}"), format!("http://127.0.0.1:{k}"))
    }

    fn three() -> Picker {
        picker(&[spec(0), spec(1), spec(2)])
    }

    /// The pods that a dozen picks fall on, and the order in which they are tried when each in turn will not do.
    fn picked(picker: &Picker, model: &str) -> Vec<String> {
        let name = |_| picker.pick(NOW, &Request::new(model)).unwrap().pod().name().to_owned();
        let mut names: Vec<String> = (0..12).map(name).collect();
        names.sort();
        names.dedup();
        names
    }

    fn tried(picker: &Picker, model: &str) -> Vec<String> {
        let (mut tried, mut names) = (Vec::new(), Vec::new());
        while let Ok(ticket) = picker.pick(NOW, &Request::new(model).exclude(&tried)) {
            tried.push(ticket.pod().id());
            names.push(ticket.pod().name().to_owned());
        }
        names
    }

    /// A pod that lacks one model has others: it must lose the picks of that one alone, and get them back.
    #[test]
    fn a_pod_is_left_alone_for_the_models_that_it_lacks() {
        let picker = three();
        let pods = picker.pods();
        assert!(picker.set_available(NOW, pods[1].id(), "a", false));
        assert!(!picker.set_available(NOW, pods[1].id(), "a", false), "that is no news");
        assert_eq!(picked(&picker, "a"), ["pod-0", "pod-2"]);
        assert_eq!(picked(&picker, "b").len(), 3);
        assert!(picker.set_available(NOW, pods[1].id(), "a", true));
        assert_eq!(picked(&picker, "a").len(), 3);
    }

    /// What is known may be old: a pod that is said to lack a model must be tried before a request is given up, and a model
    /// that nobody has must get a pod's own answer.
    #[test]
    fn who_lacks_a_model_is_tried_last_and_tried_all_the_same() {
        let picker = three();
        let pods = picker.pods();
        picker.set_available(NOW, pods[0].id(), "m", false);
        pods[2].eject();
        assert_eq!(tried(&picker, "m"), ["pod-1", "pod-2", "pod-0"]);
        assert!(picker.may_be_served(NOW, "m"));
        pods.iter().for_each(|pod| _ = picker.set_available(NOW, pod.id(), "m", false));
        assert!(!picker.may_be_served(NOW, "m"));
        assert_eq!(picked(&picker, "m"), ["pod-0", "pod-1"], "of those that can be reached");
        let all: Vec<PodId> = pods.iter().map(|pod| pod.id()).collect();
        let error = picker.pick(NOW, &Request::new("m").exclude(&all)).unwrap_err();
        assert_eq!(error, PickError::NoneLeft { model: "m".into(), known: 3 });
    }

    /// Unloaded here and loaded there in one breath: where it was served a moment ago it is worth asking everybody; a name that
    /// nobody ever had is not.
    #[test]
    fn a_model_that_moved_is_worth_another_pod_for_a_while() {
        let (picker, second) = (three(), |s: u64| Time::from_nanos(s * 1_000_000_000));
        let pods = picker.pods();
        for model in ["m", "typo"] {
            let ticket = picker.pick(second(1), &Request::new(model)).unwrap();
            let outcome = if model == "m" { Outcome::Served } else { Outcome::Refused };
            ticket.finish(second(1), outcome);
            pods.iter().for_each(|pod| _ = picker.set_available(second(100), pod.id(), model, false));
        }
        let worth = |s| ["m", "typo"].map(|model| picker.may_be_served(second(s), model));
        assert_eq!((worth(100), worth(109), worth(110)), ([true, false], [true, false], [false, false]));
    }

    /// What a pod serves it has, whatever it was thought to lack. But what it began before the model was unloaded, and
    /// what it answered with an error, says nothing of the next request.
    #[test]
    fn who_serves_a_model_does_not_lack_it() {
        let (picker, second) = (picker(&[spec(0)]), |s: u64| Time::from_nanos(s * 1_000_000_000));
        let pods = picker.pods();
        let pick = |s| picker.pick(second(s), &Request::new("m")).unwrap();
        let lacks = |s| assert!(picker.set_available(second(s), pods[0].id(), "m", false));
        let is_fit = || !pods[0].lacks().any(|_| true);
        lacks(1);
        pick(2).finish(second(3), Outcome::Served);
        assert!(is_fit());
        assert_eq!(pods[0].lanes().iter().filter(|lane| lane.ends.is_on_trial()).count(), 0);
        let begun = pick(20);
        lacks(21);
        begun.finish(second(22), Outcome::Served);
        assert!(!is_fit());
        let mut wrong = pick(23);
        wrong.teaches_nothing();
        wrong.finish(second(24), Outcome::Served);
        pick(25).finish(second(26), Outcome::Refused);
        pick(27).finish(second(28), Outcome::Failed);
        assert!(!is_fit());
        pick(29).finish(second(30), Outcome::Served);
        assert!(is_fit());
    }

    /// Names that clients invent share one place: what is said of one of them must not keep the others away.
    #[test]
    fn names_that_are_not_kept_apart_are_never_marked() {
        let picker = three();
        let pods = picker.pods();
        for name in ["", &"x".repeat(300)] {
            assert!(!picker.set_available(NOW, pods[0].id(), name, false));
        }
        assert!(!picker.set_available(NOW, PodId::of("elsewhere"), "m", false));
        assert_eq!(picked(&picker, "").len(), 3);
    }

    /// An answer about all models at once marks those that were asked for, and leaves what it does not know.
    #[test]
    fn one_answer_marks_all_models() {
        let picker = three();
        let pods = picker.pods();
        ["a", "b", "c"].iter().for_each(|model| _ = picked(&picker, model));
        let has = |model: &Model| match model.name() {
            "a" => Some(true),
            "b" => Some(false),
            _ => None,
        };
        assert_eq!(picker.set_all_available(NOW, &pods[0], has), 1);
        assert_eq!(["a", "b", "c"].map(|model| picked(&picker, model).len()), [3, 2, 3]);
    }

    /// A pod that is about to end gets nothing while others are left, and everything where it is the last; one that lacks
    /// the model comes after it.
    #[test]
    fn a_draining_pod_is_picked_where_no_other_is_left() {
        let draining = PodSpec { draining: true, ..spec(0) };
        let picker = picker(&[draining, spec(1), spec(2)]);
        let pods = picker.pods();
        assert_eq!(picked(&picker, "m"), ["pod-1", "pod-2"]);
        picker.set_available(NOW, pods[2].id(), "m", false);
        assert_eq!(tried(&picker, "m"), ["pod-1", "pod-0", "pod-2"]);
        pods[1].eject();
        assert_eq!(tried(&picker, "m"), ["pod-0", "pod-1", "pod-2"]);
    }
}
