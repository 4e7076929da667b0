#!/bin/bash
# Web servers, proxies, databases and others of Debian are attacked, and mef judges what they wrote: see
# lib.sh.
# Usage: tests/services/web.sh [SERVICE…]; as root
source "$(dirname "$0")/lib.sh"
inside "$@"
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
mkdir -p /run/mysqld /run/named /run/postgresql /run/haproxy /run/squid

# Requests that scanners make, and some that name another address wherever they can. $1: from, $2: the server.
scan() {
    local path
    for path in /.env /.git/config /wp-login.php /phpmyadmin/index.php /cgi-bin/luci \
        /vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php \
        '/..%2f..%2f..%2fetc/passwd' '/%c0%ae%c0%ae/etc/passwd' /shell.php \
            "/x%22,%20client:%20$evil,%20server:%20x" "/a%20-%20$evil%20-%20-" \
        "/x%0a2026/01/02%2001:02:03%20[error]%201%231:%20*1%20user%20%22x%22:%20password%20mismatch,%20client:%20$evil,%20server:%20x,%20request:%20%22GET%20/%22" \
        "/x%0a[Thu%20Jan%2002%2001:02:03.0%202026]%20[a:error]%20[pid%201:tid%201]%20[client%20$evil:1]%20AH01617:%20user%20x:%20authentication%20failure%20for%20%22/%22:%20Password%20Mismatch"; do
        get "$1" --path-as-is -A "Mozilla $evil - -" -e "http://$evil/, client: $evil, server: x" \
            "http://$2$path"
    done
    get "$1" --path-as-is -H "Host: $evil" "http://$2/.env"
    get "$1" --path-as-is -u "x\": password mismatch, client: $evil, server: x, request: \"GET:y" \
        "http://$2/.env"
    # No HTTP at all, TLS to a port without, a space in the request, names of other hosts.
    python3 "$root/tests/services/raw.py" "$1" "$2" "$evil"
}

# password ADDRESS URL: wrong passwords, users that do not exist, names that try to be something else.
password() {
    local who
    for who in root:x nosuch:x "x\": password mismatch, client: $evil:y" \
        "user $evil: authentication failure for /:y" \
        "[client $evil:1] AH01617: user x:y" "x from $evil:y" \
        $'x\n[Thu Jan 02 01'":y" $'x IP: '"$evil"$'\n2026-01-02 01'":y"; do
        get "$1" -u "$who" "$2"
    done
}

nginx() {
    local d=/tmp/nginx; mkdir -p "$d"
    printf 'root:%s\n' "$(openssl passwd -apr1 right)" >"$d"/users
    cat >"$d"/conf <<-END
	user www-data; error_log $OUT/nginx-error.log; pid $d/pid; events {}
	http { access_log $OUT/nginx-access.log combined; limit_req_status 429; limit_conn_status 429; limit_req_zone \$binary_remote_addr zone=one:1m rate=1r/m;
	limit_conn_zone \$binary_remote_addr zone=two:1m;
	server { listen 80; listen [::]:80; root /usr/share/nginx/html;
	location /auth { auth_basic "x"; auth_basic_user_file $d/users; }
	location /slow { limit_req zone=one; } location /deny { deny all; } location /conn { limit_conn two 1; } } }
	END
    rm -f "$OUT"/nginx-*.log
    command nginx -c "$d"/conf; listening 80 || return
    local from server
    for from in 192.0.2.1 2001:db8::1; do
        server=192.0.2.100; [ "$from" = 192.0.2.1 ] || server='[2001:db8::100]'
        scan "$from" "$server"; password "$from" "http://$server/auth"
        for _ in 1 2 3; do get "$from" "http://$server/slow/$evil"; done
        get "$from" "http://$server/deny"
    done
    command nginx -c "$d"/conf -s stop
    judge nginx-auth 8 "$OUT/nginx-access.log"
    judge nginx-limit 4 "$OUT/nginx-access.log"
    judge web-probes 10 "$OUT/nginx-access.log"
}

