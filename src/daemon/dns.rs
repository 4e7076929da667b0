#![forbid(unsafe_code)]
//! The DNS in the daemon's loop: has addresses looked up in DNSBLs, and those banned that are listed; and
//! host names of allow lists. Nothing of it is there while there are none. Nobody waits for it.

use super::judge::Judge;
use super::wire::HitReports;
use crate::base::clock::{Mono, Now};
use crate::base::line::Raw;
use crate::config::Settings;
use crate::control::proto::ListLine;
use crate::dns::client::{ANSWER, Client, FLIGHTS, Reply, Trouble};
use crate::dns::packet::Message;
use crate::dns::resolv::{self, Resolv};
use crate::dnsbl::{Dnsbl, Finding, HOST_FLIGHTS, Profile, State, Tag, Verdict};
use crate::lists::hosts::{Heard, Host, Hosts};
use crate::sys::peers::Peers;
use crate::sys::random;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

/// Milliseconds between two lines about a list that does not answer.
const QUIET: u64 = 600_000;
/// Milliseconds in which a host name has to be found.
const HOST_TIMEOUT: u64 = 5000;

/// What there is while something may be asked.
struct Asking {
    client: Client<Tag>,
    peers: Peers<FLIGHTS>,
    /// `None`: the servers are those of the configuration.
    resolv: Option<Resolv>,
    dnsbl: Option<Box<Dnsbl>>,
    hosts: Hosts,
    /// A host name leads elsewhere.
    moved: bool,
    /// When a list may be told again not to answer, and whether that was told.
    quiet: Vec<(Mono, bool)>,
    /// Something may have to be sent.
    due: bool,
}

/// The DNS.
#[derive(Default)]
pub(super) struct Dns {
    /// Those of the configuration.
    servers: Vec<SocketAddr>,
    /// Nothing while nothing is to be asked.
    asking: Option<Box<Asking>>,
}

/// The lists of the configuration that are asked.
fn profiles(settings: &Settings) -> Vec<Profile> {
    settings.zones_on().filter_map(Profile::of).collect()
}

impl Dns {
    /// Begins to ask DNSBLs, if there are any.
    pub(super) fn open(settings: &Settings, now: Mono, judge: &mut Judge) -> Dns {
        let mut this = Dns::default();
        this.configure(settings, now, judge);
        this
    }

    /// Takes other settings. Lists are tested anew; what was counted of them stays.
    pub(super) fn configure(&mut self, settings: &Settings, now: Mono, judge: &mut Judge) {
        let mut profiles = profiles(settings);
        let nobody = profiles.is_empty();
        judge.report_first_hits(if nobody { HitReports::Unwanted } else { HitReports::Wanted });
        self.servers = settings.dns_servers.iter().map(|addr| resolv::of(*addr)).collect();
        let previous = self.asking.take();
        let (dnsbl, hosts) = previous.map_or((None, Hosts::default()), |old| (old.dnsbl, old.hosts));
        for old in dnsbl.iter().flat_map(|dnsbl| dnsbl.profiles()) {
            for new in profiles.iter_mut().filter(|new| new.name == old.name) {
                new.counts = old.counts;
            }
        }
        if !profiles.is_empty() || !hosts.is_empty() {
            self.begin(now, profiles, hosts);
        }
    }

    /// Takes the host names that there are in allow lists now; these are to be kept then.
    pub(super) fn set_hosts(&mut self, found: Vec<Host>, now: Mono) -> Vec<Host> {
        if self.asking.is_none() && !found.is_empty() {
            self.begin(now, Vec::new(), Hosts::default());
        }
        let Some(asking) = &mut self.asking else { return found };
        asking.hosts.set(found, now);
        asking.due = true;
        let kept = asking.hosts.to_keep();
        if asking.dnsbl.is_none() && asking.hosts.is_empty() {
            self.asking = None;
        }
        kept
    }

