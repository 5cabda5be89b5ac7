import Postgres

/// Does something when the caller's time is up, unless it is cancelled before; nil if there is no end to that time.
func whenTimeIsUp(_ action: @escaping @Sendable () -> Void) -> Task<Void, Never>? {
    guard let remaining = remainingPostgresTimeout() else { return nil }
    return Task.detached {
        do { try await Task.sleep(for: remaining) } catch { return }
        action()
    }
}
