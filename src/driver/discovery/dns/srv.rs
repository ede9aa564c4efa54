//! SRV records: a name stands for targets, each with a port of its own.
//!
//! Of the records with the lowest priority every address of every target is a pod; those of a higher one count only where
//! all of these have no address, because they are there for that case (RFC 2782). Weights say how to share blindly among
//! targets; picks know what stands at each, so weights are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{Name, RData};
use tokio::task::JoinSet;

use super::{Place, addresses, shortest_ttl};
use crate::config::MOST_PODS;

/// Targets that are asked for at the same time: one after the other, a hundred would take seconds; all at once, a
/// name server that limits its clients would refuse some.
const AT_ONCE: usize = 16;

/// Where pods are by the records of `name`, in a fixed order, and how long that holds, s.
pub(super) async fn look_up(resolver: &TokioResolver, name: &str) -> Result<(Vec<Place>, u32), String> {
    let answer = resolver.srv_lookup(name).await.map_err(|error| error.to_string())?;
    let mut by_priority: BTreeMap<u16, BTreeSet<(Name, u16)>> = BTreeMap::new();
    for record in answer.answers().iter().take(MOST_PODS) {
        if let RData::SRV(srv) = &record.data
            && !srv.target.is_root()
        {
            by_priority.entry(srv.priority).or_default().insert((srv.target.clone(), srv.port));
        }
    }
    for targets in by_priority.into_values() {
        let (places, ttl) = places(resolver, targets).await?;
        if !places.is_empty() {
            return Ok((places.into_iter().collect(), ttl.min(shortest_ttl(&answer))));
        }
    }
    Err("no record names a target that has an address".to_owned())
}

/// Where the targets are. One that has no address is a pod that ends just now; a name server that does not say so leaves
/// all as it is.
async fn places(resolver: &TokioResolver, targets: BTreeSet<(Name, u16)>) -> Result<(BTreeSet<Place>, u32), String> {
    let (mut places, mut shortest) = (BTreeSet::new(), u32::MAX);
    let targets: Vec<(Name, u16)> = targets.into_iter().collect();
    for some in targets.chunks(AT_ONCE) {
        let mut lookups = JoinSet::new();
        for (target, port) in some.iter().cloned() {
            let resolver = resolver.clone();
            lookups.spawn(async move { (addresses(&resolver, target.clone()).await, target, port) });
        }
        for (answer, target, port) in lookups.join_all().await {
            let host = target.to_string().trim_end_matches('.').to_owned();
            match answer {
                Ok((ips, ttl)) => {
                    shortest = shortest.min(ttl);
                    places.extend(ips.into_iter().map(|ip| (host.clone(), ip, port)));
                }
                Err(error) if error.is_no_records_found() => {}
                Err(error) => return Err(format!("its target `{host}`: {error}")),
            }
        }
    }
    Ok((places, shortest))
}
