#!/bin/bash
# Mail and file transfer services of Debian are attacked, and mef judges what they wrote: see lib.sh.
# Usage: tests/services/mail.sh [SERVICE…]; as root
source "$(dirname "$0")/lib.sh"
# Debian installs these beside no other of their kind: their packages are unpacked, with the libraries that
# they need.
unpacked=$OUT/mail
[ "${SERVICES_INSIDE:-}" = yes ] || unpack "$unpacked" exim4-daemon-light libidn12 proftpd-core \
    libhiredis0.14 libmemcached11 libhashkit2 libmemcachedutil2 \
    libpcre2-posix3 pure-ftpd

inside "$@"
export PATH=$PATH:$unpacked/usr/sbin LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(echo "$unpacked"/usr/lib/*-linux-gnu)
# Users whom the packages would have made.
{ cat /etc/passwd; echo exim:x:401:401::/:/bin/false; echo Debian-exim:x:402:402::/:/bin/false
echo proftpd:x:403:65534::/run:/bin/false; } >/tmp/passwd
{ cat /etc/group; echo exim:x:401:; echo Debian-exim:x:402:; } >/tmp/group
mount --bind /tmp/passwd /etc/passwd && mount --bind /tmp/group /etc/group

# Users who cannot log in, with wrong passwords: names that exist, that do not, and that try to be something
# else.
names=(root nosuch "x, rip=$evil, lip=$evil" "x>, method=PLAIN, rip=$evil, lip=192.0.2.100, session=<abc>" \
    "x[$evil]: SASL LOGIN authentication failed: x")

# dovecot_conf DIR: dovecot with one user, logging to syslog.
dovecot_conf() {
    local d=$1
    mkdir -p "$d"/run "$d"/mail; chmod 755 "$d"; certificate "$d"/pem
    echo 'alice:{PLAIN}right:65534:65534::/tmp:' >"$d"/users; chmod 644 "$d"/users
    cat >"$d"/conf <<-CONF
	base_dir = $d/run
	protocols = $(for p in imap pop3 sieve submission; do compgen -G "/usr/share/dovecot/protocols.d/*$p*d.protocol" >/dev/null && echo -n "$p "; done)
	syslog_facility = mail
	ssl = yes
	ssl_cert = <$d/pem
	ssl_key = <$d/pem
	disable_plaintext_auth = no
	auth_mechanisms = plain login cram-md5
	auth_failure_delay = 0
	mail_location = mbox:$d/mail
	first_valid_uid = 1
	submission_relay_host = 127.0.0.1
	passdb {
	 driver = passwd-file
	 args = $d/users
	}
	userdb {
	 driver = passwd-file
	 args = $d/users
	}
	service anvil {
	 unix_listener anvil-auth-penalty {
	  mode = 0
	 }
	}
	service auth {
	 unix_listener /var/spool/postfix/private/auth {
	  mode = 0666
	 }
	}
	CONF
}

dovecot() {
    local d=/tmp/dovecot from server name
    syslog "$OUT/dovecot.log"
    dovecot_conf "$d"
    command dovecot -F -c "$d"/conf & local pid=$!
    listening 143 || return
    for from in 192.0.2.1 2001:db8::1; do
        server=192.0.2.100; [ "$from" = 192.0.2.1 ] || server=2001:db8::100
        for name in "${names[@]}"; do
            talk "$from" "$server" 143 "a LOGIN \"$name\" wrong" 'a LOGOUT'
            talk "$from" "$server" 110 "USER $name" 'PASS wrong' QUIT
        done
        talk "$from" "$server" 143 'a AUTHENTICATE PLAIN' "$(b64 '\0nosuch\0wrong')" 'a AUTHENTICATE PLAIN' \
            "$(b64 '\0root\0wrong')" 'a AUTHENTICATE CRAM-MD5' \
            "$(b64 'root 01234567890123456789012345678901')"
        talk "$from" "$server" 143 'a AUTHENTICATE PLAIN' "$(b64 "\\0x\\n\\0wrong")"
        talk "$from" "$server" 143 'a AUTHENTICATE PLAIN' \
            "$(b64 '\0%0199dx, rip='"$evil"', lip='"$evil"', session=<a>\0wrong' 1)"
        talk "$from" "$server" 143 'a STARTTLS' 'a LOGIN root wrong'
        talk "$from" "$server" 993 TLS 'a LOGIN root wrong'
        talk "$from" "$server" 995 TLS 'USER root' 'PASS wrong'
        talk "$from" "$server" 110 "APOP $evil 01234567890123456789012345678901"
        talk "$from" "$server" 4190 "AUTHENTICATE \"PLAIN\" \"$(b64 '\0root\0wrong')\"" LOGOUT
        talk "$from" "$server" 587 "EHLO x[$evil]" "AUTH PLAIN $(b64 '\0root\0wrong')" QUIT
        # No failures: nobody tried to log in, or somebody did with success.
        talk "$from" "$server" 143 'a CAPABILITY'
        talk "$from" "$server" 143 'a LOGIN alice right' 'a LOGOUT'
        talk "$from" "$server" 143 "GET / HTTP/1.1" "Host: $evil" x x x
    done
    kill "$pid"; wait "$pid"; kill "$syslogd"; wait "$syslogd" 2>/dev/null
    judge dovecot 20 "$OUT/dovecot.log"
}

postfix() {
    local d=/tmp/postfix from server name long
    long=$(printf '%0150d' 0)
    mount -t tmpfs -o mode=755 none /var/spool/postfix; mount -t tmpfs -o mode=755 none /var/lib/postfix
    chown postfix /var/lib/postfix
    syslog "$OUT/postfix.log"
    mkdir -p "$d"/sasl
    # What is not in it has no address: the services behind this one ask for that of this host.
    echo "127.0.0.1 localhost test.example $(hostname)" >/tmp/hosts; mount --bind /tmp/hosts /etc/hosts
    printf '%s\n' 'pwcheck_method: auxprop' 'auxprop_plugin: sasldb' 'mech_list: PLAIN LOGIN CRAM-MD5' \
        "sasldb_path: $d/sasldb" >"$d"/sasl/smtpd.conf
    echo right | saslpasswd2 -p -c -u test.example -f "$d"/sasldb alice; chmod 644 "$d"/sasldb
    cp /etc/postfix/{dynamicmaps.cf,postfix-files} "$d"/; cp -r \
        /etc/postfix/{dynamicmaps.cf.d,postfix-files.d} "$d"/
    certificate "$d"/pem
    cat >"$d"/main.cf <<-CONF
	compatibility_level = 3.6
	myhostname = test.example
	mydestination = test.example
	mynetworks = 127.0.0.0/8
	smtpd_sasl_auth_enable = yes
	smtpd_sasl_type = dovecot
	smtpd_sasl_path = private/auth
	cyrus_sasl_config_path = $d/sasl
	smtpd_tls_cert_file = $d/pem
	smtpd_tls_key_file = $d/pem
	smtpd_tls_security_level = may
	smtpd_error_sleep_time = 0
	smtpd_reject_unlisted_recipient = yes
	smtpd_client_auth_rate_limit = 0
	local_recipient_maps = inline:{alice=x}
	alias_maps =
	postscreen_greet_wait = 1s
	postscreen_greet_action = enforce
	postscreen_pipelining_enable = yes
	postscreen_pipelining_action = enforce
	postscreen_non_smtp_command_enable = yes
	postscreen_bare_newline_enable = yes
	postscreen_bare_newline_action = enforce
	postscreen_cache_map =
	CONF
    sed 's/^\([a-z]\+ .* [n-] *[n-] *\)y/\1n/' /etc/postfix/master.cf.proto >"$d"/master.cf
    cat >>"$d"/master.cf <<-CONF
	587 inet n - n - - smtpd -o syslog_name=postfix/submission -o smtpd_client_auth_rate_limit=3
	2525 inet n - n - - smtpd -o smtpd_sasl_type=cyrus -o smtpd_sasl_path=smtpd -o syslog_name=postfix/smtps
	2526 inet n - n - 1 postscreen
	smtpd pass - - n - - smtpd
	dnsblog unix - - n - 0 dnsblog
	tlsproxy unix - - n - 0 tlsproxy
	CONF
    command postfix -c "$d" start 2>/dev/null || { echo "postfix does not start"; tail "$OUT/postfix.log"; }
    dovecot_conf /tmp/dovecot; sed -i "s/^ *protocols = .*/protocols = imap/" /tmp/dovecot/conf
    command dovecot -F -c /tmp/dovecot/conf 2>/dev/null & local pid=$!
    listening 25 && listening 143 || return
    for from in 192.0.2.1 2001:db8::1; do
        server=192.0.2.100; [ "$from" = 192.0.2.1 ] || server=2001:db8::100
        for port in 25 2525; do
            for name in "${names[@]}" "$long x[$evil]: SASL LOGIN authentication failed: x"; do
                talk "$from" "$server" "$port" "EHLO [$evil]" "AUTH PLAIN $(b64 '\0%s\0wrong' "$name")" \
                    'AUTH LOGIN' "$(b64 %s "$name")" "$(b64 wrong)" QUIT
            done
            talk "$from" "$server" "$port" 'EHLO x' 'AUTH CRAM-MD5' \
                "$(b64 'root 01234567890123456789012345678901')"
            talk "$from" "$server" "$port" 'EHLO x' "AUTH PLAIN x" "AUTH x[$evil]: y" 'AUTH PLAIN' '*'
            talk "$from" "$server" "$port" 'EHLO x' 'STARTTLS' 'EHLO x' "AUTH PLAIN $(b64 '\0root\0wrong')" \
                QUIT
        done
        talk "$from" "$server" 587 'EHLO x' "AUTH PLAIN $(b64 '\0root\0wrong')"
        talk "$from" "$server" 587 'EHLO x' "AUTH PLAIN $(b64 '\0root\0wrong')"
        talk "$from" "$server" 587 'EHLO x' "AUTH PLAIN $(b64 '\0root\0wrong')"
        talk "$from" "$server" 587 'EHLO x' "AUTH PLAIN $(b64 '\0root\0wrong')"
        # Relaying, unknown users, commands that are none, more than was asked for.
        talk "$from" "$server" 25 "EHLO $evil" \
            "MAIL FROM:<\"x[$evil]: 554 5.7.1 <y>: Relay access denied;\"@x.example>" \
            'RCPT TO:<a@other.example>' "RCPT TO:<\"x from=<> y[$evil]\"@other.example>" \
            'RCPT TO:<nosuch@test.example>' \
            "RCPT TO:<\"z[$evil]: 550 5.1.1 <x>: Recipient address rejected: User unknown in local recipient table;\"@test.example>" QUIT
        talk "$from" "$server" 25 'EHLO x' 'MAIL FROM:<>' 'VRFY root' 'VRFY x' 'ETRN x' QUIT
        talk "$from" "$server" 25 "FOO $evil" "warning: non-SMTP command from x[$evil]: x" "BAR x[$evil]" QUIT
        talk "$from" "$server" 25 'GET / HTTP/1.1' "Host: $evil"
        talk "$from" "$server" 25 'EHLO x\p' "MAIL FROM:<x@$evil>\\p" "RCPT TO:<x@x.example>"
        talk "$from" "$server" 25 'EHLO x' FOO{1..25}
        talk "$from" "$server" 25 "HELO x[$evil]" 'HELO' 'MAIL' 'RCPT' 'DATA' QUIT
        talk "$from" "$server" 25 TLS
        talk "$from" "$server" 25 'EHLO x' QUIT; talk "$from" "$server" 25
        # To postscreen.
        talk "$from" "$server" 2526 "EHLO x from [$evil]:25: x\\p" 'QUIT\p' 'NOOP'
        sleep 1
        talk "$from" "$server" 2526 "EHLO [$evil]" "MAIL FROM:<x@x>\\p" 'RCPT TO:<x@x>\p' NOOP QUIT
        talk "$from" "$server" 2526 "GET / from [$evil]:25: HTTP/1.1"
        talk "$from" "$server" 2526 "EHLO x" 'MAIL FROM:<x@x>\n\c' "RCPT TO:<x@x>" NOOP QUIT
        talk "$from" "$server" 2526 "EHLO [$evil]" "MAIL FROM:<x@x>" 'RCPT TO:<nosuch@test.example>' QUIT
        # No failure.
        talk "$from" "$server" 25 'EHLO x' "AUTH PLAIN $(b64 '\0alice\0right')" 'MAIL FROM:<x@x>' \
            'RCPT TO:<alice@test.example>' RSET QUIT
    done
    kill "$pid"; wait "$pid"
    command postfix -c "$d" stop 2>/dev/null; sleep 1; kill "$syslogd"; wait "$syslogd" 2>/dev/null
    judge postfix 20 "$OUT/postfix.log"
    judge postfix-abuse 20 "$OUT/postfix.log"
}

