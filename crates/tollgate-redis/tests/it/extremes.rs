//! Scripts, steps of the engine and memory held against each other where numbers are largest and calendars oddest: amounts of 10¹²,
//! windows of 100 years, refills of hardly anything, leap days, 1970 and 2100; several requests in one call.

use std::{collections::HashMap, time::Duration};

use futures_util::future::join_all;
use testbed::Server;
use tollgate::{
    algorithm::{self, Outcome, State, Verdict},
    clock::{Clock, ManualClock, Timestamp},
    key::Key,
    policy::{self, Conditions, Mode, Override, Policy, Quotas},
    quota::{Algorithm, MAX_AMOUNT, MAX_LOG_AMOUNT},
    store::{Charge, GiveBack, Store, memory::MemoryStore},
};
use tollgate_redis::RedisStore;

use crate::conforms::store;

const SEQUENCES: u64 = 192;
const AT_ONCE: usize = 32;
const STEPS: usize = 60;

const DAY: u64 = 86_400_000_000;
const YEAR: u64 = 365 * DAY;
/// A store can tell times for 100 years.
const TOLD: u64 = 100 * YEAR;
/// 2150-01-01: 100 years later an instant in microseconds still is below 2^53.
const LAST: u64 = 5_680_281_600_000_000;

/// Instants, in seconds since the epoch, before which there is something to stumble over.
const EDGES: [u64; 16] = [
    0,             // the epoch, a Thursday
    1,             //
    345_600,       // 1970-01-05, the first Monday
    2_678_400,     // 1970-02-01
    68_169_600,    // 1972-02-29
    951_782_400,   // 2000-02-29, a leap year by the rule of 400
    951_868_800,   // 2000-03-01
    1_704_067_200, // 2024-01-01
    1_709_164_800, // 2024-02-29
    1_709_251_200, // 2024-03-01
    1_772_193_600, // 2026-02-27
    4_102_444_800, // 2100-01-01
    4_107_456_000, // 2100-02-28
    4_107_542_400, // 2100-03-01, after a February without a leap day
    4_133_894_400, // 2100-12-31
    4_133_980_800, // 2101-01-01
];

const UNITS: [(&str, u64); 8] = [
    ("ms", 1_000),
    ("second", 1_000_000),
    ("minute", 60_000_000),
    ("hour", 3_600_000_000),
    ("day", DAY),
    ("week", 7 * DAY),
    ("month", 30 * DAY),
    ("year", YEAR),
];

#[tokio::test]
async fn extreme_numbers_give_the_same_answers_in_script_step_and_memory() {
    let server = Server::redis();
    let url = format!("redis://{}", server.addr());
    bring_scripts(&store(&url, ManualClock::new(Timestamp::from_micros(DAY)))).await;
    let mut seeds = 0..SEQUENCES;
    while !seeds.is_empty() {
        let now: Vec<u64> = seeds.by_ref().take(AT_ONCE).collect();
        join_all(now.into_iter().map(|seed| Sequence::new(seed, &url).run())).await;
    }
}

/// Has the server know every script. Whoever is the first to call one calls twice, and others that ask at the same moment are decided before him.
async fn bring_scripts(redis: &RedisStore) {
    let limits = "1/day".parse().expect("a limit");
    let rules = Algorithm::ALL.map(|algorithm| Quotas::new("warm", &limits, Some(algorithm)).expect("a quota"));
    let key = Key::of(["warm"]);
    for some in 1..1_usize << rules.len() {
        let chosen = rules.iter().enumerate().filter(|(n, _)| some & 1 << n != 0).map(|(_, quotas)| quotas);
        let charge = |quotas| Charge { rule: "warm", mode: Mode::Enforce, key: &key, quotas, cost: 0 };
        let charges: Vec<Charge<'_>> = chosen.map(charge).collect();
        redis.look(&charges).await.expect("it answers");
        redis.take(&charges).await.expect("it answers");
    }
}

struct Sequence {
    seed: u64,
    dice: Dice,
    clock: ManualClock,
    ends: Timestamp,
    redis: RedisStore,
    memory: MemoryStore,
    steps: HashMap<(usize, usize, usize), State>,
    rules: Vec<Rule>,
    keys: [Key; 2],
    /// What was taken and not given back.
    taken: Vec<(Ask, Timestamp)>,
    /// The last times that an answer named.
    waits: Vec<Duration>,
}

