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
    ask::{Answer, Counter, Counters, Verb, wants},
    error::RedisError,
    lease::{Portion, Spent},
    url::Servers,
};

/// A charge of a request and its counters.
type Part<'a, 'b> = (&'a Charge<'b>, &'a [Counter]);
type Parts<'a, 'b> = SmallVec<[Part<'a, 'b>; 4]>;

impl RedisStore {
    /// Takes everything or nothing. What is rare is boxed, for every decision would have to be as large as it.
    pub(crate) async fn take_all(&self, charges: &[Charge<'_>]) -> Result<Took, RedisError> {
        if wants(charges).any(|want| want.lease() > 0) {
            return self.take_of_leases(charges).await;
        }
        let counters = &self.counters(charges);
        Ok(Took::OfServers(match self.are_in_one_place(counters) {
            true => self.ask(Verb::Take, counters.clone()).await?.taken,
            false => {
                let parts: Parts<'_, '_> = by_charge(charges, counters).collect();
                Box::new(Box::pin(self.take_in_places(&parts)).await?)
            }
        }))
    }

    async fn take_of_leases(&self, charges: &[Charge<'_>]) -> Result<Took, RedisError> {
        let mut spending = Spending::new();
        let mut is_refused = false;
        for want in wants(charges) {
            // Too little is left to be leased, and perhaps enough for this request: then it is asked for with the rest.
            let portion = match want.lease() {
                0 => None,
                // Whoever is denied, most likely, makes no more trips.
                _ if is_refused => self.leases.spend_portion(&want, self.clock.now()),
                _ => self.spend(&want).await?,
            };
            is_refused |= want.lease() > 0 && portion.is_none();
            spending.push(portion);
        }
        match spending.iter().all(Option::is_some) {
            true => Ok(Took::OfLeases(spending.iter_mut().flatten().map(Portion::keep).collect())),
            false => Ok(Took::OfServers(Box::pin(self.take_rest(charges, spending)).await?)),
        }
    }

    /// Takes what could not be spent of leases, and keeps what was spent for the same request if that is taken.
    async fn take_rest(&self, charges: &[Charge<'_>], spending: Spending) -> Result<Box<Taken>, RedisError> {
        let counters = self.counters(charges);
        let all_wanted = wants(charges).zip(counters.iter()).zip(&spending);
        let not_spent = all_wanted.filter(|(_, spent)| spent.is_none());
        let rest: Parts<'_, '_> =
            not_spent.map(|((want, counter), _)| (want.charge, std::slice::from_ref(counter))).collect();
        let all_of_rest: Place = (0..rest.len()).collect();
        let of_rest = all(&rest, &all_of_rest);
        let of_servers = match self.are_in_one_place(&of_rest) {
            true => self.ask(Verb::Take, of_rest).await?.taken,
            false => Box::new(self.take_in_places(&rest).await?),
        };
        let is_taken = Answers::of(&rest).note(&all_of_rest, &of_servers);
        let Taken { at, outcomes, answerers } = *of_servers;
        let times = answerers.map(|answerers| answerers.of_charges).unwrap_or_default().into_iter();
        let mut others = outcomes.into_iter().zip(times.map(|(_, at)| at).chain(std::iter::repeat(at)));
        let made = spending.into_iter().filter_map(|spent| match spent {
            Some(mut portion) if is_taken => Some(portion.keep().outcome()),
            Some(portion) => Some(portion.undo().outcome()),
            None => others.next(),
        });
        Ok(Box::new(taken(charges, made, at)))
    }

    /// Takes everything from what is held of leases, if that is enough: then nobody has to be asked.
    pub(crate) fn spend_at_hand(&self, charges: &[Charge<'_>], now: Timestamp) -> Option<AllSpent> {
        let are_leased = !charges.is_empty() && wants(charges).all(|want| want.lease() > 0);
        if !are_leased {
            return None;
        }
        let mut all_spent = AllSpent::new();
        for want in wants(charges) {
            let Some(spent) = self.leases.spend(&want, now) else {
                wants(charges).zip(&all_spent).for_each(|(want, spent)| self.leases.put_back(&want, spent));
                return None;
            };
            all_spent.push(spent);
        }
        Some(all_spent)
    }

    /// What taking would answer.
    pub(crate) async fn look_everywhere(&self, charges: &[Charge<'_>]) -> Result<Taken, RedisError> {
        let counters = &self.counters(charges);
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

/// When a request was made, and who has made which of its charges when, if that was not all at one time.
fn made_at(times: &[Timestamp], now: Timestamp) -> (Timestamp, Option<Box<Answerers>>) {
    let at = times.iter().copied().max().unwrap_or(now);
    if times.iter().all(|time| *time == at) {
        return (at, None);
    }
    let of_charges = times.iter().map(|time| (Answerer::Store, *time)).collect();
    (at, Some(Box::new(Answerers { of_charges })))
}

/// An outcome for each quota of each charge, and when it was made.
fn taken(charges: &[Charge<'_>], mut made: impl Iterator<Item = (Outcome, Timestamp)>, now: Timestamp) -> Taken {
    let mut taken = Taken { at: now, outcomes: Outcomes::new(), answerers: None };
    let mut times = Times::new();
    for charge in charges {
        // When a charge was made at several times, the earliest names no window that is later than its own.
        let mut earliest: Option<Timestamp> = None;
        for (outcome, at) in made.by_ref().take(charge.quotas.len()) {
            taken.outcomes.push(outcome);
            earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
        }
        times.push(earliest.unwrap_or(now));
    }
    (taken.at, taken.answerers) = made_at(&times, now);
    taken
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
        let times: Times = self.times.into_iter().map(|time| time.unwrap_or(now)).collect();
        let (at, answerers) = made_at(&times, now);
        Taken { at, outcomes: self.outcomes.into_iter().flatten().collect(), answerers }
    }
}

/// Each charge with its counters.
fn by_charge<'a, 'b>(
    charges: &'a [Charge<'b>],
    counters: &'a [Counter],
) -> impl Iterator<Item = (&'a Charge<'b>, &'a [Counter])> {
    let mut rest = counters;
    charges.iter().map(move |charge| {
        let (of_charge, others) = rest.split_at(charge.quotas.len().min(rest.len()));
        rest = others;
        (charge, of_charge)
    })
}

/// What was spent of leases for one request, and what could not be, in the order of what it wants.
type Spending = SmallVec<[Option<Portion>; 1]>;
pub(crate) type AllSpent = SmallVec<[Spent; 1]>;

/// How a request was taken, in little room: it is on its way through several hands.
pub(crate) enum Took {
    OfLeases(AllSpent),
    OfServers(Box<Taken>),
}

impl Took {
    pub(crate) fn taken(self, charges: &[Charge<'_>], now: Timestamp) -> Taken {
        match self {
            Self::OfLeases(all_spent) => taken(charges, all_spent.iter().map(Spent::outcome), now),
            Self::OfServers(taken) => *taken,
        }
    }
}
