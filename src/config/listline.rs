#![forbid(unsafe_code)]
//! One line of an allow or deny list: an address, network or range and the words behind it, or the line of
//! another program that says the same. What such a program means beyond an address is refused by its name.
//! Knows no file.

use super::ListKind;
use super::lists::ListEntry;
use super::value;
use crate::base::clock::Wall;
use crate::base::diag::Bad;
use crate::base::range;
use crate::base::utc;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What stands on a line, without the file around it.
pub enum ListWord<'a> {
    /// Nothing, a comment, or what only frames the entries of another program.
    Nothing,
    /// An entry.
    Entry(ListEntry),
    /// The networks of a range, or several clients.
    Several(Vec<ListEntry>),
    /// A host name in an allow list, and whether private addresses are meant, too.
    Host(&'a str, bool),
    /// What another program understands and a list cannot say: why, and which bytes of the line.
    Foreign(Box<Bad>),
    /// No entry: why, and which bytes of the line are to blame.
    Bad(Box<Bad>),
}

/// Reads one line.
#[must_use]
pub fn list_word(kind: ListKind, line: &[u8]) -> ListWord<'_> {
    let blanks = line.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(line.len());
    // In JSON these are text.
    let json = line.get(blanks) == Some(&b'{');
    let comment = |b: &u8| !json && matches!(b, b'#' | b';');
    let end = line.iter().position(comment).unwrap_or(line.len());
    let start = blanks.min(end);
    let text = line.get(start..end).unwrap_or_default().trim_ascii_end();
    if text.is_empty() {
        return ListWord::Nothing;
    }
    if let Some(net) = plain(text).filter(|net| net.prefix_len() >= kind.shortest()[0]) {
        return ListWord::Entry(ListEntry { net: IpNet::V4(net), until: None, force: false });
    }
    match std::str::from_utf8(text) {
        Ok(text) => slow(kind, text, start),
        Err(_) => {
            ListWord::Bad(Bad::new(start..start + text.len(), "bytes that are not UTF-8".to_string(), ""))
        }
    }
}

/// An IPv4 address or network in its usual form; everything else is for `slow`.
fn plain(text: &[u8]) -> Option<Ipv4Net> {
    let (mut addr, mut part, mut digits, mut dots) = (0u32, 0u32, 0, 0);
    let mut len = 32;
    for (at, &b) in text.iter().enumerate() {
        match b {
            // No leading zeros: some read them as octal.
            b'0'..=b'9' if digits == 0 || part > 0 => {
                (part, digits) = (part * 10 + u32::from(b - b'0'), digits + 1);
                if part > 255 {
                    return None;
                }
            }
            b'.' if digits > 0 && dots < 3 => {
                (addr, part, digits, dots) = (addr << 8 | part, 0, 0, dots + 1);
            }
            b'/' => {
                len = match *text.get(at + 1..)? {
                    [a @ b'0'..=b'9'] => a - b'0',
                    [a @ b'1'..=b'3', b @ b'0'..=b'9'] => (a - b'0') * 10 + (b - b'0'),
                    _ => return None,
                };
                break;
            }
            _ => return None,
        }
    }
    let whole = digits > 0 && dots == 3;
    Ipv4Net::new((addr << 8 | part).into(), len).ok().filter(|_| whole).map(|net| net.trunc())
}

/// Every form. `at` is where the text begins in its line.
fn slow(kind: ListKind, text: &str, at: usize) -> ListWord<'_> {
    let first = text.split_ascii_whitespace().next().unwrap_or("");
    let line = EntryText { kind, text, at };
    match first {
        "create" | "-N" | "COMMIT" | "Start" => return ListWord::Nothing,
        "add" | "-A" => return line.ipset(first),
        _ if first.eq_ignore_ascii_case("deny") || first.eq_ignore_ascii_case("allow") => {
            return line.web(first);
        }
        _ if first.eq_ignore_ascii_case("include") => {
            return line.foreign(text, "is an Include of CSF", "put that file here, named *.conf");
        }
        _ => {}
    }
    if text.starts_with(['{', '}', '[', ']']) {
        return line.json();
    }
    if super::ini::has(text, "|") {
        let hint = "mef ban ADDR --ports does it, or a rule set (mef load)";
        return line.foreign(text, "is an advanced filter of CSF, for a port or direction", hint);
    }
    if names_clients(text) {
        return line.clients();
    }
    if super::ini::has(text, ",") {
        return line.columns();
    }
    let entry = line.entry();
    if matches!(&entry, ListWord::Bad(_)) && super::ini::has(text, "\t") {
        let columns = line.columns();
        if !matches!(&columns, ListWord::Bad(_)) {
            return columns;
        }
    }
    entry
}