struct Rule {
    name: String,
    mode: Mode,
    /// One counter by several amounts: the windows are the same.
    variants: Vec<Quotas>,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    rule: usize,
    variant: usize,
    key: usize,
    cost: u64,
}

impl Sequence {
    fn new(seed: u64, url: &str) -> Self {
        let mut dice = Dice(seed);
        let edge = dice.pick(&EDGES) * 1_000_000;
        let start = match dice.below(3) {
            0 => edge,
            1 => edge.saturating_sub(1),
            _ => edge + dice.below(60 * DAY),
        };
        let clock = ManualClock::new(Timestamp::from_micros(start));
        let rules = (0..1 + dice.below(3)).map(|i| Rule::new(format!("rule-{i}"), &mut dice)).collect();
        Self {
            seed,
            dice,
            ends: Timestamp::from_micros((start + TOLD).min(LAST)),
            redis: store(url, clock.clone()),
            memory: MemoryStore::new(1_000, Clock::from(clock.clone())),
            clock,
            steps: HashMap::new(),
            rules,
            keys: [Key::of(["one"]), Key::of(["another"])],
            taken: Vec::new(),
            waits: Vec::new(),
        }
    }

    async fn run(mut self) {
        for step in 0..STEPS {
            let span = self.span().min(self.ends.since(self.clock.now()));
            self.clock.advance(span);
            match self.dice.below(20) {
                0 => self.clear().await,
                1..=4 => self.give_back(step).await,
                5..=6 => self.look(step).await,
                _ => self.take(step).await,
            }
        }
    }

    fn span(&mut self) -> Duration {
        let moment = Duration::from_micros(1);
        let rule = self.dice.index(self.rules.len());
        let Some((_, quota)) = self.rules[rule].variants[0].iter().next() else { return moment };
        let window = quota.window();
        let micros = u64::try_from(window.as_micros()).unwrap();
        let wait = if self.waits.is_empty() { moment } else { *self.dice.pick(&self.waits) };
        match self.dice.below(16) {
            0 => window - moment,
            1 => window,
            2 => window + moment,
            3 => Duration::from_micros(self.dice.below(micros)),
            4 => Duration::from_micros(self.dice.skewed(micros)),
            5 => moment,
            6 => wait.saturating_sub(moment),
            7 | 8 => wait,
            9 => wait + moment,
            _ => Duration::ZERO,
        }
    }

    fn asks(&mut self) -> Vec<Ask> {
        let mut asks = Vec::new();
        for rule in 0..self.rules.len() {
            if self.dice.below(4) == 0 {
                continue;
            }
            let variants = &self.rules[rule].variants;
            let variant = self.dice.index(variants.len());
            let capacity = variants[variant].iter().map(|(_, quota)| quota.capacity()).max().unwrap_or(0);
            let cost = match self.dice.below(12) {
                0 => 0,
                1 => u64::MAX,
                2 => MAX_AMOUNT + self.dice.below(3),
                3 => capacity,
                4 => capacity.saturating_sub(1),
                5 => capacity + 1,
                6 => capacity / 2,
                7 | 8 => self.dice.skewed(capacity.max(1)),
                _ => 1,
            };
            asks.push(Ask { rule, variant, key: self.dice.index(2), cost });
        }
        asks
    }

