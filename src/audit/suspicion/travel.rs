//! A user who is at two places between which nobody can travel that fast. Pure: the caller knows the places.

use super::finding::{Finding, Suspicion};
use crate::ids::{SessionId, UserId};
use serde_json::json;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// An airliner is slower.
pub const KM_PER_HOUR_MAX: f64 = 1_000.0;
/// Below this distance, the database of places is not exact enough.
pub const KM_MIN: f64 = 500.0;
/// Half of the earth's circumference takes less at that speed, so nothing older is of use.
const REMEMBERED: Duration = Duration::from_hours(21);
/// Users whose last place is remembered.
const USERS_MAX: usize = 65_536;
/// The earth's mean radius.
const EARTH_KM: f64 = 6_371.0;

/// Where an address is.
#[derive(Clone, PartialEq, Debug)]
pub struct GeoPlace {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// The true place is about this near, in km.
    pub radius_km: f64,
    /// For people, such as "GB London".
    pub name: String,
}

/// A sign-in, or a session that goes on.
#[derive(Clone, PartialEq, Debug)]
pub struct Sighting {
    /// Whose it is.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// The address that it came from.
    pub address: IpAddr,
    /// Where that is.
    pub place: GeoPlace,
}

/// The last place of each user.
#[derive(Default)]
pub(super) struct Travel {
    last: HashMap<i64, (Duration, IpAddr, GeoPlace)>,
}

impl Travel {
    pub(super) fn seen(&mut self, seen: Sighting, now: Duration) -> Option<Finding> {
        let Sighting { user, session, address, place } = seen;
        if self.last.len() >= USERS_MAX && !self.last.contains_key(&user.0) {
            self.last.retain(|_, (at, ..)| now < *at + REMEMBERED);
            if self.last.len() >= USERS_MAX {
                return None;
            }
        }
        let (before, address_before, place_before) = self.last.insert(user.0, (now, address, place.clone()))?;
        let elapsed = now.saturating_sub(before);
        let km = impossible_km(&place_before, &place, elapsed)?;
        let details = json!({
            "km": km.round(), "within_minutes": elapsed.as_secs() / 60, "from": place_before.name, "to": place.name,
            "address_before": address_before.to_string(),
        });
        let finding = Finding::new(Suspicion::ImpossibleTravel, &user.0.to_string(), details);
        Some(Finding { session: Some(session), ..finding.by(Some(user)).at_address(&address.to_string()) })
    }
}

/// The distance of two places, if it cannot be travelled in that time.
fn impossible_km(from: &GeoPlace, to: &GeoPlace, elapsed: Duration) -> Option<f64> {
    let km = distance_km(from, to) - from.radius_km - to.radius_km;
    (km > KM_MIN && km > KM_PER_HOUR_MAX * elapsed.as_secs_f64() / 3_600.0).then_some(km)
}

/// Along a great circle (the haversine formula).
fn distance_km(from: &GeoPlace, to: &GeoPlace) -> f64 {
    let (north, south) = (from.latitude.to_radians(), to.latitude.to_radians());
    let half_height = ((south - north) / 2.0).sin();
    let half_width = ((to.longitude - from.longitude).to_radians() / 2.0).sin();
    let h = half_height * half_height + north.cos() * south.cos() * half_width * half_width;
    2.0 * EARTH_KM * h.clamp(0.0, 1.0).sqrt().asin()
}

/// Whether an address has a place. Others are inside a network, of a test, or of no single computer.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_shared = first == 100 && second & 0b1100_0000 == 64; // RFC 6598, of carriers
            let is_reserved = first == 0 || first >= 224;
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || is_shared || is_reserved)
        }
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000, // RFC 4291 §2.4: global unicast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(latitude: f64, longitude: f64) -> GeoPlace {
        GeoPlace { latitude, longitude, radius_km: 10.0, name: format!("{latitude} {longitude}") }
    }

    fn london() -> GeoPlace {
        place(51.5, -0.1)
    }

    fn new_york() -> GeoPlace {
        place(40.7, -74.0)
    }

    fn sighting(user: i64, place: GeoPlace) -> Sighting {
        Sighting { user: UserId(user), session: SessionId(3), address: IpAddr::from([81, 2, 69, 160]), place }
    }

    fn found(places: &[(GeoPlace, u64)]) -> Vec<Finding> {
        let mut travel = Travel::default();
        let minute = Duration::from_mins;
        places.iter().filter_map(|(place, at)| travel.seen(sighting(7, place.clone()), minute(*at))).collect()
    }

    #[test]
    fn distances_are_those_of_the_globe() {
        for (from, to, km) in [
            (london(), new_york(), 5_570.0),
            (place(0.0, 179.9), place(0.0, -179.9), 22.0),
            (place(90.0, 0.0), place(-90.0, 77.0), 20_015.0),
            (london(), london(), 0.0),
        ] {
            let computed = distance_km(&from, &to);
            assert!((computed - km).abs() < km * 0.01 + 1.0, "{from:?} to {to:?}: {computed}");
        }
    }

    #[test]
    fn two_continents_within_an_hour_are_impossible() {
        let findings = found(&[(london(), 0), (new_york(), 60)]);
        assert_eq!(findings.len(), 1);
        let finding = &findings[0];
        assert_eq!((finding.suspicion, finding.user), (Suspicion::ImpossibleTravel, Some(UserId(7))));
        assert_eq!((finding.session, finding.address.as_deref()), (Some(SessionId(3)), Some("81.2.69.160")));
        assert_eq!(finding.details["within_minutes"], 60);
        assert_eq!(found(&[(london(), 0), (new_york(), 5), (london(), 10)]).len(), 2);
    }

    #[test]
    fn flights_short_ways_and_vague_places_are_possible() {
        assert_eq!(found(&[(london(), 0), (new_york(), 60 * 8)]), [], "a flight of eight hours");
        assert_eq!(found(&[(london(), 0), (place(48.9, 2.3), 1)]), [], "Paris is 344 km away");
        let vague = GeoPlace { radius_km: 6_000.0, ..new_york() };
        assert_eq!(found(&[(london(), 0), (vague, 1)]), [], "somewhere in America");
        let mut travel = Travel::default();
        assert_eq!(travel.seen(sighting(7, london()), Duration::ZERO), None);
        assert_eq!(travel.seen(sighting(8, new_york()), Duration::ZERO), None, "somebody else");
    }

    #[test]
    fn remembers_a_bounded_number_of_users_for_as_long_as_it_needs() {
        let mut travel = Travel::default();
        for user in 0..USERS_MAX as i64 + 10 {
            assert_eq!(travel.seen(sighting(user, london()), Duration::ZERO), None);
            assert!(travel.last.len() <= USERS_MAX);
        }
        assert_eq!(travel.seen(sighting(-1, london()), REMEMBERED), None);
        assert_eq!(travel.last.len(), 1, "the others are too old to matter");
    }

    #[test]
    fn only_public_addresses_have_a_place() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.9.9",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["81.2.69.160", "100.128.0.1", "2a02:ff80::1", "::ffff:81.2.69.160"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
