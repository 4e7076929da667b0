//! Frames between the ports of a bridge: what generated rules and a policy do to frames of many kinds is what
//! a plain evaluator reads in their text, in force, in a trial and after it.

mod tables;

use crate::common;
use crate::common::ns::{Ns, Wire};
use crate::common::world::sysctl;
use crate::common::{Net, load, wait_until};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Sees frames before all rules and behind them, by the number in their source address.
const OBSERVER: &str = "table bridge seen {
    set a { type ether_addr; flags dynamic; size 65535; }
    set p2 { type ether_addr; flags dynamic; size 65535; }
    set p3 { type ether_addr; flags dynamic; size 65535; }
    chain a { type filter hook prerouting priority -400; iifname p1 add @a { ether saddr }; }
    chain b { type filter hook forward priority 400;
        oifname p2 add @p2 { ether saddr }; oifname p3 add @p3 { ether saddr }; }
}
";

/// After which nobody has answered.
const SOON: Duration = Duration::from_secs(1);

/// A host with a bridge of three ports, and somebody behind each of them.
struct Bridge {
    net: Net,
    wire: Wire,
    /// They live as long as their names.
    zones: Vec<Ns>,
    sent: u32,
}

/// A frame that comes in by the first port.
#[derive(Debug, Clone, Copy)]
struct Frame {
    ether: u16,
    /// Type and number of its outermost tag.
    vlan: Option<(u16, u16)>,
    /// Last bytes of both addresses; what is no IP has none.
    ends: (u8, u8),
    /// Protocol and destination port.
    load: (u8, u16),
}

