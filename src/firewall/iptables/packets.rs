#![forbid(unsafe_code)]
//! What packets themselves are watched for, as rules of the table mangle: port scans, floods, new sources.
//! Like the chains of nf_tables, written from templates.
//!
//! A packet may add to sets, and each of these has a size: when one is full, nobody new is counted, and
//! nothing is dropped for that. `hashlimit` drops what it has no room for, so it is asked about those alone
//! who are in such a set.

use crate::ban::{Alarm, Capabilities, Capability, FloodLimit, FloodOptions, Options, Reach, ScanOptions};
use crate::base::crc::crc32c;
use crate::base::name::IfName;
use crate::base::range::Family;
use crate::firewall::alarm::{ALARMS, NEWS, SNAPLEN};
use crate::firewall::guard::NEWS_RATE;
use std::ffi::CStr;
use std::fmt::{Display, Write as _};

/// Sources of one kind: of IPv4, IPv6 prefixes, and in some networks single addresses of IPv6. Names of sets
/// and chains end with it.
pub(super) type Class = char;

/// What is on, in bits.
pub(super) type Parts = u8;
pub(super) const SCAN: Parts = 1;
pub(super) const FLOOD: Parts = 2;
pub(super) const NEW: Parts = 4;

/// Rules of the kernel's chains that lead to ours, in the order in which packets meet them: the hook, which
/// packets, the chain. Which of them are there is written down by bits.
const JUMPS: [(&str, &str, &str); 10] = [
    ("INPUT", "-p tcp -m tcp --tcp-flags RST,ACK NONE", "scan"),
    ("INPUT", "-p udp -m udp ! --dport 33434:33534 -m conntrack --ctstate NEW", "scan"),
    ("PREROUTING", BEGINS, "begin"),
    ("INPUT", BEGINS, "begin"),
    ("FORWARD", BEGINS, "begin"),
    ("PREROUTING", "! -i lo -m conntrack ! --ctstate ESTABLISHED,RELATED", "throttle"),
    ("PREROUTING", "! -i lo -p tcp -m tcp --tcp-flags SYN,ACK SYN", "syn"),
    ("PREROUTING", "! -i lo -p tcp -m conntrack --ctstate NEW", "new"),
    ("PREROUTING", "! -i lo -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", "seen"),
    ("PREROUTING", "! -i lo -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", "fresh"),
];
const BEGINS: &str = "-p udp -m conntrack --ctstate NEW";

/// Which of [`JUMPS`] there are.
pub(super) type Jumps = u16;
const SCAN_TCP: Jumps = 1;
const SCAN_UDP: Jumps = 1 << 1;
const BEGIN: Jumps = 1 << 2;
const HELD: Jumps = 1 << 5;
const SYN: Jumps = 1 << 6;
const CONNECT: Jumps = 1 << 7;
const SEEN: Jumps = 1 << 8;
const ALL_SEEN: Jumps = 1 << 9;
const INPUT: Jumps = 0b1011;

/// Our chains; those with `@` there are for each kind of source.
const CHAINS: [&str; 20] = [
    "scan",
    "look",
    "open",
    "count@",
    "caught@",
    "begin",
    "begun",
    "throttle",
    "held",
    "syn",
    "syn@",
    "new",
    "new@",
    "over_syn@",
    "over_new@",
    "over_conn@",
    "seen",
    "fresh",
    "fresh@",
    "told@",
];