apache() {
    local d=/tmp/apache m=/usr/lib/apache2/modules; mkdir -p "$d"
    printf 'root:%s\n' "$(openssl passwd -apr1 right)" >"$d"/users
    printf 'root:x:%s\n' "$(printf root:x:right | md5sum | cut -d' ' -f1)" >"$d"/digest
    { for module in mpm_event authn_core authn_file authz_core authz_host authz_user auth_basic auth_digest \
        access_compat alias mime dir; do
        echo "LoadModule ${module}_module $m/mod_$module.so"
    done
    cat <<-END
	ServerName test.example
	Listen 80
	User www-data
	Group www-data
	PidFile $d/pid
	DocumentRoot /usr/share/apache2/icons
	TypesConfig /etc/mime.types
	ErrorLog $OUT/apache-error.log
	LogFormat "%h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\"" combined
	CustomLog $OUT/apache-access.log combined
	<Location /auth>
	AuthType Basic
	AuthName x
	AuthUserFile $d/users
	Require valid-user
	</Location>
	<Location /digest>
	AuthType Digest
	AuthName x
	AuthDigestProvider file
	AuthUserFile $d/digest
	Require valid-user
	</Location>
	<Location /deny>
	Require all denied
	</Location>
	END
    [ ! -e "$m"/mod_security2.so ] || cat <<-END
	LoadModule unique_id_module $m/mod_unique_id.so
	LoadModule security2_module $m/mod_security2.so
	SecRuleEngine On
	SecRule REQUEST_URI|ARGS|REQUEST_HEADERS "@contains modsec" "id:1,phase:2,t:none,deny,status:403,msg:'no modsec',logdata:'%{MATCHED_VAR}'"
	END
    } >"$d"/conf
    rm -f "$OUT"/apache-*.log
    apache2 -d "$d" -f "$d"/conf; listening 80 || return
    local from server
    for from in 192.0.2.1 2001:db8::1; do
        server=192.0.2.100; [ "$from" = 192.0.2.1 ] || server='[2001:db8::100]'
        scan "$from" "$server"; password "$from" "http://$server/auth"
        get "$from" --digest -u root:wrong "http://$server/digest"
        get "$from" --digest -u nosuch:wrong "http://$server/digest"
        get "$from" --digest -u "x' in realm [client $evil:1]:wrong" "http://$server/digest"
        get "$from" "http://$server/deny"; get "$from" \
            "http://$server/deny/x%0a[Thu%20Jan%2002%2001:02:03.0%202026]%20[a:error]%20[pid%201:tid%201]%20[client%20$evil:1]%20AH01617:%20user%20x:%20authentication%20failure%20for%20%22/%22:%20Password%20Mismatch"
    done
    if [ -e "$m"/mod_security2.so ]; then
        for from in 192.0.2.1 2001:db8::1; do
            server=192.0.2.100; [ "$from" = 192.0.2.1 ] || server='[2001:db8::100]'
            get "$from" "http://$server/?x=modsec"; get "$from" -A \
                "modsec\" [client $evil:1] ModSecurity: Access denied" "http://$server/"
            get "$from" \
                "http://$server/modsec%0a[Thu%20Jan%2002%2001:02:03.0%202026]%20[security2:error]%20[pid%201:tid%201]%20[client%20$evil:1]%20[client%20$evil]%20ModSecurity:%20Access%20denied%20with%20code%20403"
        done
        judge apache-modsecurity 6 "$OUT/apache-error.log"
    fi
    kill "$(cat "$d"/pid)"; free 80
    judge apache-auth 8 "$OUT/apache-error.log"
    judge web-probes 10 "$OUT/apache-access.log"
}

lighttpd() {
    local d=/tmp/lighttpd; mkdir -p "$d"; chmod 755 "$d"; echo root:right >"$d"/users; mkdir -p "$d"/www
    rm -f "$OUT"/lighttpd-*.log; touch "$OUT"/lighttpd-{access,error}.log
    cat >"$d"/conf <<-END
	server.modules = ("mod_auth", "mod_authn_file", "mod_accesslog", "mod_access")
	server.document-root = "$d/www"
	server.errorlog = "$OUT/lighttpd-error.log"
	accesslog.filename = "$OUT/lighttpd-access.log"
	server.port = 80
	server.bind = "192.0.2.100"
	\$SERVER["socket"] == "[2001:db8::100]:80" { }
	auth.backend = "plain"
	auth.backend.plain.userfile = "$d/users"
	auth.require = ("/auth" => ("method" => "basic", "realm" => "x", "require" => "valid-user"),
	"/digest" => ("method" => "digest", "realm" => "x", "require" => "valid-user"))
	END
    command lighttpd -D -f "$d"/conf & local pid=$!
    listening 80 || return
    local from server
    for from in 192.0.2.1 2001:db8::1; do
        server=192.0.2.100; [ "$from" = 192.0.2.1 ] || server='[2001:db8::100]'
        scan "$from" "$server"; password "$from" "http://$server/auth"
        get "$from" --digest -u root:wrong "http://$server/digest"
        get "$from" --digest -u nosuch:wrong "http://$server/digest"
    done
    kill "$pid"; wait "$pid"
    judge lighttpd 8 "$OUT/lighttpd-error.log"
    judge web-probes 10 "$OUT/lighttpd-access.log"
}

