import Glibc

/// The user PostgreSQL runs as when we are root, since `initdb` and `postgres` refuse root.
struct ServerUser: Sendable, Hashable {
    let name: String
    let userID: uid_t
    let groupID: gid_t

    init?(named name: String) {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var buffer = [CChar](repeating: 0, count: 16384)
        guard getpwnam_r(name, &entry, &buffer, buffer.count, &found) == 0, found != nil else { return nil }
        self.name = name
        userID = entry.pw_uid
        groupID = entry.pw_gid
    }
}