// In the templates `?` asks a set, `^` asks whether it is not in it, `+` adds to it, `<` returns, `=` goes
// somewhere. `#` is the family, `@` the kind of source, `$` a value.
const LOOK: &str = "look -m pkttype ! --pkt-type unicast <";
const OPEN: &str = "look -m socket --nowildcard =open\nopen +scan_ports# dst,dst --timeout 86400 --exist";
const CALM: &str = "look ?scan_calm# src <";
const PORTS: &str = "look ?scan_ports# dst,dst <";
const COUNT: &str = "count@ ?scan_seen@ src,dst <
count@ +scan_seen@ src,dst --timeout $w
count@ ^scan_seen@ src,dst <
count@ +scan_rate@ src --timeout $w
count@ ?scan_rate@ src --packets-gt $l =caught@
caught@ ?allow# src <
caught@ ?exempt# src <
caught@ ?scan_known@ src <
caught@ +scan_ban@ src --timeout $b
caught@ ^scan_ban@ src <";
const DROP_CAUGHT: &str = "caught@ -j DROP";
const BEGUN: &str = "begun ?allow# src <\nbegun -j DROP";
const BEGUN_BY: &str = "begin ?scan_ban@ src -j mef_begun";
const HOLD: &str = "held ?allow# src <\nheld ?exempt# src <\nheld -j DROP";
const HOLD_BACK: &str = "throttle ?throttle@ src =held";
const RATE: &str = "$c@ -p tcp -m tcp --dport $f:$t +flood_$c@ src,dst --timeout $e --exist
$c@ -p tcp -m tcp --dport $f:$t ?flood_$c@ src,dst -m hashlimit --hashlimit-above $r/sec \
--hashlimit-burst $b --hashlimit-mode srcip,dstport --hashlimit-srcmask $m --hashlimit-name mef_$n@ \
--hashlimit-htable-max 32768 --hashlimit-htable-expire $x =over_$c@";
const CONNS: &str = "new@ -p tcp -m tcp --dport $f:$t -m connlimit --connlimit-above $k --connlimit-mask $m \
--connlimit-saddr =over_conn@";
const LAST: &str = "syn@ -p tcp -m tcp --dport $f:$t <\nnew@ -p tcp -m tcp --dport $f:$t <";
const OVER: &str = "over_$c@ ?allow# src <
over_$c@ ?proxy# src <
over_$c@ ?throttle@ src -j DROP
over_$c@ +throttle@ src --timeout $t";
const DROP_OVER: &str = "over_$c@ -j DROP";
const NFLOG: &str = "$c@ ?$s@ src -j NFLOG --nflog-group $g --nflog-prefix \"$p\" --nflog-size $z";
const FRESH: &str = "fresh@ ?seen@ src <
fresh@ ?bogons# src <
fresh@ ?allow# src <
fresh@ -m limit --limit $r/sec --limit-burst $b =told@
told@ +seen@ src --timeout $t";

/// The kinds of sources of a family; of the last one is who is of no other.
pub(super) fn classes(family: Family, ipv6_prefix: u8) -> &'static [Class] {
    match (family, ipv6_prefix) {
        (Family::V4, _) => &['4'],
        (Family::V6, 128..) => &['6'],
        (Family::V6, _) => &['s', '6'],
    }
}

/// Rules that are being written.
pub(super) struct Packets<'o> {
    options: &'o Options,
    lacks: Capabilities,
    family: Family,
    classes: &'static [Class],
    ipv6_prefix: u8,
    text: String,
}

impl<'o> Packets<'o> {
    pub(super) fn new(options: &'o Options, lacks: Capabilities, family: Family, ipv6_prefix: u8) -> Self {
        let classes = classes(family, ipv6_prefix);
        Packets { options, lacks, family, classes, ipv6_prefix, text: String::new() }
    }

    /// What of it is on.
    pub(super) fn parts(&self) -> Parts {
        parts(self.options, self.lacks)
    }

    /// The jumps that there are to be.
    pub(super) fn jumps(&self) -> Jumps {
        let (parts, options) = (self.parts(), self.options);
        let scan = options.scan.as_ref().filter(|_| parts & SCAN != 0);
        let flood = options.flood.as_ref().filter(|_| parts & FLOOD != 0);
        let seen = options.seen.as_ref().filter(|_| parts & NEW != 0);
        let udp = scan.is_some_and(|scan| scan.udp);
        let begin = BEGIN
            << match options.reach {
                Reach::HostAndForward => 0,
                Reach::Host => 1,
                Reach::Forward => 2,
            };
        let all = [
            (scan.is_some(), SCAN_TCP),
            (udp, SCAN_UDP),
            (udp || flood.is_some(), begin),
            (flood.is_some_and(|flood| flood.drop), HELD),
            (flood.is_some(), SYN | CONNECT),
            (seen.is_some_and(|seen| !seen.ports.is_empty()), SEEN),
            (seen.is_some_and(|seen| seen.ports.is_empty()), ALL_SEEN),
        ];
        all.into_iter().filter(|(on, _)| *on).fold(0, |all, (_, one)| all | one)
    }

    /// All rules in place of those that are there, of which these are the jumps.
    pub(super) fn write(mut self, there: Jumps) -> String {
        self.text.push_str("*mangle\n");
        let (parts, jumps) = (self.parts(), self.jumps());
        self.each_chain(":", " - [0:0]");
        self.write_jumps(there, "-D", "");
        if parts == 0 {
            self.each_chain("-F ", "");
            self.each_chain("-X ", "");
        }
        if let Some(scan) = self.options.scan.as_ref().filter(|_| parts & SCAN != 0) {
            self.scan(scan);
        }
        if parts & (SCAN | FLOOD) != 0 {
            self.add(BEGUN, &[]);
            self.each(BEGUN_BY, &[]);
        }
        if let Some(flood) = self.options.flood.as_ref().filter(|_| parts & FLOOD != 0) {
            self.flood(flood);
        }
        if parts & NEW != 0 {
            self.seen();
        }
        self.write_jumps(jumps, "-I", " 1");
        self.text + "COMMIT\n"
    }

