#!/bin/bash
# Courier and Cyrus of Debian are attacked over IMAP, POP3 and ManageSieve, and mef judges what they wrote:
# see lib.sh.
# Usage: tests/services/imap.sh [SERVICE…]; as root
source "$(dirname "$0")/lib.sh"
# Debian installs these beside no other of their kind: their packages are unpacked, and laid over /usr and
# /etc in the namespace, since they know their places.
unpacked=$OUT/imap
[ "${SERVICES_INSIDE:-}" = yes ] || unpack "$unpacked" courier-imap courier-pop courier-base \
    courier-authdaemon courier-authlib \
    courier-authlib-userdb libcourier-unicode4 libgamin0 libidn12 libltdl7 cyrus-imapd cyrus-pop3d \
        cyrus-common libical3 libjansson4 libzephyr4 \
    libchardet1 libwslay1 libsnmp40 libsensors5 libmariadb3 libpq5 libnghttp2-14 libbrotli1 libxml2 libicu72 \
        libpcre2-posix3 libxapian30

inside "$@"
mkdir /tmp/over /tmp/over/{etc,work}
lay "$unpacked/lib:$unpacked/usr/lib:/usr/lib" /usr/lib
lay "$unpacked/usr/bin:/usr/bin" /usr/bin
lay "$unpacked/usr/sbin:/usr/sbin" /usr/sbin
mount -t overlay -o "lowerdir=$unpacked/etc:/etc,upperdir=/tmp/over/etc,workdir=/tmp/over/work" none /etc
mount -t tmpfs -o mode=755 none /var/lib; mount -t tmpfs -o mode=755 none /var/spool
# Users whom the packages would have made.
printf 'courier:x:401:401::/:/bin/false\ncyrus:x:402:8::/var/spool/cyrus:/bin/sh\n' >>/etc/passwd
echo courier:x:401: >>/etc/group

# Users who cannot log in: names that exist, that do not, and that try to be something else.
names=(root nosuch "x, ip=[$evil]" "x, ip=[$evil], port=[1]" "LOGIN FAILED, user=x, ip=[$evil]"
    "x [$evil] plaintext y SASL(-13): authentication failure: checkpass failed"
    "badlogin: [$evil] plaintext y SASL(-13): authentication failure: checkpass failed" \
        "badlogin: $evil [$evil] PLAIN [SASL(-13): authentication failure: x]")
long=$(printf '%0300d' 0)

# aside FROM SERVER PORT LINE…: a session that nobody waits for here, since a wrong password has it wait;
# `sessions` are all of them.
sessions=()
aside() { talk "$@" & sessions+=($!); }

# attack FROM SERVER: what both of them hear.
attack() {
    local from=$1 server=$2 name
    for name in "${names[@]}" "$long, ip=[$evil]" \
        "$long [$evil] plaintext y SASL(-13): authentication failure: checkpass failed"; do
        aside "$from" "$server" 143 "a LOGIN \"$name\" wrong" 'a LOGOUT'
        aside "$from" "$server" 110 "USER $name" 'PASS wrong' QUIT
        aside "$from" "$server" 143 'a AUTHENTICATE PLAIN' "$(b64 '\0%s\0wrong' "$name")" 'a LOGOUT'
    done
    # A literal may hold a line break.
    aside "$from" "$server" 143 "a LOGIN {$((24 + ${#evil}))}" "x\\nLOGIN FAILED, ip=[$evil]\\c" ' wrong'
    aside "$from" "$server" 143 'a AUTHENTICATE PLAIN' \
        "$(b64 "\\0x\\nbadlogin: [$evil] plaintext y SASL(-13): authentication failure: z\\0wrong")"
    aside "$from" "$server" 143 'a AUTHENTICATE LOGIN' "$(b64 root)" "$(b64 wrong)"
    aside "$from" "$server" 143 'a AUTHENTICATE CRAM-MD5' "$(b64 'alice 01234567890123456789012345678901')"
    aside "$from" "$server" 143 'a STARTTLS' 'a LOGIN root wrong' 'a LOGOUT'
    aside "$from" "$server" 993 TLS 'a LOGIN root wrong' 'a LOGOUT'
    aside "$from" "$server" 993 TLS 'a AUTHENTICATE PLAIN' "$(b64 '\0root\0wrong')"
    aside "$from" "$server" 110 STLS 'USER root' 'PASS wrong'
    aside "$from" "$server" 995 TLS 'USER nosuch' 'PASS wrong'
}

# harmless FROM SERVER: nobody tried to log in, somebody did with success, or what was said is no protocol.
harmless() {
    talk "$1" "$2" 143 'a CAPABILITY' 'a LOGOUT'
    talk "$1" "$2" 143 'a LOGIN alice right' 'a SELECT INBOX' 'a LOGOUT'
    talk "$1" "$2" 110 'USER alice' 'PASS right' QUIT
    talk "$1" "$2" 143 'GET / HTTP/1.1' "Host: $evil" "LOGIN FAILED, user=x, ip=[$evil]" \
        "badlogin: [$evil] plaintext y SASL(-13): x"
}

# both: attacks from both families, to their end.
both() {
    attack 192.0.2.1 192.0.2.100
    attack 2001:db8::1 2001:db8::100
    wait "${sessions[@]}"
    sessions=()
}

