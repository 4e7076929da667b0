//! Sources of lines for the poll loop. Knows no rule and no firewall.
