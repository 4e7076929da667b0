#![forbid(unsafe_code)]
//! What set-up finds out instead of asking: the ports of SSH, and who else guards this host.

use super::root::Root;
use crate::sys::host;

/// The ports at which sshd or dropbear are reached: of the session that runs this, and what is configured.
#[must_use]
pub fn ssh_ports(root: &Root) -> Vec<u16> {
    let mut ports = Vec::new();
    let mut add = |port: u16| {
        if port != 0 && !ports.contains(&port) {
            ports.push(port);
        }
    };
    if let Some((_, (_, port))) = root.is_live().then(host::ssh_session).flatten() {
        add(port);
    }
    let more = root.names("/etc/ssh/sshd_config.d");
    let more = more.iter().filter(|name| name.ends_with(".conf"));
    let files = more.map(|name| ["/etc/ssh/sshd_config.d/", name].concat());
    for file in files.chain(["/etc/ssh/sshd_config".to_owned()]) {
        root.text(&file).lines().for_each(|line| sshd_line(line, &mut add));
    }
    // Sockets of systemd, and OpenWrt's dropbear.
    for file in root.names("/etc/systemd/system/ssh.socket.d") {
        let text = root.text(&["/etc/systemd/system/ssh.socket.d/", &file].concat());
        let values = text.lines().filter_map(|line| line.trim().strip_prefix("ListenStream="));
        values.filter_map(port_at_end).for_each(&mut add);
    }
    for line in root.text("/etc/config/dropbear").lines() {
        let mut words = line.split_whitespace();
        if (words.next(), words.next()) == (Some("option"), Some("Port")) {
            let value = words.next().unwrap_or("").trim_matches(['\'', '"']);
            value.parse().ok().into_iter().for_each(&mut add);
        }
    }
    if ports.is_empty() {
        ports.push(22);
    }
    ports.sort_unstable();
    ports
}

/// What a line of sshd_config says of ports. Words are in any case, and `=` may stand between them.
fn sshd_line(line: &str, add: &mut dyn FnMut(u16)) {
    let mut words = line.split(|c: char| c.is_whitespace() || c == '=').filter(|word| !word.is_empty());
    let (Some(key), Some(value)) = (words.next(), words.next()) else { return };
    let value = value.trim_matches('"');
    if key.eq_ignore_ascii_case("port") {
        value.parse().ok().into_iter().for_each(add);
    } else if key.eq_ignore_ascii_case("listenaddress")
        && (value.contains("]:") || value.matches(':').count() == 1)
    {
        port_at_end(value).into_iter().for_each(add);
    }
}

fn port_at_end(text: &str) -> Option<u16> {
    text.rsplit(':').next()?.trim().parse().ok()
}

/// The rule set as it ships, with these ports of SSH.
#[must_use]
pub fn rule_set(text: &str, ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    text.replace("dport=22 comment=\"ssh\"", &["dport=", &ports.join(","), " comment=\"ssh\""].concat())
}

/// Another program that bans or filters: how it is found among the processes, what it is called, and how it
/// ends.
const OTHERS: [(&str, &str, &str); 5] = [
    (
        "fail2ban-server",
        "fail2ban",
        "`mef migrate fail2ban` takes over, then: systemctl disable --now fail2ban",
    ),
    ("sshguard", "sshguard", "stop it: systemctl disable --now sshguard"),
    ("crowdsec-firewa", "CrowdSec's bouncer", "stop it: systemctl disable --now crowdsec-firewall-bouncer"),
    ("lfd", "CSF", "`mef migrate csf` takes over, then: csf -x"),
    (
        "firewalld",
        "firewalld",
        "its rules and those of mef apply both; `mef export` shows them as a rule set",
    ),
];

/// Those that run here, each with what to do about it.
#[must_use]
pub fn others(root: &Root) -> Vec<String> {
    let mut found = Vec::new();
    for (_, name) in root.processes() {
        // Behind its name lfd says what it does.
        let name = name.split_whitespace().next().unwrap_or("");
        if let Some((_, called, what)) = OTHERS.iter().find(|(process, ..)| *process == name) {
            let line = [called, " runs: both ban, and each knows only its own bans; ", what].concat();
            if !found.contains(&line) {
                found.push(line);
            }
        }
    }
    let is_on = |line: &str| line.trim().eq_ignore_ascii_case("enabled=yes");
    if root.text("/etc/ufw/ufw.conf").lines().any(is_on) {
        found.push(
            "ufw is on: its rules and those of mef apply both; `mef migrate ufw` takes over, then: ufw \
             disable"
                .to_owned(),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_ssh_are_found_where_they_are_configured() {
        let cases: &[(&str, &[u16])] = &[
            ("Port 2222", &[2222]),
            ("  port=22", &[22]),
            ("#Port 2222", &[]),
            ("ListenAddress 192.0.2.1:2022", &[2022]),
            ("ListenAddress [::1]:2023", &[2023]),
            ("ListenAddress ::1", &[]),
            ("ListenAddress 192.0.2.1", &[]),
            ("Port many", &[]),
            ("Port", &[]),
        ];
        for (line, want) in cases {
            let mut found = Vec::new();
            sshd_line(line, &mut |port| found.push(port));
            assert_eq!(found, *want, "{line}");
        }
    }

    #[test]
    fn the_rule_set_lets_ssh_in_where_it_is() {
        let shipped = include_str!("../../rootfs/etc/mef/mef.rules");
        let text = rule_set(shipped, &[22, 2222]);
        assert!(text.contains("dport=22,2222 comment=\"ssh\""), "{text}");
        assert_eq!(rule_set(shipped, &[22]), shipped);
    }
}
