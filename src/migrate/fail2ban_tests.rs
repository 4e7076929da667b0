use super::*;

#[test]
fn durations_are_read_as_fail2ban_reads_them() {
    for (text, want) in [
        ("600", Some(600)),
        ("10m", Some(600)),
        ("1d 12h", Some(129_600)),
        ("1w", Some(604_800)),
        ("2 hours", Some(7200)),
        ("-1", Some(FOREVER)),
        ("soon", None),
        ("1x", None),
        ("99999999999999999999", None),
        ("999999999999y", None),
    ] {
        assert_eq!(seconds(text), want, "{text}");
    }
}

#[test]
fn ports_have_numbers_or_names() {
    let services = "ssh\t22/tcp\t# SSH\nsubmission 587/tcp msa\nhttp 80/tcp www\n";
    assert_eq!(port_list("ssh,2222", services), Ok("22,2222".into()));
    assert_eq!(port_list("www, 8000:8010", services), Ok("80,8000-8010".into()));
    assert_eq!(port_list("0:65535", services), Ok(String::new()));
    assert_eq!(port_list("nosuch", services), Err("nosuch".into()));
}
