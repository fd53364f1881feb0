//! The 54 cases. A name says what is true of a provider that passes; needs say when the case applies.

mod batch;
mod faults;
mod ownership;
mod read;
mod safety;
mod shape;
mod types;

use crate::case::{Badge, Case, Need};

macro_rules! cases {
    ($($number:literal $badge:ident [$($need:expr),*] $run:path: $name:literal)*) => {
        &[$(Case {
            number: $number,
            name: $name,
            badge: Badge::$badge,
            needs: &[$($need),*],
            run: |kit| Box::pin($run(kit)),
        }),*]
    };
}

use Need::{
    Asynchronous, Atomic, Disabled, Ids, ManyValues, MaxChanges, NotAtomic, Pages, Quota, ReadOnly, Type, Zones,
};

const ALL: &[Case] = cases! {
    1 Core [] shape::pure: "`normalize` makes no request and says the same twice"
    2 Core [] shape::schema: "The settings' schema is sound, knows every secret, and gives none a default"
    3 Core [] shape::contacts: "Only granted addresses and the zone at hand are contacted, and no name is looked up"
    4 Core [Zones] shape::labels: "A zone ends at a label: notexample.test is not in example.test"
    5 Core [] shape::unknown_zone: "A zone that is not there is `fix-config`, `zone-not-found`"
    6 Core [Type("TXT")] shape::strings: "Quotes, backslashes, semicolons and bytes beyond ASCII survive in a text"
    7 Core [] read::sizes: "Zones of 0, 99, 100, 101, 601 and 1,201 records are read whole"
    8 Core [Pages] read::moving: "A zone that shrinks or grows while it is read is read whole, or not called complete"
    9 Core [Pages] read::endless: "A page that never ends is given up"
    10 Core [Zones] read::many_zones: "More zones than a page holds are all listed and found"
    11 Core [ManyValues] read::grouped: "All values of a name and type are one set"
    12 Core [] read::one_key: "One name of a zone of 5,000 records costs no more than the whole, and the calls that are reported"
    13 Core [] read::read_back: "What was written is read back the same, in canonical form"
    14 Core [] read::twice: "The same batch again changes nothing and writes nothing"
    15 Core [ManyValues] ownership::neighbours: "A value that comes leaves the others, their TTL and their comments"
    16 Core [ManyValues] ownership::remove_ours: "A value that goes takes no other along"
    17 Core [] ownership::last_value: "The set goes with its last value, and nothing else does"
    18 Core [] ownership::expected: "A set that is not as expected is `replan`, and nothing is written"
    19 Core [Disabled, ManyValues] ownership::disabled: "A record that is not served is neither lost nor taken for ours"
    20 Core [] faults::rate_limits: "A rate limit is `wait`, with the pause that was asked for, and one request"
    21 Core [] faults::no_sleep: "No call sleeps: a refusal comes back within two seconds"
    22 Core [] faults::credentials: "Wrong credentials are `fix-config` after exactly one request"
    23 Core [] faults::garbage: "Broken answers become the right problem and never a trap"
    24 Core [] faults::lost_before: "A write that got no answer and was not done is `verify`"
    25 Core [] faults::lost_after: "A write that got no answer and was done is not doubled by the next attempt"
    26 Core [Ids] faults::vanished: "A record that vanished before it is deleted counts as gone"
    27 Core [Ids] faults::reused: "A foreign record that got the id of ours survives"
    28 Core [] faults::redirect: "A redirect is not followed and not taken for success"
    29 Scale [Type("A"), Type("CNAME")] batch::type_change: "An address becomes a CNAME in one batch"
    30 Scale [Atomic, Type("A"), Type("CNAME")] batch::atomic: "A refused item leaves an atomic batch undone and its neighbours `not-attempted`"
    31 Scale [NotAtomic, Type("A"), Type("CNAME")] batch::each: "Each change of a batch that is not atomic has its own true outcome"
    32 Scale [MaxChanges, Zones] batch::one_too_many: "One change more than `max-changes` is split or refused, and told truly"
    33 Scale [Zones] batch::thousands: "201 and 3,501 changes arrive"
    34 Scale [Zones] batch::deadline: "Time that runs out gives a report of what was done, not a trap"
    35 Scale [] batch::cancelled: "A call that is cancelled stops before it writes"
    36 Scale [Asynchronous] batch::polled: "What was taken on is polled to its end"
    37 Scale [] batch::same_ids: "Two changes of one id are refused and nothing is written"
    38 Core [] types::life: "A, AAAA and PTR are made, changed and deleted"
    39 Hosting [Type("PTR")] types::reverse: "Reverse zones of IPv4 and IPv6 take their names"
    40 Scale [Type("PTR"), Zones] types::classless: "Classless reverse zones with slash and hyphen work, or are refused cleanly"
    41 Hosting [Zones] types::odd_names: "Wildcards, underscores and the longest labels and names are stored as they are or refused"
    42 Hosting [Zones, Type("CNAME")] types::punycode: "A-labels stay A-labels, in names and in targets"
    43 Hosting [Zones, Type("CNAME")] types::dots: "Targets inside and outside of the zone keep their final dot"
    44 Hosting [] types::ttls: "A TTL out of bounds is stored as `normalize` said"
    45 Hosting [Type("PTR")] types::two_targets: "A second PTR of an address is stored or refused, as `max-values` says"
    46 Hosting [Zones] types::unknown: "Records of unknown types stay"
    47 Core [] safety::secrets: "No secret comes out, even when the provider echoes it"
    48 Core [] safety::no_list: "A list that is empty or unreadable never means that nothing is there"
    49 Core [ReadOnly] safety::read_only: "`probe` says of a zone that it takes no writes"
    50 Hosting [Quota] safety::quota: "A full quota is `fix-config`"
    51 Hosting [] safety::two_at_once: "Two calls that write different names at once lose nothing"
    52 Hosting [] safety::connection: "`test-connection` tells what is wrong, and leaves no trial record"
    53 Hosting [Zones] safety::thousand: "1,000 records are written within the limits, and calls are counted truly"
    54 Hosting [] safety::loads: "The manifest wants what is imported and no more, in versions that this host has"
};

