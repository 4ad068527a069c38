//! How a request's charges are taken, all or none: leases are spent here, what is in one place is one call, and what is in several places of
//! a Cluster is looked at first, then taken in each, and given back where one of them denies after all.
//!
//! A request that comes to its end half-way, because the process does or its time is over, leaves charged what it was charged for: until the windows
//! of these counters end, they deny too early by so much. They never admit too much.

use futures_util::future::{join_all, try_join, try_join_all};
use smallvec::SmallVec;
use tollgate::{
    algorithm::{Outcome, Verdict},
    clock::Timestamp,
    policy::Mode,
    store::{Answerer, Answerers, Charge, Outcomes, Taken},
};

use crate::{
    RedisStore,
    ask::{Answer, Counter, Counters, Verb},
    denials::by_charge,
    error::RedisError,
    leases::Portion,
    url::Servers,
};

/// A charge of a request and its counters.
type Part<'a, 'b> = (&'a Charge<'b>, &'a [Counter]);
type Parts<'a, 'b> = SmallVec<[Part<'a, 'b>; 4]>;

impl RedisStore {
    /// Takes everything or nothing. What is rare is boxed, for every decision would have to be as large as it.
    pub(crate) async fn take_all(&self, charges: &[Charge<'_>], counters: &Counters) -> Result<Taken, RedisError> {
        match counters.iter().any(|counter| counter.lease > 0) {
            true => Box::pin(self.take_of_leases(charges, counters)).await,
            false if self.are_in_one_place(counters) => Ok(*self.ask(Verb::Take, counters.clone()).await?.taken),
            false => Box::pin(self.take_in_places(&by_charge(charges, counters).collect::<Parts<'_, '_>>())).await,
        }
    }

    async fn take_of_leases(&self, charges: &[Charge<'_>], counters: &Counters) -> Result<Taken, RedisError> {
        let (mut spending, mut rest, mut is_spent) = (Spending::new(), Parts::new(), SmallVec::<[bool; 4]>::new());
        let mut is_refused = false;
        for (charge, counters) in by_charge(charges, counters) {
            for counter in counters {
                // Too little is left to be leased, and perhaps enough for this request: then it is asked for with the rest.
                let spent = match counter.lease {
                    0 => None,
                    // Whoever is denied, most likely, makes no more trips.
                    _ if is_refused => {
                        self.leases.held(&counter.key).and_then(|lease| lease.spend(counter, self.clock.now()))
                    }
                    _ => self.spend(counter).await?,
                };
                is_refused |= counter.lease > 0 && spent.is_none();
                is_spent.push(spent.is_some());
                match spent {
                    Some(portion) => spending.push(portion),
                    None => rest.push((charge, std::slice::from_ref(counter))),
                }
            }
        }
        match rest.is_empty() {
            true => Ok(all_spent(charges, spending, self.clock.now())),
            false => Box::pin(self.take_rest(charges, spending, &is_spent, &rest)).await,
        }
    }

    /// Takes what could not be spent of leases, and keeps what was spent for the same request if that is taken.
    async fn take_rest(
        &self,
        charges: &[Charge<'_>],
        spending: Spending,
        is_spent: &[bool],
        rest: &[Part<'_, '_>],
    ) -> Result<Taken, RedisError> {
        let all_of_rest: Place = (0..rest.len()).collect();
        let of_rest = all(rest, &all_of_rest);
        let taken = match self.are_in_one_place(&of_rest) {
            true => *self.ask(Verb::Take, of_rest).await?.taken,
            false => self.take_in_places(rest).await?,
        };
        let is_taken = Answers::of(rest).note(&all_of_rest, &taken);
        let spent_at: SmallVec<[Timestamp; 4]> = spending.iter().map(|portion| portion.spent.at).collect();
        let spent: Outcomes = spending.into_iter().map(if is_taken { Portion::keep } else { Portion::undo }).collect();
        Ok(with_spent(charges, is_spent, spent.into_iter().zip(spent_at), taken))
    }

    /// Takes everything from what is held of leases, if that is enough: then nobody has to be asked.
    pub(crate) fn spend_at_hand(&self, charges: &[Charge<'_>], counters: &[Counter], now: Timestamp) -> Option<Taken> {
        if counters.is_empty() || counters.iter().any(|counter| counter.lease == 0) {
            return None;
        }
        let mut spending = Spending::new();
        for counter in counters {
            spending.push(self.leases.held(&counter.key)?.spend(counter, now)?);
        }
        Some(all_spent(charges, spending, now))
    }

    /// What taking would answer.
    pub(crate) async fn look_everywhere(
        &self,
        charges: &[Charge<'_>],
        counters: &Counters,
    ) -> Result<Taken, RedisError> {
        if self.are_in_one_place(counters) {
            return Ok(*self.ask(Verb::Look, counters.clone()).await?.taken);
        }
        let parts: Parts<'_, '_> = by_charge(charges, counters).collect();
        Ok(self.look_in_places(&parts, &places(&parts)).await?.together(self.clock.now()))
    }

    /// Whether one server can decide about them: all of them are on a single one, and those of one hash tag in a Cluster.
    fn are_in_one_place(&self, counters: &Counters) -> bool {
        let mut tags = counters.iter().map(Counter::tag);
        let first = tags.next();
        !matches!(self.settings.url.servers, Servers::Cluster(_)) || tags.all(|tag| Some(tag) == first)
    }

    /// Looks at all places first, so that a request that is to be denied is charged nowhere. Only if somebody else is faster in between, it is
    /// charged in some places and given back.
    async fn take_in_places(&self, parts: &[Part<'_, '_>]) -> Result<Taken, RedisError> {
        let places = places(parts);
        let seen = self.look_in_places(parts, &places).await?;
        if !seen.passes {
            return Ok(seen.together(self.clock.now()));
        }
        let (shadows, enforced): (Vec<&Place>, Vec<&Place>) = places.iter().partition(|place| is_shadow(parts, place));
        let taken = join_all(enforced.iter().map(|place| self.ask(Verb::Take, all(parts, place)))).await;
        let mut answers = Answers::of(parts);
        let mut charged = Vec::new();
        let mut error = None;
        for (place, taken) in enforced.into_iter().zip(taken) {
            match taken {
                Ok(Answer { taken, .. }) if answers.note(place, &taken) => charged.push((place, taken.at)),
                Ok(_) => {}
                Err(why) => error = Some(why),
            }
        }
        if answers.passes && error.is_none() {
            for place in &shadows {
                match self.ask(Verb::Take, all(parts, place)).await {
                    Ok(answer) => _ = answers.note(place, &answer.taken),
                    Err(why) => error = Some(why),
                }
            }
            if error.is_none() {
                return Ok(answers.together(self.clock.now()));
            }
        }
        for (place, at) in &charged {
            // Whatever cannot be given back stays charged.
            let _ = self.ask(Verb::GiveBack(*at), all(parts, place)).await;
        }
        match error {
            Some(error) => Err(error),
            None => {
                for place in charged.into_iter().map(|(place, _)| place).chain(shadows) {
                    answers.note(place, &self.stand(parts, place).await?);
                }
                Ok(answers.together(self.clock.now()))
            }
        }
    }

    async fn look_in_places<'a, 'b, 'c>(
        &self,
        parts: &'a [Part<'b, 'c>],
        places: &[Place],
    ) -> Result<Answers<'a, 'b, 'c>, RedisError> {
        let seen = try_join_all(places.iter().map(|place| self.ask(Verb::Look, all(parts, place)))).await?;
        let mut answers = Answers::of(parts);
        for (place, seen) in places.iter().zip(&seen) {
            answers.note(place, &seen.taken);
        }
        if !answers.passes {
            let standing = try_join_all(places.iter().map(|place| self.stand(parts, place))).await?;
            for (place, standing) in places.iter().zip(&standing) {
                answers.note(place, standing);
            }
        }
        Ok(answers)
    }

    /// What a place says of a request that is denied elsewhere: verdicts as if it could pass, and how the counters stand without it.
    async fn stand(&self, parts: &[Part<'_, '_>], place: &Place) -> Result<Taken, RedisError> {
        let counters = all(parts, place);
        let for_nothing = counters.iter().map(|counter| Counter { cost: 0, ..counter.clone() }).collect();
        let (asked, standing) = try_join(self.ask(Verb::Look, counters), self.ask(Verb::Look, for_nothing)).await?;
        let mut asked = *asked.taken;
        for (outcome, standing) in asked.outcomes.iter_mut().zip(&standing.taken.outcomes) {
            outcome.status = standing.status;
        }
        Ok(asked)
    }
}

/// Which charges are in one place, those of rules in shadow apart, for they are taken only if all others are.
fn places(parts: &[Part<'_, '_>]) -> SmallVec<[Place; 2]> {
    let place_of = |part: usize| (parts[part].1.first().map(Counter::tag), parts[part].0.mode == Mode::Shadow);
    let mut places: SmallVec<[Place; 2]> = SmallVec::new();
    for part in 0..parts.len() {
        match places.iter_mut().find(|place| place_of(place[0]) == place_of(part)) {
            Some(place) => place.push(part),
            None => places.push(SmallVec::from_iter([part])),
        }
    }
    places
}

/// Charges in one place, by their numbers.
type Place = SmallVec<[usize; 4]>;

fn all(parts: &[Part<'_, '_>], place: &Place) -> Counters {
    place.iter().flat_map(|part| parts[*part].1.iter().cloned()).collect()
}

fn is_shadow(parts: &[Part<'_, '_>], place: &Place) -> bool {
    place.iter().all(|part| parts[*part].0.mode == Mode::Shadow)
}

/// When each charge of a request was made, by the clock of whoever made it.
type Times = SmallVec<[Timestamp; 4]>;

/// Outcomes of charges that were made at these times.
fn taken_at(times: Times, outcomes: Outcomes, now: Timestamp) -> Taken {
    let at = times.iter().copied().max().unwrap_or(now);
    let is_one = times.iter().all(|time| *time == at);
    let of_charges = || times.iter().map(|time| (Answerer::Store, *time)).collect();
    let answerers = (!is_one).then(|| Box::new(Answerers { of_charges: of_charges() }));
    Taken { at, outcomes, answerers }
}

/// What was spent of leases, which is kept.
fn all_spent(charges: &[Charge<'_>], spending: Spending, now: Timestamp) -> Taken {
    let mut spent_at = spending.iter().map(|portion| portion.spent.at);
    let earliest = |charge: &Charge<'_>| spent_at.by_ref().take(charge.quotas.len()).min().unwrap_or(now);
    let times = charges.iter().map(earliest).collect();
    taken_at(times, spending.into_iter().map(Portion::keep).collect(), now)
}

/// What was spent of leases, and what the servers have answered about the rest, in the order of the charges.
fn with_spent(
    charges: &[Charge<'_>],
    is_spent: &[bool],
    mut spent: impl Iterator<Item = (Outcome, Timestamp)>,
    rest: Taken,
) -> Taken {
    let Taken { at, outcomes: others, answerers } = rest;
    let mut times_of_others = answerers.map(|answerers| answerers.of_charges).unwrap_or_default().into_iter();
    let mut others = others.into_iter();
    let (mut is_spent, mut outcomes, mut times) = (is_spent.iter(), Outcomes::new(), Times::new());
    for charge in charges {
        // When a charge was made at several times, the earliest names no window that is later than its own.
        let mut made_at: Option<Timestamp> = None;
        for is_spent in is_spent.by_ref().take(charge.quotas.len()) {
            let (outcome, made) = match is_spent {
                true => spent.next().unzip(),
                false => (others.next(), Some(times_of_others.next().map_or(at, |(_, at)| at))),
            };
            outcomes.extend(outcome);
            made_at = made_at.min(made).or(made);
        }
        times.push(made_at.unwrap_or(at));
    }
    taken_at(times, outcomes, at)
}

/// What several places answer, put together in the order of the charges.
struct Answers<'a, 'b, 'c> {
    parts: &'a [Part<'b, 'c>],
    outcomes: Vec<Outcomes>,
    times: SmallVec<[Option<Timestamp>; 4]>,
    /// Whether the request passes wherever it was asked about.
    passes: bool,
}

impl<'a, 'b, 'c> Answers<'a, 'b, 'c> {
    fn of(parts: &'a [Part<'b, 'c>]) -> Self {
        let times = parts.iter().map(|_| None).collect();
        Self { parts, outcomes: vec![Outcomes::new(); parts.len()], times, passes: true }
    }

    /// Notes an answer, and tells whether a request passes there.
    fn note(&mut self, place: &Place, taken: &Taken) -> bool {
        let mut rest = taken.outcomes.as_slice();
        let mut passes = true;
        for part in place {
            let (charge, counters) = self.parts[*part];
            let (outcomes, others) = rest.split_at(counters.len().min(rest.len()));
            rest = others;
            let is_denied = outcomes.iter().any(|outcome| outcome.verdict == Verdict::Deny);
            passes &= !(is_denied && charge.mode == Mode::Enforce);
            self.outcomes[*part] = Outcomes::from_slice(outcomes);
            self.times[*part] = Some(taken.at);
        }
        self.passes &= passes;
        passes
    }

    fn together(self, now: Timestamp) -> Taken {
        let times = self.times.into_iter().map(|time| time.unwrap_or(now)).collect();
        taken_at(times, self.outcomes.into_iter().flatten().collect(), now)
    }
}

/// What was spent of leases for one request.
type Spending = SmallVec<[Portion; 2]>;
