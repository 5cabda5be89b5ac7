import Testing

/// What keeps the whole machine busy, one after the other. `Tests/run` runs them apart from all others.
@Suite(.serialized)
enum FaultTests {}
