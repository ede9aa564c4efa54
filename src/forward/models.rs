//! Which models each pod has ready: asked of it from time to time, and read out of its refusals.
//!
//! One question tells nearly all: Triton's `RepositoryIndex` with `ready`, at the price of one `ModelReady` (0.4 ms).
//! Its yes is one. Its no is none: a model that was loaded with files of its caller's (`file:` overrides, 2.51) is not
//! in it, though `ModelReady` says yes. So what it leaves out is asked about one by one, a few at a time, before it is
//! believed to be missing; and so is everything on a server that does not know the index. `ServerReady` would say less:
//! it turns false while any model loads.
//!
//! Answers win over what was asked: a model that served meanwhile is there, and one that is refused as unknown is not.
//! And what was said long ago is no reason to refuse anybody: see [`tell`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use plimsoll_proto::inference::{ModelReadyRequest, RepositoryIndexRequest, RepositoryIndexResponse};
use prost::Message;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tracing::{debug, info};

use super::ask::{ask, framed, says_yes};
use super::pending;
use super::readmit::check_soon;
use super::upstream::Upstream;
use crate::core::Health;
use crate::driver::clock;
use crate::observe::{Model, Pod};
use crate::pick::{Looks, Picker, Readmission};
use crate::time::Time;

const INDEX: &str = "/inference.GRPCInferenceService/RepositoryIndex";
const MODEL_READY: &str = "/inference.GRPCInferenceService/ModelReady";
/// How often it is looked which pod is to be asked: as often as the soonest question may come.
const LOOK: Duration = Duration::from_millis(50);
/// Pods that are asked at once: a fleet of hundreds must not be asked in one breath.
const AT_ONCE: usize = 16;
/// Models of one pod that are asked about at one look, where it must be one by one.
const ONE_BY_ONE: usize = 8;
/// While a name is asked for that all are thought to lack, each is asked so often: somebody may have loaded it. A load
/// that was made past this node shows after that, and made-up names cost no more than that.
const SOUGHT: Duration = Duration::from_secs(1);
/// Names of one pod's answer that are remembered. A repository of more is one of models that nobody asked for here.
const MOST_NAMES: usize = 16 << 10;
/// What a Triton that is ready says of a version in its index.
const READY: &str = "READY";

/// What a refusal says is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The model, whichever version.
    Model,
    /// The version that was asked for; others may be there.
    Version,
}

/// What a pod that answers so lacks, as it says: nothing of the request was begun then. Triton's words (2.51); the code alone would not do, because a model may answer with any code itself.
pub(super) fn missing_of(code: Code, message: &str) -> Option<Missing> {
    let unknown = message.contains("Request for unknown model: ");
    match code {
        Code::NotFound if message.ends_with("has no available versions") => Some(Missing::Model),
        Code::NotFound if unknown && message.ends_with(" is not found") => {
            let named = message.rsplit_once('\'').map_or("", |(_, rest)| rest);
            Some(if named.starts_with(" version ") { Missing::Version } else { Missing::Model })
        }
        Code::Unavailable if unknown && message.ends_with(" is not at ready state") => Some(Missing::Version),
        // A Triton that shuts down says so for a moment, from the scheduler that stops.
        Code::Unavailable if message.contains("has stopped accepting new inference requests") => Some(Missing::Model),
        _ => None,
    }
}

/// Notes that `pod` refused a request for `model` because of what is missing there. Says whether it is worth another pod: if
/// not, the answer is the caller's.
///
/// It is where another pod may have the model, or one had it just now, and where this pod's refusal, or that of one tried before (`news`, one for each
/// request), is news: then the fleet is changing, and what is known of the others may be old. So a name that nobody knows costs
/// each pod one request, and after that each request one pod, and all of them a question a second ([`SOUGHT`]).
///
/// A missing version is nobody's mark, because requests for other versions may be served there: whoever calls bounds for how
/// many pods it is worth it.
pub(super) fn lacks(picker: &Picker, pod: &Arc<Pod>, model: &str, missing: Missing, news: &mut bool) -> bool {
    if missing == Missing::Version {
        Upstream::of(pod).looks.soon(clock::now());
        return true;
    }
    let (now, looks) = (clock::now(), &Upstream::of(pod).looks);
    if picker.set_available(now, pod.id(), model, false) {
        *news = true;
        // Names that callers make up are no news of the pod.
        if has_served(pod, picker.model(model)) || looks.said_ready(model) {
            info!(pod = pod.name(), model, "does not have the model ready, by its answer");
        } else {
            debug!(pod = pod.name(), model, "does not know the model, by its answer");
        }
        looks.soon(now);
        // So answers one that shuts down, too.
        check_soon(pod);
    }
    let worth = *news || picker.may_be_served(now, model);
    // One lock for most refusals: who refused stands for all.
    if !worth && looks.sought(now) {
        picker.pods().iter().for_each(|pod| _ = Upstream::of(pod).looks.sought(now));
    }
    worth
}

