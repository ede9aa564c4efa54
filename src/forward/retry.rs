//! How often requests may be sent again: a share of all requests, whatever fails.

use std::fmt;
use std::time::Duration;

use metrics::counter;
use tower::retry::budget::{Budget as _, TpsBudget};

use super::options::Retry;

/// Requests are counted for so long. Shorter and a lull forbids what the busy minute before would have paid for; longer and a
/// storm of retries lives on savings.
const COUNTED: Duration = Duration::from_secs(10);
/// Second sendings per second that are free: a caller with a request a second must be allowed one at all.
const FREE: u32 = 1;

/// A budget for second sendings. Clones of what holds it share it.
pub(super) struct Budget {
    budget: Option<TpsBudget>,
    pub(super) most: u32,
}

impl Budget {
    pub(super) fn new(retry: &Retry) -> Budget {
        let share = if retry.budget.is_finite() { retry.budget.clamp(0.0, 1.0) } else { 0.0 };
        Budget { budget: (share > 0.0).then(|| TpsBudget::new(COUNTED, FREE, share)), most: retry.most }
    }

    /// Counts a request.
    pub(super) fn count(&self) {
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
    }

    /// Takes leave to send one again that was sent `again` times so far; false where there is none.
    pub(super) fn allows(&self, again: u32) -> bool {
        let allows = again < self.most && self.budget.as_ref().is_some_and(|budget| budget.withdraw());
        if !allows {
            counter!("plimsoll_not_sent_again_total").increment(1);
        }
        allows
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("on", &self.budget.is_some()).field("most", &self.most).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When everything fails, retries must stay a fifth of the requests, and not double the load of a fleet in trouble.
    #[tokio::test(start_paused = true)]
    async fn retries_stay_a_share_of_the_requests() {
        let budget = Budget::new(&Retry::default());
        let mut again = 0;
        for _ in 0..1000 {
            budget.count();
            again += u32::from(budget.allows(0));
        }
        assert_eq!(again, 200 + 10 * FREE);
        assert!(!budget.allows(0));
        tokio::time::sleep(2 * COUNTED).await;
        assert!(budget.allows(1) && !budget.allows(2));
    }

    #[test]
    fn a_budget_of_nothing_allows_nothing() {
        for share in [0.0, -1.0, f32::NAN] {
            assert!(!Budget::new(&Retry { budget: share, ..Retry::default() }).allows(0));
        }
    }
}