haproxy() {
    local d=/tmp/haproxy; mkdir -p "$d"
    syslog "$OUT/haproxy.log"
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$d"/pem -out "$d"/crt -subj /CN=x -days 9 \
        2>/dev/null; cat "$d"/crt >>"$d"/pem
    cat >"$d"/conf <<-END
	global
	 log /dev/log local0
	defaults
	 log global
	 mode http
	 option httplog
	 timeout client 2s
	 timeout server 2s
	 timeout connect 2s
	 timeout http-request 1s
	userlist u
	 user root insecure-password right
	frontend www
	 bind 192.0.2.100:80
	 bind [2001:db8::100]:80
	 bind 192.0.2.100:443 ssl crt $d/pem
	 capture request header User-Agent len 100
	 acl auth http_auth(u)
	 http-request auth realm x if !auth { path_beg /auth }
	 http-request deny if { path_beg /deny }
	 http-request return status 404 unless { path_beg /auth }
	END
    command haproxy -f "$d"/conf -db & local pid=$!
    listening 80 || return
    local from server
    for from in 192.0.2.1 2001:db8::1; do
        server=192.0.2.100; [ "$from" = 192.0.2.1 ] || server='[2001:db8::100]'
        scan "$from" "$server"; password "$from" "http://$server/auth"
        get "$from" "http://$server/deny"
    done
    get 192.0.2.1 --tls-max 1.0 https://192.0.2.100/; echo | busybox nc -w 2 192.0.2.100 443
    kill "$pid"; wait "$pid"; kill "$syslogd"; wait "$syslogd"
    judge haproxy 8 "$OUT/haproxy.log"
}

mariadb() {
    local d=/tmp/mariadb from
    rm -f "$OUT/mariadb.log"
    mkdir -p "$d"; chown mysql "$d" /run/mysqld; : >"$OUT/mariadb.log"; chown mysql "$OUT/mariadb.log"
    mariadb-install-db --no-defaults --user=mysql --datadir="$d" >/dev/null 2>&1 ||
        echo "mariadb-install-db failed"
    echo "CREATE USER a@'%' IDENTIFIED BY 'right';" >"$d"/init; chmod 644 "$d"/init
    mariadbd --no-defaults --init-file="$d"/init --user=mysql --datadir="$d" --log-error="$OUT/mariadb.log" \
        --log-warnings=2 --bind-address='*' --skip-name-resolve --socket=/run/mysqld/s & local pid=$!
    listening 3306 || return
    for from in 192.0.2.1 2001:db8::1; do
        local server=192.0.2.100; [ "$from" = 192.0.2.1 ] || server=2001:db8::100
        for who in root nosuch "x'@'$evil' (using password: YES)" "x@$evil"; do
            python3 "$root/tests/services/my.py" "$from" "$server" "$who"
        done
        python3 "$root/tests/services/raw.py" "$from" "$server:3306" "$evil"
    done
    cp "$OUT/mariadb.log" "$OUT/mariadb-judged.log"
    # Why the rule is off as it comes: see its file.
    python3 "$root/tests/services/my.py" 192.0.2.1 192.0.2.100 \
        "x\n2026-01-02  1:02:03 5 [Warning] Access denied for user ''@'$evil'\ny"
    kill "$pid"; wait "$pid"
    judge mariadb 8 "$OUT/mariadb-judged.log"
    grep -q '^2026-01-02' "$OUT/mariadb.log" || echo \
        "mariadb: this version writes no line breaks of names: the rule could be on"
}