    async fn take(&mut self, step: usize) {
        let requests: Vec<Vec<Ask>> = (0..1 + self.dice.below(4)).map(|_| self.asks()).collect();
        let charges: Vec<Vec<Charge<'_>>> =
            requests.iter().map(|asks| charges(&self.rules, &self.keys, asks)).collect();
        // Those who ask at the same moment share calls, in the order in which they have asked.
        let answers = join_all(charges.iter().map(|charges| self.redis.take(charges))).await;
        let mut taken = Vec::new();
        let mut waits = Vec::new();
        for ((asks, charges), answer) in requests.iter().zip(&charges).zip(answers) {
            let what = format!("sequence {}, step {step}, taking {asks:?} of {charges:?}", self.seed);
            let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
            let expected = decide(&mut self.steps, asks, charges, self.clock.now(), true);
            assert_eq!(answer.outcomes.to_vec(), expected, "script and step: {what} at {:?}", self.clock.now());
            let memory = self.memory.take_now(charges);
            assert_eq!(memory.outcomes.to_vec(), expected, "memory and step: {what} at {:?}", self.clock.now());
            waits.extend(expected.iter().filter_map(|outcome| outcome.retry_after));
            waits.extend(expected.iter().map(|outcome| outcome.status.reset_after));
            waits.extend(expected.iter().filter_map(|outcome| outcome.status.refill_after));
            let passes = tollgate::store::passes(charges, &expected);
            let mut rest = expected.as_slice();
            for (ask, charge) in asks.iter().zip(charges) {
                let (of_charge, others) = rest.split_at(charge.quotas.len());
                rest = others;
                if passes && ask.cost > 0 && of_charge.iter().all(|outcome| outcome.verdict == Verdict::Allow) {
                    taken.push((*ask, self.clock.now()));
                }
            }
        }
        self.taken.extend(taken);
        if !waits.is_empty() {
            self.waits = waits;
        }
    }

    async fn look(&mut self, step: usize) {
        let asks = self.asks();
        self.look_at(step, &asks).await;
    }

    async fn look_at(&mut self, step: usize, asks: &[Ask]) {
        let charges = charges(&self.rules, &self.keys, asks);
        let what = format!("sequence {}, step {step}, looking at {asks:?} of {charges:?}", self.seed);
        let answer = self.redis.look(&charges).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let expected = decide(&mut self.steps, asks, &charges, self.clock.now(), false);
        assert_eq!(answer.outcomes.to_vec(), expected, "script and step: {what} at {:?}", self.clock.now());
        let memory = self.memory.look_now(&charges);
        assert_eq!(memory.outcomes.to_vec(), expected, "memory and step: {what} at {:?}", self.clock.now());
    }

    async fn give_back(&mut self, step: usize) {
        let mut given = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            if !self.taken.is_empty() {
                let i = self.dice.index(self.taken.len());
                given.push(self.taken.swap_remove(i));
            }
        }
        let asks: Vec<Ask> = given.iter().map(|(ask, _)| *ask).collect();
        {
            let charges = charges(&self.rules, &self.keys, &asks);
            let back: Vec<GiveBack<'_>> =
                charges.iter().zip(&given).map(|(charge, (_, at))| GiveBack::new(*charge, *at)).collect();
            self.memory.give_back_now(&back);
            self.redis.give_back(&back).await.expect("the server is there");
            for (ask, given) in asks.iter().zip(&back) {
                for (place, (_, quota)) in given.charge.quotas.iter().enumerate() {
                    let counter = (ask.rule, ask.key, place);
                    let left = self.steps.remove(&counter);
                    let left = algorithm::give_back(left, quota, ask.cost, given.at, self.clock.now());
                    left.and_then(|left| self.steps.insert(counter, left));
                }
            }
        }
        for ask in asks {
            self.look_at(step, &[Ask { cost: 0, ..ask }]).await;
        }
    }

    async fn clear(&mut self) {
        let asks = self.asks();
        let charges = charges(&self.rules, &self.keys, &asks);
        self.memory.clear_now(&charges);
        self.redis.clear(&charges).await.expect("the server is there");
        self.steps.retain(|(rule, key, _), _| !asks.iter().any(|ask| (ask.rule, ask.key) == (*rule, *key)));
        self.taken.retain(|(taken, _)| !asks.iter().any(|ask| (ask.rule, ask.key) == (taken.rule, taken.key)));
    }
}

fn charges<'a>(rules: &'a [Rule], keys: &'a [Key], asks: &[Ask]) -> Vec<Charge<'a>> {
    let charge = |ask: &Ask| {
        let Rule { name, mode, variants } = &rules[ask.rule];
        Charge { rule: name, mode: *mode, key: &keys[ask.key], quotas: &variants[ask.variant], cost: ask.cost }
    };
    asks.iter().map(charge).collect()
}