/// Whether this begins with the names of services, as lines of hosts.deny do: no address, and no column with
/// one.
fn names_clients(text: &str) -> bool {
    text.split_once(':').is_some_and(|(services, _)| {
        services.bytes().any(|b| b.is_ascii_alphabetic() && !b.is_ascii_hexdigit())
            && services.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.,*@ \t".contains(&b))
            && services.split([',', ' ', '\t']).all(|word| nets(word).is_none())
    })
}

/// Whether nobody names so large a network without meaning to. What no packet of the internet comes from may
/// be named in the large, as lists of bogons do: multicast and what is reserved, private IPv6.
#[must_use]
pub fn too_wide(kind: ListKind, net: &IpNet) -> bool {
    let [v4, v6] = kind.shortest();
    match net {
        IpNet::V4(net) => net.prefix_len() < v4 && net.network() < Ipv4Addr::new(224, 0, 0, 0),
        IpNet::V6(_) => {
            let range = range::Range::from(*net);
            net.prefix_len() < v6 && INTERNET6.iter().any(|part| range::Range::from(*part).meets(&range))
        }
    }
}

/// Where IPv6 packets of strangers come from: global unicast, and all of IPv4 behind a translator (RFC 6052).
const INTERNET6: [IpNet; 2] = [
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 32)),
];

/// Whether this can be the name of a host (RFC 1123): no address is one.
fn is_host(word: &str) -> bool {
    let label = |l: &str| {
        let good = l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        good && (1..64).contains(&l.len()) && !l.starts_with('-') && !l.ends_with('-')
    };
    let name = word.strip_suffix('.').unwrap_or(word);
    let last = name.rsplit('.').next().unwrap_or("");
    name.len() < 254 && name.split('.').all(label) && last.bytes().any(|b| b.is_ascii_alphabetic())
}

/// An address, a network, or a range from one address to another.
fn nets(text: &str) -> Option<Vec<IpNet>> {
    if let Ok(net) = value::any_net(text) {
        return Some(vec![net]);
    }
    let (first, last) = text.split_once('-')?;
    let address = |text: &str| text.trim_ascii().parse::<IpAddr>().map(crate::base::net::canonical).ok();
    Some(range::Range::new(address(first)?, address(last)?)?.nets().collect())
}

/// A line that is more than an address.
struct EntryText<'a> {
    kind: ListKind,
    text: &'a str,
    /// Where it begins.
    at: usize,
}

