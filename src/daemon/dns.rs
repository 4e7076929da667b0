#![forbid(unsafe_code)]
//! The DNS in the daemon's loop: has addresses looked up in DNSBLs, and those banned that are listed. There
//! is nothing of it while no list is on. Nobody waits for it.

use super::judge::Judge;
use crate::base::clock::{Mono, Now};
use crate::base::line::Raw;
use crate::config::Settings;
use crate::control::proto::ListLine;
use crate::dns::client::{ANSWER, Client, FLIGHTS, Reply, Trouble};
use crate::dns::packet::Message;
use crate::dns::resolv::{self, Resolv};
use crate::dnsbl::{Ask, Dnsbl, Finding, Profile, State, zones_on};
use crate::sys::peers::Peers;
use crate::sys::random;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// Milliseconds between two lines about a list that does not answer.
const QUIET: u64 = 600_000;

/// What there is while something may be asked.
pub(super) struct Asking {
    client: Client<Ask>,
    peers: Peers<FLIGHTS>,
    /// `None`: the servers are those of the configuration.
    resolv: Option<Resolv>,
    dnsbl: Dnsbl,
    /// When a list may be told again not to answer, and whether that was told.
    quiet: Vec<(Mono, bool)>,
    /// Something may have to be sent.
    due: bool,
}

/// Nothing, or the DNS.
#[derive(Default)]
pub(super) struct Dns(Option<Box<Asking>>);

/// The lists of the configuration that are asked.
pub(super) fn profiles(settings: &Settings) -> Vec<Profile> {
    zones_on(settings).filter_map(Profile::of).collect()
}

impl Dns {
    /// Begins to ask, if anybody is to be asked.
    pub(super) fn open(settings: &Settings, now: Mono, judge: &mut Judge) -> Dns {
        let mut this = Dns::default();
        this.configure(settings, now, judge);
        this
    }

    /// Takes other settings. Lists are tested anew; what was counted of them stays.
    pub(super) fn configure(&mut self, settings: &Settings, now: Mono, judge: &mut Judge) {
        let mut profiles = profiles(settings);
        judge.report_first_hits(!profiles.is_empty());
        let previous = self.0.take();
        if profiles.is_empty() {
            return;
        }
        for old in previous.iter().flat_map(|asking| asking.dnsbl.profiles()) {
            for new in profiles.iter_mut().filter(|new| new.name == old.name) {
                new.counts = old.counts;
            }
        }
        let peers = match Peers::new() {
            Ok(peers) => peers,
            Err(e) => return log::error!("DNS: {e}: no DNSBL is asked"),
        };
        let mut client = Client::new(|| random::key()[0]);
        let servers: Vec<_> = settings.dns_servers.iter().map(|addr| resolv::of(*addr)).collect();
        client.set_servers(&servers);
        self.0 = Some(Box::new(Asking {
            client,
            peers,
            resolv: servers.is_empty().then(Resolv::default),
            quiet: vec![(Mono::default(), false); profiles.len()],
            dnsbl: Dnsbl::new(profiles, random::key(), now),
            due: true,
        }));
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|asking| asking.peers.fd())
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let asking = self.0.as_ref()?;
        if asking.due {
            return Some(Mono::default());
        }
        let room = asking.client.in_flight() < FLIGHTS;
        let more = asking.dnsbl.deadline().filter(|_| room);
        more.into_iter().chain(asking.client.deadline()).min()
    }

    /// Has somebody looked up who has begun a connection to a port, or was seen in a log.
    pub(super) fn look_up(&mut self, now: Now, judge: &mut Judge, addr: IpAddr, port: Option<u16>) {
        let Some(asking) = &mut self.0 else { return };
        if !judge.may_be_looked_up(addr) {
            return;
        }
        if let Some(list) = asking.dnsbl.look_up(now.mono, addr, port) {
            asking.ban(judge, list, addr, None);
            judge.commit(now);
        }
        asking.due = true;
    }

    /// Sends what is to be asked, takes in what was answered, and bans.
    #[inline(never)]
    pub(super) fn turn(&mut self, now: Now, judge: &mut Judge) {
        let Some(asking) = &mut self.0 else { return };
        asking.follow_resolv(now.mono, judge);
        asking.due = false;
        let mut room = [0; ANSWER];
        loop {
            asking.send(now, judge);
            let Asking { client, peers, .. } = &mut **asking;
            let Some(Reply { tag, took, answer, .. }) = client.next(now.mono, peers, &mut room) else {
                break;
            };
            asking.take(now, judge, tag, took, answer);
        }
        judge.commit(now);
    }

    /// Every list, for people.
    pub(super) fn each_list(&self, each: &mut dyn FnMut(&ListLine<'_>)) {
        for profile in self.0.iter().flat_map(|asking| asking.dnsbl.profiles()) {
            let (state, why) = match profile.state {
                State::On => ("on", String::new()),
                State::Waits(None) => ("waits", String::new()),
                State::Waits(Some(trouble)) => ("waits", trouble.to_string()),
                State::Off(why) => ("off", why.to_string()),
            };
            let counts = profile.counts;
            let numbers = [counts.asked, counts.listed, counts.failed, counts.mean()];
            each(&ListLine { name: &profile.name, state, numbers, why: &why });
        }
    }

    /// Addresses that were not looked up.
    pub(super) fn skipped(&self) -> u64 {
        self.0.as_ref().map_or(0, |asking| asking.dnsbl.skipped())
    }
}