/// All of it or nothing, each rule in shadow by itself, by the steps of the engine.
fn decide(
    states: &mut HashMap<(usize, usize, usize), State>,
    asks: &[Ask],
    charges: &[Charge<'_>],
    now: Timestamp,
    spends: bool,
) -> Vec<Outcome> {
    let look = |ask: &Ask, charge: &Charge<'_>| -> Vec<Outcome> {
        let place =
            |(place, (_, quota))| algorithm::look(states.get(&(ask.rule, ask.key, place)), quota, ask.cost, now);
        charge.quotas.iter().enumerate().map(place).collect()
    };
    let looked: Vec<Vec<Outcome>> = asks.iter().zip(charges).map(|(ask, charge)| look(ask, charge)).collect();
    let fits = |outcomes: &[Outcome]| outcomes.iter().all(|outcome| outcome.verdict == Verdict::Allow);
    let passes = charges.iter().zip(&looked).all(|(charge, looked)| charge.mode == Mode::Shadow || fits(looked));
    let mut outcomes = Vec::new();
    for ((ask, charge), looked) in asks.iter().zip(charges).zip(&looked) {
        let is_taken = passes && fits(looked);
        for ((place, (_, quota)), looked) in charge.quotas.iter().enumerate().zip(looked) {
            let counter = (ask.rule, ask.key, place);
            let cost = if is_taken { ask.cost } else { 0 };
            let (state, stands) = algorithm::charge(states.get(&counter).cloned(), quota, cost, now);
            if spends {
                states.remove(&counter);
                state.and_then(|state| states.insert(counter, state));
            }
            outcomes.push(Outcome { status: stands.status, ..*looked });
        }
    }
    outcomes
}

impl Rule {
    fn new(name: String, dice: &mut Dice) -> Self {
        let mode = if dice.below(4) == 0 { Mode::Shadow } else { Mode::Enforce };
        let algorithm = *dice.pick(&Algorithm::ALL);
        let windows: Vec<(u64, &str)> = (0..1 + dice.below(2)).map(|_| dice.window()).collect();
        let mut variants = Vec::new();
        while variants.len() < 3 {
            let limits: Vec<String> = windows.iter().map(|window| dice.limit(algorithm, *window)).collect();
            let Ok(limits) = limits.join("; ").parse() else { continue };
            // A burst can take too long to refill.
            variants.extend(Quotas::new(&name, &limits, Some(algorithm)));
        }
        // A policy has all quotas that can share counters counted in one place.
        let mut rule = policy::Rule::of(&name, "1/second").expect("a limit");
        rule.quotas = variants.remove(0);
        rule.overrides =
            variants.into_iter().map(|quotas| Override { conditions: Conditions::default(), quotas }).collect();
        let policy = Policy::new(Default::default(), None, Vec::new(), vec![rule]).expect("a rule");
        let rule = &policy.rules()[0];
        let overrides = rule.overrides.iter().map(|other| &other.quotas);
        Self { name, mode, variants: [&rule.quotas].into_iter().chain(overrides).cloned().collect() }
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.throw() % n
    }

    fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// From 1 to `most`: every number of digits is as likely, and so are the ends and the neighbours of powers of two.
    fn skewed(&mut self, most: u64) -> u64 {
        let bits = self.below(u64::from(most.ilog2()) + 1);
        let number = match self.below(8) {
            0 => most,
            1 => most - 1,
            2 => 1 << bits,
            3 => (1 << bits) - 1,
            4 => (1 << bits) + 1,
            _ => (1 << bits) + self.below(1 << bits),
        };
        number.clamp(1, most)
    }

    fn window(&mut self) -> (u64, &'static str) {
        let (unit, micros) = *self.pick(&UNITS);
        (self.skewed(100 * YEAR / micros), unit)
    }

    fn limit(&mut self, algorithm: Algorithm, (n, unit): (u64, &str)) -> String {
        let most = if algorithm == Algorithm::SlidingLog { MAX_LOG_AMOUNT } else { MAX_AMOUNT };
        let amount = if self.below(16) == 0 { 0 } else { self.skewed(most) };
        let burst = match algorithm {
            Algorithm::TokenBucket if amount > 0 && self.below(2) == 0 => format!(" burst {}", self.skewed(MAX_AMOUNT)),
            _ => String::new(),
        };
        format!("{amount}/{n} {unit}{burst}")
    }
}
