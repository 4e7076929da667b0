//! Name servers in a neighbour's namespace: rbldnsd with lists as they are run in the wild, and one that says
//! whatever a test wants.

use super::{Net, Peer, wait_until};
use mef::dns::name::Name;
use mef::dns::packet::{Message, Section, Writer, class, flag, kind};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a list has to have to be believed, for IPv4 and IPv6.
pub const TEST4: &str = "127.0.0.2\n";
pub const TEST6: &str = "::ffff:7f00:2\n";

impl Net {
    /// Starts rbldnsd at the neighbour's address with the zones `NAME:TYPE:TEXT`, and waits for it.
    pub fn rbldnsd(&mut self, peer: &Peer, name: &str, zones: &[(&str, &str, &str)]) -> usize {
        let mut args = vec!["-n".to_owned(), "-u".into(), "nobody".into(), "-c".into(), "1s".into()];
        args.extend(["-b".into(), format!("{}/53", peer.v4), "-w".into(), self.dir.display().to_string()]);
        for (at, (zone, kind, text)) in zones.iter().enumerate() {
            let file = format!("{name}-{at}.zone");
            self.write(&file, text);
            args.push(format!("{zone}:{kind}:{file}"));
        }
        peer.ns.enter();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let command = self.command("rbldnsd", &args);
        let started = self.start(name, command);
        self.within_self(|| ());
        wait_until("rbldnsd", || self.said(name).contains("started"));
        started
    }
}

/// What a server does with a question: the messages that it sends back.
pub type Answers = Box<dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send>;

/// A server that says what it is told to say.
pub struct Liar {
    pub asked: Arc<AtomicU64>,
    answers: Arc<Mutex<Answers>>,
    /// By which it answers, if not by the socket that was asked.
    by: Arc<Mutex<Option<UdpSocket>>>,
    end: Arc<AtomicBool>,
}

impl Liar {
    /// At the neighbour's address.
    pub fn new(net: &Net, peer: &Peer, answers: Answers) -> Liar {
        let socket = net.within(&peer.ns, |_| UdpSocket::bind((peer.v4, 53)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let liar = Liar {
            asked: Arc::default(),
            answers: Arc::new(Mutex::new(answers)),
            by: Arc::default(),
            end: Arc::default(),
        };
        let (asked, answers, end) = (liar.asked.clone(), liar.answers.clone(), liar.end.clone());
        let by = liar.by.clone();
        std::thread::spawn(move || {
            let mut room = [0; 1500];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut room) else { continue };
                asked.fetch_add(1, Ordering::Relaxed);
                for answer in answers.lock().unwrap()(&room[..length]) {
                    let _ = by.lock().unwrap().as_ref().unwrap_or(&socket).send_to(&answer, from);
                }
            }
        });
        liar
    }

    /// From now on it says something else.
    pub fn says(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }

    /// From now on it answers by another socket; `None`: by the one that is asked.
    pub fn speaks_by(&self, socket: Option<UdpSocket>) {
        *self.by.lock().unwrap() = socket;
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// Answers one question after the other over TCP, at the neighbour's address.
pub fn over_tcp(net: &Net, peer: &Peer, answers: Answers) {
    let listener = net.within(&peer.ns, |_| TcpListener::bind((peer.v4, 53)).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 2];
            let mut question = Vec::new();
            if stream.read_exact(&mut head).is_ok() {
                question.resize(u16::from_be_bytes(head).into(), 0);
            }
            if stream.read_exact(&mut question).is_err() {
                continue;
            }
            for answer in answers(&question) {
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                // In pieces, as networks do.
                for part in [&length[..1], &length[1..], &answer[..7], &answer[7..]] {
                    let _ = stream.write_all(part).and_then(|()| stream.flush());
                }
            }
        }
    });
}

/// An answer to a question, with these flags and codes, and TXT records for who asks for them.
pub fn answer(question: &[u8], flags: u16, codes: &[[u8; 4]]) -> Vec<u8> {
    answer_with(question, flags, 60, &|asked| {
        let data = |code: &[u8; 4]| if asked == kind::TXT { b"\x05known".to_vec() } else { code.to_vec() };
        codes.iter().map(data).collect()
    })
}

/// An answer with the data that there is for the type that is asked for.
pub fn answer_with(question: &[u8], flags: u16, ttl: u32, data: &dyn Fn(u16) -> Vec<Vec<u8>>) -> Vec<u8> {
    let asked = Message::new(question).unwrap();
    let question = asked.question().unwrap();
    let mut buffer = [0; 1400];
    let mut writer = Writer::new(&mut buffer, asked.id(), flag::RESPONSE | flags).unwrap();
    writer.question(&question.name, question.kind, class::IN).unwrap();
    for data in data(question.kind) {
        writer.record(Section::Answer, &question.name, question.kind, class::IN, ttl, &data).unwrap();
    }
    writer.bytes().to_vec()
}

/// The address that is asked about in a zone.
pub fn asked_about(question: &[u8], zone: &str) -> Option<std::net::IpAddr> {
    let name = Message::new(question)?.question()?.name;
    name.to_addr(&Name::parse(zone.as_bytes())?)
}
