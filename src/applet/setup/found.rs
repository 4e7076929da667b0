#![forbid(unsafe_code)]
//! What set-up has found out: who is watched, who is not, who else bans, and what to run next.

use super::{SetupJob, ask_status};
use crate::applet::output::{Output, OutputError};
use crate::base::line::shown;
use crate::config::{DEFAULT_PATH, Enabled, load};
use crate::control::proto::{Sight, SightLine};
use crate::sys::host;
use std::path::Path;
use std::time::Duration;

/// How long a daemon that was started is waited for: runit looks for new services every five seconds.
const STEP: Duration = Duration::from_millis(50);
const STEPS: u32 = 300;

pub(super) fn report(job: &SetupJob, output: &mut Output<'_>) -> Result<(), OutputError> {
    let ports: Vec<String> = crate::setup::ssh_ports(&job.root).iter().map(u16::to_string).collect();
    if job.root.is_live() {
        let (watched, blind) = if job.dry_run { rules() } else { sights(job) };
        let listed = |all: &[String]| if all.is_empty() { "-".to_owned() } else { all.join("; ") };
        let would = if job.dry_run { "would be " } else { "" };
        writeln!(output.out, "{would}watched: {}", listed(&watched))?;
        writeln!(output.out, "not watched: {}", listed(&blind))?;
        let forwards = host::forwards().contains(&true);
        let text = if forwards {
            "; packets are forwarded: bans hold for containers and networks behind it, too"
        } else {
            ""
        };
        writeln!(output.out, "SSH: port {}{text}", ports.join(", "))?;
        for other in crate::setup::others(&job.root) {
            writeln!(output.out, "{other}")?;
        }
    } else {
        writeln!(output.out, "SSH: port {} in the rule set", ports.join(", "))?;
    }
    writeln!(
        output.out,
        "next: mef status; then edit /etc/mef/mef.rules and try it: mef load --confirm 60s"
    )?;
    Ok(())
}

/// Without a daemon: the rules that would be on here, and those of services that are here and would not.
fn rules() -> (Vec<String>, Vec<String>) {
    let (mut on, mut off) = (Vec::new(), Vec::new());
    let _ = load(Path::new(DEFAULT_PATH), &mut |rule, _| {
        let (is_on, why) = crate::services::on(rule);
        if is_on {
            on.push(format!("{} ({})", rule.name, shown(&why)));
            return;
        }
        rule.enabled = Enabled::Auto;
        if let (true, found) = crate::services::on(rule) {
            off.push(format!("{} ({}, but {})", rule.name, shown(&why), shown(&found)));
        }
    });
    (on, off)
}

/// What the rules that are on read, and why those that read nothing do not.
fn sights(job: &SetupJob) -> (Vec<String>, Vec<String>) {
    let settings = job.settings();
    let (mut watched, mut blind) = (Vec::new(), Vec::new());
    for _ in 0..STEPS {
        let is_there = ask_status(&settings, &mut |line| {
            if let Some(sight) = SightLine::read(line) {
                let all = match sight.sight {
                    Sight::Sees => &mut watched,
                    Sight::Blind => &mut blind,
                    // Its service has written nothing yet.
                    Sight::Waits => return true,
                };
                all.push(format!("{} ({})", sight.name, shown(sight.text)));
            }
            true
        });
        if is_there {
            break;
        }
        std::thread::sleep(STEP);
    }
    if watched.is_empty() && blind.is_empty() {
        blind.push("no daemon runs".to_owned());
    }
    (watched, blind)
}
