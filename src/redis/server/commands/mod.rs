//! The commands, one file for each kind of value, and those about connections, the server, transactions and scripts.

pub(crate) mod blocking;
pub(crate) mod clients;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod counters;
pub(crate) mod debug;
pub(crate) mod docs;
pub(crate) mod expiry;
pub(crate) mod hash;
pub(crate) mod info;
pub(crate) mod keys;
pub(crate) mod lcs;
pub(crate) mod list;
pub(crate) mod list_move;
pub(crate) mod parameters;
pub(crate) mod sample;
pub(crate) mod scan;
pub(crate) mod scripting;
pub(crate) mod server;
pub(crate) mod set;
pub(crate) mod set_algebra;
pub(crate) mod sort;
pub(crate) mod strings;
pub(crate) mod table;
pub(crate) mod transactions;
pub(crate) mod zset;

use crate::command::Command;

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Command> {
    [
        blocking::COMMANDS,
        clients::COMMANDS,
        config::COMMANDS,
        connection::COMMANDS,
        counters::COMMANDS,
        debug::COMMANDS,
        expiry::COMMANDS,
        hash::COMMANDS,
        info::COMMANDS,
        keys::COMMANDS,
        lcs::COMMANDS,
        list::COMMANDS,
        list_move::COMMANDS,
        scan::COMMANDS,
        scripting::COMMANDS,
        server::COMMANDS,
        set::COMMANDS,
        set_algebra::COMMANDS,
        sort::COMMANDS,
        strings::COMMANDS,
        table::COMMANDS,
        transactions::COMMANDS,
        zset::COMMANDS,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests;
