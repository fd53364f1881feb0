//! Who fails to authenticate too often is told to wait.
//!
//! Guarantees that of one address at most [`FAILURES`] failed attempts in [`WINDOW_MS`] learn why they failed; the rest get
//! 429 with the seconds that are left. Whoever has a right is let in meanwhile: many clients stand behind one proxy, and a
//! panel that posts a good hook must not pay for a neighbour with an old token. Guessing is not what is held off (a secret has
//! 256 bits), but noise, and clients that repeat what can't succeed. In memory, at most [`PEERS`] addresses.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use axum::http::StatusCode;
use wharf_model::Millis;

use crate::Problem;

/// Failed attempts of one address in a window.
pub const FAILURES: u32 = 20;
/// Length of the window; it begins with the first failure.
pub const WINDOW_MS: Millis = 60_000;
/// Addresses that are remembered: some 600 kB. The one that failed longest ago makes room.
pub const PEERS: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Millis,
    failures: u32,
}

/// Failed attempts by address.
#[derive(Debug, Default)]
pub struct Throttle {
    windows: Mutex<HashMap<IpAddr, Window>>,
}

impl Throttle {
    /// Counts a failed attempt: its own refusal comes back, or that there were too many.
    pub fn failed(&self, peer: IpAddr, now: Millis, refusal: Problem) -> Problem {
        let peer = network(peer);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= PEERS && !windows.contains_key(&peer) {
            make_room(&mut windows, now);
        }
        let window = windows.entry(peer).or_insert(Window { began: now, failures: 0 });
        if now - window.began >= WINDOW_MS || now < window.began {
            *window = Window { began: now, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
        if window.failures <= FAILURES {
            return refusal;
        }
        if window.failures == FAILURES + 1 {
            tracing::warn!(%peer, "failed to authenticate {FAILURES} times within a minute");
        }
        let left = (window.began + WINDOW_MS - now).max(1);
        let seconds = u32::try_from((left + 999) / 1_000).unwrap_or(u32::MAX);
        let text =
            format!("too many failed attempts from this address: mend token or secret, try again in {seconds} s");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-failures", text).retry_after(seconds)
    }
}

fn make_room(windows: &mut HashMap<IpAddr, Window>, now: Millis) {
    windows.retain(|_, w| now - w.began < WINDOW_MS);
    if windows.len() >= PEERS
        && let Some(oldest) = windows.iter().min_by_key(|(_, w)| w.began).map(|(peer, _)| *peer)
    {
        windows.remove(&oldest);
    }
}

/// One customer of a provider holds a whole /64 of IPv6.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(throttle: &Throttle, peer: &str, now: Millis) -> u16 {
        let refusal = Problem::new(StatusCode::UNAUTHORIZED, "token", "no");
        throttle.failed(peer.parse().unwrap(), now, refusal).status().as_u16()
    }

    #[test]
    fn the_twenty_first_failure_of_a_minute_is_told_to_wait_and_a_minute_later_it_begins_anew() {
        let throttle = Throttle::default();
        for n in 0..20 {
            assert_eq!(fail(&throttle, "192.0.2.1", n), 401);
        }
        assert_eq!(fail(&throttle, "192.0.2.1", 59_999), 429);
        assert_eq!(fail(&throttle, "192.0.2.2", 59_999), 401, "another address has its own count");
        assert_eq!(fail(&throttle, "192.0.2.1", 60_000), 401);
    }

    #[test]
    fn all_of_a_slash_64_is_one_peer_and_mapped_addresses_are_ipv4() {
        let throttle = Throttle::default();
        for n in 0..20 {
            fail(&throttle, &format!("2001:db8::{n}"), 0);
        }
        assert_eq!(fail(&throttle, "2001:db8::ffff", 0), 429);
        assert_eq!(fail(&throttle, "2001:db8:0:1::1", 0), 401);
        for _ in 0..20 {
            fail(&throttle, "::ffff:192.0.2.9", 0);
        }
        assert_eq!(fail(&throttle, "192.0.2.9", 0), 429);
    }

    #[test]
    fn a_crowd_of_addresses_takes_no_more_than_its_room() {
        let throttle = Throttle::default();
        for n in 0..(PEERS as u32 + 50) {
            fail(&throttle, &std::net::Ipv4Addr::from_bits(n).to_string(), i64::from(n) / 1_000);
        }
        assert_eq!(throttle.windows.lock().unwrap().len(), PEERS);
        fail(&throttle, "203.0.113.1", WINDOW_MS * 2);
        assert_eq!(throttle.windows.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
