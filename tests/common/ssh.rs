//! A real OpenSSH server and its visitors.

use super::{Net, Output, Peer, ns, wait_until};
use std::fs;
use std::net::IpAddr;
use std::process::Stdio;

/// The port of the server, as usual.
pub const PORT: u16 = 22;

impl Net {
    /// Starts sshd with a key of its own. What it logs goes to `auth.log` in the directory.
    pub fn sshd(&mut self) {
        // Where it locks itself in before authentication: /run/sshd in its eyes. It sees no /var/log either,
        // so the failed logins do not end up in the btmp of the real host.
        fs::create_dir_all(self.path("run/sshd")).unwrap();
        let key = self.path("host_key");
        self.cmd("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]).ok();
        let text = format!(
            "Port {PORT}\nHostKey {}\nPidFile none\nUsePAM no\nUseDNS no\nPermitRootLogin yes\n\
             PasswordAuthentication yes\nMaxAuthTries 20\nMaxStartups 200\nLogLevel INFO\n",
            key.display()
        );
        let config = self.write("sshd_config", &text);
        let config = config.to_str().unwrap();
        // Since 9.8 sshd itself turns away visitors that fail too often; here mef is to do that.
        let option = "PerSourcePenalties=no";
        let mut check = self.command("sshd", &["-t", "-f", config, "-o", option]);
        ns::private_dirs(&mut check, &self.dir);
        let knows = check.stderr(Stdio::null()).status().unwrap().success();
        let mut args = vec!["-D", "-f", config];
        if knows {
            args.extend(["-o", option]);
        }
        let mut command = self.command("sshd", &args);
        ns::private_dirs(&mut command, &self.dir);
        self.start("sshd", command);
        wait_until("sshd to listen", || self.read("auth.log").contains("Server listening on"));
    }

    /// Tries to log in once with a wrong password, over IPv4.
    pub fn ssh_fail(&self, from: &Peer, user: &str) -> Output {
        self.ssh_fail_at(from, IpAddr::V4(from.host4), user)
    }

    /// Tries to log in once with a wrong password.
    pub fn ssh_fail_at(&self, from: &Peer, host: IpAddr, user: &str) -> Output {
        let ask = self.program("askpass", "#!/bin/sh\necho wrong-password\n");
        let port = PORT.to_string();
        let mut args = vec!["-F", "none", "-l", user, "-p", &port];
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "PubkeyAuthentication=no",
            "PreferredAuthentications=password",
            "NumberOfPasswordPrompts=1",
            "ConnectTimeout=30",
        ] {
            args.extend(["-o", option]);
        }
        let host = host.to_string();
        args.extend([host.as_str(), "true"]);
        self.within(&from.ns, |net| {
            let mut command = net.command("ssh", &args);
            command.env("SSH_ASKPASS", &ask).env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", ":0");
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            super::finish(command.spawn().unwrap(), &[])
        })
    }
}
