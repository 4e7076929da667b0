#!/bin/bash
# Mail and file transfer services of Debian are attacked, and mef judges what they wrote: see lib.sh.
# Usage: tests/services/mail.sh [SERVICE…]; as root
# Those that Debian does not install beside another one (exim, proftpd, pure-ftpd) are unpacked into target/services/mail.
source "$(dirname "$0")/lib.sh"
inside "$@"

talk() { python3 "$root/tests/services/talk.py" "$@"; }
b64() { printf "$@" | base64 -w 0; }

# Users who cannot log in, with wrong passwords: names that exist, that do not, and that try to be something else.
names=(root nosuch "x, rip=$evil, lip=$evil" "x>, method=PLAIN, rip=$evil, lip=192.0.2.100, session=<abc>" "x[$evil]: SASL LOGIN authentication failed: x")

certificate() { openssl req -x509 -newkey rsa:2048 -nodes -keyout "$1" -out "$1" -subj /CN=x -days 9 2>/dev/null; }

# dovecot_conf DIR: dovecot with one user, logging to syslog.
dovecot_conf() {
    local d=$1
    mkdir -p $d/run $d/mail; chmod 755 $d; certificate $d/pem
    echo 'alice:{PLAIN}right:65534:65534::/tmp:' >$d/users; chmod 644 $d/users
    cat >$d/conf <<-CONF
	base_dir = $d/run
	protocols = $(for p in imap pop3 sieve submission; do [ -e /usr/share/dovecot/protocols.d/*${p}*d.protocol ] && echo -n "$p "; done)
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
    dovecot_conf $d
    command dovecot -F -c $d/conf & local pid=$!
    listening 143 || return
    for from in 192.0.2.1 2001:db8::1; do
        server=192.0.2.100; [ $from = 192.0.2.1 ] || server=2001:db8::100
        for name in "${names[@]}"; do
            talk $from $server 143 "a LOGIN \"$name\" wrong" 'a LOGOUT'
            talk $from $server 110 "USER $name" 'PASS wrong' QUIT
        done
        talk $from $server 143 'a AUTHENTICATE PLAIN' "$(b64 '\0nosuch\0wrong')" 'a AUTHENTICATE PLAIN' "$(b64 '\0root\0wrong')" 'a AUTHENTICATE CRAM-MD5' "$(b64 'root 01234567890123456789012345678901')"
        talk $from $server 143 'a AUTHENTICATE PLAIN' "$(b64 "\\0x\\n\\0wrong")"
        talk $from $server 143 'a AUTHENTICATE PLAIN' "$(b64 '\0%0199dx, rip='$evil', lip='$evil', session=<a>\0wrong' 1)"
        talk $from $server 143 'a STARTTLS' 'a LOGIN root wrong'
        talk $from $server 993 TLS 'a LOGIN root wrong'
        talk $from $server 995 TLS 'USER root' 'PASS wrong'
        talk $from $server 110 "APOP $evil 01234567890123456789012345678901"
        talk $from $server 4190 "AUTHENTICATE \"PLAIN\" \"$(b64 '\0root\0wrong')\"" LOGOUT
        talk $from $server 587 "EHLO x[$evil]" "AUTH PLAIN $(b64 '\0root\0wrong')" QUIT
        # No failures: nobody tried to log in, or somebody did with success.
        talk $from $server 143 'a CAPABILITY'
        talk $from $server 143 'a LOGIN alice right' 'a LOGOUT'
        talk $from $server 143 "GET / HTTP/1.1" "Host: $evil" x x x
    done
    kill $pid; wait $pid; kill $syslogd; wait $syslogd 2>/dev/null
    judge dovecot 20 "$OUT/dovecot.log"
}

postfix() {
    local d=/tmp/postfix from server name long
    long=$(printf '%0150d' 0)
    mount -t tmpfs -o mode=755 none /var/spool/postfix; mount -t tmpfs -o mode=755 none /var/lib/postfix; chown postfix /var/lib/postfix
    syslog "$OUT/postfix.log"
    mkdir -p $d/sasl
    echo 127.0.0.1 localhost test.example >/tmp/hosts; mount --bind /tmp/hosts /etc/hosts
    printf 'pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN CRAM-MD5\nsasldb_path: %s\n' $d/sasldb >$d/sasl/smtpd.conf
    echo right | saslpasswd2 -p -c -u test.example -f $d/sasldb alice; chmod 644 $d/sasldb
    cp /etc/postfix/{dynamicmaps.cf,postfix-files} $d/; cp -r /etc/postfix/{dynamicmaps.cf.d,postfix-files.d} $d/
    certificate $d/pem
    cat >$d/main.cf <<-CONF
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
    sed 's/^\([a-z]\+ .* [n-] *[n-] *\)y/\1n/' /etc/postfix/master.cf.proto >$d/master.cf
    cat >>$d/master.cf <<-CONF
	587 inet n - n - - smtpd -o syslog_name=postfix/submission -o smtpd_client_auth_rate_limit=3
	2525 inet n - n - - smtpd -o smtpd_sasl_type=cyrus -o smtpd_sasl_path=smtpd -o syslog_name=postfix/smtps
	2526 inet n - n - 1 postscreen
	smtpd pass - - n - - smtpd
	dnsblog unix - - n - 0 dnsblog
	tlsproxy unix - - n - 0 tlsproxy
	CONF
    command postfix -c $d start 2>/dev/null || { echo "postfix does not start"; tail "$OUT/postfix.log"; }
    dovecot_conf /tmp/dovecot; sed -i "s/^ *protocols = .*/protocols = imap/" /tmp/dovecot/conf; command dovecot -F -c /tmp/dovecot/conf 2>/dev/null & local pid=$!
    listening 25 && listening 143 || return
    for from in 192.0.2.1 2001:db8::1; do
        server=192.0.2.100; [ $from = 192.0.2.1 ] || server=2001:db8::100
        for port in 25 2525; do
            for name in "${names[@]}" "$long x[$evil]: SASL LOGIN authentication failed: x"; do
                talk $from $server $port "EHLO [$evil]" "AUTH PLAIN $(b64 '\0%s\0wrong' "$name")" 'AUTH LOGIN' "$(b64 %s "$name")" "$(b64 wrong)" QUIT
            done
            talk $from $server $port 'EHLO x' 'AUTH CRAM-MD5' "$(b64 'root 01234567890123456789012345678901')"
            talk $from $server $port 'EHLO x' "AUTH PLAIN x" "AUTH x[$evil]: y" 'AUTH PLAIN' '*'
            talk $from $server $port 'EHLO x' 'STARTTLS' 'EHLO x' "AUTH PLAIN $(b64 '\0root\0wrong')" QUIT
        done
        talk $from $server 587 'EHLO x' "AUTH PLAIN $(b64 '\0root\0wrong')"
        talk $from $server 587 'EHLO x' "AUTH PLAIN $(b64 '\0root\0wrong')"
        talk $from $server 587 'EHLO x' "AUTH PLAIN $(b64 '\0root\0wrong')"
        talk $from $server 587 'EHLO x' "AUTH PLAIN $(b64 '\0root\0wrong')"
        # Relaying, unknown users, commands that are none, more than was asked for.
        talk $from $server 25 "EHLO $evil" "MAIL FROM:<\"x[$evil]: 554 5.7.1 <y>: Relay access denied;\"@x.example>" 'RCPT TO:<a@other.example>' "RCPT TO:<\"x from=<> y[$evil]\"@other.example>" 'RCPT TO:<nosuch@test.example>' "RCPT TO:<\"z[$evil]: 550 5.1.1 <x>: Recipient address rejected: User unknown in local recipient table;\"@test.example>" QUIT
        talk $from $server 25 'EHLO x' 'MAIL FROM:<>' 'VRFY root' 'VRFY x' 'ETRN x' QUIT
        talk $from $server 25 "FOO $evil" "warning: non-SMTP command from x[$evil]: x" "BAR x[$evil]" QUIT
        talk $from $server 25 'GET / HTTP/1.1' "Host: $evil"
        talk $from $server 25 'EHLO x\p' "MAIL FROM:<x@$evil>\\p" "RCPT TO:<x@x.example>"
        talk $from $server 25 'EHLO x' $(printf 'FOO%d ' $(seq 25))
        talk $from $server 25 "HELO x[$evil]" 'HELO' 'MAIL' 'RCPT' 'DATA' QUIT
        talk $from $server 25 TLS
        talk $from $server 25 'EHLO x' QUIT; talk $from $server 25
        # To postscreen.
        talk $from $server 2526 "EHLO x from [$evil]:25: x\\p" 'QUIT\p' 'NOOP'
        sleep 1
        talk $from $server 2526 "EHLO [$evil]" "MAIL FROM:<x@x>\\p" 'RCPT TO:<x@x>\p' NOOP QUIT
        talk $from $server 2526 "GET / from [$evil]:25: HTTP/1.1"
        talk $from $server 2526 "EHLO x" 'MAIL FROM:<x@x>\n\c' "RCPT TO:<x@x>" NOOP QUIT
        talk $from $server 2526 "EHLO [$evil]" "MAIL FROM:<x@x>" 'RCPT TO:<nosuch@test.example>' QUIT
        # No failure.
        talk $from $server 25 'EHLO x' "AUTH PLAIN $(b64 '\0alice\0right')" 'MAIL FROM:<x@x>' 'RCPT TO:<alice@test.example>' RSET QUIT
    done
    kill $pid; wait $pid
    command postfix -c $d stop 2>/dev/null; sleep 1; kill $syslogd; wait $syslogd 2>/dev/null
    judge postfix 20 "$OUT/postfix.log"
    judge postfix-abuse 20 "$OUT/postfix.log"
}

services "$@" -- postfix dovecot