# Exim, once with files of its own, once with syslog; it takes any HELO, as it does not by default.
exim() {
    local d=/tmp/exim from server name to log
    mkdir -p "$d"/spool; certificate "$d"/pem; chown -R exim:exim "$d"; chmod 755 "$d"; chmod 644 "$d"/pem
    rm -f "$OUT"/exim-*; : >"$OUT/exim-mainlog"; : >"$OUT/exim-rejectlog"; chown exim "$OUT"/exim-*
    for to in "$OUT/exim-%slog" syslog; do
        log=$OUT/exim-mainlog
        [ "$to" != syslog ] || log=$OUT/exim-syslog.log
        [ "$to" != syslog ] || syslog "$log"
        cat >"$d"/conf <<-CONF
	exim_user = exim
	exim_group = exim
	primary_hostname = test.example
	spool_directory = $d/spool
	pid_file_path = $d/pid
	log_file_path = $to
	domainlist local = test.example
	daemon_smtp_ports = 25
	local_interfaces = <; 0.0.0.0 ; ::0
	keep_environment =
	tls_advertise_hosts = *
	tls_certificate = $d/pem
	host_lookup =
	helo_accept_junk_hosts = *
	acl_smtp_rcpt = rcpt
	log_selector = +incoming_port +incoming_interface
	begin acl
	rcpt:
	 require message = relay not permitted
	 domains = +local
	 require verify = recipient
	 accept
	begin routers
	alice:
	 driver = accept
	 local_parts = alice
	 transport = null
	begin transports
	null:
	 driver = appendfile
	 file = /dev/null
	begin authenticators
	plain_server:
	 driver = plaintext
	 public_name = PLAIN
	 server_prompts = :
	 server_condition = \${if eq{\$auth2:\$auth3}{alice:right}}
	 server_set_id = \$auth2
	 server_advertise_condition = yes
	login_server:
	 driver = plaintext
	 public_name = LOGIN
	 server_prompts = Username:: : Password::
	 server_condition = \${if eq{\$auth1:\$auth2}{alice:right}}
	 server_set_id = \$auth1
	cram:
	 driver = cram_md5
	 public_name = CRAM-MD5
	 server_secret = \${if eq{\$auth1}{alice}{right}fail}
	 server_set_id = \$auth1
	down:
	 driver = plaintext
	 public_name = DOWN
	 server_prompts = :
	 server_condition = \${if forany{x}{y}}
	CONF
        command exim4 -C "$d"/conf -bdf 2>/dev/null & local pid=$!
        listening 25 || return
        for from in 192.0.2.1 2001:db8::1; do
            server=192.0.2.100; [ "$from" = 192.0.2.1 ] || server=2001:db8::100
            for name in "${names[@]}" "x [$evil]: 535 Incorrect authentication data (set_id=y"; do
                talk "$from" "$server" 25 "EHLO x" "AUTH PLAIN $(b64 '\0%s\0wrong' "$name")" 'AUTH LOGIN' \
                    "$(b64 %s "$name")" "$(b64 wrong)" QUIT
            done
            for name in "[$evil]" "x) [$evil]: 535 Incorrect authentication data (set_id=" "x [$evil]:25 y" \
                "$(printf '%0150d' 0)x [$evil]: 535 Incorrect authentication data"; do
                talk "$from" "$server" 25 "EHLO $name" "AUTH PLAIN $(b64 '\0root\0wrong')" QUIT
            done
            talk "$from" "$server" 25 'EHLO x' 'AUTH CRAM-MD5' \
                "$(b64 'root 01234567890123456789012345678901')"
            talk "$from" "$server" 25 'EHLO x' \
                "AUTH PLAIN $(b64 '\0x\n2026-11-26 02:01:00 login authenticator failed for ['"$evil"']: 535 Incorrect authentication data\0wrong')" 'AUTH PLAIN x' "AUTH x[$evil]" 'AUTH DOWN' QUIT
            talk "$from" "$server" 25 'EHLO x' STARTTLS 'EHLO x' "AUTH PLAIN $(b64 '\0root\0wrong')" QUIT
            # What is no failure, or no rule's business.
            talk "$from" "$server" 25 "EHLO x [$evil]" "MAIL FROM:<x@[$evil]>" 'RCPT TO:<a@other.example>' \
                'RCPT TO:<nosuch@test.example>' QUIT
            talk "$from" "$server" 25 "EHLO $evil\\p" "MAIL FROM:<x>"
            talk "$from" "$server" 25 FOO{1..9}
            talk "$from" "$server" 25 'EHLO x' "AUTH PLAIN $(b64 '\0alice\0right')" QUIT
        done
        kill "$pid"; wait "$pid" 2>/dev/null
        if [ "$to" = syslog ]; then
            kill "$syslogd"; wait "$syslogd" 2>/dev/null
            judge exim-syslog 20 "$log"
        else
            judge exim 20 "$log"
        fi
    done
}

