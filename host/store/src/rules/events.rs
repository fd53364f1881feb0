//! What the feed of events owes to a reader whose position is older than what is kept.

use std::collections::BTreeMap;

use crate::{Result, StoreError};

/// Where the books keep the number up to which events are gone: of all, or of one panel's.
pub fn gone_key(panel: Option<&str>) -> String {
    panel.map_or_else(|| "events-gone".to_owned(), |panel| format!("events-gone/{panel}"))
}

/// What pruning these (number, panel) has to remember, by key. A panel's reader is told of a gap in its own events only.
pub fn gone(pruned: impl IntoIterator<Item = (i64, Option<String>)>) -> BTreeMap<String, i64> {
    let mut marks = BTreeMap::new();
    for (seq, panel) in pruned {
        let own = panel.map(|panel| gone_key(Some(&panel)));
        for key in std::iter::once(gone_key(None)).chain(own) {
            let upto = marks.entry(key).or_insert(seq);
            *upto = seq.max(*upto);
        }
    }
    marks
}

/// Whether a reader may go on after this number, where `gone` is what the books keep under [`gone_key`]. Who begins (0) has
/// missed nothing that it was promised.
pub fn go_on(after: i64, gone: Option<&str>) -> Result<()> {
    let Some(gone) = gone else { return Ok(()) };
    let upto: i64 = gone.parse().map_err(|_| StoreError::Corrupt(format!("events-gone is `{gone}`, not a number")))?;
    if after > 0 && after < upto { Err(StoreError::EventsGone { upto }) } else { Ok(()) }
}