impl<'a> EntryText<'a> {
    /// Where a part of the text begins in its line.
    fn place(&self, part: &str) -> usize {
        self.at + part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr())
    }

    fn bad(&self, word: &str, why: &str, hint: &str) -> ListWord<'a> {
        ListWord::Bad(Bad::word(self.place(word), word, why, hint))
    }

    fn foreign(&self, word: &str, why: &str, hint: &str) -> ListWord<'a> {
        ListWord::Foreign(Bad::word(self.place(word), word, why, hint))
    }

    /// What a list is to get of an address, network or range, `word`.
    fn taken(&self, word: &str, nets: Vec<IpNet>, (until, force): (Option<Wall>, bool)) -> ListWord<'a> {
        if !force && nets.iter().any(|net| too_wide(self.kind, net)) {
            let hint = "append force if that is intended";
            return self.bad(word, "is too large a part of the internet", hint);
        }
        let mut entries: Vec<_> = nets.into_iter().map(|net| ListEntry { net, until, force }).collect();
        match entries.len() {
            1 => entries.pop().map_or(ListWord::Nothing, ListWord::Entry),
            _ => ListWord::Several(entries),
        }
    }

    /// The form of mef itself.
    fn entry(&self) -> ListWord<'a> {
        // A range may have blanks around its mark.
        let mut end = self.text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(self.text.len());
        if let Some(mark) = self.text.find('-')
            && self.text.get(end..mark).is_none_or(|between| between.trim_ascii().is_empty())
            && let Some(rest) = self.text.get(mark + 1..)
        {
            let blanks = rest.len() - rest.trim_ascii_start().len();
            let word = rest.trim_ascii_start().find(|c: char| c.is_ascii_whitespace());
            let last = mark + 1 + blanks + word.unwrap_or(rest.trim_ascii_start().len());
            if self.text.get(..last).and_then(nets).is_some() {
                end = last;
            }
        }
        let (word, rest) = self.text.split_at_checked(end).unwrap_or((self.text, ""));
        let (mut until, mut force) = (None, false);
        for more in rest.split_ascii_whitespace() {
            let stamp = more.strip_prefix("until=").and_then(utc::parse);
            match (more, stamp) {
                ("force", _) => force = true,
                (_, Some(stamp)) => until = Some(stamp),
                _ => {
                    let hint = "expected force, or until=2026-11-25T21:00:00Z";
                    return self.bad(more, "is not known after an address", hint);
                }
            }
        }
        match (nets(word), value::any_net(word)) {
            (Some(nets), _) => self.taken(word, nets, (until, force)),
            (None, Err(_)) if self.kind == ListKind::Allow && is_host(word) => match until {
                None => ListWord::Host(word, force),
                Some(_) => self.bad(word, "is a host name", "until= is for addresses"),
            },
            (None, Err(bad)) => ListWord::Bad(bad.moved(self.at)),
            (None, Ok(_)) => ListWord::Nothing,
        }
    }

    /// `add SET ADDR …`, as `ipset save` writes it.
    fn ipset(&self, first: &str) -> ListWord<'a> {
        let mut words = self.text.split_ascii_whitespace().skip(2);
        let word = words.next().unwrap_or("");
        let rest: Vec<&str> = words.collect();
        if first == "-A" && (word.starts_with('-') || rest.contains(&"-j")) {
            return self.foreign(self.text, "is a rule of iptables", "only its address belongs in a list");
        }
        if super::ini::has(word, ",") {
            let hint = "mef ban ADDR --ports is for single ports";
            return self.foreign(word, "is more than an address", hint);
        }
        let timeout = rest.iter().position(|w| *w == "timeout").and_then(|at| rest.get(at + 1));
        if timeout.is_some_and(|secs| *secs != "0") {
            return self.foreign(
                word,
                "ends at a time that is not given here",
                "mef ban ADDR --for is for a time",
            );
        }
        if rest.contains(&"nomatch") {
            return self.foreign(word, "is an exception", "what should pass belongs in an allow list");
        }
        match nets(word) {
            Some(nets) => self.taken(word, nets, (None, false)),
            None => self.bad(word, "is not an address or network", "expected add SET ADDR"),
        }
    }

    /// `deny ADDR;` of nginx, `Deny from ADDR …` of Apache, and their opposite.
    fn web(&self, first: &str) -> ListWord<'a> {
        let denies = first.eq_ignore_ascii_case("deny");
        if denies != (self.kind == ListKind::Deny) {
            let hint = if denies { "it belongs in a deny list" } else { "it belongs in an allow list" };
            return self.foreign(self.text, "is the opposite of what this list does", hint);
        }
        let words = self.text.split_ascii_whitespace().skip(1);
        self.several(&mut words.skip_while(|w| w.eq_ignore_ascii_case("from")))
    }

    /// `services: clients`, as in hosts.deny.
    fn clients(&self) -> ListWord<'a> {
        let (_, clients) = self.text.split_once(':').unwrap_or(("", self.text));
        // Options stand behind another colon; the colons of an IPv6 address have no blanks beside them.
        let clients = clients.trim_ascii();
        let cut = [": ", " :"].iter().filter_map(|mark| clients.find(mark)).min();
        let (clients, option) =
            clients.split_at_checked(cut.unwrap_or(clients.len())).unwrap_or((clients, ""));
        let option = option.trim_matches([':', ' ']);
        let other = if self.kind == ListKind::Deny { "allow" } else { "deny" };
        if option.eq_ignore_ascii_case(other) {
            return self.foreign(self.text, "is the opposite of what this list does", "remove it here");
        }
        self.several(&mut clients.split([',', ' ', '\t']).filter(|word| !word.is_empty()))
    }

    /// Several addresses, each in any of the forms that hosts.deny has.
    fn several(&self, words: &mut dyn Iterator<Item = &'a str>) -> ListWord<'a> {
        let mut all = Vec::new();
        for word in words {
            let found = client(word.trim_end_matches(':'));
            let Some(found) = found else {
                return self.foreign(
                    word,
                    "is not an address",
                    "only addresses and networks are allowed here",
                );
            };
            match self.taken(word, found, (None, false)) {
                ListWord::Entry(entry) => all.push(entry),
                ListWord::Several(entries) => all.extend(entries),
                bad => return bad,
            }
        }
        match all.len() {
            0 => self.bad(self.text, "names no address", "expected an address or network"),
            1 => all.pop().map_or(ListWord::Nothing, ListWord::Entry),
            _ => ListWord::Several(all),
        }
    }

    /// One object, as in the lists of Spamhaus.
    fn json(&self) -> ListWord<'a> {
        let text = self.text.trim_end_matches(',');
        if text.starts_with('{') && text.ends_with('}') && !super::ini::has(text.get(1..).unwrap_or(""), "{")
        {
            let found = ["cidr", "ip", "network", "address"].iter().find_map(|key| member(text, key));
            if let Some(word) = found {
                return match nets(word) {
                    Some(nets) => self.taken(word, nets, (None, false)),
                    None => self.bad(word, "is not an address or network", ""),
                };
            }
            if member(text, "type") == Some("metadata") {
                return ListWord::Nothing;
            }
        }
        let hint = "of JSON, one object per line is read, with \"cidr\" or \"ip\"";
        self.foreign(text, "is not such an object", hint)
    }

    /// A line of a feed in columns: one of them is the address, or the first two are the ends of a network.
    fn columns(&self) -> ListWord<'a> {
        let mark = if super::ini::has(self.text, ",") { ',' } else { '\t' };
        let columns = || self.text.split(mark).map(|c| c.trim_ascii().trim_matches('"'));
        let mut found = columns().filter_map(|column| Some((column, nets(column)?)));
        match (found.next(), found.next()) {
            // The names of the columns.
            (None, _) if mark == ',' && columns().all(is_title) => ListWord::Nothing,
            (None, _) => self.bad(self.text, "has no address", "one column must be an address or network"),
            (Some((word, nets)), None) => self.taken(word, nets, (None, false)),
            (Some((first, _)), Some((last, _))) => {
                let ends = (first.parse(), last.parse());
                let range = if let (Ok(a), Ok(b)) = ends { range::Range::new(a, b) } else { None };
                let adjacent = columns().next() == Some(first) && columns().nth(1) == Some(last);
                match range.and_then(|r| r.as_net()).filter(|_| adjacent) {
                    Some(net) => self.taken(first, vec![net], (None, false)),
                    None => self.bad(last, "is a second address", "which of the two is meant?"),
                }
            }
        }
    }
}

