//! Which pods are served: one sidecar each.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::capture::kernel::Place;

/// How long the sidecar of a pod that was taken over may take to come back.
const RETURN: Duration = Duration::from_secs(30);
/// New maps that a pod may get at once; one more every `BUDGET_AGAIN`. A sidecar can hold on to
/// maps that it was given before.
const BUDGET: u32 = 8;
const BUDGET_AGAIN: Duration = Duration::from_secs(60);
/// Pods whose budget is remembered.
const REMEMBERED: usize = 4096;

enum Seat {
    Taken {
        pid: u32,
    },
    /// Taken over from the broker before this one.
    Waiting {
        place: Place,
        until: Instant,
    },
}

#[derive(Default)]
pub(super) struct Seats {
    seats: HashMap<u64, Seat>,
    /// When each pod was given maps, as far as it counts.
    given: HashMap<u64, Vec<Instant>>,
}

/// Another sidecar has the seat.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken(pub(super) u32);

impl Seats {
    pub(super) fn adopt(&mut self, places: Vec<Place>, now: Instant) {
        for place in places {
            let until = now + RETURN;
            self.seats.insert(place.key, Seat::Waiting { place, until });
        }
    }

    /// Takes the seat of a pod; gives what the pod has from before.
    pub(super) fn take(&mut self, key: u64, pid: u32) -> Result<Option<Place>, Taken> {
        match self.seats.get(&key) {
            Some(Seat::Taken { pid }) => return Err(Taken(*pid)),
            Some(Seat::Waiting { .. }) | None => {}
        }
        match self.seats.insert(key, Seat::Taken { pid }) {
            Some(Seat::Waiting { place, .. }) => Ok(Some(place)),
            _ => Ok(None),
        }
    }

    pub(super) fn leave(&mut self, key: u64) {
        self.seats.remove(&key);
    }

    /// Places whose sidecar did not come back; their seats stay taken until [`Seats::leave`].
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Place> {
        let mut expired = Vec::new();
        for seat in self.seats.values_mut() {
            if let Seat::Waiting { place, until } = seat
                && *until <= now
            {
                expired.push(place.clone());
                *seat = Seat::Taken { pid: 0 };
            }
        }
        expired
    }

    /// Whether the pod may have new maps now; if so, they are counted.
    pub(super) fn may_have_maps(&mut self, key: u64, now: Instant) -> bool {
        let counts = |given: &Instant| now.duration_since(*given) < BUDGET_AGAIN * BUDGET;
        if self.given.len() >= REMEMBERED {
            self.given.retain(|_, given| given.iter().any(counts));
        }
        if self.given.len() >= REMEMBERED && !self.given.contains_key(&key) {
            return false;
        }
        let given = self.given.entry(key).or_default();
        given.retain(counts);
        let may = given.len() < BUDGET as usize;
        if may {
            given.push(now);
        }
        may
    }

    pub(super) fn waiting(&self) -> usize {
        self.seats
            .values()
            .filter(|seat| matches!(seat, Seat::Waiting { .. }))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: u64) -> Place {
        Place {
            index: 3,
            key,
            id: 40,
            first_bank: 0,
            banks: 1,
            cgroups: vec![key],
            processes: false,
        }
    }

    #[test]
    fn a_seat_is_one_sidecars_at_a_time() {
        let mut seats = Seats::default();
        assert_eq!(seats.take(7, 100), Ok(None));
        assert_eq!(seats.take(7, 200), Err(Taken(100)));
        assert_eq!(seats.take(8, 200), Ok(None));
        seats.leave(7);
        assert_eq!(seats.take(7, 200), Ok(None));
    }

    #[test]
    fn what_was_taken_over_waits_for_its_sidecar_for_a_while() {
        let mut seats = Seats::default();
        let now = Instant::now();
        seats.adopt(vec![place(7), place(8)], now);
        assert_eq!(seats.waiting(), 2);
        assert_eq!(seats.take(7, 100), Ok(Some(place(7))));
        assert!(seats.expired(now).is_empty());
        assert_eq!(seats.expired(now + RETURN), [place(8)]);
        assert_eq!(seats.take(8, 100), Err(Taken(0)));
        seats.leave(8);
        assert_eq!(seats.take(8, 100), Ok(None));
    }

    #[test]
    fn maps_are_given_out_within_bounds() {
        let mut seats = Seats::default();
        let now = Instant::now();
        let given = (0..100).filter(|_| seats.may_have_maps(7, now)).count();
        assert_eq!(given, BUDGET as usize);
        assert!(seats.may_have_maps(8, now), "another pod has its own");
        let later = now + BUDGET_AGAIN * BUDGET;
        assert!(seats.may_have_maps(7, later));
    }
}
