//! A cloud on a real server: Knot DNS or BIND, with the configuration that `mef cloud` prints.

use crate::common::{Net, wait_for};
use mef::base::clock::Wall;
use mef::cloud::keyfile;
use mef::cloud::session::{Session, Trouble};
use mef::dns::name::Name;
use mef::dns::packet::{Section, Writer, class, kind};
use mef::dns::tsig::Key;
use mef::sys::clock;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

/// The zone of the clouds.
pub const ZONE: &str = "cloud.example";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Knot,
    Bind,
}

/// Both.
pub const KINDS: [Kind; 2] = [Kind::Knot, Kind::Bind];

/// A cloud in a host's namespace.
pub struct Cloud {
    pub kind: Kind,
    pub addr: SocketAddr,
    /// The server's configuration so far, as it was printed.
    config: String,
    started: Option<usize>,
}

/// The part of what was printed whose headline begins so; with the rest of that headline.
pub fn part<'p>(printed: &'p str, headline: &str) -> (&'p str, String) {
    let start = format!("# ---- {headline}");
    let at = printed.find(&start).unwrap_or_else(|| panic!("no '{headline}' in {printed}"));
    let (rest, body) = printed[at + start.len()..].split_once('\n').unwrap();
    let body = body.split("\n# ---- ").next().unwrap();
    (rest, format!("{}\n", body.trim_end()))
}

impl Cloud {
    /// Makes one, and its server's files; the server does not run yet.
    pub fn new(net: &Net, kind: Kind) -> Cloud {
        let addr: SocketAddr = "127.0.0.1:53".parse().unwrap();
        let mut cloud = Cloud { kind, addr, config: String::new(), started: None };
        let server = addr.to_string();
        let conf = net.path("cloud.conf");
        let printed =
            net.mef(&["cloud", "init", ZONE, "--server", &server, "--operator", conf.to_str().unwrap()]).ok();
        cloud.provide(net, &printed);
        cloud
    }

    /// Runs `mef cloud` with the operator's file.
    pub fn mef(&self, net: &Net, words: &[&str]) -> crate::common::Output {
        let (operator, config) = (net.path("cloud.conf"), net.path("operator.conf"));
        if !config.exists() {
            let dir = net.dir.display();
            net.write(
                "operator.conf",
                &format!("[global]\nstate_dir={dir}/operator\nwhitelist_dir={dir}/operator-allow\n"),
            );
            net.write("operator-allow/providers.conf", "11.22.33.0/24\n");
        }
        let files = ["--operator", operator.to_str().unwrap(), "--config", config.to_str().unwrap()];
        net.mef(&[&["cloud"], words, &files].concat())
    }

    /// Adds a member; what was printed for it.
    pub fn add(&mut self, net: &Net, name: &str, group: &str) -> String {
        let printed = self.mef(net, &["member", "add", name, "--group", group]).ok();
        self.provide(net, &printed);
        let (_, key) = part(&printed, "the member: /etc/mef/community.key");
        let path = net.write(&format!("{name}.key"), &key);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        printed
    }

    /// Gives the server what was printed for it.
    fn provide(&mut self, net: &Net, printed: &str) {
        let (_, config) = part(printed, if self.kind == Kind::Knot { "Knot DNS" } else { "BIND" });
        self.config.push_str(&config);
        let (file, zone) = part(printed, "the file ");
        let file = file.strip_suffix(" on the server").unwrap();
        net.write(&format!("server/{file}"), &zone);
    }

    /// Adds to the configuration before the server is started.
    pub fn append(&mut self, text: &str) {
        self.config.push_str(text);
    }

    /// Changes the configuration before the server is started.
    pub fn edit(&mut self, from: &str, to: &str) {
        assert!(self.config.contains(from), "{}", self.config);
        self.config = self.config.replace(from, to);
    }

    /// Starts the server, perhaps with a clock that is so many seconds ahead.
    pub fn start(&mut self, net: &mut Net, ahead: i64) {
        let dir = net.path("server");
        let (dir, port) = (dir.display(), self.addr.port());
        let (text, program, args): (String, &str, &[&str]) = match self.kind {
            Kind::Knot => (
                format!(
                    "server:\n  listen: 127.0.0.1@{port}\n  rundir: {dir}\n  tcp-workers: 1\n  \
                     udp-workers: 1\n  background-workers: 1\ndatabase:\n  storage: {dir}\n  \
                     journal-db-max-size: 20M\n  kasp-db-max-size: 20M\n  timer-db-max-size: 20M\n\
                     template:\n  - id: default\n    storage: {dir}\n    journal-content: none\n\
                     log:\n  - target: stderr\n    any: debug\n{}",
                    self.config
                ),
                "knotd",
                &["-c", "server.conf"],
            ),
            Kind::Bind => (
                format!(
                    "options {{ directory \"{dir}\"; listen-on port {port} {{ 127.0.0.1; }}; \
                     listen-on-v6 {{ none; }}; pid-file none; session-keyfile none; recursion no; \
                     notify no; dnssec-validation no; }};\ncontrols {{ }};\n{}",
                    self.config
                ),
                "named",
                &["-g", "-c", "server.conf", "-n", "1"],
            ),
        };
        net.write("server.conf", &text);
        let mut command = net.command(program, args);
        if ahead != 0 {
            command.env("LD_PRELOAD", faketime()).env("FAKETIME", format!("{ahead:+}s"));
        }
        self.started = Some(net.start("server", command));
        let (addr, said) = (self.addr, || net.said("server"));
        crate::common::wait_or_show(
            "the server",
            || std::net::TcpStream::connect(addr).ok().filter(|_| self.has_loaded(&said())),
            said,
        );
    }

