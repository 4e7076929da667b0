//! The table for frames beside the one for packets: what is shown of both, and that neither stays alone.

use super::CLOSED;
use crate::common::{Net, load, wait_until};

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_for_frames_belongs_to_the_rest_of_the_rule_set() {
    let net = Net::new();
    let dropping =
        ["policy dir=in action=drop\nrule dir=in action=accept proto=tcp dport=22\n", CLOSED].concat();
    load(&net, &dropping);
    let whole = net.mef(&["export", "--family", "inet"]).ok();
    assert!(whole.contains("policy dir=in action=drop"), "{whole}");
    assert_eq!(net.mef(&["export", "--family", "bridge"]).ok(), whole);
    // Somebody puts an address into one of the two sets.
    let same = |net: &Net| net.mef_input(&["diff", "-"], dropping.as_bytes());
    assert_eq!(same(&net).status, 0);
    net.nft("add element bridge mef some.4 { 10.9.0.6 }");
    let differs = same(&net);
    assert!(differs.status == 1 && differs.stdout.contains("another one than that of"), "{differs:?}");
    load(&net, &dropping);
    assert_eq!(same(&net).status, 0);
    // Of others, tags of one type are no virtual LAN, and types of tags none of frames.
    for rule in ["vlan id 3 accept", "meta protocol vlan accept", "@ll,96,32 & 0xffff0fff 0x81000003 accept"]
    {
        net.nft(&format!(
            "flush ruleset\ntable bridge x {{ chain c {{ type filter hook forward priority 0; {rule}; }}; }}"
        ));
        let exported = net.mef(&["export"]).ok();
        assert!(exported.contains("# cannot be expressed"), "{exported}");
    }
}

/// A trial over no rules leaves nothing for frames when somebody deletes its table for packets; and nothing
/// for frames alone stays when the rules go.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nothing_for_frames_stays_alone() {
    let mut net = Net::new();
    let path = net.write("then.rules", CLOSED);
    let command = net.mef_command(&["load", "--force", "--confirm", "600s", path.to_str().unwrap()]);
    let trial = net.start_as_is(command);
    wait_until("the trial", || net.nft_list("table inet mef").contains("set trial"));
    net.nft("delete table inet mef");
    net.signal(trial, libc::SIGTERM);
    net.wait(trial);
    wait_until("its end", || net.nft_list("table bridge mef").is_empty());
    load(&net, CLOSED);
    net.nft("delete table bridge mef");
    let differs = net.mef_input(&["diff", "-"], CLOSED.as_bytes());
    assert!(differs.status == 1 && differs.stdout.contains("dir=bridge"), "{differs:?}");
    load(&net, CLOSED);
    net.nft("delete table inet mef");
    net.mef(&["unload"]).ok();
    assert_eq!(net.nft_list("table bridge mef"), "");
}
