//! Deliberate bugs, to prove that the simulator's checkers bite.
//!
//! Each is one line in its place, behind [`is`], and breaks one promise in a way that programs like this one have been
//! broken before. Without the feature `mutants` that line is a constant `false`, and nothing of it is left in the
//! product. With it none is active until `set` says so, for the whole process. Judge them in release: in debug,
//! assertions stop some of them before any checker can see them.

use std::fmt;
use std::str::FromStr;

macro_rules! mutants {
    ($($mutant:ident $name:literal $caught_by:literal $story:literal)*) => {
        /// A deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Mutant {
            $(#[doc = $story] $mutant,)*
        }

        impl Mutant {
            /// All of them, by the part that they break: tickets, picks, rows, membership, bounds.
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant),*];

            /// What people call it.
            pub const fn name(self) -> &'static str {
                match self { $(Mutant::$mutant => $name,)* }
            }

            /// What it breaks.
            pub const fn story(self) -> &'static str {
                match self { $(Mutant::$mutant => $story,)* }
            }

            /// The simulator's invariant that should find it, I1 to I20.
            pub const fn caught_by(self) -> &'static str {
                match self { $(Mutant::$mutant => $caught_by,)* }
            }
        }
    };
}

mutants! {
    DropReleaseOnCancel "drop-release-on-cancel" "I3" "A cancelled ticket gives nothing back: its pod looks busy for ever."
    DoubleRelease "double-release" "I3" "A finished ticket gives back once more when it is dropped: counts fall below zero and wrap."
    ReleaseByPlace "release-by-place" "I3" "A ticket remembers its pod's place in the table, and gives back to whichever pod stands there by then."
    CostLeaks "cost-leaks" "I4" "A release takes back the request and forgets its cost."
    FailForFree "fail-for-free" "I3" "A request that fails costs its pod nothing from then on: who fails at once looks like the emptiest of all."
    RowKeepsFailed "row-keeps-failed" "I4" "A failed ticket leaves its pod but not the row: the own count is right, every peer's grows."
    NoRemainder "no-remainder" "I3" "A cancelled request costs nothing from then on, though its pod runs it to the end."
    RemainderForEver "remainder-for-ever" "I4" "A remainder is never taken back."
    PickEjected "pick-ejected" "I8" "Picks do not look whether a pod is ejected."
    PickUnfit "pick-unfit" "I8" "Picks do not look whether a pod has the model, fails it, or is about to end."
    TrustMarks "trust-marks" "I9" "A pod that is said to lack a model is not even tried when no other is left."
    LookNoMore "look-no-more" "I8" "A pod that lacked a model is never asked again whether it has it."
    DrainMakesAnother "drain-makes-another" "I3" "A pod that begins to drain is taken for another, and its tickets are forgotten."
    CancelAnswers "cancel-answers" "I8" "A cancelled request counts as an answer of its pod: one that hangs is never found."
    OutForEver "out-for-ever" "I8" "A pod that failed is never tried again."
    BlameTheFirst "blame-the-first" "I8" "A pod is left alone for failing what fails everywhere."
    NeverPanic "never-panic" "I9" "Pods are left alone for failing until none is left."
    TryWithAll "try-with-all" "I8" "A pod that is tried again after it failed gets its full share at once."
    FailWhenAllEjected "fail-when-all-ejected" "I9" "Where all pods are ejected a pick fails instead of trying one."
    RetryTheSame "retry-the-same" "I8" "A second pick does not avoid the pods that were tried."
    AnyPodServes "any-pod-serves" "I8" "Requests go to pods that do not serve their model."
    FirstOfEquals "first-of-equals" "I10" "Of the pods under the level every node takes the first."
    AskEverMoreRarely "ask-ever-more-rarely" "I10" "The pauses between questions to an ejected pod double without bound."
    NeverFade "never-fade" "I5" "A row counts in full however long its origin has been silent."
    FadeEarly "fade-early" "I6" "A row fades before the next one can come: load flickers out of sight every second."
    RestartInherits "restart-inherits" "I5" "A node that restarts keeps the counts of the life before."
    AcceptOlder "accept-older" "I2" "A late or repeated datagram overwrites what is newer."
    MergeAdds "merge-adds" "I2" "An entry is added to what is known instead of replacing it: repeats count twice."
    FullKeepsAbsent "full-keeps-absent" "I4" "What is absent from a full row is not zeroed: one lost packet stays for ever."
    NamesOnce "names-once" "I6" "Names are learned from the first message alone: pods that come later are never counted."
    WithdrawAgain "withdraw-again" "I2" "What a peer had on a pod is taken away again at every look: the sum falls below zero and wraps."
    NeverRefresh "never-refresh" "I6" "The whole row is never told: what got lost stays lost, and a quiet node fades."
    GreetUntilAny "greet-until-any" "I13" "A node stops greeting as soon as anybody is a member: clusters that never meet."
    RenewBlindly "renew-blindly" "I14" "Who is told that it is down renews without a look at what the cluster knows, and loses again, for ever."
    StayDown "stay-down" "I13" "A node that is thought down does not take an identity that wins."
    RaiseGenNotEpoch "raise-gen-not-epoch" "I13" "A node whose clock was set back answers a higher epoch with a higher gen, which never wins."
    SilentLeave "silent-leave" "I17" "A node leaves without a word: a goodbye is a failure to the others."
    TrustSender "trust-sender" "I16" "A Hello is believed whoever sent it: one member can speak for another."
    SkipLateProbes "skip-late-probes" "I19" "A timer for indirect probes that comes late, after a pause, is dropped."
    IgnoreBudget "ignore-budget" "I14" "What is sent is not paid for: every change goes at once, whatever it costs."
    AnswerEveryHello "answer-every-hello" "I14" "A Hello that is an answer is answered too, without end."
    UnwrapOnDecode "unwrap-on-decode" "I16" "A malformed body ends the process."
    UnboundedRefusals "unbounded-refusals" "I15" "Every new reason to refuse a member's messages is kept and told."
    LadderNeverDown "ladder-never-down" "I11" "A node whose peers fell silent trusts its view all the same."
    LadderNeverUp "ladder-never-up" "I18" "A node that lost its peers for a moment never trusts its view again."
    ReservationForEver "reservation-for-ever" "I4" "A reservation that nobody uses is never taken back."
    CountGrantsTwice "count-grants-twice" "I2" "A reservation goes on counting when the asker's row tells of the request too."
    LateGrantCharges "late-grant-charges" "I3" "A grant that comes after the pick was made is charged all the same."
    WaitForOwner "wait-for-owner" "I1" "A strict pick waits for its owner's answer, however long that takes."
    RelayForgetsHold "relay-forgets-hold" "I6" "A relay does not add how long it held news: what is old passes for new."
    RelayOnwards "relay-onwards" "I14" "What came by a relay is passed on once more."
    Spin "spin" "I16" "An address that was met stays due: the next timeout is always past."
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no mutant of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no mutant; take one of {list}", list = Mutant::ALL.iter().map(|m| m.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownMutant(pub String);

impl FromStr for Mutant {
    type Err = UnknownMutant;

    fn from_str(name: &str) -> Result<Mutant, UnknownMutant> {
        Mutant::ALL.iter().copied().find(|m| m.name() == name).ok_or_else(|| UnknownMutant(name.to_owned()))
    }
}

#[cfg(feature = "mutants")]
mod active {
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    use super::Mutant;

    /// The active mutant's number, from 1; 0 for none.
    static ACTIVE: AtomicU8 = AtomicU8::new(0);

    /// From now on everything in this process is broken in this way, or sound again.
    pub fn set(mutant: Option<Mutant>) {
        ACTIVE.store(mutant.map_or(0, |m| m as u8 + 1), Relaxed);
    }

    /// Whether this mutant is active.
    #[inline]
    pub fn is(mutant: Mutant) -> bool {
        ACTIVE.load(Relaxed) == mutant as u8 + 1
    }
}

#[cfg(feature = "mutants")]
pub use active::{is, set};

/// Whether this mutant is active: never, without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is(_: Mutant) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A mutant that cannot be named cannot be asked for, and one that shares its name hides another.
    #[test]
    fn every_mutant_has_a_name_of_its_own_that_reads_back() {
        let names: BTreeSet<&str> = Mutant::ALL.iter().map(|m| m.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
        for mutant in Mutant::ALL {
            assert_eq!(mutant.name().parse(), Ok(*mutant));
            assert!(mutant.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{mutant}");
            let invariant: u8 = mutant.caught_by().trim_start_matches('I').parse().unwrap();
            assert!((1..=20).contains(&invariant) && mutant.story().ends_with('.'), "{mutant}");
        }
        let error = "no-bug".parse::<Mutant>().unwrap_err().to_string();
        assert!(
            error.starts_with("`no-bug` is no mutant; take one of drop-release-on-cancel, double-release, "),
            "{error}"
        );
    }

    /// The product must be sound: without the feature nothing can be active, and with it nothing is until it is asked for.
    #[test]
    fn nothing_is_active_unasked() {
        assert!(Mutant::ALL.iter().all(|m| !is(*m)));
    }
}
