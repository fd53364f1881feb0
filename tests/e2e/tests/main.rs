//! Journeys through the whole of Wharf. One program: each further one is all of Wharf, linked again (50 MB of disk, a third of a
//! minute of CI).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod agreement;
mod clocks;
mod cluster;
mod confirmed_names;
mod crowded;
mod deploy;
mod examples;
mod frozen;
mod hostile;
mod hostile_provider;
mod jobs;
mod kills;
mod live;
mod logs;
mod marked;
mod metrics;
mod moved;
mod opinions;
mod orders;
mod outages;
mod overtaken;
mod pauses;
mod powerdns;
mod processes;
mod providers;
mod refusals;
mod restore;
mod said_names;
mod scale;
mod schema;
#[path = "../../../sdk/testkit/tests/script/mod.rs"]
mod script;
mod second_opinion;
mod secrets;
mod simulated;
mod simulation;
mod strangers;
mod swap;
mod tiny;
mod traces;
mod words;
mod world;
mod zone_outages;
mod zone_plan;
mod zones;