    fn each_chain(&mut self, before: &str, behind: &str) {
        for chain in CHAINS {
            let classes = if chain.ends_with('@') { self.classes } else { &[' '] };
            for class in classes {
                let name = chain.trim_end_matches('@');
                let _ = write!(self.text, "{before}mef_{name}");
                if *class != ' ' {
                    self.text.push(*class);
                }
                let _ = writeln!(self.text, "{behind}");
            }
        }
    }

    fn write_jumps(&mut self, jumps: Jumps, option: &str, place: &str) {
        // Who comes first is inserted last.
        for (bit, (hook, packets, chain)) in JUMPS.iter().enumerate().rev() {
            if jumps & 1 << bit != 0 {
                let digit = self.digit();
                let _ = writeln!(
                    self.text,
                    "{option} {hook}{place} {packets} -m set ! --match-set mef_hooks{digit} src \
                    -j mef_{chain}"
                );
            }
        }
    }

    fn digit(&self) -> char {
        if self.family == Family::V4 { '4' } else { '6' }
    }

    /// Bits of an address that a source of a kind has.
    fn mask(&self, class: Class) -> u8 {
        match class {
            '4' => 32,
            '6' => self.ipv6_prefix,
            _ => 128,
        }
    }

    /// Adds the rules of a template.
    fn add(&mut self, template: &str, values: &[(char, &dyn Display)]) {
        self.add_for(' ', template, values);
    }

    /// Likewise, for each kind of source.
    fn each(&mut self, template: &str, values: &[(char, &dyn Display)]) {
        self.classes.iter().for_each(|class| self.add_for(*class, template, values));
    }

    fn add_for(&mut self, class: Class, template: &str, values: &[(char, &dyn Display)]) {
        let digit = self.digit();
        for line in template.lines() {
            self.text.push_str("-A mef_");
            let mut chars = line.chars();
            while let Some(c) = chars.next() {
                match c {
                    '?' => self.text.push_str("-m set --match-set mef_"),
                    '^' => self.text.push_str("-m set ! --match-set mef_"),
                    '+' => self.text.push_str("-j SET --add-set mef_"),
                    '=' => self.text.push_str("-g mef_"),
                    '<' => self.text.push_str("-j RETURN"),
                    '#' => self.text.push(digit),
                    '@' => self.text.push(class),
                    '$' => {
                        let name = chars.next();
                        if let Some((_, value)) = values.iter().find(|(other, _)| Some(*other) == name) {
                            let _ = write!(self.text, "{value}");
                        }
                    }
                    c => self.text.push(c),
                }
            }
            self.text.push('\n');
        }
    }

    /// Has packets go on by the kind of their source.
    fn dispatch(&mut self, from: &str, to: &str) {
        for class in self.classes {
            let single = if *class == 's' { "?single# src " } else { "" };
            self.add_for(*class, &format!("{from} {single}={to}@"), &[]);
        }
    }

    /// Has a packet reported that brought its source into a set.
    fn report(&mut self, class: Class, (chain, set): (&str, &str), group: u16, prefix: &CStr) {
        if !self.lacks.has(Capability::Reports) {
            let prefix = prefix.to_string_lossy();
            self.add_for(
                class,
                NFLOG,
                &[('c', &chain), ('s', &set), ('g', &group), ('p', &prefix), ('z', &SNAPLEN)],
            );
        }
    }

    fn scan(&mut self, scan: &ScanOptions) {
        match &scan.interfaces {
            None => self.add("scan =look", &[]),
            Some(names) => {
                names.iter().for_each(|name| self.add("scan -i $i =look", &[('i', &name.as_str())]))
            }
        }
        self.add(LOOK, &[]);
        let excluded: &[IfName] = if scan.interfaces.is_none() { &scan.excluded } else { &[] };
        excluded.iter().for_each(|name| self.add("look -i $i <", &[('i', &name.as_str())]));
        for (from, to) in &scan.ports {
            for protocol in ["tcp", "udp"].into_iter().take(1 + usize::from(scan.udp)) {
                let values: [(char, &dyn Display); 3] = [('p', &protocol), ('f', from), ('t', to)];
                self.add("look -p $p -m $p --dport $f:$t <", &values);
            }
        }
        if scan.listening && !self.lacks.has(Capability::Sockets) {
            self.add(OPEN, &[]);
        }
        self.add(CALM, &[]);
        if scan.listening {
            self.add(PORTS, &[]);
        }
        self.dispatch("look", "count");
        // The first port of a window is counted twice: by what adds it, and by what asks.
        let limit = scan.limit.saturating_add(1);
        for class in self.classes {
            self.add_for(*class, COUNT, &[('w', &scan.interval), ('l', &limit), ('b', &scan.bantime)]);
            self.report(*class, ("caught", "scan_ban"), ALARMS, Alarm::Scan.prefix());
            self.add_for(*class, DROP_CAUGHT, &[]);
        }
    }