fn has_served(pod: &Pod, model: &Model) -> bool {
    pod.existing_lane(model).is_some_and(|lane| lane.served() > 0)
}

/// What one pod said of its models, and when it is asked next.
#[derive(Default)]
pub(super) struct Asking(Mutex<Said>);

#[derive(Default)]
struct Said {
    /// None until the first look.
    looks: Option<Looks>,
    due: Time,
    /// When it was asked last.
    at: Time,
    asking: bool,
    /// Whether it was asked to hurry while it was being asked.
    hurried: bool,
    /// What is ready there, if it ever said.
    ready: Option<Arc<BTreeSet<Box<str>>>>,
    /// Whether it must be asked about each model.
    one_by_one: bool,
    /// Of which model it is asked next then.
    turn: usize,
}

impl Asking {
    fn lock(&self) -> MutexGuard<'_, Said> {
        // Nothing here can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It said something new, or came back: it is asked soon.
    pub(super) fn soon(&self, now: Time) {
        let said = &mut *self.lock();
        let Some(looks) = &mut said.looks else { return };
        looks.hurry();
        said.hurried = said.asking;
        said.due = said.due.min(now + looks.next_pause());
    }

    /// It is asked for what it is thought to lack: it is asked a while after the last time. Says whether that is sooner
    /// than it would have been.
    fn sought(&self, now: Time) -> bool {
        let said = &mut *self.lock();
        let due = (said.at + SOUGHT).max(now);
        let sooner = said.looks.is_some() && !said.asking && due < said.due;
        if sooner {
            said.due = due;
        }
        sooner
    }

    /// Whether its last index had the model ready.
    fn said_ready(&self, model: &str) -> bool {
        self.lock().ready.as_ref().is_some_and(|ready| ready.contains(model))
    }

    /// Whether it is to be asked now; then it is being asked until [`Asking::asked`].
    fn begin(&self, now: Time, new: impl FnOnce() -> Looks) -> bool {
        let said = &mut *self.lock();
        said.looks.get_or_insert_with(new);
        let begins = !said.asking && said.due <= now;
        said.asking |= begins;
        begins
    }

    /// It was asked; `news` says whether it said something new.
    fn asked(&self, now: Time, news: bool) {
        let said = &mut *self.lock();
        (said.asking, said.at) = (false, now);
        let Some(looks) = &mut said.looks else { return };
        if news || std::mem::take(&mut said.hurried) {
            looks.hurry();
        }
        said.due = now + looks.next_pause();
    }
}

