//! The integration tests, one program: what mef does as a whole, nearly all of it against the real kernel.
//! `common` has what they share; the other modules are named like those of the source.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod common;

mod fuzz;

mod applet {
    mod cli;
    mod completions;
    pub mod control;
    mod history;
    mod lockout;
    mod mefctl;
    mod rehearse;
    mod report;
    mod rules;
    mod schema;
    mod screens;
    mod services;
    mod setup;
    mod setup_cut;
    mod silent;
    mod status;
    mod units;
    mod why;
    mod wide;
}

mod cloud {
    mod circle;
    mod hanging;
    mod lists;
    mod refusals;
    mod servers;
}

mod daemon {
    mod around;
    mod bad_input;
    mod confine;
    mod container;
    mod crash;
    mod dnsbl;
    mod dnsbl_again;
    mod escalate;
    mod hands;
    pub mod heal;
    mod hooks;
    mod hostnames;
    mod judge;
    mod notify;
    mod observer;
    mod observer_model;
    mod owner;
    mod patience;
    mod regress;
    mod reload;
    mod restart;
    mod soak;
    mod user;
}

mod detect {
    mod chunks;
    mod conf;
    mod honest;
    mod hostile;
    mod sessions;
    mod shipped;
    mod webscan;
}

mod enforce {
    mod bans;
}

mod firewall {
    mod backends;
    mod fallback;
    mod flood;
    mod former;
    mod guard;
    mod health;
    mod netns;
    mod nft;
    mod packets;
    mod scan;
    mod seen;
    mod switch;
    mod unproven;
    mod upgrade;
}

mod input {
    mod journal;
    mod sources;
}

mod lists {
    mod fallback;
    mod files;
    mod kept;
}

mod pattern;

mod migrate {
    mod csf;
    mod fail2ban;
    mod ufw;
}

mod project {
    mod circles;
    mod docs;
    mod fuzz;
    mod layers;
    mod marks;
    mod over_both;
    mod type_names;
}

mod ruleset {
    mod bridge;
    mod cut;
    mod export;
    mod fallback;
    mod hosts;
    mod large;
    mod load;
    mod nat;
    mod oracle;
    mod others;
    mod rules;
    mod verdicts;
}

mod trial {
    pub mod deadman;
    pub mod outcome;
}
