//! Decisions a second in Redis, beside one EVALSHA for each of them: what a careful user of redis-rs would write, with the same algorithm.
//!
//! Both have one multiplexed connection and the one thread of a runtime, beside a server of their own without persistence. Keys are drawn
//! at random; so many tasks ask one after the other. The server's CPU time is what it says of itself.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures_util::future::join_all;
use redis::{Script, aio::MultiplexedConnection};
use testbed::Server;
use tokio::{
    runtime,
    task::{LocalSet, coop::unconstrained},
};
use tollgate::{
    algorithm::Verdict,
    key::Key,
    policy::{Mode, Quotas, Sharing},
    quota::Algorithm,
    store::{Charge, Store as _},
};
use tollgate_redis::{RedisStore, Settings};

use crate::median;

/// Odd, for a median.
const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_millis(1_500);

/// GCRA in floating point, as it is mostly written: a time to live is all that it keeps beside its state.
const GCRA: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local cost, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local after = full_at + cost
if after - now > burst then
  return { 0, after - now - burst }
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return { 1, after - now }";

/// A fixed window, as it is mostly written.
const FIXED_WINDOW: &str = "
local used = redis.call('INCR', KEYS[1])
if used == 1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return { used <= tonumber(ARGV[2]) and 1 or 0, redis.call('PTTL', KEYS[1]) }";

/// What is measured: how many tasks ask for how many keys.
///
/// A trip for a lease pays for so many decisions and one for each task that waits for it, while the peer makes one for each task that waits. So
/// the fewer ask, the more a lease saves: a single caller, who waits for each of his answers, the most, and he is `leased`.
struct Case {
    name: &'static str,
    tasks: usize,
    keys: u64,
    limits: &'static str,
    lease: Option<u64>,
}

const CASES: [Case; 8] = [
    Case { name: "tasks64", tasks: 64, keys: 100_000, limits: "1000/minute burst 1000", lease: None },
    Case { name: "tasks512", tasks: 512, keys: 100_000, limits: "1000/minute burst 1000", lease: None },
    Case { name: "hot50", tasks: 512, keys: 50, limits: "10000000/minute", lease: None },
    Case { name: "leased", tasks: 1, keys: 1, limits: LEASED, lease: Some(100) },
    Case { name: "leased_tasks8", tasks: 8, keys: 1, limits: LEASED, lease: Some(100) },
    Case { name: "leased_tasks64", tasks: 64, keys: 1, limits: LEASED, lease: Some(100) },
    Case { name: "leased_tasks512", tasks: 512, keys: 1, limits: LEASED, lease: Some(100) },
    Case { name: "alone", tasks: 1, keys: 100_000, limits: "1000/minute burst 1000", lease: None },
];

/// More than anybody asks for.
const LEASED: &str = "1000000000/minute";

/// What came of one run.
#[derive(Clone, Copy, Default)]
struct Run {
    rate: f64,
    /// Microseconds of the server for each decision.
    server_cpu: f64,
    median_micros: f64,
}

type Figure = fn(&Run) -> f64;

/// All cases, or the one of this name.
pub(crate) fn run(part: Option<&str>) -> anyhow::Result<()> {
    let cases: Vec<&Case> = CASES.iter().filter(|case| part.is_none_or(|part| case.name == part)).collect();
    ensure!(!cases.is_empty(), "no such case, expected one of: {}", CASES.map(|case| case.name).join(", "));
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let server = Server::redis();
    println!(
        "{:<16} {:>12} {:>12} {:>12} {:>12} {:>10} {:>10}",
        "", "peer/s", "ours/s", "peer cpu us", "ours cpu us", "peer p50", "ours p50"
    );
    let mut lines = Vec::new();
    for case in cases {
        let (mut peers, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            peers.push(runtime.block_on(LocalSet::new().run_until(peer(&server, case)))?);
            ours.push(runtime.block_on(LocalSet::new().run_until(tollgate(&server, case)))?);
        }
        let of = |runs: &[Run], figure: Figure| median(runs.iter().map(figure).collect());
        let [rate, cpu, p50]: [Figure; 3] = [|run| run.rate, |run| run.server_cpu, |run| run.median_micros];
        println!(
            "{:<16} {:>12.0} {:>12.0} {:>12.2} {:>12.2} {:>10.1} {:>10.1}",
            case.name,
            of(&peers, rate),
            of(&ours, rate),
            of(&peers, cpu),
            of(&ours, cpu),
            of(&peers, p50),
            of(&ours, p50)
        );
        let ratio =
            |figure: Figure| median(peers.iter().zip(&ours).map(|(peer, ours)| figure(ours) / figure(peer)).collect());
        match case.name {
            "alone" => lines.push(format!("alone_latency {:.2}", ratio(p50))),
            name if name == "hot50" || case.lease.is_some() => lines.push(format!("{name}_rate {:.2}", ratio(rate))),
            name => {
                lines.extend([format!("{name}_rate {:.2}", ratio(rate)), format!("{name}_redis_cpu {:.2}", ratio(cpu))])
            }
        }
    }
    println!("\n{}", lines.join("\n"));
    Ok(())
}

