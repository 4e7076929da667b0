#![forbid(unsafe_code)]
//! Another configuration is taken: the counts and bans of what stays are kept.

use super::{Judge, restore};
use crate::ban::{Allowed, Failure};
use crate::base::clock::Now;
use crate::config::Settings;
use crate::daemon::decide;
use crate::daemon::policy::ServicePolicy;
use crate::detect::DetectRule;
use crate::detect::tracker::Limits;
use crate::enforce::all_options;
use crate::sys::clock;

impl Judge {
    /// Takes new rules and settings; the counts of rules that stay are kept.
    pub(in crate::daemon) fn reconfigure(
        &mut self,
        now: Now,
        rules: Vec<DetectRule>,
        policies: Vec<ServicePolicy>,
        settings: &Settings,
        mut allowed: Allowed,
    ) -> Result<(), Failure> {
        self.commit(now);
        let options = all_options(settings);
        if self.enforcer.guard().options().backend != options.backend {
            self.change_backend(options.clone(), settings, &allowed)?;
        }
        let guard = self.enforcer.guard();
        let previous = guard.set_options(options);
        if let Err(e) = guard.rebuild().and_then(|_| guard.set_allowed(&mut allowed)) {
            guard.set_options(previous);
            if let Err(e) = guard.rebuild() {
                log::error!("the previous table: {e}");
            }
            return Err(e);
        }
        self.enforcer.set_kill(settings.kill_connections);
        self.enforcer.set_history(settings.history_max);
        self.enforcer.set_prompt(settings.state_sync.is_some());
        let Judge { enforcer, decider, .. } = self;
        if decider.ban_policy.reconfigure(settings, &policies) {
            let ban_policy = &mut decider.ban_policy;
            if let Err(e) =
                enforcer.past(now.wall, ban_policy.memory(), &mut |entry| ban_policy.restore(now, entry))
            {
                log::warn!("{e}");
            }
        }
        let other_prefix = self.take_rules(now, rules, policies, settings);
        self.decider.protect();
        self.decider.allowed = allowed;
        let enforcer = &mut self.enforcer;
        if enforcer.guard().take_recreated() || other_prefix {
            // IPv6 bans of the previous length were keys that nothing looks up any more; now they are
            // networks.
            restore(enforcer, now.wall);
        }
        self.exempt_in_kernel();
        self.ports_in_kernel(now);
        self.take_over(now.mono);
        Ok(())
    }

    /// Takes what says how lines are read; whether prefixes of IPv6 have another length now.
    pub(in crate::daemon) fn take_rules(
        &mut self,
        now: Now,
        rules: Vec<DetectRule>,
        policies: Vec<ServicePolicy>,
        settings: &Settings,
    ) -> bool {
        let Judge { decider, observer, .. } = self;
        let limits: Vec<Limits> = policies.iter().map(|p| p.limits).collect();
        let old = &decider.policies;
        let map = |rule: u16| {
            let name = &old.get(usize::from(rule))?.name;
            policies.iter().position(|p| p.name == *name).and_then(|at| u16::try_from(at).ok())
        };
        let prefix = decide::ipv6_prefix(settings);
        observer.reconfigure(now.mono, (rules, limits), prefix, &map);
        for policy in &policies {
            if let Some(old) = decider.policies.iter().find(|old| old.name == policy.name) {
                policy.tally.take_over(&old.tally);
            }
        }
        decider.reconfigure(policies, settings, clock::local_offset(now.wall))
    }
}