    fn begin(&mut self, now: Mono, profiles: Vec<Profile>, previous: Hosts) {
        // Answers to what is in flight will not come any more: each is asked for anew.
        let mut hosts = Hosts::default();
        hosts.set(previous.to_keep(), now);
        let peers = match Peers::new() {
            Ok(peers) => peers,
            Err(e) => return log::error!("DNS: {e}: nothing is asked"),
        };
        let mut client = Client::new(|| random::key()[0]);
        client.set_servers(&self.servers);
        let quiet = vec![(Mono::default(), false); profiles.len()];
        let any = !profiles.is_empty();
        let dnsbl = any.then(|| Box::new(Dnsbl::new(profiles, random::key(), now)));
        let resolv = self.servers.is_empty().then(Resolv::default);
        let asking = Asking { client, peers, resolv, dnsbl, hosts, moved: false, quiet, due: true };
        self.asking = Some(Box::new(asking));
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.asking.as_ref().map(|asking| asking.peers.fd())
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let asking = self.asking.as_ref()?;
        if asking.due {
            return Some(Mono::default());
        }
        let room = asking.client.in_flight() < FLIGHTS;
        let lists = asking.dnsbl.as_ref().and_then(|dnsbl| dnsbl.deadline());
        let hosts = asking.hosts.deadline().filter(|_| asking.has_room_for_hosts());
        let more = [lists, hosts].into_iter().flatten().filter(|_| room);
        more.chain(asking.client.deadline()).min()
    }

    /// Has somebody looked up who has begun a connection, or was seen in a log.
    pub(super) fn look_up(&mut self, now: Now, judge: &mut Judge, addr: IpAddr) {
        let Some(Asking { dnsbl: Some(dnsbl), due, .. }) = self.asking.as_deref_mut() else { return };
        if !judge.may_be_looked_up(addr) {
            return;
        }
        dnsbl.look_up(now.mono, addr);
        if dnsbl.has_many_anew() {
            report_anew(dnsbl, judge);
        }
        *due = true;
    }

    /// Sends what is to be asked, takes in what was answered, and bans. The host names of the allow list, if
    /// one leads elsewhere now.
    #[inline(never)]
    pub(super) fn turn(&mut self, now: Now, judge: &mut Judge) -> Option<Vec<Host>> {
        let asking = self.asking.as_mut()?;
        asking.follow_resolv(now.mono, judge);
        asking.due = false;
        let mut room = [0; ANSWER];
        loop {
            asking.send(now, judge);
            let Asking { client, peers, .. } = &mut **asking;
            let Some(Reply { tag, took, answer, .. }) = client.next(now.mono, peers, &mut room) else {
                break;
            };
            asking.take(now, judge, (tag, took), answer);
        }
        judge.commit(now);
        asking.dnsbl.iter_mut().for_each(|dnsbl| report_anew(dnsbl, judge));
        std::mem::take(&mut asking.moved).then(|| asking.hosts.to_keep())
    }