# ftp_attack: refused passwords and names that try to be something else, over FTP.
ftp_attack() {
    local from server name
    for from in 192.0.2.1 2001:db8::1; do
        server=192.0.2.100; [ "$from" = 192.0.2.1 ] || server=2001:db8::100
        for name in root nosuch "x] FAIL LOGIN: Client \"$evil\"" "x rhost=$evil  user=root" \
            "x (Login failed): no such user found from $evil [$evil] to 192.0.2.100:21" \
            "(?@$evil) [WARNING] Authentication failed for user [x]" \
                "$(printf '%0250d' 0)] FAIL LOGIN: Client \"$evil\"" \
            'x\nThu Nov 26 02:01:00 2026 [pid 2] [x] FAIL LOGIN: Client "'$evil'"' alice; do
            talk "$from" "$server" 21 "USER $name" 'PASS wrong' QUIT
        done
        talk "$from" "$server" 21 'USER root' 'PASS x' 'USER root' 'PASS y' 'USER root' 'PASS z' 'USER root' \
            'PASS z'
        talk "$from" "$server" 21 'AUTH TLS' 'USER root' 'PASS wrong' QUIT
        # No failure, or none that is told.
        talk "$from" "$server" 21 "GET /$evil HTTP/1.1" "Host: $evil"
        talk "$from" "$server" 21 'USER alice' 'PASS right' QUIT
        talk "$from" "$server" 21 QUIT
    done
}