courier() {
    local d=/tmp/alice
    syslog "$OUT/courier.log"
    mkdir -p "$d" /run/courier/authdaemon /var/lib/courier; maildir "$d"/Maildir; chown -R 65534:65534 "$d"
    chown courier /run/courier /run/courier/authdaemon
    printf 'alice\tuid=65534|gid=65534|home=%s|mail=%s/Maildir|systempw=%s\n' "$d" "$d" \
        "$(openssl passwd -1 right)" >/etc/courier/userdb
    chmod 600 /etc/courier/userdb; makeuserdb
    sed -i 's/^authmodulelist=.*/authmodulelist="authuserdb"/' /etc/courier/authdaemonrc
    # Plain passwords are a matter of course here, and so are many connections.
    local can='IMAP4rev1 UIDPLUS AUTH=PLAIN AUTH=LOGIN AUTH=CRAM-MD5'
    sed -i -e 's/^\(MAXPERIP\|MAXDAEMONS\)=.*/\1=400/' -e 's/^IMAP_ULIMITD=.*/IMAP_ULIMITD=/' \
        -e 's/^\(IMAP_CAPABILITY\|POP3AUTH\)=.*/\1="'"$can"'"/' /etc/courier/imapd /etc/courier/pop3d
    sed -i 's/^\(IMAPDSSLSTART\|POP3DSSLSTART\|IMAPDSTARTTLS\|POP3_STARTTLS\)=.*/\1=YES/' \
        /etc/courier/imapd-ssl /etc/courier/pop3d-ssl
    sed -i 's/^POP3AUTH=.*/POP3AUTH="PLAIN LOGIN CRAM-MD5"/' /etc/courier/pop3d
    certificate /etc/courier/imapd.pem; cp /etc/courier/imapd.pem /etc/courier/pop3d.pem
    authdaemond start
    for part in imapd imapd-ssl pop3d pop3d-ssl; do /usr/lib/courier/"$part" start 2>/dev/null; done
    listening 143 && listening 993 && listening 110 && listening 995 || return
    both
    judge courier 40 "$OUT/courier.log"
    stop_logging; syslog "$OUT/courier-harmless.log"
    harmless 192.0.2.1 192.0.2.100; harmless 2001:db8::1 2001:db8::100
    none courier "$OUT/courier-harmless.log"
    for part in imapd imapd-ssl pop3d pop3d-ssl; do /usr/lib/courier/"$part" stop; done
    authdaemond stop
    stop_logging; free 143 993 110 995
}

# maildir DIR: an empty one.
maildir() { mkdir -p "$1"/{cur,new,tmp}; }

cyrus() {
    syslog "$OUT/cyrus.log"
    mkdir -p /run/cyrus/{proc,lock,socket} /var/lib/cyrus /var/spool/cyrus/mail /var/spool/sieve /tmp/sasl
    chown -R cyrus:mail /run/cyrus /var/lib/cyrus /var/spool/cyrus /var/spool/sieve
    echo right | saslpasswd2 -p -c -u test.example -f /tmp/sasl/db alice; echo right |
        saslpasswd2 -p -c -u test.example -f /tmp/sasl/db cyrus
    certificate /tmp/sasl/pem; chown -R cyrus /tmp/sasl
    cat >/etc/imapd.conf <<-CONF
	configdirectory: /var/lib/cyrus
	partition-default: /var/spool/cyrus/mail
	sievedir: /var/spool/sieve
	proc_path: /run/cyrus/proc
	mboxname_lockpath: /run/cyrus/lock
	servername: test.example
	admins: cyrus
	allowplaintext: yes
	sasl_pwcheck_method: auxprop
	sasl_auxprop_plugin: sasldb
	sasl_sasldb_path: /tmp/sasl/db
	sasl_mech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5
	defaultdomain: test.example
	autocreate_quota: 0
	autocreate_post: yes
	failedloginpause: 0
	popminpoll: 0
	tls_server_cert: /tmp/sasl/pem
	tls_server_key: /tmp/sasl/pem
	CONF
    cat >/etc/cyrus.conf <<-CONF
	START {
	 recover cmd="/usr/lib/cyrus/bin/ctl_cyrusdb -r"
	}
	SERVICES {
	 imap cmd="imapd" listen="143" maxchild=100
	 imaps cmd="imapd -s" listen="993" maxchild=100
	 pop3 cmd="pop3d" listen="110" maxchild=100
	 pop3s cmd="pop3d -s" listen="995" maxchild=100
	 sieve cmd="timsieved" listen="4190" maxchild=100
	}
	EVENTS {
	}
	CONF
    cyrmaster -d -p /run/cyrus-master.pid
    listening 143 && listening 993 && listening 110 && listening 995 || return
    both
    talk 192.0.2.1 192.0.2.100 4190 "AUTHENTICATE \"PLAIN\" \"$(b64 '\0root\0wrong')\"" LOGOUT
    talk 2001:db8::1 2001:db8::100 143 'a AUTHENTICATE DIGEST-MD5' \
        "$(b64 'username="alice",realm="test.example",nonce="x",cnonce="y",nc=00000001,qop=auth,digest-uri="imap/test.example",response=0123456789abcdef0123456789abcdef')"
    judge cyrus 40 "$OUT/cyrus.log"
    stop_logging; syslog "$OUT/cyrus-harmless.log"
    harmless 192.0.2.1 192.0.2.100; harmless 2001:db8::1 2001:db8::100
    none cyrus "$OUT/cyrus-harmless.log"
    kill "$(cat /run/cyrus-master.pid)"
    stop_logging; free 143 993 110 995 4190
}

services "$@" -- courier=couriertcpd cyrus=cyrmaster
