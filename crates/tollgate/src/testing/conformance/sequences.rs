//! Random sequences of everything, compared answer by answer with a reference store made of models.

use std::{collections::HashMap, time::Duration};

use super::{START, Stage, Tried, all_allow};
use crate::{
    algorithm::Outcome,
    clock::{ManualClock, Timestamp},
    key::Key,
    policy::Mode,
    quota::Algorithm,
    store::{Charge, GiveBack, Store},
    testing::{dice::Dice, model::Model},
};

const STEPS: usize = 80;
/// How long after its making a store is asked.
const TOLD: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Limits that one counter can have in turn: their windows agree, their amounts and bursts do not.
const WINDOWS: [&[&str]; 6] = [
    &["5/7 ms", "3/7 ms", "9/7 ms", "0/7 ms"],
    &["10/minute; 25/hour", "4/minute; 60/hour"],
    &["2/second; 3/second; 2/second"],
    &["7/13 ms; 10000/100 years"],
    &["20/week", "9/week"],
    &["12/month", "30/month"],
];
const BUCKETS: [&[&str]; 6] = [
    &["7/13 ms burst 3", "1/13 ms burst 9", "13/13 ms", "0/13 ms"],
    &["10/minute burst 20; 25/hour", "4/minute burst 2; 60/hour"],
    &["2/second; 3/second; 2/second burst 5"],
    &["1000000000000/100 years; 10/ms"],
    &["1/second burst 30"],
    &["3/7 hours burst 8", "2/7 hours burst 8"],
];

pub(super) async fn equals_the_models<S: Store>(seed: u64, make: impl Fn(ManualClock) -> S) {
    Sequence::new(seed, make).run().await;
}

struct Sequence<S> {
    dice: Dice,
    stage: Stage<S>,
    reference: Reference,
    rules: Vec<Tried>,
    keys: Vec<Key>,
    /// What was taken and not given back.
    taken: Vec<(Ask, Timestamp)>,
    /// The last wait that was named.
    wait: Option<Duration>,
}

/// One charge, by its place in the sequence's rules and keys.
#[derive(Clone, Copy, Debug)]
struct Ask {
    rule: usize,
    variant: usize,
    key: usize,
    cost: u64,
}

impl<S: Store> Sequence<S> {
    fn new(seed: u64, make: impl Fn(ManualClock) -> S) -> Self {
        let mut dice = Dice::new(seed);
        let rules = (0..1 + dice.below(3)).map(|i| {
            let algorithm = *dice.pick(&Algorithm::ALL);
            let mode = if dice.once_in(4) { Mode::Shadow } else { Mode::Enforce };
            let limits = dice.pick(if algorithm == Algorithm::TokenBucket { &BUCKETS } else { &WINDOWS });
            Tried::new(&format!("rule-{i}"), mode, algorithm, limits)
        });
        Self {
            rules: rules.collect(),
            dice,
            stage: Stage::new(make, format!("sequence {seed}")),
            reference: Reference::default(),
            keys: vec![Key::of(["one"]), Key::of(["another"])],
            taken: Vec::new(),
            wait: None,
        }
    }

    async fn run(mut self) {
        for step in 0..STEPS {
            let left = (START + TOLD).since(self.stage.clock.now());
            let span = self.span().min(left);
            self.stage.clock.advance(span);
            let asks = self.asks();
            match self.dice.below(20) {
                0 => self.clear(&asks).await,
                1..=4 => self.give_back(step).await,
                5..=8 => self.look(step, &asks).await,
                _ => self.take(step, &asks).await,
            }
        }
    }

    /// How long to wait before the next step: rarely anything but an instant at which something happens.
    fn span(&mut self) -> Duration {
        let rule = self.dice.below(self.rules.len());
        let quotas: Vec<_> = self.rules[rule].variants[0].iter().map(|(_, quota)| *quota).collect();
        let quota = self.dice.pick(&quotas);
        let (window, moment) = (quota.window(), Duration::from_micros(1));
        let micros = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        match (self.dice.below(12), self.wait) {
            (0, _) => window - moment,
            (1, _) => window,
            (2, _) => window + moment,
            (3, _) => 2 * window,
            (4, _) => Duration::from_micros(micros.div_ceil(quota.amount().max(1))),
            (5, _) => Duration::from_micros(self.dice.span_below(micros)),
            (6, _) => moment,
            (7, Some(wait)) => wait.saturating_sub(moment),
            (8, Some(wait)) => wait,
            _ => Duration::ZERO,
        }
    }

    /// The charges of one request: at most one a rule, of any variant and any cost.
    fn asks(&mut self) -> Vec<Ask> {
        let mut asks = Vec::new();
        for rule in 0..self.rules.len() {
            if self.dice.once_in(4) {
                continue;
            }
            let variants = &self.rules[rule].variants;
            let variant = if self.dice.once_in(3) { self.dice.below(variants.len()) } else { 0 };
            let capacity = variants[variant].iter().map(|(_, quota)| quota.capacity()).max().unwrap_or(0);
            let cost = *self.dice.pick(&[0, 1, 1, 1, 2, 3, capacity / 2, capacity, capacity + 1]);
            asks.push(Ask { rule, variant, key: self.dice.below(self.keys.len()), cost });
        }
        asks
    }