# alice can log in, by PAM and by passwd.
alice() {
    local hash; hash=$(openssl passwd -6 right)
    echo 'alice:x:1234:65534::/tmp:/bin/sh' >>/tmp/passwd
    { cat /etc/shadow; echo "alice:$hash:19000::::::"; } >/tmp/shadow; chmod 640 /tmp/shadow
    mount --bind /tmp/shadow /etc/shadow
}

vsftpd() {
    local d=/tmp/vsftpd own
    mkdir -p "$d"/empty; alice; certificate "$d"/pem; rm -f "$OUT/vsftpd-own.log"
    for own in YES NO; do
        syslog "$OUT/vsftpd-syslog$own.log"
        printf '%s\n' listen=NO listen_ipv6=YES background=NO local_enable=YES anonymous_enable=NO \
            write_enable=NO delay_failed_login=0 xferlog_enable=YES \
            ssl_enable=YES force_local_logins_ssl=NO force_local_data_ssl=NO rsa_cert_file="$d"/pem \
                rsa_private_key_file="$d"/pem \
            "vsftpd_log_file=$OUT/vsftpd-own.log" pam_service_name=vsftpd secure_chroot_dir="$d"/empty \
                "syslog_enable=$([ "$own" = YES ] && echo NO || echo YES)" >"$d"/conf
        command vsftpd "$d"/conf & local pid=$!
        listening 21 || return
        ftp_attack
        kill "$pid"; wait "$pid" 2>/dev/null; kill "$syslogd"; wait "$syslogd" 2>/dev/null
        free 21
    done
    judge vsftpd 10 "$OUT/vsftpd-own.log"
    judge vsftpd-syslog 10 "$OUT/vsftpd-syslogYES.log"
    judge vsftpd-syslog 10 "$OUT/vsftpd-syslogNO.log"
}