/// All of them, by number.
pub fn all() -> impl Iterator<Item = &'static Case> {
    ALL.iter()
}

/// The case of this number.
pub fn case(number: u8) -> Option<&'static Case> {
    all().find(|c| c.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_54_cases_in_order() {
        assert_eq!(all().map(|c| c.number).collect::<Vec<_>>(), (1..=54).collect::<Vec<_>>());
    }

    #[test]
    fn the_page_on_the_kit_names_every_case() {
        let page = include_str!("../../../docs/conformance.md");
        for case in all() {
            let row = format!("| {} | {} | {} |", case.number, case.badge.as_str(), case.name);
            assert!(page.contains(&row), "docs/conformance.md lacks: {row}");
        }
    }

    #[test]
    fn the_page_on_the_kit_names_the_cases_of_a_live_zone() {
        let page = include_str!("../../../docs/conformance.md");
        let listed = "1, 2, 5, 6, 11,\n13 to 18, 29 to 31, 37, 38, 41 to 44 and 54";
        assert!(page.contains(listed), "docs/conformance.md lacks: {listed}");
        let spelt: Vec<u8> = [1, 2, 5, 6, 11]
            .into_iter()
            .chain(13..=18)
            .chain(29..=31)
            .chain([37, 38])
            .chain(41..=44)
            .chain([54])
            .collect();
        assert_eq!(all().filter(|c| c.is_live()).map(|c| c.number).collect::<Vec<_>>(), spelt);
    }

    #[test]
    fn a_case_counts_for_the_badge_that_the_reference_names() {
        for case in all() {
            let badge = match case.number {
                1..=28 | 38 | 47..=49 => Badge::Core,
                39 | 41..=46 | 50..=54 => Badge::Hosting,
                _ => Badge::Scale,
            };
            assert_eq!(case.badge, badge, "{}", case.number);
        }
    }
}