    /// Every list, for people.
    pub(super) fn each_list(&self, each: &mut dyn FnMut(&ListLine<'_>)) {
        for profile in self.lists().flat_map(|dnsbl| dnsbl.profiles()) {
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
        self.lists().map(|dnsbl| dnsbl.skipped()).sum()
    }

    fn lists(&self) -> impl Iterator<Item = &Dnsbl> {
        self.asking.iter().filter_map(|asking| asking.dnsbl.as_deref())
    }
}

impl Asking {
    fn follow_resolv(&mut self, now: Mono, judge: &mut Judge) {
        if let Some(servers) = self.resolv.as_mut().and_then(|resolv| resolv.look(now)) {
            self.client.set_servers(&servers);
            self.dnsbl.iter_mut().for_each(|dnsbl| dnsbl.servers_changed(now));
            // Who answers for us must not be banned.
            judge.protect();
        }
    }

    /// Host names have few questions, and a few places of their own: who asks much must not shut out an
    /// administrator.
    fn has_room_for_hosts(&self) -> bool {
        let hosts = self.client.tags().filter(|tag| matches!(tag, Tag::Host(..))).count();
        hosts < HOST_FLIGHTS
    }

    fn send(&mut self, now: Now, judge: &mut Judge) {
        while self.client.in_flight() < FLIGHTS {
            let host = if self.has_room_for_hosts() { self.hosts.next_question(now.mono) } else { None };
            let question = match host {
                Some(question) => {
                    let tag = Tag::Host(question.number, question.six);
                    Some((question.name, question.kind, HOST_TIMEOUT, tag))
                }
                None => self.dnsbl.as_mut().and_then(|dnsbl| dnsbl.next_question(now.mono)).map(|question| {
                    (question.name, question.kind, question.timeout, Tag::List(question.ask))
                }),
            };
            let Some((name, kind, timeout, tag)) = question else { return };
            let sent = self.client.ask(now.mono, (&name, kind), timeout, tag, &mut self.peers);
            if let Err(trouble) = sent {
                self.take(now, judge, (tag, 0), Err(trouble));
            }
        }
    }

    fn take(
        &mut self,
        now: Now,
        judge: &mut Judge,
        (tag, took): (Tag, u64),
        answer: Result<Message<'_>, Trouble>,
    ) {
        let ask = match tag {
            Tag::List(ask) => ask,
            Tag::Host(number, six) => return self.hear_host(now.mono, (number, six), answer),
        };
        let Some(dnsbl) = &mut self.dnsbl else { return };
        let finding = dnsbl.answered(now.mono, ask, took, answer);
        let silence = match finding {
            Finding::Silent(_, Verdict::Trouble(trouble)) => Some(Some(trouble)),
            Finding::Silent(..) => Some(None),
            _ => None,
        };
        match finding {
            Finding::Nothing => {}
            Finding::Looked(addr, verdict) | Finding::Silent(addr, verdict) => {
                if let Some(profile) = dnsbl.profiles().get(usize::from(ask.list)) {
                    judge.events().looked_up(now.wall, addr, &profile.name, verdict, took);
                }
            }
            Finding::Listed(addr, reason) => {
                judge.listed((ask.list.into(), dnsbl.profiles().len()), addr, reason);
            }
            Finding::Changed => tell_state(dnsbl, ask.list),
        }
        if let Some(trouble) = silence {
            self.tell_silence(now.mono, ask.list, trouble);
        }
    }

    fn hear_host(&mut self, now: Mono, asked: (u32, bool), answer: Result<Message<'_>, Trouble>) {
        match self.hosts.answered(now, asked, answer) {
            Heard::Same => {}
            Heard::Changed(text) => {
                log::info!("{text}");
                self.moved = true;
            }
            Heard::Nowhere(text) => log::warn!("{text}"),
        }
    }

    fn tell_silence(&mut self, now: Mono, list: u8, trouble: Option<Trouble>) {
        let Some((until, told)) = self.quiet.get_mut(usize::from(list)) else { return };
        let profile = self.dnsbl.as_ref().and_then(|dnsbl| dnsbl.profiles().get(usize::from(list)));
        let Some(name) = profile.map(|profile| &profile.name) else { return };
        match trouble {
            Some(trouble) if *until <= now => {
                (*until, *told) = (now.after(QUIET), true);
                let text = trouble.to_string();
                log::warn!("DNSBL {name}: {}: nobody is banned for it meanwhile", Raw(text.as_bytes()));
            }
            None if *told => {
                *told = false;
                log::info!("DNSBL {name} answers again");
            }
            _ => {}
        }
    }
}

/// Has the kernel report those again who could not be asked about.
fn report_anew(dnsbl: &mut Dnsbl, judge: &mut Judge) {
    if let Some(anew) = dnsbl.take_anew() {
        judge.report_anew(anew);
    }
}

fn tell_state(dnsbl: &Dnsbl, list: u8) {
    let Some(profile) = dnsbl.profiles().get(usize::from(list)) else { return };
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