proftpd() {
    local d=/tmp/proftpd own
    mkdir -p "$d"; alice
    rm -f "$OUT/proftpd-own.log"
    for own in yes no; do
        syslog "$OUT/proftpd-syslog.log"
        printf '%s\n' 'ServerName x' 'ServerType standalone' 'User proftpd' 'Group nogroup' 'UseIPv6 on' \
            'Port 21' "PidFile $d/pid" "ScoreboardFile $d/scores" 'AuthOrder mod_auth_unix.c' \
            'RequireValidShell off' "$([ "$own" = yes ] && echo "SystemLog $OUT/proftpd-own.log")" >"$d"/conf
        command proftpd -c "$d"/conf; listening 21 || return
        ftp_attack
        kill "$(cat "$d"/pid)"; sleep 1; kill "$syslogd"; wait "$syslogd" 2>/dev/null
        free 21
    done
    judge proftpd 10 "$OUT/proftpd-own.log"
    # Why the rule of this log is off as it comes: see its file.
    grep -q '^Thu Nov 26' "$OUT/proftpd-own.log" || echo \
        "proftpd: this version writes no line breaks of names: the rule could be on"
    judge proftpd-syslog 10 "$OUT/proftpd-syslog.log"
}

pureftpd() {
    alice; certificate /tmp/pem
    syslog "$OUT/pure-ftpd.log"
    command pure-ftpd -l unix -E -H -Y 1 -2 /tmp/pem -S 21 & local pid=$!
    listening 21 || return
    ftp_attack
    kill "$pid"; wait "$pid" 2>/dev/null
    cp "$OUT/pure-ftpd.log" "$OUT/pure-ftpd-judged.log"
    # Why the rule is off as it comes: without -H a name may be another's address.
    free 21
    echo "192.0.2.1 $evil" >/tmp/hosts; mount --bind /tmp/hosts /etc/hosts
    command pure-ftpd -l unix -E -S 21 & pid=$!
    listening 21 && talk 192.0.2.1 192.0.2.100 21 'USER root' 'PASS wrong' QUIT
    kill "$pid"; wait "$pid" 2>/dev/null; kill "$syslogd"; wait "$syslogd" 2>/dev/null
    judge pure-ftpd 10 "$OUT/pure-ftpd-judged.log"
    grep -q "(?@$evil) \[WARN" "$OUT/pure-ftpd.log" || echo \
        "pure-ftpd: this version believes no reverse name that is an address: the rule could be on"
}

services "$@" -- postfix dovecot exim=exim4 vsftpd proftpd pureftpd=pure-ftpd
