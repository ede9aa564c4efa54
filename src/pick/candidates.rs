//! The pods that may take a request, as a policy sees them.
//!
//! Nothing is copied: a policy reads what it wants to know of a pod where it stands, when it wants to know it. One that
//! looks at two pods costs two reads, however many there are.

use std::cell::Cell;

use super::places::{Place, Serving};
use super::scratch::Scratch;
use super::{Draw, ENOUGH, Request};
use crate::mutant::{self, Mutant};
use crate::observe::{Model, Part, Pod, PodLoad};
use crate::time::Time;

/// Chance of its own: policies draw by small numbers.
const SLOW_START: u64 = 1 << 32;

thread_local! {
    static SOME: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

/// See the module's description. Positions go from 0 to `len() - 1`.
#[derive(Clone, Copy)]
pub struct Candidates<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    Live(Live<'a>),
    Given { loads: &'a [PodLoad], parts: &'a [Vec<Part>] },
}

#[derive(Clone, Copy)]
struct Live<'a> {
    places: &'a [Place],
    /// Which of them, where not all may.
    some: Option<&'a [u32]>,
    model: &'a Model,
    now: Time,
}

/// One of them.
#[derive(Clone, Copy)]
pub(super) enum Candidate<'a> {
    Live { place: &'a Place, model: &'a Model, now: Time },
    Given { load: &'a PodLoad, parts: &'a [Part] },
}

impl<'a> Candidates<'a> {
    /// Pods that are loaded as `loads` say, for policies to be tried on.
    pub fn given(loads: &'a [PodLoad]) -> Candidates<'a> {
        Candidates::with_parts(loads, &[])
    }

    /// The same with the parts of each, lowest first.
    pub(super) fn with_parts(loads: &'a [PodLoad], parts: &'a [Vec<Part>]) -> Candidates<'a> {
        Candidates(Source::Given { loads, parts })
    }

    /// How many there are; a policy is never asked about none.
    #[inline]
    pub fn len(&self) -> usize {
        match self.0 {
            Source::Live(Live { places, some, .. }) => some.map_or(places.len(), <[u32]>::len),
            Source::Given { loads, .. } => loads.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The load of the pod at position `k`.
    ///
    /// # Panics
    /// Where there is none.
    pub fn load(&self, k: usize) -> PodLoad {
        self.at(k).load()
    }

    #[inline]
    pub(super) fn at(&self, k: usize) -> Candidate<'a> {
        match self.0 {
            Source::Live(Live { places, some, model, now }) => {
                let place = &places[some.map_or(k, |some| some[k] as usize)];
                Candidate::Live { place, model, now }
            }
            Source::Given { loads, parts } => {
                Candidate::Given { load: &loads[k], parts: parts.get(k).map_or(&[], Vec::as_slice) }
            }
        }
    }

    /// Puts what `of` says of each into `list`, in order. What kind they are is asked once, not of each: half of a pick is
    /// this loop.
    #[inline]
    pub(super) fn collect<T>(&self, list: &mut Vec<T>, of: impl Fn(Candidate<'a>) -> T) {
        match self.0 {
            Source::Live(Live { places, some: None, model, now }) => {
                list.extend(places.iter().map(|place| of(Candidate::Live { place, model, now })));
            }
            _ => list.extend((0..self.len()).map(|k| of(self.at(k)))),
        }
    }
}

impl Candidate<'_> {
    pub(super) fn load(&self) -> PodLoad {
        match self {
            Candidate::Live { place, .. } => place.pod.load(place.index),
            Candidate::Given { load, .. } => **load,
        }
    }

    /// How long its work takes it, ms; in another zone, more.
    #[inline]
    pub(super) fn cost_per_capacity_ms(&self) -> f32 {
        match self {
            Candidate::Live { place, .. } => place.pod.gauge.all_wait_ms() + place.pod.gauge.away_ms(),
            Candidate::Given { load, .. } => load.cost_per_capacity_ms(),
        }
    }

    /// Its speed relative to the others, and how many times as long it takes.
    #[inline]
    pub(super) fn speed(&self) -> (f32, f32) {
        match self {
            Candidate::Live { place, .. } => place.pod.gauge.speed(),
            Candidate::Given { load, .. } => (load.weight, 1.0 / load.weight),
        }
    }

    /// What a new request would meet at its lowest part.
    #[inline]
    pub(super) fn lowest(&self) -> Part {
        match self {
            Candidate::Live { place, model, now } => {
                place.parts(model, 0.0, *now).lowest().raised(place.pod.gauge.away_ms())
            }
            Candidate::Given { parts: [lowest, ..], .. } => *lowest,
            Candidate::Given { load, parts: [] } => {
                let slots = load.slots as f32;
                let wait_ms = if load.in_flight < slots { 0.0 } else { load.cost_per_capacity_ms() };
                Part { wait_ms, slots, open: None }
            }
        }
    }

    /// Whether there are others.
    #[inline]
    pub(super) fn has_others(&self) -> bool {
        match self {
            Candidate::Live { place, model, .. } => place.lane(model).is_some_and(|lane| lane.heights.len() > 1),
            Candidate::Given { parts, .. } => parts.len() > 1,
        }
    }

    /// What it would meet at the others, from the lowest up, while `take` takes them.
    pub(super) fn others(&self, mut take: impl FnMut(Part) -> bool) {
        match self {
            Candidate::Live { place, model, now } => {
                let parts = place.parts(model, 0.0, *now);
                let away_ms = place.pod.gauge.away_ms();
                let _all = (1..=parts.others()).all(|k| take(parts.get(k).raised(away_ms)));
            }
            Candidate::Given { parts, .. } => {
                let _all = parts.iter().skip(1).all(|part| take(*part));
            }
        }
    }
}

/// Fills `some` with those that are picked where no fit pod is left that can be reached: those that drain; else whoever is
/// known to have the model, reachable or not, because it may answer; else whoever may have it all the same.
fn last_resort<I: Iterator<Item = u32>>(
    serving: &Serving,
    some: &mut Scratch<u32>,
    untried: impl Fn(usize) -> I,
    out: impl Fn(&u32) -> bool,
) {
    let all = if mutant::is(Mutant::TrustMarks) { serving.have } else { serving.places.len() };
    for upto in [serving.have, all] {
        some.extend(untried(upto).filter(|k| !out(k)));
        if some.is_empty() {
            some.extend(untried(upto));
        }
        if let Some(first) = some.first().map(|k| serving.places[*k as usize].rank) {
            // They are in the order of their ranks.
            some.retain(|k| serving.places[*k as usize].rank == first);
            return;
        }
    }
}

/// The pods that may take a request.
pub(super) struct Choice<'a> {
    places: &'a [Place],
    /// Which of them, where not all may.
    some: Option<Scratch<u32>>,
    /// Whether any was left out because it is full.
    pub(super) any_full: bool,
}

