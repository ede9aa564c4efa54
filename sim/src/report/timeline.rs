//! Each pod over time around an event: where a herd or a hesitation shows.

use serde::{Deserialize, Serialize};

use super::{Unit, Windows, figure};

/// What each pod did, window by window, before and after something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Who picked.
    pub policy: String,
    /// Under which seed.
    pub seed: u64,
    /// What happened, in words: `pod-3 joins`.
    pub event: String,
    /// When, in seconds of the run.
    pub event_s: f64,
    /// Where the first window begins.
    pub from_s: f64,
    /// How long a window is.
    pub window_s: f64,
    /// What the values are, in words: `busy share`.
    pub words: String,
    /// And what they count in.
    pub unit: Unit,
    /// In the order of the pods.
    pub pods: Vec<PodLine>,
}

/// One pod of a [`Timeline`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodLine {
    /// Its name.
    pub name: String,
    /// Whether the event is about it.
    #[serde(default)]
    pub marked: bool,
    /// A value for each window.
    #[serde(with = "figure::list")]
    pub values: Vec<f64>,
}

impl Timeline {
    /// The busy shares of pods `pod-0`, `pod-1`, ...; `marked` says which the event is about.
    pub fn of_busy_shares(
        windows: &Windows,
        policy: impl Into<String>,
        seed: u64,
        (event, event_s): (impl Into<String>, f64),
        marked: &[usize],
    ) -> Timeline {
        let line = |pod: usize| PodLine {
            name: format!("pod-{pod}"),
            marked: marked.contains(&pod),
            values: windows.shares(pod),
        };
        Timeline {
            policy: policy.into(),
            seed,
            event: event.into(),
            event_s,
            from_s: windows.from_s(),
            window_s: windows.window_s(),
            words: "busy share".to_owned(),
            unit: Unit::Share,
            pods: (0..windows.pods()).map(line).collect(),
        }
    }
}