    async fn take(&mut self, step: usize, asks: &[Ask]) {
        let now = self.stage.clock.now();
        let charges = charges(&self.rules, &self.keys, asks);
        let expected = self.reference.take(asks, &charges, now);
        let outcomes = self.stage.take(&charges).await.outcomes.to_vec();
        self.stage.same(&format!("step {step}, taking {asks:?} of {charges:?}"), &outcomes, &expected);

        self.wait = outcomes.iter().find_map(|outcome| outcome.retry_after).or(self.wait);
        let passes = crate::store::passes(&charges, &outcomes);
        let mut rest = outcomes.as_slice();
        for (ask, charge) in asks.iter().zip(&charges) {
            let (of_charge, others) = rest.split_at(charge.quotas.len());
            rest = others;
            if passes && ask.cost > 0 && all_allow(of_charge) {
                self.taken.push((*ask, now));
            }
        }
    }

    async fn look(&mut self, step: usize, asks: &[Ask]) {
        let charges = charges(&self.rules, &self.keys, asks);
        let expected = self.reference.clone().take(asks, &charges, self.stage.clock.now());
        let outcomes = self.stage.look(&charges).await.outcomes.to_vec();
        self.stage.same(&format!("step {step}, looking at {asks:?} of {charges:?}"), &outcomes, &expected);
    }

    /// Gives one or two charges back, at whatever time, then looks at what became of them.
    async fn give_back(&mut self, step: usize) {
        let mut given = Vec::new();
        for _ in 0..1 + self.dice.below(2) {
            if !self.taken.is_empty() {
                given.push(self.taken.swap_remove(self.dice.below(self.taken.len())));
            }
        }
        let asks: Vec<Ask> = given.iter().map(|(ask, _)| *ask).collect();
        let charges = charges(&self.rules, &self.keys, &asks);
        let given = charges.iter().zip(&given);
        let back: Vec<GiveBack<'_>> = given.map(|(charge, (_, at))| GiveBack::new(*charge, *at)).collect();
        self.stage.give_back(&back).await;
        for (ask, given) in asks.iter().zip(&back) {
            self.reference.give_back(ask, given, self.stage.clock.now());
        }
        let looks: Vec<Ask> = asks.iter().map(|ask| Ask { cost: 0, ..*ask }).collect();
        for ask in looks {
            self.look(step, &[ask]).await;
        }
    }

    async fn clear(&mut self, asks: &[Ask]) {
        let charges = charges(&self.rules, &self.keys, asks);
        self.stage.clear(&charges).await;
        for (ask, charge) in asks.iter().zip(&charges) {
            for place in 0..charge.quotas.len() {
                self.reference.counter(ask, place).clear();
            }
        }
        // What was charged before is not to be given back to what is charged after.
        self.taken.retain(|(taken, _)| !asks.iter().any(|ask| (ask.rule, ask.key) == (taken.rule, taken.key)));
    }
}

fn charges<'a>(rules: &'a [Tried], keys: &'a [Key], asks: &[Ask]) -> Vec<Charge<'a>> {
    asks.iter().map(|ask| rules[ask.rule].charge(ask.variant, &keys[ask.key], ask.cost)).collect()
}

/// The contract of a store, word by word, over models: one for each rule, key and place of a quota.
#[derive(Clone, Default)]
struct Reference(HashMap<(usize, usize, usize), Model>);

impl Reference {
    fn counter(&mut self, ask: &Ask, place: usize) -> &mut Model {
        self.0.entry((ask.rule, ask.key, place)).or_default()
    }

    fn take(&mut self, asks: &[Ask], charges: &[Charge<'_>], now: Timestamp) -> Vec<Outcome> {
        let looked: Vec<Vec<Outcome>> =
            asks.iter().zip(charges).map(|(ask, charge)| self.look(ask, charge, now)).collect();
        let passes =
            charges.iter().zip(&looked).all(|(charge, looked)| charge.mode == Mode::Shadow || all_allow(looked));
        let mut outcomes = Vec::new();
        for ((ask, charge), looked) in asks.iter().zip(charges).zip(&looked) {
            let is_taken = passes && all_allow(looked);
            for ((place, (_, quota)), looked) in charge.quotas.iter().enumerate().zip(looked) {
                let cost = if is_taken { ask.cost } else { 0 };
                let stands = self.counter(ask, place).charge(quota, cost, now);
                outcomes.push(Outcome { status: stands.status, ..*looked });
            }
        }
        outcomes
    }

    fn look(&mut self, ask: &Ask, charge: &Charge<'_>, now: Timestamp) -> Vec<Outcome> {
        let quotas = charge.quotas.iter().enumerate();
        quotas.map(|(place, (_, quota))| self.counter(ask, place).look(quota, ask.cost, now)).collect()
    }

    fn give_back(&mut self, ask: &Ask, given: &GiveBack<'_>, now: Timestamp) {
        for (place, (_, quota)) in given.charge.quotas.iter().enumerate() {
            self.counter(ask, place).give_back(quota, ask.cost, given.at, now);
        }
    }
}