/// Asks all pods of `picker`, each as often as `health` says, and whether they live those that owe an answer, for as long as
/// `wanted` says.
pub(super) async fn follow(picker: Picker, health: Health, wanted: impl Fn() -> bool) {
    let every = health.interval;
    let give_up_ms = u64::try_from(health.give_up.as_millis()).unwrap_or(u64::MAX);
    let mut asked = JoinSet::new();
    let mut known = 0;
    while wanted() {
        let now = clock::now();
        while asked.try_join_next().is_some() {}
        let (pods, count) = (picker.pods(), picker.model_count());
        // A model that was not asked for before may be one that pods told of long ago.
        if count > known {
            tell(&picker, &pods, known);
            known = count;
        }
        for pod in pods.iter() {
            Upstream::of(pod).give_up_ms.store(give_up_ms, Relaxed);
            // Whoever was ejected is asked whether it lives, and about its models once it does.
            if pod.is_ejected() {
                continue;
            }
            if pod.is_overdue(now) {
                check_soon(pod);
            }
            if asked.len() >= AT_ONCE {
                continue;
            }
            if pod.spec().metrics.is_some() && pod.own_remainders() > 0 && Upstream::of(pod).due.begin(now) {
                asked.spawn(pending::read(picker.clone(), pod.clone()));
            }
            if every.is_zero() {
                continue;
            }
            if Upstream::of(pod).looks.begin(now, || Looks::new(now.as_nanos() ^ pod.id().0, every)) {
                asked.spawn(look(picker.clone(), pod.clone()));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Applies what `pods` said to the models that were not asked for by then, from that number on: those that did not name
/// one are left alone for it where others did. Where nobody did, it may have been loaded since, and what all said long
/// ago would have its callers refused: then the first request finds out, because each pod's first refusal sends it to
/// another one.
fn tell(picker: &Picker, pods: &[Arc<Pod>], from: usize) {
    let said = |pod: &Arc<Pod>| Some((pod.clone(), Upstream::of(pod).looks.lock().ready.clone()?));
    let said: Vec<_> = pods.iter().filter(|pod| !pod.is_ejected()).filter_map(said).collect();
    let has = |model: &Model| said.iter().any(|(pod, ready)| pod.serves(model) && ready.contains(model.name()));
    let new = picker.models().into_iter().filter(|model| model.index >= from && has(model));
    let new: BTreeSet<usize> = new.map(|model| model.index).collect();
    for (pod, ready) in said.iter().filter(|_| !new.is_empty()) {
        let lacks = |model: &Model| !ready.contains(model.name()) && pod.serves(model) && !has_served(pod, model);
        picker.set_all_available(clock::now(), pod, |model| {
            (new.contains(&model.index) && lacks(model)).then_some(false)
        });
    }
}

/// Asks one pod.
async fn look(picker: Picker, pod: Arc<Pod>) {
    let looks = &Upstream::of(&pod).looks;
    let served: BTreeMap<usize, u32> = pod.lanes().iter().map(|lane| (lane.model.index, lane.served())).collect();
    let one_by_one = looks.lock().one_by_one;
    let mut news = 0;
    match ask_about(&picker, &pod, one_by_one).await {
        Ok(ready) => {
            // Whatever served since it was asked is there, whatever it says.
            let serves = |model: &Model| {
                let now = pod.existing_lane(model).map(|lane| lane.served());
                now != served.get(&model.index).copied()
            };
            news = picker.set_all_available(clock::now(), &pod, |model| {
                let has = ready.has(model).filter(|_| pod.serves(model))?;
                (has || !serves(model)).then_some(has)
            });
            if news > 0 {
                info!(pod = pod.name(), models = news, "has other models ready than before");
            }
        }
        Err(status) if status.code() == Code::Unimplemented => looks.lock().one_by_one = true,
        Err(status) => {
            debug!(pod = pod.name(), %status, "cannot say which models are ready");
            // It shuts down, or hangs, or is gone.
            check_soon(&pod);
        }
    }
    looks.asked(clock::now(), news > 0);
}

/// What a pod said.
struct Ready {
    /// What its index calls ready.
    names: Arc<BTreeSet<Box<str>>>,
    /// Of others, by their indexes, whether they are.
    others: BTreeMap<usize, bool>,
}

impl Ready {
    /// None where nothing was said of it.
    fn has(&self, model: &Model) -> Option<bool> {
        if self.names.contains(model.name()) { Some(true) } else { self.others.get(&model.index).copied() }
    }
}

async fn ask_about(picker: &Picker, pod: &Pod, one_by_one: bool) -> Result<Ready, Status> {
    let names = if one_by_one { Arc::default() } else { ask_index(pod).await? };
    let others = ask_one_by_one(picker, pod, &names).await?;
    Ok(Ready { names, others })
}

async fn ask_index(pod: &Pod) -> Result<Arc<BTreeSet<Box<str>>>, Status> {
    let question = framed(&RepositoryIndexRequest { ready: true, ..RepositoryIndexRequest::default() });
    let answer = ask(pod, INDEX, HeaderMap::new(), question, Readmission::ANSWER).await?;
    let names = Arc::new(decode(&answer)?);
    Upstream::of(pod).looks.lock().ready = (!names.is_empty()).then(|| names.clone());
    Ok(names)
}

/// The models that an index calls ready in any version.
fn decode(answer: &[u8]) -> Result<BTreeSet<Box<str>>, Status> {
    let bad = |why: &dyn std::fmt::Display| Status::data_loss(format!("not an index of models: {why}"));
    let message = answer.get(super::body::PREFIX..).ok_or_else(|| bad(&"no message"))?;
    let index = RepositoryIndexResponse::decode(message).map_err(|error| bad(&error))?;
    if index.models.len() > MOST_NAMES {
        return Err(bad(&format!("{} models, of which {MOST_NAMES} are kept apart", index.models.len())));
    }
    Ok(index.models.into_iter().filter(|model| model.state == READY).map(|model| model.name.into()).collect())
}

/// Asks about the next few of the models that matter on this pod. Beside an index (`names`) it is those that are
/// missing in it and not known to be missing, or served once. Where it is empty (of a server that keeps none, or has
/// nothing) it is those that the pod was asked for, and those that it is said to lack.
async fn ask_one_by_one(
    picker: &Picker,
    pod: &Pod,
    names: &BTreeSet<Box<str>>,
) -> Result<BTreeMap<usize, bool>, Status> {
    let matters = |model: &Arc<Model>| {
        let lacks = pod.fitness.lacks.has(model.index);
        match names.is_empty() {
            true => lacks || pod.existing_lane(model).is_some(),
            false => !names.contains(model.name()) && pod.serves(model) && (!lacks || has_served(pod, model)),
        }
    };
    let models: Vec<Arc<Model>> = picker.models().into_iter().skip(1).filter(matters).collect();
    let first = {
        let said = &mut *Upstream::of(pod).looks.lock();
        let first = said.turn;
        said.turn = (first + ONE_BY_ONE) % models.len().max(1);
        first
    };
    let mut said = BTreeMap::new();
    for model in models.iter().cycle().skip(first).take(ONE_BY_ONE.min(models.len())) {
        let question = framed(&ModelReadyRequest { name: model.name().to_owned(), version: String::new() });
        let answer = ask(pod, MODEL_READY, HeaderMap::new(), question, Readmission::ANSWER).await;
        let ready = match answer {
            Ok(answer) => says_yes(&answer),
            Err(status) if status.code() == Code::NotFound => false,
            // Nothing can be asked of it: then it has what it is asked for, or what its index says.
            Err(status) if status.code() == Code::Unimplemented => names.is_empty(),
            Err(status) => return Err(status),
        };
        said.insert(model.index, ready);
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use plimsoll_proto::inference::repository_index_response::ModelIndex;

    use super::*;

    /// Word for word what Triton 2.51 says. A text that is misread sends a caller's typo round the fleet, or an unloaded
    /// model's requests back to their callers.
    #[test]
    fn refusals_tell_a_missing_model_from_a_missing_version_and_from_anything_else() {
        use Code::{Internal, InvalidArgument, NotFound, Unavailable};
        let unknown = |rest: &str| format!("[request id: x1] Request for unknown model: 'sim_gpu' {rest}");
        for (code, message, said) in [
            (NotFound, unknown("has no available versions"), Some(Missing::Model)),
            (NotFound, unknown("is not found"), Some(Missing::Model)),
            (NotFound, unknown("version 7 is not found"), Some(Missing::Version)),
            (Unavailable, unknown("version 1 is not at ready state"), Some(Missing::Version)),
            (NotFound, "Unable to find shared memory region: 'r0'".into(), None),
            (NotFound, "user 7 is not found".into(), None),
            (InvalidArgument, unknown("is not found"), None),
            (Internal, "Stub process 'sim_gpu_0_0' is not healthy.".into(), None),
            (Unavailable, "Exceeds maximum queue size".into(), None),
        ] {
            assert_eq!(missing_of(code, &message), said, "{code:?} {message}");
        }
    }

    /// An index is bytes from outside, and says of each version how it is.
    #[test]
    fn an_index_tells_what_is_ready() {
        let model = |name: &str, version: &str, state: &str| ModelIndex {
            name: name.into(),
            version: version.into(),
            state: state.into(),
            ..ModelIndex::default()
        };
        let models = vec![
            model("a", "1", "UNAVAILABLE"),
            model("a", "2", "READY"),
            model("b", "1", "LOADING"),
            model("c", "", ""),
            model("d", "1", "READY"),
        ];
        let names = decode(&framed(&RepositoryIndexResponse { models })).unwrap();
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "d"]);
        assert!(decode(&framed(&RepositoryIndexResponse::default())).unwrap().is_empty());
        let many = (0..=MOST_NAMES).map(|k| model(&format!("m{k}"), "1", "READY")).collect();
        for bad in
            [&[][..], &[0, 0, 0], &[0, 0, 0, 0, 2, 0xff, 0xff], &framed(&RepositoryIndexResponse { models: many })]
        {
            assert_eq!(decode(bad).unwrap_err().code(), Code::DataLoss);
        }
    }

    /// What changes while a pod is being asked may not be in its answer: it is asked soon once more.
    #[test]
    fn a_change_during_a_question_has_it_asked_again_soon() {
        let (asking, second) = (Asking::default(), |s: u64| Time::from_nanos(s * 1_000_000_000));
        let new = || Looks::new(1, Duration::from_secs(60));
        assert!(asking.begin(second(1), new) && !asking.begin(second(1), new));
        asking.asked(second(1), false);
        assert!(!asking.begin(second(20), new) && asking.begin(second(100), new));
        asking.soon(second(100));
        asking.asked(second(101), false);
        assert!(asking.begin(second(102), new));
    }

    /// Callers may ask for a name that nobody has as often as they like: the pods must hear of it soon, and once a
    /// second.
    #[test]
    fn a_name_that_all_lack_has_them_asked_once_a_second() {
        let (asking, ms) = (Asking::default(), |ms: u64| Time::from_nanos(ms * 1_000_000));
        let new = || Looks::new(1, Duration::from_secs(60));
        assert!(!asking.sought(ms(0)), "nobody asks it anything");
        assert!(asking.begin(ms(1000), new) && !asking.sought(ms(1000)), "it is being asked");
        asking.asked(ms(1000), false);
        assert!(!asking.begin(ms(5000), new) && asking.sought(ms(5000)) && !asking.sought(ms(5001)));
        assert!(asking.begin(ms(5000), new));
        asking.asked(ms(5000), false);
        assert!(asking.sought(ms(5200)) && !asking.begin(ms(5999), new) && asking.begin(ms(6000), new));
    }
}
