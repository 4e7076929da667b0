//! Streams of packets while bans move from one backend to the other.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common::backend::with_iptables;
use crate::common::daemon::host;
use crate::common::{Net, wait_until};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait for the answer to a datagram that must not be lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause of who must get no answer, and of who looks whether it is over.
const PAUSE: Duration = Duration::from_millis(1);

type Flag = Arc<AtomicBool>;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Allowed,
    Banned,
}

/// Sends back what comes, until the end.
fn echo(to: IpAddr, ended: &Flag) -> (u16, JoinHandle<()>) {
    let socket = UdpSocket::bind((to, 0)).unwrap();
    let (port, ended) = (socket.local_addr().unwrap().port(), Arc::clone(ended));
    socket.set_read_timeout(Some(PAUSE)).unwrap();
    let thread = std::thread::spawn(move || {
        let mut room = [0; 16];
        while !ended.load(Ordering::SeqCst) {
            if let Ok((n, from)) = socket.recv_from(&mut room) {
                let _ = socket.send_to(&room[..n], from);
            }
        }
    });
    (port, thread)
}

/// Sends one datagram after the other, until the end; how many were sent and answered. Of who is allowed each
/// is answered before the next.
fn ask(socket: UdpSocket, sender: Sender, ended: &Flag) -> JoinHandle<(u32, u32)> {
    let ended = Arc::clone(ended);
    socket.set_read_timeout(Some(if sender == Sender::Allowed { PATIENCE } else { PAUSE })).unwrap();
    std::thread::spawn(move || {
        let (mut sent, mut answered, mut room) = (0, 0, [0; 16]);
        while !ended.load(Ordering::SeqCst) {
            sent += u32::from(socket.send(b"?").is_ok());
            let got = socket.recv(&mut room).is_ok();
            answered += u32::from(got);
            if sender == Sender::Allowed && !got {
                break;
            }
        }
        (sent, answered)
    })
}

/// Has the daemon use a backend, and waits until it has read that and nothing is left of the other one.
fn change(net: &Net, daemon: usize, config: &str, backend: &str) {
    let line = format!("firewall_backend={backend}");
    net.write("mef.conf", &config.replace("firewall_backend=iptables", &line));
    net.write("etc-mef/mef.conf", &format!("[global]\n{line}\n"));
    let read = || net.said("daemon").matches("configuration read").count();
    let before = read();
    net.signal(daemon, libc::SIGHUP);
    wait_until(backend, || {
        if read() == before {
            return false;
        }
        let (nft, ipset) = (net.nft_list("ruleset"), net.cmd("ipset", &["list", "-n"]).stdout);
        let (nft, ipset) = (nft.contains("mef_guard"), ipset.contains("mef_ban4"));
        if backend == "iptables" { ipset && !nft } else { nft && !ipset }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_is_allowed_loses_no_packet_and_who_is_banned_gets_none_through_while_bans_move() {
    with_iptables(|| {
        let mut net = host("", "");
        net.write("whitelist/local.conf", "198.51.100.5\n2001:db8:5::5\n");
        let (peer, daemon) = (net.peer(), net.daemon("daemon"));
        for net_of in ["198.51.100.0/24", "2001:db8:5::/48", "203.0.113.9"] {
            net.mef(&["ban", net_of, "--force"]).ok();
        }
        // Who answers ends after those who ask.
        let (ended, silent) = (Flag::default(), Flag::default());
        let hosts: [IpAddr; 2] = [peer.host4.into(), peer.host6.into()];
        let echoes = hosts.map(|to| echo(to, &silent));
        let streams = [
            ("198.51.100.5", Sender::Allowed),
            ("2001:db8:5::5", Sender::Allowed),
            ("198.51.100.6", Sender::Banned),
            ("2001:db8:5:1::6", Sender::Banned),
            ("203.0.113.9", Sender::Banned),
        ]
        .map(|(from, sender)| {
            let addr: IpAddr = from.parse().unwrap();
            let at = usize::from(addr.is_ipv6());
            net.speak_as(&peer, addr);
            let socket = net.within(&peer.ns, |_| {
                let socket = UdpSocket::bind((addr, 0)).unwrap();
                socket.connect((hosts[at], echoes[at].0)).unwrap();
                socket
            });
            (from, sender, ask(socket, sender, &ended))
        });
        let config = net.read("mef.conf");
        for backend in ["nftables", "iptables", "nftables", "iptables", "iptables"] {
            change(&net, daemon, &config, backend);
        }
        ended.store(true, Ordering::SeqCst);
        for (from, sender, stream) in streams {
            let (sent, answered) = stream.join().unwrap();
            let wanted = if sender == Sender::Allowed { sent } else { 0 };
            assert!(sent > 0 && answered == wanted, "{from}: {answered} of {sent} were answered");
        }
        silent.store(true, Ordering::SeqCst);
        echoes.into_iter().for_each(|(_, echo)| echo.join().unwrap());
    });
}
