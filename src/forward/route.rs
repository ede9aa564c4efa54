//! Which pods may take a request, where not all may: one that a header pins it to, the one that holds its sequence, the few that
//! its key keeps to.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use lru::LruCache;
use smallvec::SmallVec;
use tonic::Status;

use super::call::Call;
use super::options::{Affinity, ForwardOptions};
use super::peek::{Sequence, SequenceId};
use super::pin::take_pin;
use crate::id::PodId;
use crate::node::Node;
use crate::observe::Pod;
use crate::pick::mix;

/// Running sequences that one node remembers. One that is forgotten is found again by its hash, at the price of a second try.
/// (It is no zero, which the compiler sees.)
const SEQUENCES: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();
/// The pods that a sequence may begin on: two are enough to leave the busier one out, and few enough to be tried one after the
/// other by a node that does not remember.
const CHOICES: usize = 2;
/// Where all of a key's pods have more than so many times the mean in flight, the next one takes part: the bound of
/// consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016) at the value that they recommend.
const BOUND: f32 = 1.25;

/// The pods that may take one request, and what that means.
#[derive(Debug)]
pub(super) enum Route {
    /// Any.
    Free,
    /// This one, whatever becomes of it there.
    Pinned(Arc<Pod>),
    /// This one, which has the beginning of its sequence.
    Held(Arc<Pod>, SequenceKey),
    /// One of these: the first where its sequence was, as far as can be known; then the others.
    Continues(Pods, SequenceKey),
    /// The less busy of these, which then holds its sequence.
    Begins(Pods, SequenceKey),
    /// One of these, by their load; any where none of them takes it.
    Near(Pods),
}

pub(super) type Pods = SmallVec<[PodId; 4]>;

/// A running sequence.
pub(super) type SequenceKey = (Box<str>, SequenceId);

/// Where the running sequences are.
pub(super) struct Sequences(Mutex<LruCache<SequenceKey, PodId>>);

impl Default for Sequences {
    fn default() -> Sequences {
        Sequences(Mutex::new(LruCache::new(SEQUENCES)))
    }
}

impl fmt::Debug for Sequences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequences").field("held", &self.lock().len()).finish()
    }
}

impl Sequences {
    fn get(&self, key: &SequenceKey) -> Option<PodId> {
        self.lock().get(key).copied()
    }

    /// `pod` has the beginning of the sequence.
    pub(super) fn hold(&self, key: SequenceKey, pod: PodId) {
        self.lock().put(key, pod);
    }

