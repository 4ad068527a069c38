//! The answer to a batch: the same steps that the script has made are made again, by the algorithms of the engine, on the states that it
//! found. So a decision says as much as one that was made in memory, and script and engine are held against each other all the time.

use std::time::Duration;

use redis::Value;
use smallvec::SmallVec;
use tollgate::{
    algorithm::{Numbers, Outcome, State, Status, Verdict, charge, give_back, look},
    clock::Timestamp,
    quota::{Algorithm, Quota},
    store::{Outcomes, Taken},
};

use crate::{
    ask::{Answer, Ask, Counter, Verb},
    batch::Batch,
    error::RedisError,
};

/// Doubles hold integers below this exactly.
const MAX_NUMBER: f64 = 9_007_199_254_740_992.0;

/// What each request of a batch is answered.
pub(crate) fn answers(asks: &[&Ask], batch: &Batch<'_>, answer: &Value) -> Result<Vec<Answer>, RedisError> {
    let odd = |answer: &Value| RedisError::Odd(format!("{answer:?}").chars().take(200).collect());
    let Value::Array(parts) = answer else { return Err(odd(answer)) };
    let (values, rest) = parts.split_at_checked(batch.keys.len()).ok_or_else(|| odd(answer))?;
    let [Value::Int(now), Value::BulkString(verdicts), told @ ..] = rest else { return Err(odd(answer)) };
    let mut replay = Replay {
        now: Timestamp::from_micros(u64::try_from(*now).unwrap_or(0)),
        values,
        states: vec![None; values.len()],
        verdicts: verdicts.iter(),
        told: told.iter(),
    };
    let mut key_of = batch.key_of.iter().map(|key| usize::from(*key));
    asks.iter().map(|ask| replay.answer(ask, &key_of.by_ref().take(ask.counters.len()).collect::<Keys>())).collect()
}

/// Which key each counter of a request has.
type Keys = SmallVec<[usize; 4]>;

/// The answer, read step by step.
struct Replay<'a> {
    now: Timestamp,
    /// What each key held before.
    values: &'a [Value],
    /// What it holds after the steps so far, once somebody has asked.
    states: Vec<Option<Option<State>>>,
    verdicts: std::slice::Iter<'a, u8>,
    told: std::slice::Iter<'a, Value>,
}