impl<'a> Choice<'a> {
    /// Of the first rank those not ejected: of the pods that this node uses, or of all where fewer than [`ENOUGH`] of these
    /// are left. Where there is none, what [`last_resort`] leaves. Those that start slowly take part as `draw` has
    /// it, and those that are on trial with one request at a time, while they are few. `any_out` says whether there are any of
    /// these at all.
    pub(super) fn of(
        (serving, model): (&'a Serving, &Model),
        request: &Request<'_>,
        any_out: bool,
        draw: &Draw,
    ) -> Choice<'a> {
        let (places, used, first) = (&serving.places[..], serving.used, serving.first);
        let parted = used < first;
        let restricted = !request.exclude.is_empty() || !request.among.is_empty() || request.at_most.is_some();
        if !any_out && !restricted && (!parted || used >= ENOUGH) {
            return Choice { places: &places[..used], some: None, any_full: false };
        }
        let any_full = Cell::new(false);
        let is_full = |pod: &Pod| request.at_most.is_some_and(|most| pod.in_flight() >= most as f32);
        let tried = |k: &u32| {
            let pod = &places[*k as usize].pod;
            let id = pod.id();
            if request.exclude.contains(&id) && !mutant::is(Mutant::RetryTheSame) {
                return true;
            }
            if !request.among.is_empty() && !request.among.contains(&id) {
                return true;
            }
            let full = is_full(pod);
            any_full.set(any_full.get() || full);
            full
        };
        let out = |k: &u32| places[*k as usize].pod.is_ejected() && !mutant::is(Mutant::PickEjected);
        let untried = |upto: usize| (0..upto as u32).filter(|k| !tried(k));
        // What is on trial gets one request at a time.
        let waits = |k: &u32| places[*k as usize].is_tried_now(model) && !mutant::is(Mutant::TryWithAll);
        let mut some = Scratch::of(&SOME);
        some.extend(untried(used).filter(|k| !out(k)));
        if parted && some.len() < ENOUGH {
            some.clear();
            some.extend(untried(first).filter(|k| !out(k)));
        }
        if some.is_empty() && !mutant::is(Mutant::FailWhenAllEjected) {
            last_resort(serving, &mut some, untried, out);
        } else if any_out {
            let chance = |k: u32| move |below| draw.below(SLOW_START + u64::from(k), below);
            let takes_part = |k: &u32| places[*k as usize].pod.takes_part(chance(*k)) && !waits(k);
            // Each is asked once, because what is in flight changes meanwhile.
            let mut present = 0;
            for k in 0..some.len() {
                if takes_part(&some[k]) {
                    some.swap(present, k);
                    present += 1;
                }
            }
            // A model's pods may be few, and most of them new: then the old ones must not have to do it all.
            match some.len() - present <= some.len() / 2 {
                true => some.truncate(present),
                false => some.sort_unstable(),
            }
        }
        Choice { places, some: Some(some), any_full: any_full.get() }
    }

    /// As a policy sees them at `now`, for a request of `model`.
    #[inline]
    pub(super) fn candidates<'s>(&'s self, model: &'s Model, now: Time) -> Candidates<'s> {
        let some = self.some.as_ref().map(|some| some.as_slice());
        Candidates(Source::Live(Live { places: self.places, some, model, now }))
    }

    /// All of them.
    pub(super) fn places(&self) -> impl Iterator<Item = &'a Place> {
        let count = self.some.as_ref().map_or(self.places.len(), |some| some.len());
        (0..count).map(|k| self.place(k))
    }

    /// The one at position `k`.
    #[inline]
    pub(super) fn place(&self, k: usize) -> &'a Place {
        &self.places[self.some.as_ref().map_or(k, |some| some[k] as usize)]
    }
}