/// Whether this may be the name of a column: words that begin with a letter.
fn is_title(column: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"_- ()".contains(&b);
    column.starts_with(|c: char| c.is_ascii_alphabetic()) && column.bytes().all(inside)
}

/// A client of hosts.deny: an address, `192.0.2.` or `[2001:db8::]/32`.
fn client(word: &str) -> Option<Vec<IpNet>> {
    if let Some(found) = nets(word) {
        return Some(found);
    }
    if let Some((addr, len)) = word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return nets(&[addr, len].concat());
    }
    // As many numbers as there are stand for a network.
    let numbers = word.strip_suffix('.')?;
    let count = numbers.split('.').count();
    let net =
        [numbers, ".0.0.0".get(..2 * 4usize.checked_sub(count)?)?, "/", ["0", "8", "16", "24"].get(count)?]
            .concat();
    nets(&net)
}

/// The text of a member of an object, if that is a string without escapes.
fn member<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let quoted = ["\"", key, "\""].concat();
    let at = crate::base::bytes::find(object.as_bytes(), quoted.as_bytes())?;
    let rest = object.get(at + quoted.len()..)?.trim_ascii_start().strip_prefix(':')?;
    let (value, _) = rest.trim_ascii_start().strip_prefix('"')?.split_once('"')?;
    Some(value)
}