impl Replay<'_> {
    fn answer(&mut self, ask: &Ask, keys: &Keys) -> Result<Answer, RedisError> {
        let (mut outcomes, mut leased) = (Outcomes::new(), 0);
        match ask.verb {
            Verb::Take | Verb::Look => outcomes = self.decide(ask, keys)?,
            Verb::GiveBack(at) => {
                for (counter, key) in ask.counters.iter().zip(keys) {
                    let state = self.state(*key, &counter.quota);
                    let left =
                        state.and_then(|state| give_back(Some(state), &counter.quota, counter.cost, at, self.now));
                    self.keep(*key, left);
                }
            }
            Verb::Clear => keys.iter().for_each(|key| self.keep(*key, None)),
            Verb::Lease => {
                for (counter, key) in ask.counters.iter().zip(keys) {
                    let outcome;
                    (outcome, leased) = self.lease(*key, counter)?;
                    outcomes.push(outcome);
                }
            }
        }
        Ok(Answer { taken: Box::new(Taken::new(self.now, outcomes)), leased })
    }

    fn decide(&mut self, ask: &Ask, keys: &Keys) -> Result<Outcomes, RedisError> {
        let mut outcomes: SmallVec<[(usize, Outcome); 4]> = SmallVec::new();
        let last_group = ask.counters.iter().map(|counter| counter.group).max().unwrap_or(0);
        let mut passes = false;
        for group in 0..=last_group {
            let fits = self.verdict()?;
            passes = if group == 0 { fits } else { passes };
            let counts = passes && fits;
            let mut fitted = true;
            for (place, counter) in ask.counters.iter().enumerate().filter(|(_, counter)| counter.group == group) {
                let outcome = match counter.quota.algorithm() {
                    Algorithm::SlidingLog => self.log(counter, counts)?,
                    _ => self.step(keys[place], counter, counts, ask.verb),
                };
                fitted &= outcome.verdict == Verdict::Allow;
                outcomes.push((place, outcome));
            }
            agreed(fits, fitted)?;
        }
        outcomes.sort_unstable_by_key(|(place, _)| *place);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    /// What a counter says of a lease, and how much that is.
    fn lease(&mut self, key: usize, counter: &Counter) -> Result<(Outcome, u64), RedisError> {
        let Counter { quota, cost, lease, .. } = counter;
        let state = self.state(key, quota);
        let left = look(state.as_ref(), quota, 0, self.now).status.remaining;
        let leased = left.min(*lease);
        agreed(self.verdict()?, leased >= *cost)?;
        if leased < *cost {
            return Ok((charge(state, quota, *cost, self.now).1, 0));
        }
        let (charged, outcome) = charge(state, quota, leased, self.now);
        self.keep(key, charged);
        Ok((outcome, leased))
    }

    fn verdict(&mut self) -> Result<bool, RedisError> {
        match self.verdicts.next() {
            Some(b'1') => Ok(true),
            Some(b'0') => Ok(false),
            _ => Err(RedisError::Odd("fewer verdicts than requests".to_owned())),
        }
    }

    /// What one counter says, and how it stands after the decision.
    fn step(&mut self, key: usize, counter: &Counter, counts: bool, verb: Verb) -> Outcome {
        let Counter { quota, cost, .. } = counter;
        let state = self.state(key, quota);
        let (charged, mut outcome) = charge(state.clone(), quota, *cost, self.now);
        if counts && verb == Verb::Take {
            self.keep(key, charged);
        } else if !counts && outcome.verdict == Verdict::Allow {
            outcome.status = look(state.as_ref(), quota, 0, self.now).status;
        }
        outcome
    }

    /// The same of a log, which the script has told.
    fn log(&mut self, counter: &Counter, counts: bool) -> Result<Outcome, RedisError> {
        let mut number = || match self.told.next() {
            Some(Value::Int(number)) => Ok(*number),
            _ => Err(RedisError::Odd("fewer numbers than logs".to_owned())),
        };
        let (sum, gone_at, fewer_at, fits_at) = (number()?, number()?, number()?, number()?);
        let limit = counter.quota.amount();
        let sum = u64::try_from(sum).unwrap_or(0);
        let until = |at: i64| u64::try_from(at).ok().map(|at| Timestamp::from_micros(at).since(self.now));
        let fits = counts || counter.cost == 0 || sum.saturating_add(counter.cost) <= limit;
        Ok(Outcome {
            verdict: if fits { Verdict::Allow } else { Verdict::Deny },
            status: Status {
                limit,
                remaining: limit.saturating_sub(sum),
                refill_after: until(fewer_at),
                reset_after: until(gone_at).filter(|_| sum > 0).unwrap_or(Duration::ZERO),
            },
            retry_after: until(fits_at).filter(|_| !fits),
        })
    }

    fn state(&mut self, key: usize, quota: &Quota) -> Option<State> {
        let known = self.states.get_mut(key)?;
        known.get_or_insert_with(|| read(self.values.get(key), quota, self.now)).clone()
    }

    fn keep(&mut self, key: usize, state: Option<State>) {
        if let Some(known) = self.states.get_mut(key) {
            *known = Some(state);
        }
    }
}

/// The script decides; if the same step here says otherwise, one of the two is not what it should be.
fn agreed(script: bool, here: bool) -> Result<(), RedisError> {
    match script == here {
        true => Ok(()),
        false => Err(RedisError::Odd(format!("a verdict of {script} where the same step here says {here}"))),
    }
}

/// The state in a value: two or three numbers as doubles.
fn read(value: Option<&Value>, quota: &Quota, now: Timestamp) -> Option<State> {
    let Some(Value::BulkString(bytes)) = value else { return None };
    let expected = match quota.algorithm() {
        Algorithm::FixedWindow | Algorithm::CalendarWindow => 16,
        Algorithm::SlidingWindow | Algorithm::TokenBucket => 24,
        Algorithm::SlidingLog => return None,
    };
    if bytes.len() != expected {
        return None;
    }
    let mut numbers: Numbers = [0; 3];
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = whole(f64::from_le_bytes(bytes.try_into().ok()?))?;
    }
    State::from_numbers(numbers, quota, now)
}

fn whole(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number in the range")]
    let whole = number as u64;
    (number.fract() == 0.0 && (0.0..MAX_NUMBER).contains(&number)).then_some(whole)
}
