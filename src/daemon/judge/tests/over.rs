//! What is over does not count again, whoever reads it once more.

use super::*;

fn net(text: &str) -> IpNet {
    range(text).as_net().unwrap()
}

impl JudgeHost {
    /// Whether what somebody did so many seconds ago counts for nothing.
    fn spent(&self, who: IpNet, age: u64) -> bool {
        Knowledge { decider: &self.judge.decider, now: self.now }.is_spent(who, 0, age)
    }

    fn forgive(&mut self, who: IpNet) {
        self.judge.decider.ban_policy.forget(self.now.mono, who);
    }
}

#[test]
fn what_is_over_does_not_count_when_it_is_read_again() {
    let mut host = JudgeHost::new("bantime_max=1d", "", &[]);
    host.fails("192.0.2.1", 3);
    host.pass(4000);
    assert!(!host.drops("192.0.2.1"), "the ban has ended");
    for (age, is_spent) in [(3998, false), (4000, true), (9000, true), (u64::MAX, true)] {
        assert_eq!(host.spent(net("192.0.2.1"), age), is_spent, "{age}");
        assert!(!host.spent(net("192.0.2.2"), age));
    }
    // Whoever was forgiven: as long as it may be read again.
    for reads_again in [false, true] {
        if reads_again {
            host.judge.decider.ban_policy.reads_again();
        }
        host.forgive(net("192.0.2.0/24"));
        host.pass(10);
        for (addr, age, is_spent) in [
            ("192.0.2.1", 11, true),
            ("192.0.2.9", 4000, true),
            ("192.0.2.1", 8, false),
            ("192.0.3.1", 99, false),
        ] {
            assert_eq!(host.spent(net(addr), age), is_spent && reads_again, "{addr} {age}");
        }
    }
    let now = host.now;
    let Decider { ban_policy, policies, .. } = &mut host.judge.decider;
    ban_policy.reconfigure(&parse_global(b"[global]\nbantime_max=2d\n").0, policies);
    assert!(host.spent(net("192.0.2.1"), 11), "another configuration changes nothing of it");
    host.judge.decider.ban_policy.read_until(now.mono);
    assert!(!host.spent(net("192.0.2.1"), 11));
}

#[test]
fn so_much_that_is_over_is_kept_in_mind() {
    let mut host = JudgeHost::new("", "", &[]);
    host.judge.decider.ban_policy.reads_again();
    let addr = |n: u32| IpNet::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n)));
    (0..2000).for_each(|n| host.forgive(addr(n)));
    assert!(!host.spent(addr(0), 9) && host.spent(addr(1999), 9) && host.spent(addr(1000), 9));
    // All of them at once take the place of each.
    host.forgive("0.0.0.0/0".parse().unwrap());
    (0..1000).for_each(|n| host.forgive(addr(n)));
    assert!(host.spent(addr(1999), 9) && host.spent(addr(5000), 9));
}