async fn peer(server: &Server, case: &Case) -> anyhow::Result<Run> {
    let client = redis::Client::open(format!("redis://{}", server.addr()))?;
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
    let connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
    let is_window = case.lease.is_some();
    let script = Rc::new(Script::new(if is_window { FIXED_WINDOW } else { GCRA }));
    let cost = if case.name == "hot50" { 6 } else { 60_000 };
    let arguments: [u64; 2] = if is_window { [60_000, 1_000_000_000] } else { [cost, 60_000_000] };
    measure(server, case, async |key: u64| {
        let (mut connection, script): (MultiplexedConnection, _) = (connection.clone(), script.clone());
        let answer: (u8, u64) =
            script.key(format!("peer:{}:{key}", case.name)).arg(&arguments[..]).invoke_async(&mut connection).await?;
        anyhow::Ok(answer.0 == 1)
    })
    .await
}

async fn tollgate(server: &Server, case: &Case) -> anyhow::Result<Run> {
    let settings = Settings::at(format!("redis://{}", server.addr()).parse()?).timeout(Duration::from_secs(5));
    let store = RedisStore::connect(settings);
    let algorithm = if case.lease.is_some() { Algorithm::FixedWindow } else { Algorithm::TokenBucket };
    let quotas = Quotas::new(case.name, &case.limits.parse()?, Some(algorithm))?;
    let lease = case.lease.and_then(std::num::NonZeroU64::new);
    let quotas = quotas.shared(Sharing { lease, ..Sharing::default() });
    measure(server, case, async |key: u64| {
        let key = Key::of([key.to_string()]);
        let taken =
            store.take(&[Charge { rule: case.name, mode: Mode::Enforce, key: &key, quotas: &quotas, cost: 1 }]).await?;
        anyhow::Ok(taken.outcomes[0].verdict == Verdict::Allow)
    })
    .await
}

/// Lets the tasks of a case ask for a while.
#[expect(clippy::disallowed_methods, reason = "it is time itself that is measured")]
async fn measure(server: &Server, case: &Case, ask: impl AsyncFn(u64) -> anyhow::Result<bool>) -> anyhow::Result<Run> {
    // The first call brings the script and the connection.
    ask(0).await?;
    let (decisions, allowed) = (Cell::new(0_u64), Cell::new(0_u64));
    let latencies = RefCell::new(Vec::new());
    let (cpu, start) = (server_cpu(server)?, Instant::now());
    let task = async |n: usize| -> anyhow::Result<()> {
        let mut dice = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(n as u64 + 1);
        while start.elapsed() < SPAN {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let asked = Instant::now();
            let passes = ask(dice % case.keys).await?;
            latencies.borrow_mut().push(asked.elapsed().as_secs_f64() * 1e6);
            decisions.set(decisions.get() + 1);
            allowed.set(allowed.get() + u64::from(passes));
        }
        Ok(())
    };
    // All of them are one task of the runtime's, which else is made to pause as if they were one.
    let tasks = unconstrained(join_all((0..case.tasks).map(task)));
    let ended = tasks.await;
    ended.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), server_cpu(server)? - cpu);
    ensure!(allowed.get() > 0, "{}: nothing was allowed", case.name);
    let n = decisions.get() as f64;
    Ok(Run { rate: n / seconds, server_cpu: cpu * 1e6 / n, median_micros: median(latencies.take()) })
}

/// Seconds of the processor that the server has used.
fn server_cpu(server: &Server) -> anyhow::Result<f64> {
    let info = server.command(&["INFO", "cpu"]).text().to_owned();
    let field =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse::<f64>().ok());
    Ok(field("used_cpu_sys").context("used_cpu_sys")? + field("used_cpu_user").context("used_cpu_user")?)
}
