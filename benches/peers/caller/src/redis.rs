//! A balancer in the caller over Redis and Lua, as published: a sorted set of pods by load is the fleet's one view, and a
//! script takes the least loaded pod and charges it in one step.
//!
//! At its kindest: on loopback, the script sent by its hash, the release off the request's way, no log for reconciling.

use plimsoll_load::{Client, client};
use plimsoll_proto::inference::ModelInferRequest;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisError, Script};
use tonic::Status;

const LOADS: &str = "loads";
const TAKE: &str = r"
local least = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
redis.call('ZINCRBY', KEYS[1], 1, least)
return least";

/// One caller: a connection to the Redis, and one to each pod.
pub(crate) struct Caller {
    redis: MultiplexedConnection,
    take: Script,
    pods: Vec<Client>,
}

impl Caller {
    /// A caller of `pods`; the first of several makes the set.
    pub(crate) async fn new(url: &str, pods: &[String], first: bool) -> Result<Caller, Box<dyn std::error::Error>> {
        let mut redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        if first {
            let () = redis.del(LOADS).await?;
            for pod in 0..pods.len() {
                let () = redis.zadd(LOADS, pod, 0).await?;
            }
        }
        let pods = pods.iter().map(|url| client(url)).collect::<Result<_, _>>()?;
        Ok(Caller { redis, take: Script::new(TAKE), pods })
    }

    pub(crate) async fn infer(&self, request: ModelInferRequest) -> Result<(), Status> {
        let mut redis = self.redis.clone();
        let pod: usize = self.take.key(LOADS).invoke_async(&mut redis).await.map_err(unavailable)?;
        let client = self.pods.get(pod).ok_or_else(|| Status::internal(format!("no pod `{pod}`")))?;
        let answer = client.clone().model_infer(request).await;
        tokio::spawn(async move {
            let released: Result<f64, RedisError> = redis.zincr(LOADS, pod, -1).await;
            if let Err(error) = released {
                eprintln!("cannot release pod {pod}: {error}");
            }
        });
        answer.map(drop)
    }
}

fn unavailable(error: RedisError) -> Status {
    Status::unavailable(format!("redis: {error}"))
}