    fn has_loaded(&self, said: &str) -> bool {
        match self.kind {
            Kind::Knot => said.contains("server started"),
            Kind::Bind => said.contains("running"),
        }
    }

    /// Ends the server.
    pub fn stop(&mut self, net: &mut Net) {
        let started = self.started.take().unwrap();
        net.signal(started, libc::SIGKILL);
        net.wait(started);
    }

    /// A key as it was printed.
    pub fn key(net: &Net, name: &str) -> Key {
        let file = if name == "operator" { "cloud.key".to_owned() } else { format!("{name}.key") };
        keyfile::read(&net.path(&file)).unwrap()
    }

    /// Everything in a zone, as the operator sees it: names with their types and texts.
    pub fn zone(&self, net: &Net, zone: &str) -> Vec<String> {
        let key = Cloud::key(net, "operator");
        let mut all = Vec::new();
        let mut session = Session::open(self.addr, &key).unwrap();
        let name = Name::parse(format!("{zone}.{ZONE}").as_bytes()).unwrap();
        session
            .transfer(&name, &mut |record| {
                let text = record.txt().map(|text| String::from_utf8_lossy(text).into_owned());
                let text: Vec<String> = text.collect();
                if matches!(record.kind, kind::A | kind::TXT) {
                    all.push(
                        format!("{} {} {}", record.name, record.kind, text.join(" ")).trim_end().to_owned(),
                    );
                }
                Ok(())
            })
            .unwrap();
        all.sort();
        all
    }

    /// Waits until a zone is so.
    pub fn wait_zone(&self, net: &Net, zone: &str, what: &str, is: impl Fn(&[String]) -> bool) {
        crate::common::wait_or_show(
            what,
            || is(&self.zone(net, zone)).then_some(()),
            || format!("{:?}\n{}", self.zone(net, zone), net.said("server")),
        );
    }

    /// What the server says to an update of a zone with these records, signed with this key. An empty text
    /// is an A record.
    pub fn update(&self, key: &Key, zone: &str, records: &[(&str, &str)]) -> Result<(), Trouble> {
        self.update_by(clock::wall, key, zone, records)
    }

    /// Takes a member's report back.
    pub fn delete(&self, key: &Key, member: &str, name: &str) -> Result<(), Trouble> {
        let mut session = wait_for("a connection", || Session::open(self.addr, key).ok());
        let zone = Name::parse(format!("{member}.r.{ZONE}").as_bytes()).unwrap();
        let name = Name::parse(format!("{name}.{member}.r.{ZONE}").as_bytes()).unwrap();
        session.update(&zone, &mut |writer: &mut Writer<'_>| {
            writer.record(Section::Authority, &name, kind::TXT, class::ANY, 0, &[])
        })
    }

    /// The same by another clock.
    pub fn update_by(
        &self,
        clock: fn() -> Wall,
        key: &Key,
        zone: &str,
        records: &[(&str, &str)],
    ) -> Result<(), Trouble> {
        let mut session = wait_for("a connection", || Session::open(self.addr, key).ok()).by(clock);
        let zone = Name::parse(format!("{zone}.r.{ZONE}").as_bytes()).unwrap();
        session.update(&zone, &mut |writer: &mut Writer<'_>| {
            records.iter().try_for_each(|(name, text)| {
                let name = Name::parse(format!("{name}.r.{ZONE}").as_bytes()).unwrap();
                let length = u8::try_from(text.len()).unwrap();
                let data = [&[length], text.as_bytes()].concat();
                let (kind, data) =
                    if text.is_empty() { (kind::A, vec![1, 2, 3, 4]) } else { (kind::TXT, data) };
                writer.record(Section::Authority, &name, kind, class::IN, 60, &data)
            })
        })
    }
}

/// The library that makes programs believe in another time.
fn faketime() -> std::path::PathBuf {
    let dirs = std::fs::read_dir("/usr/lib").unwrap().map(|dir| dir.unwrap().path());
    let found = dirs.map(|dir| dir.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    found.expect("the package faketime")
}

/// The hour of a report that is new.
pub fn hour() -> u64 {
    Wall(crate::common::daemon::seconds()).0 / 3600
}
