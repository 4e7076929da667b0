//! Any bytes as a line of an access log: what is found stands in the line, and counting it is survived.

use mef::detect::access;

/// Lines of the formats that are known, and one of none.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        r#"192.0.2.7 - - [22/Nov/2026:08:00:01 +0000] "GET /wp-login.php HTTP/1.1" 404 153 "-" "curl/8""#,
        r#"example.org:443 2001:db8::7 - bob [22/Nov/2026:08:00:01 +0100] "\x16\x03" 400 0 "-" "a\"b""#,
        r#"{"request":{"remote_ip":"192.0.2.7","uri":"/.env","headers":{"User-Agent":["x"]}},"status":403}"#,
        "nothing of the kind",
    ]
    .map(|line| line.as_bytes().to_vec())
    .to_vec()
}

/// What has to hold of any bytes.
pub fn run(line: &[u8]) {
    if let Some((_, request)) = access::parse(line) {
        assert!(request.status <= 999);
        assert!(line.get(request.path).is_some());
        assert!(line.get(request.agent).is_some());
    }
}