    /// It ended, or nobody has its beginning.
    pub(super) fn forget(&self, key: &SequenceKey) {
        self.lock().pop(key);
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<SequenceKey, PodId>> {
        // Each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way of `call`, by its headers and parameters; a pin is taken out of the headers.
///
/// # Errors
/// INVALID_ARGUMENT where it is pinned to a pod that is not there, UNAVAILABLE where that does not speak its protocol, or the
/// pod of its sequence is gone.
pub(super) fn route(
    node: &Node,
    options: &ForwardOptions,
    sequences: &Sequences,
    call: &Call,
    headers: &mut HeaderMap,
) -> Result<Route, Status> {
    let pods = node.picker().pods();
    if let Some(pod) = take_pin(&pods, headers)? {
        return match call.face.is_spoken_by(pod.spec()) {
            true => Ok(Route::Pinned(pod)),
            false => {
                Err(Status::unavailable(format!("pod `{}` has no address for HTTP: ask it over gRPC", pod.name())))
            }
        };
    }
    if !call.is_inference() {
        return Ok(Route::Free);
    }
    if let Some(sequence) = call.peek.parameters.sequence() {
        return of_sequence(node, sequences, call, sequence);
    }
    let affinity = options.model(call.model()).and_then(|model| model.affinity.as_ref());
    match affinity.and_then(|affinity| Some((affinity, key_of(affinity, call, headers)?))) {
        Some((affinity, key)) => Ok(Route::Near(near(node, call, key, affinity.pods))),
        None => Ok(Route::Free),
    }
}

fn of_sequence(node: &Node, sequences: &Sequences, call: &Call, sequence: Sequence) -> Result<Route, Status> {
    let pods = in_order(node, call, hash(&sequence.id));
    // A pod that cannot say that it has not seen the beginning must be found at once.
    let choices = if sequence.is_known { CHOICES } else { 1 };
    let choices: Pods = pods.iter().take(choices).map(|pod| pod.id()).collect();
    let key: SequenceKey = (call.model().into(), sequence.id);
    if sequence.start {
        return Ok(Route::Begins(choices, key));
    }
    let Some(held) = sequences.get(&key) else { return Ok(Route::Continues(choices, key)) };
    let known = node.picker().pods();
    match known.iter().find(|pod| pod.id() == held) {
        Some(pod) if !pod.is_ejected() && call.face.is_spoken_by(pod.spec()) => Ok(Route::Held(pod.clone(), key)),
        gone => {
            sequences.forget(&key);
            let pod = gone.map_or_else(|| "its pod".to_owned(), |pod| format!("pod `{}`", pod.name()));
            Err(Status::unavailable(format!(
                "sequence {} of model `{}` is lost: {pod} is gone; begin it again with sequence_start",
                key.1, key.0
            )))
        }
    }
}

fn key_of(affinity: &Affinity, call: &Call, headers: &HeaderMap) -> Option<u64> {
    let of_text = |text: &str| hash(&SequenceId::Text(text.into()));
    match call.peek.parameters.get(&affinity.key) {
        Some(value) => Some(of_text(&value.text())),
        None => headers.get(&affinity.key).map(|value| of_text(&String::from_utf8_lossy(value.as_bytes()))),
    }
}

/// The `most` pods that are nearest to `key`, and as many more as it takes for one of them to have no more than its share.
fn near(node: &Node, call: &Call, key: u64, most: usize) -> Pods {
    let pods = in_order(node, call, key);
    let share = |pod: &Arc<Pod>| pod.in_flight() / pod.slots() as f32;
    let mean = pods.iter().map(share).sum::<f32>() / pods.len().max(1) as f32;
    let within = |pod: &Arc<Pod>| share(pod) <= (BOUND * mean).max(1.0);
    let first_within = pods.iter().position(within).unwrap_or(0);
    pods.iter().take(most.max(first_within + 1)).map(|pod| pod.id()).collect()
}

/// The pods of the call's model that are in, nearest to `key` first: by the highest random weight (Thaler, Ravishankar 1998),
/// so that a pod that comes or goes moves its own keys and no others.
fn in_order(node: &Node, call: &Call, key: u64) -> Vec<Arc<Pod>> {
    let picker = node.picker();
    let model = picker.model(call.model());
    let may = |pod: &&Arc<Pod>| pod.serves(model) && !pod.is_ejected() && call.face.is_spoken_by(pod.spec());
    let mut pods: Vec<Arc<Pod>> = picker.pods().iter().filter(may).cloned().collect();
    pods.sort_by_cached_key(|pod| std::cmp::Reverse((mix(pod.id().0 ^ key), pod.id().0)));
    pods
}

/// The same on every node, in every run.
fn hash(id: &SequenceId) -> u64 {
    match id {
        SequenceId::Number(number) => mix(*number),
        SequenceId::Text(text) => text.bytes().fold(1, |hash, byte| mix(hash ^ u64::from(byte))),
    }
}

impl Route {
    /// The pods that may take it; all where none is named.
    pub(super) fn among(&self, tried: &[PodId]) -> Pods {
        let first_untried = |pods: &Pods| pods.iter().find(|pod| !tried.contains(pod)).copied().into_iter().collect();
        match self {
            Route::Free => Pods::new(),
            Route::Pinned(pod) | Route::Held(pod, _) => Pods::from_iter([pod.id()]),
            Route::Continues(pods, _) => first_untried(pods),
            Route::Begins(pods, _) | Route::Near(pods) if pods.iter().any(|pod| !tried.contains(pod)) => pods.clone(),
            Route::Begins(..) | Route::Near(_) => Pods::new(),
        }
    }

    /// Whether another pod may take it where one did not.
    pub(super) fn may_move(&self) -> bool {
        !matches!(self, Route::Pinned(_) | Route::Held(..))
    }

    /// Its sequence.
    pub(super) fn sequence(&self) -> Option<&SequenceKey> {
        match self {
            Route::Held(_, key) | Route::Continues(_, key) | Route::Begins(_, key) => Some(key),
            Route::Free | Route::Pinned(_) | Route::Near(_) => None,
        }
    }
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SequenceId::Number(number) => write!(f, "{number}"),
            SequenceId::Text(text) => write!(f, "`{}`", text.escape_debug()),
        }
    }
}