    fn flood(&mut self, flood: &FloodOptions) {
        if flood.drop {
            self.add(HOLD, &[]);
            self.each(HOLD_BACK, &[]);
        }
        self.dispatch("syn", "syn");
        self.dispatch("new", "new");
        for class in self.classes {
            let mask = self.mask(*class);
            for (from, to, limits) in &flood.ports {
                for (chain, (rate, burst)) in [("syn", limits.syn), ("new", limits.new)] {
                    // Seconds after which an unused bucket is full again.
                    let life = burst.div_ceil(rate.max(1)).saturating_add(1);
                    // A table that is there keeps the limits that it was made with.
                    let text = format!("{chain} {from} {to} {rate} {burst} {mask}");
                    let name = format!("{:x}", crc32c(text.as_bytes()));
                    let values: [(char, &dyn Display); 9] = [
                        ('c', &chain),
                        ('f', from),
                        ('t', to),
                        ('e', &life),
                        ('r', &rate),
                        ('b', &burst),
                        ('m', &mask),
                        ('n', &name),
                        ('x', &life.saturating_mul(1000)),
                    ];
                    self.add_for(*class, RATE, &values);
                }
                let values: [(char, &dyn Display); 4] =
                    [('f', from), ('t', to), ('k', &limits.conns), ('m', &mask)];
                if !self.lacks.has(Capability::Connections) {
                    self.add_for(*class, CONNS, &values);
                }
                self.add_for(*class, LAST, &values);
            }
            for limit in FloodLimit::ALL {
                let word = match limit {
                    FloodLimit::Syn => "syn",
                    FloodLimit::New => "new",
                    FloodLimit::Conns => "conn",
                };
                self.add_for(*class, OVER, &[('c', &word), ('t', &flood.timeout)]);
                let chain = ["over_", word].concat();
                self.report(*class, (&chain, "throttle"), ALARMS, Alarm::Flood(limit).prefix());
                self.add_for(*class, DROP_OVER, &[('c', &word)]);
            }
        }
    }

    fn seen(&mut self) {
        let Some(seen) = &self.options.seen else { return };
        for (from, to) in &seen.ports {
            self.add("seen -p tcp -m tcp --dport $f:$t =fresh", &[('f', from), ('t', to)]);
        }
        self.dispatch("fresh", "fresh");
        let (rate, burst) = NEWS_RATE;
        for class in self.classes {
            self.add_for(*class, FRESH, &[('r', &rate), ('b', &burst), ('t', &seen.timeout)]);
            self.report(*class, ("told", "seen"), NEWS, Alarm::New.prefix());
        }
    }
}

/// What the options ask for, and the kernel has.
pub(super) fn parts(options: &Options, lacks: Capabilities) -> Parts {
    let news = lacks.has(Capability::NewSources) || lacks.has(Capability::Reports);
    let all = [
        (options.scan.is_some() && !lacks.has(Capability::Scans), SCAN),
        (options.flood.is_some() && !lacks.has(Capability::Floods), FLOOD),
        (options.seen.is_some() && !news, NEW),
    ];
    all.into_iter().filter(|(on, _)| *on).fold(0, |all, (_, one)| all | one)
}

/// What may be there of the jumps, the likeliest first, when the set that all of them ask is asked so often;
/// whether one of these is it for all that is known.
pub(super) fn guesses(former: Jumps, wanted: Jumps, asked: usize) -> ([Jumps; 5], bool) {
    let likely = |jumps: &Jumps| jumps.count_ones() as usize == asked;
    let all = [former, wanted, 0, former & INPUT, former & !INPUT];
    let mut sorted = [0; 5];
    let order = all.iter().filter(|jumps| likely(jumps)).chain(all.iter().filter(|jumps| !likely(jumps)));
    sorted.iter_mut().zip(order).for_each(|(slot, jumps)| *slot = *jumps);
    (sorted, all.iter().any(likely))
}

/// Takes one jump away; `None` if there is no such kind of jump.
pub(super) fn drop_jump(family: Family, bit: usize) -> Option<String> {
    let options = Options::default();
    let mut this = Packets::new(&options, Capabilities::NONE, family, 64);
    this.text.push_str("*mangle\n");
    JUMPS.get(bit)?;
    this.write_jumps(1 << bit, "-D", "");
    Some(this.text + "COMMIT\n")
}

#[cfg(test)]
mod tests;