impl Frame {
    fn is_ip(&self) -> bool {
        matches!(self.ether, 0x0800 | 0x86dd)
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        let [_, _, high, low] = id.to_be_bytes();
        // Nobody has the destination: it goes out by every other port.
        let mut all = vec![2, 0, 0, 0, 0xff, 0xff, 2, 0, 0, 1, high, low];
        for half in self.vlan.into_iter().flat_map(|(kind, number)| [kind, number]) {
            all.extend(half.to_be_bytes());
        }
        all.extend(self.ether.to_be_bytes());
        let head = [&[0x9c, 0x40][..], &self.load.1.to_be_bytes()].concat();
        let content = match self.load.0 {
            6 => [&head[..], &[0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0x20, 0, 0, 0, 0, 0]].concat(),
            17 => [&head[..], &[0, 12, 0, 0, 1, 2, 3, 4]].concat(),
            _ => vec![if self.ether == 0x0800 { 8 } else { 128 }, 0, 0, 0, 0, 1, 0, 1],
        };
        let len = u16::try_from(content.len()).unwrap();
        match self.ether {
            0x0800 => {
                let mut ip = vec![0x45, 0];
                ip.extend((len + 20).to_be_bytes());
                ip.extend([0, 1, 0, 0, 64, self.load.0, 0, 0, 10, 9, 0, self.ends.0, 10, 9, 0, self.ends.1]);
                let sum = common::frames::checksum(&ip);
                ip[10..12].copy_from_slice(&sum);
                all.extend(ip);
            }
            0x86dd => {
                all.extend([0x60, 0, 0, 0]);
                all.extend(len.to_be_bytes());
                all.extend([self.load.0, 64]);
                for end in [self.ends.0, self.ends.1] {
                    all.extend([0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
                }
            }
            _ => all.extend([0; 46]),
        }
        if self.is_ip() {
            all.extend(content);
        }
        all.resize(all.len().max(60), 0);
        all
    }
}

impl Bridge {
    fn new() -> Bridge {
        let net = Net::new();
        sysctl("ipv6/conf/default/accept_dad", "0");
        net.ip("link add br0 type bridge mcast_snooping 0");
        net.ip("link set br0 up");
        let zones: Vec<Ns> = (0..3).map(|_| Ns::new()).collect();
        for (at, zone) in (1..).zip(&zones) {
            net.ip(&format!("link add p{at} type veth peer name far netns {}", zone.path()));
            net.ip(&format!("link set p{at} master br0 up"));
            net.within(zone, |net| {
                net.ip("link set far up");
                net.ip(&format!("addr add 10.9.0.{at}/24 dev far"));
                net.ip(&format!("addr add fd09::{at}/64 dev far nodad"));
            });
        }
        let wire = net.within(&zones[0], |_| Wire::new("far"));
        let forwards = || net.ip("-d link show master br0").matches("state forwarding").count() == 3;
        wait_until("the ports", forwards);
        Bridge { net, wire, zones, sent: 0 }
    }

    /// By which of the other two ports each frame goes out.
    fn fates(&mut self, frames: &[Frame]) -> Vec<[bool; 2]> {
        self.net.nft(&["table bridge seen {}\ndelete table bridge seen\n", OBSERVER].concat());
        let first = self.sent + 1;
        self.sent += u32::try_from(frames.len()).unwrap();
        for (id, frame) in (first..).zip(frames) {
            self.wire.send(&[frame.bytes(id)]);
        }
        wait_until("the frames", || {
            let came = self.seen("a");
            (first..=self.sent).all(|id| came.contains(&id))
        });
        let ports = [self.seen("p2"), self.seen("p3")];
        (first..=self.sent).map(|id| [ports[0].contains(&id), ports[1].contains(&id)]).collect()
    }

    fn seen(&self, set: &str) -> BTreeSet<u32> {
        let listed = self.net.cmd("nft", &["list", "set", "bridge", "seen", set]).ok();
        let words = listed.split("elements = {").nth(1).unwrap_or("").split([' ', ',', '\n', '\t']);
        let number = |word: &str| {
            let bytes = word.strip_prefix("02:00:00:01:")?;
            u32::from_str_radix(&bytes.replace(':', ""), 16).ok()
        };
        words.filter_map(number).collect()
    }

    /// Whether somebody answers the first one: nobody listens, and so he says.
    fn answers(&self, to: &str) -> bool {
        let to = SocketAddr::new(to.parse().unwrap(), 9);
        let tried = self.net.within(&self.zones[0], |_| TcpStream::connect_timeout(&to, SOON));
        tried.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
    }
}

/// All kinds of frames.
fn frames() -> Vec<Frame> {
    let mut all = Vec::new();
    for vlan in [None, Some((0x8100, 3)), Some((0x88a8, 3)), Some((0x88a8, 7))] {
        // Of those with a second tag no rule sees what they hold.
        let kinds = [0x0806, 0x88cc, 0x0800, 0x86dd, 0x8100];
        for ether in kinds.into_iter().filter(|kind| *kind != 0x8100 || vlan.is_some()) {
            for ends in [(1, 2), (5, 2), (5, 6)] {
                let icmp = if ether == 0x0800 { 1 } else { 58 };
                for load in [(6, 22), (6, 80), (17, 53), (icmp, 0)] {
                    if matches!(ether, 0x0800 | 0x86dd) || ends.0 + ends.1 == 3 && load.1 == 22 {
                        all.push(Frame { ether, vlan, ends, load });
                    }
                }
            }
        }
    }
    all
}

/// Whether a key of a rule takes a frame that goes out by a port; `id` is the number of its sender.
fn takes(key: &str, value: &str, frame: &Frame, (port, id): (&str, u32)) -> bool {
    let (not, list) = value.strip_prefix('!').map_or((false, value), |list| (true, list));
    let any = |is: &dyn Fn(&str) -> bool| list.split(',').any(is) != not;
    let address = |end: u8| {
        move |item: &str| {
            let whole = if frame.ether == 0x0800 { "10.9.0.0/29" } else { "fd09::/125" };
            let one = if frame.ether == 0x0800 { format!("10.9.0.{end}") } else { format!("fd09::{end}") };
            let of_set = item == "@some" && end == 5;
            frame.is_ip() && (of_set || item == one || item == whole && end < 8)
        }
    };
    match (key, value) {
        ("dir" | "action" | "comment", _) | ("proto", "all") => true,
        ("proto", _) => {
            frame.is_ip() && {
                let word = match frame.load.0 {
                    6 => "tcp",
                    17 => "udp",
                    1 => "icmp",
                    _ => "icmp6",
                };
                any(&|item| item == word)
            }
        }
        ("family", family) => frame.ether == if family == "ip" { 0x0800 } else { 0x86dd },
        ("dport", _) => frame.is_ip() && any(&|item| item.parse() == Ok(frame.load.1)),
        ("src", _) => frame.is_ip() && any(&address(frame.ends.0)),
        ("dst", _) => frame.is_ip() && any(&address(frame.ends.1)),
        ("iif", _) => any(&|item| item == "p1" || item == "p*"),
        ("oif", _) => any(&|item| item == port || item == "p*"),
        ("vlan", _) => frame.vlan.is_some_and(|(_, vlan)| {
            any(&|item| {
                let (first, last) = item.split_once('-').unwrap_or((item, item));
                (first.parse().unwrap()..=last.parse::<u16>().unwrap()).contains(&vlan)
            })
        }),
        ("ether", _) => any(&|item| {
            let number = match item {
                "arp" => 0x0806,
                "ip" => 0x0800,
                "ip6" => 0x86dd,
                "0x8800-0x88ff" => frame.ether & 0xff | 0x8800,
                hex => u16::from_str_radix(hex.trim_start_matches("0x"), 16).unwrap(),
            };
            number == frame.ether
        }),
        ("mac", _) => {
            let [_, _, high, low] = id.to_be_bytes();
            any(&|item| item == format!("02:00:00:01:{high:02x}:{low:02x}"))
        }
        _ => panic!("{key}={value}"),
    }
}

/// Whether a frame passes a rule set.
fn passes(rules: &str, frame: &Frame, out: (&str, u32)) -> bool {
    let verdict = |line: &str| !line.contains("action=drop");
    let fits = |line: &&str| {
        line.split(' ').skip(1).all(|pair| {
            let (key, value) = pair.split_once('=').unwrap();
            takes(key, value, frame, out)
        })
    };
    let all = || rules.lines().filter(|line| line.contains("dir=bridge"));
    let deciding = |line: &&str| line.starts_with("rule") && !line.contains("action=count");
    let first = all().filter(deciding).find(fits);
    first.or_else(|| all().find(|line| line.starts_with("policy"))).is_none_or(verdict)
}

/// A rule of some keys that go together.
fn rule(rng: &mut fastrand::Rng, first_id: u32) -> String {
    let mut pick = |list: &[&'static str]| list[rng.usize(..list.len())];
    let mut text = format!("rule dir=bridge action={}", pick(&["accept", "drop", "accept", "drop", "count"]));
    match pick(&["ip", "port", "frame", "all"]) {
        "port" => {
            text += pick(&[" proto=tcp", " proto=tcp,udp", " proto=udp family=ip"]);
            text += pick(&[" dport=22", " dport=53,80", " dport=!22"]);
        }
        "ip" => {
            text +=
                pick(&[" proto=all", " proto=icmp", " proto=icmp6", " proto=!tcp", " proto=all family=ip6"]);
            if !text.contains("icmp") && !text.contains("family") {
                text +=
                    pick(&["", " src=10.9.0.5", " src=10.9.0.1,fd09::5", " src=@some", " src=fd09::/125"]);
                text += pick(&["", " dst=10.9.0.0/29", " dst=10.9.0.6,fd09::6", " dst=@some"]);
            }
        }
        "frame" => {
            text += " proto=all";
            text += pick(&[
                " ether=arp",
                " ether=ip",
                " ether=0x8800-0x88ff",
                " ether=arp,0x88cc",
                " ether=!ip,ip6",
                " ether=!arp",
            ]);
        }
        _ => text += " proto=all",
    }
    text += pick(&["", "", " iif=p1", " iif=!p1", " iif=p*"]);
    text += pick(&["", "", " oif=p2", " oif=!p2", " oif=p2,p3"]);
    text += pick(&["", "", "", " vlan=3", " vlan=3,7", " vlan=!3", " vlan=4-9", " vlan=0-4095"]);
    if pick(&["", "", "", "mac"]) == "mac" {
        let [_, _, high, low] = (first_id + rng.u32(..90)).to_be_bytes();
        text += &format!(" mac=02:00:00:01:{high:02x}:{low:02x}");
    }
    text
}

/// What frames become of that rules are asked about, and what has to become of them.
fn compare(bridge: &mut Bridge, rules: &str, frames: &[Frame]) -> usize {
    let first = bridge.sent + 1;
    let came = bridge.fates(frames);
    let mut stopped = 0;
    for ((id, frame), came) in (first..).zip(frames).zip(came) {
        for (port, came) in ["p2", "p3"].into_iter().zip(came) {
            assert_eq!(came, passes(rules, frame, (port, id)), "{frame:?} {id} to {port} by\n{rules}");
            stopped += usize::from(!came);
        }
    }
    stopped
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn generated_rules_do_to_frames_what_their_text_says() {
    let (mut bridge, frames) = (Bridge::new(), frames());
    let mut rng = fastrand::Rng::with_seed(23);
    let (mut stopped, mut all) = (0, 0);
    for round in 0..24 {
        let mut rules = format!("policy dir=bridge action={}\n", ["accept", "drop"][round % 2]);
        rules += "set name=some family=any type=addr elements=10.9.0.5,fd09::5\n";
        for _ in 0..rng.usize(1..9) {
            rules += &rule(&mut rng, bridge.sent + 1);
            rules.push('\n');
        }
        load(&bridge.net, &rules);
        stopped += compare(&mut bridge, &rules, &frames);
        all += frames.len() * 2;
        // What the kernel has is the file, in words of the language, and the listing is read back by nft.
        let differs = bridge.net.mef_input(&["diff", "-"], rules.as_bytes());
        assert!(differs.status == 0 && differs.stdout.is_empty(), "{differs:?}\n{rules}");
        let exported = bridge.net.mef(&["export", "--family", "inet", "--table", "mef"]).ok();
        assert!(!exported.contains("cannot be expressed"), "{exported}\n{rules}");
        let listed = bridge.net.nft_list("table bridge mef");
        bridge.net.mef(&["unload"]).ok();
        assert_eq!(bridge.net.nft_list("table bridge mef"), "");
        bridge.net.nft(&listed);
        let again = bridge.net.nft_list("table bridge mef");
        assert_eq!(common::uncounted(&again), common::uncounted(&listed), "{rules}");
        load(&bridge.net, &exported);
        let differs = bridge.net.mef_input(&["diff", "-"], rules.as_bytes());
        assert!(differs.status == 0 && differs.stdout.is_empty(), "{differs:?}\n{rules}");
    }
    assert!(stopped > all / 5 && stopped < all * 4 / 5, "{stopped} of {all}");
}

const OPEN: &str = "policy dir=bridge action=drop
rule dir=bridge action=accept proto=all ether=arp
rule dir=bridge action=accept proto=icmp6 icmp=nd
rule dir=bridge action=accept proto=tcp dport=9 dst=10.9.0.2,fd09::2,fd09::3 iif=p1
rule dir=bridge action=accept proto=tcp sport=9 oif=p1
";

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn hosts_behind_a_bridge_find_each_other_as_the_rules_say() {
    let bridge = Bridge::new();
    let all = ["10.9.0.2", "10.9.0.3", "fd09::2", "fd09::3"];
    let each = |of: &[&str]| of.iter().for_each(|to| wait_until(to, || bridge.answers(to)));
    each(&all);
    load(&bridge.net, OPEN);
    each(&["10.9.0.2", "fd09::2", "fd09::3"]);
    assert!(!bridge.answers("10.9.0.3"));
    // The next rules have nothing to say of frames, and so nothing is left.
    load(&bridge.net, "policy dir=in action=accept\n");
    assert_eq!(bridge.net.nft_list("table bridge mef"), "");
    each(&all);
}

/// The rules in force, then a trial of others, what it does, and what stays when nobody confirms it.
fn tried(before: &str, then: &str) {
    let (mut bridge, frames) = (Bridge::new(), frames());
    load(&bridge.net, before);
    let file = bridge.net.write("then.rules", then);
    let path = file.to_str().unwrap();
    let listed = |net: &Net| {
        [
            common::uncounted(&net.nft_list("table inet mef")),
            common::uncounted(&net.nft_list("table bridge mef")),
        ]
    };
    let was = listed(&bridge.net);
    for confirmed in [false, true] {
        let command = bridge.net.mef_command(&["load", "--force", "--confirm", "600s", path]);
        let trial = bridge.net.start_as_is(command);
        wait_until("the trial", || bridge.net.nft_list("table inet mef").contains("set trial"));
        compare(&mut bridge, then, &frames);
        assert!(bridge.net.mef_input(&["diff", "-"], before.as_bytes()).stdout.is_empty(), "{before}");
        if confirmed {
            bridge.net.mef(&["confirm"]).ok();
            bridge.net.wait(trial);
            compare(&mut bridge, then, &frames);
        } else {
            bridge.net.signal(trial, libc::SIGTERM);
            bridge.net.wait(trial);
            wait_until("the previous rules", || listed(&bridge.net) == was);
            compare(&mut bridge, before, &frames);
        }
    }
    let differs = bridge.net.mef_input(&["diff", "-"], then.as_bytes());
    assert!(differs.status == 0 && differs.stdout.is_empty(), "{differs:?}");
}

const CLOSED: &str = "policy dir=bridge action=accept
set name=some family=any type=addr elements=10.9.0.5,fd09::5
rule dir=bridge action=drop proto=all src=@some
rule dir=bridge action=drop proto=all vlan=3 oif=p3
";
const NOTHING: &str = "policy dir=in action=accept\n";

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_trial_of_rules_for_frames_takes_itself_back() {
    tried("policy dir=bridge action=drop\nrule dir=bridge action=accept proto=tcp\n", CLOSED);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_trial_brings_rules_for_frames_and_takes_them_away() {
    tried(NOTHING, CLOSED);
    tried(CLOSED, NOTHING);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn check_says_what_a_bridge_cannot_do_and_what_does_not_pass_it() {
    let net = Net::new();
    let said = |text: &str| {
        let file = net.write("check.rules", text);
        let out = net.mef(&["check", file.to_str().unwrap()]);
        (out.status, out.stderr + &out.stdout)
    };
    for (rule, wanted) in [
        ("action=reject proto=all", "a bridge answers nobody"),
        ("action=add:@x/1h proto=all", "groups, and sets that rules fill"),
        ("action=accept proto=all dst=local", "a bridge knows no routes"),
        ("action=accept proto=all iif=auto", "name ports of the bridge"),
        ("action=accept proto=all rpf=fail", "a bridge knows no routes"),
        ("action=accept proto=tcp ether=arp", "ether= stands beside proto=all"),
        ("action=drop proto=all ether=0x8100", "tags are vlan="),
        ("action=drop proto=all ether=!arp,0x88a8", "tags are vlan="),
        ("action=accept proto=all ether=apr", "did you mean 'arp'?"),
        ("action=accept proto=all vlan=4096", "at most 4095"),
        ("action=accept proto=all uid=0", "needs dir=out"),
    ] {
        let (status, text) = said(&format!("rule dir=bridge {rule}\n"));
        assert!(status == 1 && text.contains(wanted), "{rule}: {text}");
    }
    let (status, text) = said("policy dir=bridge action=reject\n");
    assert!(status == 1 && text.contains("a bridge answers nobody"), "{text}");
    let (status, text) = said("rule dir=in action=accept proto=all vlan=3\n");
    assert!(status == 1 && text.contains("needs dir=bridge"), "{text}");
    let filled = "rule dir=in action=add:@x/1h proto=tcp\nrule dir=bridge action=drop proto=all src=@x\n";
    assert!(said(filled).1.contains("rules for packets fill the set x"));
    // Who is behind the ports has to find the others.
    let (status, text) =
        said("policy dir=bridge action=drop\nrule dir=bridge action=accept proto=all family=ip\n");
    let all = ["ARP does not pass the bridge", "neighbour discovery does not pass the bridge"];
    assert!(status == 0 && all.iter().all(|one| text.contains(one)), "{text}");
    // What is no IP has no protocol, not even another one.
    let (_, text) = said("policy dir=bridge action=drop\nrule dir=bridge action=accept proto=!tcp\n");
    assert!(text.contains(all[0]) && !text.contains(all[1]), "{text}");
    let (_, text) = said(OPEN);
    assert!(!all.iter().any(|one| text.contains(one)), "{text}");
}
