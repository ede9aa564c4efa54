//! The commands, one file for each kind of value, and those about connections, the server, transactions and scripts.

pub(crate) mod blocking;
pub(crate) mod connection;
pub(crate) mod counters;
pub(crate) mod expiry;
pub(crate) mod keys;
pub(crate) mod lcs;
pub(crate) mod scan;
pub(crate) mod scripting;
pub(crate) mod strings;
pub(crate) mod zset;

use crate::command::Command;

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Command> {
    [
        blocking::COMMANDS,
        connection::COMMANDS,
        counters::COMMANDS,
        expiry::COMMANDS,
        keys::COMMANDS,
        lcs::COMMANDS,
        scan::COMMANDS,
        scripting::COMMANDS,
        strings::COMMANDS,
        zset::COMMANDS,
    ]
    .into_iter()
    .flatten()
}
