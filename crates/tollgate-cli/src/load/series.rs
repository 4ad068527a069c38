//! What happened when: counts in slots of time that grow wider as the load goes on, so that their number stays bounded.

use std::time::Duration;

/// Requests in one slot of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) sent: u64,
    pub(super) succeeded: u64,
    pub(super) limited: u64,
}

/// Slots of equal width from the start on.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) width: Duration,
    pub(super) slots: Vec<Slot>,
}

/// As many as a picture can show.
const MAX_SLOTS: usize = 160;
const FIRST_WIDTH: Duration = Duration::from_millis(50);

impl Default for Series {
    fn default() -> Self {
        Self { width: FIRST_WIDTH, slots: Vec::with_capacity(MAX_SLOTS) }
    }
}

impl Series {
    /// The slot of a moment so long after the start.
    pub(super) fn at(&mut self, elapsed: Duration) -> &mut Slot {
        let index = loop {
            let index = usize::try_from(elapsed.as_nanos() / self.width.as_nanos()).unwrap_or(usize::MAX);
            if index < MAX_SLOTS {
                break index;
            }
            self.halve();
        };
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::default());
        }
        &mut self.slots[index]
    }

    /// Makes every two slots one.
    fn halve(&mut self) {
        self.width *= 2;
        let sum = |pair: &[Slot]| {
            pair.iter().fold(Slot::default(), |sum, slot| Slot {
                sent: sum.sent + slot.sent,
                succeeded: sum.succeeded + slot.succeeded,
                limited: sum.limited + slot.limited,
            })
        };
        self.slots = self.slots.chunks(2).map(sum).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_long_it_goes_on_slots_stay_few_and_nothing_is_lost() {
        let mut series = Series::default();
        for second in 0..10_000 {
            series.at(Duration::from_secs(second)).sent += 1;
        }
        assert!(series.slots.len() <= MAX_SLOTS);
        assert_eq!(series.slots.iter().map(|slot| slot.sent).sum::<u64>(), 10_000);
        let slots = series.slots.split_last().expect("there are some").1;
        let expected = series.width.as_secs();
        assert!(slots.iter().all(|slot| slot.sent.abs_diff(expected) <= 1), "{series:?}");
    }
}
