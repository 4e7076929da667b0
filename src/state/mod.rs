//! What outlives the process: the ban journal and the read positions.
