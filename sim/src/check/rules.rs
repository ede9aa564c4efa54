//! The rules: each has a name that failures, mutants and reports carry, and says what must hold and how exactly.

/// Makes the enum from its list, so that a rule's documentation is also what `says` prints.
macro_rules! rules {
    ($($(#[doc = $says:literal])+ $rule:ident = $id:literal,)+) => {
        /// What must hold in every run. The invariant it stands for (I1 to I19, G1 to G12) is named in brackets.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[doc = $says])+ $rule,)+
        }

        impl Rule {
            /// All of them.
            pub const ALL: [Rule; [$($id),+].len()] = [$(Rule::$rule),+];

            /// Its name, for ever.
            pub const fn id(self) -> &'static str {
                match self {
                    $(Rule::$rule => $id,)+
                }
            }

            /// What must hold, and the bound.
            pub const fn says(self) -> &'static str {
                match self {
                    $(Rule::$rule => concat!($($says, "\n"),+),)+
                }
            }
        }
    };
}

rules! {
    /// A request ends once: asked = ended + under way + died with its node. (I1)
    EndsOnce = "ends-once",
    /// No request ends, or is still under way, a second after its deadline, on a node that was not stopped since. (I1)
    InTime = "in-time",
    /// Once all pods have been empty for a second, and every hop is over, no request is under way. (I1)
    NoneLost = "none-lost",
    /// An error has a cause in the world: a failure a pod that crashed or fails, a refusal a full queue or a pod that was
    /// away, a cancel a caller. So callers see nothing of nodes that come and go. (I1, I17)
    Blameless = "blameless",
    /// While what must work in the end works (from 5 s on), requests go on being served: one in 5 s at least, where 20
    /// were asked for, or one pod is at work for half of that. (I18)
    Progress = "progress",
    /// A node counts its own tickets on every pod exactly, at every pick and every end; without tickets their cost is
    /// nothing. (I3)
    OwnExact = "own-exact",
    /// At every pod of every node: picks = served + failed + refused + cancelled + in flight. (I1, I3)
    TicketsBalance = "tickets-balance",
    /// A cancelled request of 1 ms or more, predicted to run on, leaves a remainder. (I3)
    Remains = "remains",
    /// No pod's load exceeds all tickets there ever were at it, and no counter wraps. (I2, G6)
    CountsBounded = "counts-bounded",
    /// When callers were silent, pods empty and remainders over for 5 s, no node believes in any load anywhere. (I4)
    Leak = "leak",
    /// A second after the last request had its end, and the longest way, no node that is well holds a reservation for
    /// another, or waits for one. (I4)
    ReservationsEnd = "reservations-end",
    /// In calm, without loss and where no pod refuses, a reservation counts no longer than the way to the asker and back, a reaction, and 1 ms:
    /// then the asker's row tells of the request. (I2)
    CountedOnce = "counted-once",
    /// On a node that is well, a pick of strict mode is decided within its timeout, and 2 ms. (I1)
    Decided = "decided",
    /// In calm, a node's count of the others' requests at a pod is the truth, give or take what changed there within the
    /// last refreshes (1 s, more where links lose). (I6, G3, G6)
    ViewTrue = "view-true",
    /// The row of a node that died counts nowhere 3 s (and a tick, and the longest way) later, whether or not it started
    /// again. (I5, G4)
    DeadGone = "dead-gone",
    /// Without loss, the last word of a member is never older than a refresh (1 s, a tick, the way). (G5)
    RowFresh = "row-fresh",
    /// What a node takes for another's last full row is never older than what it took for it before. (I2)
    InOrder = "in-order",
    /// A row counts in full until 2 s after the last word, if its origin is a member with the row's epoch, and not at all
    /// from 3 s after it. (I5)
    Fades = "fades",
    /// Two nodes that were up, well and connected for long enough count each other, as what they are now. (I13, G5)
    Counted = "counted",
    /// After the faults, all nodes that are up know each other and nobody else. (I13, I18, G11)
    OneComponent = "one-component",
    /// A member that was up, well and connected is not declared down, unless a hostile one invented members, or most of
    /// those that could have vouched for it died just before. (I13, G12)
    FalseDown = "false-down",
    /// Without loss, a node that said goodbye to others that were well is not declared down by them, and its row counts
    /// nowhere half a second (and the longest way) later. (I17)
    Goodbye = "goodbye",
    /// A node takes a new identity only for a reason: two for each fault, and two more. (G7)
    Renewals = "renewals",
    /// Without loss, and when nobody went down for 35 s, picks go by the view; cut off from all, they do not.
    Rung = "rung",
    /// An ejected pod is picked only where no other is left. (I8)
    NoDeadPod = "no-dead-pod",
    /// From 1 s after a dead pod refused a node first, that node sends it nothing while it is dead, unless all others are
    /// out too. (I8)
    DeadPodTraffic = "dead-pod-traffic",
    /// A pod that lacks the model, fails it, or drains is picked only where no fitter one is left that can be reached. (I8)
    LeftAlone = "left-alone",
    /// On a node that is well, a pod that failed five of a model's requests or more in a row, while others served twenty and failed
    /// none, is left alone for that model 0.5 s later, unless fewer than half of the model's pods would be left. (I8)
    SickFound = "sick-found",
    /// Who is left alone for a model failed it, and others served it meanwhile. (I8)
    Just = "just",
    /// A pod that is left alone for a model is tried again when the time is over that the node said, and 1 s. (I8)
    TriedAgain = "tried-again",
    /// A pod that is tried again has one request of the model in flight from each node until one is answered, unless fewer than half
    /// of the pods would be left. (I8)
    OneAtATime = "one-at-a-time",
    /// While picks are kept away from pods for failing a model, at least half of the model's pods are left. (I9)
    Panic = "panic",
    /// A request for a model that a pod has, and has had for 9 s, is not given up for want of the model. (I9)
    ModelFound = "model-found",
    /// A node that is well knows 10 s after a model was loaded that it is there. (I8)
    ModelBack = "model-back",
    /// A pod that hangs and owes an answer is out on every well node that it owes it to: a second after it owes, or after all that
    /// is known to be there takes, another for the question, and one more. (I8)
    HungFound = "hung-found",
    /// A pod that is well for 5 s is out nowhere. (I8)
    Readmitted = "readmitted",
    /// A pick goes to a pod that serves its model, and not to one that the request has tried. (I8)
    Serves = "serves",
    /// A pick fails only where no pod is left. (I9)
    SomePod = "some-pod",
    /// In calm, over 5 s and 40 requests per pod, every pod gets 0.1 of its fair share, unless it was busy all the same; where
    /// nobody cancels, because when one that was cancelled is through is only guessed. (I10)
    Starvation = "starvation",
    /// In calm, at six pods or more, requests wait on the mean no more than twice as long as if pods were picked by chance
    /// (Pollaczek-Khinchine), and 20 ms: a herd waits longer. (I11)
    Herd = "herd",
    /// A pod that became ten times as slow gets, from 5 s later on, at most half of its fair share. (I12)
    GreyPod = "grey-pod",
    /// A node sends no more messages and bytes in a second than its budget, refreshes and membership need. (I14, G8)
    NoStorm = "no-storm",
    /// Everything a node keeps is below its bound. (I15)
    Bounded = "bounded",
    /// In the end a node keeps no more than its pods, models and members need. (I15)
    Baseline = "baseline",
    /// Nothing panics. (I16, G10)
    NoPanic = "no-panic",
    /// A timer that was handled is not due any more, and a node is turned by timers at most 2,000 times a second. (I16)
    NoSpin = "no-spin",
    /// SWIM never fails by itself. (I19)
    SwimSound = "swim-sound",
    /// No change and no remainder is missed while their queues (4,096 each) can hold them. (I19)
    NothingMissed = "nothing-missed",
    /// What one node sends, the others can read, unless there was a hostile one.
    Readable = "readable",
    /// A relay passes on what an origin itself gave it, and that to each member once. (I14)
    RelayedOnce = "relayed-once",
    /// News that was passed on is at least as old as the time that the relay held it, by its clock. (I6)
    RelayedAge = "relayed-age",
    /// A datagram has at most 1,150 bytes, a stream 64 KiB. (G8)
    Fits = "fits",
}

/// How often each rule was really looked at: one that never applies catches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks([u64; Rule::ALL.len()]);

impl Default for Marks {
    fn default() -> Marks {
        Marks([0; Rule::ALL.len()])
    }
}

impl Marks {
    /// How often `rule` was looked at.
    pub fn of(&self, rule: Rule) -> u64 {
        self.0[rule as usize]
    }

    /// `rule` was looked at `times` times more.
    pub(crate) fn add(&mut self, rule: Rule, times: u64) {
        self.0[rule as usize] += times;
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Marks) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, its)| *mine += its);
    }

    /// Every rule and how often it was looked at.
    pub fn iter(&self) -> impl Iterator<Item = (Rule, u64)> {
        Rule::ALL.into_iter().zip(self.0)
    }
}