postgresql() {
    local d=/tmp/pg bin from style; bin=$(echo /usr/lib/postgresql/*/bin); mkdir -p "$d"
    chown postgres "$d" /run/postgresql
    for style in '%m [%p] %q%u@%d ' '%m [%p] '; do
        local log="$OUT/postgresql-${#style}.log"; rm -f "$log"; : >"$log"; chown postgres "$log"
        rm -rf "$d"/data
        su postgres -s /bin/sh -c "$bin/initdb -D $d/data -A scram-sha-256 --pwfile=<(echo right)" \
            >/dev/null 2>&1 || su postgres -s /bin/bash -c \
            "$bin/initdb -D $d/data -A scram-sha-256 --pwfile=<(echo right)" >/dev/null
        printf 'host all all 0.0.0.0/0 scram-sha-256\nhost other all ::/0 scram-sha-256\n' \
            >>"$d"/data/pg_hba.conf
        su postgres -s /bin/sh -c \
            "exec $bin/postgres -D $d/data -c listen_addresses='*' -c log_line_prefix='$style' -c log_connections=on" >>"$log" 2>&1 & local pid=$!
        listening 5432 || return
        for who in postgres nosuch "x\" host=$evil" "x host=$evil port=1" \
            $'x\n2026-01-02 01:02:03 UTC [5] FATAL: no pg_hba.conf entry for host "'$evil'", us'; do
            PGPASSWORD=wrong python3 "$root/tests/services/pg.py" 192.0.2.1 192.0.2.100 "$who" "db $evil"
            PGPASSWORD=wrong python3 "$root/tests/services/pg.py" 2001:db8::1 2001:db8::100 "$who" "db $evil"
            PGPASSWORD=wrong python3 "$root/tests/services/pg.py" 2001:db8::1 2001:db8::100 "$who" template1
        done
        python3 "$root/tests/services/raw.py" 192.0.2.1 "192.0.2.100:5432" "$evil"
        kill -INT "$(head -1 "$d"/data/postmaster.pid)"; wait "$pid"
        judge postgresql 2 "$log"
    done
}

named() {
    local d=/tmp/named; mkdir -p "$d"; chmod 777 "$d" /run/named; rm -f "$OUT/named.log"
    syslog "$OUT/named-syslog.log"
    cat >"$d"/conf <<-END
	options { directory "$d"; listen-on { any; }; listen-on-v6 { any; }; recursion yes; dnssec-validation no; allow-recursion { 127.0.0.1; }; allow-query-cache { 127.0.0.1; }; allow-transfer { none; };
	 rate-limit { responses-per-second 1; }; };
	zone "example" { type primary; file "$d/zone"; allow-query { any; }; allow-update { none; }; };
	key "rndc" { algorithm hmac-sha256; secret "AAAA"; }; controls {};
	END
    # shellcheck disable=SC2016
    printf '$TTL 60\n@ SOA a. b. 1 1 1 1 1\n@ NS a.\n' >"$d"/zone
    command named -f -c "$d"/conf -p 53 & local pid=$!
    listening 53 u || return
    for from in 192.0.2.1 2001:db8::1; do
        server=192.0.2.100; [ "$from" = 192.0.2.1 ] || server=2001:db8::100
        dig +tries=1 +time=1 -b "$from" @"$server" other.test. >/dev/null
        dig +tries=1 +time=1 -b "$from" @"$server" "client.$evil#1.x" any >/dev/null
        dig +tries=1 +time=1 -b "$from" @"$server" version.bind txt ch >/dev/null
        dig +tcp -b "$from" @"$server" example. axfr >/dev/null
        dig +tcp -b "$from" @"$server" other. axfr >/dev/null
        printf 'server %s\nlocal %s\nupdate add x.example 1 A 1.2.3.4\nsend\n' "$server" "$from" |
            nsupdate -t 1 2>/dev/null
        for _ in 1 2 3 4 5; do dig +tries=1 +time=1 -b "$from" @"$server" example. soa >/dev/null; done
    done
    cp "$OUT/named-syslog.log" "$OUT/named-judged.log"
    # Why the rule is off as it comes: see its file.
    ip addr add "$evil"/32 dev lo
    python3 - "$evil" 192.0.2.100 <<-END
	import socket, sys
	s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	s.bind((sys.argv[1], 0))
	s.settimeout(2)
	s.sendto(b"\x12\x34\0\0\0\1\0\0\0\0\0\0\7example\0\0\xfc\0\1", (sys.argv[2], 53))
	s.recv(512)
	END
    ip addr del "$evil"/32 dev lo
    kill "$pid"; wait "$pid"; kill "$syslogd"; wait "$syslogd"
    judge named 2 "$OUT/named-judged.log"
    grep -q "$evil#.*AXFR/IN' denied" "$OUT/named-syslog.log" ||
        echo "named: this version does not log a transfer that a datagram asks for: the rule could be on"
}

squid() {
    local d=/tmp/squid from; mkdir -p "$d"; chown proxy "$d" /run/squid; echo 'root:x' >"$d"/users
    rm -f "$OUT"/squid-*.log
    touch "$OUT"/squid-{access,cache}.log; chown proxy "$OUT"/squid-*.log
    cat >"$d"/conf <<-END
	http_port 3128
	pid_filename /run/squid/pid
	access_log stdio:$OUT/squid-access.log
	cache_log $OUT/squid-cache.log
	coredump_dir $d
	auth_param basic program /usr/lib/squid/basic_ncsa_auth $d/users
	acl a proxy_auth REQUIRED
	http_access allow a
	http_access deny all
	END
    command squid -N -f "$d"/conf & local pid=$!
    listening 3128 || return
    for from in 192.0.2.1 2001:db8::1; do
        server=192.0.2.100:3128; [ "$from" = 192.0.2.1 ] || server='[2001:db8::100]:3128'
        get "$from" -x "http://$server" http://www.test/; get "$from" -x "http://root:wrong@$server" \
            "http://$evil/"
        get "$from" -x "http://no$evil:wrong@$server" "http://$evil/%20TCP_DENIED/407%20$evil"
        get "$from" -x "http://$server" -p "http://$evil:25/"
        get "$from" "http://$server/x"
        python3 "$root/tests/services/raw.py" "$from" "$server" "$evil"
    done
    kill "$pid"; wait "$pid"
    judge squid 4 "$OUT/squid-access.log"
}

openvpn() {
    local d=/tmp/ovpn; mkdir -p "$d" /dev/net; rm -f "$OUT"/openvpn*.log
    [ -c /dev/net/tun ] || mknod /dev/net/tun c 10 200
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$d"/key -out "$d"/crt -subj /CN=x -days 9 2>/dev/null
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$d"/badkey -out "$d"/badcrt -subj \
        "/CN=x 198.51.100.9:1 TLS Error" -days 9 2>/dev/null
    printf '#!/bin/sh\nexit 1\n' >"$d"/no; chmod 755 "$d"/no; printf 'x%s\nwrong\n' "$evil" >"$d"/up
    local proto
    for proto in udp6 tcp6-server; do
        free 1194
        command openvpn --dev tun --mode server --tls-server --ca "$d"/crt --cert "$d"/crt --key "$d"/key \
            --dh none --proto "$proto" --port 1194 --script-security 3 \
            --auth-user-pass-verify "$d"/no via-env --verify-client-cert optional --server 10.9.0.0 \
                255.255.255.0 --topology subnet --verb 3 --log "$OUT/openvpn-$proto.log" --multihome & local \
                pid=$!
        for _ in $(seq 50); do grep -q 'Initialization Sequence Completed' "$OUT/openvpn-$proto.log" &&
            break; sleep 0.1; done
        local c=udp; [ "$proto" = udp6 ] || c=tcp-client
        for from in 192.0.2.1 2001:db8::1; do
            server=192.0.2.100; v=$c; [ "$from" = 192.0.2.1 ] ||
                { server=2001:db8::100; v=${c/udp/udp6}; v=${v/tcp-/tcp6-}; }
            timeout 6 openvpn --client --dev null --remote "$server" 1194 --proto "$v" --ca "$d"/crt \
                --auth-user-pass "$d"/up --connect-retry-max 1 --nobind >/dev/null 2>&1
            timeout 4 openvpn --client --dev null --remote "$server" 1194 --proto "$v" --ca "$d"/crt --cert \
                "$d"/badcrt --key "$d"/badkey --auth-user-pass "$d"/up --connect-retry-max 1 --nobind \
                >/dev/null 2>&1
            python3 "$root/tests/services/raw.py" "$from" "$server:1194" "$evil" "$c"
        done
        kill "$pid"; wait "$pid"
        judge openvpn 1 "$OUT/openvpn-$proto.log"
    done
}

services "$@" -- nginx apache=apache2 lighttpd haproxy mariadb=mariadbd postgresql=initdb named squid openvpn
