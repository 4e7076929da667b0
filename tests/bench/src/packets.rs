//! What a packet costs those who receive it: bare TCP packets with any sender, made and received by one CPU,
//! so that the time of sending holds that of receiving. Only differences between two receivers mean
//! something.

use crate::{Args, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, SockaddrIn, sendmmsg, socket,
};
use nix::unistd::Pid;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::Instant;

/// Packets of one system call.
const BATCH: usize = 64;
/// Flags of TCP.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Sends to a port; prints nanoseconds for each packet, of the run that was disturbed least.
pub fn packets(args: &Args) -> Result<()> {
    let flags = match args.word(0)? {
        "syn" => SYN,
        "ack" => ACK,
        _ => return Err(crate::USAGE.into()),
    };
    let (from, to): (Ipv4Addr, Ipv4Addr) = (args.word(1)?.parse()?, args.word(2)?.parse()?);
    let (count, runs) = (args.value("count", 8192)?, args.value("runs", 300)?);
    let mut cpu = CpuSet::new();
    cpu.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &cpu)?;
    let raw = SockProtocol::Raw;
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, raw)?;
    let all: Vec<Vec<u8>> = (0..BATCH).map(|n| packet(from, to, 1024 + n as u16, flags)).collect();
    let parts: Vec<[IoSlice<'_>; 1]> = all.iter().map(|packet| [IoSlice::new(packet)]).collect();
    let there = [Some(SockaddrIn::from(SocketAddrV4::new(to, 0))); BATCH];
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let (begin, mut sent) = (Instant::now(), 0);
        while sent < count {
            sent += sendmmsg(socket.as_raw_fd(), &mut headers, &parts, there, [], MsgFlags::empty())?.count()
                as u64;
        }
        best = best.min(begin.elapsed().as_nanos() as f64 / sent as f64);
    }
    println!("{best:.0}");
    Ok(())
}

/// An IP packet with a TCP header and nothing behind it; the kernel fills in the checksum of the IP header.
fn packet(from: Ipv4Addr, to: Ipv4Addr, port: u16, flags: u8) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    ip.extend([from.octets(), to.octets()].concat());
    let mut tcp = [port.to_be_bytes(), 80u16.to_be_bytes()].concat();
    tcp.extend([0, 0, 0, 1, 0, 0, 0, u8::from(flags & ACK != 0), 5 << 4, flags, 0x20, 0, 0, 0, 0, 0]);
    let pseudo = [&ip[12..], &[0, 6, 0, 20], &tcp].concat();
    let mut sum: u32 = pseudo.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    tcp[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    [ip, tcp].concat()
}