impl Asking {
    fn follow_resolv(&mut self, now: Mono, judge: &mut Judge) {
        if let Some(servers) = self.resolv.as_mut().and_then(|resolv| resolv.look(now)) {
            self.client.set_servers(&servers);
            // Who answers for us must not be banned.
            judge.protect();
        }
    }

    fn send(&mut self, now: Now, judge: &mut Judge) {
        while self.client.in_flight() < FLIGHTS
            && let Some(question) = self.dnsbl.next_question(now.mono)
        {
            let asked = (&question.name, question.kind);
            let sent = self.client.ask(now.mono, asked, question.timeout, question.ask, &mut self.peers);
            if let Err(trouble) = sent {
                self.take(now, judge, question.ask, 0, Err(trouble));
            }
        }
    }

    fn take(
        &mut self,
        now: Now,
        judge: &mut Judge,
        ask: Ask,
        took: u64,
        answer: Result<Message<'_>, Trouble>,
    ) {
        match self.dnsbl.answered(now.mono, ask, took, answer) {
            Finding::Nothing => {}
            Finding::Looked(addr, verdict) => {
                if let Some(profile) = self.dnsbl.profiles().get(usize::from(ask.list)) {
                    judge.events().looked_up(now.wall, addr, &profile.name, verdict, took);
                }
            }
            Finding::Listed(addr, reason) => self.ban(judge, ask.list, addr, Some(reason)),
            Finding::Changed => self.tell_state(ask.list),
            Finding::Silent(trouble) => self.tell_silence(now.mono, ask.list, trouble),
        }
    }

    fn ban(&self, judge: &mut Judge, list: u8, addr: IpAddr, reason: Option<String>) {
        let profiles = self.dnsbl.profiles();
        if let Some(profile) = profiles.get(usize::from(list)) {
            let reason = reason.unwrap_or_else(|| ["listed by ", &profile.name].concat());
            judge.listed((list.into(), profiles.len()), addr, reason);
        }
    }

    fn tell_state(&self, list: u8) {
        let Some(profile) = self.dnsbl.profiles().get(usize::from(list)) else { return };
        let name = &profile.name;
        match profile.state {
            State::On => log::info!("DNSBL {name} is asked: its test entries are right"),
            State::Waits(trouble) => {
                let why = trouble.map(|trouble| trouble.to_string()).unwrap_or_default();
                log::warn!("DNSBL {name} is not asked yet: {why}");
            }
            State::Off(why) => {
                log::warn!("DNSBL {name} is switched off: {why}; it is tested again within an hour");
            }
        }
    }

    fn tell_silence(&mut self, now: Mono, list: u8, trouble: Option<Trouble>) {
        let Some((until, reported)) = self.quiet.get_mut(usize::from(list)) else { return };
        let Some(profile) = self.dnsbl.profiles().get(usize::from(list)) else { return };
        let name = &profile.name;
        match trouble {
            Some(trouble) if *until <= now => {
                (*until, *reported) = (now.after(QUIET), true);
                let text = trouble.to_string();
                log::warn!("DNSBL {name}: {}: nobody is banned for it meanwhile", Raw(text.as_bytes()));
            }
            None if *reported => {
                *reported = false;
                log::info!("DNSBL {name} answers again");
            }
            _ => {}
        }
    }
}
