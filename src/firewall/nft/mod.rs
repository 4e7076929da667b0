//! nf_tables over libnftnl and libmnl: messages, transactions, dumps.
