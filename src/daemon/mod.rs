//! Wires sources, detection, state and firewall into one poll loop.
