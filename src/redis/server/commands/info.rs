//! INFO: what can be told of the server, in the sections and by the names that tools read.
//!
//! Only what is known is told. What has one answer because nothing is saved, replicated or evicted here is told where a tool
//! is known to read it.

use std::fmt::{Display, Write as _};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::command::{Args, Command, Context};
use crate::commands::connection::REDIS_VERSION;
use crate::engine::Engine;
use crate::process;
use crate::reply::Reply;

pub(crate) const COMMANDS: &[Command] =
    &[Command { name: "info", arity: -1, flags: 0, keys: (0, 0, 0), group: "server", run: info }];

/// One section: its title, whether it is told to who asks for none in particular, and what it says.
type Section = (&'static str, bool, fn(&mut Context<'_>, &mut Lines));

const SECTIONS: &[Section] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Modules", true, |_, _| {}),
    ("Commandstats", false, command_stats),
    ("Errorstats", true, error_stats),
    ("Cluster", true, cluster),
    ("Keyspace", true, keyspace),
];

fn info(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let asked: Vec<String> = args[1..].iter().map(|arg| String::from_utf8_lossy(arg).to_lowercase()).collect();
    let asks = |name: &str| asked.iter().any(|asked| asked == name);
    let wants_all = asks("all") || asks("everything");
    let wants_default = asked.is_empty() || asks("default");
    let mut text = Lines::default();
    for (title, is_default, write) in SECTIONS {
        if wants_all || (wants_default && *is_default) || asks(&title.to_lowercase()) {
            text.title(title);
            write(context, &mut text);
        }
    }
    Ok(Reply::Verbatim("txt", text.0.into_bytes()))
}

/// Lines of `name:value`.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn title(&mut self, title: &str) {
        let gap = if self.0.is_empty() { "" } else { "\r\n" };
        let _ = write!(self.0, "{gap}# {title}\r\n");
    }

    fn add(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// Bytes, and once more for people.
    fn add_bytes(&mut self, name: &str, bytes: usize) {
        self.add(name, bytes);
        self.add(&format!("{name}_human"), human(bytes));
    }
}

fn human(bytes: usize) -> String {
    match bytes as f64 {
        bytes if bytes < 1024.0 => format!("{bytes}B"),
        bytes if bytes < 1024.0 * 1024.0 => format!("{:.2}K", bytes / 1024.0),
        bytes if bytes < 1024.0 * 1024.0 * 1024.0 => format!("{:.2}M", bytes / (1024.0 * 1024.0)),
        bytes => format!("{:.2}G", bytes / (1024.0 * 1024.0 * 1024.0)),
    }
}

fn server(context: &mut Context<'_>, to: &mut Lines) {
    let engine = &*context.engine;
    let port = engine.clients.get(context.client.id).map_or(0, |peer| peer.local.port());
    let uptime_s = (engine.now_ms - engine.began_ms).max(0) / 1000;
    to.add("redis_version", REDIS_VERSION);
    to.add("plimsoll_version", env!("CARGO_PKG_VERSION"));
    to.add("redis_mode", "standalone");
    to.add("os", format_args!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    to.add("arch_bits", usize::BITS);
    to.add("multiplexing_api", "tokio");
    to.add("process_id", std::process::id());
    to.add("run_id", &engine.run_id);
    to.add("tcp_port", port);
    to.add("server_time_usec", engine.now_us);
    to.add("uptime_in_seconds", uptime_s);
    to.add("uptime_in_days", uptime_s / 86_400);
    to.add("hz", 10);
    to.add("config_file", "");
}

fn clients(context: &mut Context<'_>, to: &mut Lines) {
    let engine = &*context.engine;
    to.add("connected_clients", engine.clients.len());
    to.add("cluster_connections", 0);
    to.add("maxclients", engine.settings.maxclients);
    to.add("blocked_clients", engine.blocked.len());
    to.add("tracking_clients", 0);
}

fn memory(context: &mut Context<'_>, to: &mut Lines) {
    let engine = &*context.engine;
    to.add_bytes("used_memory", engine.memory_bytes());
    to.add("used_memory_dataset", engine.used_bytes);
    to.add("used_memory_overhead", engine.memory_bytes() - engine.used_bytes);
    to.add_bytes("used_memory_rss", process::resident_bytes());
    to.add_bytes("used_memory_vm_eval", engine.scripts.used_bytes());
    to.add("number_of_cached_scripts", engine.scripts.len());
    to.add_bytes("maxmemory", engine.settings.maxmemory);
    to.add("maxmemory_policy", "noeviction");
}

fn persistence(context: &mut Context<'_>, to: &mut Lines) {
    to.add("loading", 0);
    to.add("async_loading", 0);
    to.add("rdb_changes_since_last_save", context.engine.dirty);
    to.add("rdb_bgsave_in_progress", 0);
    to.add("aof_enabled", 0);
    to.add("aof_rewrite_in_progress", 0);
}

fn stats(context: &mut Context<'_>, to: &mut Lines) {
    let Engine { stats, clients, .. } = &*context.engine;
    to.add("total_connections_received", clients.admitted.load(Relaxed));
    to.add("total_commands_processed", stats.commands);
    to.add("instantaneous_ops_per_sec", stats.rate());
    to.add("total_net_input_bytes", stats.read_bytes);
    to.add("total_net_output_bytes", stats.written_bytes);
    to.add("rejected_connections", clients.rejected.load(Relaxed));
    to.add("expired_keys", stats.expired);
    to.add("evicted_keys", 0);
    to.add("evicted_clients", 0);
    to.add("keyspace_hits", stats.hits);
    to.add("keyspace_misses", stats.misses);
    to.add("pubsub_channels", 0);
    to.add("pubsub_patterns", 0);
    to.add("total_error_replies", stats.error_replies);
    to.add("clients_cut_off", stats.cut_off);
}

fn replication(_: &mut Context<'_>, to: &mut Lines) {
    to.add("role", "master");
    to.add("connected_slaves", 0);
    to.add("master_repl_offset", 0);
}

fn cpu(_: &mut Context<'_>, to: &mut Lines) {
    let (user, system) = process::cpu();
    let shown = |time: Duration| format!("{:.6}", time.as_secs_f64());
    to.add("used_cpu_sys", shown(system));
    to.add("used_cpu_user", shown(user));
}

fn command_stats(context: &mut Context<'_>, to: &mut Lines) {
    for (name, calls) in context.engine.stats.commands() {
        let each = if calls.calls == 0 { 0.0 } else { calls.us as f64 / calls.calls as f64 };
        let value = format_args!(
            "calls={},usec={},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
            calls.calls, calls.us, calls.rejected, calls.failed
        );
        to.add(&format!("cmdstat_{name}"), value);
    }
}

fn error_stats(context: &mut Context<'_>, to: &mut Lines) {
    for (code, count) in context.engine.stats.errors() {
        to.add(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn cluster(_: &mut Context<'_>, to: &mut Lines) {
    to.add("cluster_enabled", 0);
}

fn keyspace(context: &mut Context<'_>, to: &mut Lines) {
    let Engine { dbs, .. } = &*context.engine;
    for (index, db) in dbs.iter().enumerate().filter(|(_, db)| db.len() > 0) {
        let value = format_args!("keys={},expires={},avg_ttl=0", db.len(), db.expiring());
        to.add(&format!("db{index}"), value);
    }
}
