//! A sorted set that somebody else keeps.

/// A sorted set in database 0 whose scores are not stored here: reads show what it says at that moment, writes are told to it.
/// Every call is made under the engine's lock and must not block.
pub trait LiveSet: Send {
    /// The key under which it is seen.
    fn key(&self) -> &[u8];

    /// Members and scores, in any order, each member once.
    fn members(&mut self) -> Vec<(Vec<u8>, f64)>;

    /// Adds `by` to the score of `member` for `client`, and answers the new one (ZINCRBY).
    ///
    /// # Errors
    /// [`LiveError`]; nothing changed then.
    fn add(&mut self, client: u64, member: &[u8], by: f64) -> Result<f64, LiveError>;

    /// Sets the score of `member` for `client` (ZADD).
    ///
    /// # Errors
    /// [`LiveError`]; nothing changed then.
    fn set(&mut self, client: u64, member: &[u8], score: f64) -> Result<(), LiveError>;

    /// Takes `member` out (ZREM); whether it was there.
    ///
    /// # Errors
    /// [`LiveError`]; nothing changed then.
    fn remove(&mut self, client: u64, member: &[u8]) -> Result<bool, LiveError>;

    /// The connection of `client` is gone.
    fn closed(&mut self, client: u64);
}

/// Why a live set did not take a change; the text is sent to the client behind `ERR `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveError(pub String);

impl std::fmt::Display for LiveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LiveError {}
